//! Administration: every change is a proposal in the log, executed when enough admins have approved it. The verbs that
//! change something make the proposal (`cluster add`, `admin fee`, …); where one admin suffices it is done at once.

use super::Desk;
use crate::{
    args::{AdminVerb, DeedArgs, LimitsArgs},
    client::{Client, ask},
    convert,
    error::{CliError, Result},
    money::{parse_mai, wire_mai},
    output::{self, short},
};
use matrixai_proto::v1::{self, admin_action, command::Kind};
use serde_json::{Value, json};

/// Life of a proposal, ms (7 days).
const LIFE_MS: u64 = 604_800_000;

pub(crate) async fn run(desk: &Desk, verb: AdminVerb) -> Result<()> {
    match verb {
        AdminVerb::List => list(desk).await,
        AdminVerb::Approve { proposal } => {
            let proposal = convert::id(&proposal)?;
            let (client, signer) = (desk.client().await?, desk.signer()?);
            client.submit_one(&signer, Kind::Approve(v1::Approve { proposal: proposal.clone() })).await?;
            tell(desk, &client, &proposal).await
        }
        AdminVerb::Withdraw { proposal } => {
            let proposal = convert::id(&proposal)?;
            desk.submit(Kind::WithdrawProposal(v1::WithdrawProposal { proposal }), "withdrawn").await
        }
        AdminVerb::Fee { basis_points } => {
            propose(desk, admin_action::Kind::SetFee(v1::SetFee { fee_bp: basis_points })).await
        }
        AdminVerb::Role { account, role } => {
            let account = convert::id(&account)?;
            propose(desk, admin_action::Kind::SetRole(v1::SetRole { account, role })).await
        }
        AdminVerb::Threshold { admins } => {
            propose(desk, admin_action::Kind::SetThreshold(v1::SetThreshold { threshold: admins })).await
        }
        AdminVerb::Rules { version } => {
            propose(desk, admin_action::Kind::SwitchRules(v1::SwitchRules { version })).await
        }
        AdminVerb::Minimum { amount } => {
            let amount = parse_mai(&amount)?.to_string();
            propose(desk, admin_action::Kind::SetMinimumBalance(v1::SetMinimumBalance { amount })).await
        }
        AdminVerb::Limits(args) => propose(desk, limits(args)?).await,
        AdminVerb::Issue(DeedArgs { amount, reference }) => {
            let amount = parse_mai(&amount)?.to_string();
            propose(desk, admin_action::Kind::Issue(v1::Issue { amount, reference })).await
        }
        AdminVerb::Redeem(DeedArgs { amount, reference }) => {
            let amount = parse_mai(&amount)?.to_string();
            propose(desk, admin_action::Kind::Redeem(v1::Redeem { amount, reference })).await
        }
        AdminVerb::Grant { budget, to, deed: DeedArgs { amount, reference } } => {
            let (to, amount) = (convert::id(&to)?, parse_mai(&amount)?.to_string());
            propose(desk, admin_action::Kind::Grant(v1::Grant { budget, to, amount, reference })).await
        }
    }
}

/// Makes a proposal and says what became of it.
pub(crate) async fn propose(desk: &Desk, action: admin_action::Kind) -> Result<()> {
    let (client, signer) = (desk.client().await?, desk.signer()?);
    let expires_ms = client.status().await?.now_ms.saturating_add(LIFE_MS);
    let action = Some(v1::AdminAction { kind: Some(action) });
    let id = client.submit_one(&signer, Kind::Propose(v1::Propose { action, expires_ms })).await?;
    tell(desk, &client, &id).await
}

/// Who administers the cluster, and what is proposed.
pub(crate) async fn policy(client: &Client) -> Result<v1::GetPolicyReply> {
    ask!(client, cluster_client::ClusterClient.get_policy, v1::GetPolicyRequest {})
}

/// Whether a proposal was executed or waits, which shows in whether it is still open.
async fn tell(desk: &Desk, client: &Client, id: &[u8]) -> Result<()> {
    let policy = policy(client).await?;
    let open = policy.proposals.iter().find(|row| row.id == id);
    let value = match open {
        None => json!({ "result": "executed", "proposal": hex::encode(id) }),
        Some(row) => json!({
            "result": "open", "proposal": hex::encode(id),
            "approvals": row.approvals.len(), "threshold": policy.admin_threshold,
        }),
    };
    output::show(desk.format, &value, || match open {
        None => format!("done (proposal {})", hex::encode(id)),
        Some(row) => format!(
            "proposal {} has {} of {} approvals; another admin runs: matrixai admin approve {0}",
            hex::encode(id),
            row.approvals.len(),
            policy.admin_threshold
        ),
    });
    Ok(())
}

fn limits(args: LimitsArgs) -> Result<admin_action::Kind> {
    let LimitsArgs { account, default, rate, burst, open_max, storage_bytes } = args;
    if account.is_none() && default {
        return Err(CliError::usage("--default takes an account's own limits away: name one with --account"));
    }
    let account = account.as_deref().map(convert::id).transpose()?.unwrap_or_default();
    let limits = v1::Limits { commands_per_s: rate, burst, open_max, storage_bytes };
    Ok(admin_action::Kind::SetLimits(v1::SetLimits { account, limits: (!default).then_some(limits) }))
}

