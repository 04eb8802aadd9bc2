//! Messages made of a state that real entries led to, and of rows by hand where a state would take a whole training.

#![allow(clippy::unwrap_used)]

use super::*;
use matrixai_proto::v1::{
    Batch, Command, CreateAccount, EnrolMachine, Envelope, FaucetDraw, Genesis, GenesisNode, LogEntry, command::Kind,
};
use matrixai_protocol::{sha256, spec::TrainingSpec};
use matrixai_state::{
    Money,
    closing::CloseReason,
    ids::{JobId, OfferId},
    jobs::{Accuracy, JobRow, JobState, Member, Outsider, Stage, Standing},
    market::OrderTerms,
};
use prost::Message as _;

const KEY: [u8; 32] = [3; 32];
const MACHINE_KEY: [u8; 32] = [4; 32];

/// A state after one entry of commands by one account.
fn state(kinds: Vec<Kind>) -> State {
    let genesis = Genesis {
        format: 1,
        network: "convert".to_owned(),
        test_network: true,
        nodes: vec![GenesisNode { id: 1, key: vec![9; 32], grpc: "a:1".to_owned(), web: "a:2".to_owned() }],
        faucet_daily: "100".to_owned(),
        faucet_total: "100".to_owned(),
        beat_ms: 1,
        r0: vec![1; 32],
        machine_timeout_ms: 1,
        epoch_beats: 1,
        created_ms: 5,
        ..Genesis::default()
    };
    let genesis = genesis.encode_to_vec();
    let mut state = State::genesis(&genesis).unwrap();
    let commands = kinds.into_iter().map(|kind| Command { kind: Some(kind) }).collect();
    let envelope = Envelope {
        cluster_id: sha256(&[b"MatrixAI/genesis/v1", &genesis]).to_vec(),
        key: KEY.to_vec(),
        method: "commands".to_owned(),
        command_id: vec![1; 16],
        expires_ms: 100,
        payload: Batch { commands, linked: false }.encode_to_vec(),
        signature: vec![0; 64],
    };
    let entry = LogEntry { now_ms: 50, rules_version: 1, envelopes: vec![envelope.encode_to_vec()] };
    let applied = state.apply(1, &entry.encode_to_vec());
    let outcomes = &applied.results[0].outcomes;
    assert!(outcomes.iter().all(|outcome| outcome.to_parts().0 == 0), "{outcomes:?}");
    state
}

#[test]
fn an_account_and_its_machine() {
    let inventory = v1::Inventory {
        cpu_model: "model".to_owned(),
        cores: 2,
        isa: vec!["avx2".to_owned()],
        ram_bytes: 1 << 30,
        disk_bytes: 7,
        gpus: vec![v1::Gpu { model: "gpu".to_owned(), ram_bytes: 8 }],
        os: "os".to_owned(),
        region: "region".to_owned(),
    };
    let enrol =
        EnrolMachine { machine_key: MACHINE_KEY.to_vec(), possession: vec![0; 64], inventory: Some(inventory.clone()) };
    let state = state(vec![
        Kind::CreateAccount(CreateAccount::default()),
        Kind::FaucetDraw(FaucetDraw { amount: "42".to_owned() }),
        Kind::EnrolMachine(enrol),
    ]);
    let row = state.accounts().find(|row| row.key == Some(KEY)).unwrap();
    let owner = row.id;
    assert_eq!(
        account(&state, row),
        v1::Account {
            id: owner.0.to_vec(),
            key: KEY.to_vec(),
            role: "user".to_owned(),
            balance: "42".to_owned(),
            held: "0".to_owned(),
            created_ms: 50,
            recovery_key: Vec::new(),
            payout: Vec::new(),
            locked: "0".to_owned(),
        }
    );
    let all = machines(&state, None);
    assert_eq!(machines(&state, Some(owner.0)), all);
    assert!(machines(&state, Some([0; 20])).is_empty());
    let [machine] = &all[..] else { panic!("{all:?}") };
    assert_eq!((machine.status.as_str(), machine.inventory.as_ref()), ("offline", Some(&inventory)));
    assert_eq!((machine.key.as_slice(), machine.owner.as_slice()), (MACHINE_KEY.as_slice(), owner.0.as_slice()));
    assert!(machine.speeds.is_empty() && machine.drilling_micro_ut == "0");
}

fn member(tasks: u32, standing: Standing) -> Member {
    Member {
        machine: MachineId([tasks as u8; 20]),
        owner: AccountId([1; 20]),
        key: [5; 32],
        offer: OfferId([2; 20]),
        price_per_hour: Money::minor(3_600).unwrap(),
        speed_matched: 1_000,
        standing,
        failures: 0,
        tasks,
        cpu_us: 7,
        trained_ms: 900,
        unpaid_ms: 100,
        verified_ms: 50,
        paid_training: Money::minor(8).unwrap(),
        paid_verification: Money::minor(2).unwrap(),
        leases: Vec::new(),
        vote: None,
    }
}

