//! Where money comes from and ends: the faucet, an epoch's emission, what admins issue and redeem, the burned share of
//! fees, what accounts burn of their own; and what admins pay out of the budgets.
//!
//! minted = from the faucet + emitted + issued, and burned = redeemed + burned fees + burned by accounts. What is emitted is a formula of the
//! epoch (`economy.rs`), the rest has limits in genesis, so all money together stays below [`Money::MAX`].

use super::{Change, Reference, balance, change};
use crate::{
    accounts::AccountRole,
    command::BurnFunds,
    context::{About, Context},
    economy::{Economy, WHOLE_BP},
    effect::{Cause, Memo},
    ids::{AccountId, Hash, ProposalId},
    invariants::ensure,
    limits,
    money::Money,
    outcome::{Outcome, Refusal},
    state::State,
};
use matrixai_protocol::sha256;
use serde::{Deserialize, Serialize};

/// Longest external reference, bytes.
pub const REFERENCE_BYTES_MAX: usize = 64;

/// What all money came from and went to, besides the totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supply {
    /// Ever given by the faucet.
    pub from_faucet: Money,
    /// Ever emitted.
    pub emitted: Money,
    /// Ever issued, and ever redeemed.
    pub issued: Money,
    /// See `issued`.
    pub redeemed: Money,
}

/// An account of the system that admins pay out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Budget {
    /// Fees, and what of the emission nobody else gets.
    Treasury,
    /// What the network adds to prices.
    Subsidy,
    /// Drilling campaigns.
    Campaigns,
}

impl Budget {
    /// Each of them, in the order in which an emission is split.
    pub const ALL: [Budget; 3] = [Budget::Treasury, Budget::Subsidy, Budget::Campaigns];

    /// The account.
    pub const fn account(self) -> AccountId {
        match self {
            Budget::Treasury => AccountId::TREASURY,
            Budget::Subsidy => AccountId::SUBSIDY,
            Budget::Campaigns => AccountId::CAMPAIGNS,
        }
    }

    /// The wire's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Budget::Treasury => "treasury",
            Budget::Subsidy => "subsidy",
            Budget::Campaigns => "campaigns",
        }
    }
}

/// What admins may do with money. Each answers to something outside, by its reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// Money is made for the issuer.
    Issue,
    /// The issuer's money is burned.
    Redeem,
    /// A budget pays an account.
    Grant {
        /// Which.
        from: Budget,
        /// Whom.
        to: AccountId,
    },
}

/// What was done under an external reference; kept for ever, so that it is never done again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalRow {
    /// What.
    pub deed: Deed,
    /// How much.
    pub amount: Money,
    /// By which proposal.
    pub proposal: ProposalId,
    /// Index of the entry.
    pub index: u64,
    /// Its ledger time, ms.
    pub at_ms: u64,
}

impl State {
    /// Where all money came from.
    pub fn supply(&self) -> &Supply {
        &self.head.supply
    }

    /// The issuer's account, where genesis names one.
    pub fn issuer(&self) -> Option<AccountId> {
        self.genesis.economy.issuer.map(|key| AccountId::of_key(&self.cluster_id, &key))
    }

    /// What was done under an external reference.
    pub fn external(&self, reference: &str) -> Option<&ExternalRow> {
        self.external.get(&external_key(reference))
    }
}

fn external_key(reference: &str) -> Hash {
    sha256(&[b"MatrixAI/external/v1", reference.as_bytes()])
}

