//! The ledger: the only place where a balance changes.
//!
//! Every function here is all or nothing, and every change it makes leaves a [`Movement`]. Money appears and
//! disappears in `ledger/supply.rs` alone, so minted − burned = Σ (balance + held) after every command; an account's `held` is
//! the sum of what remains of its holds.
//!
//! A hold belongs to one job: `hold_for_job` → `release`* → (`pay_from_hold` | `fee_from_hold`)* → `refund`,
//! which closes it. A closed hold stays as the job's receipt: held = paid + fees + refunded. What people hold for each other
//! is in `ledger/two_phase.rs`.

pub(crate) mod orders;
pub mod supply;
pub mod two_phase;

use crate::{
    accounts::{AccountRole, AccountRow, keys},
    command::FaucetDraw,
    context::{About, Context},
    effect::{Cause, Memo, Movement, Reference},
    ids::{AccountId, JobId},
    limits,
    money::Money,
    outcome::{Outcome, Refusal},
    plants::{Plant, planted},
    registry::Place,
    state::State,
};
use serde::{Deserialize, Serialize};

/// Longest memo of a transfer, bytes.
pub const MEMO_BYTES_MAX: usize = 256;
/// Window of the faucet's limit, ms.
const DAY_MS: u64 = 86_400_000;
/// Draws remembered per account. Beyond it the two oldest count as one of the later time: never too generous, always
/// bounded.
const FAUCET_DRAWS_MAX: usize = 32;

/// Money set aside for one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRow {
    /// Whose job.
    pub job: JobId,
    /// Whose money.
    pub payer: AccountId,
    /// What the hold was set to: at submission the order's total limit, from the match on the agreement's price.
    pub held: Money,
    /// Paid out of it so far, fees not included.
    pub paid: Money,
    /// Charged as fees out of it so far.
    pub fees: Money,
    /// Given back at its close.
    pub refunded: Money,
    /// Whether it still holds anything to decide on.
    pub open: bool,
}

impl HoldRow {
    /// What is still on hold.
    pub fn remaining(&self) -> Money {
        self.held.saturating_sub(self.paid).saturating_sub(self.fees).saturating_sub(self.refunded)
    }
}

/// What an account drew from the faucet lately.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaucetRow {
    /// Ledger time (ms) and amount, ascending.
    pub draws: Vec<(u64, Money)>,
}

/// Draws test money: at most `faucet_daily` in any 24 h, and `faucet_total` on the whole network.
pub(crate) fn faucet_draw(state: &mut State, ctx: &mut Context, account: AccountId, cmd: &FaucetDraw) -> Outcome {
    if !state.genesis.test_network {
        return Refusal::NoFaucet.into();
    }
    if cmd.amount.is_zero() {
        return Refusal::ZeroAmount.into();
    }
    let since = ctx.now_ms.saturating_sub(DAY_MS);
    let mut row = state.faucet.get(&account).cloned().unwrap_or_default();
    // A draw counts for a whole day after it: one made exactly a day ago no longer does.
    row.draws.retain(|(at, _)| *at > since);
    let drawn = row.draws.iter().try_fold(cmd.amount, |sum, (_, amount)| sum.checked_add(*amount));
    if drawn.is_none_or(|drawn| drawn > state.genesis.faucet_daily) {
        return Refusal::FaucetDaily.into();
    }
    let total = state.head.supply.from_faucet.checked_add(cmd.amount);
    if total.is_none_or(|total| total > state.genesis.faucet_total) {
        return Refusal::FaucetExhausted.into();
    }
    if row.draws.len() >= FAUCET_DRAWS_MAX {
        let (_, oldest) = row.draws.remove(0);
        if let Some((_, second)) = row.draws.first_mut() {
            *second = second.checked_add(oldest).unwrap_or(Money::MAX);
        }
    }
    row.draws.push((ctx.now_ms, cmd.amount));
    state.faucet.insert(account, row);
    supply::faucet(state, ctx, account, cmd.amount);
    Outcome::DONE
}

/// A movement of money that somebody asks for.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) from: AccountId,
    pub(crate) to: AccountId,
    /// The places of the two rows, where they are known.
    pub(crate) places: (Option<Place>, Option<Place>),
    pub(crate) amount: Money,
    pub(crate) memo: Option<Memo>,
    /// Open the receiver if there is none.
    pub(crate) open: bool,
}

