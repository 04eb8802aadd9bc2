//! What must hold after every command, whatever was asked for. Tests and the simulator check it after each entry.

use crate::{
    accounts::{AccountRole, keys},
    admin::ProposalRow,
    agreements, drilling, earning,
    expiry::Timer,
    ids::AccountId,
    jobs,
    ledger::{supply, two_phase},
    market::{OfferStatus, OrderRow},
    money::Money,
    state::{KeyOwner, State},
};
use std::collections::BTreeMap;

impl State {
    /// Checks every invariant; costs the whole state.
    ///
    /// # Errors
    /// One sentence about the first that does not hold.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.money()?;
        self.holds()?;
        two_phase::check(self)?;
        self.keys()?;
        self.book()?;
        self.windows()?;
        self.administration()?;
        self.open()?;
        drilling::check(self)?;
        agreements::check(self)?;
        earning::check(self)?;
        jobs::check(self)
    }

    /// minted − burned = the sum of all balances and holds.
    fn money(&self) -> Result<(), String> {
        let all = self
            .accounts()
            .try_fold(Money::ZERO, |sum, row| sum.checked_add(row.balance).and_then(|sum| sum.checked_add(row.held)));
        ensure(all.is_some() && all == self.minted().checked_sub(self.burned()), || {
            format!("minted {} - burned {} is not the sum of accounts {all:?}", self.minted(), self.burned())
        })?;
        supply::check_supply(self)
    }

    /// An account's held money is what remains of its holds, and what it has earned and is locked; a closed hold has nothing
    /// left.
    fn holds(&self) -> Result<(), String> {
        let mut held = BTreeMap::new();
        for (_, hold) in self.holds.iter() {
            let parts = [hold.paid, hold.fees, hold.refunded].into_iter().try_fold(Money::ZERO, Money::checked_add);
            ensure(parts.is_some_and(|parts| if hold.open { parts <= hold.held } else { parts == hold.held }), || {
                format!("hold of job {}: {hold:?}", hold.job)
            })?;
            let sum: &mut Money = held.entry(hold.payer).or_default();
            *sum = sum.checked_add(hold.remaining()).ok_or("holds overflow")?;
        }
        for (_, order) in self.orders.iter().filter(|(_, order)| order.job.is_none()) {
            let sum: &mut Money = held.entry(order.buyer).or_default();
            *sum = sum.checked_add(order.money).ok_or("holds overflow")?;
        }
        for row in self.agreements() {
            for (account, amount) in [(row.buyer, row.on_hold()), (row.seller, row.locked)] {
                let sum: &mut Money = held.entry(account).or_default();
                *sum = sum.checked_add(amount).ok_or("holds overflow")?;
            }
        }
        for hold in self.held_transfers() {
            let sum: &mut Money = held.entry(hold.payer).or_default();
            *sum = sum.checked_add(hold.amount).ok_or("holds overflow")?;
        }
        self.accounts().try_for_each(|row| {
            let wanted = held.get(&row.id).copied().unwrap_or_default();
            ensure(row.held == wanted, || format!("account {} holds {}, its holds {wanted}", row.id, row.held))
        })
    }

    /// Every key leads to its owner and back.
    fn keys(&self) -> Result<(), String> {
        for (key, owner) in self.keys.iter() {
            let known = match owner {
                KeyOwner::Account(id, place) => {
                    self.accounts.at(*place).is_some_and(|row| row.id == *id && row.key == Some(*key))
                }
                KeyOwner::Machine(id) => self.machine(*id).is_some_and(|row| row.key == *key),
                KeyOwner::Retired(id) => self.account(*id).is_some_and(|row| row.key.is_some_and(|now| now != *key)),
                KeyOwner::Node(id) => self.node(*id).is_some_and(|node| node.key == *key),
            };
            ensure(known, || format!("the owner of a key does not have it: {owner:?}"))?;
        }
        let held = self.accounts().filter(|row| row.key.is_some()).count() as u64;
        let retired = self.keys.iter().filter(|(_, owner)| matches!(owner, KeyOwner::Retired(_))).count() as u64;
        let keys = held.saturating_add(self.machines.len()).saturating_add(self.nodes.len()).saturating_add(retired);
        keys::check(self)?;
        ensure(self.keys.len() == keys, || format!("{} keys for {keys} owners", self.keys.len()))
    }

    /// The book holds exactly the open offers; rented machines know their job and their offer.
    fn book(&self) -> Result<(), String> {
        let open = self.offers().filter(|row| row.status == OfferStatus::Open).count() as u64;
        let in_book = self.open_offers().filter(|row| row.status == OfferStatus::Open).count() as u64;
        ensure(self.book.len() == open && in_book == open, || {
            format!("{} places in the book for {open} open offers", self.book.len())
        })?;
        let rented = self.machines().filter(|row| !row.is_free()).count() as u64;
        ensure(self.rented.len() == rented, || format!("{} rentals of {rented} machines", self.rented.len()))?;
        let online = self.machines().filter(|row| row.online).count() as u64;
        ensure(self.online.len() == online, || format!("{} of {online} machines are listed", self.online.len()))?;
        let dated = |row: &OrderRow| self.timers.contains(&(row.due_ms, Timer::Order(row.id)));
        ensure(self.orders().all(dated), || "an order never lapses".to_owned())
    }

    /// There is a voter, the threshold can be reached, the staff is listed, and proposals will lapse.
    fn administration(&self) -> Result<(), String> {
        ensure(self.voters().next().is_some(), || "there is no voter".to_owned())?;
        let admins = self.accounts().filter(|row| row.role == AccountRole::Admin).count();
        ensure(self.policy.admins as usize == admins, || format!("{} of {admins} admins counted", self.policy.admins))?;
        let threshold = self.policy.admin_threshold as usize;
        ensure((1..=admins.max(1)).contains(&threshold), || format!("{admins} admins never reach {threshold}"))?;
        let staff = self
            .accounts()
            .filter(|row| matches!(row.role, AccountRole::Admin | AccountRole::Operator | AccountRole::Auditor));
        let listed = staff.filter(|row| self.staff.get(&row.id) == Some(&row.role)).count() as u64;
        ensure(self.staff.len() == listed, || format!("{} are listed as staff, {listed} are", self.staff.len()))?;
        ensure(self.rates.len() == self.rate_expiry.len(), || "a bucket is never forgotten".to_owned())?;
        let dated = |row: &ProposalRow| self.timers.contains(&(row.expires_ms, Timer::Proposal(row.id)));
        ensure(self.proposals().all(dated), || "a proposal never lapses".to_owned())
    }

    /// Accounts know how many of their offers, orders and jobs are open.
    fn open(&self) -> Result<(), String> {
        let mut open: BTreeMap<AccountId, u32> = BTreeMap::new();
        let offers = self.offers().filter(|row| matches!(row.status, OfferStatus::Open | OfferStatus::Rented));
        let jobs = self.jobs().filter(|row| !row.state.closed());
        let orders = self.orders().filter(|row| row.job.is_none());
        for owner in offers.map(|row| row.owner).chain(jobs.map(|row| row.owner)).chain(orders.map(|row| row.buyer)) {
            let count = open.entry(owner).or_default();
            *count = count.saturating_add(1);
        }
        self.accounts().try_for_each(|row| {
            let wanted = open.get(&row.id).copied().unwrap_or(0);
            ensure(row.open == wanted, || format!("account {} has {wanted} open, {} counted", row.id, row.open))
        })
    }

    /// Each remembered envelope is found and counted once.
    fn windows(&self) -> Result<(), String> {
        self.windows.check()
    }
}

pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
