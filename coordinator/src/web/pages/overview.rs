//! The overview: the quorum, its roots, and what happened last.

use super::{
    super::{
        html::{Html, html},
        units,
    },
    badge, card, figure, heading, short_id, table, whole_id,
};
use matrixai_proto::v1;

/// What the overview shows.
#[derive(Debug, Default)]
pub(in crate::web) struct Overview {
    /// Name of the network.
    pub(in crate::web) network: String,
    /// Whether its money is for tests.
    pub(in crate::web) test_network: bool,
    pub(in crate::web) status: v1::GetStatusReply,
    pub(in crate::web) machines: Vec<v1::Machine>,
    pub(in crate::web) jobs: Vec<v1::Job>,
    pub(in crate::web) accounts: usize,
    /// Newest beat of the beacon.
    pub(in crate::web) beat: u64,
    /// Newest events, newest first.
    pub(in crate::web) events: Vec<v1::Event>,
}

/// The page's content.
pub(in crate::web) fn overview(shown: &Overview) -> Html {
    let status = &shown.status;
    let online = shown.machines.iter().filter(|machine| !matches!(&*machine.status, "offline" | "revoked")).count();
    let open = shown.jobs.iter().filter(|job| job.closed_ms == 0).count();
    let lead = if shown.test_network {
        "A test network: its money has no value. Computing power here is measured by drilling, never claimed."
    } else {
        "Computing power here is measured by drilling, never claimed."
    };
    let leader = if status.leader == 0 { "none".to_owned() } else { format!("coordinator {}", status.leader) };
    let figures: Html = [
        figure(
            "Log",
            &status.applied,
            &format!("entries applied, {} committed, term {}", status.committed, status.term),
        ),
        figure("Leader", &leader, &format!("answered by coordinator {}, a {}", status.node, status.role)),
        figure(
            "Machines",
            &online,
            &format!("online, of {} enrolled; {} sessions end here", shown.machines.len(), status.sessions),
        ),
        figure("Jobs", &open, &format!("open, of {}; {} accounts", shown.jobs.len(), shown.accounts)),
        figure("Beacon", &shown.beat, &"beats: the randomness nobody can choose"),
    ]
    .into_iter()
    .collect();
    let name = if shown.network.is_empty() { "MatrixAI".to_owned() } else { format!("Network {}", shown.network) };
    html(
        "{}<div class=\"grid\" data-part=\"figures\">{}</div><div class=\"halves\">{}{}</div>{}",
        &[&heading(&name, lead), &figures, &nodes(status), &roots(status), &events(&shown.events)],
    )
}

fn nodes(status: &v1::GetStatusReply) -> Html {
    let rows: Html = status
        .nodes
        .iter()
        .map(|node| {
            let role = if node.id == status.leader { badge("leader") } else { Html::default() };
            let heard = match node.heard_ms {
                _ if node.id == status.node => "this one".to_owned(),
                u64::MAX => "never".to_owned(),
                ms => format!("{} ago", units::duration(ms)),
            };
            html(
                "<tr><th scope=\"row\">{} {}</th><td>{}</td><td>{}</td><td><a href=\"//{}/\">{}</a></td><td>{}</td></tr>",
                &[&node.id, &role, &node.standing, &node.grpc, &node.web, &node.web, &heard],
            )
        })
        .collect();
    let columns = [("Coordinator", false), ("Standing", false), ("gRPC", false), ("Web", false), ("Heard", false)];
    let table = table("The quorum", &columns, &rows, "This coordinator does not belong to a cluster yet.");
    let cluster = html("<p class=\"small quiet\">Cluster {}</p>", &[&whole_id(&status.cluster_id)]);
    card("nodes", "Coordinators", &html("{}{}", &[&table, &cluster]))
}

fn roots(status: &v1::GetStatusReply) -> Html {
    let agree = status.roots.windows(2).all(|pair| pair[0].root == pair[1].root);
    let rows: Html = status
        .roots
        .iter()
        .map(|root| {
            html(
                "<tr><th scope=\"row\">{}</th><td class=\"num\">{}</td><td class=\"num\">{}</td><td>{}</td></tr>",
                &[&root.node, &root.epoch, &root.index, &short_id(&root.root)],
            )
        })
        .collect();
    let columns = [("Coordinator", false), ("Epoch", true), ("Entry", true), ("Root", false)];
    let table = table("Hash of the whole state", &columns, &rows, "No epoch has been attested by all yet.");
    let verdict = match (status.roots.is_empty(), agree) {
        (true, _) => Html::default(),
        (false, true) => html("<p>{} All coordinators hold the same state.</p>", &[&badge("equal")]),
        (false, false) => html("<p>{} The coordinators' states differ.</p>", &[&badge("unequal")]),
    };
    card("roots", "Attested state", &html("{}{}", &[&verdict, &table]))
}

fn events(events: &[v1::Event]) -> Html {
    if events.is_empty() {
        return card(
            "events",
            "Latest events",
            &html("<p class=\"empty\">Nothing happened since this coordinator started.</p>", &[]),
        );
    }
    let rows: Html = events
        .iter()
        .map(|event| {
            let time = units::moment(event.now_ms);
            let clock = time.get(11..).unwrap_or(&time);
            html(
                "<li><time datetime=\"{}Z\">{}</time><span>{}</span></li>",
                &[&time.replace(' ', "T"), &clock, &event.text],
            )
        })
        .collect();
    card("events", "Latest events", &html("<ul class=\"events\">{}</ul>", &[&rows]))
}
