//! Computing power: how fast a machine is, and how much it has contributed. Two figures that must not be mixed (PROTOCOLS
//! §4.3a).
//!
//! *Speed* is measured, by kernel: operations of a verified drilling unit over the ledger time from its grant to its
//! commit, less the session's round trip; the median of the last few. It splits trainings and admits to the market.
//! *Power* is earned: equal credit for everyone who took part in a verified unit, whatever the hardware.

use crate::{ids::MachineId, state::State};
use matrixai_protocol::drilling::{Kernel, Workload};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Verified units that a speed is the median of, and below which it is provisional. Few, so that a machine whose speed
/// changes is seen to have changed after three units.
pub const SPEED_SAMPLES: usize = 5;

/// Shortest time a unit is taken to have run, microseconds: the ledger's clock has no finer step.
const ELAPSED_US_MIN: u64 = 1_000;

const US_PER_MS: u64 = 1_000;
const US_PER_S: u128 = 1_000_000;

/// A machine's speed at one kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpeedRow {
    /// Operations (memwalk: reads) per second of the last verified units, oldest first, at most [`SPEED_SAMPLES`].
    pub samples: Vec<u64>,
    /// Verified units ever.
    pub verified: u32,
}

impl SpeedRow {
    /// Median of the samples, the lower one of two; 0 without any.
    pub fn median(&self) -> u64 {
        let mut sorted = [0; SPEED_SAMPLES];
        let newest = self.samples.iter().rev().take(SPEED_SAMPLES);
        let count = sorted.iter_mut().zip(newest).map(|(place, sample)| *place = *sample).count();
        let Some(sorted) = sorted.get_mut(..count) else { return 0 };
        sorted.sort_unstable();
        let middle = count.saturating_sub(1) / 2;
        sorted.get(middle).copied().unwrap_or(0)
    }

    /// The slowest sample; 0 without any.
    pub fn min(&self) -> u64 {
        self.samples.iter().copied().min().unwrap_or(0)
    }

    /// The fastest sample; 0 without any.
    pub fn max(&self) -> u64 {
        self.samples.iter().copied().max().unwrap_or(0)
    }

    /// Whether there are too few samples to rely on.
    pub fn provisional(&self) -> bool {
        self.samples.len() < SPEED_SAMPLES
    }

    fn add(&mut self, ops_per_s: u64) {
        if self.samples.len() >= SPEED_SAMPLES {
            self.samples.remove(0);
        }
        self.samples.push(ops_per_s);
        self.verified = self.verified.saturating_add(1);
    }
}

/// What a machine has shown so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerRow {
    /// By kernel; only kernels with at least one verified unit.
    pub speeds: BTreeMap<Kernel, SpeedRow>,
    /// Earned by drilling, micro-ut.
    pub drilling_micro_ut: u128,
    /// Earned by verified training, micro-ut.
    pub training_micro_ut: u128,
    /// Units it was drawn for.
    pub units_drawn: u32,
    /// Units it took part in that were accepted.
    pub units_accepted: u32,
    /// Units that were rejected or that it forfeited.
    pub units_lost: u32,
    /// Accepted units since the last one lost.
    pub consecutive_valid: u32,
}

impl PowerRow {
    /// Whether its `fgemm` speed is measured.
    pub(crate) fn has_fgemm(&self) -> bool {
        self.speeds.get(&Kernel::Fgemm).is_some_and(|speed| !speed.provisional())
    }
}

/// The `fgemm` speed that trainings are split and matched by: none while it is provisional.
pub(crate) fn measured_fgemm(state: &State, machine: MachineId) -> Option<u64> {
    let speed = state.power.get(&machine)?.speeds.get(&Kernel::Fgemm)?;
    if speed.provisional() { None } else { Some(speed.median()) }
}

/// Whether it has that speed.
pub(crate) fn has_fgemm(state: &State, machine: MachineId) -> bool {
    state.power.get(&machine).is_some_and(PowerRow::has_fgemm)
}

