//! Who asks for what: tellers move money among watched accounts, owners offer machines, buyers order trainings and machines, an admin
//! publishes drills, wanderers change their keys, and strangers, machines and coordinators say whatever comes to mind. Legal and not; the weights are
//! such that commands are mostly answered "done" and every kind of refusal turns up in a campaign.

mod keys;
mod mischief;
mod renting;
mod staff;

pub use staff::ADMINS;

use super::{
    client::{Moves, Request},
    found,
    rng::Rng,
};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_state::{
    State,
    ids::{AccountId, CommandId, Hash, Key, MachineId},
    jobs::JobState,
    money::MAI,
};
use std::collections::BTreeMap;

/// Tellers: accounts that only clients' transfers touch.
pub const TELLERS: u64 = 6;
/// Accounts that order trainings.
pub const BUYERS: u64 = 3;
/// Money that a teller begins with, minor units.
pub const TELLER_START: u128 = 100 * MAI;
/// A teller's amounts have one bit set among so many low ones, each the next: a balance tells which of the transfers under
/// way it contains, and so a history of reads can be decided.
const MARK_BITS: u64 = 24;
/// Ledger time that an envelope lives, ms.
const LIFE_MS: u64 = 60_000;
/// Most machines that have an owner each.
pub const MACHINES_MAX: u64 = 8;

/// The people and their habits.
#[derive(Debug)]
pub struct People {
    rng: Rng,
    cluster_id: Hash,
    machines: u64,
    sequence: u64,
    /// Keys of coordinators that were proposed, with the numbers of their seeds.
    newcomers: BTreeMap<Key, u64>,
}

impl People {
    /// People around so many machines.
    pub fn new(rng: Rng, cluster_id: Hash, machines: u64) -> Self {
        Self { rng, cluster_id, machines, sequence: 0, newcomers: BTreeMap::new() }
    }

    /// The account of a key.
    pub fn account(&self, key: &Key) -> AccountId {
        AccountId::of_key(&self.cluster_id, key)
    }

    /// The machine of a number.
    pub fn machine(&self, number: u64) -> MachineId {
        MachineId::of_key(&self.cluster_id, &found::key("machine", number))
    }

    /// A request with nothing odd about it.
    fn plain(key: Key, commands: Vec<Kind>, now_ms: u64) -> Request {
        Request {
            key,
            commands,
            moves: None,
            expires_ms: now_ms + LIFE_MS,
            astray: false,
            reuses: None,
            garbage: false,
            patient: false,
        }
    }

    /// What everybody begins with. These are asked for until they are answered.
    pub fn beginning(&self, now_ms: u64) -> Vec<Request> {
        let create = || Kind::CreateAccount(v1::CreateAccount::default());
        let draw = |amount: u128| Kind::FaucetDraw(v1::FaucetDraw { amount: amount.to_string() });
        let begin = |key, commands| Request {
            patient: true,
            expires_ms: now_ms + 10 * LIFE_MS,
            ..Self::plain(key, commands, now_ms)
        };
        let tellers = (0..TELLERS).map(|at| begin(found::key("teller", at), vec![create(), draw(TELLER_START)]));
        let buyers = (0..BUYERS).map(|at| begin(found::key("buyer", at), vec![create(), draw(900 * MAI)]));
        let owners = (0..self.machines).map(|at| begin(found::key("owner", at), vec![create(), self.enrol(at, 1)]));
        let campaign = begin(found::key("admin", 0), vec![self.campaign(12, 3, 0)]);
        let wanderers = Self::wanderers(now_ms).into_iter();
        let wanderers =
            wanderers.map(|request| Request { patient: true, expires_ms: now_ms + 10 * LIFE_MS, ..request });
        tellers.chain(buyers).chain(owners).chain(wanderers).chain([campaign]).collect()
    }

    /// Offers, once machines can be offered.
    pub fn offers(&self, now_ms: u64) -> Vec<Request> {
        (0..self.machines)
            .map(|at| Self::plain(found::key("owner", at), vec![self.offer(at, MAI, now_ms)], now_ms))
            .collect()
    }

