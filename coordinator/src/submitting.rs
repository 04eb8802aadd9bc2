//! The way of an envelope into the log: its form, its signature, its contents, the replica. Envelopes that wait at the same
//! time go this way together, so that a caller's task is woken once, with the answer, and the replica's mailbox takes one
//! message for many.

use crate::{
    edge::{self, Signed, Stopped},
    pending::Waiting,
    shared::Shared,
    verifier::Checked,
};
use matrixai_proto::v1::{Envelope, SubmitReply};
use matrixai_protocol::sha256;
use prost::Message as _;
use tokio::sync::oneshot;
use tonic::Status;

/// Where an answer to a submitted envelope goes.
pub(crate) type Answer = oneshot::Sender<Result<SubmitReply, Status>>;

/// Who waits for an envelope that is being checked.
#[derive(Debug)]
pub(crate) enum Waits {
    /// It is submitted here; this is whom the outcome is told.
    Outcome(Answer),
    /// Somebody wants it back if it may go on.
    Envelope(oneshot::Sender<Result<Envelope, Stopped>>),
}

/// A checked envelope for the replica.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) envelope: Waiting,
    pub(crate) answer: Answer,
}

impl Submission {
    /// Of an envelope whose lengths were checked; otherwise its answer says so.
    fn new(envelope: &Envelope, answer: Answer) -> Option<Self> {
        let (Ok(key), Ok(command_id)) = (envelope.key.as_slice().try_into(), envelope.command_id.as_slice().try_into())
        else {
            // Nobody is missed who does not wait any more.
            let _ = answer.send(Err(Status::invalid_argument("key and command_id have fixed lengths")));
            return None;
        };
        let payload = sha256(&[&envelope.payload]);
        let envelope = Waiting { id: (key, command_id), payload, bytes: envelope.encode_to_vec() };
        Some(Self { envelope, answer })
    }
}

impl Shared {
    /// Checks an envelope and applies it here; answers after it was applied.
    ///
    /// # Errors
    /// FAILED_PRECONDITION with the leader's address in [`crate::shared::LEADER`] on a coordinator that does not lead;
    /// UNAVAILABLE when leadership was lost meanwhile (ask again with the same envelope); RESOURCE_EXHAUSTED when full;
    /// UNAUTHENTICATED and INVALID_ARGUMENT for what is wrong with the envelope itself.
    pub(crate) async fn submit(&self, envelope: Envelope) -> Result<SubmitReply, Status> {
        self.running()?;
        let (answer, answered) = oneshot::channel();
        match self.check(envelope, Waits::Outcome(answer)) {
            Ok(()) => answered.await.map_err(|_| stopping())?,
            Err(stopped) => self.refuse(stopped).answer(),
        }
    }

    /// As [`Shared::submit`], at the leader wherever it is.
    ///
    /// # Errors
    /// Those of [`Shared::submit`], and UNAVAILABLE when the leader cannot be reached.
    pub(crate) async fn submit_anywhere(&self, envelope: Envelope) -> Result<SubmitReply, Status> {
        let running = self.running()?;
        let leader = running.status.borrow().leader;
        if leader == running.node {
            return self.submit(envelope).await;
        }
        let (back, checked) = oneshot::channel();
        let checked = match self.check(envelope, Waits::Envelope(back)) {
            Ok(()) => checked.await.map_err(|_| stopping())?,
            Err(stopped) => Err(self.refuse(stopped)),
        };
        let envelope = match checked {
            Ok(envelope) => envelope,
            Err(stopped) => return stopped.answer(),
        };
        let Some(peer) = self.peer(leader) else {
            return Err(Status::unavailable("the quorum has no leader at the moment: ask again shortly"));
        };
        running.relay.submit(&peer, envelope).await
    }

    /// Queues an envelope to be checked.
    fn check(&self, envelope: Envelope, waits: Waits) -> Result<(), Stopped> {
        edge::form(&envelope)?;
        let another = self.verifier().add(envelope, waits).map_err(|_| {
            let full = "too many signatures wait to be checked: try again shortly";
            Stopped::Busy(Status::resource_exhausted(full))
        })?;
        if another {
            tokio::spawn(admit(self.clone()));
        }
        Ok(())
    }

    /// Counts an envelope that goes no further.
    fn refuse(&self, stopped: Stopped) -> Stopped {
        self.metrics().refused(stopped.name());
        stopped
    }
}

/// Checks what waits and hands on what may go on, until nothing waits.
async fn admit(shared: Shared) {
    let Ok(running) = shared.running() else { return };
    while let Some(batch) = shared.verifier().next() {
        let state = running.views.borrow().clone();
        let mut submissions = Vec::with_capacity(batch.len());
        let mut strangers = Vec::new();
        for Checked { envelope, signed, with } in batch {
            match edge::contents(&envelope, signed, &state) {
                Ok(Signed::Known) => submissions.extend(go_on(envelope, with)),
                Ok(Signed::Stranger) => strangers.push((envelope, with)),
                Err(stopped) => turn_back(shared.refuse(stopped), with),
            }
        }
        drop(state);
        running.replica.submit(submissions);
        look_again(&shared, strangers);
        // A batch is a millisecond of work: others of this thread get their turn.
        tokio::task::yield_now().await;
    }
}

/// Hands an envelope that may go on to the replica or to who wants it back.
fn go_on(envelope: Envelope, waits: Waits) -> Option<Submission> {
    match waits {
        Waits::Outcome(answer) => Submission::new(&envelope, answer),
        Waits::Envelope(back) => {
            // Whoever waits may have given up.
            let _ = back.send(Ok(envelope));
            None
        }
    }
}

/// Tells whoever waits that an envelope goes no further.
fn turn_back(stopped: Stopped, waits: Waits) {
    // Whoever waits may have given up.
    match waits {
        Waits::Outcome(answer) => drop(answer.send(stopped.answer())),
        Waits::Envelope(back) => drop(back.send(Err(stopped))),
    }
}

/// Decides about envelopes of signers that the newest view does not know, by one that holds everything that was acknowledged:
/// an account may have been opened where this coordinator did not see it yet. It takes a round of the quorum, so it is done
/// aside; whoever is known waits for no stranger.
fn look_again(shared: &Shared, strangers: Vec<(Envelope, Waits)>) {
    if strangers.is_empty() {
        return;
    }
    let Some(place) = shared.strangers().place() else {
        for (_, waits) in strangers {
            let busy = "too many envelopes of unknown keys wait to be checked: try again shortly";
            turn_back(shared.refuse(Stopped::Busy(Status::resource_exhausted(busy))), waits);
        }
        return;
    };
    let shared = shared.clone();
    tokio::spawn(async move {
        let _place = place;
        let view = shared.view().await;
        let mut submissions = Vec::new();
        for (envelope, waits) in strangers {
            let looked = match &view {
                Ok(state) => match edge::contents(&envelope, Ok(()), state) {
                    Ok(Signed::Stranger) => shared.strangers().admit(&envelope, state),
                    looked => looked.map(drop),
                },
                Err(status) => Err(Stopped::Busy(status.clone())),
            };
            match looked {
                Ok(()) => submissions.extend(go_on(envelope, waits)),
                Err(stopped) => turn_back(shared.refuse(stopped), waits),
            }
        }
        if let Ok(running) = shared.running() {
            running.replica.submit(submissions);
        }
    });
}

fn stopping() -> Status {
    Status::unavailable("the coordinator is stopping")
}
