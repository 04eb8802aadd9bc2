//! The pages for people. Each is a pure function of wire messages — what anybody could have asked the services for — so
//! that a page can show nothing a client could not check, and tests need no server.

mod drilling;
mod jobs;
mod machines;
mod market;
mod overview;

pub(super) use drilling::drilling;
pub(super) use jobs::{job, jobs};
pub(super) use machines::{Running, machines};
pub(super) use market::market;
pub(super) use overview::{Overview, overview};

use super::{
    html::{Html, Part, html},
    units,
};

/// Where the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Machines,
    Market,
    Jobs,
    Drilling,
    /// Nowhere in the navigation.
    Elsewhere,
}

const PLACES: [(Place, &str, &str); 5] = [
    (Place::Overview, "/", "Overview"),
    (Place::Machines, "/machines", "Machines"),
    (Place::Market, "/market", "Market"),
    (Place::Jobs, "/jobs", "Jobs"),
    (Place::Drilling, "/drilling", "Drilling"),
];

/// What every page shows around its content: whose view it is, and how old.
#[derive(Debug, Clone, Default)]
pub(super) struct Frame {
    /// Number of the coordinator that answers.
    pub(super) node: u64,
    /// Log index of the view.
    pub(super) index: u64,
    /// Ledger time of the view, ms.
    pub(super) now_ms: u64,
    /// Version of the coordinator.
    pub(super) version: String,
}

/// A whole document.
pub(super) fn page(frame: &Frame, place: Place, title: &str, content: &Html) -> String {
    let links: Html = PLACES
        .iter()
        .map(|(each, path, name)| {
            let current = if *each == place { html(" aria-current=\"page\"", &[]) } else { Html::default() };
            html("<li><a href=\"{}\"{}>{}</a></li>", &[path, &current, name])
        })
        .collect();
    html(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{} · MatrixAI</title><link rel=\"stylesheet\" href=\"/static/style.css\">\
         <link rel=\"icon\" href=\"data:,\"><script type=\"module\" src=\"/static/live.js\"></script></head><body>\
         <a class=\"skip\" href=\"#content\">Skip to content</a>\
         <header class=\"site\"><div class=\"bar\"><a class=\"brand\" href=\"/\">MatrixAI</a>\
         <nav aria-label=\"Pages\"><ul>{}</ul></nav><span id=\"live\" role=\"status\"></span></div></header>\
         <main id=\"content\">{}</main>\
         <footer><p data-part=\"frame\">As coordinator {} had applied the log up to entry {}, {} UTC. \
         Version {}. Exact figures: <a href=\"/api/status\">JSON</a>, <a href=\"/metrics\">metrics</a>.</p>\
         <noscript><p>Reload the page for newer figures: live updates need JavaScript.</p></noscript></footer>\
         </body></html>\n",
        &[&title, &links, content, &frame.node, &frame.index, &units::moment(frame.now_ms), &frame.version],
    )
    .into_string()
}

/// A page that says why there is none.
pub(super) fn problem(title: &str, sentence: &str) -> String {
    let content =
        html("<h1>{}</h1><p class=\"lead\">{}</p><p><a href=\"/\">To the overview</a></p>", &[&title, &sentence]);
    page(
        &Frame { version: env!("CARGO_PKG_VERSION").to_owned(), ..Frame::default() },
        Place::Elsewhere,
        title,
        &content,
    )
}

/// The head of a page.
fn heading(title: &str, lead: &str) -> Html {
    html("<h1>{}</h1><p class=\"lead\">{}</p>", &[&title, &lead])
}

/// A card with one figure and what it is about.
fn figure(title: &str, figure: &dyn Part, under: &dyn Part) -> Html {
    html(
        "<section class=\"card\"><h3>{}</h3><div class=\"figure\">{}</div><p class=\"quiet small\">{}</p></section>",
        &[&title, figure, under],
    )
}

/// A card with a title; `part` names it among those that are exchanged live.
fn card(part: &str, title: &str, content: &Html) -> Html {
    html("<section class=\"card\" data-part=\"{}\"><h2>{}</h2>{}</section>", &[&part, &title, content])
}

