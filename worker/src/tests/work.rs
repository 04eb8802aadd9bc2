//! Trainings end to end: a machine that is the only member of a job, and what it reports compared with the pure
//! recomputation.

use super::fake::{Link, Store};
use super::{Worker, cluster, story};
use matrixai_proto::v1::{
    BeginTask, OpenTask, ReduceTask, ReplayTask, RoundReduced, TaskDone, TrainTask, TrainingContext, TrainingSpec,
    assignment::Task, command::Kind,
};
use matrixai_protocol::{Hash, training::seal};
use matrixai_training::{
    Context, dataset::Dataset, model::correct, pace::unpaced, reduce, segment::run_segment, weights::Weights,
};
use std::{collections::BTreeMap, sync::Arc};

const V: u32 = 4;

/// Two clouds of points, and rows enough for every part.
fn csv() -> Vec<u8> {
    let mut text = String::new();
    for i in 0..80 {
        let label = i % 2;
        text.push_str(&format!("{},{},{label}\n", (i * 7) % 5 + 9 * label, (i * 3) % 5 + 9 * (1 - label)));
    }
    text.into_bytes()
}

/// A job over a data set, on the wire and as the mathematics sees it.
fn job(store: &Store, data: &[u8]) -> (TrainingContext, Arc<Context>) {
    let mut wire = crate::convert::tests::wire_context();
    let spec = wire.spec.as_mut().unwrap();
    spec.dataset = store.keep(data).to_vec();
    spec.dataset_bytes = data.len() as u64;
    spec.virtual_workers = V;
    spec.feature_scale = 16;
    let reduce = Task::Reduce(ReduceTask { context: Some(wire.clone()), ..Default::default() });
    let read = crate::convert::assignment(matrixai_proto::v1::Assignment {
        key: "k".to_owned(),
        task: Some(reduce),
        ..Default::default()
    });
    match read.unwrap().task {
        crate::agent::Task::Reduce(reduce) => (wire, reduce.context),
        other => panic!("a reduction: {other:?}"),
    }
}

async fn reduced(link: &mut Link, key: &str, task: ReduceTask) -> RoundReduced {
    link.assign(key, Task::Reduce(task)).await;
    match link.accepted().await {
        Kind::RoundReduced(reduced) => reduced,
        other => panic!("a reduction: {other:?}"),
    }
}

async fn trained(link: &mut Link, store: &Store, key: &str, task: TrainTask) -> Vec<TaskDone> {
    let count = task.virtual_workers.len();
    link.assign(key, Task::Train(task)).await;
    let mut done = BTreeMap::new();
    while done.len() < count {
        match link.accepted().await {
            Kind::TaskDone(task) => {
                assert!(store.has(&task.delta), "the delta is stored before it is reported");
                assert!(task.cpu_us > 0);
                done.insert(task.virtual_worker, task);
            }
            other => panic!("a virtual worker: {other:?}"),
        }
    }
    done.into_values().collect()
}

fn hash(bytes: &[u8]) -> Hash {
    bytes.try_into().unwrap()
}