fn settled() -> JobRow {
    let outsider = Outsider {
        machine: MachineId([8; 20]),
        owner: AccountId([9; 20]),
        price_per_hour: Money::minor(5).unwrap(),
        cpu_us: 1,
        verified_ms: 30,
        guilty: false,
        paid: Money::minor(4).unwrap(),
    };
    JobRow {
        id: JobId([6; 20]),
        owner: AccountId([7; 20]),
        name: "digits".to_owned(),
        spec: TrainingSpec {
            dataset: [1; 32],
            dataset_bytes: 10,
            features: 64,
            classes: 10,
            feature_scale: 16,
            validate_every: 5,
            hidden: vec![32, 16],
            learning_rate_e6: 1,
            momentum_e6: 2,
            weight_decay_e6: 3,
            clip_norm_e6: 4,
            batch: 5,
            virtual_workers: 3,
            rounds: 2,
            steps_per_round: 6,
            outer_rate_e6: 7,
            outer_momentum_e6: 8,
            target_e6: 930_000,
            seed: u64::MAX,
            spot_checks: 1,
        },
        order: OrderTerms {
            machines: 2,
            price_limit: Money::MAX,
            total_limit: Money::ZERO,
            duration_s: 60,
            start_deadline_s: 0,
            query: Default::default(),
        },
        fee_bp: 100,
        state: JobState::Settled,
        closed: Some(CloseReason::Completed),
        reason: String::new(),
        submitted_ms: 1,
        matched_ms: 2,
        closed_ms: 3,
        beacon: Some([2; 32]),
        members: vec![member(4, Standing::Active), member(1, Standing::Lost)],
        outsiders: vec![outsider],
        stage: Stage::Reducing,
        round: 2,
        tasks_done: 0,
        due_ms: 0,
        attempts: 4,
        root: Some([3; 32]),
        challenge_beacon: Some([4; 32]),
        accepted: Some(true),
        accuracy: Some(Accuracy { first_correct: 36, last_correct: 340, total: 359 }),
    }
}

#[test]
fn a_job_and_who_did_what_in_it() {
    let state = state(vec![Kind::CreateAccount(CreateAccount::default())]);
    let row = settled();
    assert!(closed(&row));
    let shown = job(&state, &row);
    assert_eq!((shown.state.as_str(), shown.rounds_done, shown.name.as_str()), ("settled", 2, "digits"));
    let spec = shown.spec.unwrap();
    assert_eq!((spec.hidden, spec.seed, spec.spot_checks), (vec![32, 16], u64::MAX, 1));
    assert_eq!(shown.order.unwrap().price_limit, Money::MAX.to_string());
    let proof = shown.proof.unwrap();
    assert_eq!((proof.verdict.as_str(), proof.root, proof.beacon), ("accepted", vec![3; 32], vec![4; 32]));
    assert_eq!(shown.accuracy, Some(v1::Accuracy { first_correct: 36, last_correct: 340, total: 359 }));

    let shares: Vec<_> = shown
        .shares
        .iter()
        .map(|share| (share.tasks, share.share_e6, share.billed_ms, &*share.paid, &*share.paid_verification))
        .collect();
    // 4 and 1 of 6 tasks, rounded down; 900 - 100 + 50 ms billed; a verifier from outside is paid for that alone.
    assert_eq!(shares, [(4, 666_666, 850, "10", "2"), (1, 166_666, 850, "10", "2"), (0, 0, 30, "4", "4")]);
    let standing: Vec<_> = shown.shares.iter().map(|share| &*share.standing).collect();
    assert_eq!(standing, ["active", "lost", "active"]);
}

#[test]
fn a_proof_without_a_verdict_has_none() {
    let state = state(vec![Kind::CreateAccount(CreateAccount::default())]);
    let row =
        JobRow { accepted: None, accuracy: None, root: None, beacon: None, state: JobState::Training, ..settled() };
    assert!(!closed(&row));
    let shown = job(&state, &row);
    assert_eq!((shown.proof.unwrap().verdict.as_str(), shown.accuracy), ("", None));
    assert!(shown.beacon.is_empty() && shown.model.is_empty());
}

#[test]
fn limits_have_a_default_and_a_maximum() {
    assert_eq!([limit(0, 20), limit(7, 20), limit(u32::MAX, 20)], [20, 7, 1_000]);
    assert_eq!(optional_id("owner", &[]).unwrap(), None);
    assert!(optional_id("owner", &[1; 19]).unwrap_err().message().contains("owner"));
}
