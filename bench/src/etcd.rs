//! etcd beside our coordinators: three members on the same disk and loopback, its defaults (every write synced), and its
//! gRPC messages as far as they are needed here. The field numbers are etcd's `rpc.proto` and `kv.proto`.

use crate::{Result, cluster, doing, people::Ready, wire};
use prost::{Message, bytes::Bytes};
use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Path of a put.
pub const PUT: &str = "/etcdserverpb.KV/Put";
/// Path of a transaction.
pub const TXN: &str = "/etcdserverpb.KV/Txn";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
/// Operations of one transaction: etcd's default limit.
pub const TXN_PUTS: usize = 128;
/// Keys that are written over and over, as the transfers go between as many accounts.
const KEY_BYTES: usize = 32;
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct TxnRequest {
    #[prost(message, repeated, tag = "2")]
    success: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
struct RequestOp {
    #[prost(message, optional, tag = "2")]
    put: Option<PutRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
}

/// Of a put (field 1 is the header there too) and of a transaction.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// Three members as child processes.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Child>,
    /// host:port of each member's client address.
    pub addresses: Vec<String>,
}

impl Etcd {
    /// Starts three members in folders under `home` and waits until they have a leader.
    ///
    /// # Errors
    /// When `etcd` is not installed, or none leads within half a minute.
    pub async fn start(home: &Path) -> Result<Self> {
        let (clients, peers) = (free_addresses(3)?, free_addresses(3)?);
        let all: Vec<String> =
            peers.iter().enumerate().map(|(number, peer)| format!("member-{number}=http://{peer}")).collect();
        let mut members = Vec::new();
        for (number, (client, peer)) in clients.iter().zip(&peers).enumerate() {
            let folder = home.join(format!("etcd-{number}"));
            fs::create_dir_all(&folder).map_err(doing("make etcd's folder"))?;
            let log = fs::File::create(folder.join("log.txt")).map_err(doing("make etcd's log"))?;
            let child = Command::new("etcd")
                .args(["--name", &format!("member-{number}"), "--data-dir"])
                .arg(folder.join("data"))
                .args(["--listen-client-urls", &format!("http://{client}")])
                .args(["--advertise-client-urls", &format!("http://{client}")])
                .args(["--listen-peer-urls", &format!("http://{peer}")])
                .args(["--initial-advertise-peer-urls", &format!("http://{peer}")])
                .args(["--initial-cluster", &all.join(",")])
                .args(["--initial-cluster-state", "new", "--logger", "zap", "--log-level", "warn"])
                // A run writes more than the default of 2 GB.
                .args(["--quota-backend-bytes", "8589934592"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .map_err(doing("start etcd"))?;
            members.push(child);
        }
        let etcd = Self { members, addresses: clients };
        etcd.leader().await?;
        Ok(etcd)
    }

    /// The place of the leader among the addresses.
    ///
    /// # Errors
    /// When none leads within half a minute.
    pub async fn leader(&self) -> Result<usize> {
        let search = async {
            loop {
                for (place, address) in self.addresses.iter().enumerate() {
                    let Ok(channel) = cluster::channel(address) else { continue };
                    let Ok(answer) = wire::unary(channel, STATUS, Bytes::new()).await else { continue };
                    let Ok(status) = StatusResponse::decode(answer) else { continue };
                    let own = status.header.map_or(0, |header| header.member_id);
                    if status.leader != 0 && status.leader == own {
                        return place;
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(PATIENCE, search).await.map_err(|_| "etcd elects no leader".to_owned())
    }

    /// Process numbers of the members.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(Child::id).collect()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            // It may have ended before; nothing is left then.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

/// Puts as large as our envelopes: one of `keys` keys each, key and value together `bytes` long.
#[must_use]
pub fn puts(run: u64, count: usize, keys: usize, bytes: usize) -> Vec<Ready> {
    let mut random = crate::people::Random::new(run, 0);
    (0..count).map(|_| ready(&put(random.below(keys), bytes), 1)).collect()
}

/// Transactions of [`TXN_PUTS`] puts each, of different keys (etcd refuses one key twice).
#[must_use]
pub fn transactions(run: u64, count: usize, keys: usize, bytes: usize) -> Vec<Ready> {
    let mut random = crate::people::Random::new(run, 1);
    let transaction = |_| {
        let first = random.below(keys);
        let operation = |place| RequestOp { put: Some(put((first + place) % keys, bytes)) };
        ready(&TxnRequest { success: (0..TXN_PUTS).map(operation).collect() }, TXN_PUTS as u32)
    };
    (0..count).map(transaction).collect()
}

/// Reads an answer: the store's revision.
pub fn revision(answer: &Bytes) -> Result<u64> {
    let response = Response::decode(answer.clone()).map_err(|error| error.to_string())?;
    response.header.and_then(|header| u64::try_from(header.revision).ok()).ok_or_else(|| "no revision".to_owned())
}

fn put(key: usize, bytes: usize) -> PutRequest {
    let key = format!("account/{key:0width$}", width = KEY_BYTES - "account/".len()).into_bytes();
    PutRequest { key, value: vec![b'm'; bytes.saturating_sub(KEY_BYTES)] }
}

fn ready(message: &impl Message, commands: u32) -> Ready {
    Ready { request: message.encode_to_vec().into(), commands }
}

/// Addresses whose ports were free a moment ago: etcd cannot pick its own.
fn free_addresses(count: usize) -> Result<Vec<String>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").map_err(doing("find a free port")))
        .collect::<Result<_>>()?;
    let address = |listener: &TcpListener| listener.local_addr().map_err(doing("find a free port"));
    listeners.iter().map(|listener| address(listener).map(|address| address.to_string())).collect()
}
