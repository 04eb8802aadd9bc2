//! Administration: what the network's admins change, by proposals in the log. A proposal is executed with the approval
//! that reaches the threshold, in that very command; where the threshold is 1, an admin's proposal is executed at once.
//!
//! What an action needs is checked when it is proposed and again when it is executed, since the state may have changed
//! meanwhile; an approval that would execute what can no longer be done is refused and not counted. Only the approvals
//! of accounts that are still admins count.

mod action;
pub(crate) mod rights;

pub use action::Action;

use crate::{
    accounts::AccountRole,
    command::{Approve, Propose, WithdrawProposal},
    context::Context,
    expiry::Timer,
    genesis::Genesis,
    ids::{AccountId, ProposalId},
    limits::Limits,
    money::Money,
    outcome::{Outcome, Refusal},
    state::State,
};
use rights::Right;
use serde::{Deserialize, Serialize};

/// Open proposals.
pub const PROPOSALS_OPEN_MAX: u64 = 64;
/// Open proposals of one account, so that one operator cannot take every place.
pub const PROPOSALS_PER_ACCOUNT_MAX: usize = 16;
/// Longest life of a proposal, ms (30 days).
pub const PROPOSAL_LIFE_MS_MAX: u64 = 2_592_000_000;

/// What the admins have set. Starts as genesis says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Admins that must approve a change.
    pub admin_threshold: u32,
    /// Accounts that are admins.
    pub admins: u32,
    /// Fee on what jobs pay that are submitted from now on, basis points.
    pub fee_bp: u32,
    /// Limits of accounts that have none of their own.
    pub limits: Limits,
    /// What every account must keep.
    pub minimum_balance: Money,
}

impl Policy {
    /// As genesis says.
    pub(crate) fn genesis(genesis: &Genesis) -> Self {
        Self {
            admin_threshold: genesis.admin_threshold,
            admins: u32::try_from(genesis.admin_keys.len()).unwrap_or(u32::MAX),
            fee_bp: genesis.fee_bp,
            limits: genesis.limits,
            minimum_balance: genesis.minimum_balance,
        }
    }
}

/// An action that waits for approvals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalRow {
    /// Its id.
    pub id: ProposalId,
    /// Who made it.
    pub proposer: AccountId,
    /// What is to be done.
    pub action: Action,
    /// Who approved, in order of id. Those who are no longer admins do not count.
    pub approvals: Vec<AccountId>,
    /// Ledger time of its making, ms.
    pub made_ms: u64,
    /// Ledger time at which it lapses, ms.
    pub expires_ms: u64,
}

impl State {
    /// What the admins have set.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Open proposals in order of id.
    pub fn proposals(&self) -> impl Iterator<Item = &ProposalRow> {
        self.proposals.iter().map(|(_, row)| row)
    }

    /// Admins, operators and auditors, in order of id.
    pub fn staff(&self) -> impl Iterator<Item = (AccountId, AccountRole)> + '_ {
        self.staff.iter().map(|(account, role)| (*account, *role))
    }
}

/// Puts an action up for approval.
pub(crate) fn propose(state: &mut State, ctx: &mut Context, proposer: AccountId, cmd: Propose) -> Outcome {
    let Propose { action, expires_ms } = cmd;
    if let Err(refusal) = rights::check(state, proposer, action.right()) {
        return refusal.into();
    }
    if expires_ms <= ctx.now_ms || expires_ms > ctx.now_ms.saturating_add(PROPOSAL_LIFE_MS_MAX) {
        return Refusal::BadExpiry.into();
    }
    if let Err(refusal) = action.check(state) {
        return refusal.into();
    }
    let of_proposer = state.proposals().filter(|row| row.proposer == proposer).count();
    if state.proposals.len() >= PROPOSALS_OPEN_MAX || of_proposer >= PROPOSALS_PER_ACCOUNT_MAX {
        return Refusal::TooManyProposals.into();
    }
    let id = ProposalId(ctx.new_id("proposal"));
    if state.proposals.contains(&id) {
        return Refusal::IdReused.into();
    }
    let approves = rights::check(state, proposer, Right::Approve).is_ok();
    let approvals = if approves { vec![proposer] } else { Vec::new() };
    let row = ProposalRow { id, proposer, action, approvals, made_ms: ctx.now_ms, expires_ms };
    if reached(state, &row.approvals) {
        return match row.action.perform(state, ctx, id) {
            Ok(()) => Outcome::made(id),
            Err(refusal) => refusal.into(),
        };
    }
    ctx.event("proposal.made", id, format!("Account {proposer} proposed {id}."));
    state.timers.insert((expires_ms, Timer::Proposal(id)), ());
    state.proposals.insert(id, row);
    Outcome::made(id)
}

/// Approves a proposal, and executes it if that suffices.
pub(crate) fn approve(state: &mut State, ctx: &mut Context, admin: AccountId, cmd: &Approve) -> Outcome {
    if let Err(refusal) = rights::check(state, admin, Right::Approve) {
        return refusal.into();
    }
    let Some(row) = state.proposals.get(&cmd.proposal) else { return Refusal::UnknownProposal.into() };
    let mut approvals = row.approvals.clone();
    let new = match approvals.binary_search(&admin) {
        Ok(_) => false,
        Err(at) => {
            approvals.insert(at, admin);
            true
        }
    };
    if !reached(state, &approvals) {
        // Approving again helps only where the threshold was lowered meanwhile.
        if !new {
            return Refusal::AlreadyApproved.into();
        }
        if let Some(row) = state.proposals.get_mut(&cmd.proposal) {
            row.approvals = approvals;
        }
        ctx.event("proposal.approved", cmd.proposal, format!("Account {admin} approved proposal {}.", cmd.proposal));
        return Outcome::DONE;
    }
    let action = row.action.clone();
    if let Err(refusal) = action.check(state).and_then(|()| action.perform(state, ctx, cmd.proposal)) {
        return refusal.into();
    }
    close(state, cmd.proposal);
    ctx.event("proposal.executed", cmd.proposal, format!("Proposal {} was executed.", cmd.proposal));
    Outcome::DONE
}

/// Takes a proposal back.
pub(crate) fn withdraw(state: &mut State, ctx: &mut Context, account: AccountId, cmd: &WithdrawProposal) -> Outcome {
    let Some(row) = state.proposals.get(&cmd.proposal) else { return Refusal::UnknownProposal.into() };
    if row.proposer != account {
        return Refusal::NotYourProposal.into();
    }
    close(state, cmd.proposal);
    ctx.event("proposal.withdrawn", cmd.proposal, format!("Proposal {} was withdrawn.", cmd.proposal));
    Outcome::DONE
}

/// A proposal's time is over.
pub(crate) fn on_due(state: &mut State, ctx: &mut Context, proposal: ProposalId) {
    if state.proposals.contains(&proposal) {
        close(state, proposal);
        ctx.event("proposal.lapsed", proposal, format!("Proposal {proposal} has lapsed."));
    }
}

fn close(state: &mut State, proposal: ProposalId) {
    if let Some(row) = state.proposals.remove(&proposal) {
        state.timers.remove(&(row.expires_ms, Timer::Proposal(proposal)));
    }
}

fn reached(state: &State, approvals: &[AccountId]) -> bool {
    let counted = approvals.iter().filter(|account| rights::check(state, **account, Right::Approve).is_ok()).count();
    counted >= state.policy.admin_threshold as usize
}
