//! A founded cluster for a test, and what clients need to talk to it.

use crate::common::{init, now_ms, submit_somewhere};
use matrixai_coordinator::{Config, Handle, Ready};
use matrixai_proto::{
    envelope::{self, COMMANDS, Signer},
    v1::{Batch, Command, CreateAccount, Envelope, FaucetDraw, Genesis, GenesisNode, Outcome, command::Kind},
};
use prost::Message as _;
use std::{path::PathBuf, time::Duration};
use tempfile::TempDir;
use tonic::transport::Channel;

/// A test that waits longer for anything has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One MAI in minor units.
pub(crate) const MAI: u64 = 1_000_000_000;

/// Coordinators in this process.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    pub(crate) id: [u8; 32],
}

struct Node {
    folder: TempDir,
    config: Config,
    handle: Option<Handle>,
    grpc: String,
    web: String,
}

impl Cluster {
    /// Starts `count` coordinators that belong to no cluster yet.
    pub(crate) async fn start(count: usize, configure: impl Fn(&mut Config)) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..count {
            let folder = tempfile::tempdir().unwrap();
            let mut config = Config::local(folder.path()).unwrap();
            configure(&mut config);
            let handle = started(config.clone()).await;
            let (grpc, web) = (handle.ready().grpc.clone(), handle.ready().web.clone());
            nodes.push(Node { folder, config, handle: Some(handle), grpc, web });
        }
        Self { nodes, id: [0; 32] }
    }

    /// Starts three and founds their cluster.
    pub(crate) async fn found(configure: impl Fn(&mut Config)) -> Self {
        let mut cluster = Self::start(3, configure).await;
        let genesis = cluster.genesis().encode_to_vec();
        for at in 0..cluster.nodes.len() {
            let reply = init(&cluster.nodes[at].grpc, &genesis).await.unwrap();
            cluster.id = reply.cluster_id.try_into().unwrap();
        }
        cluster
    }

    pub(crate) fn genesis(&self) -> Genesis {
        let nodes = self.nodes.iter().zip(1..).map(|(node, id)| GenesisNode {
            id,
            key: hex::decode(&node.handle.as_ref().unwrap().ready().node_key).unwrap(),
            grpc: node.grpc.clone(),
            web: node.web.clone(),
        });
        Genesis {
            format: 1,
            network: "<i>services</i>".to_owned(),
            test_network: true,
            nodes: nodes.collect(),
            admin_keys: Vec::new(),
            faucet_daily: (100 * MAI).to_string(),
            faucet_total: (1_000 * MAI).to_string(),
            fee_bp: 100,
            beat_ms: 200,
            r0: vec![7; 32],
            machine_timeout_ms: 3_000,
            epoch_beats: 5,
            created_ms: now_ms(),
            ..Genesis::default()
        }
    }

    /// What the coordinator at this position said when it served.
    pub(crate) fn ready(&self, at: usize) -> &Ready {
        self.nodes[at].handle.as_ref().unwrap().ready()
    }

    /// A connection to the gRPC server of the coordinator at this position.
    pub(crate) fn channel(&self, at: usize) -> Channel {
        Channel::from_shared(format!("http://{}", self.nodes[at].grpc)).unwrap().connect_lazy()
    }

    /// host:port of a web server.
    pub(crate) fn web(&self, at: usize) -> &str {
        &self.nodes[at].web
    }

    /// Where a coordinator keeps an artifact.
    pub(crate) fn artifact(&self, at: usize, sha256: &[u8]) -> PathBuf {
        let name = hex::encode(sha256);
        self.nodes[at].folder.path().join("artifacts").join(&name[..2]).join(name)
    }

    /// The folder of a coordinator's artifacts.
    pub(crate) fn artifacts(&self, at: usize) -> PathBuf {
        self.nodes[at].folder.path().join("artifacts")
    }

    /// Stops a coordinator; its folder and port stay.
    pub(crate) async fn stop(&mut self, at: usize) {
        let handle = self.nodes[at].handle.take().unwrap();
        tokio::task::spawn_blocking(move || handle.stop()).await.unwrap().unwrap();
    }

    /// Changes the settings of a stopped coordinator.
    pub(crate) fn configure(&mut self, at: usize, change: impl FnOnce(&mut Config)) {
        change(&mut self.nodes[at].config);
    }

    /// Waits until a coordinator ends by itself; answers why it did.
    pub(crate) async fn ended(&mut self, at: usize) -> String {
        let grpc = self.nodes[at].grpc.clone();
        until("a coordinator's end", async || tokio::net::TcpStream::connect(&grpc).await.is_err()).await;
        let handle = self.nodes[at].handle.take().unwrap();
        tokio::task::spawn_blocking(move || handle.stop()).await.unwrap().unwrap_err().to_string()
    }

    /// Starts a stopped coordinator on its folder and port.
    pub(crate) async fn restart(&mut self, at: usize) {
        let handle = started(self.nodes[at].config.clone()).await;
        assert_eq!(handle.ready().grpc, self.nodes[at].grpc, "a restart keeps the port");
        self.nodes[at].handle = Some(handle);
    }

    /// An envelope of commands by this key.
    pub(crate) fn commands(&self, signer: &Signer, kinds: Vec<Kind>) -> Envelope {
        let commands = kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
        let payload = Batch { commands, linked: false }.encode_to_vec();
        signer.seal(self.id, COMMANDS, envelope::random().unwrap(), now_ms() + 60_000, payload)
    }

    /// Submits to whoever leads, asking around until somebody does.
    pub(crate) async fn submit(&self, signer: &Signer, kinds: Vec<Kind>) -> Vec<Outcome> {
        submit_somewhere(&self.addresses(), &self.commands(signer, kinds)).await.outcomes
    }

    /// host:port of every gRPC server.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.grpc.clone()).collect()
    }

    /// A new account with 50 MAI; answers its key and id.
    pub(crate) async fn account(&self) -> (Signer, Vec<u8>) {
        let signer = Signer::generate().unwrap();
        let draw = FaucetDraw { amount: (50 * MAI).to_string() };
        let kinds = vec![Kind::CreateAccount(CreateAccount::default()), Kind::FaucetDraw(draw)];
        let outcomes = self.submit(&signer, kinds).await;
        assert!(outcomes.iter().all(|outcome| outcome.code == 0), "{outcomes:?}");
        (signer, outcomes[0].id.clone())
    }
}

async fn started(config: Config) -> Handle {
    tokio::task::spawn_blocking(move || matrixai_coordinator::start(config)).await.unwrap().unwrap()
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        let mut turn = tokio::time::interval(Duration::from_millis(20));
        while !holds().await {
            turn.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} did not come about"));
}