/// Moves money from one account to another. With `open`, a receiver that does not exist is opened: with at least what
/// every account must keep, and without a key until whoever holds it takes the account over.
pub(crate) fn transfer(state: &mut State, ctx: &mut Context, transfer: Transfer) -> Outcome {
    let Transfer { from, to, places, amount, memo, open } = transfer;
    if amount.is_zero() {
        return Refusal::ZeroAmount.into();
    }
    if memo.as_ref().is_some_and(|memo| memo.len() > MEMO_BYTES_MAX) {
        return Refusal::MemoTooLong.into();
    }
    if to == from {
        return Refusal::SelfTransfer.into();
    }
    let (accounts, minimum) = (&state.accounts, state.policy.minimum_balance);
    let to_place = places.1.or_else(|| accounts.find(&to));
    match to_place.map(|place| accounts.at(place).map(|row| row.role)) {
        None if !open => {
            if planted(Plant::RefusalKeepsMoney) && balance(state, from) >= amount {
                let about = About { cause: Cause::Transfer, counterparty: Some(to), reference: None, memo: None };
                change(state, ctx, from, Change::LoseBalance(amount), about);
            }
            return Refusal::UnknownAccount.into();
        }
        None if amount < minimum => return Refusal::BelowMinimum.into(),
        Some(None | Some(AccountRole::System)) => return Refusal::SystemAccount.into(),
        None | Some(Some(AccountRole::User | AccountRole::Admin | AccountRole::Operator | AccountRole::Auditor)) => {}
    }
    let from_place = places.0.or_else(|| accounts.find(&from));
    let Some((from_place, row)) = from_place.and_then(|place| Some((place, accounts.at(place)?))) else {
        return Refusal::InsufficientFunds.into();
    };
    if row.balance.saturating_sub(minimum) < amount {
        return Refusal::InsufficientFunds.into();
    }
    let to_place = to_place.unwrap_or_else(|| {
        ctx.event("account.created", to, format!("Account {to} was paid for by {from}."));
        state.accounts.insert(to, AccountRow::new(to, None, AccountRole::User, ctx.now_ms));
        state.accounts.find(&to).expect("the row was put there just now")
    });
    let about =
        |other| About { cause: Cause::Transfer, counterparty: Some(other), reference: None, memo: memo.as_ref() };
    change_at(state, ctx, from_place, Change::LoseBalance(amount), about(to));
    change_at(state, ctx, to_place, Change::GainBalance(amount), about(from));
    Outcome::DONE
}

/// Free money of an account; nothing for one that does not exist.
pub(crate) fn balance(state: &State, account: AccountId) -> Money {
    state.accounts.get(&account).map_or(Money::ZERO, |row| row.balance)
}

/// Sets `amount` of `payer`'s balance aside for a job. One hold a job, ever.
///
/// # Errors
/// `insufficient_funds`; nothing has changed then.
pub(crate) fn hold_for_job(
    state: &mut State,
    ctx: &mut Context,
    payer: AccountId,
    job: JobId,
    amount: Money,
) -> Result<(), Refusal> {
    assert!(!state.holds.contains(&job), "a job's money is held once");
    if limits::spendable(state, payer) < amount {
        return Err(Refusal::InsufficientFunds);
    }
    let about = About { cause: Cause::Hold, counterparty: None, reference: Some(Reference::Job(job)), memo: None };
    change(state, ctx, payer, Change::Hold(amount), about);
    let row =
        HoldRow { job, payer, held: amount, paid: Money::ZERO, fees: Money::ZERO, refunded: Money::ZERO, open: true };
    state.holds.insert(job, row);
    Ok(())
}

/// Lowers a job's hold to `held` and gives the excess back to its payer (cause "hold"). Used at the match, when the
/// agreement turns out cheaper than the order's limit. Does nothing when the hold is not higher than that.
pub(crate) fn release(state: &mut State, ctx: &mut Context, job: JobId, held: Money) {
    let Some(row) = state.holds.get_mut(&job).filter(|row| row.open) else { return };
    let excess = row.held.saturating_sub(held).at_most(row.remaining());
    if excess.is_zero() {
        return;
    }
    row.held = row.held.saturating_sub(excess);
    let payer = row.payer;
    let about = About { cause: Cause::Hold, counterparty: None, reference: Some(Reference::Job(job)), memo: None };
    change(state, ctx, payer, Change::Release(excess), about);
}

