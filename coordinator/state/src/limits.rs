//! What an account may use of what everybody shares: commands a second, open offers and jobs, bytes of artifacts, rows.
//!
//! | limit | enforced |
//! |---|---|
//! | commands a second | here, exactly, by a token bucket in ledger time, for each key of the account (its own, and each of its machines'); beforehand at the coordinators' edge, two seconds of refill more generous, so that a flood does not reach the log |
//! | open offers, orders and jobs | here, exactly |
//! | bytes of artifacts | at the edge of each coordinator, which counts what it has taken from the account and from its machines that are not rented out; the figure is read from this state |
//! | minimum balance | here, exactly: what an account must keep. Opening an account takes it, so all rows together are at most the money there is divided by it |
//!
//! Keys that nobody has are no account's: what they may send is in `strangers.rs` here, and how much of it at the edge.
//!
//! Zero is no limit, and what genesis sets where it says nothing.

use crate::{
    context::Context,
    ids::{AccountId, CommandId, Key},
    ledger,
    money::Money,
    outcome::{Detail, Refusal},
    state::{KeyOwner, State},
};
use serde::{Deserialize, Serialize};

/// Highest rate and burst, commands.
pub const RATE_MAX: u32 = 1_000_000;
/// Buckets forgotten in one entry: more than an entry can make, so forgetting keeps up.
const FORGOTTEN_PER_ENTRY_MAX: u32 = 8_192;
/// A command, in the bucket's unit: at a rate of r commands a second, r units flow back each millisecond.
const COMMAND: u64 = 1_000;

/// What an account may use; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Commands a second of each key.
    pub commands_per_s: u32,
    /// Commands that may come at once.
    pub burst: u32,
    /// Offers, orders and jobs that are not closed.
    pub open_max: u32,
    /// Bytes of artifacts that one coordinator takes.
    pub storage_bytes: u64,
}

impl Limits {
    /// # Errors
    /// `bad_limits` says which figure makes no sense.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let bad = |what| Err(Refusal::BadLimits(Detail::new(what)));
        if self.commands_per_s > RATE_MAX || self.burst > RATE_MAX {
            return bad("rate and burst are at most 1,000,000 commands");
        }
        if (self.commands_per_s == 0) != (self.burst == 0) {
            return bad("a rate needs a burst and a burst a rate");
        }
        Ok(())
    }
}

/// What a key has left to spend. A key without a row has a full bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RateRow {
    /// Thousandths of a command, at `at_ms`.
    level: u64,
    at_ms: u64,
    /// When the bucket will be full again, and this row nothing new.
    full_ms: u64,
}

impl State {
    /// What an account may use: its own limits, or the network's.
    pub fn limits_of(&self, account: AccountId) -> Limits {
        self.limits.get(&account).copied().unwrap_or(self.policy.limits)
    }

    /// Accounts with limits of their own, in order of id.
    pub fn own_limits(&self) -> impl Iterator<Item = (AccountId, Limits)> + '_ {
        self.limits.iter().map(|(account, limits)| (*account, *limits))
    }

    /// Whether a key may send an envelope of this many commands `ahead_ms` of ledger time from now, or has sent it before;
    /// for the edge.
    pub fn has_rate(&self, key: &Key, id: &CommandId, commands: usize, ahead_ms: u64) -> bool {
        let now_ms = self.head.now_ms.saturating_add(ahead_ms);
        let remembered = || self.keys.find(key).is_some_and(|signer| self.windows.get(signer, id).is_some());
        left_after(self, key, commands, now_ms).is_ok() || remembered()
    }
}

/// Takes an envelope's commands out of its key's bucket.
///
/// # Errors
/// `rate_limited`; nothing has changed then.
pub(crate) fn charge(state: &mut State, ctx: &Context, key: &Key, commands: usize) -> Result<(), Refusal> {
    let Some(row) = left_after(state, key, commands, ctx.now_ms)? else { return Ok(()) };
    if let Some(old) = state.rates.insert(*key, row) {
        state.rate_expiry.remove(&(old.full_ms, *key));
    }
    state.rate_expiry.insert((row.full_ms, *key), ());
    Ok(())
}

