//! How a node starts: the caller's state and the log must fit together, or one of them is refused.

use std::collections::{BTreeMap, BTreeSet};

use raft::{RawNode, eraftpb::HardState};

use super::{Node, delivery::Delivery, durability::Durability};
use crate::{
    config::NodeConfig,
    error::Error,
    logging::raft_logger,
    members::Members,
    plants::{Plant, planted},
    reads::Reader,
    storage::{Batch, Boundary, Identity, LogStore, LogWriter, SnapshotMeta, Write},
};

/// What the caller restored before it opens the node: its state is that after entry `index`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Last entry that the caller's state holds; 0 for the genesis.
    pub index: u64,
    /// That entry's term; 0 for the genesis.
    pub term: u64,
    /// The members once that entry was applied.
    pub members: Members,
}

impl Start {
    /// The start of a cluster that these voters found. Every node of it starts so when it has no snapshot, one that joins
    /// later too: it finds itself in the log that it receives.
    ///
    /// # Errors
    /// [`Error::Config`] for voters that cannot be.
    pub fn genesis(voters: &[u64]) -> Result<Self, Error> {
        Ok(Self { index: 0, term: 0, members: Members::new(voters)? })
    }

    fn boundary(&self) -> Boundary {
        Boundary { index: self.index, term: self.term }
    }
}

impl<S: LogStore> Node<S> {
    /// Starts the node on its store. Committed entries behind `start` are delivered by the first cycles. A log that ends
    /// before `start`, or went another way before that was committed, is emptied: the caller's snapshot became
    /// durable before the log heard of it.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Foreign`], [`Error::Start`], [`Error::MembersDiffer`] when store, start and
    /// configuration don't belong together, [`Error::Store`] when the store cannot be written.
    pub fn open(config: NodeConfig, mut store: S, start: &Start) -> Result<Self, Error> {
        config.to_raft(0)?;
        start.members.check().map_err(Error::Config)?;
        let Identity { node, incarnation } = store.identity();
        if node != 0 && node != config.id {
            return Err(Error::Foreign { stored: node, given: config.id });
        }
        let reader = Reader { id: config.id, incarnation: incarnation + 1 };
        let mut hard_state = store.initial_state()?.hard_state;
        let mut batch = Batch {
            identity: Some(Identity { node: config.id, incarnation: reader.incarnation }),
            ..fitted(&store, &hard_state, start)?
        };
        if hard_state.commit < start.index {
            let raised = hard_state.term < start.term;
            hard_state.commit = start.index;
            hard_state.term = hard_state.term.max(start.term);
            hard_state.vote = if raised { 0 } else { hard_state.vote };
            batch.hard_state = Some(hard_state.clone());
        }
        let write = Write { number: 0, batch };
        store.stage(&write)?;
        store.writer().write(std::slice::from_ref(&write))?;
        store.settled(write.number);
        store.start_with(&start.members);
        // To raft everything committed is applied: it uses that index only to guard changes of membership, which are
        // taken in here as soon as they are committed. Left behind, it would make raft-rs load all entries in between
        // into memory at every election. What the caller has applied is this crate's business.
        let raw = RawNode::new(&config.to_raft(hard_state.commit)?, store, &raft_logger())?;
        let mut node = Self {
            config,
            raw,
            reader,
            members: start.members.clone(),
            members_at: start.index,
            removed: BTreeSet::new(),
            durability: Durability::new(&hard_state),
            staged: hard_state,
            delivery: Delivery::new(start.index),
            pending: Batch::default(),
            parked: None,
            offered: BTreeMap::new(),
            stopped: false,
        };
        if planted(Plant::RestartForgetsMembers) {
            node.members_at = node.deliverable();
        }
        node.take_in_members()?;
        node.draw_election_timeout();
        Ok(node)
    }
}

/// What must be written so that the log continues `start`.
fn fitted<S: LogStore>(store: &S, hard_state: &HardState, start: &Start) -> Result<Batch, Error> {
    let (first, last) = (store.first_index()?, store.last_index()?);
    let stored = store.latest_snapshot();
    if let Some(stored) = stored.filter(|stored| stored.index == start.index)
        && stored.members != start.members
    {
        let given = Box::new(start.members.clone());
        return Err(Error::MembersDiffer { stored: Box::new(stored.members.clone()), given });
    }
    // The start itself, as long as nobody can be offered more.
    let bare = SnapshotMeta { index: start.index, term: start.term, members: start.members.clone(), data: Vec::new() };
    let bare = stored.is_none_or(|stored| stored.index < start.index).then_some(bare);
    if start.index + 1 < first {
        let detail = format!("the state ends with entry {}, but the log begins with entry {first}", start.index);
        return Err(Error::Start(detail));
    }
    if start.index <= last {
        let term = store.term(start.index)?;
        if term == start.term {
            let snapshot = bare.filter(|_| stored.is_none());
            return Ok(Batch { snapshot, ..Batch::default() });
        }
        if start.index <= hard_state.commit {
            let detail = format!(
                "entry {} was committed in term {term}, but the state has it from term {}",
                start.index, start.term
            );
            return Err(Error::Start(detail));
        }
    }
    Ok(Batch { restart: Some(start.boundary()), snapshot: bare, ..Batch::default() })
}
