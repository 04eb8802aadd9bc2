//! Limits, and the actions of proposals.

use super::{
    super::{World, key},
    Args,
    commands::campaign,
    plain,
};
use matrixai_proto::v1;

pub(super) fn limits(args: &Args<'_>) -> v1::Limits {
    v1::Limits {
        commands_per_s: args.number("rate", 0) as u32,
        burst: args.number("burst", 0) as u32,
        open_max: args.number("open_max", 0) as u32,
        storage_bytes: args.number("storage", 0),
    }
}

/// `genesis emission=100 halving=3 subsidy_bp=2500 campaign_bp=2500 burn_bp=5000 issuer=bank issue_max=10MAI dispute=60`
pub(super) fn economy(args: &Args<'_>) -> Option<v1::Economy> {
    let economy = v1::Economy {
        emission: args.get("emission").map(plain).unwrap_or_default(),
        halving_epochs: args.number("halving", 0),
        subsidy_bp: args.number("subsidy_bp", 0) as u32,
        campaign_bp: args.number("campaign_bp", 0) as u32,
        burn_bp: args.number("burn_bp", 0) as u32,
        issuer: args.get("issuer").map_or_else(Vec::new, |name| key(name).to_vec()),
        issue_max: args.get("issue_max").map(plain).unwrap_or_default(),
        dispute_s: args.number("dispute", 0),
    };
    (economy != v1::Economy::default()).then_some(economy)
}

/// `propose do=add_node key=n4 port=1004`
pub(super) fn action(world: &World, args: &Args<'_>) -> v1::admin_action::Kind {
    use v1::admin_action::Kind;
    let node = args.number("node", 0);
    let address = |name: &str, base: u64| match args.get(name) {
        Some(address) => address.to_owned(),
        None => format!("127.0.0.1:{}", base + args.number("port", node)),
    };
    let (grpc, web) = (address("grpc", 1000), address("web", 2000));
    match args.need("do") {
        "add_node" => Kind::AddNode(v1::AddNode { key: key(args.need("key")).to_vec(), grpc, web }),
        "promote" => Kind::PromoteNode(v1::PromoteNode { node }),
        "remove" => Kind::RemoveNode(v1::RemoveNode { node }),
        "move" => Kind::SetNodeAddress(v1::SetNodeAddress { node, grpc, web }),
        "fee" => Kind::SetFee(v1::SetFee { fee_bp: args.number("bp", 0) as u32 }),
        "limits" => Kind::SetLimits(v1::SetLimits {
            account: args.get("of").map_or_else(Vec::new, |name| world.account(name).0.to_vec()),
            limits: args.get("default").is_none().then(|| limits(args)),
        }),
        "role" => Kind::SetRole(v1::SetRole {
            account: world.account(args.need("of")).0.to_vec(),
            role: args.need("role").to_owned(),
        }),
        "threshold" => Kind::SetThreshold(v1::SetThreshold { threshold: args.number("of", 0) as u32 }),
        "campaign" => Kind::PublishCampaign(campaign(args)),
        "rules" => Kind::SwitchRules(v1::SwitchRules { version: args.number("version", 2) as u32 }),
        "minimum" => Kind::SetMinimumBalance(v1::SetMinimumBalance { amount: args.money("amount", "0") }),
        "issue" => Kind::Issue(v1::Issue { amount: args.money("amount", "0"), reference: reference(args) }),
        "redeem" => Kind::Redeem(v1::Redeem { amount: args.money("amount", "0"), reference: reference(args) }),
        "grant" => Kind::Grant(v1::Grant {
            budget: args.get("from").unwrap_or("treasury").to_owned(),
            to: world.account(args.need("to")).0.to_vec(),
            amount: args.money("amount", "0"),
            reference: reference(args),
        }),
        other => panic!("{}: there is no action {other:?}", args.place),
    }
}

/// `ref=wire-7`; a number of bytes if it is only that.
fn reference(args: &Args<'_>) -> String {
    let text = args.get("ref").unwrap_or_default();
    text.parse().map_or_else(|_| text.to_owned(), |bytes| "r".repeat(bytes))
}
