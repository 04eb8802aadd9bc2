//! Changes of membership, and the end of a node that has left.

use super::*;

/// Members as raft has them; learners and joint changes cannot be made from outside, but read.
fn members(voters: &[u64], learners: &[u64]) -> Members {
    let field = |number: u8, ids: &[u64]| -> Vec<u8> {
        ids.iter().flat_map(|id| [number << 3, u8::try_from(*id).unwrap()]).collect()
    };
    Members::decode(&[field(1, voters), field(2, learners)].concat()).unwrap()
}

fn progress(all: &[(u64, u64)]) -> Vec<Progress> {
    all.iter()
        .map(|(id, matched)| Progress { id: *id, matched: *matched, active: true, needs_snapshot: false })
        .collect()
}

fn admin(bench: &mut Bench, action: v1::admin_action::Kind) {
    let action = Some(v1::AdminAction { kind: Some(action) });
    let expires_ms = WALL + bench.now + 60_000;
    bench.submit(1, &signer(9), vec![Kind::Propose(v1::Propose { action, expires_ms })]);
    bench.commit();
}

fn changes(actions: Vec<Action>) -> Vec<MemberChange> {
    let change = |action| match action {
        Action::ChangeMembers(change) => Some(change),
        _ => None,
    };
    actions.into_iter().filter_map(change).collect()
}

#[test]
fn a_leader_brings_raft_to_what_the_admins_want_one_step_at_a_time() {
    use v1::admin_action::Kind as Admin;
    let mut bench = Bench::leader();
    let raft = |voters: &[u64], learners: &[u64], far: &[(u64, u64)]| Event::Members {
        members: members(voters, learners),
        progress: progress(far),
        commit: 10_000,
    };
    bench.on(raft(&[1, 2, 3], &[], &[(1, 10_000), (2, 10_000), (3, 9_999)]));
    assert!(changes(bench.pass(1_000)).is_empty(), "state and raft agree");

    let key = signer(4).public_key().to_vec();
    admin(&mut bench, Admin::AddNode(v1::AddNode { key, grpc: "a:1".to_owned(), web: "a:2".to_owned() }));
    let actions = bench.pass(400);
    let linked = actions.iter().any(|action| matches!(action, Action::Links(links) if links.iter().any(|a| a.id == 4)));
    assert!(linked, "{actions:?}");
    assert_eq!(
        changes(actions),
        [MemberChange { learners: vec![4], ..MemberChange::default() }],
        "once, until tried in vain"
    );

    // It votes once it has caught up and the admins want it.
    bench.on(raft(&[1, 2, 3], &[4], &[(1, 10_000), (2, 10_000), (3, 9_999), (4, 10)]));
    admin(&mut bench, Admin::PromoteNode(v1::PromoteNode { node: 4 }));
    assert!(changes(bench.pass(2_000)).is_empty(), "it lacks too much");
    bench.on(raft(&[1, 2, 3], &[4], &[(1, 10_000), (2, 10_000), (3, 9_999), (4, 9_500)]));
    assert_eq!(changes(bench.pass(400)), [MemberChange { voters: vec![4], ..MemberChange::default() }]);
    bench.on(raft(&[1, 2, 3, 4], &[], &[(1, 10_000), (2, 10_000), (3, 9_999), (4, 10_000)]));

    // A follower leaves; its link stays until raft has let it go.
    admin(&mut bench, Admin::RemoveNode(v1::RemoveNode { node: 2 }));
    assert_eq!(changes(bench.pass(400)), [MemberChange { removed: vec![2], ..MemberChange::default() }]);
    bench.on(raft(&[1, 3, 4], &[], &[(1, 10_000), (3, 9_999), (4, 10_000)]));
    let links: Vec<Vec<Address>> = bench
        .pass(400)
        .into_iter()
        .filter_map(|action| match action {
            Action::Links(links) => Some(links),
            _ => None,
        })
        .collect();
    assert_eq!(links.last().unwrap().iter().map(|address| address.id).collect::<Vec<_>>(), [3, 4]);

    // The leader itself leaves: first it hands its office to the voter that is furthest.
    admin(&mut bench, Admin::RemoveNode(v1::RemoveNode { node: 1 }));
    let actions = bench.pass(400);
    assert!(actions.iter().any(|action| matches!(action, Action::TransferLeader { to: 4 })), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::Stop(_))), "it serves until it is out");
    bench.on(Event::Role { role: Role::Follower, leader: 4 });
    bench.on(raft(&[3, 4], &[], &[]));
    let actions = bench.pass(400);
    assert!(
        !actions.iter().any(|action| matches!(action, Action::Stop(_))),
        "the others may need its vote: {actions:?}"
    );
    bench.on(Event::Refused { by: 3, why: PeerRefusal::Removed });
    let actions = bench.pass(400);
    assert!(actions.iter().any(|action| matches!(action, Action::Stop(why) if why.contains("node 1"))), "{actions:?}");
}