/// The newest `fgemm` speed, operations per second, provisional or not; 0 without any.
pub(crate) fn fgemm(state: &State, machine: MachineId) -> u64 {
    state.power.get(&machine).and_then(|row| row.speeds.get(&Kernel::Fgemm)).map_or(0, SpeedRow::median)
}

/// Time that a unit took by the ledger, microseconds: from grant to commit, less the round trip between them. A machine
/// that answers pings late makes its round trip as long as it likes, so at most half of the time is taken for it.
pub(crate) fn elapsed_us(granted_ms: u64, committed_ms: u64, round_trip_us: u64) -> u64 {
    let whole_us = committed_ms.saturating_sub(granted_ms).saturating_mul(US_PER_MS);
    whole_us.saturating_sub(round_trip_us.min(whole_us.checked_div(2).unwrap_or(0))).max(ELAPSED_US_MIN)
}

/// A machine was drawn for a unit.
pub(crate) fn drawn(state: &mut State, machine: MachineId) {
    let row = row(state, machine);
    row.units_drawn = row.units_drawn.saturating_add(1);
}

/// A machine's unit was accepted: credit and a speed sample.
pub(crate) fn accepted(state: &mut State, machine: MachineId, workload: &Workload, elapsed_us: u64) {
    let ops_per_s = u128::from(workload.ops()).saturating_mul(US_PER_S).checked_div(elapsed_us.into()).unwrap_or(0);
    let row = row(state, machine);
    row.drilling_micro_ut = row.drilling_micro_ut.saturating_add(workload.credit_micro_ut());
    row.units_accepted = row.units_accepted.saturating_add(1);
    row.consecutive_valid = row.consecutive_valid.saturating_add(1);
    row.speeds.entry(workload.kernel()).or_default().add(u64::try_from(ops_per_s).unwrap_or(u64::MAX));
}

/// A machine's unit was rejected, or it forfeited its part.
pub(crate) fn lost(state: &mut State, machine: MachineId) {
    let row = row(state, machine);
    row.units_lost = row.units_lost.saturating_add(1);
    row.consecutive_valid = 0;
}

/// Tasks of a machine were verified and paid.
pub(crate) fn trained(state: &mut State, machine: MachineId, micro_ut: u128) {
    let row = row(state, machine);
    row.training_micro_ut = row.training_micro_ut.saturating_add(micro_ut);
}

fn row(state: &mut State, machine: MachineId) -> &mut PowerRow {
    if !state.power.contains(&machine) {
        state.power.insert(machine, PowerRow::default());
    }
    state.power.get_mut(&machine).expect("the row was put there if it was missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed(samples: &[u64]) -> SpeedRow {
        let mut row = SpeedRow::default();
        samples.iter().for_each(|sample| row.add(*sample));
        row
    }

    #[test]
    fn the_speed_is_the_median_of_the_last_five() {
        let row = speed(&[1, 1, 100, 9, 7, 8, 10]);
        assert_eq!((row.median(), row.min(), row.max(), row.verified), (9, 7, 100, 7));
        assert!(!row.provisional());
        assert_eq!(speed(&[4, 2, 8, 6]).median(), 4);
        assert!(speed(&[4, 2, 8, 6]).provisional());
        assert_eq!(SpeedRow::default().median(), 0);
    }

    #[test]
    fn three_units_at_a_new_speed_move_the_median() {
        assert_eq!(speed(&[100, 100, 100, 100, 100, 25, 25]).median(), 100);
        assert_eq!(speed(&[100, 100, 100, 100, 100, 25, 25, 25]).median(), 25);
    }

    #[test]
    fn the_round_trip_is_not_the_machines_time() {
        assert_eq!(elapsed_us(1_000, 1_500, 20_000), 480_000);
        assert_eq!(elapsed_us(1_000, 1_001, 20_000), ELAPSED_US_MIN);
        assert_eq!(elapsed_us(1_000, 3_000, 2_900_000), 1_000_000, "late pongs make no machine fast");
        assert_eq!(elapsed_us(2_000, 1_000, 0), ELAPSED_US_MIN);
    }
}
