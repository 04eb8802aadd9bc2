//! What scenarios cannot show in a few lines: the bounds of membership, and the switch of rules.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Founding, World, language::command_of};
use matrixai_proto::v1;
use matrixai_state::{Outcome, rules};
use prost::Message;

fn say(world: &mut World, who: &str, text: &str) -> &'static str {
    let command = command_of(world, who, text, "administration");
    world.one(who, command).to_parts().1
}

#[test]
fn a_cluster_has_only_so_many_nodes() {
    let mut world = World::new(&Founding::default());
    for node in 4..=15 {
        assert_eq!(say(&mut world, "admin", &format!("propose do=add_node key=n{node} port={node}")), "done");
    }
    assert_eq!(say(&mut world, "admin", "propose do=add_node key=n16 port=16"), "too_many_nodes");
    // Whoever leaves makes room, but not for ever.
    let mut node = 16;
    loop {
        assert_eq!(say(&mut world, "admin", &format!("propose do=remove node={}", node - 1)), "done");
        match say(&mut world, "admin", &format!("propose do=add_node key=n{node} port=16")) {
            "done" => node += 1,
            refusal => break assert_eq!(refusal, "too_many_nodes"),
        }
    }
    assert_eq!(node, 1_025);
    world.finish();
}

/// A world in which everybody has announced version 2 and the admins want it.
fn about_to_switch() -> World {
    let mut world = World::new(&Founding::default());
    for node in ["n1", "n2", "n3"] {
        assert_eq!(say(&mut world, node, "announce version=2"), "done");
    }
    world
}

/// Under the next rules, offers are taken only of machines that are online and measured.
#[cfg(feature = "next-rules")]
#[test]
fn the_next_rules_keep_dead_offers_out_of_the_book() {
    let mut world = about_to_switch();
    assert_eq!(say(&mut world, "alice", "create_account"), "done");
    assert_eq!(say(&mut world, "bob", "create_account"), "done");
    assert_eq!(say(&mut world, "alice", "enrol machine=m1"), "done");
    assert_eq!(say(&mut world, "bob", "enrol machine=m2"), "done");
    assert_eq!(say(&mut world, "alice", "offer machine=m1 price=1MAI"), "done", "the first rules take any offer");
    assert_eq!(say(&mut world, "admin", "propose do=rules version=2"), "done");
    assert_eq!(world.state.rules_version(), 2);
    assert_eq!(world.state.unsupported_rules(), None);
    assert_eq!(say(&mut world, "alice", "offer machine=m1 price=1MAI"), "not_ready", "it is offline");
    for machine in ["m1", "m2"] {
        assert_eq!(say(&mut world, "n1", &format!("online machine={machine}")), "done");
    }
    assert_eq!(say(&mut world, "alice", "offer machine=m1 price=1MAI"), "not_ready", "it is not measured");
    common::language::measure(&mut world, &["m1", "m2"], "rules");
    assert_eq!(say(&mut world, "alice", "offer machine=m1 price=1MAI"), "done");
    // Whoever votes from now on must know these rules.
    assert_eq!(say(&mut world, "admin", "propose do=add_node key=n4 port=4"), "done");
    assert_eq!(say(&mut world, "admin", "propose do=promote node=4"), "rules_not_announced");
    assert_eq!(say(&mut world, "n4", "announce version=2"), "done");
    assert_eq!(say(&mut world, "admin", "propose do=promote node=4"), "done");
}

/// A build that does not know the rules in effect says so and applies nothing more.
#[cfg(not(feature = "next-rules"))]
#[test]
#[should_panic(expected = "rules version 2 is in effect")]
fn an_older_build_stops_when_newer_rules_are_switched_on() {
    let mut world = about_to_switch();
    let switch = command_of(&world, "admin", "propose do=rules version=2", "rules");
    let envelope = world.envelope("admin", vec![switch], &common::Odd::default());
    let entry = v1::LogEntry { now_ms: world.now_ms, rules_version: 1, envelopes: vec![envelope] }.encode_to_vec();
    let mut state = world.state.clone();
    let index = state.index();
    let applied = state.apply(index + 1, &entry);
    assert!(matches!(applied.results[0].outcomes[0], Outcome::Done { .. }));
    assert_eq!((state.rules_version(), rules::SUPPORTED), (2, 1));
    assert!(state.unsupported_rules().is_some());
    state.apply(index + 2, &[]);
}

/// An entry by later rules than are in effect is skipped by every build alike.
#[test]
fn an_entry_by_rules_that_are_not_in_effect_is_skipped() {
    let mut world = about_to_switch();
    let kind = command_of(&world, "alice", "create_account", "rules");
    let envelope = world.envelope("alice", vec![kind], &common::Odd::default());
    let entry = v1::LogEntry { now_ms: world.now_ms, rules_version: 2, envelopes: vec![envelope] }.encode_to_vec();
    let applied = world.state.apply(world.state.index() + 1, &entry);
    assert!(applied.results.is_empty());
}