#[test]
fn nobody_leaves_whom_the_others_cannot_do_without() {
    use v1::admin_action::Kind as Admin;
    let mut bench = Bench::leader();
    let raft = |answers: &[u64]| Event::Members {
        members: members(&[1, 2, 3], &[]),
        progress: [1, 2, 3]
            .map(|id| Progress { id, matched: 10_000, active: answers.contains(&id), needs_snapshot: false })
            .into(),
        commit: 10_000,
    };
    let left = |bench: &mut Bench| changes(bench.pass(2_000)).first().map(|change| change.removed.clone());
    bench.on(raft(&[1, 3]));
    admin(&mut bench, Admin::RemoveNode(v1::RemoveNode { node: 3 }));
    assert_eq!(left(&mut bench), None, "of 1 and 2 only one would answer");
    bench.on(raft(&[1, 2, 3]));
    assert_eq!(left(&mut bench), Some(vec![3]));
    bench.on(raft(&[1, 3]));
    admin(&mut bench, Admin::RemoveNode(v1::RemoveNode { node: 2 }));
    assert_eq!(left(&mut bench), Some(vec![2]), "the one that is missed least goes first");
}

#[test]
fn whoever_votes_counts_for_the_clock_also_when_it_is_to_leave() {
    use v1::admin_action::Kind as Admin;
    let mut bench = Bench::leader();
    admin(&mut bench, Admin::RemoveNode(v1::RemoveNode { node: 3 }));
    // Node 2 is lost, so 3 cannot be let go. After a start 1 and 3 are the quorum, and theirs are the clocks.
    let mut bench = Bench::started(1, bench.state);
    let raft = Event::Members { members: members(&[1, 2, 3], &[]), progress: progress(&[(3, 1)]), commit: 1 };
    bench.on(raft);
    bench.on(Event::Role { role: Role::Leader, leader: 1 });
    bench.pass(1_000);
    bench.status(3, PeerStatus::default());
    bench.pass(400);
    bench.submit(1, &signer(9), vec![Kind::FaucetDraw(v1::FaucetDraw { amount: "1".to_owned() })]);
    assert_eq!(bench.proposed.len(), 1, "the quorum is there, so it serves");
}

#[test]
fn a_node_that_slept_through_its_removal_believes_a_majority() {
    let mut bench = Bench::new(3);
    bench.on(Event::Members { members: members(&[1, 2, 3], &[]), progress: Vec::new(), commit: 5 });
    bench.on(Event::Refused { by: 1, why: PeerRefusal::Removed });
    let stops = |actions: Vec<Action>| actions.iter().any(|action| matches!(action, Action::Stop(_)));
    assert!(!stops(bench.pass(1_000)), "one may be wrong");
    bench.on(Event::Refused { by: 2, why: PeerRefusal::Removed });
    assert!(stops(bench.pass(1_000)));
}

