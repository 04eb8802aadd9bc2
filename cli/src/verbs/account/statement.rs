//! Statements: every movement of an account with its cause and what it belongs to, and what each cause sums to.

use super::wanted;
use crate::{
    args::StatementArgs,
    client::{Client, ask},
    error::Result,
    money::{mai, units, wire_mai},
    output::{self, short},
    verbs::Desk,
};
use matrixai_proto::v1;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Movements in one answer.
const PAGE: u32 = 1_000;

pub(super) async fn run(desk: &Desk, args: StatementArgs) -> Result<()> {
    let StatementArgs { account, limit, all, csv, totals } = args;
    let (client, account) = wanted(desk, account).await?;
    let movements = fetch(&client, &account, if all { u64::MAX } else { limit.into() }).await?;
    let sums = Totals::of(&movements);
    if csv {
        let text = if totals { sums.csv() } else { movements_csv(&movements) };
        output::raw(text.as_bytes());
        return Ok(());
    }
    let value = if totals { sums.value() } else { movements.iter().map(value).collect() };
    output::show(desk.format, &value, || if totals { sums.table() } else { table(&movements) + "\n" + &sums.table() });
    Ok(())
}

/// The newest movements, newest first.
pub(crate) async fn fetch(client: &Client, account: &[u8], limit: u64) -> Result<Vec<v1::Movement>> {
    let mut movements: Vec<v1::Movement> = Vec::new();
    loop {
        let left = limit.saturating_sub(movements.len() as u64);
        let asked = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        if asked == 0 {
            return Ok(movements);
        }
        let before = movements.last().map_or(0, |last| last.sequence);
        let request = v1::GetStatementRequest { account: account.to_vec(), before, limit: asked };
        let page = ask!(client, accounts_client::AccountsClient.get_statement, request.clone())?.movements;
        let last = (page.len() as u32) < asked;
        movements.extend(page);
        if last {
            return Ok(movements);
        }
    }
}

/// What a movement belongs to: of what kind it is, and its id.
fn reference(movement: &v1::Movement) -> (&'static str, String) {
    if !movement.job.is_empty() {
        ("job", hex::encode(&movement.job))
    } else if !movement.hold.is_empty() {
        ("hold", hex::encode(&movement.hold))
    } else if !movement.order.is_empty() {
        ("order", hex::encode(&movement.order))
    } else if !movement.agreement.is_empty() {
        ("agreement", hex::encode(&movement.agreement))
    } else if !movement.proposal.is_empty() {
        ("proposal", hex::encode(&movement.proposal))
    } else if movement.epoch != 0 {
        ("epoch", movement.epoch.to_string())
    } else {
        ("", String::new())
    }
}

pub(crate) fn value(movement: &v1::Movement) -> Value {
    json!({
        "sequence": movement.sequence,
        "index": movement.index,
        "now_ms": movement.now_ms,
        "account": hex::encode(&movement.account),
        "counterparty": hex::encode(&movement.counterparty),
        "cause": movement.cause,
        "balance_change": wire_mai(&movement.balance_change),
        "held_change": wire_mai(&movement.held_change),
        "balance": wire_mai(&movement.balance),
        "held": wire_mai(&movement.held),
        "job": hex::encode(&movement.job),
        "hold": hex::encode(&movement.hold),
        "order": hex::encode(&movement.order),
        "agreement": hex::encode(&movement.agreement),
        "epoch": movement.epoch,
        "proposal": hex::encode(&movement.proposal),
        "memo": movement.memo,
    })
}

