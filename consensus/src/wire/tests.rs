//! The encoding against raft's own, and against bytes that nobody sane would send.

#![allow(clippy::unwrap_used)]

use protobuf::{Message as _, ProtobufEnum as _};
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, Message,
    MessageType, Snapshot, SnapshotMetadata,
};

use super::*;

fn entry(index: u64, term: u64, data: &[u8]) -> Entry {
    Entry { index, term, data: data.to_vec().into(), ..Entry::default() }
}

fn message(msg_type: MessageType) -> Message {
    Message { msg_type, from: 1, to: 2, term: 7, ..Message::default() }
}

/// A voter leaves, another joins, a third becomes a learner.
fn change() -> ConfChangeV2 {
    let mut change = ConfChangeV2::default();
    let kinds = [ConfChangeType::RemoveNode, ConfChangeType::AddNode, ConfChangeType::AddLearnerNode];
    for (node_id, kind) in (1..).zip(kinds) {
        let mut single = ConfChangeSingle { node_id, ..ConfChangeSingle::default() };
        single.set_change_type(kind);
        change.mut_changes().push(single);
    }
    change
}

#[test]
fn a_change_of_members_is_read_as_raft_wrote_it() {
    assert_eq!(decode_change(&change().write_to_bytes().unwrap()).unwrap(), change());
    assert_eq!(decode_change(&[]).unwrap(), ConfChangeV2::default());
    let mut explicit = change();
    explicit.set_transition(ConfChangeTransition::Explicit);
    let mut nobody = change();
    nobody.mut_changes()[1].node_id = 0;
    for wrong in [explicit, nobody] {
        assert!(decode_change(&wrong.write_to_bytes().unwrap()).is_err(), "{wrong:?}");
    }
}

/// One acceptable message of every type that crosses the wire, with every field set that its type uses.
fn examples() -> Vec<Message> {
    use MessageType::*;
    let mut append = message(MsgAppend);
    append.log_term = 5;
    append.index = 41;
    append.commit = 40;
    let mut change = entry(45, 7, &change().write_to_bytes().unwrap());
    change.set_entry_type(EntryType::EntryConfChangeV2);
    change.context = b"why".to_vec().into();
    append.set_entries(vec![entry(42, 5, b"one"), entry(43, 7, &[0; 300]), entry(44, 7, b""), change].into());
    let mut rejection = message(MsgAppendResponse);
    rejection.reject = true;
    rejection.reject_hint = 12;
    rejection.log_term = 3;
    rejection.request_snapshot = 9;
    let mut vote = message(MsgRequestVote);
    vote.index = 44;
    vote.log_term = 7;
    vote.commit = 40;
    vote.commit_term = 5;
    let mut heartbeat = message(MsgHeartbeat);
    heartbeat.commit = 3;
    heartbeat.context = vec![9; CONTEXT_BYTES].into();
    let mut read = message(MsgReadIndex);
    read.term = 0;
    read.set_entries(vec![entry(0, 0, &[1; CONTEXT_BYTES])].into());
    let mut answer = message(MsgReadIndexResp);
    answer.index = 40;
    answer.set_entries(vec![entry(0, 0, &[1; CONTEXT_BYTES])].into());
    let mut snapshot = Snapshot { data: b"state".to_vec().into(), ..Snapshot::default() };
    let mut metadata = SnapshotMetadata { index: 40, term: 5, ..SnapshotMetadata::default() };
    metadata.set_conf_state(ConfState {
        voters: vec![1, 2, 300],
        learners: vec![4],
        voters_outgoing: vec![1, 2, 5],
        learners_next: vec![5],
        auto_leave: true,
        ..ConfState::default()
    });
    snapshot.set_metadata(metadata);
    let mut install = message(MsgSnapshot);
    install.set_snapshot(snapshot);
    let plain =
        [MsgRequestVoteResponse, MsgHeartbeatResponse, MsgRequestPreVote, MsgRequestPreVoteResponse, MsgTimeoutNow];
    let mut all = vec![append, message(MsgAppendResponse), rejection, vote, heartbeat, read, answer, install];
    all.extend(plain.map(message));
    all
}

#[test]
fn every_type_survives_the_wire_and_agrees_with_rafts_own_encoding() {
    for example in examples() {
        let bytes = encode(example.clone());
        assert_eq!(decode(&bytes).unwrap(), example);
        assert_eq!(decode(&example.write_to_bytes().unwrap()).unwrap(), example);
        let mut theirs = Message::default();
        theirs.merge_from_bytes(&bytes).unwrap();
        assert_eq!(theirs, example);
        assert_eq!(route(&bytes).unwrap(), (2, 1));
    }
}

