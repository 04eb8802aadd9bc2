//! Agreements: machines rented by orders that stand by themselves. (A job's machines belong to the job.)
//!
//! The machine is the buyer's until the agreement's end, or until one side ends it, or the machine is gone for good. Its
//! hold was a part of its order's and covers the whole rent and the fee on it. The time that counts is that for which the
//! machine was online; it is noted when the machine comes or goes and paid at the close, the rest goes back.

use crate::{
    closing::CloseReason,
    command::EndAgreement,
    context::Context,
    expiry::Timer,
    ids::{AccountId, AgreementId, MachineId, OfferId, OrderId, agreement_id},
    invariants::ensure,
    ledger::orders::{self, Settlement},
    market::{self, MatchedMachine, OrderRow},
    money::Money,
    outcome::{Outcome, Refusal},
    reliability,
    state::State,
};
use serde::{Deserialize, Serialize};

/// A machine and who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementRow {
    /// Its id.
    pub id: AgreementId,
    /// The order that it serves.
    pub order: OrderId,
    /// The offer that was taken.
    pub offer: OfferId,
    /// The machine.
    pub machine: MachineId,
    /// Who pays.
    pub buyer: AccountId,
    /// Who is paid.
    pub seller: AccountId,
    /// The price agreed on, minor units per hour.
    pub price_per_hour: Money,
    /// The fee on what is paid, basis points, as it was when the order was placed.
    pub fee_bp: u32,
    /// What was set aside for it: the whole rent, and the fee.
    pub held: Money,
    /// Paid to the seller and charged as a fee; nothing before the close. The rest of `held` went back then.
    pub paid: Money,
    /// See `paid`.
    pub fees: Money,
    /// Ledger time of the match, ms.
    pub matched_ms: u64,
    /// Ledger time at which it is over at the latest, ms.
    pub end_ms: u64,
    /// Ledger time at which it was closed, ms; 0 while it runs.
    pub closed_ms: u64,
    /// Why it was closed; none while it runs.
    pub closed: Option<CloseReason>,
    /// Time for which its machine has been online, ms, up to `online_since_ms` if it is now.
    pub online_ms: u64,
    /// Ledger time since which its machine has been online, ms; none while it is away, or after the close.
    pub online_since_ms: Option<u64>,
}

impl AgreementRow {
    /// Time that is paid by then, ms.
    pub fn earned_ms(&self, now_ms: u64) -> u64 {
        let until_ms = now_ms.min(self.end_ms);
        let now = self.online_since_ms.map_or(0, |since_ms| until_ms.saturating_sub(since_ms));
        self.online_ms.saturating_add(now)
    }

    /// What the seller has earned by then.
    pub fn earned(&self, now_ms: u64) -> Money {
        let earned = self.price_per_hour.rent_paid(self.earned_ms(now_ms)).unwrap_or(Money::MAX);
        earned.at_most(self.held)
    }

    fn away(&mut self, now_ms: u64) {
        self.online_ms = self.earned_ms(now_ms);
        self.online_since_ms = None;
    }
}

impl State {
    /// An agreement by its id.
    pub fn agreement(&self, id: AgreementId) -> Option<&AgreementRow> {
        self.agreements.get(&id)
    }

    /// All agreements in order of id, closed ones included.
    pub fn agreements(&self) -> impl DoubleEndedIterator<Item = &AgreementRow> {
        self.agreements.iter().map(|(_, row)| row)
    }
}

/// A machine is the buyer's from now on. Its offer is taken; `held` is a part of the order's hold.
pub(crate) fn begin(state: &mut State, ctx: &mut Context, order: &OrderRow, matched: &MatchedMachine, held: Money) {
    let id = agreement_id(order.id, state.head.trades);
    let Some(machine) = state.machines.get_mut(&matched.machine) else { return };
    machine.agreement = Some(id);
    let row = AgreementRow {
        id,
        order: order.id,
        offer: matched.offer,
        machine: matched.machine,
        buyer: order.buyer,
        seller: matched.owner,
        price_per_hour: matched.price_per_hour,
        fee_bp: order.fee_bp,
        held,
        paid: Money::ZERO,
        fees: Money::ZERO,
        matched_ms: ctx.now_ms,
        end_ms: ctx.now_ms.saturating_add(order.duration_s.saturating_mul(1_000)),
        closed_ms: 0,
        closed: None,
        online_ms: 0,
        online_since_ms: machine.online.then_some(ctx.now_ms),
    };
    state.timers.insert((row.end_ms, Timer::Agreement(id)), ());
    let text = format!("Account {} rents machine {} at {} an hour.", row.buyer, row.machine, row.price_per_hour);
    ctx.event("agreement.made", id, text);
    state.agreements.insert(id, row);
}

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

