//! How raft's messages cross the wire: our own prost types, with the field numbers of raft's `eraftpb.proto`.
//!
//! raft-rs brings protobuf 2.28, whose decoder can be made to recurse without bound (RUSTSEC-2024-0437), so it
//! never sees bytes of a peer. Decoding here is bounded in bytes, entries and members **before** memory is taken, never
//! panics, and refuses every message that a well-behaved raft-rs peer would not send over a network: raft-rs itself
//! trusts its input and panics, or treats a message of term 0 as its own.

use prost::{
    Message as _,
    bytes::{Buf, Bytes},
    encoding::{WireType, decode_key, decode_varint},
};
use raft::eraftpb;

mod members;

use crate::{
    config::{APPEND_BYTES_MAX, ENTRY_BYTES_MAX, SNAPSHOT_DATA_BYTES_MAX},
    reads::CONTEXT_BYTES,
};
pub(crate) use members::WireConfState;
pub(crate) use members::decode_change;

/// Longest message accepted or produced, in bytes: one entry of the largest size, or a megabyte of smaller ones, with
/// room for headers.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Most entries in one message. An entry that carries anything takes more than 8 bytes, and entries up to
/// 1 MiB are packed together, so an honest message holds fewer.
pub const ENTRIES_MAX: usize = (APPEND_BYTES_MAX as usize) / 8;

/// Why a peer's bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("{0} bytes are over the limit of a message")]
    TooLong(usize),
    /// Not the encoding of a message.
    #[error("malformed encoding: {0}")]
    Malformed(String),
    /// A well-formed message that no peer has reason to send.
    #[error("{0}")]
    Refused(&'static str),
}

/// `eraftpb.Message`. Fields 14 and 16 (priorities) are absent: this crate never sets them.
#[derive(Clone, PartialEq, prost::Message)]
struct WireMessage {
    #[prost(int32, tag = "1")]
    msg_type: i32,
    #[prost(uint64, tag = "2")]
    to: u64,
    #[prost(uint64, tag = "3")]
    from: u64,
    #[prost(uint64, tag = "4")]
    term: u64,
    #[prost(uint64, tag = "5")]
    log_term: u64,
    #[prost(uint64, tag = "6")]
    index: u64,
    #[prost(message, repeated, tag = "7")]
    entries: Vec<WireEntry>,
    #[prost(uint64, tag = "8")]
    commit: u64,
    #[prost(message, optional, tag = "9")]
    snapshot: Option<WireSnapshot>,
    #[prost(bool, tag = "10")]
    reject: bool,
    #[prost(uint64, tag = "11")]
    reject_hint: u64,
    #[prost(bytes = "bytes", tag = "12")]
    context: Bytes,
    #[prost(uint64, tag = "13")]
    request_snapshot: u64,
    #[prost(uint64, tag = "15")]
    commit_term: u64,
}

/// `eraftpb.Entry`. Field 5 (`sync_log`) is deprecated there and absent here.
#[derive(Clone, PartialEq, prost::Message)]
struct WireEntry {
    #[prost(int32, tag = "1")]
    entry_type: i32,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
    #[prost(bytes = "bytes", tag = "4")]
    data: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    context: Bytes,
}

/// `eraftpb.Snapshot`.
#[derive(Clone, PartialEq, prost::Message)]
struct WireSnapshot {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
    #[prost(message, optional, tag = "2")]
    metadata: Option<WireSnapshotMetadata>,
}

/// `eraftpb.SnapshotMetadata`.
#[derive(Clone, PartialEq, prost::Message)]
struct WireSnapshotMetadata {
    #[prost(message, optional, tag = "1")]
    conf_state: Option<WireConfState>,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(uint64, tag = "3")]
    term: u64,
}

const FIELD_TO: u32 = 2;
const FIELD_FROM: u32 = 3;
const FIELD_ENTRIES: u32 = 7;

/// The receiver and sender that a message names, without decoding the rest: for a transport that checks that the peer
/// at the other end of a connection is who the message says.
///
/// # Errors
/// [`WireError`] if the bytes cannot be a message.
pub fn route(bytes: &[u8]) -> Result<(u64, u64), WireError> {
    let outline = scan(bytes)?;
    Ok((outline.to, outline.from))
}

