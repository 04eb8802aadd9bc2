//! What admins can change, one arm each for whether it may be done now and for doing it.

use super::{Policy, rights::Right};
use crate::{
    accounts::AccountRole,
    command::PublishCampaign,
    context::Context,
    drilling,
    genesis::{ADMINS_MAX, FEE_BP_MAX},
    ids::{AccountId, Key, NodeId, ProposalId},
    ledger::supply::{self, Deed},
    limits::Limits,
    money::Money,
    nodes::{self, Standing},
    outcome::{Detail, Refusal},
    state::State,
};
use serde::{Deserialize, Serialize};

/// A change that admins decide on. Closed; append at the end (stored by position). The numbers are those of
/// `AdminAction` in admin.proto.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// 1: a coordinator joins as a learner.
    AddNode {
        /// Its key.
        key: Key,
        /// host:port of its gRPC server.
        grpc: String,
        /// host:port of its web server.
        web: String,
    },
    /// 2: a learner becomes a voter.
    PromoteNode(NodeId),
    /// 3: a coordinator leaves for good.
    RemoveNode(NodeId),
    /// 4: a coordinator has moved.
    SetNodeAddress {
        /// Which.
        node: NodeId,
        /// host:port of its gRPC server.
        grpc: String,
        /// host:port of its web server.
        web: String,
    },
    /// 5: the fee on jobs submitted from now on, basis points.
    SetFee(u32),
    /// 6: limits of one account (none: back to the default), or the default.
    SetLimits {
        /// Whose; none for the network's default.
        account: Option<AccountId>,
        /// None takes an account's own limits away.
        limits: Option<Limits>,
    },
    /// 7: what an account may do.
    SetRole {
        /// Whose.
        account: AccountId,
        /// Any but the system's.
        role: AccountRole,
    },
    /// 8: how many admins must approve.
    SetThreshold(u32),
    /// 9: publishes drilling units.
    PublishCampaign(PublishCampaign),
    /// 10: the next rules.
    SwitchRules(u32),
    /// 11: what every account must keep.
    SetMinimumBalance(Money),
    /// 12 to 14: money is made, burned, or paid out of a budget.
    Money {
        /// Which of it.
        deed: Deed,
        /// How much.
        amount: Money,
        /// What it answers to outside.
        reference: String,
    },
}

impl Action {
    /// What it takes to propose it.
    pub(super) const fn right(&self) -> Right {
        match self {
            Action::AddNode { .. }
            | Action::PromoteNode(_)
            | Action::RemoveNode(_)
            | Action::SetNodeAddress { .. }
            | Action::PublishCampaign(_) => Right::ProposeOperations,
            Action::SetFee(_)
            | Action::SetLimits { .. }
            | Action::SetRole { .. }
            | Action::SetThreshold(_)
            | Action::SwitchRules(_)
            | Action::SetMinimumBalance(_)
            | Action::Money { .. } => Right::ProposeAnything,
        }
    }

    /// Whether it could be done now.
    ///
    /// # Errors
    /// What forbids it.
    pub(super) fn check(&self, state: &State) -> Result<(), Refusal> {
        match self {
            Action::AddNode { key, grpc, web } => nodes::check_add(state, key, grpc, web),
            Action::PromoteNode(node) => nodes::check_promote(state, *node),
            Action::RemoveNode(node) => nodes::check_remove(state, *node),
            Action::SetNodeAddress { node, grpc, web } => nodes::check_move(state, *node, grpc, web),
            Action::SetFee(fee_bp) if *fee_bp > FEE_BP_MAX => Err(Refusal::BadFee),
            Action::SetFee(_) | Action::SetMinimumBalance(_) => Ok(()),
            Action::SetLimits { account, limits } => check_limits(state, *account, limits.as_ref()),
            Action::SetRole { account, role } => check_role(state, *account, *role),
            Action::SetThreshold(threshold) => check_threshold(*threshold, state.policy.admins),
            Action::PublishCampaign(campaign) => drilling::check_campaign(state, campaign).map(|_| ()),
            Action::SwitchRules(version) if Some(*version) != state.head.rules_version.checked_add(1) => {
                Err(Refusal::BadRulesVersion)
            }
            Action::SwitchRules(version) => nodes::check_announced(state, *version),
            Action::Money { deed, amount, reference } => supply::check(state, deed, *amount, reference),
        }
    }

