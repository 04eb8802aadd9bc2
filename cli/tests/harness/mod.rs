//! Real processes of the one binary, in a temporary folder, ended with the test that began them.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

pub mod client;

use matrixai_proto::v1::{self, jobs_client::JobsClient};
use matrixai_transport::{Callee, Certificates, Dialer, Files};
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The longest that any single condition of a test may take.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// The program of this build.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_matrixai");

/// Arguments of every coordinator.
const COORDINATOR: [&str; 7] = ["coordinator", "--data", "data", "--grpc", "127.0.0.1:0", "--web", "127.0.0.1:0"];

/// One running child.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Hangs up when the child's output ends, which is with the child.
    ended: Receiver<()>,
    pub ready: Value,
    program: PathBuf,
    args: Vec<String>,
    folder: PathBuf,
}

impl Process {
    pub fn start(folder: &Path, args: &[&str]) -> Self {
        Self::start_as(Path::new(PROGRAM), folder, args)
    }

    /// Of another build.
    pub fn start_as(program: &Path, folder: &Path, args: &[&str]) -> Self {
        Self::attempt(program, folder, args).unwrap_or_else(|said| panic!("{args:?} ended: {said}"))
    }

    /// Waits until it serves; answers the end of its log if it ended instead.
    pub fn attempt(program: &Path, folder: &Path, args: &[&str]) -> Result<Self, String> {
        fs::create_dir_all(folder).unwrap();
        let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log.txt")).unwrap();
        let mut child = Command::new(program)
            .args(args)
            .arg("--exit-with-parent")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(line) = lines.next() else {
            child.wait().unwrap();
            return Err(tail(folder));
        };
        let (running, ended) = channel();
        std::thread::spawn(move || {
            lines.for_each(drop);
            drop(running);
        });
        let ready = serde_json::from_str(&line.unwrap()).unwrap();
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Ok(Self { child, ended, ready, program: program.to_owned(), args, folder: folder.to_owned() })
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGSTOP: it hears and says nothing from now on, and its connections stay open.
    pub fn freeze(&self) {
        let stopped = Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status().unwrap();
        assert!(stopped.success());
    }

    /// The same again in the same folder.
    pub fn restart(&mut self) {
        let program = self.program.clone();
        *self = self.again(&program).unwrap_or_else(|said| panic!("{:?} ended: {said}", self.args));
    }

    /// Another build in the same folder; answers the end of its log if it ended.
    pub fn again(&self, program: &Path) -> Result<Self, String> {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        Self::attempt(program, &self.folder, &args)
    }

    /// Waits until it ends by itself; answers the end of its log.
    pub fn end(&mut self) -> String {
        let ended = self.ended.recv_timeout(DEADLINE);
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected), "it does not end: {}", tail(&self.folder));
        self.child.wait().unwrap();
        tail(&self.folder)
    }

    pub fn text(&self, key: &str) -> String {
        self.ready[key].as_str().unwrap_or_else(|| panic!("no {key} in {}", self.ready)).to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("log.txt")).unwrap_or_default();
    text.lines().rev().take(5).collect::<Vec<_>>().join("\n")
}

/// A cluster of three coordinators and some workers, made with the same verbs a person types.
#[derive(Debug)]
pub struct Cluster {
    /// The CA's certificate, when everything speaks TLS.
    ca: Option<String>,
    pub home: TempDir,
    pub coordinators: Vec<Process>,
    pub workers: Vec<Process>,
}

impl Cluster {
    /// In plaintext, which loopback allows.
    pub fn found() -> Self {
        Self::found_as(Path::new(PROGRAM))
    }

    /// The same of another build.
    pub fn found_as(program: &Path) -> Self {
        Self::started(program).init()
    }

    /// Where what machines earn is locked for so many seconds.
    pub fn found_disputable(dispute_s: &str) -> Self {
        Self::started(Path::new(PROGRAM)).init_with(dispute_s, str::to_owned)
    }