/// Encodes a message of our own raft.
pub(crate) fn encode(message: eraftpb::Message) -> Vec<u8> {
    to_wire(message).encode_to_vec()
}

/// Decodes a peer's message and checks everything that can be checked without knowing the log.
pub(crate) fn decode(bytes: &[u8]) -> Result<eraftpb::Message, WireError> {
    scan(bytes)?;
    let wire = WireMessage::decode(bytes).map_err(|error| WireError::Malformed(error.to_string()))?;
    let message = from_wire(wire)?;
    check(&message)?;
    Ok(message)
}

/// What the first pass over the top level of a message finds.
struct Outline {
    to: u64,
    from: u64,
}

/// Walks the top level without allocating, so that limits hold before the decoder takes memory: two bytes of an empty
/// entry would become a hundred bytes of a struct.
fn scan(bytes: &[u8]) -> Result<Outline, WireError> {
    let malformed = |what: &str| WireError::Malformed(what.to_owned());
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(WireError::TooLong(bytes.len()));
    }
    let mut outline = Outline { to: 0, from: 0 };
    let mut entries = 0;
    let mut rest = bytes;
    while rest.has_remaining() {
        let (tag, wire_type) = decode_key(&mut rest).map_err(|error| WireError::Malformed(error.to_string()))?;
        match wire_type {
            WireType::Varint => {
                let value = decode_varint(&mut rest).map_err(|error| WireError::Malformed(error.to_string()))?;
                match tag {
                    FIELD_TO => outline.to = value,
                    FIELD_FROM => outline.from = value,
                    _ => {}
                }
            }
            WireType::LengthDelimited => {
                let length = decode_varint(&mut rest).map_err(|error| WireError::Malformed(error.to_string()))?;
                let length = usize::try_from(length).map_err(|_| malformed("a field is longer than memory"))?;
                if length > rest.remaining() {
                    return Err(malformed("a field is longer than the message"));
                }
                rest.advance(length);
                if tag == FIELD_ENTRIES {
                    entries += 1;
                }
            }
            WireType::SixtyFourBit | WireType::ThirtyTwoBit | WireType::StartGroup | WireType::EndGroup => {
                return Err(malformed("a field has a type that no field of a message has"));
            }
        }
    }
    if entries > ENTRIES_MAX {
        return Err(WireError::Refused("a message holds too many entries"));
    }
    Ok(outline)
}

/// Refuses what no raft-rs peer sends to another over a network.
fn check(message: &eraftpb::Message) -> Result<(), WireError> {
    use eraftpb::MessageType::*;
    let refuse = |what| Err(WireError::Refused(what));
    if message.from == 0 || message.to == 0 || message.from == message.to {
        return refuse("a message must have a sender and another receiver");
    }
    match message.get_msg_type() {
        MsgHup | MsgBeat | MsgUnreachable | MsgSnapStatus | MsgCheckQuorum => {
            return refuse("a message of this type never leaves its node");
        }
        MsgPropose => return refuse("followers do not forward proposals"),
        MsgTransferLeader => return refuse("only a leader's own caller gives its leadership away"),
        MsgReadIndex | MsgReadIndexResp => {
            let [entry] = message.get_entries() else { return refuse("a read must carry one context") };
            if entry.data.len() != CONTEXT_BYTES {
                return refuse("a read's context has the wrong length");
            }
        }
        MsgAppend => check_entries(message)?,
        MsgSnapshot => members::check_snapshot(message)?,
        MsgAppendResponse
        | MsgRequestVote
        | MsgRequestVoteResponse
        | MsgTimeoutNow
        | MsgHeartbeat
        | MsgHeartbeatResponse
        | MsgRequestPreVote
        | MsgRequestPreVoteResponse => {
            if !message.get_entries().is_empty() {
                return refuse("only appends and reads carry entries");
            }
        }
    }
    // raft-rs takes term 0 for a message of its own making, and gives requests to read no other.
    if (message.term == 0) != (message.get_msg_type() == MsgReadIndex) {
        return refuse("a message must carry a term unless it asks for a read");
    }
    if message.context.len() > CONTEXT_BYTES {
        return refuse("a message's context is too long");
    }
    Ok(())
}

