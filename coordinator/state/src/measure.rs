//! For benchmarks alone: the ledger's core by itself (typed transfers, without log, envelopes, signatures or idempotency), and
//! machines that need no drilling.
//! The feature `measure` opens it; the product is built without.

use crate::{
    context::Context,
    effect::Movement,
    ids::{AccountId, MachineId},
    ledger::{self, Transfer},
    machines::{Inventory, MachineRow},
    money::Money,
    outcome::Outcome,
    power::{PowerRow, SPEED_SAMPLES, SpeedRow},
    reliability::Reliability,
    state::{KeyOwner, State},
};
use matrixai_protocol::drilling::Kernel;
use std::hint::black_box;

/// Gives an account a machine of an ordinary kind that is online and measured, and returns its id.
pub fn machine(state: &mut State, owner: AccountId, number: u64) -> MachineId {
    machine_of(state, owner, number, Inventory { cores: 8, ram_bytes: 32 << 30, ..Inventory::default() })
}

/// The same of a kind of its own.
pub fn machine_of(state: &mut State, owner: AccountId, number: u64, inventory: Inventory) -> MachineId {
    let mut key = [0; 32];
    key.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    let id = MachineId::of_key(&state.cluster_id, &key);
    let row = MachineRow {
        id,
        key,
        owner,
        inventory,
        enrolled_ms: state.head.now_ms,
        online: true,
        seen_ms: state.head.now_ms,
        round_trip_us: 0,
        revoked: false,
        suspended: false,
        job: None,
        agreement: None,
        reliability: Reliability::default(),
        slot: None,
    };
    let speed = SpeedRow { samples: vec![1_000_000_000; SPEED_SAMPLES], verified: SPEED_SAMPLES as u32 };
    state.power.insert(id, PowerRow { speeds: [(Kernel::Fgemm, speed)].into(), ..PowerRow::default() });
    state.by_memory.insert((row.inventory.ram_bytes, id), owner);
    state.online.insert(id, ());
    state.machines.insert(id, row);
    state.keys.insert(key, KeyOwner::Machine(id));
    id
}

/// Transfers whose rows are looked up together, as [`State::apply`] does.
const AHEAD: usize = 48;

/// Applies transfers (from, to, amount) and returns how many were done, and their movements.
pub fn transfers(state: &mut State, transfers: &[(AccountId, AccountId, Money)]) -> (usize, Vec<Movement>) {
    let mut ctx = Context::new(state.index(), state.now_ms());
    ctx.movements.reserve(transfers.len().saturating_mul(2));
    let mut done = 0usize;
    let mut hashes = Vec::with_capacity(AHEAD);
    let mut places = Vec::with_capacity(AHEAD);
    for group in transfers.chunks(AHEAD) {
        let accounts = &state.accounts;
        let mut seen = 0;
        hashes.clear();
        for (from, to, _) in group {
            let both = (accounts.hash(from), accounts.hash(to));
            seen ^= accounts.touch(both.0) ^ accounts.touch(both.1);
            hashes.push(both);
        }
        for hashes in &hashes {
            seen ^= accounts.fetch(hashes.0) ^ accounts.fetch(hashes.1);
        }
        places.clear();
        for ((from, to, _), hashes) in group.iter().zip(&hashes) {
            places.push((accounts.find_hashed(hashes.0, from), accounts.find_hashed(hashes.1, to)));
        }
        black_box(seen);
        for ((from, to, amount), places) in group.iter().zip(&places) {
            let (from, to, amount, places) = (*from, *to, *amount, *places);
            let outcome =
                ledger::transfer(state, &mut ctx, Transfer { from, to, places, amount, memo: None, open: false });
            done = done.saturating_add(usize::from(outcome == Outcome::DONE));
        }
    }
    (done, ctx.movements)
}