#[test]
fn a_training_round_gives_the_bits_of_the_recomputation() {
    story(async {
        let folder = tempfile::tempdir().unwrap();
        let (mut fake, config) = cluster(folder.path()).await;
        let (wire, context) = job(&fake.store, &csv());
        let data = Dataset::parse(&csv(), &context.spec).unwrap();
        let (theta, momentum) = reduce::initial(&context);
        let worker = Worker::start(config).await;
        let mut link = fake.session().await;

        let first =
            reduced(&mut link, "reduce/j/0", ReduceTask { context: Some(wire.clone()), ..Default::default() }).await;
        assert_eq!((hash(&first.weights), hash(&first.momentum)), (theta.hash(), momentum.hash()));
        assert_eq!(first.watch_total as usize, data.watch.len());
        assert_eq!(first.watch_correct, correct(&context.spec, &theta, &data.watch, &mut unpaced).unwrap());
        assert!(fake.store.has(&first.weights) && fake.store.has(&first.momentum));

        let train = TrainTask {
            context: Some(wire.clone()),
            round: 0,
            attempt: 3,
            virtual_workers: (0..V).collect(),
            weights: first.weights.clone(),
        };
        let done = trained(&mut link, &fake.store, "train/j/0/3", train).await;
        let segments: Vec<_> =
            (0..V).map(|v| run_segment(&context, &data, &theta, 0, v, &mut unpaced).unwrap()).collect();
        for (task, segment) in done.iter().zip(&segments) {
            assert_eq!((hash(&task.delta), task.attempt), (segment.delta_hash, 3));
        }

        // Own deltas come from the cache: the coordinators may well have lost them.
        for task in &done {
            fake.store.artifacts.lock().unwrap().remove(&hash(&task.delta));
        }
        let task = ReduceTask {
            context: Some(wire.clone()),
            round: 1,
            weights: first.weights.clone(),
            momentum: first.momentum.clone(),
            deltas: done.iter().map(|task| task.delta.clone()).collect(),
        };
        let second = reduced(&mut link, "reduce/j/1", task).await;
        let deltas: Vec<_> = segments.iter().map(|s| Weights::from_bytes(&context.spec, &s.delta).unwrap()).collect();
        let (theta1, momentum1) = reduce::reduce(&context.spec, &theta, &momentum, &deltas).unwrap();
        assert_eq!((hash(&second.weights), hash(&second.momentum)), (theta1.hash(), momentum1.hash()));

        let replay = ReplayTask {
            context: Some(wire.clone()),
            segment: 2,
            round: 0,
            virtual_worker: 2,
            attempt: 9,
            weights: first.weights.clone(),
            first: first.weights.clone(),
            last: second.weights.clone(),
        };
        link.assign("replay/j/2/9", Task::Replay(replay)).await;
        let Kind::SegmentReplayed(replayed) = link.accepted().await else { panic!("a replay") };
        assert_eq!(hash(&replayed.trace_root), segments[2].trace_root);
        assert_eq!(hash(&replayed.delta), segments[2].delta_hash);
        assert_eq!((replayed.segment, replayed.attempt), (2, 9));
        assert_eq!(replayed.validation_total as usize, data.validation.len());
        let right = |model: &Weights| correct(&context.spec, model, &data.validation, &mut unpaced).unwrap();
        assert_eq!((replayed.first_correct, replayed.last_correct), (right(&theta), right(&theta1)));

        let open = OpenTask { job: wire.job.clone(), segment: 2, round: 0, virtual_worker: 2 };
        link.assign("open/j/2", Task::Open(open)).await;
        let Kind::TraceOpened(opened) = link.accepted().await else { panic!("an opening") };
        assert_eq!(hash(&opened.trace_root), segments[2].trace_root);
        let sealed = seal(&context.job, 0, 2, &link.machine_key, &segments[2].trace_root, &hash(&opened.salt));
        assert_eq!(sealed, done[2].sealed_trace[..]);

        link.assign("begin/a", Task::Begin(BeginTask { agreement: vec![4; 20] })).await;
        let Kind::AgreementStarted(started) = link.accepted().await else { panic!("a beginning") };
        assert_eq!(started.agreement, vec![4; 20]);
        worker.stop().await;
    });
}

#[test]
fn a_restart_in_mid_lease_computes_only_what_is_missing_and_keeps_its_seals() {
    story(async {
        let folder = tempfile::tempdir().unwrap();
        let (mut fake, config) = cluster(folder.path()).await;
        let (wire, context) = job(&fake.store, &csv());
        let (theta, _) = reduce::initial(&context);
        let weights = fake.store.keep(&theta.to_bytes()).to_vec();
        let lease = |attempt, virtual_workers| TrainTask {
            context: Some(wire.clone()),
            round: 0,
            attempt,
            virtual_workers,
            weights: weights.clone(),
        };
        let worker = Worker::start(config.clone()).await;
        let mut link = fake.session().await;
        link.assign("train/j/0/1", Task::Train(lease(1, vec![0, 1]))).await;
        let mut before = BTreeMap::new();
        while before.len() < 2 {
            let (envelope, kind) = link.report().await;
            let Kind::TaskDone(done) = kind else { panic!("a virtual worker: {kind:?}") };
            before.insert(done.virtual_worker, (envelope.command_id, done));
        }
        // Nothing was acknowledged.
        worker.stop().await;
        let worker = Worker::start(config).await;
        let mut link = fake.session().await;
        assert_eq!(link.claim.holding, ["train/j/0/1"]);
        link.assign("train/j/0/1", Task::Train(lease(1, vec![0, 1, 2]))).await;
        let mut after = BTreeMap::new();
        while after.len() < 3 {
            let (envelope, kind) = link.report().await;
            link.ack(&envelope, &["done"]).await;
            let Kind::TaskDone(done) = kind else { panic!("a virtual worker: {kind:?}") };
            after.insert(done.virtual_worker, (envelope.command_id, done));
        }
        assert_eq!((&after[&0], &after[&1]), (&before[&0], &before[&1]), "sent again as it was, CPU time and all");
        // Another lease of the same segment has the same seal: either can be opened.
        let again = trained(&mut link, &fake.store, "train/j/0/7", lease(7, vec![1])).await;
        assert_eq!(again[0].sealed_trace, before[&1].1.sealed_trace);
        worker.stop().await;
    });
}

