//! Transfers in two phases: money held for another account, which takes it or lets it go.

use super::wanted;
use crate::{
    client::ask,
    convert,
    error::Result,
    money::{parse_mai, wire_mai},
    output,
    verbs::Desk,
};
use matrixai_proto::v1::{self, command::Kind};
use serde_json::{Value, json};

pub(super) async fn place(desk: &Desk, to: &str, amount: &str, duration_s: u64, memo: String) -> Result<()> {
    let amount = parse_mai(amount)?.to_string();
    let hold = v1::HoldFunds { to: convert::id(to)?, amount, duration_s, memo };
    desk.submit(Kind::HoldFunds(hold), "held").await
}

pub(super) async fn post(desk: &Desk, hold: &str, amount: Option<String>) -> Result<()> {
    let amount = amount.map(|amount| parse_mai(&amount)).transpose()?.map(|units| units.to_string());
    let post = v1::PostHold { hold: convert::id(hold)?, amount: amount.unwrap_or_default() };
    desk.submit(Kind::PostHold(post), "posted").await
}

pub(super) async fn void(desk: &Desk, hold: &str) -> Result<()> {
    desk.submit(Kind::VoidHold(v1::VoidHold { hold: convert::id(hold)? }), "voided").await
}

pub(super) async fn list(desk: &Desk, account: Option<String>) -> Result<()> {
    const PAGE: u32 = 1_000;
    let (client, account) = wanted(desk, account).await?;
    let mut holds: Vec<v1::Hold> = Vec::new();
    loop {
        let after = holds.last().map(|hold| hold.id.clone()).unwrap_or_default();
        let request = v1::ListHoldsRequest { account: account.clone(), after, limit: PAGE };
        let page = ask!(client, accounts_client::AccountsClient.list_holds, request.clone())?.holds;
        let last = (page.len() as u32) < PAGE;
        holds.extend(page);
        if last {
            break;
        }
    }
    let values: Vec<Value> = holds.iter().map(value).collect();
    output::show(desk.format, &Value::Array(values), || {
        let rows: Vec<Vec<String>> = holds.iter().map(row).collect();
        output::table(&["hold", "payer", "for", "MAI", "lapses (ms)", "memo"], &rows)
    });
    Ok(())
}

fn value(hold: &v1::Hold) -> Value {
    json!({
        "hold": hex::encode(&hold.id),
        "payer": hex::encode(&hold.payer),
        "to": hex::encode(&hold.to),
        "amount": wire_mai(&hold.amount),
        "expires_ms": hold.expires_ms,
        "memo": hold.memo,
    })
}

fn row(hold: &v1::Hold) -> Vec<String> {
    vec![
        hex::encode(&hold.id),
        hex::encode(&hold.payer),
        hex::encode(&hold.to),
        wire_mai(&hold.amount),
        hold.expires_ms.to_string(),
        hold.memo.clone(),
    ]
}
