//! Orders for machines, and the agreements that they lead to.

use super::{Desk, own_account};
use crate::{
    args::{OrderArgs, OrderVerb},
    client::{Client, ask},
    convert,
    error::Result,
    money::{parse_mai, wire_mai},
    output::{self, short},
};
use matrixai_proto::v1::{self, command::Kind};
use serde_json::{Value, json};

const MINUTE_MS: u64 = 60_000;

pub(crate) async fn run(desk: &Desk, verb: OrderVerb) -> Result<()> {
    match verb {
        OrderVerb::Place(args) => place(desk, args).await,
        OrderVerb::Amend { order, machines, price, total, minutes } => {
            let amend = v1::AmendOrder {
                order: convert::id(&order)?,
                machines: machines.unwrap_or(0),
                price_limit: price.map(|price| mai(&price)).transpose()?.unwrap_or_default(),
                total_limit: total.map(|total| mai(&total)).transpose()?.unwrap_or_default(),
                expires_ms: match minutes {
                    Some(minutes) => in_minutes(desk, minutes).await?,
                    None => 0,
                },
            };
            desk.submit(Kind::AmendOrder(amend), "amended").await
        }
        OrderVerb::Cancel { order } => {
            desk.submit(Kind::CancelOrder(v1::CancelOrder { order: convert::id(&order)? }), "cancelled").await
        }
        OrderVerb::End { agreement } => {
            let end = v1::EndAgreement { agreement: convert::id(&agreement)? };
            desk.submit(Kind::EndAgreement(end), "ended").await
        }
        OrderVerb::Renew { agreement, for_s } => {
            let renew = v1::RenewAgreement { agreement: convert::id(&agreement)?, duration_s: for_s };
            desk.submit(Kind::RenewAgreement(renew), "renewed").await
        }
        OrderVerb::Explain { order } => explain(desk, &order).await,
        OrderVerb::List { everybody, all } => list(desk, everybody, all).await,
    }
}

async fn place(desk: &Desk, args: OrderArgs) -> Result<()> {
    let at_once = args.now || args.offer.is_some();
    let order = v1::PlaceOrder {
        machines: args.machines,
        least: args.least,
        price_limit: mai(&args.price)?,
        total_limit: mai(&args.total)?,
        duration_s: args.seconds,
        expires_ms: if at_once { 0 } else { in_minutes(desk, args.minutes).await? },
        immediate: args.now,
        offer: args.offer.map(|offer| convert::id(&offer)).transpose()?.unwrap_or_default(),
        query: args.query,
        start_deadline_s: args.start_s,
        away_s: args.away_s,
        interruptible: args.interruptible,
    };
    desk.submit(Kind::PlaceOrder(order), "ordered").await
}

/// Waiting orders and agreements: an account's, or everybody's.
pub(crate) async fn orders(client: &Client, account: Vec<u8>, all: bool) -> Result<v1::ListOrdersReply> {
    let request = v1::ListOrdersRequest { account, all };
    ask!(client, market_client::MarketClient.list_orders, request.clone())
}

/// An order for machines and programs.
pub(crate) fn order_value(order: &v1::Order) -> Value {
    json!({
        "order": hex::encode(&order.id), "job": hex::encode(&order.job), "buyer": hex::encode(&order.buyer),
        "machines": order.machines, "least": order.least, "price_limit": wire_mai(&order.price_limit),
        "total_limit": wire_mai(&order.total_limit), "seconds": order.duration_s, "where": order.query,
        "expires_ms": order.expires_ms, "interruptible": order.interruptible,
    })
}

/// An order as a row.
pub(crate) fn order_row(order: &v1::Order) -> Vec<String> {
    vec![
        hex::encode(&order.id),
        if order.job.is_empty() { "machines".to_owned() } else { "a job".to_owned() },
        format!("{} (least {})", order.machines, order.least),
        wire_mai(&order.price_limit),
        wire_mai(&order.total_limit),
        format!("{} s", order.duration_s),
        order.query.clone(),
    ]
}

/// What stands over [`order_row`].
pub(crate) const ORDER_HEAD: [&str; 7] = ["order", "for", "machines", "MAI/h", "total MAI", "rent", "where"];

