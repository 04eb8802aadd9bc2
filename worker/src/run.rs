//! Runners: what happens between `Action::Run` and `Event::Finished`. A runner is an async function that fetches inputs,
//! hands the heavy part to the computing thread, and reports; it is dropped when its assignment is cancelled, and the
//! thread notices within a few milliseconds.

mod drill;
mod reduce;
mod replay;
mod train;

use crate::agent::{Assignment, End, Event, FAILED_PART, Report, Task};
use crate::artifacts::{ArtifactError, Artifacts, blocking};
use crate::cancel::Cancel;
use crate::compute::{Compute, Stopped, micros};
use crate::convert;
use crate::journal::{Journal, Secret, Subject};
use crate::mailbox::Mailbox;
use crate::pace::Pacer;
use matrixai_kernels::Compute as Kernels;
use matrixai_proto::v1::{self, command::Kind};
use matrixai_protocol::{Hash, drilling::Kernel, sha256, spec::TrainingSpec};
use matrixai_training::{Context, dataset::Dataset, weights::Weights};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Longest detail of a failure that the ledger takes, bytes.
const DETAIL_BYTES_MAX: usize = 256;
/// All of an assignment, in millionths.
const ALL_E6: u32 = 1_000_000;

/// What all runners share.
pub(crate) struct Env {
    pub(crate) compute: Compute,
    pub(crate) kernels: Arc<dyn Kernels + Send + Sync>,
    /// Kernels that missed a known answer at the start.
    pub(crate) disabled: Vec<Kernel>,
    /// Memory of this machine, bytes.
    pub(crate) ram_bytes: u64,
    pub(crate) artifacts: Artifacts,
    pub(crate) journal: Arc<Journal>,
    pub(crate) machine_key: [u8; 32],
    pub(crate) uploads_max: usize,
    /// The data set that was parsed last: a machine works on one job for many rounds.
    pub(crate) dataset: Mutex<Option<(TrainingSpec, Arc<Dataset>)>>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").finish_non_exhaustive()
    }
}

/// Why a task could not be done.
#[derive(Debug)]
enum Failure {
    Stopped,
    /// The input is wrong: the job's fault.
    BadData(String),
    /// An artifact could not be had.
    LostInput(ArtifactError),
    /// This machine's fault.
    Internal(String),
}

impl From<Stopped> for Failure {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

/// Starts and stops runners; at most one runs, as the agent sees to it.
#[derive(Debug)]
pub(crate) struct Runners {
    env: Arc<Env>,
    mailbox: Mailbox,
    running: Option<(String, Cancel)>,
}

impl Runners {
    pub(crate) fn new(env: Arc<Env>, mailbox: Mailbox) -> Self {
        Self { env, mailbox, running: None }
    }

    /// Starts a runner; `Finished` follows.
    pub(crate) fn start(&mut self, assignment: Assignment) {
        let cancel = Cancel::default();
        self.running = Some((assignment.key.clone(), cancel.clone()));
        let job = Job {
            env: Arc::clone(&self.env),
            mailbox: self.mailbox.clone(),
            key: assignment.key.as_str().into(),
            cancel,
        };
        tokio::spawn(async move {
            let result = job.cancel.guard(perform(&job, &assignment.task)).await.unwrap_or(Err(Failure::Stopped));
            let end = end(&assignment, result);
            job.mailbox.tell(Event::Finished { key: assignment.key, end }).await;
        });
    }

    /// Stops the runner of this key.
    pub(crate) fn cancel(&mut self, key: &str) {
        if let Some((_, cancel)) = self.running.take_if(|(running, _)| running == key) {
            cancel.set();
        }
    }

    /// Stops whatever runs.
    pub(crate) fn stop(&mut self) {
        if let Some((_, cancel)) = self.running.take() {
            cancel.set();
        }
    }
}

async fn perform(job: &Job, task: &Task) -> Result<(), Failure> {
    match task {
        Task::Drill(drill) => drill::run(job, drill).await,
        Task::Train(train) => train::run(job, train).await,
        Task::Reduce(reduce) => reduce::run(job, reduce).await,
        Task::Replay(replay) => replay::run(job, replay).await,
        Task::Reveal(_) | Task::Open(_) | Task::Begin(_) => {
            Err(Failure::Internal("these are answered at once".to_owned()))
        }
    }
}

/// What the agent is told. A drill that fails is forfeited by silence: nobody is to learn what would have come out.
fn end(assignment: &Assignment, result: Result<(), Failure>) -> End {
    let (reason, detail) = match result {
        Ok(()) => return End::Done,
        Err(Failure::Stopped) => return End::Stopped,
        Err(Failure::BadData(detail)) => ("bad_data", detail),
        Err(Failure::LostInput(error)) => ("lost_input", error.to_string()),
        Err(Failure::Internal(detail)) => ("internal", detail),
    };
    tracing::warn!(key = assignment.key, reason, detail, "a task failed");
    let (context, attempt, reduction) = match &assignment.task {
        Task::Train(train) => (&train.context, train.attempt, false),
        Task::Replay(replay) => (&replay.context, replay.attempt, false),
        // A reduction has no lease, hence no attempt.
        Task::Reduce(reduce) => (&reduce.context, 0, true),
        Task::Drill(_) | Task::Reveal(_) | Task::Open(_) | Task::Begin(_) => {
            return End::Failed { report: None, retry: false };
        }
    };
    let failed = v1::TaskFailed {
        job: context.job.to_vec(),
        attempt,
        reason: reason.to_owned(),
        detail: cut(&detail, DETAIL_BYTES_MAX).to_owned(),
    };
    let report = convert::report(&assignment.key, FAILED_PART, Kind::TaskFailed(failed));
    End::Failed { report: Some(report), retry: reduction && reason != "bad_data" }
}

/// At most `max` bytes of a text, ending between characters.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

/// One running assignment.
#[derive(Debug, Clone)]
struct Job {
    env: Arc<Env>,
    mailbox: Mailbox,
    key: Arc<str>,
    cancel: Cancel,
}

impl Job {
    /// Computes on the thread; the CPU time is in microseconds. `work` gives `None` only when its pacer said stop.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Pacer<'_>) -> Option<T> + Send + 'static,
    ) -> Result<(T, u64), Failure> {
        let (result, took) = self.env.compute.run(&self.cancel, work).await?;
        Ok((result, micros(took)))
    }

