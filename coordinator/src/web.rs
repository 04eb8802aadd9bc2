//! The web site: pages rendered here, JSON of the same figures, live updates, and `/metrics`.
//!
//! It only reads, and reads this coordinator's own view, so that it works where there is no quorum to ask; every page
//! says how far that view is. It answers GET (and HEAD) alone and takes no bodies.

mod api;
mod html;
mod live;
mod pages;
mod units;

use crate::{
    grpc::{cluster, convert},
    shared::Shared,
};
use actix_web::{
    App, Error, HttpRequest, HttpResponse, HttpServer,
    body::MessageBody,
    dev::{Server, ServiceRequest, ServiceResponse},
    guard,
    http::{Method, StatusCode, header},
    middleware::{self, Next},
    web::{self, Data, Path, PayloadConfig, ServiceConfig},
};
use html::Html;
use matrixai_proto::v1;
use matrixai_state::{State, ids::JobId, machines::MachineRow};
use matrixai_transport::Certificates;
use pages::{Frame, Overview, Place, Running};
use std::{collections::BTreeMap, io, net::TcpListener, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Threads that answer requests.
const WORKERS: usize = 2;
/// Connections of each of them at once.
const CONNECTIONS_PER_WORKER_MAX: usize = 1_024;
/// A client must have sent its request by then.
const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// An idle connection is closed after this.
const IDLE_WAIT: Duration = Duration::from_secs(30);
/// How long open answers may go on at the end, seconds; live streams end by themselves.
const SHUTDOWN_WAIT_S: u64 = 1;
/// Longest path and query, bytes.
const TARGET_BYTES_MAX: usize = 2_048;
/// Jobs, agreements and units on a page.
const ROWS: usize = 100;
/// Events on the overview.
const EVENTS: usize = 20;

/// What a browser may do with our pages: run our own module, apply our own style sheet, ask us again. Nothing inline,
/// nothing from elsewhere, nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = include_str!("web/static/style.css");
const SCRIPT: &str = include_str!("web/static/live.js");

/// What the handlers share.
#[derive(Debug, Clone)]
struct Site {
    shared: Shared,
    /// Places for live streams.
    streams: Arc<Semaphore>,
}

/// The web server on a bound listener; a future that ends with the server. Needs an actix system.
///
/// # Errors
/// When the listener cannot be used.
pub(crate) fn server(shared: Shared, listener: TcpListener) -> io::Result<Server> {
    let certificates = shared.certificates().map(Certificates::web).transpose().map_err(io::Error::other)?;
    let site = Site { shared, streams: Arc::new(Semaphore::new(live::STREAMS_MAX)) };
    let server = HttpServer::new(move || {
        let site = site.clone();
        App::new()
            .wrap(middleware::from_fn(guarded))
            .app_data(PayloadConfig::new(0))
            .configure(move |service| routes(service, site))
    });
    let server = server
        .workers(WORKERS)
        .max_connections(CONNECTIONS_PER_WORKER_MAX)
        .client_request_timeout(REQUEST_WAIT)
        .keep_alive(IDLE_WAIT)
        .shutdown_timeout(SHUTDOWN_WAIT_S)
        .disable_signals();
    let server = match certificates {
        Some(certificates) => server.listen_rustls_0_23(listener, certificates)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
}

fn routes(service: &mut ServiceConfig, site: Site) {
    macro_rules! get {
        ($path:literal, $handler:expr) => {
            service.service(
                web::resource($path)
                    .route(web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to($handler))
                    .default_service(web::to(wrong_method)),
            );
        };
    }
    service.app_data(Data::new(site));
    get!("/", overview);
    get!("/machines", machines);
    get!("/market", market);
    get!("/jobs", jobs);
    get!("/jobs/{id}", job);
    get!("/drilling", drilling);
    get!("/live", live::feed);
    get!("/metrics", metrics);
    get!("/api/status", api::status);
    get!("/api/machines", api::machines);
    get!("/api/offers", api::offers);
    get!("/api/jobs", api::jobs);
    get!("/api/jobs/{id}", api::job);
    get!("/api/accounts", api::accounts);
    get!("/api/drilling", api::drilling);
    get!("/static/style.css", style);
    get!("/static/live.js", script);
    service.default_service(web::to(nowhere));
}

/// Limits before a handler, headers after it.
async fn guarded(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let mut response = if request.uri().to_string().len() > TARGET_BYTES_MAX {
        let answer = problem(StatusCode::URI_TOO_LONG, "Too long an address", "No page here has so long an address.");
        request.into_response(answer).map_into_boxed_body()
    } else {
        next.call(request).await?.map_into_boxed_body()
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

/// Renders a page over this coordinator's view; before there is a cluster, says so.
fn rendered(site: &Site, place: Place, title: &str, content: impl FnOnce(&State) -> Option<Html>) -> HttpResponse {
    let Ok(state) = site.shared.stale_view() else {
        return problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "Not initialised",
            "This coordinator does not belong to a cluster yet: run matrixai cluster init.",
        );
    };
    let Some(content) = content(&state) else {
        return problem(StatusCode::NOT_FOUND, "Not found", "There is nothing of this id on this network.");
    };
    let frame = Frame {
        node: site.shared.node().unwrap_or_default(),
        index: state.index(),
        now_ms: state.now_ms(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    document(StatusCode::OK, pages::page(&frame, place, title, &content))
}

fn document(status: StatusCode, text: String) -> HttpResponse {
    HttpResponse::build(status).content_type("text/html; charset=utf-8").body(text)
}

fn problem(status: StatusCode, title: &str, sentence: &str) -> HttpResponse {
    document(status, pages::problem(title, sentence))
}

async fn overview(site: Data<Site>) -> HttpResponse {
    rendered(&site, Place::Overview, "Overview", |state| {
        let genesis = state.founding();
        Some(pages::overview(&Overview {
            network: genesis.network.clone(),
            test_network: genesis.test_network,
            status: cluster::status(&site.shared),
            machines: convert::machines(state, None),
            jobs: convert::jobs(state, None, ROWS),
            accounts: state.accounts().count(),
            beat: state.beacon().0,
            events: events(&site.shared),
        }))
    })
}

fn events(shared: &Shared) -> Vec<v1::Event> {
    shared.events().newest(EVENTS).iter().map(|logged| cluster::wire_event(logged)).collect()
}

async fn machines(site: Data<Site>) -> HttpResponse {
    rendered(&site, Place::Machines, "Machines", |state| {
        let progress = |row: &MachineRow| Some((row.id.0.to_vec(), site.shared.live().progress(row.id)?));
        let running = state.machines().filter_map(progress).map(|(id, task)| (id, (task.key, task.done_e6)));
        Some(pages::machines(&convert::machines(state, None), &running.collect::<Running>()))
    })
}

async fn market(site: Data<Site>) -> HttpResponse {
    rendered(&site, Place::Market, "Market", |state| {
        Some(pages::market(&convert::offers(state, false), &convert::trades(state, ROWS)))
    })
}

async fn jobs(site: Data<Site>) -> HttpResponse {
    rendered(&site, Place::Jobs, "Jobs", |state| Some(pages::jobs(&convert::jobs(state, None, ROWS))))
}

async fn job(site: Data<Site>, id: Path<String>) -> HttpResponse {
    rendered(&site, Place::Jobs, "Job", |state| Some(pages::job(&found(state, &id)?)))
}

async fn drilling(site: Data<Site>) -> HttpResponse {
    rendered(&site, Place::Drilling, "Drilling", |state| Some(pages::drilling(&convert::drilling(state, ROWS))))
}

/// The job of a hex id.
fn found(state: &State, id: &str) -> Option<v1::Job> {
    let mut bytes = [0; 20];
    hex::decode_to_slice(id, &mut bytes).ok()?;
    state.job(JobId(bytes)).map(|row| convert::job(state, row))
}

/// Figures for Prometheus. Those that follow from the state are taken from one view of it, here and now.
async fn metrics(site: Data<Site>) -> HttpResponse {
    let figures = site.shared.metrics();
    if let Ok(state) = site.shared.stale_view() {
        let mut machines: BTreeMap<&str, i64> = BTreeMap::new();
        state.machines().for_each(|row| *machines.entry(row.status()).or_default() += 1);
        figures.set_machines(&machines);
        let mut jobs: BTreeMap<&str, i64> = BTreeMap::new();
        state.jobs().for_each(|row| *jobs.entry(row.state.as_str()).or_default() += 1);
        figures.set_jobs(&jobs);
    }
    let status = cluster::status(&site.shared);
    figures.set_role(&status.role);
    figures.term.set(i64::try_from(status.term).unwrap_or(i64::MAX));
    figures.applied_index.set(i64::try_from(status.applied).unwrap_or(i64::MAX));
    figures.committed_index.set(i64::try_from(status.committed).unwrap_or(i64::MAX));
    figures.sessions.set(status.sessions.into());
    match figures.text() {
        Ok(text) => HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text),
        Err(error) => {
            tracing::error!(%error, "encode metrics");
            HttpResponse::InternalServerError().finish()
        }
    }
}

async fn style() -> HttpResponse {
    fixed("text/css; charset=utf-8", STYLE)
}

async fn script() -> HttpResponse {
    fixed("text/javascript; charset=utf-8", SCRIPT)
}

/// A file that changes with the version only.
fn fixed(kind: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok().content_type(kind).insert_header((header::CACHE_CONTROL, "max-age=300")).body(text)
}

async fn nowhere(request: HttpRequest) -> HttpResponse {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return problem(StatusCode::NOT_FOUND, "Not found", "There is no such page.");
    }
    wrong_method().await
}

async fn wrong_method() -> HttpResponse {
    let mut answer = problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "Read only",
        "This site only shows. Changes are signed commands over gRPC.",
    );
    answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
    answer
}