async fn list(desk: &Desk, everybody: bool, all: bool) -> Result<()> {
    let client = desk.client().await?;
    let account = match everybody {
        true => Vec::new(),
        false => own_account(&client, &desk.signer()?).await?,
    };
    let reply = orders(&client, account, all).await?;
    let value = json!({
        "orders": reply.orders.iter().map(order_value).collect::<Vec<_>>(),
        "agreements": reply.agreements.iter().map(agreement_value).collect::<Vec<_>>(),
    });
    output::show(desk.format, &value, || {
        let orders: Vec<Vec<String>> = reply.orders.iter().map(order_row).collect();
        let agreements: Vec<Vec<String>> = reply.agreements.iter().map(agreement_row).collect();
        let head = ["agreement", "machine", "buyer", "seller", "MAI/h", "online", "earned", "locked", "held", "state"];
        format!("{}\n{}", output::table(&ORDER_HEAD, &orders), output::table(&head, &agreements))
    });
    Ok(())
}

fn agreement_value(agreement: &v1::Agreement) -> Value {
    json!({
        "agreement": hex::encode(&agreement.id), "order": hex::encode(&agreement.order),
        "offer": hex::encode(&agreement.offer), "machine": hex::encode(&agreement.machine),
        "buyer": hex::encode(&agreement.buyer), "seller": hex::encode(&agreement.seller),
        "price_per_hour": wire_mai(&agreement.price_per_hour), "held": wire_mai(&agreement.held),
        "earned": wire_mai(&agreement.earned), "fees": wire_mai(&agreement.fees),
        "paid": wire_mai(&agreement.paid), "locked": wire_mai(&agreement.locked),
        "returned": wire_mai(&agreement.returned), "pay_ms": agreement.pay_ms,
        "matched_ms": agreement.matched_ms, "end_ms": agreement.end_ms, "closed_ms": agreement.closed_ms,
        "closed": agreement.closed, "fault": agreement.fault, "online_ms": agreement.online_ms,
        "seconds": agreement.duration_s, "started_ms": agreement.started_ms, "again": hex::encode(&agreement.again),
    })
}

fn agreement_row(agreement: &v1::Agreement) -> Vec<String> {
    vec![
        hex::encode(&agreement.id),
        short(&agreement.machine),
        short(&agreement.buyer),
        short(&agreement.seller),
        wire_mai(&agreement.price_per_hour),
        format!("{} s", agreement.online_ms / 1_000),
        wire_mai(&agreement.earned),
        wire_mai(&agreement.locked),
        wire_mai(&agreement.held),
        match (agreement.closed.as_str(), agreement.started_ms) {
            ("", 0) => "has not begun".to_owned(),
            ("", _) => "runs".to_owned(),
            (closed, _) => format!("{closed} ({})", agreement.fault),
        },
    ]
}

/// Why an order waits.
pub(crate) async fn explain(desk: &Desk, order: &str) -> Result<()> {
    let (client, order) = (desk.client().await?, convert::id(order)?);
    let request = v1::ExplainOrderRequest { order };
    let found = ask!(client, market_client::MarketClient.explain_order, request.clone())?;
    let to = match found.change.as_str() {
        "price_limit" | "total_limit" => wire_mai(&found.to),
        _ => found.to.clone(),
    };
    let value = json!({
        "offers": found.offers, "fitting": found.fitting, "needed": found.needed,
        "conditions": found.conditions.iter().map(|one| json!({
            "condition": one.condition, "fail": one.offers, "undefined": one.undefined, "fail_only_this": one.alone,
        })).collect::<Vec<_>>(),
        "change": found.change, "to": to, "cost": if found.cost.is_empty() { Value::Null } else { wire_mai(&found.cost).into() },
    });
    output::show(desk.format, &value, || {
        let rows: Vec<Vec<String>> = found
            .conditions
            .iter()
            .map(|one| {
                vec![one.condition.clone(), one.offers.to_string(), one.undefined.to_string(), one.alone.to_string()]
            })
            .collect();
        let table = output::table(&["condition", "offers fail it", "undefined", "fail only this"], &rows);
        let change = match found.change.as_str() {
            "" => "No single change would match now.".to_owned(),
            change => format!("It would match now with {change} = {to:?}, for {} MAI.", wire_mai(&found.cost)),
        };
        let (offers, fitting, needed) = (found.offers, found.fitting, found.needed);
        format!("{fitting} of {offers} open offers fit; the order takes at least {needed}.\n{table}\n{change}")
    });
    Ok(())
}

fn mai(text: &str) -> Result<String> {
    Ok(parse_mai(text)?.to_string())
}

async fn in_minutes(desk: &Desk, minutes: u64) -> Result<u64> {
    let now_ms = desk.client().await?.status().await?.now_ms;
    Ok(now_ms.saturating_add(minutes.saturating_mul(MINUTE_MS)))
}