/// An agreement's time is over.
pub(crate) fn on_due(state: &mut State, ctx: &mut Context, agreement: AgreementId) {
    close(state, ctx, agreement, CloseReason::Completed);
}

/// A machine is there (again): its time counts.
pub(crate) fn machine_online(state: &mut State, now_ms: u64, machine: MachineId) {
    if let Some(row) = of_machine(state, machine) {
        row.online_since_ms = Some(now_ms);
    }
}

/// A machine is lost: its time counts no longer.
pub(crate) fn machine_lost(state: &mut State, now_ms: u64, machine: MachineId) {
    if let Some(row) = of_machine(state, machine) {
        row.away(now_ms);
    }
}

/// A machine was revoked or suspended.
pub(crate) fn machine_gone(state: &mut State, ctx: &mut Context, machine: MachineId) {
    let Some(row) = state.machines.get(&machine) else { return };
    let reason = if row.suspended { CloseReason::ProofRejected } else { CloseReason::Revoked };
    if let Some(agreement) = row.agreement {
        close(state, ctx, agreement, reason);
    }
}

fn of_machine(state: &mut State, machine: MachineId) -> Option<&mut AgreementRow> {
    let agreement = state.machines.get(&machine)?.agreement?;
    state.agreements.get_mut(&agreement)
}

fn close(state: &mut State, ctx: &mut Context, agreement: AgreementId, reason: CloseReason) {
    let Some(row) = state.agreements.get_mut(&agreement).filter(|row| row.closed.is_none()) else { return };
    row.away(ctx.now_ms);
    row.paid = row.earned(ctx.now_ms);
    let rest = row.held.saturating_sub(row.paid);
    row.fees = row.paid.fee_paid(row.fee_bp).unwrap_or(rest).at_most(rest);
    (row.closed, row.closed_ms) = (Some(reason), ctx.now_ms);
    let AgreementRow { buyer, seller, machine, end_ms, held, paid, fees: fee, .. } = *row;
    state.timers.remove(&(end_ms, Timer::Agreement(agreement)));
    orders::settle(state, ctx, Settlement { agreement, buyer, seller, held, paid, fee });
    reliability::agreement_closed(state, machine, seller, buyer, reason);
    if let Some(row) = state.machines.get_mut(&machine) {
        row.agreement = None;
    }
    market::free_again(state, ctx, machine);
    ctx.event("agreement.closed", agreement, format!("Machine {machine} is returned: {}.", reason.as_str()));
}

/// Every running agreement has its machine, and every rented machine its agreement; each will end.
pub(crate) fn check(state: &State) -> Result<(), String> {
    for row in state.agreements().filter(|row| row.closed.is_none()) {
        let machine = state.machine(row.machine).ok_or("an agreement has no machine")?;
        let has = machine.agreement == Some(row.id) && machine.online == row.online_since_ms.is_some();
        ensure(has, || format!("agreement {} and its machine part ways", row.id))?;
        let dated = state.timers.contains(&(row.end_ms, Timer::Agreement(row.id)));
        ensure(dated, || format!("agreement {} never ends", row.id))?;
    }
    state.machines().filter(|row| row.agreement.is_some()).try_for_each(|machine| {
        let runs = machine.agreement.and_then(|id| state.agreement(id)).is_some_and(|row| row.closed.is_none());
        let apart = machine.job.is_none();
        ensure(runs && apart, || format!("machine {} is rented by nobody, or twice", machine.id))
    })
}
