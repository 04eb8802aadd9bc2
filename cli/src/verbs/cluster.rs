//! The quorum: founding it, its health, its event feed.

use super::{Desk, admin, founding};
use crate::{
    args::{ClusterVerb, InitArgs},
    client::{channel, refused},
    error::{CliError, Result},
    output::{self, Format, short},
};
use matrixai_proto::{
    envelope,
    v1::{self, admin_action::Kind as Action},
};
use matrixai_transport::Dialer;
use prost::Message as _;
use serde_json::json;
use std::time::{Duration, Instant};

/// Beats per epoch of a new cluster: roots are compared about twice a minute.
const EPOCH_BEATS: u32 = 8;
const MACHINE_TIMEOUT_MS: u64 = 3_000;
/// How long a transfer of the leader's office may take, and the pause between two looks at it.
const TRANSFER_WAIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const FAUCET_DAILY: u128 = 100_000_000_000;
const FAUCET_TOTAL: u128 = 1_000_000_000_000_000;

pub(crate) async fn run(desk: &Desk, verb: ClusterVerb) -> Result<()> {
    match verb {
        ClusterVerb::Init(args) => {
            let id = hex::encode(init(&args, &desk.dialer).await?);
            output::show(desk.format, &json!({ "cluster_id": id }), || format!("cluster {id} is founded"));
            Ok(())
        }
        ClusterVerb::Status => status(desk).await,
        ClusterVerb::Economy { reference } => super::economy::show(desk, reference).await,
        ClusterVerb::Snapshot(verb) => super::snapshot::run(desk, verb).await,
        ClusterVerb::Add { node } => {
            let v1::GenesisNode { key, grpc, web, .. } = named(0, &node)?;
            admin::propose(desk, Action::AddNode(v1::AddNode { key, grpc, web })).await
        }
        ClusterVerb::Promote { node } => admin::propose(desk, Action::PromoteNode(v1::PromoteNode { node })).await,
        ClusterVerb::Remove { node } => admin::propose(desk, Action::RemoveNode(v1::RemoveNode { node })).await,
        ClusterVerb::Move { node, grpc, web } => {
            admin::propose(desk, Action::SetNodeAddress(v1::SetNodeAddress { node, grpc, web })).await
        }
        ClusterVerb::TransferLeader { node } => transfer_leader(desk, node).await,
        ClusterVerb::Watch { from } => watch(desk, from).await,
    }
}

/// Founds a cluster: the same genesis for every node named.
pub(crate) async fn init(args: &InitArgs, dialer: &Dialer) -> Result<Vec<u8>> {
    let genesis = genesis(args)?;
    let keys = founding::keys_in(&args.founding_keys)?;
    founding::found(&genesis.nodes, &genesis.encode_to_vec(), &keys, dialer).await
}

fn genesis(args: &InitArgs) -> Result<v1::Genesis> {
    let mut nodes = Vec::new();
    for (number, text) in args.nodes.iter().enumerate() {
        nodes.push(named(number as u64 + 1, text)?);
    }
    let mut admin_keys = Vec::new();
    for text in &args.admins {
        admin_keys.push(
            crate::convert::hash(text)
                .map_err(|_| CliError::usage(format!("--admin {text}: a public key has 64 hex digits")))?,
        );
    }
    let r0: [u8; 32] = envelope::random().map_err(|error| CliError::local("draw R_0", error))?;
    let created = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(v1::Genesis {
        format: 1,
        network: args.network.clone(),
        test_network: args.test,
        nodes,
        admin_keys,
        faucet_daily: FAUCET_DAILY.to_string(),
        faucet_total: FAUCET_TOTAL.to_string(),
        fee_bp: args.fee_bp,
        beat_ms: args.beat_ms,
        r0: r0.to_vec(),
        machine_timeout_ms: MACHINE_TIMEOUT_MS,
        epoch_beats: EPOCH_BEATS,
        created_ms: created.map_or(0, |elapsed| elapsed.as_millis() as u64),
        admin_threshold: args.admin_threshold,
        limits: None,
        minimum_balance: crate::money::parse_mai(&args.minimum_balance)?.to_string(),
        economy: super::economy::of_genesis(&args.economy)?,
    })
}

/// A coordinator as its ready line shows it.
pub(crate) fn named(id: u64, text: &str) -> Result<v1::GenesisNode> {
    let mut parts = text.split('@');
    let wrong = || {
        CliError::usage(format!(
            "{text}: write NODE_KEY@GRPC@WEB, each address HOST:PORT, as the coordinator's ready line shows them"
        ))
    };
    let key = parts.next().ok_or_else(wrong)?;
    let key = crate::convert::hash(key).map_err(|_| wrong())?;
    let grpc = parts.next().filter(|address| address.contains(':')).ok_or_else(wrong)?.to_owned();
    let web = parts.next().filter(|address| address.contains(':')).ok_or_else(wrong)?.to_owned();
    Ok(v1::GenesisNode { id, key, grpc, web })
}

