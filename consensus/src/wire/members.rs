//! The parts of raft's messages that name members: in snapshots, and in entries that change the membership.

use prost::Message as _;
use raft::eraftpb;

use super::{SNAPSHOT_DATA_BYTES_MAX, WireError};
use crate::members::{MEMBERS_MAX, Members};

/// `eraftpb.ConfState`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WireConfState {
    #[prost(uint64, repeated, tag = "1")]
    voters: Vec<u64>,
    #[prost(uint64, repeated, tag = "2")]
    learners: Vec<u64>,
    #[prost(uint64, repeated, tag = "3")]
    voters_outgoing: Vec<u64>,
    #[prost(uint64, repeated, tag = "4")]
    learners_next: Vec<u64>,
    #[prost(bool, tag = "5")]
    auto_leave: bool,
}

impl From<eraftpb::ConfState> for WireConfState {
    fn from(state: eraftpb::ConfState) -> Self {
        Self {
            voters: state.voters,
            learners: state.learners,
            voters_outgoing: state.voters_outgoing,
            learners_next: state.learners_next,
            auto_leave: state.auto_leave,
        }
    }
}

impl From<WireConfState> for eraftpb::ConfState {
    fn from(wire: WireConfState) -> Self {
        Self {
            voters: wire.voters,
            learners: wire.learners,
            voters_outgoing: wire.voters_outgoing,
            learners_next: wire.learners_next,
            auto_leave: wire.auto_leave,
            ..Self::default()
        }
    }
}

/// `eraftpb.ConfChangeV2`, without its context (field 3): the caller's bytes travel in the entry's own.
#[derive(Clone, PartialEq, prost::Message)]
struct WireConfChange {
    #[prost(int32, tag = "1")]
    transition: i32,
    #[prost(message, repeated, tag = "2")]
    changes: Vec<WireConfChangeSingle>,
}

/// `eraftpb.ConfChangeSingle`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireConfChangeSingle {
    #[prost(int32, tag = "1")]
    change_type: i32,
    #[prost(uint64, tag = "2")]
    node_id: u64,
}

/// Bytes of the largest change: a few for each member.
const CHANGE_BYTES_MAX: usize = 32 * MEMBERS_MAX;

/// The change of membership in an entry's data; none at all is the end of a joint change.
pub(crate) fn decode_change(data: &[u8]) -> Result<eraftpb::ConfChangeV2, WireError> {
    use protobuf::ProtobufEnum as _;
    if data.len() > CHANGE_BYTES_MAX {
        return Err(WireError::Refused("a change of members is too long"));
    }
    let wire = WireConfChange::decode(data).map_err(|error| WireError::Malformed(error.to_string()))?;
    if wire.transition != 0 || wire.changes.len() > MEMBERS_MAX {
        return Err(WireError::Refused("a change of members is of a kind that nobody makes"));
    }
    let mut changes = Vec::with_capacity(wire.changes.len());
    for change in wire.changes {
        let kind = eraftpb::ConfChangeType::from_i32(change.change_type);
        let Some(kind) = kind.filter(|_| change.node_id != 0) else {
            return Err(WireError::Refused("a change of members names no member"));
        };
        let mut single = eraftpb::ConfChangeSingle { node_id: change.node_id, ..eraftpb::ConfChangeSingle::default() };
        single.set_change_type(kind);
        changes.push(single);
    }
    Ok(eraftpb::ConfChangeV2 { changes: changes.into(), ..eraftpb::ConfChangeV2::default() })
}

/// A snapshot must be of something, within the message's term, refer to data that can be fetched, and name members
/// that raft accepts: it panics on others.
pub(super) fn check_snapshot(message: &eraftpb::Message) -> Result<(), WireError> {
    let refuse = |what| Err(WireError::Refused(what));
    if !message.get_entries().is_empty() {
        return refuse("only appends and reads carry entries");
    }
    let snapshot = message.get_snapshot();
    let metadata = snapshot.get_metadata();
    if metadata.index == 0 || metadata.index == u64::MAX || metadata.term == 0 || metadata.term > message.term {
        return refuse("a snapshot is of no entry");
    }
    if snapshot.data.is_empty() || snapshot.data.len() > SNAPSHOT_DATA_BYTES_MAX {
        return refuse("a snapshot's reference has the wrong length");
    }
    let state = metadata.get_conf_state();
    let sets = [&state.voters, &state.learners, &state.voters_outgoing, &state.learners_next];
    if sets.iter().any(|set| set.len() > MEMBERS_MAX) || Members::of_conf_state(state).check().is_err() {
        return refuse("a snapshot names members that cannot be");
    }
    Ok(())
}
