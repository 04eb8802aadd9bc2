//! Performs the agent's actions. It decides nothing: what fails or is lost here is made up for by the agent's retries or
//! by the coordinator sending again what it still owes.

use crate::agent::{Action, Assignment, Event, Note, Report};
use crate::artifacts::blocking;
use crate::journal::Journal;
use crate::mailbox::Mailbox;
use crate::run::{Runners, opening};
use crate::sealer::Sealer;
use matrixai_proto::v1::{Progress, WorkerMessage, worker_message::Kind};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// The way out through the present session, if there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outlet(Arc<Mutex<Option<mpsc::Sender<WorkerMessage>>>>);

impl Outlet {
    pub(crate) fn set(&self, session: Option<mpsc::Sender<WorkerMessage>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }

    /// Sends if there is a session and room in it.
    fn send(&self, kind: Kind) {
        let session = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if session.as_ref().is_none_or(|session| session.try_send(WorkerMessage { kind: Some(kind) }).is_err()) {
            tracing::debug!("a message found no session or no room; what matters is sent again");
        }
    }
}

#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) runners: Runners,
    pub(crate) outlet: Outlet,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) mailbox: Mailbox,
}

impl Shell {
    /// Must be called inside the runtime.
    pub(crate) fn perform(&mut self, action: Action) {
        match action {
            Action::Run(assignment) => {
                tracing::debug!(key = assignment.key, "started");
                self.runners.start(assignment);
            }
            Action::Cancel { key } => {
                tracing::debug!(key, "stopped: not owed any more, or too late");
                self.runners.cancel(&key);
            }
            Action::Recall(assignment) => self.recall(assignment),
            Action::Send { id, report: Report { payload, .. } } => {
                self.outlet.send(Kind::Envelope(self.sealer.commands(id, payload)));
            }
            Action::Forget { key, part } => self.forget(key, part),
            Action::Progress { key, done_e6 } => self.outlet.send(Kind::Progress(Progress { key, done_e6 })),
            Action::Note(note) => log(note),
        }
    }

    fn recall(&self, assignment: Assignment) {
        let (journal, mailbox) = (Arc::clone(&self.journal), self.mailbox.clone());
        tokio::spawn(async move {
            let (key, report) = blocking(move || {
                let report = opening(&assignment, &journal);
                (assignment.key, report)
            })
            .await;
            mailbox.tell(Event::Recalled { key, report }).await;
        });
    }

    fn forget(&self, key: String, part: u32) {
        let journal = Arc::clone(&self.journal);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = journal.forget(&key, part) {
                tracing::warn!(%error, key, "an acknowledged report stays in the journal");
            }
        });
    }
}

fn log(note: Note) {
    match note {
        Note::Refused { key, verdict } => {
            tracing::warn!(key, refusal = verdict.name, detail = verdict.detail, "the ledger refused a report");
        }
        Note::TooLate { key } => tracing::warn!(key, "given up: its deadline has passed"),
        Note::NotInJournal { key } => tracing::error!(key, "the journal holds no secret to open"),
        Note::TooMany { key } => tracing::warn!(key, "passed over: too many assignments are held"),
        Note::Unheard { key } => tracing::warn!(key, "a report was never acknowledged and gave way to newer ones"),
    }
}
