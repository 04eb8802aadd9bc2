//! The ledger's core by itself, for benchmarks alone: typed transfers, without log, envelopes, signatures or idempotency.
//! The feature `measure` opens it; the product is built without.

use crate::{
    context::Context,
    effect::Movement,
    ids::AccountId,
    ledger::{self, Transfer},
    money::Money,
    outcome::Outcome,
    state::State,
};
use std::hint::black_box;

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
