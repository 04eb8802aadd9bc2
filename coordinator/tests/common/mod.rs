//! Three coordinators on threads of this process, each with its own folder and loopback ports, and clients of them.

#![allow(clippy::unwrap_used, dead_code)]

use matrixai_coordinator::{Config, Handle, backup, start};
use matrixai_proto::{
    envelope::{COMMANDS, Signer, random},
    v1::{
        self, Batch, Command, CreateAccount, Envelope, FaucetDraw, Genesis, GenesisNode, GetAccountRequest,
        GetStatusReply, GetStatusRequest, InitRequest, Outcome, SaveSnapshotRequest, SubmitReply, SubmitRequest,
        Transfer, accounts_client::AccountsClient, cluster_client::ClusterClient, command::Kind,
        ledger_client::LedgerClient,
    },
};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::{
    future::Future,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::{Code, Status, transport::Channel};

/// Longest wait for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

const EPOCH_BEATS: u32 = 5;
pub(crate) const BEAT_MS: u64 = 200;
pub(crate) const MACHINE_TIMEOUT_MS: u64 = 2_000;

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// Looks until the condition gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let looking = async {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    // A look that hangs is cut off as well.
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.unwrap_or_else(|_| panic!("this did not happen in time: {what}"))
}

/// A coordinator's data folder, and its process while it runs.
pub(crate) struct Member {
    pub(crate) folder: TempDir,
    pub(crate) handle: Option<Handle>,
    /// Address of its gRPC server, the same after every restart.
    pub(crate) grpc: String,
}

impl Member {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut member = Self { folder, handle: None, grpc: String::new() };
        member.start();
        member.grpc = member.handle().ready().grpc.clone();
        member
    }

    /// A coordinator that waits to be added to the cluster of these.
    pub(crate) fn joining(addresses: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::local(folder.path()).unwrap();
        config.join = addresses.to_vec();
        let handle = start(config).unwrap();
        let grpc = handle.ready().grpc.clone();
        Self { folder, handle: Some(handle), grpc }
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.handle.as_ref().unwrap()
    }

    pub(crate) fn start(&mut self) {
        self.handle = Some(start(Config::local(self.folder.path()).unwrap()).unwrap());
    }

    pub(crate) fn stop(&mut self) {
        self.handle.take().unwrap().stop().unwrap();
    }
}

/// Three coordinators and what founded them.
pub(crate) struct Cluster {
    pub(crate) runtime: Runtime,
    pub(crate) members: Vec<Member>,
    pub(crate) genesis: Vec<u8>,
    pub(crate) cluster_id: [u8; 32],
}

impl Cluster {
    /// Three coordinators that belong to no cluster yet, and a genesis of them.
    pub(crate) fn unfounded() -> Self {
        Self::unfounded_with(EPOCH_BEATS)
    }

    fn unfounded_with(epoch_beats: u32) -> Self {
        let runtime = Runtime::new().unwrap();
        let members: Vec<Member> = (0..3).map(|_| Member::new()).collect();
        let node = |(id, member): (u64, &Member)| GenesisNode {
            id,
            key: hex::decode(&member.handle().ready().node_key).unwrap(),
            grpc: member.grpc.clone(),
            web: member.handle().ready().web.clone(),
        };
        let genesis = Genesis {
            format: 1,
            network: "test".to_owned(),
            test_network: true,
            nodes: (1..).zip(&members).map(node).collect(),
            admin_keys: vec![admin().public_key().to_vec()],
            faucet_daily: "1000000".to_owned(),
            faucet_total: "100000000".to_owned(),
            fee_bp: 100,
            beat_ms: BEAT_MS,
            r0: vec![7; 32],
            machine_timeout_ms: MACHINE_TIMEOUT_MS,
            epoch_beats,
            created_ms: now_ms(),
            ..Genesis::default()
        }
        .encode_to_vec();
        let cluster_id = Sha256::new_with_prefix("MatrixAI/genesis/v1").chain_update(&genesis).finalize().into();
        Self { runtime, members, genesis, cluster_id }
    }

    /// Three coordinators of one cluster.
    pub(crate) fn founded() -> Self {
        Self::founded_with(EPOCH_BEATS)
    }