/// Asks the leader to hand its office over, and waits until the other leads.
async fn transfer_leader(desk: &Desk, to: u64) -> Result<()> {
    let (client, signer) = (desk.client().await?, desk.signer()?);
    let begun = Instant::now();
    loop {
        let status = client.status().await?;
        if status.leader == to {
            output::show(desk.format, &json!({ "leader": to }), || format!("node {to} leads"));
            return Ok(());
        }
        if begun.elapsed() > TRANSFER_WAIT {
            return Err(CliError::refused(format!(
                "node {} still leads: is node {to} a voter, and near the log's end?",
                status.leader
            )));
        }
        if status.leader != 0 {
            let payload = v1::TransferClaim { to }.encode_to_vec();
            let claim = Some(client.seal(&signer, envelope::TRANSFER_LEADER, payload).await?);
            let mut leader = v1::cluster_client::ClusterClient::new(channel(&desk.dialer, &status.leader_grpc)?);
            match leader.transfer_leader(v1::TransferLeaderRequest { claim }).await {
                Ok(_) => {}
                // It led a moment ago.
                Err(status) if matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Aborted) => {}
                Err(status) => return Err(refused(&status)),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn status(desk: &Desk) -> Result<()> {
    let status = desk.client().await?.status().await?;
    let nodes: Vec<_> = status.nodes.iter().map(|node| {
        json!({ "node": node.id, "grpc": node.grpc, "web": node.web, "heard_ms": node.heard_ms, "leader": node.id == status.leader,
            "standing": node.standing, "rules_version": node.rules_version, "matched": node.matched, "lag": node.lag })
    }).collect();
    let roots: Vec<_> = status.roots.iter().map(|root| {
        json!({ "node": root.node, "epoch": root.epoch, "index": root.index, "root": hex::encode(&root.root) })
    }).collect();
    let value = json!({
        "cluster_id": hex::encode(&status.cluster_id), "node": status.node, "role": status.role, "leader": status.leader,
        "term": status.term, "committed": status.committed, "applied": status.applied, "now_ms": status.now_ms,
        "version": status.version, "rules_version": status.rules_version, "rules_supported": status.rules_supported,
        "nodes": nodes, "roots": roots, "log_first": status.log_first,
        "snapshot": status.snapshot,
        "full_folders": status.full_folders.iter()
            .map(|full| json!({ "path": full.path, "needed_bytes": full.needed_bytes })).collect::<Vec<_>>(),
        "disk_full": status.disk_full.as_ref().map(|full| json!({ "path": full.path, "needed_bytes": full.needed_bytes })),
    });
    output::show(desk.format, &value, || {
        let rows: Vec<Vec<String>> = status
            .nodes
            .iter()
            .map(|node| {
                let heard = match node.heard_ms {
                    _ if node.id == status.node => "itself".to_owned(),
                    u64::MAX => "never".to_owned(),
                    ms => format!("{ms} ms ago"),
                };
                let role = if node.id == status.leader { "leader" } else { node.standing.as_str() };
                // Only the leader knows how far the others are.
                let lag = if status.leader == status.node { node.lag.to_string() } else { String::new() };
                vec![node.id.to_string(), role.to_owned(), node.grpc.clone(), node.web.clone(), heard, lag]
            })
            .collect();
        let mut text = format!(
            "cluster {}\nterm {}, committed {}, applied {}, log from {}, snapshot of {} (asked node {})\n\n",
            hex::encode(&status.cluster_id),
            status.term,
            status.committed,
            status.applied,
            status.log_first,
            status.snapshot,
            status.node
        );
        if let Some(full) = &status.disk_full {
            text.push_str(&format!(
                "THE DISK IS FULL: {} needs {} bytes; this coordinator cannot lead or acknowledge until there is room\n\n",
                full.path, full.needed_bytes
            ));
        }
        for full in &status.full_folders {
            text.push_str(&format!("NO ROOM ON THE DISK: {} waits for {} bytes\n", full.path, full.needed_bytes));
        }
        text.push_str(&output::table(&["node", "role", "gRPC", "web", "heard", "lag"], &rows));
        for root in &status.roots {
            text.push_str(&format!(
                "root of node {} at entry {}: {}\n",
                root.node,
                root.index,
                hex::encode(&root.root)
            ));
        }
        text
    });
    Ok(())
}

async fn watch(desk: &Desk, from: u64) -> Result<()> {
    let client = desk.client().await?;
    let mut next = from;
    loop {
        let request = v1::WatchEventsRequest { from_index: next };
        let mut stream = crate::client::ask!(client, cluster_client::ClusterClient.watch_events, request)?;
        while let Ok(Some(event)) = stream.message().await {
            next = event.index.saturating_add(1);
            print_event(desk.format, &event);
        }
    }
}

pub(crate) fn print_event(format: Format, event: &v1::Event) {
    let value = json!({
        "index": event.index, "now_ms": event.now_ms, "kind": event.kind,
        "subject": hex::encode(&event.subject), "text": event.text,
    });
    output::show(format, &value, || {
        format!("{:>8}  {:<18} {}  {}", event.index, event.kind, short(&event.subject), event.text)
    });
}
