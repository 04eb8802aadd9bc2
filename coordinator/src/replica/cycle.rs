//! One turn of the consensus node: what it wants sent, written, fetched, applied and confirmed.

use super::{Io, Place, Replica};
use crate::{core::Event, shared::Role, snapshots::Reference};
use matrixai_consensus::{Error, LogStore, Message, Output, SnapshotOffer};
use std::collections::BTreeMap;

impl<S: LogStore> Replica<S> {
    pub(super) fn cycle(&mut self, now: u64) -> Result<(), Error> {
        let work = &mut self.work;
        let mut output = self.node.ready(&mut |messages| send(messages, work))?;
        if let Some(write) = output.write.take() {
            if std::mem::take(&mut self.proposed) {
                self.proposed_writes.push_back(write.number());
            }
            self.work.push(Io::Write(write));
        }
        self.turn(&output, now);
        if let Some(index) = output.restore {
            self.restore(index, now);
        }
        self.apply(output.committed, now);
        if let Some(offer) = output.snapshot_offer {
            self.fetch(&offer);
        }
        if output.snapshot_wanted {
            self.compaction.wanted();
        }
        for (context, index) in output.reads {
            self.reads.confirmed(context, index);
        }
        self.answer_reads();
        Ok(())
    }

    pub(super) fn written(&mut self, number: u64) {
        self.disk_has_room();
        self.proposed_writes.retain(|proposed| *proposed > number);
        let work = &mut self.work;
        if let Err(error) = self.node.written(number, &mut |messages| send(messages, work)) {
            self.stop(error.to_string());
        }
    }

    pub(super) fn snapshot_fetched(&mut self, index: u64) {
        if let Err(error) = self.node.snapshot_fetched(index) {
            self.stop(error.to_string());
        }
    }

    fn fetch(&mut self, offer: &SnapshotOffer) {
        let SnapshotOffer { from, index, .. } = *offer;
        match Reference::decode(&offer.data).filter(|reference| reference.index == index) {
            Some(reference) => self.work.push(Io::FetchSnapshot { from, reference }),
            None => {
                tracing::warn!(
                    from,
                    index,
                    "a coordinator offers a snapshot by a reference that this version cannot read"
                );
                self.node.snapshot_failed(index);
            }
        }
    }

    /// Tells the core of a change of this node's place in the quorum.
    fn turn(&mut self, output: &Output, now: u64) {
        let role = match output.role {
            matrixai_consensus::Role::Leader => Role::Leader,
            matrixai_consensus::Role::Candidate | matrixai_consensus::Role::PreCandidate => Role::Candidate,
            matrixai_consensus::Role::Follower => Role::Follower,
        };
        let place = Place { role, leader: output.leader, term: output.term };
        let known = std::mem::replace(&mut self.place, place);
        if known == place {
            return;
        }
        if known.role != role || known.leader != place.leader {
            tracing::info!(role = role.as_str(), leader = place.leader, term = place.term, "place in the quorum");
        }
        self.work.push(Io::Place(place));
        // A leader of a new term must wait like any other, so losing and winning between two polls is a loss too.
        if known.role == Role::Leader && role == Role::Leader {
            self.event(Event::Role { role: Role::Follower, leader: 0 }, now);
        }
        self.event(Event::Role { role, leader: place.leader }, now);
    }
}

/// Messages as work: one piece for each receiver, in order.
fn send(messages: Vec<Message>, work: &mut Vec<Io>) {
    let mut sorted: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    for message in messages {
        sorted.entry(message.to).or_default().push(message.bytes);
    }
    work.extend(sorted.into_iter().map(|(to, raft)| Io::Send { to, raft }));
}