    /// Does it for a proposal; [`Action::check`] has passed on this very state.
    ///
    /// # Errors
    /// `id_reused`, for a campaign whose id was made before; nothing has changed then.
    pub(super) fn perform(&self, state: &mut State, ctx: &mut Context, proposal: ProposalId) -> Result<(), Refusal> {
        match self {
            Action::AddNode { key, grpc, web } => nodes::add(state, ctx, *key, grpc, web),
            Action::PromoteNode(node) => nodes::set_standing(state, ctx, *node, Standing::Voter),
            Action::RemoveNode(node) => nodes::set_standing(state, ctx, *node, Standing::Removed),
            Action::SetNodeAddress { node, grpc, web } => nodes::set_address(state, ctx, *node, grpc, web),
            Action::SetFee(fee_bp) => {
                state.policy.fee_bp = *fee_bp;
                ctx.event("policy.fee", [0; 20], format!("The fee is {fee_bp} basis points."));
            }
            Action::SetLimits { account, limits } => set_limits(state, ctx, *account, *limits),
            Action::SetRole { account, role } => set_role(state, ctx, *account, *role),
            Action::SetThreshold(threshold) => {
                state.policy.admin_threshold = *threshold;
                ctx.event("policy.threshold", [0; 20], format!("{threshold} admins must approve."));
            }
            Action::PublishCampaign(campaign) => drilling::publish(state, ctx, campaign).map(|_| ())?,
            Action::SwitchRules(version) => {
                state.head.rules_version = *version;
                state.head.rules_since = ctx.index;
                ctx.event("policy.rules", [0; 20], format!("Rules version {version} is in effect."));
            }
            Action::SetMinimumBalance(amount) => {
                state.policy.minimum_balance = *amount;
                ctx.event("policy.minimum", [0; 20], format!("Every account keeps {amount} minor units."));
            }
            Action::Money { deed, amount, reference } => {
                supply::perform(state, ctx, deed, *amount, reference, proposal);
            }
        }
        Ok(())
    }
}

fn check_limits(state: &State, account: Option<AccountId>, limits: Option<&Limits>) -> Result<(), Refusal> {
    match (account, limits) {
        (None, None) => return Err(Refusal::BadLimits(Detail::new("the network's default must be named"))),
        (Some(account), _) if !state.accounts.contains(&account) => return Err(Refusal::UnknownAccount),
        (Some(_) | None, _) => {}
    }
    limits.map_or(Ok(()), Limits::check)
}

fn set_limits(state: &mut State, ctx: &mut Context, account: Option<AccountId>, limits: Option<Limits>) {
    match (account, limits) {
        (Some(account), Some(limits)) => {
            state.limits.insert(account, limits);
            ctx.event("policy.limits", account, format!("Account {account} has limits of its own."));
        }
        (Some(account), None) => {
            state.limits.remove(&account);
            ctx.event("policy.limits", account, format!("Account {account} has the network's limits."));
        }
        (None, limits) => {
            state.policy.limits = limits.unwrap_or_default();
            ctx.event("policy.limits", [0; 20], "The network's limits have changed.");
        }
    }
}

/// The number of admins must go on reaching the threshold: otherwise nothing could ever be approved again.
fn check_role(state: &State, account: AccountId, role: AccountRole) -> Result<(), Refusal> {
    let row = state.accounts.get(&account).ok_or(Refusal::UnknownAccount)?;
    let bad = |what| Err(Refusal::BadRole(Detail::new(what)));
    let Policy { admins, admin_threshold, .. } = state.policy;
    match (row.role, role) {
        (AccountRole::System, _) => bad("system accounts keep theirs"),
        (_, AccountRole::System) => bad("nobody becomes a system account"),
        (now, role) if now == role => bad("the account has it already"),
        (_, AccountRole::Admin) if row.key.is_none() => bad("nobody has taken this account over yet"),
        (_, AccountRole::Admin) if admins as usize >= ADMINS_MAX => bad("there are 64 admins already"),
        (_, AccountRole::Auditor) if row.machines > 0 || row.open > 0 => Err(Refusal::NotIndependent),
        (AccountRole::Admin, _) => check_threshold(admin_threshold, admins.saturating_sub(1)),
        (AccountRole::User | AccountRole::Operator | AccountRole::Auditor, _) => Ok(()),
    }
}

fn check_threshold(threshold: u32, admins: u32) -> Result<(), Refusal> {
    if (1..=admins).contains(&threshold) { Ok(()) } else { Err(Refusal::BadThreshold) }
}

fn set_role(state: &mut State, ctx: &mut Context, account: AccountId, role: AccountRole) {
    let Some(row) = state.accounts.get_mut(&account) else { return };
    let before = std::mem::replace(&mut row.role, role);
    let text =
        format!("Account {account} is {} {} now.", if role == AccountRole::User { "a" } else { "an" }, row.role_name());
    let admins = &mut state.policy.admins;
    if before == AccountRole::Admin {
        *admins = admins.saturating_sub(1);
    }
    if role == AccountRole::Admin {
        *admins = admins.saturating_add(1);
    }
    match role {
        AccountRole::Admin | AccountRole::Operator | AccountRole::Auditor => state.staff.insert(account, role),
        AccountRole::User | AccountRole::System => state.staff.remove(&account),
    };
    ctx.event("account.role", account, text);
}
