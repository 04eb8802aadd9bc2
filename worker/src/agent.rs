//! What the worker does next: a pure core of events in and actions out. It holds the assignments by key, gives the one
//! compute slot to one of them at a time, and sends reports until they are acknowledged.
//!
//! The invariants: at most one task runs; a key that was finished is not run again, its reports are sent again instead;
//! nothing is sent without a session; what is withdrawn or past its deadline stops. Absent: clocks, disks, network,
//! keys. The shell (`shell.rs`) performs the actions and feeds back what came of them.

mod outbox;
mod task;
#[cfg(test)]
mod tests;

pub use outbox::{CommandId, FAILED_PART, Report, Verdict};
pub use task::{Assignment, Begin, Drill, Open, Reduce, Replay, Reveal, State, Task, Train, Turn};

use outbox::{Outbox, Settled};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most assignments held at a time, and most keys a coordinator takes in a hello; the ledger owes a machine far fewer. More
/// are passed over until the next reconnect.
const HELD_MAX: usize = 1_024;
/// Finished keys that are remembered.
const FINISHED_MAX: usize = 4_096;
/// Pause before a reduction whose inputs could not be had is tried again: nobody else can do it for this machine.
const REDUCE_AGAIN_MS: u64 = 1_000;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A coordinator welcomed us and said what ledger time it is.
    Connected { ledger_ms: u64 },
    /// The session ended.
    Disconnected,
    /// Something is owed.
    Assigned { assignment: Assignment, ledger_ms: u64 },
    /// It is not owed any more.
    Withdrawn { key: String },
    /// An envelope was answered; no verdicts when the relay failed.
    Acked { id: CommandId, verdicts: Vec<Verdict> },
    /// The running task made something to report; `done_e6` of it is done now.
    Produced { report: Report, done_e6: u32 },
    /// The running task ended.
    Finished { key: String, end: End },
    /// What the journal held for a reveal or an opening; none when it held nothing.
    Recalled { key: String, report: Option<Report> },
    /// Time has passed.
    Tick,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Everything it had to report was produced before.
    Done,
    /// It was cancelled.
    Stopped,
    /// It could not be done. The report says so to the ledger, where the ledger wants to know; `retry` when it may help
    /// to try again.
    Failed { report: Option<Report>, retry: bool },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start computing; `Finished` must follow.
    Run(Assignment),
    /// Stop it; `Finished` still follows.
    Cancel { key: String },
    /// Answer what needs no computing, with a secret of the journal if it asks for one; `Recalled` must follow.
    Recall(Assignment),
    /// Sign and send under this id. It may get lost.
    Send { id: CommandId, report: Report },
    /// The journal need not keep this report any more.
    Forget { key: String, part: u32 },
    /// For live views.
    Progress { key: String, done_e6: u32 },
    /// For the log.
    Note(Note),
}

/// What the owner may want to read in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The ledger refused a report.
    Refused { key: String, verdict: Verdict },
    /// The deadline passed before the work was done.
    TooLate { key: String },
    /// The journal has no secret for a reveal or an opening.
    NotInJournal { key: String },
    /// More assignments than are held.
    TooMany { key: String },
    /// A report was never acknowledged and gave way to newer ones.
    Unheard { key: String },
}

#[derive(Debug)]
struct Queued {
    assignment: Assignment,
    /// Own time before which it is not started.
    not_before_ms: u64,
}

#[derive(Debug)]
struct Running {
    assignment: Assignment,
    cancelled: bool,
}

/// The core.
#[derive(Debug)]
pub struct Agent {
    connected: bool,
    /// Ledger time minus own time, as last heard.
    ahead_ms: i64,
    /// By turn and arrival.
    queue: BTreeMap<(Turn, u64), Queued>,
    running: Option<Running>,
    /// Reveals, openings and beginnings that are being answered.
    recalling: BTreeSet<String>,
    finished: BTreeSet<String>,
    finished_order: VecDeque<String>,
    outbox: Outbox,
    arrivals: u64,
}

impl Agent {
    /// A core that goes on with the reports of an earlier life.
    pub fn new(machine_key: [u8; 32], restored: Vec<Report>) -> Self {
        let mut agent = Self {
            connected: false,
            ahead_ms: 0,
            queue: BTreeMap::new(),
            running: None,
            recalling: BTreeSet::new(),
            finished: BTreeSet::new(),
            finished_order: VecDeque::new(),
            outbox: Outbox::new(machine_key),
            arrivals: 0,
        };
        for report in restored {
            agent.outbox.add(report, 0);
        }
        agent
    }

