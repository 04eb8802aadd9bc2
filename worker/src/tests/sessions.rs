//! Sessions: hello, enrolment, pings, acknowledgements, and what happens when a coordinator goes away.

use super::fake::{CLUSTER, Fake, Store};
use super::{Worker, cluster, story};
use crate::identity::{account_id, machine_id};
use crate::{Config, Error, serve};
use matrixai_proto::{
    decode_strict,
    envelope::{Signer, verify},
    v1::{Batch, DrillTask, Envelope, assignment::Task, command::Kind, worker_message::Kind as FromWorker},
};
use matrixai_protocol::drilling::commitment;
use ring::signature::{ED25519, UnparsedPublicKey};
use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, sync::Arc};

pub(super) fn drill(unit: u8, size: u32) -> Task {
    Task::Drill(DrillTask {
        unit: vec![unit; 20],
        attempt: 1,
        kernel: "igemm".to_owned(),
        params: vec![size, size, size, 1],
        seed: vec![5; 32],
    })
}

fn commitment_in(kind: Kind) -> (Vec<u8>, u32, Vec<u8>) {
    let Kind::CommitUnit(commit) = kind else { panic!("a commitment: {kind:?}") };
    (commit.unit, commit.attempt, commit.commitment)
}

#[test]
fn a_machine_enrols_once_with_its_owners_signature() {
    story(async {
        let data = tempfile::tempdir().unwrap();
        let (mut fake, mut config) = cluster(&data.path().join("worker")).await;
        let owner = Signer::from_seed([4; 32]).unwrap();
        config.owner_key = data.path().join("owner.key");
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&config.owner_key).unwrap();
        writeln!(file, "{}", hex::encode(owner.seed())).unwrap();

        let worker = Worker::start(config.clone()).await;
        let mut link = fake.session().await;
        assert_eq!(worker.ready.machine_key, hex::encode(link.machine_key));
        assert_eq!(worker.ready.machine, hex::encode(machine_id(&CLUSTER, &link.machine_key)));
        check_enrolment(link.enrolment.as_ref().unwrap(), &owner, &link.machine_key);
        // An answer to a ping shows that the welcome has arrived.
        link.ping(1).await;
        link.message().await.unwrap();
        worker.stop().await;
        drop(link);

        // Welcomed once, the owner's key is not needed any more.
        fs::remove_file(&config.owner_key).unwrap();
        let worker = Worker::start(config).await;
        let link = fake.session().await;
        assert_eq!(link.enrolment, None);
        worker.stop().await;
    });
}

fn check_enrolment(envelope: &Envelope, owner: &Signer, machine_key: &[u8; 32]) {
    verify(envelope).unwrap();
    assert_eq!(envelope.key, owner.public_key());
    let batch: Batch = decode_strict(&envelope.payload).unwrap();
    let Some(Kind::EnrolMachine(enrol)) = &batch.commands[0].kind else { panic!("an enrolment") };
    assert_eq!(enrol.machine_key, machine_key);
    let account = account_id(&CLUSTER, &owner.public_key());
    let possession = [&b"MatrixAI/enrol/v1"[..], &CLUSTER, &account].concat();
    UnparsedPublicKey::new(&ED25519, machine_key).verify(&possession, &enrol.possession).unwrap();
    assert!(enrol.inventory.as_ref().unwrap().cores > 0);
}

#[test]
fn a_drill_is_committed_acknowledged_and_revealed() {
    story(async {
        let data = tempfile::tempdir().unwrap();
        let (mut fake, config) = cluster(data.path()).await;
        let worker = Worker::start(config).await;
        let mut link = fake.session().await;
        link.ping(77).await;
        assert!(matches!(link.message().await, Some(FromWorker::Pong(pong)) if pong.nonce == 77));
        link.assign("drill/1/1", drill(1, 64)).await;
        let (first, kind) = link.report().await;
        let (unit, attempt, committed) = commitment_in(kind);
        assert_eq!((unit, attempt), (vec![1; 20], 1));
        // The relay fails twice: the same command comes again each time.
        link.ack(&first, &[]).await;
        let (second, _) = link.report().await;
        link.ack(&second, &[]).await;
        let (third, _) = link.report().await;
        assert_eq!([&first.command_id, &first.payload], [&second.command_id, &second.payload]);
        assert_eq!(first.command_id, third.command_id);
        link.ack(&third, &["done"]).await;

        let reveal = Task::Reveal(matrixai_proto::v1::RevealTask { unit: vec![1; 20] });
        link.assign("reveal/1", reveal).await;
        let Kind::RevealUnit(revealed) = link.accepted().await else { panic!("a reveal") };
        let digest = revealed.digest.try_into().unwrap();
        let salt = revealed.salt.try_into().unwrap();
        assert_eq!(commitment(&[1; 20], &link.machine_key, &digest, &salt), committed[..]);
        let workload = matrixai_protocol::drilling::Workload::new(
            matrixai_protocol::drilling::Kernel::Igemm,
            [64, 64, 64, 1, 0, 0, 0, 0],
        )
        .unwrap();
        let kernels: &dyn matrixai_kernels::Compute = &matrixai_kernels::Reference;
        assert_eq!(kernels.run(&workload, &[5; 32], &mut matrixai_kernels::Unpaced).unwrap(), digest);
        worker.stop().await;
    });
}

