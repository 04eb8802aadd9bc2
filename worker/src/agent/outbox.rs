//! Reports on their way: each is sent until it is acknowledged, under one command id, so that a ledger that has it
//! already answers with the first outcome. Acknowledged ones are remembered for a while, in case their assignment is
//! sent again by a coordinator that lags behind.

use matrixai_protocol::sha256;
use std::collections::{BTreeMap, VecDeque};

/// Id of a command, unique per machine key.
pub type CommandId = [u8; 16];

/// Part of a report that says that its assignment failed; the others number what an assignment yields.
pub const FAILED_PART: u32 = u32::MAX;

/// First and longest pause before an unacknowledged report is sent again.
pub(super) const RETRY_MS_MIN: u64 = 2_000;
pub(super) const RETRY_MS_MAX: u64 = 16_000;
/// Pause after a relay that failed: the quorum may be electing.
pub(super) const RELAY_AGAIN_MS: u64 = 250;
/// Most reports that wait for an acknowledgement; the oldest gives way.
const WAITING_MAX: usize = 4_096;
/// Acknowledged reports that are remembered.
const SETTLED_MAX: usize = 2_048;
/// A report that was refused for its time alone is sent anew this many times.
const GENERATIONS_MAX: u32 = 8;
/// Refusals that say nothing about the report: another envelope, a little later, may pass.
const PASSING_REFUSALS: [&str; 4] = ["expired", "expires_too_far", "window_full", "id_reused"];

/// One thing to tell the ledger: a batch of commands, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The assignment's.
    pub key: String,
    /// Which of the assignment's reports: the virtual worker of a training, otherwise 0.
    pub part: u32,
    /// Canonical bytes of a `Batch`.
    pub payload: Vec<u8>,
}

/// What became of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// 0 when done.
    pub code: u32,
    pub name: String,
    pub detail: String,
}

/// What an acknowledgement meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Nothing that waits here.
    Unknown,
    /// Not now: it stays and is sent again later.
    Later,
    /// Done with; the verdict is the first refusal, if there was one.
    Final(Report, Option<Verdict>),
}

#[derive(Debug)]
struct Waiting {
    report: Report,
    generation: u32,
    tries: u32,
    due_ms: u64,
}

#[derive(Debug)]
pub(super) struct Outbox {
    machine_key: [u8; 32],
    waiting: BTreeMap<CommandId, Waiting>,
    /// Command ids in the order in which their reports came, for the bound.
    order: VecDeque<CommandId>,
    settled: BTreeMap<(String, u32), Report>,
    settled_order: VecDeque<(String, u32)>,
}

impl Outbox {
    pub(super) fn new(machine_key: [u8; 32]) -> Self {
        Self {
            machine_key,
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            settled: BTreeMap::new(),
            settled_order: VecDeque::new(),
        }
    }

    /// Takes a report that is due at once; one that is here already stays as it is. What had to give way is returned.
    pub(super) fn add(&mut self, report: Report, now: u64) -> Option<Report> {
        self.insert(report, 0, now)
    }

    fn insert(&mut self, report: Report, generation: u32, due_ms: u64) -> Option<Report> {
        let id = command_id(&self.machine_key, &report, generation);
        self.waiting.entry(id).or_insert_with(|| {
            self.order.push_back(id);
            Waiting { report, generation, tries: 0, due_ms }
        });
        if self.waiting.len() <= WAITING_MAX {
            return None;
        }
        while let Some(oldest) = self.order.pop_front() {
            if let Some(lost) = self.waiting.remove(&oldest) {
                return Some(lost.report);
            }
        }
        None
    }

    /// Reports whose time has come, each with its command id; they are due again after a longer pause.
    pub(super) fn due(&mut self, now: u64) -> Vec<(CommandId, Report)> {
        let mut due = Vec::new();
        for (id, waiting) in &mut self.waiting {
            if waiting.due_ms <= now {
                let pause = (RETRY_MS_MIN << waiting.tries.min(8)).min(RETRY_MS_MAX);
                waiting.tries += 1;
                waiting.due_ms = now + pause;
                due.push((*id, waiting.report.clone()));
            }
        }
        due
    }

    /// A new session: everything is due, since what the old one carried may be lost.
    pub(super) fn make_due(&mut self, now: u64) {
        for waiting in self.waiting.values_mut() {
            (waiting.due_ms, waiting.tries) = (now, 0);
        }
    }