/// A column's title, and whether figures stand in it.
type Column = (&'static str, bool);

/// A table that scrolls sideways on a narrow screen; where there are no rows, a sentence.
fn table(caption: &str, columns: &[Column], rows: &Html, none: &str) -> Html {
    if rows.is_empty() {
        return html("<p class=\"empty\">{}</p>", &[&none]);
    }
    let head: Html = columns
        .iter()
        .map(|(title, number)| {
            let class = if *number { html(" class=\"num\"", &[]) } else { Html::default() };
            html("<th scope=\"col\"{}>{}</th>", &[&class, title])
        })
        .collect();
    html(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table><caption>{}</caption>\
         <thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>",
        &[&caption, &caption, &head, rows],
    )
}

/// Names and values.
fn facts(rows: &[(&str, &dyn Part)]) -> Html {
    let rows: Html = rows.iter().map(|(name, value)| html("<dt>{}</dt><dd>{}</dd>", &[name, *value])).collect();
    html("<dl class=\"facts\">{}</dl>", &[&rows])
}

/// The beginning of an id, whole on hover.
fn short_id(bytes: &[u8]) -> Html {
    let whole = hex::encode(bytes);
    if whole.is_empty() {
        return html("–", &[]);
    }
    html("<span class=\"id\" title=\"{}\">{}…</span>", &[&whole, &units::short(&whole)])
}

/// A whole id or hash; a dash for none.
fn whole_id(bytes: &[u8]) -> Html {
    if bytes.is_empty() { html("–", &[]) } else { html("<span class=\"id\">{}</span>", &[&hex::encode(bytes)]) }
}

/// A job's id as a way to its page.
fn job_link(id: &[u8], text: &str) -> Html {
    html("<a href=\"/jobs/{}\">{}</a>", &[&hex::encode(id), &text])
}

/// A state in words, coloured by what it means.
fn badge(state: &str) -> Html {
    let meaning = match state {
        "idle" | "open" | "settled" | "accepted" | "equal" | "leader" | "active" => "good",
        "drilling" | "rented" | "training" | "seeding" | "challenging" | "verifying" | "leased" | "committed"
        | "revealed" | "revealing" | "replayed" | "follower" => "busy",
        "waiting" | "candidate" | "lost" | "left" | "unopened" | "void" | "lapsed" | "expired" | "uninitialised" => {
            "warn"
        }
        "rejected" | "failed" | "suspended" | "revoked" | "guilty" | "unequal" | "forfeited" => "bad",
        _ => "plain",
    };
    html("<span class=\"badge {}\">{}</span>", &[&meaning, &state])
}

/// A point in time with its machine-readable form.
fn moment(ms: u64) -> Html {
    if ms == 0 {
        return html("–", &[]);
    }
    let shown = units::moment(ms);
    html("<time datetime=\"{}Z\">{}</time>", &[&shown.replace(' ', "T"), &shown])
}

#[cfg(test)]
mod tests {
    use super::*;
    use matrixai_proto::v1;

    #[test]
    fn a_page_names_where_the_reader_is() {
        let text = page(&Frame::default(), Place::Market, "Market", &Html::default());
        assert!(text.contains("<a href=\"/market\" aria-current=\"page\">Market</a>"), "{text}");
        assert_eq!(text.matches("aria-current").count(), 1);
    }

    #[test]
    fn pages_need_no_inline_script_or_style() {
        let text = page(&Frame::default(), Place::Overview, "x", &heading("<script>", "y"));
        assert!(!text.contains("style=") && !text.contains(" onload"), "{text}");
        assert_eq!(text.matches("<script").count(), 1, "only the module: {text}");
    }

    const HOSTILE: &str = "\"><script>alert(1)</script>";

    /// Every page with every kind of row in it, and every text of it hostile.
    #[test]
    fn filled_pages_hold_no_text_as_markup() {
        let text = || HOSTILE.to_owned();
        let status = v1::GetStatusReply {
            role: text(),
            node: 1,
            leader: 2,
            nodes: [1, 2, 3]
                .map(|id| v1::NodeStatus {
                    id,
                    grpc: text(),
                    web: text(),
                    heard_ms: if id == 3 { u64::MAX } else { 7 },
                    standing: text(),
                    ..Default::default()
                })
                .to_vec(),
            roots: [1, 2]
                .map(|node| v1::AttestedRoot { node, root: vec![node as u8; 32], ..Default::default() })
                .to_vec(),
            ..Default::default()
        };
        let events = vec![v1::Event { text: text(), now_ms: 1, ..Default::default() }];
        let shown = Overview { network: text(), status, events, ..Default::default() };
        let offer = v1::Offer { status: text(), price_per_hour: text(), ..Default::default() };
        let trade = v1::Trade { price_per_hour: "5".to_owned(), job: vec![1; 20], ..Default::default() };
        let replica = v1::Replica { state: text(), granted_ms: 5, committed_ms: 500, ..Default::default() };
        let unit =
            v1::Unit { kernel: text(), state: text(), micro_ut: text(), replicas: vec![replica], ..Default::default() };
        let campaign = v1::Campaign { kernel: text(), ..Default::default() };
        let drilled = v1::GetDrillingReply { campaigns: vec![campaign], units: vec![unit], ..Default::default() };
        let replay = v1::Replay { state: text(), ..Default::default() };
        let proof = v1::Proof { verdict: text(), replayed: vec![replay], ..Default::default() };
        let job_shown = v1::Job { name: text(), state: text(), proof: Some(proof), ..Default::default() };
        for content in [
            overview(&shown),
            market(&[offer], &[trade]),
            drilling(&drilled),
            jobs(std::slice::from_ref(&job_shown)),
            job(&job_shown),
        ] {
            let text = content.into_string();
            assert!(!text.contains("<script"), "{text}");
            assert!(!text.contains("\"\">"), "{text}");
        }
        assert!(overview(&shown).into_string().contains("The coordinators' states differ."));
        assert!(problem(HOSTILE, HOSTILE).matches("<script").count() == 1);
    }
}
