//! Leases are exclusive by attempt: a report is accepted only from the machine that was owed exactly that work, under that
//! attempt, just before the entry or by what comes before it there, and not after the lease's deadline; and no work is owed to two machines at once.

use super::{First, Verdict, hold};
use crate::sim::entries::Said;
use matrixai_proto::{
    decode_strict,
    v1::{Command, LogEntry, RoundReduced, command::Kind},
};
use matrixai_state::{
    Assignment, State, Task,
    ids::{Key, MachineId},
};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};

const NAME: &str = "lease exclusive by attempt";
/// Entries between two looks at everything that is owed.
const ALL_EVERY: u64 = 100;

/// What was accepted of whom: the state answers a repeated report as it did the first time.
#[derive(Debug, Default)]
pub struct Lease {
    accepted: BTreeSet<(Key, Vec<u8>)>,
}

impl Lease {
    /// A new entry was applied.
    ///
    /// # Errors
    /// A report was accepted without its lease.
    pub fn applied(&mut self, first: First<'_>, said: &[Said]) -> Verdict {
        let mut reported: BTreeSet<Key> = BTreeSet::new();
        for said in said.iter().filter(|said| said.done && said.index == first.seen.entry.index) {
            // What a machine reports first may free its slot for what it reports next in the same entry.
            if lease_of(&said.kind).is_none() {
                continue;
            }
            let repeated = !self.accepted.insert(name_of(said));
            if reported.insert(said.key) && !repeated {
                Self::reported(first, said)?;
            }
        }
        if first.seen.entry.index.is_multiple_of(ALL_EVERY) { Self::exclusive(first.after) } else { Ok(()) }
    }

    fn reported(first: First<'_>, said: &Said) -> Verdict {
        let Some(wanted) = lease_of(&said.kind) else { return Ok(()) };
        let machine = MachineId::of_key(first.before.cluster_id(), &said.key);
        let mut owed = first.before.owed(machine);
        if !owed.iter().any(&wanted) {
            // What comes before it in the entry may have granted it: the time that passes, others' reports, the machine's return.
            owed = just_before(first, said.envelope).owed(machine);
        }
        let lease = owed.iter().find(|assignment| wanted(assignment));
        let index = first.seen.entry.index;
        hold(NAME, lease.is_some(), || {
            let keys: Vec<&str> = owed.iter().map(|assignment| assignment.key.as_str()).collect();
            format!("entry {index} accepts {:?} of machine {machine}, which was owed {keys:?}", said.kind)
        })?;
        let late = lease.filter(|lease| lease.deadline_ms != 0 && lease.deadline_ms < first.seen.applied.now_ms);
        hold(NAME, late.is_none(), || {
            let late_ms = late.map_or(0, |lease| first.seen.applied.now_ms - lease.deadline_ms);
            format!("entry {index} accepts a report {late_ms} ms after its lease's deadline: {:?}", said.kind)
        })
    }

    fn exclusive(state: &State) -> Verdict {
        let mut holders: BTreeMap<Vec<u8>, MachineId> = BTreeMap::new();
        for machine in state.machines().map(|row| row.id) {
            for name in state.owed(machine).iter().flat_map(works) {
                let other = holders.insert(name, machine);
                hold(NAME, other.is_none_or(|other| other == machine), || {
                    format!("at {} the same work is owed to {machine} and {other:?}", state.index())
                })?;
            }
        }
        Ok(())
    }
}

/// What tells a report from others. A member that comes late with the model that the others made is told "done" like
/// them, and nothing changes, so reductions are named by what was made alone.
fn name_of(said: &Said) -> (Key, Vec<u8>) {
    let (key, kind) = match said.kind.clone() {
        Kind::RoundReduced(made) => ([0; 32], Kind::RoundReduced(RoundReduced { cpu_us: 0, ..made })),
        other => (said.key, other),
    };
    (key, Command { kind: Some(kind) }.encode_to_vec())
}

/// The state when an entry's time has passed and so many of its envelopes are applied.
fn just_before(first: First<'_>, envelopes: usize) -> State {
    let mut state = first.before.clone();
    if let Ok(mut entry) = decode_strict::<LogEntry>(&first.seen.entry.data) {
        entry.envelopes.truncate(envelopes);
        state.apply(first.seen.entry.index, &entry.encode_to_vec());
    }
    state
}

/// What one machine alone may hold: names of the segments to train or to replay.
fn works(assignment: &Assignment) -> Vec<Vec<u8>> {
    match &assignment.task {
        Task::Train { context, round, virtual_workers, .. } => {
            let name = |v: &u32| [&context.job.0[..], &round.to_le_bytes(), &v.to_le_bytes()].concat();
            virtual_workers.iter().map(name).collect()
        }
        Task::Replay { context, segment, .. } => {
            vec![[b"replay", &context.job.0[..], &segment.to_le_bytes()].concat()]
        }
        Task::Drill { .. } | Task::Reveal { .. } | Task::Reduce { .. } | Task::Open { .. } | Task::Begin { .. } => {
            Vec::new()
        }
    }
}

/// Whether an assignment is the one that a report needs.
type Matches<'a> = Box<dyn Fn(&Assignment) -> bool + 'a>;

/// Which assignment a report needs, if it needs one.
fn lease_of(kind: &Kind) -> Option<Matches<'_>> {
    Some(match kind {
        Kind::CommitUnit(c) => Box::new(|assignment| {
            matches!(&assignment.task, Task::Drill { unit, attempt, .. }
                if unit.0[..] == c.unit[..] && *attempt == c.attempt)
        }),
        Kind::RevealUnit(c) => {
            Box::new(|assignment| matches!(&assignment.task, Task::Reveal { unit } if unit.0[..] == c.unit[..]))
        }
        Kind::TaskDone(c) => Box::new(|assignment| {
            matches!(&assignment.task, Task::Train { context, round, attempt, virtual_workers, .. }
                if context.job.0[..] == c.job[..] && *round == c.round && *attempt == c.attempt
                    && virtual_workers.contains(&c.virtual_worker))
        }),
        Kind::SegmentReplayed(c) => Box::new(|assignment| {
            matches!(&assignment.task, Task::Replay { context, segment, attempt, .. }
                if context.job.0[..] == c.job[..] && *segment == c.segment && *attempt == c.attempt)
        }),
        Kind::RoundReduced(c) => Box::new(|assignment| {
            matches!(&assignment.task, Task::Reduce { context, round, .. }
                if context.job.0[..] == c.job[..] && *round == c.round)
        }),
        Kind::TraceOpened(c) => Box::new(|assignment| {
            matches!(&assignment.task, Task::Open { job, segment, .. }
                if job.0[..] == c.job[..] && *segment == c.segment)
        }),
        _ => return None,
    })
}
