//! What applying an entry leaves behind besides the new state: hints to act on, news for people, lines of statements.

use crate::{
    ids::{AccountId, AgreementId, CommandId, HoldId, JobId, Key, MachineId, OrderId, ProposalId},
    money::Money,
    outcome::Outcome,
};
use serde::{Deserialize, Serialize};
use std::{fmt, ops::Deref, sync::Arc};

/// A hint to act. At least once, and recomputable from the state: a new leader asks `owed()` and the beacon instead.
/// Closed and append-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// What this machine is owed may have changed.
    Owed(MachineId),
    /// An epoch closed with this entry: take a view now, compute its root off-thread, attest it.
    RootDue {
        /// The closed epoch.
        epoch: u64,
        /// Index of the entry that closed it.
        index: u64,
    },
    /// A beat was applied: send the share for the next one.
    Beat {
        /// The applied beat.
        number: u64,
    },
}

/// News for people: feeds, pages, notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Dotted name, e.g. "job.matched".
    pub kind: &'static str,
    /// The job, machine, unit, account, offer or campaign it is about.
    pub subject: [u8; 20],
    /// One sentence.
    pub text: String,
}

/// Why money moved. Closed and append-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Test money made by the faucet.
    Faucet,
    /// One account's order.
    Transfer,
    /// Set aside for a job or an order, or (negative) given back because it needs less than its limit.
    Hold,
    /// Paid for a training lease.
    PayTraining,
    /// Paid for a verification lease.
    PayVerification,
    /// Charged to the treasury's benefit.
    Fee,
    /// What remained of a hold when its job or agreement closed.
    Refund,
    /// Set aside by its owner for another account.
    HoldPlaced,
    /// Taken out of such a hold by the account it was made for.
    HoldPosted,
    /// Given back out of such a hold: voided, or not taken when it was posted.
    HoldVoided,
    /// Given back because nobody decided in time.
    HoldLapsed,
    /// Made at an epoch's close, as genesis says.
    Emission,
    /// Made by the admins for the issuer.
    Issue,
    /// Burned by the admins out of the issuer's account.
    Redeem,
    /// The share of a fee that is burned, or what an account burned of its own.
    Burn,
    /// Paid by the admins out of a budget.
    Grant,
    /// Paid for a machine's time under an agreement.
    PayRent,
    /// Earned by a machine under an agreement, and locked until it is paid.
    Earn,
    /// Was earned and locked, and goes back because a proof of the machine was rejected.
    PayReturned,
}

impl Cause {
    /// The wire's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Faucet => "faucet",
            Cause::Transfer => "transfer",
            Cause::Hold => "hold",
            Cause::PayTraining => "pay_training",
            Cause::PayVerification => "pay_verification",
            Cause::Fee => "fee",
            Cause::Refund => "refund",
            Cause::HoldPlaced => "hold_placed",
            Cause::HoldPosted => "hold_posted",
            Cause::HoldVoided => "hold_voided",
            Cause::HoldLapsed => "hold_lapsed",
            Cause::Emission => "emission",
            Cause::Issue => "issue",
            Cause::Redeem => "redeem",
            Cause::Burn => "burn",
            Cause::Grant => "grant",
            Cause::PayRent => "pay_rent",
            Cause::Earn => "earn",
            Cause::PayReturned => "pay_returned",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A memo: a part of a text that the memos of many movements share, so that none needs memory of its own.
#[derive(Clone)]
pub struct Memo {
    all: Arc<str>,
    from: u32,
    to: u32,
}

impl Memo {
    /// The memo of this many bytes at a place of a text; none of no bytes.
    pub(crate) fn within(all: &Arc<str>, from: u32, bytes: usize) -> Option<Self> {
        let to = from.checked_add(u32::try_from(bytes).ok()?)?;
        (to > from).then(|| Self { all: Arc::clone(all), from, to })
    }

    /// A memo by itself, which keeps no other's text alive; none of no bytes.
    pub(crate) fn of(text: &str) -> Option<Self> {
        Self::within(&Arc::from(text), 0, text.len())
    }
}

impl Deref for Memo {
    type Target = str;

    fn deref(&self) -> &str {
        self.all.get(self.from as usize..self.to as usize).unwrap_or_default()
    }
}

impl PartialEq for Memo {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Memo {}

impl From<&str> for Memo {
    fn from(text: &str) -> Self {
        Self { all: Arc::from(text), from: 0, to: u32::try_from(text.len()).unwrap_or(u32::MAX) }
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// What a movement belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reference {
    /// A job's money.
    Job(JobId),
    /// A transfer in two phases.
    Hold(HoldId),
    /// An epoch's close.
    Epoch(u64),
    /// What admins decided.
    Proposal(ProposalId),
    /// An order that stands by itself.
    Order(OrderId),
    /// A rented machine.
    Agreement(AgreementId),
}

/// One change of one account: a line of its statement. Over all movements ever, the changes sum to minted − burned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// Position in the whole network's journal, from 1.
    pub sequence: u64,
    /// Whose statement this is a line of.
    pub account: AccountId,
    /// The other side, if there is one.
    pub counterparty: Option<AccountId>,
    /// Why.
    pub cause: Cause,
    /// Change of the free balance, minor units.
    pub balance_change: i128,
    /// Change of the money on hold, minor units.
    pub held_change: i128,
    /// Balance after it.
    pub balance: Money,
    /// Hold after it.
    pub held: Money,
    /// What it belongs to.
    pub reference: Option<Reference>,
    /// A transfer's or hold's memo, or an external reference; never an empty one.
    pub memo: Option<Memo>,
}

impl Movement {
    /// The job concerned.
    pub const fn job(&self) -> Option<JobId> {
        match self.reference {
            Some(Reference::Job(job)) => Some(job),
            Some(
                Reference::Hold(_)
                | Reference::Epoch(_)
                | Reference::Proposal(_)
                | Reference::Order(_)
                | Reference::Agreement(_),
            )
            | None => None,
        }
    }
}

/// What became of one envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeResult {
    /// Signer; all zeros when the envelope was too malformed to have one.
    pub key: Key,
    /// The signer's name for it; all zeros when the envelope was too malformed to have one.
    pub command_id: CommandId,
    /// Index of the entry that decided it: an earlier one for a repeated envelope.
    pub index: u64,
    /// One per command, in order; a single refusal when the commands could not be read.
    pub outcomes: Arc<[Outcome]>,
}

/// Everything that applying one entry left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Ledger time of the entry, ms since the Unix epoch.
    pub now_ms: u64,
    /// One per envelope of the entry, in order.
    pub results: Vec<EnvelopeResult>,
    /// Without repeats.
    pub effects: Vec<Effect>,
    /// In order of happening.
    pub events: Vec<Event>,
    /// In order of sequence.
    pub movements: Vec<Movement>,
}
