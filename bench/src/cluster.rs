//! Real coordinators as child processes on loopback, each in a folder of its own, ended with this process.
//!
//! A child's standard input is a pipe that this process holds open; it ends when the pipe closes, however this process
//! ends. A killed coordinator is started again in the same folder and takes the same ports. They lie below those that the
//! system gives to outgoing connections: otherwise one of the many connections that look for a killed coordinator
//! sooner or later has its port when it comes back.

use crate::{Result, doing, measure};
use matrixai_coordinator::founding;
use matrixai_proto::{
    envelope::{self, Signer},
    v1::{Genesis, GenesisNode, GetStatusReply, GetStatusRequest, InitRequest, cluster_client::ClusterClient},
};
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

const CONNECT_WAIT: Duration = Duration::from_secs(2);
const CALL_WAIT: Duration = Duration::from_secs(5);
/// A quorum elects and applies within this time, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
/// Lowest port of a coordinator, and draws of one before giving up.
const PORT_LEAST: u16 = 10_000;
const PORT_TRIES: usize = 1_000;
/// Time between beats, and beats in an epoch, as `cluster init` founds it: what they cost belongs to the figures.
const BEAT_MS: u64 = 1_000;
const EPOCH_BEATS: u32 = 8;

/// What a coordinator says of itself once it serves.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Ready {
    /// Its public key, hex.
    pub node_key: String,
    /// host:port of its gRPC server.
    pub grpc: String,
    /// host:port of its web server.
    pub web: String,
    /// The file of the key that founds a cluster on it; empty once there is one.
    #[serde(default)]
    pub founding_key: String,
}

/// The program under test: `given`, or the `matrixai` of this workspace in the profile of the running program, built
/// if it is not up to date.
///
/// # Errors
/// When it cannot be built.
pub fn program(given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(path) = given {
        return path.canonicalize().map_err(doing("find the program"));
    }
    let own = env::current_exe().map_err(doing("find the running program"))?;
    let folder = own.parent().ok_or("the running program is in no folder")?;
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", "matrixai"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if folder.file_name().is_some_and(|name| name == "release") {
        build.arg("--release");
    }
    if let Some(target) = folder.parent() {
        build.env("CARGO_TARGET_DIR", target);
    }
    let built = build.status().map_err(doing("build matrixai"))?;
    if built.success() { Ok(folder.join("matrixai")) } else { Err("matrixai does not build".to_owned()) }
}

/// One coordinator.
#[derive(Debug)]
pub struct Coordinator {
    child: Child,
    program: PathBuf,
    /// Its folder: `data` inside, and `log.txt`.
    pub folder: PathBuf,
    /// What it said when it served.
    pub ready: Ready,
    /// host:port under which the others and clients reach it.
    pub address: String,
}

