//! Everything that should be refused, and now and then is not: any command by anybody about anything.

use super::{MACHINES_MAX, People, spec};
use crate::sim::{client::Request, found, rng::Rng};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_protocol::sha256;
use matrixai_state::{
    State, Task,
    ids::{AccountId, Key},
};

/// What the holes of a command may be filled with.
struct Things {
    account: Vec<u8>,
    machine: Vec<u8>,
    unit: Vec<u8>,
    job: Vec<u8>,
    offer: Vec<u8>,
    hash: Vec<u8>,
    number: u32,
    amount: String,
}

impl People {
    /// Something that makes little sense.
    pub(super) fn mischief(&mut self, state: &State, newest: u64) -> Request {
        let now_ms = state.now_ms();
        let count = if self.rng.one_in(8) { self.rng.between(2, 5) } else { 1 };
        let (key, guess) = self.anybody(state);
        let commands: Vec<Kind> = (0..count).map(|_| guess.clone().unwrap_or_else(|| self.anything(state))).collect();
        let mut request = Self::plain(key, commands, now_ms);
        match self.rng.below(40) {
            0 => request.astray = true,
            1 => request.garbage = true,
            2 => request.expires_ms = now_ms - 1,
            3 => request.expires_ms = now_ms + 700_000,
            4 => request.commands.clear(),
            5 | 6 => request.reuses = Some(self.command_id(newest)),
            _ => {}
        }
        request
    }

    /// Somebody, and for a machine perhaps something it is really asked for, under a lease that may be another's.
    fn anybody(&mut self, state: &State) -> (Key, Option<Kind>) {
        let number = self.rng.below(MACHINES_MAX);
        match self.rng.below(12) {
            0 => (found::key("stranger", number), None),
            1 => (found::key("admin", number % super::ADMINS), None),
            2 => (found::node_key(1 + number % 3), None),
            3..5 => (found::key("owner", number), None),
            5..7 => (found::key("buyer", number % super::BUYERS), None),
            7 => (found::key("nobody", self.rng.below(64)), Some(Kind::CreateAccount(v1::CreateAccount::default()))),
            _ => {
                let key = found::key("machine", number);
                // Its own work is mostly left to its worker, or no lease would ever run out.
                let whose = match self.rng.below(self.machines) {
                    whose if whose == number && !self.rng.one_in(8) => (whose + 1) % self.machines,
                    whose => whose,
                };
                let whose = self.machine(whose);
                let off = u32::from(self.rng.one_in(2));
                let guess = state.owed(whose).into_iter().find_map(|assignment| steal(assignment.task, off));
                (key, guess)
            }
        }
    }

    fn anything(&mut self, state: &State) -> Kind {
        let things = self.things(state);
        let number = things.number;
        match self.rng.below(24) {
            0 => {
                Kind::CreateAccount(v1::CreateAccount { recovery_key: if number == 1 { vec![1] } else { things.hash } })
            }
            1 => Kind::FaucetDraw(v1::FaucetDraw { amount: things.amount }),
            2 | 3 => {
                let memo = "m".repeat(if number > 100 { 300 } else { 0 });
                Kind::Transfer(v1::Transfer { to: things.account, amount: things.amount, memo, ..Default::default() })
            }
            4 => {
                let mut enrol = self.enrol(u64::from(number % 12), number % 3);
                if let Kind::EnrolMachine(enrol) = &mut enrol {
                    let keys = [found::key("buyer", 0), found::key("new", u64::from(number))];
                    if self.rng.one_in(2) {
                        enrol.machine_key = self.rng.pick(&keys).to_vec();
                    }
                }
                enrol
            }
            // A machine of nobody here, or the signer's by chance one time in some hundreds.
            5 => Kind::RevokeMachine(v1::RevokeMachine { machine: things.hash[..20].to_vec() }),
            6 => {
                let kernel = *self.rng.pick(&["igemm", "memwalk", "dance"]);
                let params = if number == 3 { vec![1; 8] } else { vec![64, 64, 64, 1, 0, 0, 0, number] };
                Kind::PublishCampaign(v1::PublishCampaign {
                    kernel: kernel.into(),
                    params,
                    units: number % 20_000,
                    redundancy: number % 9,
                    interval_ms: 0,
                })
            }
            7 => Kind::CommitUnit(v1::CommitUnit { unit: things.unit, attempt: number, commitment: things.hash }),
            8 => Kind::RevealUnit(v1::RevealUnit { unit: things.unit, digest: things.hash.clone(), salt: things.hash }),
            9 | 10 => Kind::MakeOffer(v1::MakeOffer {
                machine: things.machine,
                price_per_hour: things.amount,
                duration_min_s: u64::from(number % 4),
                duration_max_s: u64::from(number),
                expires_ms: if number == 0 { 1 } else { state.now_ms() + 60_000 },
                disk_gib: number % 3,
                reserve_price: if number % 5 == 1 {
                    (u64::from(number) * 100_000_000).to_string()
                } else {
                    String::new()
                },
                grace_min: number % 2 * number,
            }),
            11 => Kind::WithdrawOffer(v1::WithdrawOffer { offer: things.offer }),
            12 | 13 => {
                let mut submit = self.submit(number % 80, spec(number % 4, number % 3, 1));
                if let Kind::SubmitTraining(training) = &mut submit
                    && number == 7
                {
                    training.name = String::new();
                }
                submit
            }
            14 => Kind::CancelJob(v1::CancelJob { job: things.job }),
            15 => Kind::TaskDone(v1::TaskDone {
                job: things.job,
                round: number % 3,
                virtual_worker: number % 5,
                attempt: number,
                delta: things.hash.clone(),
                sealed_trace: things.hash,
                cpu_us: 1,
            }),
            16 => Kind::RoundReduced(v1::RoundReduced {
                job: things.job,
                round: number % 3,
                weights: things.hash.clone(),
                momentum: things.hash,
                watch_correct: number,
                watch_total: 10,
                cpu_us: 1,
            }),
            17 => Kind::SegmentReplayed(v1::SegmentReplayed {
                job: things.job,
                segment: u64::from(number % 9),
                attempt: number,
                trace_root: things.hash.clone(),
                delta: things.hash,
                first_correct: 1,
                last_correct: number,
                validation_total: 10,
                cpu_us: 1,
            }),
            18 => Kind::TraceOpened(v1::TraceOpened {
                job: things.job,
                segment: u64::from(number % 9),
                trace_root: things.hash.clone(),
                salt: things.hash,
            }),
            19 => Kind::TaskFailed(v1::TaskFailed {
                job: things.job,
                attempt: number,
                reason: (*self.rng.pick(&["internal", "lost_input", "boredom"])).into(),
                detail: "d".repeat((number % 300) as usize),
            }),
            20 => {
                let number = state.beacon().0 + u64::from(number % 3);
                let share = v1::BeatShare { node: 1, proof: vec![number as u8; 80] };
                Kind::Beat(v1::Beat { number, shares: vec![share; (number % 3) as usize] })
            }
            21 => Kind::MachineOnline(v1::MachineOnline { machine: things.hash[..20].to_vec(), round_trip_us: 5 }),
            22 => Kind::MachineLost(v1::MachineLost { machine: things.hash[..20].to_vec(), silent_ms: 7 }),
            // Wrong in its index, so that no coordinator is taken for one that differs.
            _ => Kind::AttestRoot(v1::AttestRoot {
                epoch: u64::from(number % 20),
                index: u64::MAX,
                root: things.hash,
                ..Default::default()
            }),
        }
    }