    /// Three coordinators of one cluster whose epochs last so many beats.
    pub(crate) fn founded_with(epoch_beats: u32) -> Self {
        let cluster = Self::unfounded_with(epoch_beats);
        for member in &cluster.members {
            let reply = cluster.runtime.block_on(init(&member.grpc, &cluster.genesis)).unwrap();
            assert_eq!(reply.cluster_id, cluster.cluster_id);
        }
        cluster
    }

    /// Addresses of the members that run.
    pub(crate) fn running(&self) -> Vec<String> {
        self.members.iter().filter(|member| member.handle.is_some()).map(|member| member.grpc.clone()).collect()
    }

    /// Number (from 0) of the member that leads, once all that run agree on it.
    pub(crate) fn leader(&self) -> usize {
        let running = self.running();
        let address = self.runtime.block_on(eventually("one leader that all know", || async {
            let mut leaders = Vec::new();
            for address in &running {
                leaders.push(status(address).await.ok()?.leader_grpc);
            }
            let first = leaders.first()?.clone();
            let known = running.contains(&first) && leaders.iter().all(|leader| *leader == first);
            known.then_some(first)
        }));
        self.members.iter().position(|member| member.grpc == address).unwrap()
    }

    /// A signed envelope of commands.
    pub(crate) fn seal(&self, signer: &Signer, kinds: Vec<Kind>) -> Envelope {
        let commands = kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
        self.seal_payload(signer, Batch { commands, linked: false }.encode_to_vec())
    }

    pub(crate) fn seal_payload(&self, signer: &Signer, payload: Vec<u8>) -> Envelope {
        signer.seal(self.cluster_id, COMMANDS, random().unwrap(), now_ms() + 60_000, payload)
    }

    /// Submits wherever the leader is, as a client does: following it, and asking again with the same envelope.
    pub(crate) fn submit(&self, envelope: &Envelope) -> SubmitReply {
        self.runtime.block_on(submit_somewhere(&self.running(), envelope))
    }

    /// Submits commands and expects each to be done.
    pub(crate) fn done(&self, signer: &Signer, kinds: Vec<Kind>) -> SubmitReply {
        let reply = self.submit(&self.seal(signer, kinds));
        assert!(reply.outcomes.iter().all(|outcome| outcome.code == 0), "{:?}", reply.outcomes);
        reply
    }

    /// The refusal of the only command.
    pub(crate) fn refused(&self, envelope: &Envelope) -> String {
        match &self.submit(envelope).outcomes[..] {
            [Outcome { code, name, .. }] if *code != 0 => name.clone(),
            other => panic!("expected one refusal: {other:?}"),
        }
    }

    /// An account with this much money.
    pub(crate) fn account(&self, amount: u128) -> (Signer, Vec<u8>) {
        let signer = Signer::generate().unwrap();
        let mut kinds = vec![Kind::CreateAccount(CreateAccount::default())];
        if amount > 0 {
            kinds.push(Kind::FaucetDraw(FaucetDraw { amount: amount.to_string() }));
        }
        let reply = self.done(&signer, kinds);
        (signer, reply.outcomes[0].id.clone())
    }

    /// Balance of an account as one member tells it, linearizably.
    pub(crate) fn balance(&self, member: usize, account: &[u8]) -> String {
        let address = &self.members[member].grpc;
        self.runtime.block_on(eventually("a linearizable read", || async {
            Some(get_account(address, account).await.ok()?.balance)
        }))
    }
}

/// The cluster's one admin.
pub(crate) fn admin() -> Signer {
    Signer::from_seed([9; 32]).unwrap()
}

pub(crate) fn transfer(to: &[u8], amount: u128) -> Kind {
    Kind::Transfer(Transfer { to: to.to_vec(), amount: amount.to_string(), memo: "test".to_owned(), open: false })
}

/// Founds the cluster of a genesis on a coordinator of this machine, or confirms that it is.
pub(crate) async fn init(address: &str, genesis: &[u8]) -> Result<v1::InitReply, Status> {
    let client = ClusterClient::connect(format!("http://{address}")).await.unwrap();
    init_over(client, genesis).await
}

