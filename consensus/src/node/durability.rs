//! What must not leave a node before its disk has it.
//!
//! A leader's appends and heartbeats promise nothing about its own disk, and go out at once. Votes and acknowledgements
//! wait for the last write given out before them. One case needs care beyond raft-rs: a node that alone is a
//! quorum leads before its own vote is on the disk, and could lead the same term again after a crash, with other
//! entries; so nothing of a term leaves before that term is durable.

use std::collections::VecDeque;

use raft::{
    StateRole,
    eraftpb::{self, HardState, MessageType},
};

use crate::{
    output::Message,
    plants::{Plant, planted},
    storage::{LogStore, Write},
    wire,
};

/// Messages held while the disk is slow or full; more are lost, as on a network.
const HELD_MAX: usize = 16_384;

/// A write on its way to the disk.
struct Outstanding {
    number: u64,
    bytes: usize,
    /// Term and vote once it is durable.
    vote: (u64, u64),
}

/// Writes on their way, and messages that wait for them.
pub(super) struct Durability {
    outstanding: VecDeque<Outstanding>,
    /// Messages, each with the write it waits for.
    held: VecDeque<(u64, eraftpb::Message)>,
    /// Term and vote on the disk.
    vote: (u64, u64),
    bytes: usize,
    /// Bytes of appends taken in since the last cycle.
    pub(super) taken_in: usize,
}

impl Durability {
    pub(super) fn new(hard_state: &HardState) -> Self {
        Self {
            outstanding: VecDeque::new(),
            held: VecDeque::new(),
            vote: (hard_state.term, hard_state.vote),
            bytes: 0,
            taken_in: 0,
        }
    }

    /// Whether everything given out is on the disk.
    pub(super) fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
    }

    /// Bytes that wait to be written, given out or not.
    pub(super) fn unwritten(&self) -> usize {
        self.bytes + self.taken_in
    }

    pub(super) fn staged(&mut self, write: &Write, staged: &HardState) {
        let bytes = write.bytes();
        self.bytes += bytes;
        self.outstanding.push_back(Outstanding { number: write.number, bytes, vote: (staged.term, staged.vote) });
    }

    /// Hands over what may leave now, and keeps the rest.
    pub(super) fn dispatch<S: LogStore>(
        &mut self,
        messages: Vec<eraftpb::Message>,
        raft: &raft::Raft<S>,
        send: &mut dyn FnMut(Vec<Message>),
    ) {
        let Some(newest) = self.outstanding.back().map(|write| write.number) else {
            return hand_over(messages, send);
        };
        let term_is_durable = self.vote == (raft.term, raft.vote);
        let leads = raft.state == StateRole::Leader && term_is_durable;
        let mut now = Vec::new();
        for message in messages {
            if promises_nothing(&message, leads, term_is_durable) || planted(Plant::AckBeforeSync) {
                now.push(message);
            } else if self.held.len() < HELD_MAX {
                self.held.push_back((newest, message));
            }
        }
        hand_over(now, send);
    }

    pub(super) fn written(&mut self, number: u64, send: &mut dyn FnMut(Vec<Message>)) {
        let done = self.outstanding.partition_point(|write| write.number <= number);
        for write in self.outstanding.drain(..done) {
            self.bytes -= write.bytes;
            self.vote = write.vote;
        }
        let free = self.held.partition_point(|(waits_for, _)| *waits_for <= number);
        hand_over(self.held.drain(..free).map(|(_, message)| message).collect(), send);
    }
}

/// Whether a message says nothing about what is still on its way to the disk.
fn promises_nothing(message: &eraftpb::Message, leads: bool, term_is_durable: bool) -> bool {
    match message.get_msg_type() {
        MessageType::MsgAppend
        | MessageType::MsgHeartbeat
        | MessageType::MsgSnapshot
        | MessageType::MsgReadIndexResp => leads,
        // It says that this node is alive and of this term; a leader's reads and its hold on its term must not
        // depend on followers' disks.
        MessageType::MsgHeartbeatResponse => term_is_durable,
        // A leader whose disk is full must still be able to name a successor.
        MessageType::MsgTimeoutNow | MessageType::MsgReadIndex => true,
        _ => false,
    }
}

fn hand_over(messages: Vec<eraftpb::Message>, send: &mut dyn FnMut(Vec<Message>)) {
    if !messages.is_empty() {
        send(messages.into_iter().map(|message| Message { to: message.to, bytes: wire::encode(message) }).collect());
    }
}