#[test]
fn what_cannot_be_done_is_said_with_its_reason() {
    story(async {
        let folder = tempfile::tempdir().unwrap();
        let (mut fake, config) = cluster(folder.path()).await;
        let worker = Worker::start(config).await;
        let mut link = fake.session().await;
        let (bad, _) = job(&fake.store, b"1,2,0\n3,four,1\n");
        link.assign("reduce/b/0", Task::Reduce(ReduceTask { context: Some(bad), ..Default::default() })).await;
        let Kind::TaskFailed(failed) = link.accepted().await else { panic!("a failure") };
        assert_eq!((failed.reason.as_str(), failed.attempt), ("bad_data", 0));
        assert!(failed.detail.contains("line 2"), "{}", failed.detail);

        let (good, _) = job(&fake.store, &csv());
        let train = TrainTask {
            context: Some(good),
            attempt: 5,
            virtual_workers: vec![0],
            weights: vec![0xee; 32],
            ..Default::default()
        };
        link.assign("train/g/0/5", Task::Train(train)).await;
        let Kind::TaskFailed(failed) = link.accepted().await else { panic!("a failure") };
        assert_eq!((failed.reason.as_str(), failed.attempt), ("lost_input", 5));

        // Deltas that are no numbers make no model: nobody's machine is at fault.
        let (wire, context) = job(&fake.store, &csv());
        let (theta, momentum) = reduce::initial(&context);
        let poison = Weights::new(vec![f32::NAN; theta.len()]).to_bytes();
        let poisoned = ReduceTask {
            context: Some(wire),
            round: 1,
            weights: fake.store.keep(&theta.to_bytes()).to_vec(),
            momentum: fake.store.keep(&momentum.to_bytes()).to_vec(),
            deltas: vec![fake.store.keep(&poison).to_vec(); V as usize],
        };
        link.assign("reduce/g/1", Task::Reduce(poisoned)).await;
        let Kind::TaskFailed(failed) = link.accepted().await else { panic!("a failure") };
        assert_eq!(failed.reason, "bad_data");
        assert!(failed.detail.contains("NaN"), "{}", failed.detail);
        worker.stop().await;
    });
}

#[test]
fn a_tight_limit_slows_the_work_but_not_its_figures() {
    story(async {
        let folder = tempfile::tempdir().unwrap();
        let (mut fake, mut config) = cluster(folder.path()).await;
        config.cpu_limit = 0.5;
        let (mut wire, _) = job(&fake.store, &csv());
        let spec: &mut TrainingSpec = wire.spec.as_mut().unwrap();
        (spec.hidden, spec.batch, spec.steps_per_round) = (vec![128, 128], 64, 100);
        let worker = Worker::start(config).await;
        let mut link = fake.session().await;
        let first =
            reduced(&mut link, "reduce/j/0", ReduceTask { context: Some(wire.clone()), ..Default::default() }).await;
        let train = TrainTask {
            context: Some(wire),
            attempt: 1,
            virtual_workers: (0..V).collect(),
            weights: first.weights,
            ..Default::default()
        };
        let start = std::time::Instant::now();
        let done = trained(&mut link, &fake.store, "train/j/0/1", train).await;
        let cpu_us: u64 = done.iter().map(|task| task.cpu_us).sum();
        // Half a core, less what one saved period allows.
        let wall_us = start.elapsed().as_micros() as u64 + 50_000;
        assert!(cpu_us <= wall_us * 6 / 10, "{cpu_us} us of {wall_us} us");
        worker.stop().await;
    });
}
