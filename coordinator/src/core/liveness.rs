//! Which machines are there. Sessions are soft state that coordinators tell each other; only a return or a loss enters
//! the log, and only the leader decides on one.

use matrixai_proto::v1::{MachineLost, MachineOnline, command::Kind};
use matrixai_state::{State, ids::MachineId};
use std::collections::BTreeMap;

/// A session counts as there for this long after it was last told of; status messages come four times as often.
const FRESH_MS: u64 = 1_000;
/// Changes decided at once; the rest follow in the next review.
const CHANGES_MAX: usize = 1_024;
/// A measured round trip is sent again when it has changed by this factor and by more than a millisecond: it is
/// subtracted from measured times, so a stale one would make a machine look slower or faster than it is.
const ROUND_TRIP_FACTOR: u64 = 2;
const ROUND_TRIP_STEP_US: u64 = 1_000;

/// What the leader proposes about a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is there, with this round trip in microseconds.
    Online(MachineId, u64),
    /// Nobody has had a session of it for a whole timeout: for so long, ms.
    Lost(MachineId, u64),
}

impl Change {
    pub(super) fn machine(self) -> MachineId {
        match self {
            Self::Online(machine, _) | Self::Lost(machine, _) => machine,
        }
    }

    pub(super) fn into_command(self) -> Kind {
        match self {
            Self::Online(machine, round_trip_us) => {
                Kind::MachineOnline(MachineOnline { machine: machine.0.to_vec(), round_trip_us })
            }
            Self::Lost(machine, silent_ms) => Kind::MachineLost(MachineLost { machine: machine.0.to_vec(), silent_ms }),
        }
    }
}

/// When each machine's session was last told of.
#[derive(Debug)]
pub(super) struct Liveness {
    timeout_ms: u64,
    seen: BTreeMap<MachineId, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: u64,
    round_trip_us: u64,
}

impl Liveness {
    pub(super) fn new(timeout_ms: u64) -> Self {
        Self { timeout_ms, seen: BTreeMap::new() }
    }

    /// Some coordinator holds a live session of this machine.
    pub(super) fn heard(&mut self, machine: MachineId, round_trip_us: u64, now: u64) {
        self.seen.insert(machine, Seen { at: now, round_trip_us });
    }

    /// What has changed against the state. A leader that has led and listened only since `since` declares no loss before a
    /// whole timeout: it has not heard from everybody yet.
    pub(super) fn changes(&self, state: &State, since: u64, now: u64) -> Vec<Change> {
        let fresh = |seen: &Seen| now.saturating_sub(seen.at) <= FRESH_MS;
        let online = self.seen.iter().filter(|(_, seen)| fresh(seen)).filter_map(|(id, seen)| {
            let row = state.machine(*id)?;
            let moved = row.round_trip_us.abs_diff(seen.round_trip_us) > ROUND_TRIP_STEP_US
                && (seen.round_trip_us > row.round_trip_us.saturating_mul(ROUND_TRIP_FACTOR)
                    || row.round_trip_us > seen.round_trip_us.saturating_mul(ROUND_TRIP_FACTOR));
            (!row.revoked && (!row.online || moved)).then_some(Change::Online(*id, seen.round_trip_us))
        });
        let mut changes: Vec<Change> = online.take(CHANGES_MAX).collect();
        let settled = now.saturating_sub(since) >= self.timeout_ms;
        if settled {
            // Of a machine that nobody has told of, or that is forgotten, a timeout's silence is all that is known.
            let silent = |id: MachineId| self.seen.get(&id).map_or(self.timeout_ms, |seen| now.saturating_sub(seen.at));
            let gone = state.online_machines().map(|id| (id, silent(id))).filter(|(_, ms)| *ms >= self.timeout_ms);
            changes.extend(gone.map(|(id, silent_ms)| Change::Lost(id, silent_ms)).take(CHANGES_MAX));
        }
        changes
    }

    /// Forgets machines that nobody has told of for more than a timeout.
    pub(super) fn forget(&mut self, now: u64) {
        let keep = self.timeout_ms.max(FRESH_MS);
        self.seen.retain(|_, seen| now.saturating_sub(seen.at) <= keep);
    }
}