    fn enrol(&self, number: u64, cores: u32) -> Kind {
        Kind::EnrolMachine(v1::EnrolMachine {
            machine_key: found::key("machine", number).to_vec(),
            possession: vec![0; 64],
            inventory: Some(v1::Inventory { cores, ram_bytes: 8 << 30, ..v1::Inventory::default() }),
        })
    }

    fn campaign(&self, units: u32, redundancy: u32, interval_ms: u64) -> Kind {
        Kind::PublishCampaign(v1::PublishCampaign {
            kernel: "fgemm".into(),
            params: vec![64, 64, 64, 64, 0, 0, 0, 0],
            units,
            redundancy,
            interval_ms,
        })
    }

    fn offer(&self, machine: u64, price: u128, now_ms: u64) -> Kind {
        // A third of the machines may be taken back.
        let interruptible = machine % 3 == 1;
        Kind::MakeOffer(v1::MakeOffer {
            machine: self.machine(machine).0.to_vec(),
            price_per_hour: price.to_string(),
            duration_min_s: 1,
            duration_max_s: 86_400,
            expires_ms: now_ms + 3_600_000,
            disk_gib: 0,
            reserve_price: if interruptible { (price * 2).to_string() } else { String::new() },
            grace_min: if interruptible { 1 } else { 0 },
        })
    }

    /// The next thing that somebody wants, as the world stands.
    pub fn next(&mut self, state: &State, newest: u64) -> Request {
        let now_ms = state.now_ms();
        self.sequence += 1;
        match self.rng.below(100) {
            0..40 => self.transfer(now_ms),
            40..46 => self.two_phase(state),
            46..50 => self.market(state),
            50..53 => self.renting(state),
            53..60 => self.training(state),
            60..61 => {
                let units = self.rng.between(1, 6) as u32;
                Self::plain(found::key("admin", 0), vec![self.campaign(units, 2 + units % 2, 0)], now_ms)
            }
            61..64 => {
                let key = found::key("buyer", self.rng.below(BUYERS));
                let amount = self.amount();
                Self::plain(key, vec![Kind::FaucetDraw(v1::FaucetDraw { amount })], now_ms)
            }
            64..69 => self.administer(state),
            69..72 => self.wandering(state),
            _ => self.mischief(state, newest),
        }
    }

    /// Something that a healed cluster must answer.
    pub fn canary(&mut self, now_ms: u64) -> Request {
        self.sequence += 1;
        Request { patient: true, ..self.transfer(now_ms) }
    }

    fn transfer(&mut self, now_ms: u64) -> Request {
        let (from, to) = (self.rng.below(TELLERS), self.rng.below(TELLERS - 1));
        let to = if to >= from { to + 1 } else { to };
        let (from_key, to_key) = (found::key("teller", from), found::key("teller", to));
        let high = match self.rng.below(8) {
            // More than there can be.
            0 => (2 * u128::from(TELLERS) * TELLER_START) >> MARK_BITS,
            // About all that there is.
            1 => (TELLER_START >> MARK_BITS) + u128::from(self.rng.below(1 << 6)),
            _ => u128::from(self.rng.below(1 << 10)),
        };
        let amount = high << MARK_BITS | 1 << (self.sequence % MARK_BITS);
        let to = self.account(&to_key);
        let memo = format!("t{}", self.sequence);
        let transfer = v1::Transfer { to: to.0.to_vec(), amount: amount.to_string(), memo, ..Default::default() };
        let moves = Some(Moves { from: self.account(&from_key), to, amount });
        Request { moves, ..Self::plain(from_key, vec![Kind::Transfer(transfer)], now_ms) }
    }

