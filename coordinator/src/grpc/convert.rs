//! Rows of the state as messages of the wire. Wire types stop here: nothing behind this file knows them.
//!
//! What may not be seen yet is left out here: the digest behind a drilling result before the unit's verdict.

mod admin;
mod drilling;
mod economy;
mod jobs;
mod market;
#[cfg(test)]
mod tests;

pub(crate) use admin::policy;
pub(crate) use drilling::{drilling, unit};
pub(crate) use economy::economy;
pub(crate) use jobs::{closed, job, jobs, spec};
pub(crate) use market::{explanation, listing, offers, orders, outlook, suggestion, trades};

use crate::history::Record;
use matrixai_proto::v1;
use matrixai_state::{
    State,
    accounts::AccountRow,
    effect::Reference,
    ids::{AccountId, MachineId},
    ledger::two_phase::HeldTransfer,
    machines::{Inventory, MachineRow},
};
use std::fmt;
use tonic::Status;

/// Rows in an answer to a request that names no limit.
pub(crate) const LIST_DEFAULT: usize = 100;

/// Units in an answer to a request that names no limit.
pub(crate) const UNITS_DEFAULT: usize = 20;

/// Most rows in an answer.
const LIST_MAX: usize = 1_000;

/// Most machines or offers in an answer, which the protocol lists without a limit of the caller's.
const WHOLE_LIST_MAX: usize = 10_000;

/// The number of rows that a request with this limit gets.
pub(crate) fn limit(asked: u32, default: usize) -> usize {
    if asked == 0 { default } else { usize::try_from(asked).unwrap_or(LIST_MAX).min(LIST_MAX) }
}

/// An id of a request.
///
/// # Errors
/// INVALID_ARGUMENT when it is none.
pub(crate) fn id(field: &str, bytes: &[u8]) -> Result<[u8; 20], Status> {
    bytes.try_into().map_err(|_| Status::invalid_argument(format!("{field} must be 20 bytes long")))
}

/// An id that may be left out.
///
/// # Errors
/// INVALID_ARGUMENT when there are bytes that are none.
pub(crate) fn optional_id(field: &str, bytes: &[u8]) -> Result<Option<[u8; 20]>, Status> {
    if bytes.is_empty() { Ok(None) } else { id(field, bytes).map(Some) }
}

/// The answer to a request for what does not exist.
pub(crate) fn unknown(what: &str, id: &dyn fmt::Display) -> Status {
    Status::not_found(format!("there is no {what} {id}"))
}

/// An account.
pub(crate) fn account(state: &State, row: &AccountRow) -> v1::Account {
    v1::Account {
        id: row.id.0.to_vec(),
        key: row.key.map(Vec::from).unwrap_or_default(),
        role: row.role_name().to_owned(),
        balance: row.balance.to_string(),
        held: row.held.to_string(),
        created_ms: row.created_ms,
        recovery_key: row.recovery_key.as_deref().map(|key| key.to_vec()).unwrap_or_default(),
        payout: state.payout(row.id).map(|id| id.0.to_vec()).unwrap_or_default(),
        locked: state.locked(row.id).to_string(),
    }
}

/// A line of a statement.
pub(crate) fn movement(record: Record) -> v1::Movement {
    let mut wire = v1::Movement {
        sequence: record.sequence,
        index: record.index,
        now_ms: record.now_ms,
        account: record.account.0.to_vec(),
        counterparty: record.counterparty.map(|id| id.0.to_vec()).unwrap_or_default(),
        cause: record.cause,
        balance_change: record.balance_change.to_string(),
        held_change: record.held_change.to_string(),
        balance: record.balance.to_string(),
        held: record.held.to_string(),
        memo: record.memo,
        ..v1::Movement::default()
    };
    match record.reference {
        None => {}
        Some(Reference::Job(id)) => wire.job = id.0.to_vec(),
        Some(Reference::Hold(id)) => wire.hold = id.0.to_vec(),
        Some(Reference::Epoch(epoch)) => wire.epoch = epoch,
        Some(Reference::Proposal(id)) => wire.proposal = id.0.to_vec(),
        Some(Reference::Order(id)) => wire.order = id.0.to_vec(),
        Some(Reference::Agreement(id)) => wire.agreement = id.0.to_vec(),
    }
    wire
}

/// Money that one account has set aside for another.
pub(crate) fn hold(row: &HeldTransfer) -> v1::Hold {
    v1::Hold {
        id: row.id.0.to_vec(),
        payer: row.payer.0.to_vec(),
        to: row.to.0.to_vec(),
        amount: row.amount.to_string(),
        expires_ms: row.expires_ms,
        memo: row.memo.as_deref().unwrap_or_default().to_owned(),
    }
}

/// All machines, or one account's, in order of id.
pub(crate) fn machines(state: &State, owner: Option<[u8; 20]>) -> Vec<v1::Machine> {
    let owner = owner.map(AccountId);
    let wanted = state.machines().filter(|row| owner.is_none_or(|owner| row.owner == owner));
    wanted.take(WHOLE_LIST_MAX).map(|row| machine(state, row)).collect()
}

fn machine(state: &State, row: &MachineRow) -> v1::Machine {
    let power = state.power(row.id).cloned().unwrap_or_default();
    v1::Machine {
        id: row.id.0.to_vec(),
        owner: row.owner.0.to_vec(),
        key: row.key.to_vec(),
        status: row.status().to_owned(),
        inventory: Some(inventory(&row.inventory)),
        speeds: drilling::speeds(state, row.id),
        drilling_micro_ut: power.drilling_micro_ut.to_string(),
        training_micro_ut: power.training_micro_ut.to_string(),
        units_accepted: power.units_accepted,
        units_lost: power.units_lost,
        round_trip_us: row.round_trip_us,
        enrolled_ms: row.enrolled_ms,
        reliability: Some(market::reliability(row.reliability)),
        owner_reliability: Some(market::reliability(state.conduct(row.owner).seller)),
    }
}

/// All computing power that a machine ever earned, micro-ut.
fn micro_ut(state: &State, machine: MachineId) -> String {
    let power = state.power(machine).cloned().unwrap_or_default();
    power.drilling_micro_ut.saturating_add(power.training_micro_ut).to_string()
}

fn inventory(found: &Inventory) -> v1::Inventory {
    let gpus = found.gpus.iter().map(|gpu| v1::Gpu { model: gpu.model.clone(), ram_bytes: gpu.ram_bytes });
    v1::Inventory {
        cpu_model: found.cpu_model.clone(),
        cores: found.cores,
        isa: found.isa.clone(),
        ram_bytes: found.ram_bytes,
        disk_bytes: found.disk_bytes,
        gpus: gpus.collect(),
        os: found.os.clone(),
        region: found.region.clone(),
    }
}