    fn things(&mut self, state: &State) -> Things {
        let number = *self.rng.pick(&[0, 1, 1, 2, 2, 3, 7, 150, u32::MAX]);
        let hash = sha256(&[b"whatever", &self.rng.word().to_le_bytes()]);
        let accounts = [
            self.account(&found::key("buyer", u64::from(number) % super::BUYERS)),
            self.account(&found::key("owner", u64::from(number) % self.machines)),
            AccountId::TREASURY,
            AccountId([9; 20]),
        ];
        let account = self.rng.pick(&accounts).0.to_vec();
        let machine = self.rng.below(self.machines + 1);
        let machine = self.machine(machine).0.to_vec();
        let unit = picked(&mut self.rng, state.newest_units().take(8).map(|row| row.id.0));
        let job = picked(&mut self.rng, state.jobs().map(|row| row.id.0).take(16));
        let offer = picked(&mut self.rng, state.offers().rev().map(|row| row.id.0).take(16));
        Things { account, machine, unit, job, offer, hash: hash.to_vec(), number, amount: self.amount() }
    }
}

/// One of these ids; sometimes of nothing.
fn picked(rng: &mut Rng, ids: impl Iterator<Item = [u8; 20]>) -> Vec<u8> {
    let mut ids: Vec<[u8; 20]> = ids.collect();
    ids.push([0xee; 20]);
    rng.pick(&ids).to_vec()
}

/// A report of what another machine is to do, perhaps under an attempt that is not there.
fn steal(task: Task, off: u32) -> Option<Kind> {
    let hash = || vec![5; 32];
    Some(match task {
        Task::Drill { unit, attempt, .. } => {
            Kind::CommitUnit(v1::CommitUnit { unit: unit.0.to_vec(), attempt: attempt + off, commitment: hash() })
        }
        Task::Reveal { unit } => {
            Kind::RevealUnit(v1::RevealUnit { unit: unit.0.to_vec(), digest: hash(), salt: hash() })
        }
        Task::Train { context, round, attempt, virtual_workers, .. } => Kind::TaskDone(v1::TaskDone {
            job: context.job.0.to_vec(),
            round,
            virtual_worker: *virtual_workers.first()?,
            attempt: attempt + off,
            delta: hash(),
            sealed_trace: hash(),
            cpu_us: 1,
        }),
        Task::Reduce { context, round, .. } => Kind::RoundReduced(v1::RoundReduced {
            job: context.job.0.to_vec(),
            round,
            weights: hash(),
            momentum: hash(),
            watch_correct: 11,
            watch_total: 10,
            cpu_us: 1,
        }),
        Task::Replay { context, segment, attempt, .. } => Kind::SegmentReplayed(v1::SegmentReplayed {
            job: context.job.0.to_vec(),
            segment,
            attempt: attempt + off,
            trace_root: hash(),
            delta: hash(),
            first_correct: 1,
            last_correct: 2,
            validation_total: 3,
            cpu_us: 1,
        }),
        Task::Open { job, segment, .. } => {
            Kind::TraceOpened(v1::TraceOpened { job: job.0.to_vec(), segment, trace_root: hash(), salt: hash() })
        }
        Task::Begin { .. } => Kind::AgreementStarted(v1::AgreementStarted { agreement: hash()[..20].to_vec() }),
    })
}