    fn market(&mut self, state: &State) -> Request {
        let now_ms = state.now_ms();
        let number = self.rng.below(self.machines);
        let owner = found::key("owner", number);
        let own = self.machine(number);
        let offer = state.offers().rfind(|row| row.machine == own);
        let command = match (self.rng.below(8), offer) {
            (0, Some(offer)) => Kind::WithdrawOffer(v1::WithdrawOffer { offer: offer.id.0.to_vec() }),
            (1, _) if self.rng.one_in(12) => Kind::RevokeMachine(v1::RevokeMachine { machine: own.0.to_vec() }),
            (2, _) => Kind::MachineLost(v1::MachineLost { machine: own.0.to_vec(), silent_ms: 0 }),
            _ => {
                let price = u128::from(self.rng.between(1, 4)) * MAI;
                self.offer(number, price, now_ms)
            }
        };
        let signer = match &command {
            Kind::MachineLost(_) => found::node_key(1 + self.rng.below(3)),
            _ => owner,
        };
        Self::plain(signer, vec![command], now_ms)
    }

    fn training(&mut self, state: &State) -> Request {
        let now_ms = state.now_ms();
        let buyer = found::key("buyer", self.rng.below(BUYERS));
        let owner = self.account(&buyer);
        let mut open = state.jobs().filter(|row| row.owner == owner && !closed(row.state));
        let command = match (open.next(), self.rng.below(6)) {
            (Some(job), 0) => Kind::CancelJob(v1::CancelJob { job: job.id.0.to_vec() }),
            (Some(job), 1) if self.rng.one_in(2) => {
                Kind::CancelJob(v1::CancelJob { job: state.jobs().next_back().map_or(job.id, |row| row.id).0.to_vec() })
            }
            (None, _) | (Some(_), 2) => {
                let (machines, workers) = (self.rng.between(1, 3) as u32, self.rng.between(2, 6) as u32);
                let (rounds, checks) = (self.rng.between(1, 3) as u32, self.rng.between(1, 4) as u32);
                self.submit(machines, spec(workers, rounds, checks))
            }
            (Some(_), _) => Kind::FaucetDraw(v1::FaucetDraw { amount: self.amount() }),
        };
        Self::plain(buyer, vec![command], now_ms)
    }

    fn submit(&mut self, machines: u32, spec: v1::TrainingSpec) -> Kind {
        let order = v1::OrderTerms {
            machines,
            price_limit: (u128::from(self.rng.between(1, 20)) * MAI).to_string(),
            total_limit: (60 * MAI).to_string(),
            duration_s: self.rng.between(20, 200),
            start_deadline_s: self.rng.between(0, 40),
            query: Default::default(),
        };
        Kind::SubmitTraining(v1::SubmitTraining { name: "digits".into(), spec: Some(spec), order: Some(order) })
    }

    fn amount(&mut self) -> String {
        let amounts = ["0", "1", "999999999", "1000000000", "30000000000", "1000000000000000000000000000", "-1"];
        (*self.rng.pick(&amounts)).to_owned()
    }

    fn command_id(&mut self, newest: u64) -> CommandId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.rng.between(1, newest.max(1)).to_le_bytes());
        id
    }
}

fn closed(state: JobState) -> bool {
    matches!(state, JobState::Settled | JobState::Cancelled | JobState::Expired | JobState::Failed | JobState::Rejected)
}

/// A small training: 29,097,984 operations a task.
fn spec(virtual_workers: u32, rounds: u32, spot_checks: u32) -> v1::TrainingSpec {
    v1::TrainingSpec {
        dataset: vec![7; 32],
        dataset_bytes: 10_000,
        features: 64,
        classes: 10,
        feature_scale: 16,
        validate_every: 5,
        hidden: vec![32],
        learning_rate_e6: 50_000,
        momentum_e6: 900_000,
        weight_decay_e6: 0,
        clip_norm_e6: 0,
        batch: 256,
        virtual_workers,
        rounds,
        steps_per_round: 8,
        outer_rate_e6: 700_000,
        outer_momentum_e6: 500_000,
        target_e6: 930_000,
        seed: 1,
        spot_checks,
    }
}
