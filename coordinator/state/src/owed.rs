//! What each machine is to do now, recomputed from the state: the coordinators' only source of assignments.
//!
//! Everything an assignment says follows from rows; nothing is remembered of what was sent. So a new leader, or a
//! coordinator that a worker has just reached, says the same, and the key lets the worker recognise it.

use crate::{
    drilling::{ReplicaState, UnitState},
    ids::{AgreementId, Hash, JobId, MachineId, UnitId},
    jobs::{JobRow, JobState, Made, Stage, Standing},
    leases,
    machines::{Lease, Slot},
    state::State,
    verdicts::{ReplayRow, ReplayState},
};
use matrixai_protocol::{drilling::Workload, spec::TrainingSpec};

/// Something a machine is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Names task and attempt; doing one twice is harmless.
    pub key: String,
    /// Ledger time by which it must be reported, ms.
    pub deadline_ms: u64,
    /// What.
    pub task: Task,
}

/// What every task of a training needs to know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainingContext {
    /// The job.
    pub job: JobId,
    /// What is trained.
    pub spec: TrainingSpec,
    /// R after the match.
    pub beacon: Hash,
}

/// The kinds of assignments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Compute a unit and commit to its digest. Holds the slot.
    Drill {
        /// Which unit.
        unit: UnitId,
        /// Fencing number.
        attempt: u32,
        /// Kernel and parameters.
        workload: Workload,
        /// What its inputs are made from.
        seed: Hash,
    },
    /// Every commitment is in: reveal.
    Reveal {
        /// Which unit.
        unit: UnitId,
    },
    /// Compute these virtual workers' rounds, in order, reporting each. Holds the slot.
    Train {
        /// Of which training.
        context: TrainingContext,
        /// The round, from 0.
        round: u32,
        /// Fencing number.
        attempt: u32,
        /// Those not yet reported.
        virtual_workers: Vec<u32>,
        /// Weights artifact that the round starts from.
        weights: Hash,
    },
    /// Reduce a round's deltas, in order, to the next model, and report it.
    Reduce {
        /// Of which training.
        context: TrainingContext,
        /// Rounds behind the result; 0: make the initial model.
        round: u32,
        /// Weights and outer momentum before; none for the initial model.
        before: Option<(Hash, Hash)>,
        /// In order of virtual worker.
        deltas: Vec<Hash>,
    },
    /// Compute one segment again and post the own root. Holds the slot.
    Replay {
        /// Of which training.
        context: TrainingContext,
        /// Which segment.
        segment: u64,
        /// Its round, from 0.
        round: u32,
        /// Its virtual worker.
        virtual_worker: u32,
        /// Fencing number.
        attempt: u32,
        /// Weights artifact that its round started from.
        weights: Hash,
        /// The first and the last model, to be evaluated on the validation rows.
        first: Hash,
        /// See `first`.
        last: Hash,
    },
    /// A verifier has posted: open the seal of a segment.
    Open {
        /// Of which job.
        job: JobId,
        /// Which segment.
        segment: u64,
        /// Its round, from 0.
        round: u32,
        /// Its virtual worker.
        virtual_worker: u32,
    },
    /// It is rented: say that the time of this agreement begins.
    Begin {
        /// Which agreement.
        agreement: AgreementId,
    },
}

impl State {
    /// Everything a machine is owed: what its slot holds, the units it is to reveal, and what its job asks of it without a
    /// slot. At most one lease, as many reveals as drills may wait, one reduction, one opening a challenged segment, and one
    /// agreement to begin.
    pub fn owed(&self, machine: MachineId) -> Vec<Assignment> {
        let Some(row) = self.machines.get(&machine).filter(|row| !row.revoked) else { return Vec::new() };
        let slot = row.slot.and_then(|slot| self.owed_slot(machine, slot));
        let reveals =
            leases::queue(self, machine).reveals.into_iter().filter_map(|unit| self.owed_reveal(machine, unit));
        let job = row.job.and_then(|job| self.jobs.get(&job));
        let reduction = job.and_then(|job| self.owed_reduction(machine, job));
        let openings = job.into_iter().flat_map(|job| self.owed_openings(machine, job));
        let begin = row.agreement.and_then(|agreement| self.owed_begin(agreement));
        slot.into_iter().chain(reveals).chain(reduction).chain(openings).chain(begin).collect()
    }

