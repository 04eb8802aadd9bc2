//! Machines: who owns them, what they say they have, whether they are there, and what their one compute slot does.

use crate::{
    agreements,
    command::{EnrolMachine, MachineLost, MachineOnline, RevokeMachine},
    context::Context,
    ids::{AccountId, AgreementId, JobId, Key, MachineId, UnitId},
    leases, market,
    outcome::{Detail, Outcome, Refusal},
    reliability::Reliability,
    state::{KeyOwner, State},
};
use serde::{Deserialize, Serialize};

/// Machines of one account.
pub const MACHINES_PER_ACCOUNT_MAX: u32 = 10_000;
/// Bytes of one text of an inventory.
pub const INVENTORY_TEXT_BYTES_MAX: usize = 128;
/// Instruction-set extensions in an inventory.
pub const INVENTORY_ISA_MAX: usize = 32;
/// GPUs in an inventory.
pub const INVENTORY_GPUS_MAX: usize = 16;
/// Length of an ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// A machine as its worker found it. Provenance: claimed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Model of the processor.
    pub cpu_model: String,
    /// Cores that the worker may use.
    pub cores: u32,
    /// Instruction-set extensions that matter for speed.
    pub isa: Vec<String>,
    /// Memory, bytes.
    pub ram_bytes: u64,
    /// Disk, bytes.
    pub disk_bytes: u64,
    /// Graphics processors.
    pub gpus: Vec<Gpu>,
    /// Operating system.
    pub os: String,
    /// Where its owner says that it stands; empty if nothing is said.
    pub region: String,
}

/// A graphics processor of an inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Model.
    pub model: String,
    /// Memory, bytes.
    pub ram_bytes: u64,
}

/// What a compute slot does: one lease at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lease {
    /// A replica of a drilling unit.
    Drill {
        /// Which unit.
        unit: UnitId,
        /// Fencing number.
        attempt: u32,
    },
    /// Virtual workers of a round.
    Train {
        /// Which job.
        job: JobId,
        /// Fencing number.
        attempt: u32,
    },
    /// The replay of a segment.
    Replay {
        /// Which job.
        job: JobId,
        /// Which segment.
        segment: u64,
        /// Fencing number.
        attempt: u32,
    },
}

/// A granted lease and its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// What for.
    pub lease: Lease,
    /// Ledger time of the grant, ms.
    pub granted_ms: u64,
    /// Ledger time by which it must be reported, ms.
    pub deadline_ms: u64,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRow {
    /// Its id.
    pub id: MachineId,
    /// Its key.
    pub key: Key,
    /// The account that enrolled it and is paid for it.
    pub owner: AccountId,
    /// What its worker found (claimed).
    pub inventory: Inventory,
    /// Ledger time of the enrolment, ms.
    pub enrolled_ms: u64,
    /// Whether a coordinator holds a live session of it.
    pub online: bool,
    /// Ledger time at which `online` last changed, ms.
    pub seen_ms: u64,
    /// Round trip of its session, microseconds (measured).
    pub round_trip_us: u64,
    /// Revoked by its owner; for good.
    pub revoked: bool,
    /// Proven to have reported something wrong: takes no part in drilling or the market.
    pub suspended: bool,
    /// The job it is rented to.
    pub job: Option<JobId>,
    /// Or the agreement that it is rented under.
    pub agreement: Option<AgreementId>,
    /// What it completed under both, and what failed by its fault.
    pub reliability: Reliability,
    /// What its compute slot does. Granted and freed by `leases.rs` only.
    pub slot: Option<Slot>,
}

impl MachineRow {
    /// Whether it may be given work: enrolled, not suspended, and there.
    pub fn available(&self) -> bool {
        self.online && !self.revoked && !self.suspended
    }

    /// Whether nobody has rented it.
    pub fn is_free(&self) -> bool {
        self.job.is_none() && self.agreement.is_none()
    }

    /// The wire's status.
    pub fn status(&self) -> &'static str {
        if self.revoked {
            "revoked"
        } else if self.suspended {
            "suspended"
        } else if !self.online {
            "offline"
        } else if !self.is_free() {
            "rented"
        } else if self.slot.is_some() {
            "drilling"
        } else {
            "idle"
        }
    }
}

/// Enrols a machine. The possession signature is checked at the edge and by auditors; here only its length.
pub(crate) fn enrol(state: &mut State, ctx: &mut Context, owner: AccountId, cmd: &EnrolMachine) -> Outcome {
    if cmd.possession.len() != SIGNATURE_BYTES {
        return Refusal::Malformed(Detail::new("possession must be 64 bytes")).into();
    }
    if let Err(detail) = check_inventory(&cmd.inventory) {
        return Refusal::BadInventory(detail).into();
    }
    match state.keys.get(&cmd.machine_key) {
        None => {}
        Some(KeyOwner::Machine(_)) => return Refusal::MachineEnrolled.into(),
        Some(KeyOwner::Account(..) | KeyOwner::Node(_) | KeyOwner::Retired(_)) => return Refusal::KeyInUse.into(),
    }
    let Some(account) = state.accounts.get_mut(&owner) else { return Refusal::UnknownAccount.into() };
    if account.machines >= MACHINES_PER_ACCOUNT_MAX {
        return Refusal::TooManyMachines.into();
    }
    account.machines = account.machines.saturating_add(1);
    let id = MachineId::of_key(&state.cluster_id, &cmd.machine_key);
    let row = MachineRow {
        id,
        key: cmd.machine_key,
        owner,
        inventory: cmd.inventory.clone(),
        enrolled_ms: ctx.now_ms,
        online: false,
        seen_ms: ctx.now_ms,
        round_trip_us: 0,
        revoked: false,
        suspended: false,
        job: None,
        agreement: None,
        reliability: Reliability::default(),
        slot: None,
    };
    state.by_memory.insert((row.inventory.ram_bytes, id), owner);
    state.machines.insert(id, row);
    state.keys.insert(cmd.machine_key, KeyOwner::Machine(id));
    ctx.event("machine.enrolled", id, format!("Account {owner} enrolled machine {id}."));
    Outcome::made(id)
}

