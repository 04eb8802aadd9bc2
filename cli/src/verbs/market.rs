//! Machines, offers and trades.

mod list;
mod outlook;

use super::{Desk, order};
use crate::{
    args::{MarketVerb, OfferVerb},
    client::{Client, ask},
    convert,
    error::Result,
    money::{parse_mai, wire_mai},
    output::{self, short},
};
use matrixai_proto::v1::{self, command::Kind};
use serde_json::{Value, json};

const HOUR_MS: u64 = 3_600_000;
/// The kernel by whose speed trainings are split and machines compared.
const SPLIT_KERNEL: &str = "fgemm";

pub(crate) async fn run(desk: &Desk, verb: MarketVerb) -> Result<()> {
    match verb {
        MarketVerb::List(args) if args.all => list::all(desk).await,
        MarketVerb::List(args) => list::search(desk, &args).await,
        MarketVerb::Book => book(desk).await,
        MarketVerb::Explain { order } => order::explain(desk, &order).await,
        MarketVerb::History => history(desk).await,
    }
}

pub(crate) async fn offer(desk: &Desk, verb: OfferVerb) -> Result<()> {
    match verb {
        OfferVerb::Make { machine, price, min_s, max_s, hours, disk, reserve, grace_min } => {
            let now_ms = desk.client().await?.status().await?.now_ms;
            let offer = v1::MakeOffer {
                machine: convert::id(&machine)?,
                price_per_hour: parse_mai(&price)?.to_string(),
                duration_min_s: min_s,
                duration_max_s: max_s,
                expires_ms: now_ms.saturating_add(hours.saturating_mul(HOUR_MS)),
                disk_gib: disk.unwrap_or(0),
                reserve_price: optional_mai(reserve)?,
                grace_min: grace_min.unwrap_or(0),
            };
            desk.submit(Kind::MakeOffer(offer), "offered").await
        }
        OfferVerb::Amend { offer, price, hours, reserve } => {
            let expires_ms = match hours {
                None => 0,
                Some(hours) => {
                    let now_ms = desk.client().await?.status().await?.now_ms;
                    now_ms.saturating_add(hours.saturating_mul(HOUR_MS))
                }
            };
            let price_per_hour = parse_mai(&price)?.to_string();
            let reserve_price = optional_mai(reserve)?;
            let amend = v1::AmendOffer { offer: convert::id(&offer)?, price_per_hour, expires_ms, reserve_price };
            desk.submit(Kind::AmendOffer(amend), "amended").await
        }
        OfferVerb::Withdraw { offer } => {
            desk.submit(Kind::WithdrawOffer(v1::WithdrawOffer { offer: convert::id(&offer)? }), "withdrawn").await
        }
        OfferVerb::Revoke { machine } => {
            desk.submit(Kind::RevokeMachine(v1::RevokeMachine { machine: convert::id(&machine)? }), "revoked").await
        }
        OfferVerb::Suggest { machine } => suggest(desk, &machine).await,
        OfferVerb::Explain { offer } => outlook::explain(desk, &offer).await,
        OfferVerb::List { all } => offers(desk, all).await,
    }
}

fn optional_mai(text: Option<String>) -> Result<String> {
    Ok(text.map(|text| parse_mai(&text)).transpose()?.map(|amount| amount.to_string()).unwrap_or_default())
}

/// All machines of the cluster.
pub(crate) async fn machines(client: &Client) -> Result<Vec<v1::Machine>> {
    let request = v1::ListMachinesRequest { owner: Vec::new() };
    Ok(ask!(client, market_client::MarketClient.list_machines, request.clone())?.machines)
}

/// Offers of the cluster; only open ones unless `all`.
pub(crate) async fn all_offers(client: &Client, all: bool) -> Result<Vec<v1::Offer>> {
    Ok(ask!(client, market_client::MarketClient.list_offers, v1::ListOffersRequest { all })?.offers)
}

/// A machine's measured speed by the kernel that trainings are split by.
pub(crate) fn split_speed(machine: &v1::Machine) -> Option<&v1::Speed> {
    machine.speeds.iter().find(|speed| speed.kernel == SPLIT_KERNEL)
}

async fn suggest(desk: &Desk, machine: &str) -> Result<()> {
    let client = desk.client().await?;
    let request = v1::SuggestPriceRequest { machine: convert::id(machine)? };
    let reply = ask!(client, market_client::MarketClient.suggest_price, request.clone())?;
    let (asked, agreed) = (reply.asked.unwrap_or_default(), reply.agreed.unwrap_or_default());
    let suggested = known(&reply.price_per_hour);
    let value = json!({
        "machine": machine, "fgemm_ops_per_s": reply.speed, "price_per_hour": suggested,
        "asked": quantiles(&asked), "agreed": quantiles(&agreed),
    });
    output::show(desk.format, &value, || {
        let head = ["MAI/h for this speed", "machines", "10 %", "25 %", "50 %", "75 %", "90 %"];
        let rows = [quantiles_row("asked now", &asked), quantiles_row("agreed on lately", &agreed)];
        let table = output::table(&head, &rows);
        let speed = output::speed(reply.speed);
        match &suggested {
            Some(price) => format!("{table}\nA machine that computes {speed} is worth about {price} MAI an hour."),
            None => format!("{table}\nNobody offers or rented a machine like this one ({speed}) yet."),
        }
    });
    Ok(())
}

fn prices(of: &v1::PriceQuantiles) -> [Option<String>; 5] {
    [&of.p10, &of.p25, &of.p50, &of.p75, &of.p90].map(|price| known(price))
}

