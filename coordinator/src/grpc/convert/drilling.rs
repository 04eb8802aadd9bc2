//! Campaigns, units and what they have measured, as messages of the wire.

use matrixai_proto::v1;
use matrixai_state::{
    State,
    drilling::{CampaignRow, Replica, UnitRow},
    ids::MachineId,
};

/// All campaigns, the newest units and the beacon.
pub(crate) fn drilling(state: &State, newest_units: usize) -> v1::GetDrillingReply {
    let (beat, beacon) = state.beacon();
    let units = state.newest_units().take(newest_units);
    v1::GetDrillingReply {
        campaigns: state.campaigns().map(campaign).collect(),
        units: units.map(unit).collect(),
        beat,
        beacon: beacon.to_vec(),
    }
}

fn campaign(row: &CampaignRow) -> v1::Campaign {
    v1::Campaign {
        id: row.id.0.to_vec(),
        kernel: row.workload.kernel().as_str().to_owned(),
        params: row.workload.params().to_vec(),
        units: row.units,
        redundancy: row.redundancy,
        interval_ms: row.interval_ms,
        drawn: row.drawn,
        accepted: row.accepted,
        rejected: row.rejected,
        difficulty_ops: row.workload.ops(),
    }
}

/// A unit; its digests only as hashes, and only after the verdict.
pub(crate) fn unit(row: &UnitRow) -> v1::Unit {
    v1::Unit {
        id: row.id.0.to_vec(),
        campaign: row.campaign.0.to_vec(),
        kernel: row.workload.kernel().as_str().to_owned(),
        params: row.workload.params().to_vec(),
        seed: row.seed.to_vec(),
        beacon: row.beacon.to_vec(),
        beat: row.beat,
        state: row.state.as_str().to_owned(),
        replicas: row.replicas.iter().map(|each| replica(row, each)).collect(),
        micro_ut: row.credit_micro_ut().to_string(),
    }
}

fn replica(unit: &UnitRow, row: &Replica) -> v1::Replica {
    v1::Replica {
        machine: row.machine.0.to_vec(),
        attempt: row.attempt,
        state: row.state.as_str().to_owned(),
        granted_ms: row.granted_ms,
        committed_ms: row.committed_ms,
        commitment: row.commitment.map(Vec::from).unwrap_or_default(),
        digest_hash: unit.digest_hash(row).map(Vec::from).unwrap_or_default(),
    }
}

/// The measured speeds of a machine, a row a kernel.
pub(super) fn speeds(state: &State, machine: MachineId) -> Vec<v1::Speed> {
    let Some(power) = state.power(machine) else { return Vec::new() };
    let speed = |(kernel, row): (&matrixai_protocol::drilling::Kernel, &matrixai_state::power::SpeedRow)| v1::Speed {
        kernel: kernel.as_str().to_owned(),
        ops_per_s: row.median(),
        min_ops_per_s: row.min(),
        max_ops_per_s: row.max(),
        samples: row.verified,
        provisional: row.provisional(),
    };
    power.speeds.iter().map(speed).collect()
}