/// A key takes over the bucket of the one before it: a new key must not mean a full bucket.
pub(crate) fn rotated(state: &mut State, old: &Key, new: Key) {
    if let Some(row) = state.rates.remove(old) {
        state.rate_expiry.remove(&(row.full_ms, *old));
        state.rates.insert(new, row);
        state.rate_expiry.insert((row.full_ms, new), ());
    }
}

/// Forgets buckets that are full again.
pub(crate) fn expire(state: &mut State, now_ms: u64) {
    for _ in 0..FORGOTTEN_PER_ENTRY_MAX {
        let Some((full_ms, key)) = state.rate_expiry.first().map(|(due, ())| *due) else { return };
        if full_ms > now_ms {
            return;
        }
        state.rate_expiry.remove(&(full_ms, key));
        state.rates.remove(&key);
    }
}

/// The bucket of a key after these commands; none for keys without a limit.
fn left_after(state: &State, key: &Key, commands: usize, now_ms: u64) -> Result<Option<RateRow>, Refusal> {
    // Most networks limit nobody: nothing is looked up then.
    if state.policy.limits.commands_per_s == 0 && state.limits.is_empty() {
        return Ok(None);
    }
    let account = match state.keys.get(key) {
        Some(KeyOwner::Account(account, _) | KeyOwner::Retired(account)) => *account,
        Some(KeyOwner::Machine(machine)) => match state.machines.get(machine) {
            Some(row) => row.owner,
            None => return Ok(None),
        },
        // Nodes keep the cluster going; a stranger opens an account, which costs what the network asks for it.
        Some(KeyOwner::Node(_)) | None => return Ok(None),
    };
    let Limits { commands_per_s, burst, .. } = state.limits_of(account);
    let rate = u64::from(commands_per_s);
    if rate == 0 {
        return Ok(None);
    }
    let capacity = u64::from(burst).saturating_mul(COMMAND);
    let level = state.rates.get(key).map_or(capacity, |row| {
        let refill = now_ms.saturating_sub(row.at_ms).saturating_mul(rate);
        row.level.saturating_add(refill).min(capacity)
    });
    let cost = (commands as u64).saturating_mul(COMMAND);
    let level = level.checked_sub(cost).ok_or(Refusal::RateLimited)?;
    let full_ms = now_ms.saturating_add(capacity.saturating_sub(level).div_ceil(rate));
    Ok(Some(RateRow { level, at_ms: now_ms, full_ms }))
}

/// Whether an account may have one more open offer, order or job.
///
/// # Errors
/// `too_many_open`.
pub(crate) fn check_open(state: &State, account: AccountId) -> Result<(), Refusal> {
    let max = state.limits_of(account).open_max;
    let open = state.accounts.get(&account).map_or(0, |row| row.open);
    if max != 0 && open >= max { Err(Refusal::TooManyOpen) } else { Ok(()) }
}

/// An offer, order or job of an account is open from now on.
pub(crate) fn opened(state: &mut State, account: AccountId) {
    if let Some(row) = state.accounts.get_mut(&account) {
        row.open = row.open.saturating_add(1);
    }
}

/// An offer, order or job of an account is closed.
pub(crate) fn closed(state: &mut State, account: AccountId) {
    if let Some(row) = state.accounts.get_mut(&account) {
        row.open = row.open.checked_sub(1).expect("what is closed was counted when it was opened");
    }
}

/// What an account may spend: its balance less the minimum that it must keep.
pub(crate) fn spendable(state: &State, account: AccountId) -> Money {
    ledger::balance(state, account).saturating_sub(state.policy.minimum_balance)
}