/// Entries must continue the message's index and term, end within its term, and be of a kind this version writes.
fn check_entries(message: &eraftpb::Message) -> Result<(), WireError> {
    let mut index = message.index;
    let mut term = message.log_term;
    for entry in message.get_entries() {
        index = index.checked_add(1).ok_or(WireError::Refused("an index is out of range"))?;
        if entry.index != index || entry.term < term || entry.term > message.term || entry.term == 0 {
            return Err(WireError::Refused("entries do not follow each other"));
        }
        match entry.get_entry_type() {
            eraftpb::EntryType::EntryNormal if entry.context.is_empty() => {}
            eraftpb::EntryType::EntryConfChangeV2 => {
                decode_change(&entry.data)?;
            }
            _ => return Err(WireError::Refused("an entry is of a kind that nobody writes")),
        }
        if entry.data.len() + entry.context.len() > ENTRY_BYTES_MAX {
            return Err(WireError::Refused("an entry is too long"));
        }
        term = entry.term;
    }
    Ok(())
}

fn to_wire(mut message: eraftpb::Message) -> WireMessage {
    let snapshot = message.has_snapshot().then(|| {
        let mut snapshot = message.take_snapshot();
        let metadata = snapshot.has_metadata().then(|| {
            let mut metadata = snapshot.take_metadata();
            let conf_state = metadata.has_conf_state().then(|| metadata.take_conf_state().into());
            WireSnapshotMetadata { conf_state, index: metadata.index, term: metadata.term }
        });
        WireSnapshot { data: snapshot.take_data(), metadata }
    });
    let entries = message.take_entries().into_iter().map(|mut entry| WireEntry {
        entry_type: entry.entry_type as i32,
        term: entry.term,
        index: entry.index,
        data: entry.take_data(),
        context: entry.take_context(),
    });
    WireMessage {
        msg_type: message.msg_type as i32,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: entries.collect(),
        commit: message.commit,
        snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.take_context(),
        request_snapshot: message.request_snapshot,
        commit_term: message.commit_term,
    }
}

fn from_wire(wire: WireMessage) -> Result<eraftpb::Message, WireError> {
    use protobuf::ProtobufEnum as _;
    let msg_type = eraftpb::MessageType::from_i32(wire.msg_type).ok_or(WireError::Refused("unknown message type"))?;
    let mut entries = Vec::with_capacity(wire.entries.len());
    for entry in wire.entries {
        let entry_type =
            eraftpb::EntryType::from_i32(entry.entry_type).ok_or(WireError::Refused("unknown entry type"))?;
        entries.push(eraftpb::Entry {
            entry_type,
            term: entry.term,
            index: entry.index,
            data: entry.data,
            context: entry.context,
            ..eraftpb::Entry::default()
        });
    }
    let mut message = eraftpb::Message {
        msg_type,
        to: wire.to,
        from: wire.from,
        term: wire.term,
        log_term: wire.log_term,
        index: wire.index,
        entries: entries.into(),
        commit: wire.commit,
        commit_term: wire.commit_term,
        request_snapshot: wire.request_snapshot,
        reject: wire.reject,
        reject_hint: wire.reject_hint,
        context: wire.context,
        ..eraftpb::Message::default()
    };
    if let Some(snapshot) = wire.snapshot {
        message.set_snapshot(snapshot_from_wire(snapshot));
    }
    Ok(message)
}

fn snapshot_from_wire(wire: WireSnapshot) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot { data: wire.data, ..eraftpb::Snapshot::default() };
    if let Some(wire) = wire.metadata {
        let mut metadata =
            eraftpb::SnapshotMetadata { index: wire.index, term: wire.term, ..eraftpb::SnapshotMetadata::default() };
        if let Some(state) = wire.conf_state {
            metadata.set_conf_state(state.into());
        }
        snapshot.set_metadata(metadata);
    }
    snapshot
}

#[cfg(test)]
mod tests;