/// Whether a deed may be done now.
///
/// # Errors
/// `bad_reference`, `reference_used`, `zero_amount`; `no_issuer`, `issue_cap`; `unknown_account`, `system_account`;
/// `insufficient_funds`.
pub(crate) fn check(state: &State, deed: &Deed, amount: Money, reference: &str) -> Result<(), Refusal> {
    if !(1..=REFERENCE_BYTES_MAX).contains(&reference.len()) {
        return Err(Refusal::BadReference);
    }
    if state.external(reference).is_some() {
        return Err(Refusal::ReferenceUsed);
    }
    if amount.is_zero() {
        return Err(Refusal::ZeroAmount);
    }
    let covered = |money: Money| if money < amount { Err(Refusal::InsufficientFunds) } else { Ok(()) };
    match deed {
        Deed::Issue => {
            state.issuer().ok_or(Refusal::NoIssuer)?;
            if may_issue(state).is_none_or(|room| room < amount) { Err(Refusal::IssueCap) } else { Ok(()) }
        }
        Deed::Redeem => covered(limits::spendable(state, state.issuer().ok_or(Refusal::NoIssuer)?)),
        Deed::Grant { from, to } => match state.accounts.get(to).map(|row| row.role) {
            None => Err(Refusal::UnknownAccount),
            Some(AccountRole::System) => Err(Refusal::SystemAccount),
            Some(AccountRole::User | AccountRole::Admin | AccountRole::Operator | AccountRole::Auditor) => {
                covered(balance(state, from.account()))
            }
        },
    }
}

/// What may be issued now: up to the cap on what is outstanding, and never so much that what genesis promises otherwise
/// would not fit into all the money there can be.
fn may_issue(state: &State) -> Option<Money> {
    let Supply { issued, redeemed, .. } = state.head.supply;
    let outstanding = issued.saturating_sub(redeemed);
    let promised = promised(&state.genesis.economy, state.genesis.faucet_total)?;
    let room = Money::MAX.checked_sub(promised)?.checked_sub(issued)?;
    Some(state.genesis.economy.issue_max.saturating_sub(outstanding).at_most(room))
}

/// What genesis may make without the admins; `None` above [`Money::MAX`].
pub(crate) fn promised(economy: &Economy, faucet_total: Money) -> Option<Money> {
    economy.most_emitted()?.checked_add(faucet_total)
}

/// Does what [`check`] has passed on this very state.
pub(crate) fn perform(
    state: &mut State,
    ctx: &mut Context,
    deed: &Deed,
    amount: Money,
    reference: &str,
    proposal: ProposalId,
) {
    let memo = Memo::of(reference);
    let about = |cause, counterparty| About {
        cause,
        counterparty: Some(counterparty),
        reference: Some(Reference::Proposal(proposal)),
        memo: memo.as_ref(),
    };
    let issuer = state.issuer();
    let sum = |sum: Money| sum.checked_add(amount).expect("what may be issued fits all the money there can be");
    match (deed, issuer) {
        (Deed::Issue, Some(issuer)) => {
            state.head.supply.issued = sum(state.head.supply.issued);
            mint(state, ctx, issuer, amount, about(Cause::Issue, AccountId::MINT));
            ctx.event("economy.issued", issuer, format!("{amount} minor units were issued for {reference:?}."));
        }
        (Deed::Redeem, Some(issuer)) => {
            state.head.supply.redeemed = sum(state.head.supply.redeemed);
            burn(state, ctx, issuer, amount, about(Cause::Redeem, AccountId::BURN));
            ctx.event("economy.redeemed", issuer, format!("{amount} minor units were redeemed for {reference:?}."));
        }
        (Deed::Grant { from, to }, _) => {
            let budget = from.account();
            change(state, ctx, budget, Change::LoseBalance(amount), about(Cause::Grant, *to));
            change(state, ctx, *to, Change::GainBalance(amount), about(Cause::Grant, budget));
            ctx.event("economy.granted", *to, format!("{amount} minor units were granted for {reference:?}."));
        }
        (Deed::Issue | Deed::Redeem, None) => unreachable!("it was checked that there is an issuer"),
    }
    let row = ExternalRow { deed: deed.clone(), amount, proposal, index: ctx.index, at_ms: ctx.now_ms };
    state.external.insert(external_key(reference), row);
}

