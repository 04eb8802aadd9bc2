//! Machines, offers and trades.

use super::{Desk, order};
use crate::{
    args::{ListArgs, MachineSort, MarketVerb, OfferVerb},
    client::{Client, ask},
    convert,
    error::Result,
    money::{parse_mai, wire_mai},
    output::{self, short},
};
use matrixai_proto::v1::{self, command::Kind};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const HOUR_MS: u64 = 3_600_000;
/// Machines that `market list` shows at once.
const MACHINES_A_PAGE: usize = 10;
/// The kernel by whose speed trainings are split and machines compared.
const SPLIT_KERNEL: &str = "fgemm";

pub(crate) async fn run(desk: &Desk, verb: MarketVerb) -> Result<()> {
    match verb {
        MarketVerb::List(args) => list(desk, args).await,
        MarketVerb::Book => book(desk).await,
        MarketVerb::Explain { order } => order::explain(desk, &order).await,
        MarketVerb::History => history(desk).await,
    }
}

pub(crate) async fn offer(desk: &Desk, verb: OfferVerb) -> Result<()> {
    match verb {
        OfferVerb::Make { machine, price, min_s, max_s, hours } => {
            let now_ms = desk.client().await?.status().await?.now_ms;
            let offer = v1::MakeOffer {
                machine: convert::id(&machine)?,
                price_per_hour: parse_mai(&price)?.to_string(),
                duration_min_s: min_s,
                duration_max_s: max_s,
                expires_ms: now_ms.saturating_add(hours.saturating_mul(HOUR_MS)),
            };
            desk.submit(Kind::MakeOffer(offer), "offered").await
        }
        OfferVerb::Amend { offer, price, hours } => {
            let expires_ms = match hours {
                None => 0,
                Some(hours) => {
                    let now_ms = desk.client().await?.status().await?.now_ms;
                    now_ms.saturating_add(hours.saturating_mul(HOUR_MS))
                }
            };
            let price_per_hour = parse_mai(&price)?.to_string();
            let amend = v1::AmendOffer { offer: convert::id(&offer)?, price_per_hour, expires_ms };
            desk.submit(Kind::AmendOffer(amend), "amended").await
        }
        OfferVerb::Withdraw { offer } => {
            desk.submit(Kind::WithdrawOffer(v1::WithdrawOffer { offer: convert::id(&offer)? }), "withdrawn").await
        }
        OfferVerb::Revoke { machine } => {
            desk.submit(Kind::RevokeMachine(v1::RevokeMachine { machine: convert::id(&machine)? }), "revoked").await
        }
        OfferVerb::List { all } => offers(desk, all).await,
    }
}

/// All machines of the cluster.
pub(crate) async fn machines(client: &Client) -> Result<Vec<v1::Machine>> {
    machines_that(client, String::new()).await
}

async fn machines_that(client: &Client, query: String) -> Result<Vec<v1::Machine>> {
    let request = v1::ListMachinesRequest { owner: Vec::new(), query };
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

async fn list(desk: &Desk, args: ListArgs) -> Result<()> {
    let client = desk.client().await?;
    let mut machines = machines_that(&client, args.query).await?;
    let offers = all_offers(&client, false).await?;
    // The book's order: the first offer of a machine is its cheapest.
    let mut prices: BTreeMap<&[u8], &str> = BTreeMap::new();
    for offer in &offers {
        prices.entry(&offer.machine).or_insert(&offer.price_per_hour);
    }
    let price = |machine: &v1::Machine| prices.get(machine.id.as_slice()).map(|price| wire_mai(price));
    if let Some(model) = args.model {
        machines.retain(|machine| machine.inventory.as_ref().is_some_and(|found| found.cpu_model.contains(&model)));
    }
    machines.sort_by(|left, right| {
        let key = |machine: &v1::Machine| {
            let price = prices.get(machine.id.as_slice()).and_then(|price| price.parse::<f64>().ok());
            let speed = split_speed(machine).map(|speed| speed.ops_per_s as f64);
            match args.sort {
                MachineSort::Price => price,
                MachineSort::Speed => speed.map(|speed| -speed),
                MachineSort::Auto | MachineSort::PricePerSpeed => price.zip(speed).map(|(price, speed)| price / speed),
            }
            .unwrap_or(f64::INFINITY)
        };
        key(left).total_cmp(&key(right))
    });
    let first = (args.page as usize - 1).saturating_mul(MACHINES_A_PAGE);
    let machines: Vec<v1::Machine> = machines.into_iter().skip(first).take(MACHINES_A_PAGE).collect();
    let values: Vec<Value> = machines.iter().map(|machine| machine_value(machine, price(machine))).collect();
    output::show(desk.format, &Value::Array(values), || {
        let rows: Vec<Vec<String>> = machines
            .iter()
            .map(|machine| {
                let inventory = machine.inventory.clone().unwrap_or_default();
                vec![
                    hex::encode(&machine.id),
                    machine.status.clone(),
                    split_speed(machine)
                        .map_or_else(|| "unmeasured".to_owned(), |speed| output::speed(speed.ops_per_s)),
                    format!("{:.6}", output::ut(&machine.drilling_micro_ut) + output::ut(&machine.training_micro_ut)),
                    price(machine).unwrap_or_else(|| "–".to_owned()),
                    format!("{} × {}", inventory.cores, inventory.cpu_model),
                    format!("{:.1} GiB", inventory.ram_bytes as f64 / f64::from(1 << 30)),
                    short(&machine.owner),
                ]
            })
            .collect();
        let head = ["machine", "status", "fgemm (measured)", "ut", "MAI/h", "CPU (claimed)", "RAM (claimed)", "owner"];
        output::table(&head, &rows)
    });
    Ok(())
}

fn machine_value(machine: &v1::Machine, price: Option<String>) -> Value {
    let inventory = machine.inventory.clone().unwrap_or_default();
    json!({
        "machine": hex::encode(&machine.id), "owner": hex::encode(&machine.owner), "status": machine.status,
        "price_per_hour": price,
        "measured": machine.speeds.iter().map(|speed| json!({
            "kernel": speed.kernel, "ops_per_s": speed.ops_per_s, "min": speed.min_ops_per_s, "max": speed.max_ops_per_s,
            "samples": speed.samples, "provisional": speed.provisional,
        })).collect::<Vec<_>>(),
        "ut": output::ut(&machine.drilling_micro_ut) + output::ut(&machine.training_micro_ut),
        "units_accepted": machine.units_accepted, "units_lost": machine.units_lost,
        "claimed": {
            "cpu_model": inventory.cpu_model, "cores": inventory.cores, "isa": inventory.isa, "ram_bytes": inventory.ram_bytes,
            "disk_bytes": inventory.disk_bytes, "os": inventory.os,
            "gpus": inventory.gpus.iter().map(|gpu| json!({ "model": gpu.model, "ram_bytes": gpu.ram_bytes })).collect::<Vec<_>>(),
        },
    })
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
    })
}

fn offers_table(offers: &[v1::Offer]) -> String {
    let row = |offer: &v1::Offer| {
        vec![
            hex::encode(&offer.id),
            short(&offer.machine),
            wire_mai(&offer.price_per_hour),
            format!("{}–{} s", offer.duration_min_s, offer.duration_max_s),
            offer.status.clone(),
            short(&offer.owner),
        ]
    };
    let rows: Vec<Vec<String>> = offers.iter().map(row).collect();
    output::table(&["offer", "machine", "MAI/h", "rent", "status", "owner"], &rows)
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
