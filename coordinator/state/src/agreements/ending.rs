//! How an agreement ends, and who gets what of its hold. What is earned is locked first (`agreements/pay.rs`).
//!
//! | reason | earned | the rest |
//! |---|---|---|
//! | completed, seller | the time for which the machine was there | goes back |
//! | buyer | that, and what is left of the hour that has begun | goes back |
//! | provider_lost, revoked | the time up to the last that was heard of the machine | orders another machine, of another owner |
//! | never_started | nothing | goes back |
//! | proof_rejected | nothing but what is paid already | goes back, what is locked too |

use super::{AgreementRow, MS_PER_S, change, pay};
use crate::{
    closing::CloseReason,
    command::EndAgreement,
    context::Context,
    ids::{AccountId, AgreementId, MachineId, order_id_again},
    ledger::orders::{self, Parties},
    market::{self, OrderRow, query::Query},
    money::Money,
    outcome::{Outcome, Refusal},
    reliability,
    state::State,
};

/// A buyer pays for every hour that has begun, ms.
const HOUR_MS: u64 = 3_600_000;

/// One side ends an agreement: what was earned is paid, the rest goes back.
pub(crate) fn end(state: &mut State, ctx: &mut Context, account: AccountId, cmd: &EndAgreement) -> Outcome {
    let Some(row) = state.agreements.get(&cmd.agreement) else { return Refusal::UnknownAgreement.into() };
    let reason = match account {
        account if account == row.buyer => CloseReason::Buyer,
        account if account == row.seller => CloseReason::Seller,
        _ => return Refusal::NotYourAgreement.into(),
    };
    if row.closed.is_some() {
        return Refusal::AgreementClosed.into();
    }
    close(state, ctx, cmd.agreement, reason);
    Outcome::DONE
}

/// Something is due: its time is over, its machine has not begun or has stayed away for too long, or pay is.
pub(crate) fn on_due(state: &mut State, ctx: &mut Context, agreement: AgreementId) {
    let Some(row) = state.agreements.get(&agreement) else { return };
    if row.due_ms().is_none_or(|due_ms| due_ms > ctx.now_ms) {
        return;
    }
    if row.closed.is_some() {
        return pay::on_window(state, ctx, agreement);
    }
    if row.close_ms().is_some_and(|close_ms| close_ms > ctx.now_ms) {
        return pay::on_period(state, ctx, agreement);
    }
    let reason = match (row.started_ms, row.away_since_ms) {
        (None, _) => CloseReason::NeverStarted,
        // Also at its end: it did not last until then.
        (Some(_), Some(_)) => CloseReason::ProviderLost,
        (Some(_), None) => CloseReason::Completed,
    };
    close(state, ctx, agreement, reason);
}

/// A machine was revoked or suspended.
pub(crate) fn machine_gone(state: &mut State, ctx: &mut Context, machine: MachineId) {
    let Some(row) = state.machines.get(&machine) else { return };
    let reason = if row.suspended { CloseReason::ProofRejected } else { CloseReason::Revoked };
    let (suspended, owner) = (row.suspended, row.owner);
    if let Some(agreement) = row.agreement {
        close(state, ctx, agreement, reason);
    }
    if suspended {
        pay::rejected(state, ctx, owner, machine);
    }
}

fn close(state: &mut State, ctx: &mut Context, agreement: AgreementId, reason: CloseReason) {
    if state.agreements.get(&agreement).is_none_or(|row| row.closed.is_some()) {
        return;
    }
    if reason == CloseReason::ProofRejected {
        pay::give_back(state, ctx, agreement);
    }
    let Some(row) = state.agreements.get(&agreement) else { return };
    let online_ms = row.earned_ms(ctx.now_ms);
    let earned = row.rent(paid_ms(row, reason, ctx.now_ms)).max(row.paid);
    let spent = earned.checked_add(row.fee_on(earned)).and_then(|spent| spent.checked_add(row.returned));
    let rest = row.held.saturating_sub(spent.unwrap_or(row.held));
    let AgreementRow { offer, buyer, seller, machine, duration_s, .. } = *row;
    let left_s = duration_s.saturating_sub(online_ms.div_ceil(MS_PER_S));
    let next = match reason {
        CloseReason::ProviderLost | CloseReason::Revoked => {
            row.asked.as_deref().and_then(|asked| next_order(asked, agreement, seller, left_s, rest))
        }
        CloseReason::Completed
        | CloseReason::Buyer
        | CloseReason::Seller
        | CloseReason::ProofRejected
        | CloseReason::NeverStarted
        | CloseReason::Expired
        | CloseReason::BadInput
        | CloseReason::Undecided => None,
    };
    let (again, closed_ms) = (next.as_ref().map(|order| order.id), ctx.now_ms);
    change(state, agreement, |row| {
        (row.online_ms, row.online_since_ms, row.away_since_ms, row.asked) = (online_ms, None, None, None);
        (row.again, row.closed, row.closed_ms) = (again, Some(reason), closed_ms);
    });
    pay::close(state, ctx, agreement, earned);
    let back = if next.is_some() { Money::ZERO } else { rest };
    orders::refund(state, ctx, Parties { agreement, buyer, seller }, back);
    reliability::agreement_closed(state, machine, seller, buyer, reason);
    if let Some(row) = state.machines.get_mut(&machine) {
        row.agreement = None;
    }
    if reason == CloseReason::NeverStarted {
        // Whoever does not begin would only keep the next buyer waiting too.
        market::take_off(state, ctx, offer);
    }
    ctx.owed(machine);
    market::free_again(state, ctx, machine);
    ctx.event("agreement.closed", agreement, format!("Machine {machine} is returned: {}.", reason.as_str()));
    if let Some(order) = next {
        market::orders::place_again(state, ctx, order);
    }
}

/// Time that is paid at a close, ms.
fn paid_ms(row: &AgreementRow, reason: CloseReason, now_ms: u64) -> u64 {
    match reason {
        CloseReason::Buyer => row.earned_ms(end_of_hour(row, now_ms)),
        CloseReason::NeverStarted | CloseReason::ProofRejected => 0,
        CloseReason::Completed
        | CloseReason::Seller
        | CloseReason::ProviderLost
        | CloseReason::Revoked
        | CloseReason::Expired
        | CloseReason::BadInput
        | CloseReason::Undecided => row.earned_ms(now_ms),
    }
}

/// Ledger time at which the hour that has begun ends, ms, counted from the start. A machine that is away earns nothing up to
/// then, and the agreement's end comes first.
fn end_of_hour(row: &AgreementRow, now_ms: u64) -> u64 {
    let started_ms = row.started_ms.unwrap_or(now_ms);
    let hours = now_ms.saturating_sub(started_ms).div_ceil(HOUR_MS).max(1);
    started_ms.saturating_add(hours.saturating_mul(HOUR_MS))
}

/// The order for the time that is left, with the money that is: whoever asked for any machine gets one of another owner.
/// None if nothing is left, one offer alone was meant, or the query has no room for the owner.
fn next_order(
    asked: &OrderRow,
    agreement: AgreementId,
    lost: AccountId,
    left_s: u64,
    money: Money,
) -> Option<OrderRow> {
    if left_s == 0 || money.is_zero() || asked.select.is_some() {
        return None;
    }
    let other = format!("owner != \"{lost}\"");
    let text = if asked.query.accepts_all() { other } else { format!("({}) && {other}", asked.query) };
    let query = Query::parse(&text).ok()?;
    let id = order_id_again(agreement);
    Some(OrderRow { id, wanted: 1, least: 1, money, duration_s: left_s, query, ..asked.clone() })
}
