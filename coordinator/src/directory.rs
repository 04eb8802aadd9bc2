//! The coordinators as this one knows them: those of the state, live, and until the state has them those that a joining
//! coordinator was told of when it asked for the cluster.

use crate::{
    admission::{self, NotAdmitted},
    shared::{NodeView, Peer},
};
use matrixai_state::{
    State,
    ids::NodeId,
    nodes::{NodeRow, Standing},
};
use std::sync::Arc;
use tokio::sync::watch;

/// Who is who.
#[derive(Debug)]
pub(crate) struct Directory {
    views: watch::Receiver<Arc<State>>,
    /// Tells who is still a member of the quorum, also of those that the admins have removed.
    status: watch::Receiver<NodeView>,
    told: Vec<Peer>,
}

impl Directory {
    /// A directory that follows the state; `told` counts for ids that the state does not have.
    pub(crate) fn new(views: watch::Receiver<Arc<State>>, status: watch::Receiver<NodeView>, told: Vec<Peer>) -> Self {
        Self { views, status, told }
    }

    /// The coordinators that have not left, in order of id.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let state = self.views.borrow();
        let present = state.nodes().filter(|row| row.standing != Standing::Removed).map(peer);
        let told = self.told.iter().filter(|peer| state.node(NodeId(peer.id)).is_none()).cloned();
        let mut peers: Vec<Peer> = present.chain(told).collect();
        peers.sort_unstable_by_key(|peer| peer.id);
        peers
    }

    /// A coordinator by its number, also one that has left.
    pub(crate) fn peer(&self, id: u64) -> Option<Peer> {
        let known = self.views.borrow().node(NodeId(id)).map(peer);
        known.or_else(|| self.told.iter().find(|peer| peer.id == id).cloned())
    }

    /// How many coordinators are a majority of those that vote.
    pub(crate) fn majority(&self) -> usize {
        self.views.borrow().majority()
    }

    /// Whether a coordinator has left. One that is removed takes part until its removal is in force: its vote may be
    /// what that takes.
    pub(crate) fn has_left(&self, id: u64) -> bool {
        self.admitted(id) == Err(NotAdmitted::Removed)
    }

    fn admitted(&self, id: u64) -> Result<(), NotAdmitted> {
        let told = self.told.iter().map(|peer| peer.id);
        admission::admit(&self.views.borrow(), &self.status.borrow().members, told, id)
    }

    /// Whether the holder of this key is the coordinator of this number, and is listened to.
    pub(crate) fn admit(&self, id: u64, key: &[u8]) -> Result<(), NotAdmitted> {
        match self.peer(id) {
            Some(peer) if peer.key != key => Err(NotAdmitted::Impostor),
            Some(_) | None => self.admitted(id),
        }
    }
}

/// A coordinator as the state has it.
pub(crate) fn peer(row: &NodeRow) -> Peer {
    Peer { id: row.id.0, key: row.key, grpc: row.grpc.clone(), web: row.web.clone() }
}
