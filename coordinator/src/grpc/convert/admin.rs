//! What admins have set and proposed.

use matrixai_proto::v1::{self, admin_action::Kind};
use matrixai_state::{
    State,
    accounts::AccountRole,
    admin::{Action, ProposalRow},
    ids::AccountId,
    ledger::supply::Deed,
    limits::Limits,
    nodes::NodeRow,
};

/// Accounts with limits of their own in one answer.
const LIMITS_LISTED_MAX: usize = 1_000;

/// Who administers the cluster and how, its nodes, and the open proposals.
pub(crate) fn policy(state: &State) -> v1::GetPolicyReply {
    let policy = state.policy();
    let staff = |wanted: AccountRole| {
        state.staff().filter(|(_, role)| *role == wanted).map(|(account, _)| account.0.to_vec()).collect()
    };
    v1::GetPolicyReply {
        admin_threshold: policy.admin_threshold,
        admins: staff(AccountRole::Admin),
        operators: staff(AccountRole::Operator),
        auditors: staff(AccountRole::Auditor),
        fee_bp: policy.fee_bp,
        limits: Some(limits(policy.limits)),
        minimum_balance: policy.minimum_balance.to_string(),
        rules_version: state.rules_version(),
        nodes: state.nodes().map(node).collect(),
        proposals: state.proposals().map(proposal).collect(),
        now_ms: state.now_ms(),
        account_limits: state.own_limits().take(LIMITS_LISTED_MAX).map(account_limits).collect(),
    }
}

fn account_limits((account, own): (AccountId, Limits)) -> v1::AccountLimits {
    v1::AccountLimits { account: account.0.to_vec(), limits: Some(limits(own)) }
}

fn limits(limits: Limits) -> v1::Limits {
    let Limits { commands_per_s, burst, open_max, storage_bytes } = limits;
    v1::Limits { commands_per_s, burst, open_max, storage_bytes }
}

fn node(row: &NodeRow) -> v1::PolicyNode {
    v1::PolicyNode {
        id: row.id.0,
        key: row.key.to_vec(),
        grpc: row.grpc.clone(),
        web: row.web.clone(),
        standing: row.standing.as_str().to_owned(),
        rules_version: row.rules_version,
    }
}

fn proposal(row: &ProposalRow) -> v1::Proposal {
    v1::Proposal {
        id: row.id.0.to_vec(),
        proposer: row.proposer.0.to_vec(),
        action: Some(v1::AdminAction { kind: Some(action(&row.action)) }),
        approvals: row.approvals.iter().map(|account| account.0.to_vec()).collect(),
        made_ms: row.made_ms,
        expires_ms: row.expires_ms,
    }
}

fn action(action: &Action) -> Kind {
    match action {
        Action::AddNode { key, grpc, web } => {
            Kind::AddNode(v1::AddNode { key: key.to_vec(), grpc: grpc.clone(), web: web.clone() })
        }
        Action::PromoteNode(node) => Kind::PromoteNode(v1::PromoteNode { node: node.0 }),
        Action::RemoveNode(node) => Kind::RemoveNode(v1::RemoveNode { node: node.0 }),
        Action::SetNodeAddress { node, grpc, web } => {
            Kind::SetNodeAddress(v1::SetNodeAddress { node: node.0, grpc: grpc.clone(), web: web.clone() })
        }
        Action::SetFee(fee_bp) => Kind::SetFee(v1::SetFee { fee_bp: *fee_bp }),
        Action::SetLimits { account, limits: own } => Kind::SetLimits(v1::SetLimits {
            account: account.map(|account| account.0.to_vec()).unwrap_or_default(),
            limits: own.map(limits),
        }),
        Action::SetRole { account, role } => {
            Kind::SetRole(v1::SetRole { account: account.0.to_vec(), role: role.as_str().to_owned() })
        }
        Action::SetThreshold(threshold) => Kind::SetThreshold(v1::SetThreshold { threshold: *threshold }),
        Action::PublishCampaign(campaign) => Kind::PublishCampaign(v1::PublishCampaign {
            kernel: campaign.kernel.to_string(),
            params: campaign.params.to_vec(),
            units: campaign.units,
            redundancy: campaign.redundancy,
            interval_ms: campaign.interval_ms,
        }),
        Action::SwitchRules(version) => Kind::SwitchRules(v1::SwitchRules { version: *version }),
        Action::SetMinimumBalance(amount) => {
            Kind::SetMinimumBalance(v1::SetMinimumBalance { amount: amount.to_string() })
        }
        Action::Money { deed, amount, reference } => {
            let (amount, reference) = (amount.to_string(), reference.clone());
            match deed {
                Deed::Issue => Kind::Issue(v1::Issue { amount, reference }),
                Deed::Redeem => Kind::Redeem(v1::Redeem { amount, reference }),
                Deed::Grant { from, to } => {
                    let budget = from.as_str().to_owned();
                    Kind::Grant(v1::Grant { budget, to: to.0.to_vec(), amount, reference })
                }
            }
        }
    }
}
