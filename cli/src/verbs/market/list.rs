//! `market list`: machines that can be rented now, ranked and filtered, or every machine there is.

use super::{all_offers, known, machines, reliability_text, reliability_value, split_speed, terms_text};
use crate::{
    args::ListArgs,
    client::ask,
    error::Result,
    money::wire_mai,
    output::{self, short},
    verbs::Desk,
};
use matrixai_proto::v1;
use serde_json::{Value, json};

const HEAD: [&str; 9] =
    ["machine", "status", "fgemm (measured)", "ut", "reliability", "MAI/h", "CPU (claimed)", "RAM (claimed)", "owner"];

/// Machines that can be rented now, a page of them.
pub(super) async fn search(desk: &Desk, args: &ListArgs) -> Result<()> {
    let request = v1::SearchOffersRequest {
        query: args.query.clone(),
        gpus: args.gpus,
        model: args.model.clone(),
        region: args.region.clone().unwrap_or_default(),
        sort: args.sort.clone(),
        page: args.page,
        per_page: args.per_page,
    };
    let client = desk.client().await?;
    let reply = ask!(client, market_client::MarketClient.search_offers, request.clone())?;
    let listings: Vec<(v1::Machine, v1::Offer, Option<String>)> = reply
        .listings
        .into_iter()
        .map(|of| (of.machine.unwrap_or_default(), of.offer.unwrap_or_default(), known(&of.price_of_speed)))
        .collect();
    let values = listings.iter().map(|(machine, offer, price_of_speed)| {
        let mut value = machine_value(machine, Some(wire_mai(&offer.price_per_hour)));
        value["offer"] = hex::encode(&offer.id).into();
        value["price_of_speed"] = price_of_speed.clone().into();
        value["reserve_price"] = known(&offer.reserve_price).into();
        value["grace_min"] = offer.grace_min.into();
        value["disk_gib"] = (offer.disk_gib > 0).then_some(offer.disk_gib).into();
        value
    });
    output::show(desk.format, &Value::Array(values.collect()), || {
        let rows: Vec<Vec<String>> = listings
            .iter()
            .map(|(machine, offer, price_of_speed)| {
                let mut row = machine_row(machine, wire_mai(&offer.price_per_hour));
                row.push(price_of_speed.clone().unwrap_or_else(|| "–".to_owned()));
                row.push(terms_text(offer));
                row.push(short(&offer.id));
                row
            })
            .collect();
        let pages = reply.total.div_ceil(args.per_page).max(1);
        let table = output::table(&[HEAD.as_slice(), &["MAI/10¹⁵ operations", "terms", "offer"]].concat(), &rows);
        format!("{table}\n{} machines, page {} of {pages}", reply.total, args.page)
    });
    Ok(())
}

/// Every machine of the cluster with what it has proven and its price, if it is offered.
pub(super) async fn all(desk: &Desk) -> Result<()> {
    let client = desk.client().await?;
    let machines = machines(&client).await?;
    let offers = all_offers(&client, false).await?;
    let price = |machine: &v1::Machine| {
        offers.iter().find(|offer| offer.machine == machine.id).map(|offer| wire_mai(&offer.price_per_hour))
    };
    let values: Vec<Value> = machines.iter().map(|machine| machine_value(machine, price(machine))).collect();
    output::show(desk.format, &Value::Array(values), || {
        let rows: Vec<Vec<String>> = machines
            .iter()
            .map(|machine| machine_row(machine, price(machine).unwrap_or_else(|| "–".to_owned())))
            .collect();
        output::table(&HEAD, &rows)
    });
    Ok(())
}

fn machine_row(machine: &v1::Machine, price: String) -> Vec<String> {
    let inventory = machine.inventory.clone().unwrap_or_default();
    vec![
        hex::encode(&machine.id),
        machine.status.clone(),
        split_speed(machine).map_or_else(|| "unmeasured".to_owned(), |speed| output::speed(speed.ops_per_s)),
        format!("{:.6}", output::ut(&machine.drilling_micro_ut) + output::ut(&machine.training_micro_ut)),
        reliability_text(machine.reliability),
        price,
        format!("{} × {}", inventory.cores, inventory.cpu_model),
        format!("{:.1} GiB", inventory.ram_bytes as f64 / f64::from(1 << 30)),
        short(&machine.owner),
    ]
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
        "reliability": reliability_value(machine.reliability), "owner_reliability": reliability_value(machine.owner_reliability),
        "claimed": {
            "cpu_model": inventory.cpu_model, "cores": inventory.cores, "isa": inventory.isa, "ram_bytes": inventory.ram_bytes,
            "disk_bytes": inventory.disk_bytes, "os": inventory.os, "region": inventory.region,
            "gpus": inventory.gpus.iter().map(|gpu| json!({ "model": gpu.model, "ram_bytes": gpu.ram_bytes })).collect::<Vec<_>>(),
        },
    })
}