fn table(movements: &[v1::Movement]) -> String {
    let row = |movement: &v1::Movement| {
        let (kind, id) = reference(movement);
        let id = id.get(..10).unwrap_or(&id);
        vec![
            movement.sequence.to_string(),
            movement.index.to_string(),
            movement.cause.clone(),
            wire_mai(&movement.balance_change),
            wire_mai(&movement.held_change),
            wire_mai(&movement.balance),
            wire_mai(&movement.held),
            short(&movement.counterparty),
            format!("{kind} {id}").trim_end().to_owned(),
            movement.memo.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = movements.iter().map(row).collect();
    let head = ["#", "entry", "cause", "balance ±", "held ±", "balance", "held", "with", "of", "memo"];
    output::table(&head, &rows)
}

fn movements_csv(movements: &[v1::Movement]) -> String {
    let mut text = String::from(
        "sequence,index,time_ms,cause,balance_change,held_change,balance,held,counterparty,reference_kind,reference,memo\r\n",
    );
    for movement in movements {
        let (kind, id) = reference(movement);
        let fields = [
            movement.sequence.to_string(),
            movement.index.to_string(),
            movement.now_ms.to_string(),
            movement.cause.clone(),
            wire_mai(&movement.balance_change),
            wire_mai(&movement.held_change),
            wire_mai(&movement.balance),
            wire_mai(&movement.held),
            hex::encode(&movement.counterparty),
            kind.to_owned(),
            id,
            movement.memo.clone(),
        ];
        text.push_str(&line(&fields));
    }
    text
}

/// A line of CSV as RFC 4180 has it. A memo is somebody else's text: one that a spreadsheet would take for a formula is
/// made plain text.
fn line(fields: &[String]) -> String {
    let field = |field: &String| {
        let amount = field.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']) && !amount;
        let field = if formula { format!("'{field}") } else { field.clone() };
        if field.contains([',', '"', '\r', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
    };
    fields.iter().map(field).collect::<Vec<_>>().join(",") + "\r\n"
}

/// Of each cause: how many movements, what came in and went out, and the change of what is on hold.
#[derive(Debug, Default, PartialEq)]
struct Totals(BTreeMap<String, Sum>);

#[derive(Debug, Default, PartialEq)]
struct Sum {
    count: u64,
    gained: u128,
    lost: u128,
    held: i128,
}

impl Totals {
    fn of(movements: &[v1::Movement]) -> Self {
        let mut totals = Self::default();
        for movement in movements {
            let sum = totals.0.entry(movement.cause.clone()).or_default();
            sum.count += 1;
            match movement.balance_change.strip_prefix('-') {
                Some(lost) => sum.lost += units(lost),
                None => sum.gained += units(&movement.balance_change),
            }
            sum.held += movement.held_change.parse::<i128>().unwrap_or(0);
        }
        totals
    }

    fn rows(&self) -> impl Iterator<Item = [String; 5]> + '_ {
        self.0.iter().map(|(cause, sum)| {
            let Sum { count, gained, lost, held } = sum;
            [cause.clone(), count.to_string(), mai(*gained), mai(*lost), wire_mai(&held.to_string())]
        })
    }

    fn value(&self) -> Value {
        let row = |[cause, count, gained, lost, held]: [String; 5]| json!({ "cause": cause, "movements": count.parse::<u64>().unwrap_or(0), "in": gained, "out": lost, "held_change": held });
        self.rows().map(row).collect()
    }

    fn csv(&self) -> String {
        self.rows().fold("cause,movements,in,out,held_change\r\n".to_owned(), |text, row| text + &line(&row))
    }

    fn table(&self) -> String {
        let rows: Vec<Vec<String>> = self.rows().map(Vec::from).collect();
        output::table(&["cause", "movements", "in", "out", "held ±"], &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn movement(cause: &str, balance_change: &str, held_change: &str) -> v1::Movement {
        v1::Movement {
            cause: cause.to_owned(),
            balance_change: balance_change.to_owned(),
            held_change: held_change.to_owned(),
            ..v1::Movement::default()
        }
    }

    #[test]
    fn totals_are_by_cause() {
        let movements = [
            movement("transfer", "5", "0"),
            movement("hold", "-3", "3"),
            movement("transfer", "-2", "0"),
            movement("refund", "1", "-1"),
        ];
        let rows: Vec<_> = Totals::of(&movements).rows().map(|row| row.join(" ")).collect();
        let wanted = [
            "hold 1 0 0.000000003 0.000000003",
            "refund 1 0.000000001 0 -0.000000001",
            "transfer 2 0.000000005 0.000000002 0",
        ];
        assert_eq!(rows, wanted);
    }

    #[test]
    fn a_line_survives_any_memo() {
        for (memo, wanted) in [
            ("plain", "a,plain\r\n"),
            ("x,y", "a,\"x,y\"\r\n"),
            ("say \"hi\"", "a,\"say \"\"hi\"\"\"\r\n"),
            ("=1+1", "a,'=1+1\r\n"),
            ("-1.5", "a,-1.5\r\n"),
            ("-x", "a,'-x\r\n"),
        ] {
            assert_eq!(line(&["a".to_owned(), memo.to_owned()]), wanted);
        }
    }

    #[test]
    fn a_movement_names_what_it_belongs_to() {
        let of = |change: fn(&mut v1::Movement)| {
            let mut movement = movement("x", "0", "0");
            change(&mut movement);
            reference(&movement)
        };
        assert_eq!(of(|m| m.job = vec![1]), ("job", "01".to_owned()));
        assert_eq!(of(|m| m.hold = vec![2]), ("hold", "02".to_owned()));
        assert_eq!(of(|m| m.proposal = vec![3]), ("proposal", "03".to_owned()));
        assert_eq!(of(|m| m.epoch = 4), ("epoch", "4".to_owned()));
        assert_eq!(of(|_| ()), ("", String::new()));
    }
}