/// The same over a connection, as the operator does it: with the key in the coordinator's folder, while there is one.
pub(crate) async fn init_over(mut client: ClusterClient<Channel>, genesis: &[u8]) -> Result<v1::InitReply, Status> {
    let status = client.get_status(GetStatusRequest {}).await?.into_inner();
    let claim = status.founding.map(|founding| {
        let seed = hex::decode(std::fs::read_to_string(founding.path).unwrap().trim()).unwrap();
        let founder = Signer::from_seed(seed.try_into().unwrap()).unwrap();
        assert_eq!(founder.public_key(), *founding.key);
        matrixai_coordinator::founding::claim(&founder, &founding.node, genesis)
    });
    Ok(client.init(InitRequest { genesis: genesis.to_vec(), claim }).await?.into_inner())
}

pub(crate) async fn status(address: &str) -> Result<GetStatusReply, Status> {
    let client = ClusterClient::connect(format!("http://{address}")).await;
    let mut client = client.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(client.get_status(GetStatusRequest {}).await?.into_inner())
}

pub(crate) async fn get_account(address: &str, account: &[u8]) -> Result<v1::Account, Status> {
    let client = AccountsClient::connect(format!("http://{address}")).await;
    let mut client = client.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(client.get_account(GetAccountRequest { account: account.to_vec() }).await?.into_inner())
}

/// Has a coordinator write a snapshot of now, and keeps it here.
pub(crate) async fn save(address: &str, file: &Path) {
    let mut client = ClusterClient::connect(format!("http://{address}")).await.unwrap();
    let mut pieces = client.save_snapshot(SaveSnapshotRequest {}).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await.unwrap() {
        assert_eq!(piece.offset, bytes.len() as u64);
        bytes.extend(piece.data);
    }
    std::fs::write(file, bytes).unwrap();
}

pub(crate) fn node_key(folder: &Path) -> Signer {
    let text = std::fs::read_to_string(folder.join("node.key")).unwrap();
    Signer::from_seed(hex::decode(text.trim()).unwrap().try_into().unwrap()).unwrap()
}

/// Stops all members and has each begin again from a snapshot, in a new folder, at its old addresses.
pub(crate) fn restore_all(cluster: &mut Cluster, file: &Path) {
    // All are off before the first begins again: one that is restored while a majority lives is not listened to.
    let webs: Vec<String> = cluster.members.iter().map(|member| member.handle().ready().web.clone()).collect();
    cluster.members.iter_mut().for_each(Member::stop);
    for ((number, member), web) in (1..).zip(&mut cluster.members).zip(webs) {
        let (key, new) = (node_key(member.folder.path()), tempfile::tempdir().unwrap());
        // A file system of its own, as it was made.
        std::fs::create_dir(new.path().join("lost+found")).unwrap();
        assert_eq!(backup::restore(file, new.path(), &key).unwrap(), number);
        let mut config = Config::local(new.path()).unwrap();
        (config.listen.grpc, config.listen.web) = (member.grpc.clone(), web);
        member.handle = Some(start(config).unwrap());
        member.folder = new;
    }
}

/// Submits to exactly this coordinator.
pub(crate) async fn submit_to(address: &str, envelope: &Envelope) -> Result<SubmitReply, Status> {
    let client = LedgerClient::connect(format!("http://{address}")).await;
    let mut client = client.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(client.submit(SubmitRequest { envelope: Some(envelope.clone()) }).await?.into_inner())
}

/// Submits to the leader, starting anywhere: the next coordinator is asked until one that leads has answered.
pub(crate) async fn submit_somewhere(addresses: &[String], envelope: &Envelope) -> SubmitReply {
    let mut next = addresses.iter().cycle();
    eventually("a command at the leader", || {
        let address = next.next().unwrap();
        async move {
            match submit_to(address, envelope).await {
                Ok(reply) => Some(reply),
                // A connection that broke under a request shows as UNKNOWN or CANCELLED.
                Err(status) if is_passing(status.code()) => None,
                Err(status) => panic!("{status:?}"),
            }
        }
    })
    .await
}

fn is_passing(code: Code) -> bool {
    // A leader that hands its office over takes nothing for a moment, and says so with RESOURCE_EXHAUSTED.
    matches!(
        code,
        Code::Unavailable | Code::FailedPrecondition | Code::Unknown | Code::Cancelled | Code::ResourceExhausted
    )
}
