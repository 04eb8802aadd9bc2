//! What a busy network has besides accounts: machines with an offer each, and jobs that wait. All made through the log.

use crate::population::{Population, command};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_protocol::sha256;
use matrixai_state::{State, ids::MachineId};

/// Machines of one owner: a multiple of [`BATCH`], since an envelope has one account.
const MACHINES_PER_OWNER: usize = 8_192;
/// Commands of an envelope, envelopes of an entry.
const BATCH: usize = 64;
const ENVELOPES: usize = 64;
/// An hour costs more than any of the jobs would pay: 1,000 MAI and 1 minor unit.
const DEAR: &str = "1000000000000";
const CHEAP: &str = "1";

/// Enrols machines and makes an offer for each.
pub fn machines(all: &mut Population, count: usize) {
    let mut envelopes = Vec::new();
    for from in (0..count).step_by(BATCH) {
        let mut commands = Vec::new();
        for number in from..count.min(from + BATCH) {
            let key = sha256(&[b"bench machine", &(number as u64).to_le_bytes()]);
            let machine = MachineId::of_key(all.state.cluster_id(), &key).0.to_vec();
            commands.push(command(Kind::EnrolMachine(v1::EnrolMachine {
                machine_key: key.to_vec(),
                possession: vec![0; 64],
                inventory: Some(inventory()),
            })));
            commands.push(command(Kind::MakeOffer(v1::MakeOffer {
                machine,
                price_per_hour: DEAR.into(),
                duration_min_s: 60,
                duration_max_s: 86_400,
                expires_ms: all.state.now_ms() + 86_400_000,
                ..v1::MakeOffer::default()
            })));
        }
        envelopes.push(all.envelope(from / MACHINES_PER_OWNER, commands));
        if envelopes.len() == ENVELOPES || from + BATCH >= count {
            let entry = all.entry(std::mem::take(&mut envelopes), 1);
            all.apply(&entry);
        }
    }
}

/// Submits jobs of one task each, one an account, that wait for a machine as cheap as they want. Without arrays in the
/// product, a job of one task is a training on one machine with one virtual worker.
pub fn jobs(all: &mut Population, count: usize) {
    let accounts = all.keys.len();
    for from in (0..count).step_by(1_024) {
        let envelopes = (from..count.min(from + 1_024)).map(|number| {
            let submit = v1::SubmitTraining {
                name: format!("job {number}"),
                spec: Some(spec()),
                order: Some(v1::OrderTerms {
                    machines: 1,
                    price_limit: CHEAP.into(),
                    total_limit: CHEAP.into(),
                    duration_s: 3_600,
                    start_deadline_s: 86_400,
                    query: Default::default(),
                }),
            };
            all.envelope(accounts - 1 - number % accounts, vec![command(Kind::SubmitTraining(submit))])
        });
        let envelopes = envelopes.collect();
        let entry = all.entry(envelopes, 1);
        all.apply(&entry);
    }
}

fn inventory() -> v1::Inventory {
    v1::Inventory {
        cpu_model: "AMD EPYC 7763 64-Core Processor".into(),
        cores: 16,
        isa: ["avx2", "fma", "sha_ni"].map(str::to_owned).to_vec(),
        ram_bytes: 64 << 30,
        disk_bytes: 1 << 40,
        gpus: Vec::new(),
        os: "Linux 6.12".into(),
        region: "europe".into(),
    }
}

/// A small training.
pub(crate) fn spec() -> v1::TrainingSpec {
    v1::TrainingSpec {
        dataset: vec![9; 32],
        dataset_bytes: 1_000_000,
        features: 64,
        classes: 10,
        feature_scale: 16,
        validate_every: 5,
        hidden: vec![64],
        learning_rate_e6: 100_000,
        batch: 8,
        virtual_workers: 1,
        rounds: 1,
        steps_per_round: 10,
        outer_rate_e6: 1_000_000,
        target_e6: 500_000,
        seed: 1,
        spot_checks: 1,
        ..v1::TrainingSpec::default()
    }
}

/// What a state holds, for the report.
pub fn census(state: &State) -> serde_json::Value {
    serde_json::json!({
        "accounts": state.accounts().count(),
        "machines": state.machines().count(),
        "offers": state.offers().count(),
        "jobs": state.jobs().count(),
        "orders": state.orders().count(),
    })
}