impl Coordinator {
    /// Starts one in a folder and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(program: &Path, folder: &Path) -> Result<Self> {
        Self::start_at(program, folder, &free_address()?, &free_address()?)
    }

    fn start_at(program: &Path, folder: &Path, grpc: &str, web: &str) -> Result<Self> {
        let what = format!("start a coordinator in {}", folder.display());
        fs::create_dir_all(folder).map_err(doing(&what))?;
        let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log.txt"));
        let mut child = Command::new(program)
            .args(["coordinator", "--data", "data", "--grpc", grpc, "--web", web])
            .arg("--exit-with-parent")
            .current_dir(folder)
            .env_remove("MATRIXAI_CLUSTER")
            .env_remove("MATRIXAI_KEY")
            // Its people open their accounts at once.
            .env("MATRIXAI__STRANGERS__PER_S", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.map_err(doing(&what))?)
            .spawn()
            .map_err(doing(&what))?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("a child has no output")?).lines();
        let Some(Ok(line)) = lines.next() else {
            return Err(format!("{what}: it ended; see its log.txt"));
        };
        // The pipe stays open and empty, so that the child never blocks on it.
        std::thread::spawn(move || lines.for_each(drop));
        let ready: Ready = serde_json::from_str(&line).map_err(doing(&what))?;
        let address = ready.grpc.clone();
        Ok(Self { child, program: program.to_owned(), folder: folder.to_owned(), ready, address })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL; returns when the process is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().and_then(|()| self.child.wait()).map(|_| ()).map_err(doing("kill a coordinator"))
    }

    /// Starts it again after a kill, in the same folder, on the same ports.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        let mut again = Self::start_at(&self.program, &self.folder, &self.ready.grpc, &self.ready.web)?;
        again.address = std::mem::take(&mut self.address);
        *self = again;
        Ok(())
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGSTOP: it stands still and keeps its connections.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("a child without a number")?;
        kill_process(pid, signal).map_err(doing("signal a coordinator"))
    }

    /// Its own view of the quorum.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<GetStatusReply> {
        status(&self.ready.grpc).await
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // It may have ended before; nothing is left then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address with a port that nobody listens on, and that no outgoing connection is given.
fn free_address() -> Result<String> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").map_err(doing("read the port range"))?;
    let first = range.split_whitespace().next().and_then(|first| first.parse::<u16>().ok());
    let below = first.unwrap_or(u16::MAX).saturating_sub(PORT_LEAST).max(1);
    for _ in 0..PORT_TRIES {
        let draw = u16::from_le_bytes(envelope::random().map_err(doing("draw a port"))?);
        let address = format!("127.0.0.1:{}", PORT_LEAST + draw % below);
        if TcpListener::bind(&address).is_ok() {
            return Ok(address);
        }
    }
    Err(format!("no free port in {PORT_TRIES} tries"))
}

/// The status of the coordinator at an address.
///
/// # Errors
/// When it does not answer.
pub async fn status(address: &str) -> Result<GetStatusReply> {
    let mut client = ClusterClient::new(channel(address)?);
    match tokio::time::timeout(CALL_WAIT, client.get_status(GetStatusRequest {})).await {
        Ok(reply) => {
            reply.map(tonic::Response::into_inner).map_err(|status| format!("{address}: {}", status.message()))
        }
        Err(_) => Err(format!("{address}: no answer in {} s", CALL_WAIT.as_secs())),
    }
}

/// A connection that is made when it is first used, and again when it broke.
///
/// # Errors
/// When the address is none.
pub fn channel(address: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(doing(address))?;
    Ok(endpoint.connect_timeout(CONNECT_WAIT).tcp_nodelay(true).connect_lazy())
}

/// A founded cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its coordinators in order of their numbers in genesis.
    pub coordinators: Vec<Coordinator>,
    /// SHA-256 of its genesis.
    pub cluster_id: [u8; 32],
    /// Deleted when the cluster goes; after the coordinators, which are declared first.
    home: Home,
}

#[derive(Debug)]
enum Home {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Home {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(path) => path,
        }
    }
}

