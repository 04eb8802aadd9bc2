//! Workers' sessions as a worker sees them: enrolment, liveness, relayed commands, the loss of a machine.

#![allow(clippy::unwrap_used)]

mod common;

use common::Cluster;
use matrixai_proto::{
    envelope::{SESSION, Signer, random},
    v1::{
        CommitUnit, CoordinatorMessage, EnrolMachine, Envelope, Hello, Inventory, Pong, SessionClaim,
        WatchEventsRequest, Welcome, WorkerMessage, agent_client::AgentClient, cluster_client::ClusterClient,
        command::Kind, coordinator_message::Kind as Down, worker_message::Kind as Up,
    },
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// A worker's end of a session.
struct Session {
    up: mpsc::Sender<WorkerMessage>,
    down: Streaming<CoordinatorMessage>,
}

impl Session {
    async fn open(address: &str, claim: Envelope, enrolment: Option<Envelope>) -> Result<Self, Status> {
        let mut client = AgentClient::connect(format!("http://{address}")).await.unwrap();
        let (up, messages) = mpsc::channel(16);
        let hello = Hello { claim: Some(claim), enrolment };
        up.send(WorkerMessage { kind: Some(Up::Hello(hello)) }).await.unwrap();
        let down = client.session(ReceiverStream::new(messages)).await?.into_inner();
        Ok(Self { up, down })
    }

    async fn send(&self, kind: Up) {
        self.up.send(WorkerMessage { kind: Some(kind) }).await.unwrap();
    }

    /// The next message that is no ping; pings are answered. None when the session has ended.
    async fn next(&mut self) -> Option<Down> {
        loop {
            match self.down.message().await {
                Ok(Some(CoordinatorMessage { kind: Some(Down::Ping(ping)) })) => {
                    // The session may end at this very moment; the next message says so.
                    let _ = self.up.send(WorkerMessage { kind: Some(Up::Pong(Pong { nonce: ping.nonce })) }).await;
                }
                Ok(Some(message)) => return message.kind,
                Ok(None) | Err(_) => return None,
            }
        }
    }

    async fn welcomed(&mut self) -> Welcome {
        match self.next().await {
            Some(Down::Welcome(welcome)) => welcome,
            other => panic!("expected a welcome: {other:?}"),
        }
    }
}

fn claim(cluster: &Cluster, machine: &Signer) -> Envelope {
    let payload = SessionClaim { version: "test".to_owned(), holding: vec!["drill/old/1".to_owned()] };
    let expires_ms = common::now_ms() + 60_000;
    machine.seal(cluster.cluster_id, SESSION, random().unwrap(), expires_ms, payload.encode_to_vec())
}

fn enrolment(cluster: &Cluster, owner: &Signer, owner_id: &[u8], machine: &Signer) -> Envelope {
    let possession = [b"MatrixAI/enrol/v1".as_slice(), &cluster.cluster_id, owner_id].concat();
    let enrol = EnrolMachine {
        machine_key: machine.public_key().to_vec(),
        possession: machine.sign_raw(&possession).to_vec(),
        inventory: Some(Inventory { cores: 1, ram_bytes: 1 << 33, ..Inventory::default() }),
    };
    cluster.seal(owner, vec![Kind::EnrolMachine(enrol)])
}

#[test]
fn a_worker_is_online_while_it_answers_at_whichever_coordinator() {
    let cluster = Cluster::founded();
    let leader = cluster.leader();
    let follower = cluster.members[(leader + 1) % 3].grpc.clone();
    let (owner, owner_id) = cluster.account(0);
    let machine = Signer::generate().unwrap();
    cluster.runtime.block_on(async {
        let mut client = ClusterClient::connect(format!("http://{follower}")).await.unwrap();
        let mut events = client.watch_events(WatchEventsRequest { from_index: 1 }).await.unwrap().into_inner();
        let enrolment = enrolment(&cluster, &owner, &owner_id, &machine);
        let mut session = Session::open(&follower, claim(&cluster, &machine), Some(enrolment)).await.unwrap();
        let welcome = session.welcomed().await;
        assert_eq!(welcome.cluster_id, cluster.cluster_id);
        // What the worker says it holds and is not owed is withdrawn.
        assert!(matches!(session.next().await, Some(Down::Withdraw(withdraw)) if withdraw.key == "drill/old/1"));

        // A command by a follower's session reaches the leader and its outcome comes back.
        let commit = CommitUnit { unit: vec![1; 20], attempt: 1, commitment: vec![2; 32] };
        let envelope = cluster.seal(&machine, vec![Kind::CommitUnit(commit)]);
        let command_id = envelope.command_id.clone();
        session.send(Up::Envelope(envelope)).await;
        let Some(Down::Ack(ack)) = session.next().await else { panic!("expected an ack") };
        assert_eq!((ack.command_id, ack.outcomes[0].name.as_str()), (command_id, "unknown_unit"));

        let mut seen = Vec::new();
        while seen.last().is_none_or(|kind| kind != "machine.lost") {
            tokio::select! {
                event = events.message() => {
                    let event = event.unwrap().unwrap();
                    if event.subject == welcome.machine {
                        seen.push(event.kind.clone());
                    }
                    if event.kind == "machine.online" {
                        // From here on the worker is silent: the session ends, and a timeout later the machine is lost.
                        session.up = mpsc::channel(1).0;
                    }
                }
                _ = session.next(), if !session.up.is_closed() => {}
            }
        }
        assert_eq!(seen, ["machine.enrolled", "machine.online", "machine.lost"]);
    });
}

#[test]
fn only_enrolled_machines_have_sessions_and_each_has_one() {
    let cluster = Cluster::founded();
    let leader = cluster.members[cluster.leader()].grpc.clone();
    let ((owner, owner_id), (other, _)) = (cluster.account(0), cluster.account(0));
    let machine = Signer::generate().unwrap();
    cluster.runtime.block_on(async {
        let refused = Session::open(&leader, claim(&cluster, &machine), None).await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains("unknown_signer"), "{refused:?}");
        let mut forged = claim(&cluster, &machine);
        forged.signature[0] ^= 1;
        assert_eq!(Session::open(&leader, forged, None).await.err().unwrap().code(), Code::Unauthenticated);
        let refused = Session::open(&leader, claim(&cluster, &owner), None).await.err().unwrap();
        assert!(refused.message().contains("forbidden"), "{refused:?}");
        let unfit = enrolment(&cluster, &other, &owner_id, &machine);
        let refused = Session::open(&leader, claim(&cluster, &machine), Some(unfit)).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        let stranger = enrolment(&cluster, &Signer::generate().unwrap(), &owner_id, &machine);
        let refused = Session::open(&leader, claim(&cluster, &machine), Some(stranger)).await.err().unwrap();
        assert!(refused.message().contains("unknown_signer"), "{refused:?}");

        let enrolment = enrolment(&cluster, &owner, &owner_id, &machine);
        let mut first = Session::open(&leader, claim(&cluster, &machine), Some(enrolment.clone())).await.unwrap();
        first.welcomed().await;
        // The worker did not hear that it was enrolled and says so again.
        let mut second = Session::open(&leader, claim(&cluster, &machine), Some(enrolment)).await.unwrap();
        second.welcomed().await;
        while first.next().await.is_some() {}
    });
}
