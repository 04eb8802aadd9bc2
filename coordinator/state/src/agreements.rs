//! Agreements: machines rented by orders that stand by themselves. (A job's machines belong to the job.)
//!
//! ```text
//! matched ─ its machine says that it has begun → running ─ its time is over, or something ends it before → closed
//! ```
//! The machine is the buyer's until the agreement's end (`agreements/lasting.rs`), or until one side ends it, or the machine
//! stays away (`agreements/ending.rs`). Its hold was a part of its order's and covers the whole rent and the fee on it. The
//! time that counts is that for which the machine was there; it is noted when the machine comes or goes, and earned, locked and
//! paid (`agreements/pay.rs`). What is not earned at the close goes back or orders another machine. Each agreement has one
//! timer, at the next time that matters to it.

mod ending;
mod lasting;
mod pay;

pub(crate) use ending::{end, machine_gone, on_due};
pub(crate) use lasting::{begin, machine_lost, machine_online, renew, started};

use crate::{
    closing::CloseReason,
    expiry::Timer,
    ids::{AccountId, AgreementId, MachineId, OfferId, OrderId},
    invariants::ensure,
    keyed::Identified,
    market::OrderRow,
    money::Money,
    state::State,
};
use serde::{Deserialize, Serialize};

/// Time for which a machine may stay away unless its order says otherwise, seconds: a restart takes less.
pub const AWAY_DEFAULT_S: u64 = 300;

const MS_PER_S: u64 = 1_000;

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
    /// Paid to the seller so far, and charged as a fee on it.
    pub paid: Money,
    /// See `paid`.
    pub fees: Money,
    /// Earned, and locked on the seller's account. What was neither earned nor charged went back at the close, or into the
    /// order `again`.
    pub locked: Money,
    /// Was locked, and went back to the buyer because a proof of the machine was rejected.
    pub returned: Money,
    /// Time that had been earned when it was last locked, ms.
    pub locked_ms: u64,
    /// Ledger time at which something of it is paid next, ms; none if nothing will be before the close, or ever.
    pub pay_ms: Option<u64>,
    /// How long the machine is rented, from its start on, seconds.
    pub duration_s: u64,
    /// How long the machine may stay away, seconds.
    pub away_s: u64,
    /// Ledger time of the match, ms.
    pub matched_ms: u64,
    /// Ledger time by which the machine must say that it has begun, ms.
    pub start_by_ms: u64,
    /// Ledger time at which it did, ms; none before.
    pub started_ms: Option<u64>,
    /// Ledger time at which it is over at the latest, ms.
    pub end_ms: u64,
    /// Ledger time at which it was closed, ms; 0 while it runs.
    pub closed_ms: u64,
    /// Why it was closed; none while it runs.
    pub closed: Option<CloseReason>,
    /// Time for which its machine has been there since the start, ms, up to `online_since_ms` if it is now.
    pub online_ms: u64,
    /// Ledger time since which its machine has been there, ms; none before the start, while it is away, or after the close.
    pub online_since_ms: Option<u64>,
    /// Ledger time since which its machine is known to be away, ms; none before the start, while it is there, or after the
    /// close.
    pub away_since_ms: Option<u64>,
    /// The order as it was at the match: what is left of a lost agreement is ordered again by it. None after the close.
    pub asked: Option<Box<OrderRow>>,
    /// The order that wants another machine for what was left.
    pub again: Option<OrderId>,
}

impl Identified for AgreementRow {
    type Id = AgreementId;

    fn id(&self) -> &AgreementId {
        &self.id
    }
}

impl AgreementRow {
    /// Time for which the machine was there by then, ms.
    pub fn earned_ms(&self, now_ms: u64) -> u64 {
        let until_ms = now_ms.min(self.end_ms);
        let now = self.online_since_ms.map_or(0, |since_ms| until_ms.saturating_sub(since_ms));
        self.online_ms.saturating_add(now)
    }

    /// What the seller has earned by then, and was not returned.
    pub fn earned(&self, now_ms: u64) -> Money {
        let moved = self.moved();
        if self.closed.is_some() { moved } else { self.rent(self.earned_ms(now_ms)).max(self.paid) }
    }

    /// What so much time costs, ms, as far as there is money for it.
    fn rent(&self, ms: u64) -> Money {
        self.price_per_hour.rent_paid(ms).unwrap_or(Money::MAX).at_most(self.held)
    }

    /// The ledger time at which it is closed unless something happens before, ms; none after the close.
    fn close_ms(&self) -> Option<u64> {
        if self.closed.is_some() {
            return None;
        }
        let over_ms = if self.started_ms.is_some() { self.end_ms } else { self.start_by_ms };
        let lost_ms = self.away_since_ms.map(|since_ms| after(since_ms, self.away_s));
        Some(lost_ms.map_or(over_ms, |lost_ms| lost_ms.min(over_ms)))
    }

    /// The next ledger time at which something happens to it by itself, ms.
    fn due_ms(&self) -> Option<u64> {
        [self.close_ms(), self.pay_ms].into_iter().flatten().min()
    }
}

impl State {
    /// An agreement by its id.
    pub fn agreement(&self, id: AgreementId) -> Option<&AgreementRow> {
        self.agreements.get(&id)
    }

    /// All agreements in the order in which they were made, closed ones included.
    pub fn agreements(&self) -> impl DoubleEndedIterator<Item = &AgreementRow> {
        self.agreements.iter().map(|(_, row)| row)
    }
}

/// So many seconds after a ledger time, ms.
fn after(ms: u64, seconds: u64) -> u64 {
    ms.saturating_add(seconds.saturating_mul(MS_PER_S))
}

/// Changes a row and moves its timer with it.
fn change(state: &mut State, id: AgreementId, change: impl FnOnce(&mut AgreementRow)) {
    let Some(row) = state.agreements.get_mut(&id) else { return };
    let before = row.due_ms();
    change(row);
    let due = row.due_ms();
    if due != before {
        if let Some(ms) = before {
            state.timers.remove(&(ms, Timer::Agreement(id)));
        }
        if let Some(ms) = due {
            state.timers.insert((ms, Timer::Agreement(id)), ());
        }
    }
}

/// Every running agreement has its machine, and every rented machine its agreement; each will end.
pub(crate) fn check(state: &State) -> Result<(), String> {
    for row in state.agreements().filter(|row| row.closed.is_none()) {
        let machine = state.machine(row.machine).ok_or("an agreement has no machine")?;
        let begun = row.started_ms.is_some();
        let there = (row.online_since_ms.is_some(), row.away_since_ms.is_some());
        let has = machine.agreement == Some(row.id) && there == (begun && machine.online, begun && !machine.online);
        ensure(has, || format!("agreement {} and its machine part ways", row.id))?;
        let dated = row.due_ms().is_some_and(|due_ms| state.timers.contains(&(due_ms, Timer::Agreement(row.id))));
        ensure(dated && row.asked.is_some(), || format!("agreement {} never ends", row.id))?;
    }
    for row in state.agreements().filter(|row| row.closed.is_some()) {
        let paid = row.due_ms().map(|due_ms| state.timers.contains(&(due_ms, Timer::Agreement(row.id))));
        ensure(paid == Some(true) || row.locked.is_zero(), || format!("agreement {} is never paid", row.id))?;
    }
    state.machines().filter(|row| row.agreement.is_some()).try_for_each(|machine| {
        let runs = machine.agreement.and_then(|id| state.agreement(id)).is_some_and(|row| row.closed.is_none());
        let apart = machine.job.is_none();
        ensure(runs && apart, || format!("machine {} is rented by nobody, or twice", machine.id))
    })
}
