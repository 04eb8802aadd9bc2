//! `offer explain`: how an offer fares.

use super::{known, quantiles, quantiles_row};
use crate::{
    client::ask,
    convert,
    error::Result,
    money::wire_mai,
    output::{self, short},
    verbs::Desk,
};
use matrixai_proto::v1;
use serde_json::json;

/// Which waiting orders it loses to which condition, the price that would win one, and what machines like it earn a day.
pub(super) async fn explain(desk: &Desk, offer: &str) -> Result<()> {
    let client = desk.client().await?;
    let request = v1::ExplainOfferRequest { offer: convert::id(offer)? };
    let found = ask!(client, market_client::MarketClient.explain_offer, request.clone())?;
    let (winning, earned) = (known(&found.winning_price), found.earned_a_day.clone().unwrap_or_default());
    let value = json!({
        "orders": found.orders,
        "conditions": found.conditions.iter().map(|one| json!({
            "condition": one.condition, "fail": one.offers, "undefined": one.undefined, "fail_only_this": one.alone,
        })).collect::<Vec<_>>(),
        "lost": found.lost.iter().map(|one| json!({
            "order": hex::encode(&one.order), "price_limit": wire_mai(&one.price_limit), "conditions": one.conditions,
        })).collect::<Vec<_>>(),
        "winning_price": winning, "winning_order": hex::encode(&found.winning_order), "earned_a_day": quantiles(&earned),
    });
    output::show(desk.format, &value, || {
        let rows = found.conditions.iter().map(|one| {
            vec![one.condition.clone(), one.offers.to_string(), one.undefined.to_string(), one.alone.to_string()]
        });
        let head = ["condition", "orders lost to it", "undefined", "lost to this alone"];
        let conditions = output::table(&head, &rows.collect::<Vec<_>>());
        let rows = found.lost.iter().map(|one| {
            let why =
                if one.conditions.is_empty() { "it waits for others".to_owned() } else { one.conditions.join("; ") };
            vec![short(&one.order), wire_mai(&one.price_limit), why]
        });
        let lost = output::table(&["order", "up to MAI/h", "what is not so"], &rows.collect::<Vec<_>>());
        let price = match &winning {
            Some(price) => {
                format!("Order {} would take it now at {price} MAI an hour or less.", short(&found.winning_order))
            }
            None => "No waiting order would take it at any price.".to_owned(),
        };
        let head = ["MAI a day for this speed", "machines", "10 %", "25 %", "50 %", "75 %", "90 %"];
        let earned = output::table(&head, &[quantiles_row("earned by like machines", &earned)]);
        format!("{} orders wait.\n{conditions}\n{lost}\n{price}\n{earned}", found.orders)
    });
    Ok(())
}