async fn list(desk: &Desk) -> Result<()> {
    let policy = policy(&desk.client().await?).await?;
    let ids = |ids: &[Vec<u8>]| ids.iter().map(hex::encode).collect::<Vec<_>>();
    let value = json!({
        "threshold": policy.admin_threshold, "admins": ids(&policy.admins), "operators": ids(&policy.operators),
        "auditors": ids(&policy.auditors), "fee_bp": policy.fee_bp, "minimum_balance": policy.minimum_balance,
        "limits": limits_value(&policy.limits.unwrap_or_default()), "rules_version": policy.rules_version,
        "nodes": policy.nodes.iter().map(node_value).collect::<Vec<_>>(),
        "account_limits": policy.account_limits.iter().map(|row| {
            json!({ "account": hex::encode(&row.account), "limits": limits_value(&row.limits.unwrap_or_default()) })
        }).collect::<Vec<_>>(),
        "proposals": policy.proposals.iter().map(proposal_value).collect::<Vec<_>>(),
    });
    output::show(desk.format, &value, || {
        let limits = policy.limits.unwrap_or_default();
        let mut text = format!(
            "{} of {} admins must approve; {} operators, {} auditors\nfee {} basis points, minimum balance {} MAI, rules \
             version {}\nlimits: {}\n\n",
            policy.admin_threshold,
            policy.admins.len(),
            policy.operators.len(),
            policy.auditors.len(),
            policy.fee_bp,
            wire_mai(&policy.minimum_balance),
            policy.rules_version,
            describe_limits(&limits),
        );
        let nodes: Vec<Vec<String>> = policy
            .nodes
            .iter()
            .map(|node| {
                vec![node.id.to_string(), node.standing.clone(), node.rules_version.to_string(), node.grpc.clone()]
            })
            .collect();
        text.push_str(&output::table(&["node", "standing", "rules", "gRPC"], &nodes));
        let proposals: Vec<Vec<String>> = policy
            .proposals
            .iter()
            .map(|row| {
                let left_h = row.expires_ms.saturating_sub(policy.now_ms) / 3_600_000;
                vec![
                    hex::encode(&row.id),
                    describe(row.action.as_ref()),
                    short(&row.proposer),
                    row.approvals.len().to_string(),
                    format!("{left_h} h"),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&output::table(&["proposal", "action", "by", "approvals", "lapses in"], &proposals));
        text
    });
    Ok(())
}

fn limits_value(limits: &v1::Limits) -> Value {
    json!({
        "commands_per_s": limits.commands_per_s, "burst": limits.burst, "open_max": limits.open_max,
        "storage_bytes": limits.storage_bytes,
    })
}

fn node_value(node: &v1::PolicyNode) -> Value {
    json!({
        "node": node.id, "key": hex::encode(&node.key), "grpc": node.grpc, "web": node.web, "standing": node.standing,
        "rules_version": node.rules_version,
    })
}

fn proposal_value(row: &v1::Proposal) -> Value {
    json!({
        "id": hex::encode(&row.id), "proposer": hex::encode(&row.proposer), "action": describe(row.action.as_ref()),
        "approvals": row.approvals.iter().map(hex::encode).collect::<Vec<_>>(), "made_ms": row.made_ms,
        "expires_ms": row.expires_ms,
    })
}

fn describe_limits(limits: &v1::Limits) -> String {
    let figure = |figure: u64| if figure == 0 { "no limit".to_owned() } else { figure.to_string() };
    format!(
        "commands a second {}, burst {}, open offers and jobs {}, bytes of artifacts {}",
        figure(limits.commands_per_s.into()),
        figure(limits.burst.into()),
        figure(limits.open_max.into()),
        figure(limits.storage_bytes)
    )
}

/// An action as an admin reads it before approving.
fn describe(action: Option<&v1::AdminAction>) -> String {
    use admin_action::Kind as Action;
    match action.and_then(|action| action.kind.as_ref()) {
        None => "an action that this program does not know".to_owned(),
        Some(Action::AddNode(c)) => format!("add node {} at {} and {}", hex::encode(&c.key), c.grpc, c.web),
        Some(Action::PromoteNode(c)) => format!("promote node {}", c.node),
        Some(Action::RemoveNode(c)) => format!("remove node {}", c.node),
        Some(Action::SetNodeAddress(c)) => format!("node {} is at {} and {}", c.node, c.grpc, c.web),
        Some(Action::SetFee(c)) => format!("fee {} basis points", c.fee_bp),
        Some(Action::SetLimits(c)) => {
            let of = if c.account.is_empty() { "everybody".to_owned() } else { hex::encode(&c.account) };
            let limits = c.limits.as_ref().map_or_else(|| "the network's".to_owned(), describe_limits);
            format!("limits of {of}: {limits}")
        }
        Some(Action::SetRole(c)) => format!("account {} is {}", hex::encode(&c.account), c.role),
        Some(Action::SetThreshold(c)) => format!("{} admins must approve", c.threshold),
        Some(Action::PublishCampaign(c)) => {
            format!("campaign of {} {} {:?} units for {} machines each", c.units, c.kernel, c.params, c.redundancy)
        }
        Some(Action::SwitchRules(c)) => format!("rules version {}", c.version),
        Some(Action::Issue(c)) => format!("issue {} MAI for {:?}", wire_mai(&c.amount), c.reference),
        Some(Action::Redeem(c)) => format!("redeem {} MAI for {:?}", wire_mai(&c.amount), c.reference),
        Some(Action::Grant(c)) => {
            let (amount, to) = (wire_mai(&c.amount), hex::encode(&c.to));
            format!("grant {amount} MAI out of {} to {to} for {:?}", c.budget, c.reference)
        }
        Some(Action::SetMinimumBalance(c)) => format!("minimum balance {} MAI", wire_mai(&c.amount)),
    }
}