/// Called at the close of an epoch: makes what genesis says, and fills the budgets.
pub(crate) fn emit(state: &mut State, ctx: &mut Context, epoch: u64) {
    let economy = &state.genesis.economy;
    let amount = economy.emission_of(epoch);
    if amount.is_zero() {
        return;
    }
    let parts = amount.split(economy.shares());
    let supply = &mut state.head.supply;
    supply.emitted = supply.emitted.checked_add(amount).expect("genesis was checked to leave room for all emissions");
    let about = About {
        cause: Cause::Emission,
        counterparty: Some(AccountId::MINT),
        reference: Some(Reference::Epoch(epoch)),
        memo: None,
    };
    for (budget, part) in Budget::ALL.into_iter().zip(parts) {
        if !part.is_zero() {
            mint(state, ctx, budget.account(), part, about);
        }
    }
}

/// The faucet gives test money, within its limits, which the caller has checked.
pub(super) fn faucet(state: &mut State, ctx: &mut Context, to: AccountId, amount: Money) {
    let supply = &mut state.head.supply;
    supply.from_faucet = supply.from_faucet.checked_add(amount).expect("the faucet's total limits what it gives");
    let about = About { cause: Cause::Faucet, counterparty: Some(AccountId::FAUCET), reference: None, memo: None };
    mint(state, ctx, to, amount, about);
}

/// An account burns money of its own: refused if it is none, or more than it has above what every account must keep.
pub(crate) fn burn_own(state: &mut State, ctx: &mut Context, account: AccountId, cmd: &BurnFunds) -> Outcome {
    if cmd.amount.is_zero() {
        return Refusal::ZeroAmount.into();
    }
    if limits::spendable(state, account) < cmd.amount {
        return Refusal::InsufficientFunds.into();
    }
    let about = About { cause: Cause::Burn, counterparty: Some(AccountId::BURN), reference: None, memo: None };
    burn(state, ctx, account, cmd.amount, about);
    ctx.event("economy.burned", account, format!("Account {account} burned {} minor units.", cmd.amount));
    Outcome::DONE
}

/// Burns the share of a fee that genesis says, out of the treasury, which was just paid the fee.
pub(super) fn burn_share(state: &mut State, ctx: &mut Context, fee: Money, reference: Reference) {
    let burn_bp = state.genesis.economy.burn_bp;
    let [_, burned] = fee.split([WHOLE_BP.saturating_sub(burn_bp), burn_bp]);
    if !burned.is_zero() {
        let about =
            About { cause: Cause::Burn, counterparty: Some(AccountId::BURN), reference: Some(reference), memo: None };
        burn(state, ctx, AccountId::TREASURY, burned, about);
    }
}

fn mint(state: &mut State, ctx: &mut Context, to: AccountId, amount: Money, about: About<'_>) {
    let minted = state.head.minted.checked_add(amount);
    state.head.minted = minted.expect("all that may be made fits all the money there can be");
    change(state, ctx, to, Change::GainBalance(amount), about);
}

fn burn(state: &mut State, ctx: &mut Context, of: AccountId, amount: Money, about: About<'_>) {
    change(state, ctx, of, Change::LoseBalance(amount), about);
    let burned = state.head.burned.checked_add(amount);
    state.head.burned = burned.expect("no more is burned than was made");
}

/// All that was made came from somewhere, within what genesis allows.
pub(crate) fn check_supply(state: &State) -> Result<(), String> {
    let Supply { from_faucet, emitted, issued, redeemed } = state.head.supply;
    let made = from_faucet.checked_add(emitted).and_then(|sum| sum.checked_add(issued));
    ensure(made == Some(state.minted()), || format!("{} minted, {made:?} of known origin", state.minted()))?;
    ensure(from_faucet <= state.genesis.faucet_total, || "the faucet gave more than genesis allows".to_owned())?;
    ensure(redeemed <= state.burned(), || "more was redeemed than burned".to_owned())?;
    let outstanding = issued.saturating_sub(redeemed);
    ensure(outstanding <= state.genesis.economy.issue_max, || format!("{outstanding} issued and not redeemed"))?;
    let wanted = state.genesis.economy.emitted_by(state.closed_epochs());
    ensure(emitted == wanted, || format!("{emitted} emitted, {wanted} by the formula"))
}