#[test]
fn the_next_coordinator_is_told_what_is_held() {
    story(async {
        let data = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::default());
        let (mut one, mut two) = (Fake::start(&store).await, Fake::start(&store).await);
        let config = Config::local(data.path(), &[one.address.clone(), two.address.clone()]).unwrap();
        let worker = Worker::start(config).await;
        let mut link = one.session().await;
        assert_eq!(link.claim.holding, Vec::<String>::new());
        link.assign("drill/1/1", drill(1, 32)).await;
        let (first, _) = link.report().await;
        // The coordinator dies before it acknowledges.
        drop(link);
        let mut link = two.session().await;
        assert_eq!(link.claim.holding, ["drill/1/1"]);
        let (again, _) = link.report().await;
        assert_eq!((first.command_id, first.payload), (again.command_id.clone(), again.payload.clone()));
        // It is still owed as far as this coordinator knows: not computed again, and answered as before.
        link.assign("drill/1/1", drill(1, 32)).await;
        link.ack(&again, &["done"]).await;
        link.assign("drill/2/1", drill(2, 32)).await;
        let (unit, ..) = commitment_in(link.accepted().await);
        assert_eq!(unit, [2; 20]);
        worker.stop().await;
    });
}

#[test]
fn a_restarted_worker_stands_by_its_commitment() {
    story(async {
        let data = tempfile::tempdir().unwrap();
        let (mut fake, config) = cluster(data.path()).await;
        let worker = Worker::start(config.clone()).await;
        let mut link = fake.session().await;
        link.assign("drill/1/1", drill(1, 32)).await;
        let (first, _) = link.report().await;
        worker.stop().await;
        assert!(link.message().await.is_none(), "the stream is closed");

        let worker = Worker::start(config).await;
        let mut link = fake.session().await;
        assert_eq!(link.claim.holding, ["drill/1/1"]);
        let (again, kind) = link.report().await;
        assert_eq!((first.command_id, first.payload), (again.command_id.clone(), again.payload.clone()));
        link.ack(&again, &["done"]).await;
        // The same unit under another attempt: the same commitment, for the digest is known.
        let (_, _, committed) = commitment_in(kind);
        let Task::Drill(unit) = drill(1, 32) else { panic!("a drill") };
        link.assign("drill/1/2", Task::Drill(DrillTask { attempt: 2, ..unit })).await;
        assert_eq!(commitment_in(link.accepted().await), (vec![1; 20], 2, committed));
        worker.stop().await;
    });
}

#[test]
fn withdrawn_work_makes_room() {
    story(async {
        let data = tempfile::tempdir().unwrap();
        let (mut fake, config) = cluster(data.path()).await;
        let worker = Worker::start(config).await;
        let mut link = fake.session().await;
        // Hours of work.
        link.assign("drill/1/1", drill(1, 20_000)).await;
        link.assign("drill/2/1", drill(2, 32)).await;
        link.withdraw("drill/1/1").await;
        let (unit, ..) = commitment_in(link.accepted().await);
        assert_eq!(unit, [2; 20]);
        worker.stop().await;
    });
}

#[test]
fn a_silent_coordinator_is_left() {
    story(async {
        let data = tempfile::tempdir().unwrap();
        let (mut fake, config) = cluster(data.path()).await;
        let worker = Worker::start(config).await;
        let mut link = fake.hello().await;
        link.welcome(1).await;
        let next = fake.session().await;
        assert!(link.message().await.is_none(), "the worker has closed the first session");
        assert_eq!(next.machine_key, link.machine_key);
        worker.stop().await;
    });
}

#[test]
fn another_cluster_is_refused() {
    story(async {
        let data = tempfile::tempdir().unwrap();
        let (_fake, mut config) = cluster(data.path()).await;
        config.cluster = "ab".repeat(32);
        let error = serve(config.clone(), |_| Ok(()), std::future::pending()).await.unwrap_err();
        assert!(matches!(error, Error::WrongCluster { .. }), "{error}");

        config.cluster = String::new();
        let mut folder = crate::identity::Folder::open(data.path()).unwrap();
        folder.belong([0xab; 32], "earlier").unwrap();
        drop(folder);
        let error = serve(config, |_| Ok(()), std::future::pending()).await.unwrap_err();
        assert!(error.to_string().contains("belongs to cluster"), "{error}");
    });
}

#[test]
fn a_worker_that_never_finds_its_cluster_can_still_be_stopped() {
    story(async {
        let data = tempfile::tempdir().unwrap();
        // A port that is bound but never answers.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config::local(data.path(), &[silent.local_addr().unwrap().to_string()]).unwrap();
        serve(config, |_| Ok(()), std::future::ready(())).await.unwrap();
    });
}
