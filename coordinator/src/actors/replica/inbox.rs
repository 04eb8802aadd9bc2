//! The replica's mailbox: every message it takes, and what it does with it.

use super::{Carrier, EXPORT_BYTES, ReplicaActor, SWEEP_MS};
use crate::{
    core::{PeerRefusal, SessionId},
    reads::ReadMode,
    replica::Input,
    submitting::Submission,
};
use actix::{Context, Handler, Message};
use matrixai_consensus::{Committed, ProposeError};
use matrixai_proto::v1::PeerStatus;
use matrixai_state::{
    State,
    ids::{Hash, MachineId},
};
use std::sync::Arc;
use tokio::sync::oneshot;
use tonic::Status;

/// Something may be ready.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Pump;

impl Handler<Pump> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, _: Pump, ctx: &mut Context<Self>) {
        self.pump_scheduled = false;
        self.pump(ctx);
    }
}

/// A thread has done something: what, is in the channel.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Wake;

impl Handler<Wake> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Context<Self>) {
        self.schedule(ctx);
    }
}

/// Time passed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct Tick {
    pub(in crate::actors) wall_ms: u64,
}

impl Handler<Tick> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, Tick { wall_ms }: Tick, ctx: &mut Context<Self>) {
        let now = self.now();
        if now.saturating_sub(self.swept_at) >= SWEEP_MS {
            self.swept_at = now;
            self.sweep();
        }
        self.on(Input::Tick { wall_ms }, ctx);
    }
}

/// Checked envelopes to be applied.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct Submit(pub(in crate::actors) Vec<Submission>);

impl Handler<Submit> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, Submit(submissions): Submit, ctx: &mut Context<Self>) {
        for Submission { envelope, answer } in submissions {
            let caller = self.callers.add(answer);
            self.on(Input::Submit { caller, envelope }, ctx);
        }
    }
}

/// A wish for a view.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct View {
    pub(in crate::actors) mode: ReadMode,
    pub(in crate::actors) answer: oneshot::Sender<Result<Arc<State>, Status>>,
}

impl Handler<View> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, View { mode, answer }: View, ctx: &mut Context<Self>) {
        let reader = self.readers.add(answer);
        self.on(Input::View { reader, mode }, ctx);
    }
}

/// Somebody wants a snapshot of now.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct WantSnapshot;

impl Handler<WantSnapshot> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, _: WantSnapshot, ctx: &mut Context<Self>) {
        self.on(Input::SnapshotWanted, ctx);
    }
}

/// What another coordinator sent.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Frame {
    pub(crate) from: u64,
    pub(crate) raft: Vec<Vec<u8>>,
    pub(crate) status: Option<PeerStatus>,
}

impl Handler<Frame> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, Frame { from, raft, status }: Frame, ctx: &mut Context<Self>) {
        self.on(Input::Peer { from, raft, status }, ctx);
    }
}

/// Messages to a coordinator are being lost.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct Unreachable(pub(in crate::actors) u64);

impl Handler<Unreachable> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, Unreachable(peer): Unreachable, ctx: &mut Context<Self>) {
        self.on(Input::Unreachable { peer }, ctx);
    }
}

/// Another coordinator does not listen to this one.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct Refused {
    pub(in crate::actors) by: u64,
    pub(in crate::actors) why: PeerRefusal,
}

impl Handler<Refused> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, Refused { by, why }: Refused, ctx: &mut Context<Self>) {
        self.on(Input::Refused { by, why }, ctx);
    }
}

/// A wish that another voter leads.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct TransferLeader {
    pub(in crate::actors) to: u64,
    pub(in crate::actors) answer: oneshot::Sender<Result<(), Status>>,
}

impl Handler<TransferLeader> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, TransferLeader { to, answer }: TransferLeader, ctx: &mut Context<Self>) {
        let begun = self.replica.transfer_leader(to).map_err(|error| match error {
            ProposeError::Members(why) => Status::failed_precondition(why),
            error => Status::unavailable(error.to_string()),
        });
        // Whoever asked may be gone.
        let _ = answer.send(begun);
        self.schedule(ctx);
    }
}

/// A worker's session begins.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct OpenSession {
    pub(in crate::actors) session: SessionId,
    pub(in crate::actors) machine: MachineId,
    pub(in crate::actors) holding: Vec<String>,
    pub(in crate::actors) carrier: Carrier,
}

impl Handler<OpenSession> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, message: OpenSession, ctx: &mut Context<Self>) {
        let OpenSession { session, machine, holding, carrier } = message;
        self.sessions.insert(session, carrier);
        self.on(Input::SessionOpened { session, machine, holding }, ctx);
    }
}

/// A session's round trip, or its end.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(in crate::actors) enum SessionNews {
    Measured { session: SessionId, round_trip_us: u64 },
    Closed { session: SessionId },
}

impl Handler<SessionNews> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, news: SessionNews, ctx: &mut Context<Self>) {
        match news {
            SessionNews::Measured { session, round_trip_us } => {
                self.on(Input::SessionMeasured { session, round_trip_us }, ctx);
            }
            SessionNews::Closed { session } => {
                self.sessions.remove(&session);
                self.on(Input::SessionClosed { session }, ctx);
            }
        }
    }
}

/// A root was computed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct RootComputed {
    pub(super) epoch: u64,
    pub(super) index: u64,
    pub(super) root: Hash,
}

impl Handler<RootComputed> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, RootComputed { epoch, index, root }: RootComputed, ctx: &mut Context<Self>) {
        self.on(Input::RootComputed { epoch, index, root }, ctx);
    }
}

/// Committed entries as they are on disk.
#[derive(Debug)]
pub(crate) struct Exported {
    pub(crate) entries: Vec<Committed>,
}

/// A wish for a page of committed entries from one index to another, both included.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(in crate::actors) struct Export {
    pub(in crate::actors) from_index: u64,
    pub(in crate::actors) to_index: u64,
    pub(in crate::actors) answer: oneshot::Sender<Result<Exported, Status>>,
}

impl Handler<Export> for ReplicaActor {
    type Result = ();

    fn handle(&mut self, Export { from_index, to_index, answer }: Export, ctx: &mut Context<Self>) {
        let page = self.replica.entries(from_index, to_index, EXPORT_BYTES);
        let page = page.map(|entries| Exported { entries }).map_err(|error| Status::internal(error.to_string()));
        // The reader may be gone. A log that cannot be read stops the replica.
        let _ = answer.send(page);
        self.schedule(ctx);
    }
}