#[test]
fn a_leader_that_a_member_does_not_know_hands_its_office_to_one_that_it_knows() {
    use v1::admin_action::Kind as Admin;
    let mut bench = Bench::new(5);
    bench.on(Event::Role { role: Role::Leader, leader: 5 });
    for id in [4, 5] {
        let (key, grpc, web) = (signer(id).public_key().to_vec(), format!("a{id}:1"), format!("a{id}:2"));
        admin(&mut bench, Admin::AddNode(v1::AddNode { key, grpc, web }));
        admin(&mut bench, Admin::PromoteNode(v1::PromoteNode { node: u64::from(id) }));
    }
    let far = [(1, 9_000), (2, 9_999), (3, 10), (4, 10_000), (5, 10_000)];
    let raft = Event::Members { members: members(&[1, 2, 3, 4, 5], &[]), progress: progress(&far), commit: 10_000 };
    bench.on(raft);
    let to = |actions: Vec<Action>| {
        let office = |action: &Action| match action {
            Action::TransferLeader { to } => Some(*to),
            _ => None,
        };
        actions.iter().find_map(office)
    };
    let refused = |bench: &mut Bench, by, knows| {
        bench.on(Event::Refused { by, why: PeerRefusal::Stranger { knows } });
    };
    refused(&mut bench, 3, 3);
    assert_eq!(to(bench.pass(2_000)), None, "whoever was introduced before has had no time to read");
    assert_eq!(to(bench.pass(4_000)), None, "it has not been refused for a while");
    refused(&mut bench, 9, 3);
    assert_eq!(to(bench.pass(1_000)), None, "who is no member need not be told");
    refused(&mut bench, 3, 3);
    assert_eq!(to(bench.pass(400)), Some(2), "the one that is furthest among those that it knows");
    bench.pass(4_000);
    refused(&mut bench, 3, 0);
    assert_eq!(to(bench.pass(2_000)), None, "nobody is left whom it knows");

    // 2 is to leave, which 3 has to be there for, and 1 lags: it may still introduce.
    admin(&mut bench, Admin::RemoveNode(v1::RemoveNode { node: 2 }));
    let far = [(1, 10), (2, 9_999), (3, 10), (4, 10), (5, 10_000)];
    let raft = Event::Members { members: members(&[1, 2, 3, 4, 5], &[]), progress: progress(&far), commit: 10_000 };
    bench.on(raft);
    refused(&mut bench, 3, 3);
    assert_eq!(to(bench.pass(1_500)), Some(2));
}

#[test]
fn a_leader_that_is_to_leave_lets_others_read_first() {
    use v1::admin_action::Kind as Admin;
    let mut bench = Bench::leader();
    admin(&mut bench, Admin::RemoveNode(v1::RemoveNode { node: 1 }));
    let far = [(1, 10_000), (2, 10_000), (3, 10_000)];
    bench.on(Event::Members { members: members(&[1, 2, 3], &[]), progress: progress(&far), commit: 10_000 });
    let hands_over = |actions: Vec<Action>| actions.iter().any(|of| matches!(of, Action::TransferLeader { .. }));
    assert!(!hands_over(bench.pass(4_000)));
    assert!(hands_over(bench.pass(2_000)));
}

#[test]
fn a_node_of_another_era_than_a_majority_stops() {
    let mut bench = Bench::new(3);
    let stops = |actions: Vec<Action>| {
        actions.iter().any(|action| matches!(action, Action::Stop(why) if why.contains("different snapshots")))
    };
    bench.on(Event::Refused { by: 1, why: PeerRefusal::OtherEra });
    assert!(!stops(bench.pass(1_000)), "one may itself be the odd one");
    bench.on(Event::Refused { by: 2, why: PeerRefusal::OtherEra });
    assert!(stops(bench.pass(1_000)));
}

#[test]
fn a_copy_that_a_majority_refuses_for_long_stops() {
    let stops = |actions: Vec<Action>| {
        actions.iter().any(|action| matches!(action, Action::Stop(why) if why.contains("another process")))
    };
    let mut bench = Bench::new(3);
    let mut refused = |by: &[u64], ms: u64| {
        let mut stopped = false;
        for _ in 0..ms / 500 {
            for by in by {
                bench.on(Event::Refused { by: *by, why: PeerRefusal::Twin });
            }
            stopped |= stops(bench.pass(500));
        }
        stopped
    };
    assert!(!refused(&[1, 2], 4_000), "a process that ended a moment ago may still be heard");
    assert!(!refused(&[], 4_000));
    assert!(!refused(&[1, 2], 4_000), "it begins anew after a silence");
    assert!(!refused(&[1], 10_000), "one alone may be wrong");
    assert!(refused(&[1, 2], 7_000));
}
