//! The web site from outside, by plain HTTP: pages, JSON, metrics, live updates, and what is refused.

use crate::founded::{Cluster, PATIENCE, until};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

async fn request(address: &str, method: &str, path: &str) -> Answer {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(PATIENCE, asked).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// Asks for a path with GET.
pub(crate) async fn get(address: &str, path: &str) -> Answer {
    request(address, "GET", path).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_json_and_metrics_of_a_new_cluster() {
    let cluster = Cluster::found(|_| {}).await;
    cluster.account().await;
    let web = cluster.web(0);
    for (path, expected) in [
        ("/", "Network &lt;i&gt;services&lt;/i&gt;"),
        ("/machines", "No machine has been enrolled yet."),
        ("/market", "Nobody offers a machine at the moment."),
        ("/jobs", "No job has been submitted yet."),
        ("/drilling", "No campaign has been published yet."),
    ] {
        let page = get(web, path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.body.contains(expected), "{path}: {}", page.body);
        for header in [
            "content-type: text/html; charset=utf-8",
            "content-security-policy: default-src 'none'; script-src 'self'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
        ] {
            assert!(page.head.contains(header), "{path} has no {header}: {}", page.head);
        }
    }
    for path in ["/api/status", "/api/machines", "/api/offers", "/api/jobs", "/api/accounts", "/api/drilling"] {
        let answer = get(web, path).await;
        assert_eq!(answer.status, 200, "{path}");
        let value: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert!(value["now_ms"].as_u64().unwrap() > 0, "{path}: {value}");
    }
    until("the account in this coordinator's JSON", async || {
        let accounts: serde_json::Value = serde_json::from_str(&get(web, "/api/accounts").await.body).unwrap();
        accounts["accounts"].as_array().unwrap().iter().any(|row| row["balance"] == "50" && row["role"] == "user")
    })
    .await;
    let metrics = get(web, "/metrics").await;
    assert!(metrics.head.contains("text/plain"), "{}", metrics.head);
    for name in ["matrixai_applied_index ", "matrixai_term ", "matrixai_role{role=", "matrixai_artifacts_bytes_max "] {
        assert!(metrics.body.contains(name), "{name}: {}", metrics.body);
    }
    for path in ["/static/style.css", "/static/live.js"] {
        assert_eq!(get(web, path).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_site_only_shows() {
    let cluster = Cluster::start(1, |_| {}).await;
    let web = cluster.web(0);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        for path in ["/", "/api/status", "/nowhere"] {
            let answer = request(web, method, path).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(answer.head.contains("allow: get, head"), "{}", answer.head);
        }
    }
    assert_eq!(get(web, "/nowhere").await.status, 404);
    assert_eq!(get(web, &format!("/{}", "a".repeat(3_000))).await.status, 414);
    let head = request(web, "HEAD", "/static/style.css").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn before_there_is_a_cluster_pages_say_so() {
    let cluster = Cluster::start(1, |_| {}).await;
    let page = get(cluster.web(0), "/").await;
    assert_eq!(page.status, 503);
    assert!(page.body.contains("matrixai cluster init"), "{}", page.body);
    let status: serde_json::Value = serde_json::from_str(&get(cluster.web(0), "/api/status").await.body).unwrap();
    assert_eq!(status["role"], "uninitialised");
    assert_eq!(get(cluster.web(0), "/api/jobs").await.status, 503);
    assert_eq!(get(cluster.web(0), "/metrics").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_are_none_are_not_found() {
    let cluster = Cluster::found(|_| {}).await;
    for id in ["zz", "%3Cscript%3E", &"ab".repeat(20), "..%2f..%2fnode.key"] {
        let page = get(cluster.web(0), &format!("/jobs/{id}")).await;
        assert_eq!(page.status, 404, "{id}");
        assert!(!page.body.contains("<script>"), "{}", page.body);
        assert_eq!(get(cluster.web(0), &format!("/api/jobs/{id}")).await.status, 404, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_reach_an_open_page_and_end_with_the_coordinator() {
    let mut cluster = Cluster::found(|_| {}).await;
    let address = cluster.web(1).to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(format!("GET /live HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut next = async |wanted: &str| {
        let found = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains(wanted) {
                    return line;
                }
            }
            panic!("the stream ended before {wanted}");
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap()
    };
    next("text/event-stream").await;
    next("retry:").await;
    let (_, id) = cluster.account().await;
    let event = next("account.created").await;
    let event: serde_json::Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(event["subject"], hex::encode(id));
    // An open stream must not hold the coordinator's end up.
    tokio::time::timeout(PATIENCE, cluster.stop(1)).await.unwrap();
}
