//! What a scenario sees: fields of a row by name, and the movements of the last entry.

use super::{Args, World, market, words::plain};
use matrixai_state::{
    ids::{CampaignId, HoldId, OfferId, UnitId},
    reliability::Reliability,
};
use std::collections::BTreeMap;

/// `see account alice balance=95MAI`: fields of a row by name.
pub fn see(world: &World, rest: &str, place: &str) {
    let mut words = rest.splitn(3, ' ');
    let (what, name) = (words.next().unwrap(), words.next().unwrap_or(""));
    let args = Args::new(words.next().unwrap_or(""), place);
    let mut fields: BTreeMap<&str, String> = BTreeMap::new();
    match what {
        "account" => {
            let row = world.state.account(world.account(name)).unwrap_or_else(|| panic!("{place}: no account"));
            fields.insert("balance", row.balance.to_string());
            fields.insert("held", row.held.to_string());
            fields.insert("holds", row.holds.to_string());
            fields.insert("locked", world.state.locked(world.account(name)).to_string());
            fields.insert("role", row.role_name().to_owned());
            let conduct = world.state.conduct(world.account(name));
            fields.insert("seller", reliability(conduct.seller));
            fields.insert("buyer", reliability(conduct.buyer));
        }
        "machine" => {
            let row = world.state.machine(world.machine(name)).unwrap_or_else(|| panic!("{place}: no machine"));
            fields.insert("status", row.status().to_owned());
            fields.insert("rtt", row.round_trip_us.to_string());
            fields.insert("reliability", reliability(row.reliability));
        }
        "offer" => {
            let row = world.state.offer(OfferId(world.named(name))).unwrap_or_else(|| panic!("{place}: no offer"));
            fields.insert("status", row.status.as_str().to_owned());
            fields.insert("price", row.price_per_hour.to_string());
            fields.insert("disk", row.disk_gib.map_or("all".to_owned(), |gib| gib.to_string()));
            let interruption = row.interruption;
            fields.insert("reserve", interruption.map_or("none".to_owned(), |of| of.reserve_price.to_string()));
            fields.insert("grace", interruption.map_or(0, |of| of.grace_min).to_string());
        }
        "hold" => {
            let row = world.state.hold(world.job(name)).unwrap_or_else(|| panic!("{place}: no hold"));
            fields.insert("held", row.held.to_string());
            fields.insert("paid", row.paid.to_string());
            fields.insert("fees", row.fees.to_string());
            fields.insert("refunded", row.refunded.to_string());
            fields.insert("open", u8::from(row.open).to_string());
        }
        "held" => {
            let row = world.state.held_transfer(HoldId(world.named(name)));
            let row = row.unwrap_or_else(|| panic!("{place}: no hold"));
            fields.insert("amount", row.amount.to_string());
            fields.insert("in", format!("{}s", (row.expires_ms - world.now_ms) / 1_000));
        }
        "money" => {
            fields.insert("minted", world.state.minted().to_string());
            fields.insert("burned", world.state.burned().to_string());
            let supply = world.state.supply();
            fields.insert("emitted", supply.emitted.to_string());
            fields.insert("issued", supply.issued.to_string());
            fields.insert("redeemed", supply.redeemed.to_string());
        }
        "book" => {
            fields.insert("offers", world.state.open_offers().count().to_string());
            fields.insert("orders", world.state.orders().count().to_string());
            fields.insert("trades", world.state.trades().count().to_string());
        }
        "trade" => {
            let row = world.state.trades().find(|row| row.offer == OfferId(world.named(name)));
            let row = row.unwrap_or_else(|| panic!("{place}: no trade"));
            fields.insert("price", row.price_per_hour.to_string());
        }
        "node" => {
            let row = world.state.node(super::super::node(name)).unwrap_or_else(|| panic!("{place}: no node"));
            fields.insert("standing", row.standing.as_str().to_owned());
            fields.insert("rules", row.rules_version.to_string());
            fields.insert("grpc", row.grpc.clone());
        }
        "policy" => {
            let policy = world.state.policy();
            fields.insert("threshold", policy.admin_threshold.to_string());
            fields.insert("admins", policy.admins.to_string());
            fields.insert("fee", policy.fee_bp.to_string());
            fields.insert("minimum", policy.minimum_balance.to_string());
            fields.insert("rules", world.state.rules_version().to_string());
            fields.insert("proposals", world.state.proposals().count().to_string());
            fields.insert("majority", world.state.majority().to_string());
        }
        // Rows of drilling and jobs are shown whole: `see unit u ~Revealing`.
        "unit" => contains(&world.state.unit(UnitId(world.named(name))), &args),
        "campaign" => contains(&world.state.campaign(CampaignId(world.named(name))), &args),
        "job" => contains(&world.state.job(world.job(name)), &args),
        other => match market::fields(world, other, name, place) {
            Some(found) => fields = found,
            None => panic!("{place}: cannot see {other:?}"),
        },
    }
    for (name, wanted) in args.pairs() {
        let seen = fields.get(name).unwrap_or_else(|| panic!("{place}: {what} has no {name}"));
        assert_eq!(*seen, plain(wanted), "{place}: {name}");
    }
}

/// `0.75(3/1)`: the share, what was completed and what failed; `--` while nothing is counted.
fn reliability(of: Reliability) -> String {
    of.share().map_or_else(|| "--".to_owned(), |share| format!("{share}({}/{})", of.completed, of.failed))
}

fn contains(row: &impl std::fmt::Debug, args: &Args<'_>) {
    let shown = format!("{row:?}");
    for word in args.words() {
        assert!(shown.contains(word.trim_start_matches('~')), "{}: {word} is not in {shown}", args.place);
    }
}

/// `movements alice:transfer:-5MAI bob:transfer:5MAI`: those of the last entry, by change of balance.
pub fn movements(world: &World, rest: &str, place: &str) {
    let seen: Vec<(String, i128)> =
        world.last.movements.iter().map(|m| (format!("{}:{}", m.account, m.cause), m.balance_change)).collect();
    let wanted: Vec<(String, i128)> = rest
        .split_whitespace()
        .map(|word| {
            let parts: Vec<&str> = word.split(':').collect();
            let change = parts[2].strip_prefix('-').map_or_else(
                || plain(parts[2]).parse::<i128>().unwrap(),
                |minus| -plain(minus).parse::<i128>().unwrap(),
            );
            (format!("{}:{}", world.account(parts[0]), parts[1]), change)
        })
        .collect();
    assert_eq!(seen, wanted, "{place}");
}