/// Revokes a machine: its key, its offers and its leases end.
pub(crate) fn revoke(state: &mut State, ctx: &mut Context, owner: AccountId, cmd: &RevokeMachine) -> Outcome {
    let Some(row) = state.machines.get_mut(&cmd.machine) else { return Refusal::UnknownMachine.into() };
    if row.owner != owner {
        return Refusal::NotYourMachine.into();
    }
    if row.revoked {
        return Refusal::MachineRevoked.into();
    }
    row.revoked = true;
    let memory = row.inventory.ram_bytes;
    state.by_memory.remove(&(memory, cmd.machine));
    ctx.event("machine.revoked", cmd.machine, format!("Its owner revoked machine {}.", cmd.machine));
    withdraw(state, ctx, cmd.machine);
    Outcome::DONE
}

/// Takes a machine whose result was proven wrong out of drilling and market, for good in this version.
pub(crate) fn suspend(state: &mut State, ctx: &mut Context, machine: MachineId, why: &str) {
    let Some(row) = state.machines.get_mut(&machine) else { return };
    if row.suspended {
        return;
    }
    row.suspended = true;
    let memory = row.inventory.ram_bytes;
    state.by_memory.remove(&(memory, machine));
    ctx.event("machine.suspended", machine, format!("Machine {machine} is suspended: {why}."));
    withdraw(state, ctx, machine);
}

/// A coordinator holds a live session of a machine.
pub(crate) fn online(state: &mut State, ctx: &mut Context, cmd: &MachineOnline) -> Outcome {
    let Some(row) = state.machines.get_mut(&cmd.machine) else { return Refusal::UnknownMachine.into() };
    if row.revoked {
        return Refusal::MachineRevoked.into();
    }
    row.round_trip_us = cmd.round_trip_us;
    ctx.owed(cmd.machine);
    if row.online {
        return Outcome::DONE;
    }
    row.online = true;
    row.seen_ms = ctx.now_ms;
    state.online.insert(cmd.machine, ());
    ctx.event("machine.online", cmd.machine, format!("Machine {} is online.", cmd.machine));
    leases::machine_online(state, ctx, cmd.machine);
    agreements::machine_online(state, ctx.now_ms, cmd.machine);
    market::machine_changed(state, ctx, cmd.machine);
    Outcome::DONE
}

/// No coordinator has had a live session of a machine for a whole timeout.
pub(crate) fn lost(state: &mut State, ctx: &mut Context, cmd: &MachineLost) -> Outcome {
    let Some(row) = state.machines.get(&cmd.machine) else { return Refusal::UnknownMachine.into() };
    if !row.online {
        return Refusal::MachineOffline.into();
    }
    ctx.event("machine.lost", cmd.machine, format!("Machine {} is lost.", cmd.machine));
    offline(state, ctx, cmd.machine, cmd.silent_ms);
    Outcome::DONE
}

/// What revocation and suspension have in common.
fn withdraw(state: &mut State, ctx: &mut Context, machine: MachineId) {
    market::withdraw_all(state, ctx, machine);
    agreements::machine_gone(state, ctx, machine);
    offline(state, ctx, machine, 0);
}

fn offline(state: &mut State, ctx: &mut Context, machine: MachineId, silent_ms: u64) {
    if let Some(row) = state.machines.get_mut(&machine) {
        row.online = false;
        row.seen_ms = ctx.now_ms;
    }
    state.online.remove(&machine);
    agreements::machine_lost(state, ctx.now_ms, machine, silent_ms);
    market::machine_changed(state, ctx, machine);
    leases::machine_lost(state, ctx, machine);
    ctx.owed(machine);
}

fn check_inventory(inventory: &Inventory) -> Result<(), Detail> {
    let texts = [&inventory.cpu_model, &inventory.os, &inventory.region]
        .into_iter()
        .chain(&inventory.isa)
        .chain(inventory.gpus.iter().map(|gpu| &gpu.model));
    if let Some(long) = texts.into_iter().find(|text| text.len() > INVENTORY_TEXT_BYTES_MAX) {
        return Err(Detail::new(format_args!("a text of {} bytes, at most {INVENTORY_TEXT_BYTES_MAX}", long.len())));
    }
    if inventory.isa.len() > INVENTORY_ISA_MAX || inventory.gpus.len() > INVENTORY_GPUS_MAX {
        return Err(Detail::new(format_args!(
            "at most {INVENTORY_ISA_MAX} extensions and {INVENTORY_GPUS_MAX} GPUs are listed"
        )));
    }
    if inventory.cores == 0 || inventory.ram_bytes == 0 {
        return Err(Detail::new("a machine has at least one core and some memory"));
    }
    Ok(())
}