    async fn fetch(&self, hash: &Hash, bytes_max: u64) -> Result<Arc<[u8]>, Failure> {
        self.env.artifacts.get(hash, bytes_max).await.map_err(|error| match error {
            ArtifactError::TooLarge { .. } => Failure::BadData(error.to_string()),
            ArtifactError::Disk(error) => Failure::Internal(error.to_string()),
            error => Failure::LostInput(error),
        })
    }

    async fn store(&self, hash: &Hash, bytes: Vec<u8>) -> Result<(), Failure> {
        let stored = self.env.artifacts.put(hash, bytes.into()).await;
        stored.map_err(|error| Failure::Internal(error.to_string()))
    }

    /// Weights, or anything of their shape.
    async fn fetch_weights(&self, context: &Context, hash: &Hash) -> Result<Weights, Failure> {
        let bytes = self.fetch(hash, weights_bytes(context)).await?;
        Weights::from_bytes(&context.spec, &bytes).map_err(|error| Failure::BadData(error.to_string()))
    }

    /// The job's data set, parsed.
    async fn dataset(&self, context: &Arc<Context>) -> Result<Arc<Dataset>, Failure> {
        let known = |slot: &Option<(TrainingSpec, Arc<Dataset>)>| {
            slot.as_ref().filter(|(spec, _)| *spec == context.spec).map(|(_, data)| Arc::clone(data))
        };
        if let Some(data) = known(&self.env.dataset.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(data);
        }
        let bytes = self.fetch(&context.spec.dataset, context.spec.dataset_bytes).await?;
        let for_thread = Arc::clone(context);
        let (parsed, _) = self
            .compute(move |pacer| {
                let parsed = Dataset::parse(&bytes, &for_thread.spec);
                pacer.go_on().then_some(parsed)
            })
            .await?;
        let data = Arc::new(parsed.map_err(|error| Failure::BadData(error.to_string()))?);
        let slot = &mut *self.env.dataset.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some((context.spec.clone(), Arc::clone(&data)));
        Ok(data)
    }

    /// The secret that was kept about a subject in an earlier run.
    async fn secret(&self, subject: Subject) -> Result<Option<Secret>, Failure> {
        let journal = Arc::clone(&self.env.journal);
        blocking(move || journal.secret(&subject)).await.map_err(|error| Failure::Internal(error.to_string()))
    }

    /// Journals the report with the secret behind it, waits until both are on disk, then hands it to the agent.
    async fn report(
        &self,
        part: u32,
        command: Kind,
        secret: Option<(Subject, Secret)>,
        done_e6: u32,
    ) -> Result<(), Failure> {
        let report = convert::report(&self.key, part, command);
        let (journal, kept) = (Arc::clone(&self.env.journal), report.clone());
        let written: Result<(), _> = blocking(move || journal.keep(secret, &kept)).await;
        written.map_err(|error| Failure::Internal(error.to_string()))?;
        self.mailbox.tell(Event::Produced { report, done_e6 }).await;
        Ok(())
    }
}

fn weights_bytes(context: &Context) -> u64 {
    context.spec.parameters().saturating_mul(size_of::<f32>() as u64)
}

/// A salt that nobody can guess.
fn salt() -> Result<[u8; 32], Failure> {
    matrixai_proto::envelope::random().map_err(|_| Failure::Internal("the system gives no random bytes".to_owned()))
}

/// The report of what needs no computing: what opens a secret, or that an agreement has begun.
pub(crate) fn opening(assignment: &Assignment, journal: &Journal) -> Option<Report> {
    let (subject, command): (_, fn(&Task, Secret) -> Option<Kind>) = match &assignment.task {
        Task::Reveal(reveal) => (Subject::Unit(reveal.unit), drill::reveal),
        Task::Open(open) => {
            let (job, round, virtual_worker) = (open.job, open.round, open.virtual_worker);
            (Subject::Segment { job, round, virtual_worker }, train::open)
        }
        Task::Begin(begin) => {
            let started = v1::AgreementStarted { agreement: begin.agreement.to_vec() };
            return Some(convert::report(&assignment.key, 0, Kind::AgreementStarted(started)));
        }
        Task::Drill(_) | Task::Train(_) | Task::Reduce(_) | Task::Replay(_) => return None,
    };
    let secret = match journal.secret(&subject) {
        Ok(secret) => secret?,
        Err(error) => {
            tracing::error!(%error, key = assignment.key, "a secret could not be read");
            return None;
        }
    };
    command(&assignment.task, secret).map(|command| convert::report(&assignment.key, 0, command))
}

/// A hash of bytes, on a thread that may be busy for a while.
async fn hash(bytes: Vec<u8>) -> (Hash, Vec<u8>) {
    blocking(move || (sha256(&[&bytes]), bytes)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_cut_between_characters() {
        assert_eq!(cut("abc", 5), "abc");
        assert_eq!(cut("abc", 2), "ab");
        assert_eq!(cut("aéz", 2), "a");
        assert_eq!(cut("aéz", 3), "aé");
    }
}