/// Pays `amount` out of a job's hold for what a machine of an account earned (cause `PayTraining` or `PayVerification`), to
/// the account or whomever it has paid its earnings, and returns what was paid: never more than remains on hold.
pub(crate) fn pay_from_hold(
    state: &mut State,
    ctx: &mut Context,
    job: JobId,
    to: AccountId,
    amount: Money,
    cause: Cause,
) -> Money {
    let to = keys::payee(state, to);
    let Some(row) = state.holds.get_mut(&job).filter(|row| row.open) else { return Money::ZERO };
    let amount = amount.at_most(row.remaining());
    if amount.is_zero() || !state.accounts.contains(&to) {
        return Money::ZERO;
    }
    row.paid = row.paid.checked_add(amount).expect("paid stays within the hold");
    let payer = row.payer;
    from_hold(
        state,
        ctx,
        payer,
        to,
        amount,
        About { cause, counterparty: None, reference: Some(Reference::Job(job)), memo: None },
    );
    amount
}

/// Charges a fee to a job's hold for the treasury, which burns the share that genesis says, and returns what was charged: never more than remains on hold.
pub(crate) fn fee_from_hold(state: &mut State, ctx: &mut Context, job: JobId, amount: Money) -> Money {
    let Some(row) = state.holds.get_mut(&job).filter(|row| row.open) else { return Money::ZERO };
    let amount = amount.at_most(row.remaining());
    if amount.is_zero() {
        return Money::ZERO;
    }
    row.fees = row.fees.checked_add(amount).expect("fees stay within the hold");
    let payer = row.payer;
    let about = About { cause: Cause::Fee, counterparty: None, reference: Some(Reference::Job(job)), memo: None };
    if planted(Plant::FeeFromNowhere) {
        change(state, ctx, AccountId::TREASURY, Change::GainBalance(amount), about);
        return amount;
    }
    from_hold(state, ctx, payer, AccountId::TREASURY, amount, about);
    supply::burn_share(state, ctx, amount, Reference::Job(job));
    amount
}

/// Closes a job's hold: what remains goes back to its payer. Returns how much. Closing twice gives nothing back.
pub(crate) fn refund(state: &mut State, ctx: &mut Context, job: JobId) -> Money {
    let Some(row) = state.holds.get_mut(&job).filter(|row| row.open) else { return Money::ZERO };
    let amount = row.remaining();
    row.refunded = amount;
    row.open = false;
    let payer = row.payer;
    if !amount.is_zero() {
        let about =
            About { cause: Cause::Refund, counterparty: None, reference: Some(Reference::Job(job)), memo: None };
        change(state, ctx, payer, Change::Release(amount), about);
    }
    amount
}

fn from_hold(state: &mut State, ctx: &mut Context, payer: AccountId, to: AccountId, amount: Money, about: About<'_>) {
    change(state, ctx, payer, Change::LoseHeld(amount), About { counterparty: Some(to), ..about });
    change(state, ctx, to, Change::GainBalance(amount), About { counterparty: Some(payer), ..about });
}

/// The ways in which one account can change.
#[derive(Debug, Clone, Copy)]
enum Change {
    GainBalance(Money),
    LoseBalance(Money),
    /// Balance to hold.
    Hold(Money),
    /// Hold to balance.
    Release(Money),
    LoseHeld(Money),
    GainHeld(Money),
}

/// Changes one account and writes the line of its statement. The caller has checked that the money is there; sums
/// cannot pass [`Money::MAX`], because all money together does not.
fn change(state: &mut State, ctx: &mut Context, account: AccountId, change: Change, about: About<'_>) {
    let place = state.accounts.find(&account).expect("the caller has looked the account up");
    change_at(state, ctx, place, change, about);
}

fn change_at(state: &mut State, ctx: &mut Context, place: Place, change: Change, about: About<'_>) {
    let row = state.accounts.at_mut(place).expect("the caller has looked the account up");
    let before = (row.balance, row.held);
    let (balance_change, held_change) = match change {
        Change::GainBalance(amount) => (amount.gain(), 0),
        Change::LoseBalance(amount) => (amount.loss(), 0),
        Change::Hold(amount) => (amount.loss(), amount.gain()),
        Change::Release(amount) => (amount.gain(), amount.loss()),
        Change::LoseHeld(amount) => (0, amount.loss()),
        Change::GainHeld(amount) => (0, amount.gain()),
    };
    let apply = |money: Money, change: i128| {
        money.units().checked_add_signed(change).and_then(Money::minor).expect("the caller has checked the amounts")
    };
    row.balance = apply(before.0, balance_change);
    row.held = apply(before.1, held_change);
    let (account, balance, held) = (row.id, row.balance, row.held);
    state.head.movements = state.head.movements.saturating_add(1);
    ctx.movement(Movement {
        sequence: state.head.movements,
        account,
        counterparty: about.counterparty,
        cause: about.cause,
        balance_change,
        held_change,
        balance,
        held,
        reference: about.reference,
        memo: about.memo.cloned(),
    });
}