    /// An acknowledgement with one verdict per command, or none when the relay failed.
    pub(super) fn acked(&mut self, id: &CommandId, verdicts: &[Verdict], now: u64) -> Settled {
        let Some(mut waiting) = self.waiting.remove(id) else { return Settled::Unknown };
        let refused = verdicts.iter().find(|verdict| verdict.code != 0);
        if verdicts.is_empty() {
            waiting.due_ms = waiting.due_ms.min(now + RELAY_AGAIN_MS);
            self.waiting.insert(*id, waiting);
            return Settled::Later;
        }
        let passing = refused.is_some_and(|verdict| PASSING_REFUSALS.contains(&verdict.name.as_str()));
        if passing && waiting.generation < GENERATIONS_MAX {
            // Under its old id the ledger would only repeat the refusal.
            self.insert(waiting.report, waiting.generation + 1, now + RETRY_MS_MIN);
            return Settled::Later;
        }
        self.order.retain(|other| other != id);
        self.settle(waiting.report.clone());
        Settled::Final(waiting.report, refused.cloned())
    }

    fn settle(&mut self, report: Report) {
        let name = (report.key.clone(), report.part);
        if self.settled.insert(name.clone(), report).is_none() {
            self.settled_order.push_back(name);
        }
        while self.settled.len() > SETTLED_MAX {
            let Some(oldest) = self.settled_order.pop_front() else { return };
            self.settled.remove(&oldest);
        }
    }

    /// The assignment is owed again although it was reported: everything about it is sent once more.
    pub(super) fn revive(&mut self, key: &str, now: u64) {
        let range = (key.to_owned(), 0)..=(key.to_owned(), u32::MAX);
        let again: Vec<Report> = self.settled.range(range).map(|(_, report)| report.clone()).collect();
        for report in again {
            self.add(report, now);
        }
    }

    /// The assignment is not owed any more: what was acknowledged about it need not be remembered.
    pub(super) fn forget(&mut self, key: &str) {
        self.settled.retain(|(other, _), _| other != key);
        self.settled_order.retain(|(other, _)| other != key);
    }

    /// Parts of an assignment that are reported, acknowledged or not.
    pub(super) fn parts(&self, key: &str) -> Vec<u32> {
        let waiting = self.waiting.values().filter(|waiting| waiting.report.key == key);
        let settled = self.settled.keys().filter(|(other, _)| other == key);
        let mut parts: Vec<u32> =
            waiting.map(|waiting| waiting.report.part).chain(settled.map(|(_, part)| *part)).collect();
        parts.sort_unstable();
        parts.dedup();
        parts
    }

    /// Assignments with a report that waits for its acknowledgement.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.waiting.values().map(|waiting| waiting.report.key.as_str())
    }
}

/// The same report always has the same id, also after a restart.
fn command_id(machine_key: &[u8; 32], report: &Report, generation: u32) -> CommandId {
    let (generation, part) = (generation.to_le_bytes(), report.part.to_le_bytes());
    let hash = sha256(&[b"MatrixAI/worker/report/v1", machine_key, &generation, &part, report.key.as_bytes()]);
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(key: &str, part: u32) -> Report {
        Report { key: key.to_owned(), part, payload: vec![1] }
    }

    #[test]
    fn more_reports_than_fit_push_out_the_oldest() {
        let mut outbox = Outbox::new([1; 32]);
        for part in 0..WAITING_MAX as u32 {
            assert_eq!(outbox.add(report("a", part), 0), None);
        }
        assert_eq!(outbox.add(report("b", 0), 0), Some(report("a", 0)));
        assert_eq!(outbox.add(report("b", 0), 0), None, "it is here already");
    }

    #[test]
    fn acknowledged_reports_are_remembered_in_bounds() {
        let mut outbox = Outbox::new([1; 32]);
        let done = [Verdict { code: 0, name: "done".to_owned(), detail: String::new() }];
        for part in 0..=SETTLED_MAX as u32 {
            outbox.add(report("a", part), 0);
            let id = command_id(&[1; 32], &report("a", part), 0);
            assert!(matches!(outbox.acked(&id, &done, 0), Settled::Final(_, None)));
        }
        assert_eq!(outbox.parts("a").len(), SETTLED_MAX);
        assert_eq!((outbox.parts("a")[0], outbox.order.len()), (1, 0));
        outbox.forget("a");
        assert_eq!(outbox.parts("a"), Vec::<u32>::new());
        assert!(outbox.settled_order.is_empty());
    }

    #[test]
    fn ids_differ_by_machine_key_part_and_generation() {
        let all = [
            command_id(&[1; 32], &report("a", 0), 0),
            command_id(&[2; 32], &report("a", 0), 0),
            command_id(&[1; 32], &report("b", 0), 0),
            command_id(&[1; 32], &report("a", 1), 0),
            command_id(&[1; 32], &report("a", 0), 1),
        ];
        for (i, id) in all.iter().enumerate() {
            assert!(!all[..i].contains(id));
        }
    }
}