    /// Takes an event at own time `now` (ms, never back) and says what to do, in this order.
    pub fn on(&mut self, event: Event, now: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Connected { ledger_ms } => {
                self.hear(ledger_ms, now);
                self.connected = true;
                self.outbox.make_due(now);
            }
            Event::Disconnected => self.connected = false,
            Event::Assigned { assignment, ledger_ms } => {
                self.hear(ledger_ms, now);
                self.assigned(assignment, now, &mut actions);
            }
            Event::Withdrawn { key } => self.withdrawn(&key, &mut actions),
            Event::Acked { id, verdicts } => self.acked(&id, &verdicts, now, &mut actions),
            Event::Produced { report, done_e6 } => {
                let key = report.key.clone();
                self.report(report, now, &mut actions);
                if self.connected {
                    actions.push(Action::Progress { key, done_e6 });
                }
            }
            Event::Finished { key, end } => self.ended(&key, end, now, &mut actions),
            Event::Recalled { key, report } => self.recalled(key, report, now, &mut actions),
            Event::Tick => {}
        }
        self.expire(now, &mut actions);
        if self.connected {
            actions.extend(self.outbox.due(now).into_iter().map(|(id, report)| Action::Send { id, report }));
        }
        self.start_next(now, &mut actions);
        actions
    }

    /// Keys that a new session is told: what is held, and what is finished but not acknowledged.
    pub fn holding(&self) -> Vec<String> {
        let mut keys: BTreeSet<&str> = self.queue.values().map(|queued| queued.assignment.key.as_str()).collect();
        keys.extend(self.running.iter().filter(|running| !running.cancelled).map(|r| r.assignment.key.as_str()));
        keys.extend(self.recalling.iter().map(String::as_str));
        for key in self.outbox.keys() {
            // What does not fit is reported anyway, only not announced.
            if keys.len() >= HELD_MAX {
                break;
            }
            keys.insert(key);
        }
        keys.into_iter().take(HELD_MAX).map(str::to_owned).collect()
    }

    fn hear(&mut self, ledger_ms: u64, now: u64) {
        self.ahead_ms = i64::try_from(ledger_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(now);
    }

    fn assigned(&mut self, mut assignment: Assignment, now: u64, actions: &mut Vec<Action>) {
        let key = &assignment.key;
        if self.finished.contains(key) {
            self.outbox.revive(key, now);
            return;
        }
        if let Some(held) = self.held(key) {
            // The same work, perhaps with more time for it.
            held.deadline_ms = assignment.deadline_ms;
            return;
        }
        if self.recalling.contains(key) {
            return;
        }
        if self.queue.len() >= HELD_MAX {
            actions.push(Action::Note(Note::TooMany { key: key.clone() }));
            return;
        }
        // What an earlier life, or an earlier run of a lease that was withdrawn and came back, has reported already.
        let reported = self.outbox.parts(key);
        let nothing_left = match &mut assignment.task {
            Task::Train(train) => {
                train.virtual_workers.retain(|v| !reported.contains(v));
                train.virtual_workers.is_empty()
            }
            _ => !reported.is_empty(),
        };
        if nothing_left || reported.contains(&FAILED_PART) {
            self.outbox.revive(key, now);
            self.finish(assignment.key);
            return;
        }
        match assignment.task.turn() {
            Turn::AtOnce => {
                self.recalling.insert(assignment.key.clone());
                actions.push(Action::Recall(assignment));
            }
            turn => self.enqueue(turn, assignment, now),
        }
    }

    /// The assignment of this key that runs or waits for its turn.
    fn held(&mut self, key: &str) -> Option<&mut Assignment> {
        let running = self.running.iter_mut().filter(|running| !running.cancelled);
        let running = running.map(|running| &mut running.assignment);
        let queued = self.queue.values_mut().map(|queued| &mut queued.assignment);
        running.chain(queued).find(|assignment| assignment.key == key)
    }

    fn enqueue(&mut self, turn: Turn, assignment: Assignment, not_before_ms: u64) {
        self.arrivals += 1;
        self.queue.insert((turn, self.arrivals), Queued { assignment, not_before_ms });
    }

    fn withdrawn(&mut self, key: &str, actions: &mut Vec<Action>) {
        self.queue.retain(|_, queued| queued.assignment.key != key);
        self.cancel_if(|running| running.key == key, actions);
        if self.finished.remove(key) {
            self.finished_order.retain(|other| other != key);
        }
        // What waits for its acknowledgement stays: it may be why the assignment is not owed any more.
        self.outbox.forget(key);
    }

    fn cancel_if(&mut self, matches: impl Fn(&Assignment) -> bool, actions: &mut Vec<Action>) {
        if let Some(running) = &mut self.running
            && !running.cancelled
            && matches(&running.assignment)
        {
            running.cancelled = true;
            actions.push(Action::Cancel { key: running.assignment.key.clone() });
        }
    }

    fn acked(&mut self, id: &CommandId, verdicts: &[Verdict], now: u64, actions: &mut Vec<Action>) {
        match self.outbox.acked(id, verdicts, now) {
            Settled::Unknown | Settled::Later => {}
            Settled::Final(Report { key, part, .. }, refused) => {
                actions.push(Action::Forget { key: key.clone(), part });
                if let Some(verdict) = refused {
                    actions.push(Action::Note(Note::Refused { key, verdict }));
                }
            }
        }
    }

    fn report(&mut self, report: Report, now: u64, actions: &mut Vec<Action>) {
        if let Some(lost) = self.outbox.add(report, now) {
            actions.push(Action::Forget { key: lost.key.clone(), part: lost.part });
            actions.push(Action::Note(Note::Unheard { key: lost.key }));
        }
    }

    fn ended(&mut self, key: &str, end: End, now: u64, actions: &mut Vec<Action>) {
        let Some(running) = self.running.take_if(|running| running.assignment.key == key) else { return };
        if running.cancelled {
            // Whatever it made in its last moment was withdrawn or is too late.
            return;
        }
        match end {
            End::Done => self.finish(running.assignment.key),
            End::Stopped => {}
            End::Failed { retry: true, .. } if running.assignment.task.turn() == Turn::Reduce => {
                self.enqueue(Turn::Reduce, running.assignment, now + REDUCE_AGAIN_MS);
            }
            End::Failed { report, .. } => {
                if let Some(report) = report {
                    self.report(report, now, actions);
                }
                self.finish(running.assignment.key);
            }
        }
    }

    fn recalled(&mut self, key: String, report: Option<Report>, now: u64, actions: &mut Vec<Action>) {
        if !self.recalling.remove(&key) {
            return;
        }
        match report {
            Some(report) => self.report(report, now, actions),
            None => actions.push(Action::Note(Note::NotInJournal { key: key.clone() })),
        }
        self.finish(key);
    }

    fn finish(&mut self, key: String) {
        if self.finished.insert(key.clone()) {
            self.finished_order.push_back(key);
        }
        while self.finished.len() > FINISHED_MAX {
            let Some(oldest) = self.finished_order.pop_front() else { return };
            self.finished.remove(&oldest);
        }
    }

    /// Drops what cannot be reported in time any more.
    fn expire(&mut self, now: u64, actions: &mut Vec<Action>) {
        let ledger = now.saturating_add_signed(self.ahead_ms);
        let late = |assignment: &Assignment| assignment.deadline_ms != 0 && assignment.deadline_ms < ledger;
        self.queue.retain(|_, queued| {
            let late = late(&queued.assignment);
            if late {
                actions.push(Action::Note(Note::TooLate { key: queued.assignment.key.clone() }));
            }
            !late
        });
        if let Some(key) =
            self.running.as_ref().filter(|r| !r.cancelled && late(&r.assignment)).map(|r| r.assignment.key.clone())
        {
            actions.push(Action::Note(Note::TooLate { key }));
            self.cancel_if(late, actions);
        }
    }

    fn start_next(&mut self, now: u64, actions: &mut Vec<Action>) {
        if self.running.is_some() {
            return;
        }
        let next = self.queue.iter().find(|(_, queued)| queued.not_before_ms <= now).map(|(place, _)| *place);
        if let Some(queued) = next.and_then(|place| self.queue.remove(&place)) {
            actions.push(Action::Run(queued.assignment.clone()));
            self.running = Some(Running { assignment: queued.assignment, cancelled: false });
        }
    }
}