    fn started(program: &Path) -> Self {
        let mut cluster = Self::empty();
        let folders = (1..=3).map(|n| cluster.home.path().join(format!("coordinator-{n}")));
        cluster.coordinators = folders.map(|folder| Process::start_as(program, &folder, &COORDINATOR)).collect();
        cluster
    }

    /// With a configuration, the others and clients being told of each address's door.
    pub fn found_behind(config: &str, door: impl Fn(&str) -> String) -> Self {
        let mut cluster = Self::empty();
        let file = cluster.home.path().join("coordinator.toml");
        fs::write(&file, config).unwrap();
        let args = [&COORDINATOR[..], &["--config", file.to_str().unwrap()]].concat();
        let folders = (1..=3).map(|n| cluster.home.path().join(format!("coordinator-{n}")));
        cluster.coordinators = folders.map(|folder| Process::start(&folder, &args)).collect();
        cluster.init_behind(door)
    }

    /// With an authority and certificates made by `matrixai certs`.
    pub fn found_with_tls() -> Self {
        let mut cluster = Self::empty();
        let made = cluster.run(&["certs", "ca"]);
        let ca = cluster.home.path().join(made["certificate"].as_str().unwrap()).to_str().unwrap().to_owned();
        for n in 1..=3 {
            let folder = cluster.home.path().join(format!("coordinator-{n}"));
            let data = folder.join("data");
            let key = cluster.run(&["coordinator", "key", "--data", data.to_str().unwrap()]);
            let made = cluster.run(&["certs", "node", key["node_key"].as_str().unwrap(), "--host", "127.0.0.1"]);
            let file = |what: &str| cluster.home.path().join(made[what].as_str().unwrap()).to_str().unwrap().to_owned();
            let (certificate, private) = (file("certificate"), file("key"));
            let tls = ["--tls-ca", &ca, "--tls-cert", &certificate, "--tls-key", &private];
            cluster.coordinators.push(Process::start(&folder, &[&COORDINATOR[..], &tls].concat()));
        }
        cluster.ca = Some(ca);
        cluster.init()
    }

