//! Drilling: the campaigns, and why each unit was decided as it was.

use super::{
    super::{
        html::{Html, html},
        units,
    },
    badge, card, heading, short_id, table, whole_id,
};
use matrixai_proto::v1;

/// The page's content.
pub(in crate::web) fn drilling(shown: &v1::GetDrillingReply) -> Html {
    let beacon = html("<p>Beat {}: {}</p>", &[&shown.beat, &whole_id(&shown.beacon)]);
    html(
        "{}{}{}{}",
        &[
            &heading(
                "Drilling",
                "Small tasks with verifiable results, drawn by the beacon for several machines each. Every machine \
                 commits to its result before any is revealed; only if all are equal to the bit is anybody credited.",
            ),
            &card("beacon", "Beacon", &beacon),
            &card("campaigns", "Campaigns", &campaigns(&shown.campaigns)),
            &card("units", "Latest units", &drilled(&shown.units)),
        ],
    )
}

fn campaigns(campaigns: &[v1::Campaign]) -> Html {
    let rows: Html = campaigns
        .iter()
        .map(|campaign| {
            html(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
                 <td class=\"num\">{} of {}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td></tr>",
                &[
                    &short_id(&campaign.id),
                    &campaign.kernel,
                    &units::operations(campaign.difficulty_ops),
                    &campaign.redundancy,
                    &campaign.drawn,
                    &campaign.units,
                    &campaign.accepted,
                    &campaign.rejected,
                    &units::duration(campaign.interval_ms),
                ],
            )
        })
        .collect();
    let columns = [
        ("Campaign", false),
        ("Kernel", false),
        ("Work of a unit", true),
        ("Machines each", true),
        ("Drawn", true),
        ("Accepted", true),
        ("Rejected", true),
        ("Least interval", true),
    ];
    table("Campaigns", &columns, &rows, "No campaign has been published yet.")
}

fn drilled(drawn: &[v1::Unit]) -> Html {
    let rows: Html = drawn
        .iter()
        .map(|unit| {
            let replicas: Html = unit
                .replicas
                .iter()
                .map(|replica| {
                    html("<div>{} {}{}</div>", &[&short_id(&replica.machine), &badge(&replica.state), &took(replica)])
                })
                .collect();
            html(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"num\">{}</td><td>{}</td>\
                 <td class=\"num\">{}</td></tr>",
                &[
                    &short_id(&unit.id),
                    &unit.kernel,
                    &badge(&unit.state),
                    &unit.beat,
                    &replicas,
                    &units::ut(&unit.micro_ut),
                ],
            )
        })
        .collect();
    let columns = [
        ("Unit", false),
        ("Kernel", false),
        ("State", false),
        ("Drawn at beat", true),
        ("Machines and the time between grant and commitment", false),
        ("Credit each", true),
    ];
    table("Units, newest first", &columns, &rows, "No unit has been drawn yet.")
}

fn took(replica: &v1::Replica) -> String {
    match replica.committed_ms.checked_sub(replica.granted_ms) {
        Some(ms) if replica.committed_ms != 0 => format!(" {}", units::duration(ms)),
        _ => String::new(),
    }
}