#[test]
fn types_that_never_leave_a_node_are_refused() {
    let accepted = examples().iter().map(|example| example.msg_type as i32).collect::<std::collections::BTreeSet<_>>();
    for &kind in MessageType::values() {
        let verdict = decode(&encode(message(kind)));
        if !accepted.contains(&(kind as i32)) {
            assert!(matches!(verdict, Err(WireError::Refused(_))), "{kind:?}");
        }
    }
    assert_eq!(accepted.len(), 12);
}

#[test]
fn messages_that_would_make_raft_panic_or_believe_them_its_own_are_refused() {
    let change = |change: &dyn Fn(&mut Message)| {
        let mut message = examples().swap_remove(0);
        change(&mut message);
        decode(&encode(message))
    };
    assert!(change(&|_| {}).is_ok());
    let wrong: [&dyn Fn(&mut Message); 12] = [
        &|m| m.term = 0,
        &|m| m.from = 0,
        &|m| m.to = m.from,
        &|m| m.index = u64::MAX,
        &|m| m.mut_entries()[1].index = 44,
        &|m| m.mut_entries()[1].term = 4,
        &|m| m.mut_entries()[2].term = 8,
        &|m| m.mut_entries()[0].set_entry_type(EntryType::EntryConfChangeV2),
        &|m| m.mut_entries()[0].set_entry_type(EntryType::EntryConfChange),
        &|m| m.mut_entries()[0].context = b"why".to_vec().into(),
        &|m| m.mut_entries()[0].data = vec![1; ENTRY_BYTES_MAX + 1].into(),
        &|m| m.context = vec![0; CONTEXT_BYTES + 1].into(),
    ];
    for (at, wrong) in wrong.iter().enumerate() {
        assert!(change(wrong).is_err(), "case {at}");
    }
    let install = |change: &dyn Fn(&mut Message)| {
        let mut message = examples().into_iter().find(Message::has_snapshot).unwrap();
        change(&mut message);
        decode(&encode(message))
    };
    assert!(install(&|_| {}).is_ok());
    let wrong: [&dyn Fn(&mut Message); 6] = [
        &|m| m.clear_snapshot(),
        &|m| m.mut_snapshot().mut_metadata().index = 0,
        &|m| m.mut_snapshot().mut_metadata().term = 8,
        &|m| m.mut_snapshot().mut_metadata().clear_conf_state(),
        &|m| m.mut_snapshot().mut_metadata().mut_conf_state().learners.push(2),
        &|m| m.mut_snapshot().data = vec![0; SNAPSHOT_DATA_BYTES_MAX + 1].into(),
    ];
    for (at, wrong) in wrong.iter().enumerate() {
        assert!(matches!(install(wrong), Err(WireError::Refused(_))), "snapshot case {at}");
    }
    // A request to read without a context would be indexed out of bounds.
    let mut read = message(MessageType::MsgReadIndex);
    read.term = 0;
    assert!(decode(&encode(read)).is_err());
}

#[test]
fn limits_hold_before_memory_is_taken() {
    let too_long = vec![0; MESSAGE_BYTES_MAX + 1];
    assert_eq!(decode(&too_long), Err(WireError::TooLong(MESSAGE_BYTES_MAX + 1)));
    // Two bytes an entry: a small message that would decode to a hundred megabytes.
    let empty_entries = [0x3a, 0].repeat(MESSAGE_BYTES_MAX / 2);
    assert_eq!(decode(&empty_entries), Err(WireError::Refused("a message holds too many entries")));
    let claims_more_than_it_holds = [0x3a, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(matches!(decode(&claims_more_than_it_holds), Err(WireError::Malformed(_))));
}

/// Xorshift; the tests need bytes without pattern, not unpredictable ones.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[test]
fn no_bytes_make_the_decoder_panic() {
    let mut noise = Noise(0x5eed);
    for _ in 0..100_000 {
        let bytes = (0..noise.below(64)).map(|_| noise.next() as u8).collect::<Vec<_>>();
        let _ = (decode(&bytes), route(&bytes));
    }
    for example in examples() {
        let whole = encode(example);
        for end in 0..whole.len() {
            let _ = (decode(&whole[..end]), route(&whole[..end]));
        }
        for _ in 0..5_000 {
            let mut bytes = whole.clone();
            for _ in 0..=noise.below(4) {
                let at = noise.below(bytes.len());
                bytes[at] = noise.next() as u8;
            }
            // What still decodes encodes again to something that decodes to the same.
            if let Ok(decoded) = decode(&bytes) {
                assert_eq!(decode(&encode(decoded.clone())).unwrap(), decoded);
            }
        }
    }
}