    fn empty() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { ca: None, home, coordinators: Vec::new(), workers: Vec::new() }
    }

    fn init(self) -> Self {
        self.init_behind(str::to_owned)
    }

    fn init_behind(self, door: impl Fn(&str) -> String) -> Self {
        self.init_with("0", door)
    }

    fn init_with(self, dispute_s: &str, door: impl Fn(&str) -> String) -> Self {
        let cluster = self;
        let admin = cluster.run(&["account", "key", "--key", "operator.key"])["key"].as_str().unwrap().to_owned();
        let nodes: Vec<String> = cluster
            .coordinators
            .iter()
            .map(|c| format!("{}@{}@{}", c.text("node_key"), door(&c.text("grpc")), c.text("web")))
            .collect();
        let mut init =
            vec!["cluster", "init", "--test", "--beat-ms", "200", "--dispute-s", dispute_s, "--admin", &admin];
        for node in &nodes {
            init.extend(["--node", node]);
        }
        cluster.run(&init);
        cluster
    }

    pub fn addresses(&self) -> Vec<String> {
        self.coordinators.iter().map(|coordinator| coordinator.text("grpc")).collect()
    }

    /// Runs a verb in the home folder; answers its JSON, or the exit code and what it said.
    pub fn attempt(&self, args: &[&str]) -> Result<Value, (i32, String)> {
        let output = Command::new(PROGRAM)
            .args(args)
            .args(["--output", "json"])
            .envs(self.ca.iter().map(|ca| ("MATRIXAI_TLS_CA", ca)))
            .env("MATRIXAI_CLUSTER", self.addresses().join(","))
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err((output.status.code().unwrap_or(-1), said));
        }
        Ok(text.lines().last().map_or(Value::Null, |line| serde_json::from_str(line).unwrap()))
    }

    pub fn run(&self, args: &[&str]) -> Value {
        self.attempt(args).unwrap_or_else(|(code, said)| panic!("{args:?} ended with {code}: {said}"))
    }

    /// Opens accounts for trainers, starts their workers, drills them and offers them.
    pub fn add_workers(&mut self, limits: &[&str]) {
        let join = self.addresses().join(",");
        for limit in limits {
            let number = self.workers.len() + 1;
            let key = format!("trainer-{number}.key");
            self.run(&["account", "new", "--key", &key]);
            let folder = self.home.path().join(format!("worker-{number}"));
            fs::create_dir_all(&folder).unwrap();
            fs::copy(self.home.path().join(&key), folder.join("owner.key")).unwrap();
            let mut args =
                vec!["worker", "--join", &join, "--data", "data", "--owner", "owner.key", "--cpu-limit", limit];
            args.extend(self.ca.iter().flat_map(|ca| ["--tls-ca", ca]));
            self.workers.push(Process::start(&folder, &args));
        }
        let count = self.workers.len();
        self.until("every machine is online", |cluster| {
            let machines = cluster.run(&["market", "list", "--all"]);
            machines.as_array().unwrap().iter().filter(|machine| machine["status"] != "offline").count() == count
        });
        let units = (6 * count).div_ceil(3).to_string();
        self.run(&["drill", "publish", "fgemm", "384,384,384,4,0", "--units", &units, "--key", "operator.key"]);
        self.until("every machine is measured", |cluster| {
            let machines = cluster.run(&["market", "list", "--all"]);
            let measured = |machine: &Value| {
                machine["measured"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|s| s["kernel"] == "fgemm" && s["provisional"] == false)
            };
            if machines.as_array().unwrap().iter().all(measured) {
                return true;
            }
            let drilling = cluster.run(&["drill", "status"]);
            if drilling["units"]
                .as_array()
                .unwrap()
                .iter()
                .all(|unit| unit["state"] != "open" && unit["state"] != "revealing")
                && drilling["campaigns"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|campaign| campaign["drawn"] == campaign["units"])
            {
                cluster.run(&["drill", "publish", "fgemm", "384,384,384,4,0", "--units", "2", "--key", "operator.key"]);
            }
            false
        });
        for (number, worker) in self.workers.iter().enumerate() {
            let (key, price) = (format!("trainer-{}.key", number + 1), format!("0.{}", 5 + number));
            self.run(&["offer", "make", &worker.text("machine"), "--price", &price, "--key", &key]);
        }
    }

    /// Opens the buyer's account with money, and submits a job of these rounds and steps; answers its id.
    pub fn submit(&self, rounds: u32, steps: u32, machines: usize) -> Vec<u8> {
        if self.attempt(&["account", "show", "--key", "buyer.key"]).is_err() {
            self.run(&["account", "new", "--key", "buyer.key"]);
            self.run(&["faucet", "100", "--key", "buyer.key"]);
        }
        let file = self.write_job(rounds, steps, machines);
        let job = self.run(&["job", "submit", file.to_str().unwrap(), "--key", "buyer.key"]);
        fs::remove_dir_all(file.parent().unwrap()).unwrap();
        hex::decode(job["job"].as_str().unwrap()).unwrap()
    }

    /// A small digits job in a folder of its own (which `submit` deletes: nothing may need it afterwards).
    pub fn write_job(&self, rounds: u32, steps: u32, machines: usize) -> PathBuf {
        let folder = self.home.path().join("job");
        fs::create_dir_all(&folder).unwrap();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/examples");
        fs::copy(examples.join("digits.csv.gz"), folder.join("digits.csv.gz")).unwrap();
        let text = fs::read_to_string(examples.join("digits.toml")).unwrap();
        let mut job: toml::Table = text.parse().unwrap();
        job["training"]["rounds"] = i64::from(rounds).into();
        job["training"]["steps_per_round"] = i64::from(steps).into();
        job["training"]["target"] = 0.5.into();
        job["order"]["machines"] = (machines as i64).into();
        let path = folder.join("job.toml");
        fs::write(&path, job.to_string()).unwrap();
        path
    }

    /// Waits until a view of the cluster holds. Each look that asks the cluster is a process of its own, and takes its time;
    /// what can be seen without asking is worth a call between two looks.
    pub fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < DEADLINE, "not within {} s: {what}", DEADLINE.as_secs());
        }
    }

    /// Follows a job by the stream of its changes until a state of it holds.
    pub fn follow(&self, job: &[u8], what: &str, holds: impl Fn(&v1::Job) -> bool) -> v1::Job {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let files = self.ca.as_ref().map(|ca| Files { ca: ca.into(), own: None });
        let dialer = Dialer::new(files.map(|files| Certificates::read(files).unwrap()));
        let begun = Instant::now();
        let mut last = v1::Job::default();
        while begun.elapsed() < DEADLINE {
            for address in self.addresses() {
                let seen = runtime.block_on(async {
                    let channel = dialer.line(&address, Callee::Host).unwrap().connect().await.ok()?;
                    let mut client = JobsClient::new(channel).max_decoding_message_size(64 << 20);
                    let mut stream = client.watch_job(v1::GetJobRequest { job: job.to_vec() }).await.ok()?.into_inner();
                    while let Ok(Ok(Some(job))) = tokio::time::timeout(DEADLINE, stream.message()).await {
                        last = job.clone();
                        if holds(&job) {
                            return Some(job);
                        }
                    }
                    None
                });
                if let Some(job) = seen {
                    return job;
                }
            }
        }
        panic!(
            "not within {} s: {what}; the job is {} ({}), round {}",
            DEADLINE.as_secs(),
            last.state,
            last.reason,
            last.rounds_done
        );
    }

    /// The place of the leader among the coordinators.
    pub fn leader(&self) -> usize {
        let found = Cell::new(0);
        self.until("there is a leader", |cluster| {
            found.set(cluster.attempt(&["cluster", "status"]).unwrap_or_default()["leader"].as_u64().unwrap_or(0));
            found.get() > 0
        });
        usize::try_from(found.get()).unwrap() - 1
    }

    /// What one coordinator says of itself; null if it says nothing.
    pub fn status(&self, place: usize) -> Value {
        self.attempt(&["cluster", "status", "--cluster", &self.addresses()[place]]).unwrap_or_default()
    }

    /// SHA-256 of the genesis.
    pub fn id(&self) -> [u8; 32] {
        let status = self.run(&["cluster", "status"]);
        hex::decode(status["cluster_id"].as_str().unwrap()).unwrap().try_into().unwrap()
    }

    /// Waits until all three have attested the state at the end of an epoch after this one, and checks that it is one state;
    /// answers the epoch.
    pub fn roots_equal_after(&self, epoch: u64) -> u64 {
        let attested = RefCell::new(Vec::new());
        self.until("all three attest a later state", |cluster| {
            let status = cluster.attempt(&["cluster", "status"]).unwrap_or_default();
            let roots = status["roots"].as_array().cloned().unwrap_or_default();
            let later = roots.len() == 3 && roots.iter().all(|root| root["epoch"].as_u64() > Some(epoch));
            attested.replace(roots);
            later
        });
        let roots = attested.into_inner();
        for root in &roots {
            assert_eq!((&root["epoch"], &root["root"]), (&roots[0]["epoch"], &roots[0]["root"]), "{roots:?}");
        }
        roots[0]["epoch"].as_u64().unwrap()
    }

    /// Money of all accounts together is what was minted.
    pub fn assert_conserved(&self) {
        assert_eq!(self.run(&["account", "list"])["conserved"], true);
    }
}