    fn owed_slot(&self, machine: MachineId, slot: Slot) -> Option<Assignment> {
        match slot.lease {
            Lease::Drill { unit, attempt } => {
                let row = self.units.get(&unit)?;
                let task = Task::Drill { unit, attempt, workload: row.workload, seed: row.seed };
                Some(Assignment { key: format!("drill/{unit}/{attempt}"), deadline_ms: slot.deadline_ms, task })
            }
            Lease::Train { job, attempt } => {
                let row = self.jobs.get(&job)?;
                let lease = row.member(machine)?.leases.iter().find(|lease| lease.attempt == attempt)?;
                let round = row.round;
                let task = Task::Train {
                    context: context(row)?,
                    round,
                    attempt,
                    virtual_workers: lease.left.clone(),
                    weights: self.made(job, round)?.weights,
                };
                let key = format!("train/{job}/{round}/{attempt}");
                Some(Assignment { key, deadline_ms: slot.deadline_ms, task })
            }
            Lease::Replay { job, segment, attempt } => self.owed_replay(slot, job, segment, attempt),
        }
    }

    fn owed_replay(&self, slot: Slot, job: JobId, segment: u64, attempt: u32) -> Option<Assignment> {
        let row = self.jobs.get(&job)?;
        let replay = self.replays.get(&(job, segment))?;
        let task = Task::Replay {
            context: context(row)?,
            segment,
            round: replay.round,
            virtual_worker: replay.virtual_worker,
            attempt,
            weights: self.made(job, replay.round)?.weights,
            first: self.made(job, 0)?.weights,
            last: self.made(job, row.spec.rounds)?.weights,
        };
        let key = format!("replay/{job}/{segment}/{attempt}");
        Some(Assignment { key, deadline_ms: slot.deadline_ms, task })
    }

    fn owed_reveal(&self, machine: MachineId, unit: UnitId) -> Option<Assignment> {
        let row = self.units.get(&unit).filter(|row| row.state == UnitState::Revealing)?;
        row.active().find(|replica| replica.machine == machine && replica.state == ReplicaState::Committed)?;
        let task = Task::Reveal { unit };
        Some(Assignment { key: format!("reveal/{unit}"), deadline_ms: row.reveal_by_ms, task })
    }

    fn owed_reduction(&self, machine: MachineId, job: &JobRow) -> Option<Assignment> {
        let member = job.member(machine)?;
        let reducing = job.state == JobState::Training && job.stage == Stage::Reducing;
        if !reducing || member.standing != Standing::Active || member.vote.is_some() {
            return None;
        }
        let last = job.round.checked_sub(1);
        let before = last.and_then(|round| self.made(job.id, round)).map(|made| (made.weights, made.momentum));
        let deltas =
            last.into_iter().flat_map(|round| self.tasks_of(job.id, round)).map(|(_, task)| task.delta).collect();
        let task = Task::Reduce { context: context(job)?, round: job.round, before, deltas };
        let key = format!("reduce/{}/{}", job.id, job.round);
        Some(Assignment { key, deadline_ms: job.due_ms, task })
    }

    fn owed_openings(&self, machine: MachineId, job: &JobRow) -> Vec<Assignment> {
        if job.state != JobState::Verifying {
            return Vec::new();
        }
        let shut = |replay: &&ReplayRow| replay.prover == machine && replay.state == ReplayState::Replayed;
        let open = |replay: &ReplayRow| Assignment {
            key: format!("open/{}/{}", job.id, replay.segment),
            deadline_ms: replay.due_ms,
            task: Task::Open {
                job: job.id,
                segment: replay.segment,
                round: replay.round,
                virtual_worker: replay.virtual_worker,
            },
        };
        self.replays_of(job.id).filter(shut).map(open).collect()
    }

    fn owed_begin(&self, agreement: AgreementId) -> Option<Assignment> {
        let row = self.agreements.get(&agreement).filter(|row| row.started_ms.is_none())?;
        let task = Task::Begin { agreement };
        Some(Assignment { key: format!("begin/{agreement}"), deadline_ms: row.start_by_ms, task })
    }

    fn made(&self, job: JobId, round: u32) -> Option<&Made> {
        self.rounds.get(&(job, round)).map(|figure| &figure.made)
    }
}

fn context(job: &JobRow) -> Option<TrainingContext> {
    Some(TrainingContext { job: job.id, spec: job.spec.clone(), beacon: job.beacon? })
}
