//! Machines rented on a running cluster: every way in which an agreement ends happens once with real workers, and the
//! statements of both sides say the same of it.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::Cluster;
use serde_json::Value;
use std::cell::RefCell;

const BUYER: &str = "buyer.key";
/// What 600 seconds cost at 0.5 MAI an hour, rounded down to minor units.
const TEN_MINUTES: &str = "0.083333333";
/// How long what is earned is locked, seconds.
const DISPUTE_S: u64 = 1;
/// What a second costs at that price with the fee, minor units, rounded up: an order is for whole seconds.
const SECOND: i128 = 140_280;

#[test]
fn every_end_of_an_agreement_happens_with_real_workers() {
    let mut cluster = Cluster::found_disputable(&DISPUTE_S.to_string());
    cluster.add_workers(&["0.3", "0.3", "0.3"]);
    cluster.run(&["account", "new", "--key", BUYER]);
    cluster.run(&["faucet", "100", "--key", BUYER]);

    // Its time is over.
    let short = rent(&cluster, &["--offer", &offer_of(&cluster, 0), "--seconds", "1"]);
    let completed = closed(&cluster, &short);
    assert_eq!((&completed["closed"], &completed["fault"]), (&"completed".into(), &"nobody".into()), "{completed}");
    assert_eq!((&completed["online_ms"], &completed["seconds"]), (&1_000.into(), &1.into()), "{completed}");
    both_say(&cluster, &completed, "trainer-1.key");

    // The buyer ends it: the hour that has begun is longer than the agreement.
    let taken = rent(&cluster, &["--offer", &offer_of(&cluster, 0), "--seconds", "600"]);
    end(&cluster, &begun(&cluster, &taken), BUYER);
    let buyer = closed(&cluster, &taken);
    assert_eq!((&buyer["closed"], &buyer["earned"]), (&"buyer".into(), &TEN_MINUTES.into()), "{buyer}");
    both_say(&cluster, &buyer, "trainer-1.key");

    // It is made longer, at its own price, and the seller ends it.
    let offer = offer_of(&cluster, 1);
    let longer = rent(&cluster, &["--offer", &offer, "--seconds", "600"]);
    let before = begun(&cluster, &longer);
    cluster.run(&["offer", "amend", &offer, "--price", "0.5", "--key", "trainer-2.key"]);
    cluster.run(&["order", "renew", before["agreement"].as_str().unwrap(), "--for", "10min", "--key", BUYER]);
    let renewed = begun(&cluster, &longer);
    assert_eq!((&renewed["seconds"], &renewed["price_per_hour"]), (&1_200.into(), &"0.6".into()), "{renewed}");
    assert!(minor(&renewed["held"]).abs_diff(2 * minor(&before["held"])) <= 2, "{renewed}");
    end(&cluster, &renewed, "trainer-2.key");
    let seller = closed(&cluster, &longer);
    assert_eq!((&seller["closed"], &seller["fault"]), (&"seller".into(), &"provider".into()), "{seller}");
    assert!(minor(&seller["earned"]) < minor(&before["held"]), "{seller}");
    both_say(&cluster, &seller, "trainer-2.key");

    // Its worker does not answer: nothing is paid, and the offer is gone.
    let offer = offer_of(&cluster, 2);
    cluster.workers[2].freeze();
    let silent = rent(&cluster, &["--offer", &offer, "--seconds", "600", "--start-s", "1"]);
    let never = closed(&cluster, &silent);
    assert_eq!((&never["closed"], &never["earned"]), (&"never_started".into(), &"0".into()), "{never}");
    both_say(&cluster, &never, "trainer-3.key");
    let offers = cluster.run(&["offer", "list"]);
    assert!(offers.as_array().unwrap().iter().all(|row| row["offer"] != offer.as_str()), "{offers}");

    // Its worker is killed: what is left is rented of another owner, for the same money.
    let lost = rent(&cluster, &["--seconds", "600", "--away-s", "1"]);
    assert_eq!(begun(&cluster, &lost)["machine"], cluster.workers[0].text("machine").as_str());
    cluster.workers[0].kill();
    let gone = closed(&cluster, &lost);
    assert_eq!((&gone["closed"], &gone["fault"]), (&"provider_lost".into(), &"provider".into()), "{gone}");
    both_say(&cluster, &gone, "trainer-1.key");
    let again = begun(&cluster, gone["again"].as_str().unwrap());
    assert_eq!(again["machine"], cluster.workers[1].text("machine").as_str());
    let rest = minor(&gone["held"]) - minor(&gone["earned"]) - minor(&gone["fees"]);
    assert!((0..=SECOND).contains(&(rest - minor(&again["held"]))), "{again} of {rest}");
    end(&cluster, &again, "trainer-2.key");
    both_say(&cluster, &closed(&cluster, gone["again"].as_str().unwrap()), "trainer-2.key");
    cluster.assert_conserved();
}