fn quantiles(of: &v1::PriceQuantiles) -> Value {
    let [p10, p25, p50, p75, p90] = prices(of);
    json!({ "count": of.count, "p10": p10, "p25": p25, "p50": p50, "p75": p75, "p90": p90 })
}

fn quantiles_row(name: &str, of: &v1::PriceQuantiles) -> Vec<String> {
    let prices = prices(of).map(|price| price.unwrap_or_else(|| "–".to_owned()));
    [name.to_owned(), of.count.to_string()].into_iter().chain(prices).collect()
}

/// `98.51 % of 67`; `--` while nothing is counted.
fn reliability_text(of: Option<v1::Reliability>) -> String {
    let v1::Reliability { completed, failed } = of.unwrap_or_default();
    match completed.saturating_add(failed) {
        0 => "--".to_owned(),
        all => format!("{:.2} % of {all}", completed as f64 * 100.0 / all as f64),
    }
}

fn reliability_value(of: Option<v1::Reliability>) -> Value {
    let v1::Reliability { completed, failed } = of.unwrap_or_default();
    let all = completed.saturating_add(failed);
    let share = (all > 0).then(|| completed as f64 / all as f64);
    json!({ "completed": completed, "failed": failed, "share": share })
}

/// An amount in MAI; none for one that the wire left out.
fn known(amount: &str) -> Option<String> {
    (!amount.is_empty()).then(|| wire_mai(amount))
}

async fn offers(desk: &Desk, all: bool) -> Result<()> {
    let offers = all_offers(&desk.client().await?, all).await?;
    let values: Vec<Value> = offers.iter().map(offer_value).collect();
    output::show(desk.format, &Value::Array(values), || offers_table(&offers));
    Ok(())
}

fn offer_value(offer: &v1::Offer) -> Value {
    json!({
        "offer": hex::encode(&offer.id), "machine": hex::encode(&offer.machine), "owner": hex::encode(&offer.owner),
        "price_per_hour": wire_mai(&offer.price_per_hour), "min_s": offer.duration_min_s, "max_s": offer.duration_max_s,
        "expires_ms": offer.expires_ms, "status": offer.status,
        "disk_gib": (offer.disk_gib > 0).then_some(offer.disk_gib), "reserve_price": known(&offer.reserve_price),
        "grace_min": offer.grace_min, "reliability": reliability_value(offer.reliability),
    })
}

fn offers_table(offers: &[v1::Offer]) -> String {
    let row = |offer: &v1::Offer| {
        vec![
            hex::encode(&offer.id),
            short(&offer.machine),
            wire_mai(&offer.price_per_hour),
            format!("{}–{} s", offer.duration_min_s, offer.duration_max_s),
            terms_text(offer),
            disk_text(offer),
            offer.status.clone(),
            reliability_text(offer.reliability),
            short(&offer.owner),
        ]
    };
    let rows: Vec<Vec<String>> = offers.iter().map(row).collect();
    output::table(&["offer", "machine", "MAI/h", "rent", "terms", "disk", "status", "reliability", "owner"], &rows)
}

/// `on demand`, or `back for 0.8 MAI/h, 30 min`.
fn terms_text(offer: &v1::Offer) -> String {
    match known(&offer.reserve_price) {
        Some(price) => format!("back for {price} MAI/h, {} min", offer.grace_min),
        None => "on demand".to_owned(),
    }
}

fn disk_text(offer: &v1::Offer) -> String {
    if offer.disk_gib == 0 { "all".to_owned() } else { format!("{} GiB", offer.disk_gib) }
}

/// Both sides, the best of each first.
async fn book(desk: &Desk) -> Result<()> {
    let client = desk.client().await?;
    let offers = all_offers(&client, false).await?;
    let orders = order::orders(&client, Vec::new(), false).await?.orders;
    let value = json!({
        "offers": offers.iter().map(offer_value).collect::<Vec<_>>(),
        "orders": orders.iter().map(order::order_value).collect::<Vec<_>>(),
    });
    output::show(desk.format, &value, || {
        let rows: Vec<Vec<String>> = orders.iter().map(order::order_row).collect();
        format!("{}\n{}", offers_table(&offers), output::table(&order::ORDER_HEAD, &rows))
    });
    Ok(())
}

async fn history(desk: &Desk) -> Result<()> {
    let client = desk.client().await?;
    let trades = ask!(client, market_client::MarketClient.list_trades, v1::ListTradesRequest { limit: 100 })?.trades;
    let values: Vec<Value> = trades.iter().map(|trade| json!({
        "order": hex::encode(&trade.order), "job": hex::encode(&trade.job), "offer": hex::encode(&trade.offer), "machine": hex::encode(&trade.machine),
        "buyer": hex::encode(&trade.buyer), "seller": hex::encode(&trade.seller),
        "price_per_hour": wire_mai(&trade.price_per_hour), "matched_ms": trade.matched_ms,
    })).collect();
    output::show(desk.format, &Value::Array(values), || {
        let rows: Vec<Vec<String>> = trades
            .iter()
            .map(|trade| {
                vec![
                    short(&trade.order),
                    short(&trade.machine),
                    short(&trade.buyer),
                    short(&trade.seller),
                    wire_mai(&trade.price_per_hour),
                ]
            })
            .collect();
        output::table(&["order", "machine", "buyer", "seller", "MAI/h"], &rows)
    });
    Ok(())
}