impl Cluster {
    /// Starts `count` coordinators in a fresh folder (under `home` and kept, or a temporary one) without founding
    /// anything.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start(program: &Path, count: usize, home: Option<PathBuf>) -> Result<Self> {
        let home = match home {
            Some(path) => Home::Kept(path),
            None => Home::Temporary(tempfile::tempdir().map_err(doing("make a folder"))?),
        };
        let start = |number| Coordinator::start(program, &home.path().join(format!("coordinator-{number}")));
        let coordinators = (1..=count).map(start).collect::<Result<_>>()?;
        Ok(Self { coordinators, cluster_id: [0; 32], home })
    }

    /// The folder that holds the coordinators' folders.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Founds a test network whose faucet gives what anybody asks for, and waits until it has a leader.
    ///
    /// # Errors
    /// When a coordinator refuses, or none is elected.
    pub async fn found(&mut self) -> Result<()> {
        let mut nodes = Vec::new();
        for (id, coordinator) in (1..).zip(&self.coordinators) {
            let key = hex::decode(&coordinator.ready.node_key).map_err(doing("read a node key"))?;
            let web = coordinator.ready.web.clone();
            nodes.push(GenesisNode { id, key, grpc: coordinator.address.clone(), web });
        }
        let random = || envelope::random::<32>().map_err(doing("draw random bytes"));
        let admin = Signer::from_seed(random()?).map_err(doing("make the admin's key"))?;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_err(doing("read the clock"))?;
        let genesis = Genesis {
            format: 1,
            network: "bench".to_owned(),
            test_network: true,
            nodes,
            admin_keys: vec![admin.public_key().to_vec()],
            faucet_daily: (1_u128 << 60).to_string(),
            faucet_total: (1_u128 << 80).to_string(),
            fee_bp: 100,
            beat_ms: BEAT_MS,
            r0: random()?.to_vec(),
            machine_timeout_ms: 3_000,
            epoch_beats: EPOCH_BEATS,
            created_ms: u64::try_from(created.as_millis()).map_err(doing("read the clock"))?,
            ..Genesis::default()
        }
        .encode_to_vec();
        for coordinator in &self.coordinators {
            let mut client = ClusterClient::new(channel(&coordinator.ready.grpc)?);
            let founder = fs::read_to_string(&coordinator.ready.founding_key).map_err(doing("read a founding key"))?;
            let seed = hex::decode(founder.trim()).map_err(doing("read a founding key"))?;
            let founder = Signer::from_seed(seed.as_slice().try_into().map_err(doing("read a founding key"))?);
            let founder = founder.map_err(doing("read a founding key"))?;
            let node = hex::decode(&coordinator.ready.node_key).map_err(doing("read a node key"))?;
            let claim = Some(founding::claim(&founder, &node, &genesis));
            let reply = client.init(InitRequest { genesis: genesis.clone(), claim }).await;
            let reply = reply.map_err(|status| format!("found the cluster: {}", status.message()))?.into_inner();
            self.cluster_id = reply.cluster_id.as_slice().try_into().map_err(doing("read the cluster's id"))?;
        }
        self.leader().await.map(|_| ())
    }

    /// The place of the leader among the coordinators, once all that answer agree on one that leads.
    ///
    /// # Errors
    /// When there is none for a minute.
    pub async fn leader(&self) -> Result<usize> {
        self.until("there is a leader", async || {
            for (place, coordinator) in self.coordinators.iter().enumerate() {
                match coordinator.status().await {
                    Ok(status) if status.role == "leader" => return Some(place),
                    Ok(_) | Err(_) => {}
                }
            }
            None
        })
        .await
    }

    /// Waits until all have applied at least this index; answers the applied indexes.
    ///
    /// # Errors
    /// When one has not within a minute.
    pub async fn applied(&self, index: u64) -> Result<Vec<u64>> {
        self.until("every coordinator has applied all of it", async || {
            let mut applied = Vec::new();
            for coordinator in &self.coordinators {
                applied.push(coordinator.status().await.ok().filter(|status| status.applied >= index)?.applied);
            }
            Some(applied)
        })
        .await
    }

    /// Waits until all have attested the root of one state at this index or later; answers whether the roots are equal.
    ///
    /// # Errors
    /// When they have not within a minute.
    pub async fn roots_equal(&self, index: u64) -> Result<bool> {
        self.until("every coordinator has attested a root", async || {
            let status = self.coordinators.first()?.status().await.ok()?;
            let all = status.roots.len() == self.coordinators.len();
            let first = status.roots.first().filter(|root| all && root.index >= index)?;
            Some(status.roots.iter().all(|root| root.root == first.root && root.index == first.index))
        })
        .await
    }

    async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> Result<T> {
        let search = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let late = |_| format!("not within {} s: {what}", PATIENCE.as_secs());
        tokio::time::timeout(PATIENCE, search).await.map_err(late)
    }

    /// Processor time of all coordinators together, seconds.
    ///
    /// # Errors
    /// When one is gone.
    pub fn cpu_s(&self) -> Result<f64> {
        self.coordinators.iter().map(|coordinator| measure::cpu_s(coordinator.pid())).sum()
    }

    /// The sum over all coordinators of a counter behind `/metrics`.
    ///
    /// # Errors
    /// When one does not show it.
    pub fn counted(&self, metric: &str) -> Result<f64> {
        self.coordinators.iter().map(|coordinator| measure::scrape(&coordinator.ready.web, metric)).sum()
    }
}