/// Places an order that gets its machine at once; answers its id.
fn rent(cluster: &Cluster, args: &[&str]) -> String {
    let place = ["order", "place", "--price", "0.7", "--total", "5", "--key", BUYER];
    cluster.run(&[&place[..], args].concat())["id"].as_str().unwrap().to_owned()
}

/// The open offer of a worker's machine.
fn offer_of(cluster: &Cluster, worker: usize) -> String {
    let machine = cluster.workers[worker].text("machine");
    let offers = cluster.run(&["offer", "list"]);
    let offer = offers.as_array().unwrap().iter().find(|row| row["machine"] == machine.as_str());
    offer.unwrap_or_else(|| panic!("no offer of {machine} in {offers}"))["offer"].as_str().unwrap().to_owned()
}

/// The agreement of an order, once its machine has begun.
fn begun(cluster: &Cluster, order: &str) -> Value {
    agreement(cluster, order, "its machine has begun", |row| row["started_ms"].as_u64() > Some(0))
}

/// The agreement of an order, once it is closed and what it earned is paid.
fn closed(cluster: &Cluster, order: &str) -> Value {
    let over = |row: &Value| row["closed_ms"].as_u64() > Some(0) && row["locked"] == "0";
    agreement(cluster, order, "it is closed and paid", over)
}

fn agreement(cluster: &Cluster, order: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let found = RefCell::new(Value::Null);
    cluster.until(&format!("{what}, the agreement of order {order}"), |cluster| {
        let listed = cluster.run(&["order", "list", "--all", "--key", BUYER]);
        let row = listed["agreements"].as_array().unwrap().iter().find(|row| row["order"] == order).cloned();
        let there = row.as_ref().is_some_and(&holds);
        found.replace(row.unwrap_or_default());
        there
    });
    found.into_inner()
}

fn end(cluster: &Cluster, agreement: &Value, key: &str) {
    cluster.run(&["order", "end", agreement["agreement"].as_str().unwrap(), "--key", key]);
}

/// Both statements name the agreement: what it says moves from the buyer's hold to the seller's, which is paid out of that a
/// window later; the buyer pays the fee then, and has got the rest back, unless that went into another order.
fn both_say(cluster: &Cluster, agreement: &Value, seller: &str) {
    let (held, earned, fees) = (minor(&agreement["held"]), minor(&agreement["earned"]), minor(&agreement["fees"]));
    let back = if agreement["again"] == "" { held - earned - fees } else { 0 };
    let lines = |key: &str, field: &str| -> Vec<(String, i128)> {
        let statement = cluster.run(&["account", "statement", "--all", "--key", key]);
        let of = statement.as_array().unwrap().iter().filter(|line| line["agreement"] == agreement["agreement"]);
        let mut lines: Vec<_> = of
            .map(|line| (line["cause"].as_str().unwrap().to_owned(), minor(&line[field])))
            .filter(|(cause, amount)| cause != "hold" && *amount != 0)
            .collect();
        lines.sort();
        lines
    };
    let expected = |all: &[(&str, i128)]| -> Vec<(String, i128)> {
        all.iter().filter(|(_, amount)| *amount != 0).map(|(cause, amount)| ((*cause).to_owned(), *amount)).collect()
    };
    assert_eq!(lines(seller, "balance_change"), expected(&[("pay_rent", earned)]), "{agreement}");
    assert_eq!(lines(seller, "held_change"), expected(&[("earn", earned), ("pay_rent", -earned)]), "{agreement}");
    let paid = expected(&[("earn", -earned), ("fee", -fees), ("refund", -back)]);
    assert_eq!(lines(BUYER, "held_change"), paid, "{agreement}");
    locked_for_a_window(cluster, agreement, seller);
}

/// Nothing of it was the seller's own before a window had passed.
fn locked_for_a_window(cluster: &Cluster, agreement: &Value, seller: &str) {
    let statement = cluster.run(&["account", "statement", "--all", "--key", seller]);
    let at = |cause: &str| {
        let of = |line: &&Value| line["agreement"] == agreement["agreement"] && line["cause"] == cause;
        statement.as_array().unwrap().iter().find(of).map(|line| line["now_ms"].as_u64().unwrap())
    };
    let (earned_ms, paid_ms) = (at("earn"), at("pay_rent"));
    assert_eq!(earned_ms.is_some(), minor(&agreement["earned"]) > 0, "{agreement}");
    assert!(earned_ms.is_none_or(|ms| paid_ms >= Some(ms + DISPUTE_S * 1_000)), "{earned_ms:?} {paid_ms:?}");
}

/// Minor units of an amount of MAI.
fn minor(amount: &Value) -> i128 {
    let text = amount.as_str().unwrap();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{part:0<9}").parse().unwrap()
}
