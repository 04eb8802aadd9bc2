//! Golden bytes: what is in logs and snapshots out there must be read the same for ever.
//!
//! A difference here is a change of the format. If it is meant, it needs a new rules version (commands, rows) or an
//! appended number (refusals); then the text that the failing test prints goes into the golden file.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Odd, World, language};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_state::{Refusal, State, decode, ids, outcome::Outcome};
use prost::Message;
use std::fmt::Write;

fn check(name: &str, golden: &str, now: &str) {
    assert!(golden == now, "tests/golden/{name}.txt differs; it is now:\n{now}");
}

/// One of each command, in order of number.
const COMMANDS: &[&str] = &[
    "create_account recovery=other",
    "faucet amount=5MAI",
    "transfer to=bob amount=1",
    "enrol machine=m1",
    "revoke machine=m1",
    "campaign units=9 redundancy=3 interval=500",
    "commit unit=u",
    "reveal unit=u",
    "offer machine=m1 price=1MAI disk=10 reserve=2MAI grace=30",
    "withdraw offer=o",
    "submit machines=3",
    "cancel job=j",
    "task_done job=j round=1 v=2 attempt=3",
    "reduced job=j round=1",
    "replayed job=j segment=4 attempt=5",
    "opened job=j segment=4",
    "failed job=j reason=lost_input",
    "propose do=add_node key=n4 port=4",
    "approve proposal=p",
    "take_back proposal=p",
    "beat shares=1,3",
    "online machine=m1 rtt=1500",
    "lost machine=m1",
    "attest epoch=2 index=77",
    "announce version=2",
    "hold to=bob amount=1MAI for=60",
    "post hold=h amount=1",
    "void hold=h",
    "order machines=3 least=2 where=cores>=2 interruptible=1",
    "amend order=o machines=2 price=3MAI",
    "cancel_order order=o",
    "reprice offer=o price=2MAI reserve=3MAI",
    "end agreement=a",
    "rotate new=other",
    "recover of=alice new=other recovery=third",
    "payout to=bob",
    "begin agreement=a",
    "renew agreement=a for=7200",
    "burn amount=5MAI",
];

/// One of each action, in order of number.
const ACTIONS: &[&str] = &[
    "add_node key=n4 port=4",
    "promote node=4",
    "remove node=4",
    "move node=4 port=5",
    "fee bp=250",
    "limits of=alice rate=10 burst=20 open_max=30 storage=40",
    "role of=alice role=operator",
    "threshold of=2",
    "campaign units=9 redundancy=3",
    "rules version=2",
    "minimum amount=5MAI",
    "issue amount=5MAI ref=wire-7",
    "redeem amount=5MAI ref=wire-8",
    "grant from=subsidy to=alice amount=5MAI ref=grant-9",
];

#[test]
fn actions_keep_their_bytes() {
    let world = World::new(&common::Founding::default());
    let mut now = String::new();
    for (number, text) in (1..).zip(ACTIONS) {
        let Kind::Propose(propose) = language::command_of(&world, "admin", &format!("propose do={text}"), "format")
        else {
            unreachable!("a proposal was asked for")
        };
        let bytes = propose.action.clone().unwrap().encode_to_vec();
        decode::command(v1::Command { kind: Some(Kind::Propose(propose)) }).unwrap();
        let tag = u32::from(bytes[0]) >> 3;
        assert_eq!(tag, number, "{text}");
        writeln!(now, "{number:2} {} {}", text.split(' ').next().unwrap(), hex::encode(bytes)).unwrap();
    }
    check("actions", include_str!("golden/actions.txt"), &now);
}

#[test]
fn commands_keep_their_bytes_and_numbers() {
    let world = World::new(&common::Founding::default());
    let mut now = String::new();
    for text in COMMANDS {
        let kind = language::command_of(&world, "m1", text, "format");
        let wire = v1::Command { kind: Some(kind) };
        let bytes = wire.encode_to_vec();
        let command = decode::command(wire).unwrap();
        writeln!(now, "{:2} {} {}", command.number(), text.split(' ').next().unwrap(), hex::encode(bytes)).unwrap();
    }
    check("commands", include_str!("golden/commands.txt"), &now);
}

#[test]
fn refusals_keep_their_numbers() {
    let mut now = String::new();
    for (number, name, _) in Refusal::ALL {
        writeln!(now, "{number:3} {name}").unwrap();
    }
    check("refusals", include_str!("golden/refusals.txt"), &now);
}

/// The hash of every part after a log that fills them all.
#[test]
fn rows_keep_their_bytes() {
    let log = language::log_of("jobs", include_str!("scenarios/jobs.txt"));
    let mut state = State::genesis(&log.founding).unwrap();
    for (index, entry) in &log.entries {
        state.apply(*index, entry);
    }
    let mut now = format!("index {}\nroot {}\n", state.index(), hex::encode(state.root()));
    for (name, hash) in state.part_hashes() {
        writeln!(now, "{name} {}", hex::encode(hash)).unwrap();
    }
    check("rows", include_str!("golden/rows.txt"), &now);
}

#[test]
fn ids_keep_their_formulas() {
    let cluster = ids::cluster_id(b"genesis");
    let key = [1; 32];
    let unit = ids::UnitId::of(ids::CampaignId([3; 20]), 7);
    let now = format!(
        "cluster {}\naccount {}\nmachine {}\njob {}\nunit {unit}\n",
        hex::encode(cluster),
        ids::AccountId::of_key(&cluster, &key),
        ids::MachineId::of_key(&cluster, &key),
        ids::JobId(ids::made_id("job", &key, &[2; 16], 1)),
    );
    check("ids", include_str!("golden/ids.txt"), &now);
}

/// Unknown fields anywhere in an envelope make it malformed: canonical bytes are the only bytes.
#[test]
fn unknown_fields_are_malformed() {
    let mut world = World::new(&common::Founding::default());
    let kind = || Kind::CreateAccount(v1::CreateAccount::default());
    let envelope = world.envelope("alice", vec![kind()], &Odd::default());
    // Field 99, varint 1: in the envelope itself ...
    let mut outside = envelope.clone();
    outside.extend([0x98, 0x06, 0x01]);
    // ... and in the batch that it carries.
    let mut inside = v1::Envelope::decode(envelope.as_slice()).unwrap();
    inside.payload.extend([0x98, 0x06, 0x01]);
    for bytes in [outside, inside.encode_to_vec()] {
        let result = world.apply(vec![bytes]).results[0].clone();
        let [Outcome::Refused(refusal)] = &*result.outcomes else { panic!("{result:?}") };
        assert_eq!(refusal.name(), "malformed");
        assert!(refusal.to_string().contains("unknown fields"), "{refusal}");
    }
    assert!(matches!(world.apply(vec![envelope]).results[0].outcomes[0], Outcome::Done { .. }));
}
