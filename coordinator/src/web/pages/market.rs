//! The market: what can be rented now, and what was.

use super::{
    super::{
        html::{Html, html},
        units,
    },
    badge, card, heading, job_link, moment, short_id, table,
};
use matrixai_proto::v1;

/// The page's content: offers in the book's order, trades newest first.
pub(in crate::web) fn market(offers: &[v1::Offer], trades: &[v1::Trade]) -> Html {
    html(
        "{}{}{}",
        &[
            &heading(
                "Market",
                "Offers stand cheapest first, then oldest. An order takes all the machines it wants or none, at the \
                 price of whoever came first.",
            ),
            &card("offers", "Offers", &book(offers)),
            &card("trades", "Latest agreements", &agreements(trades)),
        ],
    )
}

fn book(offers: &[v1::Offer]) -> Html {
    let rows: Html = offers
        .iter()
        .map(|offer| {
            html(
                "<tr><th scope=\"row\">{}</th><td class=\"num\">{} / h</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
                 <td>{}</td></tr>",
                &[
                    &short_id(&offer.id),
                    &units::mai(&offer.price_per_hour),
                    &badge(&offer.status),
                    &short_id(&offer.machine),
                    &short_id(&offer.owner),
                    &rent(offer),
                    &moment(offer.expires_ms),
                ],
            )
        })
        .collect();
    let columns = [
        ("Offer", false),
        ("Price", true),
        ("Status", false),
        ("Machine", false),
        ("Owner", false),
        ("Rent", false),
        ("Lapses (UTC)", false),
    ];
    table("Open offers", &columns, &rows, "Nobody offers a machine at the moment.")
}

fn rent(offer: &v1::Offer) -> String {
    let length = |seconds: u64| units::duration(seconds.saturating_mul(1_000));
    format!("{} to {}", length(offer.duration_min_s), length(offer.duration_max_s))
}

fn agreements(trades: &[v1::Trade]) -> Html {
    let rows: Html = trades
        .iter()
        .map(|trade| {
            html(
                "<tr><td>{}</td><th scope=\"row\">{}</th><td class=\"num\">{} / h</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                &[
                    &moment(trade.matched_ms),
                    &job_link(&trade.job, units::short(&hex::encode(&trade.job))),
                    &units::mai(&trade.price_per_hour),
                    &short_id(&trade.machine),
                    &short_id(&trade.seller),
                    &short_id(&trade.buyer),
                ],
            )
        })
        .collect();
    let columns = [
        ("Matched (UTC)", false),
        ("Job", false),
        ("Price", true),
        ("Machine", false),
        ("Seller", false),
        ("Buyer", false),
    ];
    table("Agreements, newest first", &columns, &rows, "No order has been matched yet.")
}
