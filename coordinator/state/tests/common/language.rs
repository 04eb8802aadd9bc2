//! The table language of `scenarios/*.txt`: who says what, and what must become of it.
//!
//! ```text
//! # prose
//! genesis fee_bp=100 faucet_daily=100MAI          # optional first line
//! at +5s                                          # the clock; also ms, m, h
//! alice: transfer to=bob amount=5MAI => done
//! alice: offer machine=m1 price=1MAI => done as o1
//! alice [id=7 expires=-1s]: faucet amount=1 ; faucet amount=0 => done ; zero_amount
//! beats 3                                         # three accepted beats, one a second
//! tick                                            # an entry without envelopes
//! repeat 3 alice: transfer to=bob amount=1 => done
//! measure m1 m2                                   # drills until both have a speed; needs `admin`
//! unit u 0                                        # names the newest unit (1: the one before it)
//! agreement a 0                                   # names the newest agreement (1: the next, by time, then price)
//! answer m1                                       # does honestly whatever the machine is owed, once
//! see account alice balance=95MAI held=0
//! events offer.made                               # kinds of the last entry's events, in order
//! ```

mod admin;
mod market;
mod words;

use super::{Founding, Odd, World, key};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_protocol::{
    drilling::{self, Kernel},
    sha256, training,
};
use matrixai_state::{
    Outcome, Refusal, Task,
    ids::{CampaignId, HoldId, JobId, OfferId, UnitId},
};
use std::collections::{BTreeMap, BTreeSet};
use words::{numbers, plain};

/// Runs a scenario; returns the names of the refusals it met. Panics with the line on the first surprise.
pub fn run(name: &str, text: &str) -> BTreeSet<&'static str> {
    let (world, met) = play(name, text);
    world.finish();
    met
}

fn play(name: &str, text: &str) -> (World, BTreeSet<&'static str>) {
    let mut founding = Founding::default();
    let mut world: Option<World> = None;
    let mut met = BTreeSet::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split(" #").next().unwrap().trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{name}:{}: {line}", number + 1);
        if let Some(rest) = line.strip_prefix("genesis ") {
            assert!(world.is_none(), "{place}: genesis comes first");
            founding = genesis(&Args::new(rest, &place));
            continue;
        }
        step(world.get_or_insert_with(|| World::new(&founding)), line, &place, &mut met);
    }
    (world.expect("a scenario does something"), met)
}

/// What a scenario left in the log.
pub struct Log {
    pub founding: Vec<u8>,
    pub entries: Vec<(u64, Vec<u8>)>,
}

/// Runs a scenario for its log.
pub fn log_of(name: &str, text: &str) -> Log {
    let (world, _) = play(name, text);
    Log { founding: world.founding, entries: world.log }
}

fn genesis(args: &Args<'_>) -> Founding {
    let default = Founding::default();
    Founding {
        nodes: args.number("nodes", default.nodes),
        test_network: args.number("test", 1) == 1,
        faucet_daily: args.amount("faucet_daily", default.faucet_daily),
        faucet_total: args.amount("faucet_total", default.faucet_total),
        fee_bp: args.number("fee_bp", default.fee_bp.into()) as u32,
        epoch_beats: args.number("epoch_beats", default.epoch_beats.into()) as u32,
        admins: args.number("admins", default.admins),
        admin_threshold: args.number("threshold", default.admin_threshold.into()) as u32,
        limits: admin::limits(args),
        minimum_balance: args.amount("minimum", default.minimum_balance),
        economy: admin::economy(args),
    }
}

fn step(world: &mut World, line: &str, place: &str, met: &mut BTreeSet<&'static str>) {
    if let Some(rest) = line.strip_prefix("repeat ") {
        let (count, line) = rest.split_once(' ').unwrap();
        (0..count.parse().unwrap()).for_each(|_| step(world, line, place, met));
    } else if let Some(machines) = line.strip_prefix("measure ") {
        measure(world, &machines.split_whitespace().collect::<Vec<_>>(), place);
    } else if let Some(name) = line.strip_prefix("unit ") {
        let (name, back) = name.split_once(' ').unwrap_or((name, "0"));
        let unit = world.state.newest_units().nth(back.parse().unwrap());
        let id = unit.unwrap_or_else(|| panic!("{place}: no unit")).id;
        world.names.insert(name.to_owned(), id.0);
    } else if let Some(name) = line.strip_prefix("agreement ") {
        let (name, back) = name.split_once(' ').unwrap_or((name, "0"));
        market::name_agreement(world, name, back.parse().unwrap());
    } else if let Some(machine) = line.strip_prefix("answer ") {
        for (text, outcome) in answer(world, machine) {
            assert_eq!(outcome, Outcome::DONE, "{place}: {text}");
        }
    } else if let Some(time) = line.strip_prefix("at ") {
        world.now_ms = world.now_ms.checked_add_signed(duration_ms(time)).unwrap();
    } else if line == "tick" {
        world.tick();
    } else if let Some(count) = line.strip_prefix("beats ") {
        (0..count.parse().unwrap()).for_each(|_| world.beat());
    } else if let Some(rest) = line.strip_prefix("see ") {
        see(world, rest, place);
    } else if let Some(kinds) = line.strip_prefix("events") {
        let seen: Vec<&str> = world.last.events.iter().map(|event| event.kind).collect();
        assert_eq!(seen, kinds.split_whitespace().collect::<Vec<_>>(), "{place}");
    } else if let Some(rest) = line.strip_prefix("movements") {
        movements(world, rest, place);
    } else {
        say(world, line, place, met);
    }
}

/// Has the admin publish units and the machines compute them, until each has a speed that is not provisional.
pub fn measure(world: &mut World, machines: &[&str], place: &str) {
    let text = format!("campaign units=5 redundancy={}", machines.len());
    let campaign = command_of(world, "admin", &text, place);
    assert!(matches!(world.one("admin", campaign), Outcome::Done { .. }), "{place}");
    let measured = |world: &World, name: &&str| {
        let row = world.state.power(world.machine(name));
        row.and_then(|row| row.speeds.get(&Kernel::Fgemm)).is_some_and(|speed| !speed.provisional())
    };
    for _ in 0..100 {
        if machines.iter().all(|name| measured(world, name)) {
            return;
        }
        world.beat();
        world.now_ms += 100;
        // Commit, then reveal.
        for name in machines.iter().chain(machines) {
            answer(world, name);
        }
    }
    panic!("{place}: not measured within 100 beats");
}

/// Does what a machine is owed as an honest worker does, with hashes for results. Returns what it said and was told.
pub fn answer(world: &mut World, name: &str) -> Vec<(String, Outcome)> {
    let mut said = Vec::new();
    for assignment in world.state.owed(world.machine(name)) {
        let place = assignment.key.as_str();
        let texts = match &assignment.task {
            Task::Drill { unit, attempt, .. } => {
                world.names.insert("owed".into(), unit.0);
                vec![format!("commit unit=owed attempt={attempt}")]
            }
            Task::Reveal { unit } => {
                world.names.insert("owed".into(), unit.0);
                vec!["reveal unit=owed".to_owned()]
            }
            Task::Train { context, round, attempt, virtual_workers, .. } => {
                world.names.insert("owed".into(), context.job.0);
                let done = |v: &u32| format!("task_done job=owed round={round} v={v} attempt={attempt}");
                virtual_workers.iter().map(done).collect()
            }
            Task::Reduce { context, round, .. } => {
                world.names.insert("owed".into(), context.job.0);
                vec![format!("reduced job=owed round={round} weights=w{round}")]
            }
            Task::Replay { context, segment, attempt, .. } => {
                world.names.insert("owed".into(), context.job.0);
                vec![format!("replayed job=owed segment={segment} attempt={attempt}")]
            }
            Task::Open { job, segment, .. } => {
                world.names.insert("owed".into(), job.0);
                vec![format!("opened job=owed segment={segment}")]
            }
        };
        for text in texts {
            let kind = command_of(world, name, &text, place);
            let outcome = world.one(name, kind);
            said.push((text, outcome));
        }
    }
    said
}

/// `signer [odd]: command ; command => outcome ; outcome`
fn say(world: &mut World, line: &str, place: &str, met: &mut BTreeSet<&'static str>) {
    let (said, wanted) = line.split_once("=>").unwrap_or_else(|| panic!("{place}: what must become of it?"));
    let (who, commands) = said.split_once(": ").unwrap_or_else(|| panic!("{place}: who says it?"));
    let (signer, odd) = match who.split_once('[') {
        Some((signer, odd)) => (signer.trim(), odd_of(world, &Args::new(odd.trim_end_matches(']'), place))),
        None => (who.trim(), Odd::default()),
    };
    let kinds = commands.split(" ; ").map(|command| command_of(world, signer, command.trim(), place)).collect();
    let result = world.submit_odd(signer, kinds, &odd);
    let wanted: Vec<&str> = wanted.split(" ; ").map(str::trim).collect();
    let names: Vec<&str> = result.outcomes.iter().map(|outcome| outcome.to_parts().1).collect();
    let outcomes: Vec<&str> = wanted.iter().map(|want| want.split(" as ").next().unwrap().trim()).collect();
    assert_eq!(names, outcomes, "{place}: {:?}", result.outcomes);
    for (want, outcome) in wanted.iter().zip(result.outcomes.iter()) {
        match outcome {
            Outcome::Refused(refusal) => {
                met.insert(refusal.name());
                assert!(!refusal.to_string().is_empty());
            }
            Outcome::Done { id } => {
                if let Some((_, name)) = want.split_once(" as ") {
                    let id = id.unwrap_or_else(|| panic!("{place}: nothing was made"));
                    world.names.insert(name.trim().to_owned(), id);
                }
            }
        }
    }
}

fn odd_of(world: &World, args: &Args<'_>) -> Odd {
    Odd {
        id: args.get("id").map(|id| id.parse().unwrap()),
        expires_in_ms: args.get("expires").map(duration_ms),
        cluster: args.get("cluster").map(|name| sha256(&[name.as_bytes()])),
        method: args.get("method").map(str::to_owned),
        no_commands: args.get("empty").is_some() || world.founding.is_empty(),
        linked: args.get("linked").is_some(),
    }
}

/// A command by its short name; arguments that are not given have ordinary values.
pub fn command_of(world: &World, signer: &str, text: &str, place: &str) -> Kind {
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let args = &Args::new(rest, place);
    let machine = |arg: &str| world.machine(args.get("machine").unwrap_or(arg)).0.to_vec();
    let id = |arg: &str| world.named(args.need(arg)).to_vec();
    match name {
        "create_account" => Kind::CreateAccount(v1::CreateAccount {
            recovery_key: args.get("recovery").map_or_else(Vec::new, |name| key(name).to_vec()),
        }),
        "rotate" => Kind::RotateKey(v1::RotateKey {
            new_key: key(args.need("new")).to_vec(),
            possession: vec![7; args.number("possession", 64) as usize],
        }),
        "recover" => Kind::RecoverAccount(v1::RecoverAccount {
            account: world.account(args.need("of")).0.to_vec(),
            new_key: key(args.need("new")).to_vec(),
            possession: vec![7; args.number("possession", 64) as usize],
            recovery_key: args.get("recovery").map_or_else(Vec::new, |name| key(name).to_vec()),
        }),
        "payout" => Kind::SetPayout(v1::SetPayout {
            to: args.get("to").map_or_else(Vec::new, |name| world.account(name).0.to_vec()),
        }),
        "faucet" => Kind::FaucetDraw(v1::FaucetDraw { amount: args.money("amount", "0") }),
        "transfer" => Kind::Transfer(v1::Transfer {
            to: world.account(args.need("to")).0.to_vec(),
            amount: args.money("amount", "0"),
            memo: "m".repeat(args.number("memo_bytes", 2) as usize),
            open: args.get("open").is_some(),
        }),
        "enrol" => Kind::EnrolMachine(v1::EnrolMachine {
            machine_key: key(args.need("machine")).to_vec(),
            possession: vec![7; args.number("possession", 64) as usize],
            inventory: Some(v1::Inventory {
                cpu_model: "test".repeat(args.number("model_words", 1) as usize),
                cores: args.number("cores", 4) as u32,
                isa: vec!["avx2".into()],
                ram_bytes: args.number("ram", 8 << 30),
                disk_bytes: 1 << 40,
                gpus: Vec::new(),
                os: "linux".into(),
                region: args.get("region").unwrap_or_default().to_owned(),
            }),
        }),
        "revoke" => Kind::RevokeMachine(v1::RevokeMachine { machine: machine("") }),
        "campaign" => Kind::PublishCampaign(campaign(args)),
        "commit" => {
            let unit = world.named(args.need("unit"));
            let (digest, salt) = (named_hash(args.get("digest").unwrap_or("d")), named_hash(signer));
            let commitment = drilling::commitment(&unit, &key(signer), &digest, &salt).to_vec();
            let attempt = args.number("attempt", unit_attempt(world, signer, unit).into()) as u32;
            Kind::CommitUnit(v1::CommitUnit { unit: unit.to_vec(), attempt, commitment })
        }
        "reveal" => Kind::RevealUnit(v1::RevealUnit {
            unit: id("unit"),
            digest: named_hash(args.get("digest").unwrap_or("d")).to_vec(),
            salt: named_hash(args.get("salt").unwrap_or(signer)).to_vec(),
        }),
        "offer" => Kind::MakeOffer(v1::MakeOffer {
            machine: machine(""),
            price_per_hour: args.money("price", "1000000000"),
            duration_min_s: args.number("min", 1),
            duration_max_s: args.number("max", 86_400),
            expires_ms: world.now_ms.wrapping_add_signed(duration_ms(args.get("lasts").unwrap_or("+24h"))),
        }),
        "withdraw" => Kind::WithdrawOffer(v1::WithdrawOffer { offer: id("offer") }),
        "submit" => Kind::SubmitTraining(v1::SubmitTraining {
            name: "j".repeat(args.number("name_bytes", 3) as usize),
            spec: Some(market::spec(args)),
            order: Some(v1::OrderTerms {
                machines: args.number("machines", 1) as u32,
                price_limit: args.money("price", "2000000000"),
                total_limit: args.money("total", "10000000000"),
                duration_s: args.number("duration", 3_600),
                start_deadline_s: args.number("start", 0),
                query: args.get("where").unwrap_or_default().to_owned(),
            }),
        }),
        "cancel" => Kind::CancelJob(v1::CancelJob { job: id("job") }),
        "task_done" => Kind::TaskDone(task_done(world, signer, args)),
        "reduced" => Kind::RoundReduced(v1::RoundReduced {
            job: id("job"),
            round: args.number("round", 0) as u32,
            weights: named_hash(args.get("weights").unwrap_or("w")).to_vec(),
            momentum: named_hash(args.get("momentum").unwrap_or("m")).to_vec(),
            watch_correct: args.number("right", 5) as u32,
            watch_total: args.number("rows", 10) as u32,
            cpu_us: 1_000,
        }),
        "replayed" => Kind::SegmentReplayed(v1::SegmentReplayed {
            job: id("job"),
            segment: args.number("segment", 0),
            attempt: args.number("attempt", 1) as u32,
            trace_root: named_hash(args.get("trace").unwrap_or("t")).to_vec(),
            delta: named_hash(args.get("delta").unwrap_or("delta")).to_vec(),
            first_correct: args.number("first", 1) as u32,
            last_correct: args.number("last", 9) as u32,
            validation_total: args.number("rows", 10) as u32,
            cpu_us: 1_000,
        }),
        "opened" => Kind::TraceOpened(v1::TraceOpened {
            job: id("job"),
            segment: args.number("segment", 0),
            trace_root: named_hash(args.get("trace").unwrap_or("t")).to_vec(),
            salt: named_hash(args.get("salt").unwrap_or(signer)).to_vec(),
        }),
        "failed" => Kind::TaskFailed(v1::TaskFailed {
            job: id("job"),
            attempt: args.number("attempt", 1) as u32,
            reason: args.get("reason").unwrap_or("internal").to_owned(),
            detail: "d".repeat(args.number("detail_bytes", 3) as usize),
        }),
        "propose" => Kind::Propose(v1::Propose {
            action: args.get("no_action").is_none().then(|| v1::AdminAction { kind: Some(admin::action(world, args)) }),
            expires_ms: world.now_ms.wrapping_add_signed(duration_ms(args.get("lasts").unwrap_or("+24h"))),
        }),
        "approve" => Kind::Approve(v1::Approve { proposal: id("proposal") }),
        "take_back" => Kind::WithdrawProposal(v1::WithdrawProposal { proposal: id("proposal") }),
        "hold" => Kind::HoldFunds(v1::HoldFunds {
            to: world.account(args.need("to")).0.to_vec(),
            amount: args.money("amount", "0"),
            duration_s: args.number("for", 60),
            memo: "m".repeat(args.number("memo_bytes", 2) as usize),
        }),
        "post" => Kind::PostHold(v1::PostHold { hold: id("hold"), amount: args.money("amount", "") }),
        "void" => Kind::VoidHold(v1::VoidHold { hold: id("hold") }),
        "announce" => Kind::AnnounceRules(v1::AnnounceRules { version: args.number("version", 1) as u32 }),
        "beat" => beat(world, args),
        "online" => {
            Kind::MachineOnline(v1::MachineOnline { machine: machine(""), round_trip_us: args.number("rtt", 0) })
        }
        "lost" => Kind::MachineLost(v1::MachineLost { machine: machine("") }),
        "attest" => Kind::AttestRoot(v1::AttestRoot {
            epoch: args.number("epoch", 1),
            index: args.number("index", 0),
            root: named_hash(args.get("root").unwrap_or("root")).to_vec(),
            segment: args.get("segment").map(|name| named_hash(name).to_vec()).unwrap_or_default(),
        }),
        other => market::command(world, other, args),
    }
}

fn campaign(args: &Args<'_>) -> v1::PublishCampaign {
    v1::PublishCampaign {
        kernel: args.get("kernel").unwrap_or("fgemm").to_owned(),
        params: numbers(args.get("params").unwrap_or("64,64,64,1,0,0,0,0")),
        units: args.number("units", 1) as u32,
        redundancy: args.number("redundancy", 2) as u32,
        interval_ms: args.number("interval", 0),
    }
}

fn task_done(world: &World, signer: &str, args: &Args<'_>) -> v1::TaskDone {
    let job = world.named(args.need("job"));
    let (round, v) = (args.number("round", 0) as u32, args.number("v", 0) as u32);
    let trace = named_hash(args.get("trace").unwrap_or("t"));
    v1::TaskDone {
        job: job.to_vec(),
        round,
        virtual_worker: v,
        attempt: args.number("attempt", train_attempt(world, signer, &job).into()) as u32,
        delta: named_hash(args.get("delta").unwrap_or("delta")).to_vec(),
        sealed_trace: training::seal(&job, round, v, &key(signer), &trace, &named_hash(signer)).to_vec(),
        cpu_us: 1_000,
    }
}

/// The attempt of a machine's newest replica of a unit.
fn unit_attempt(world: &World, signer: &str, unit: [u8; 20]) -> u32 {
    let replicas = world.state.unit(UnitId(unit)).map(|row| row.replicas.as_slice()).unwrap_or_default();
    replicas.iter().rev().find(|replica| replica.machine == world.machine(signer)).map_or(1, |replica| replica.attempt)
}

/// The attempt of a member's first lease of the open round.
fn train_attempt(world: &World, signer: &str, job: &[u8; 20]) -> u32 {
    let members = world.state.job(JobId(*job)).map(|row| row.members.as_slice()).unwrap_or_default();
    let member = members.iter().find(|member| member.machine == world.machine(signer));
    member.and_then(|member| member.leases.first()).map_or(1, |lease| lease.attempt)
}

fn beat(world: &World, args: &Args<'_>) -> Kind {
    let nodes: Vec<u64> = numbers(args.get("shares").unwrap_or("1,2,3")).into_iter().map(u64::from).collect();
    let Kind::Beat(mut beat) = world.beat_of(&nodes) else { unreachable!("beat_of makes beats") };
    beat.number = args.number("number", beat.number);
    if args.get("forged").is_some() {
        beat.shares[0].proof[79] ^= 1;
    }
    Kind::Beat(beat)
}

/// `see account alice balance=95MAI`: fields of a row by name.
fn see(world: &World, rest: &str, place: &str) {
    let mut words = rest.splitn(3, ' ');
    let (what, name) = (words.next().unwrap(), words.next().unwrap_or(""));
    let args = Args::new(words.next().unwrap_or(""), place);
    let mut fields: BTreeMap<&str, String> = BTreeMap::new();
    match what {
        "account" => {
            let row = world.state.account(world.account(name)).unwrap_or_else(|| panic!("{place}: no account"));
            fields.insert("balance", row.balance.to_string());
            fields.insert("held", row.held.to_string());
            fields.insert("holds", row.holds.to_string());
            fields.insert("role", row.role_name().to_owned());
        }
        "machine" => {
            let row = world.state.machine(world.machine(name)).unwrap_or_else(|| panic!("{place}: no machine"));
            fields.insert("status", row.status().to_owned());
            fields.insert("rtt", row.round_trip_us.to_string());
        }
        "offer" => {
            let row = world.state.offer(OfferId(world.named(name))).unwrap_or_else(|| panic!("{place}: no offer"));
            fields.insert("status", row.status.as_str().to_owned());
            fields.insert("price", row.price_per_hour.to_string());
        }
        "hold" => {
            let row = world.state.hold(world.job(name)).unwrap_or_else(|| panic!("{place}: no hold"));
            fields.insert("held", row.held.to_string());
            fields.insert("paid", row.paid.to_string());
            fields.insert("fees", row.fees.to_string());
            fields.insert("refunded", row.refunded.to_string());
            fields.insert("open", u8::from(row.open).to_string());
        }
        "held" => {
            let row = world.state.held_transfer(HoldId(world.named(name)));
            let row = row.unwrap_or_else(|| panic!("{place}: no hold"));
            fields.insert("amount", row.amount.to_string());
            fields.insert("in", format!("{}s", (row.expires_ms - world.now_ms) / 1_000));
        }
        "money" => {
            fields.insert("minted", world.state.minted().to_string());
            fields.insert("burned", world.state.burned().to_string());
            let supply = world.state.supply();
            fields.insert("emitted", supply.emitted.to_string());
            fields.insert("issued", supply.issued.to_string());
            fields.insert("redeemed", supply.redeemed.to_string());
        }
        "book" => {
            fields.insert("offers", world.state.open_offers().count().to_string());
            fields.insert("orders", world.state.orders().count().to_string());
            fields.insert("trades", world.state.trades().count().to_string());
        }
        "trade" => {
            let row = world.state.trades().find(|row| row.offer == OfferId(world.named(name)));
            let row = row.unwrap_or_else(|| panic!("{place}: no trade"));
            fields.insert("price", row.price_per_hour.to_string());
        }
        "node" => {
            let row = world.state.node(super::node(name)).unwrap_or_else(|| panic!("{place}: no node"));
            fields.insert("standing", row.standing.as_str().to_owned());
            fields.insert("rules", row.rules_version.to_string());
            fields.insert("grpc", row.grpc.clone());
        }
        "policy" => {
            let policy = world.state.policy();
            fields.insert("threshold", policy.admin_threshold.to_string());
            fields.insert("admins", policy.admins.to_string());
            fields.insert("fee", policy.fee_bp.to_string());
            fields.insert("minimum", policy.minimum_balance.to_string());
            fields.insert("rules", world.state.rules_version().to_string());
            fields.insert("proposals", world.state.proposals().count().to_string());
            fields.insert("majority", world.state.majority().to_string());
        }
        // Rows of drilling and jobs are shown whole: `see unit u ~Revealing`.
        "unit" => contains(&world.state.unit(UnitId(world.named(name))), &args),
        "campaign" => contains(&world.state.campaign(CampaignId(world.named(name))), &args),
        "job" => contains(&world.state.job(world.job(name)), &args),
        other => match market::fields(world, other, name, place) {
            Some(found) => fields = found,
            None => panic!("{place}: cannot see {other:?}"),
        },
    }
    for (name, wanted) in args.pairs() {
        let seen = fields.get(name).unwrap_or_else(|| panic!("{place}: {what} has no {name}"));
        assert_eq!(*seen, plain(wanted), "{place}: {name}");
    }
}

fn contains(row: &impl std::fmt::Debug, args: &Args<'_>) {
    let shown = format!("{row:?}");
    for word in args.words() {
        assert!(shown.contains(word.trim_start_matches('~')), "{}: {word} is not in {shown}", args.place);
    }
}

/// `movements alice:transfer:-5MAI bob:transfer:5MAI`: those of the last entry, by change of balance.
fn movements(world: &World, rest: &str, place: &str) {
    let seen: Vec<(String, i128)> =
        world.last.movements.iter().map(|m| (format!("{}:{}", m.account, m.cause), m.balance_change)).collect();
    let wanted: Vec<(String, i128)> = rest
        .split_whitespace()
        .map(|word| {
            let parts: Vec<&str> = word.split(':').collect();
            let change = parts[2].strip_prefix('-').map_or_else(
                || plain(parts[2]).parse::<i128>().unwrap(),
                |minus| -plain(minus).parse::<i128>().unwrap(),
            );
            (format!("{}:{}", world.account(parts[0]), parts[1]), change)
        })
        .collect();
    assert_eq!(seen, wanted, "{place}");
}

/// The hash that a scenario means by a word.
pub fn named_hash(name: &str) -> [u8; 32] {
    sha256(&[b"hash", name.as_bytes()])
}

/// Every refusal there is.
pub fn all_refusals() -> BTreeSet<&'static str> {
    Refusal::ALL.iter().map(|(_, name, _)| *name).collect()
}

fn duration_ms(text: &str) -> i64 {
    let text = text.trim();
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let scale = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        other => panic!("{other:?} is no unit of time"),
    };
    number.parse::<i64>().unwrap() * scale
}

/// `name=value` words.
struct Args<'a> {
    words: Vec<&'a str>,
    place: &'a str,
}

impl<'a> Args<'a> {
    fn new(text: &'a str, place: &'a str) -> Self {
        Self { words: text.split_whitespace().collect(), place }
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().copied().filter(|word| word.starts_with('~'))
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.words.iter().filter_map(|word| word.split_once('='))
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.words.iter().find_map(|word| word.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
    }

    fn need(&self, name: &str) -> &'a str {
        self.get(name).unwrap_or_else(|| panic!("{}: {name} is missing", self.place))
    }

    fn number(&self, name: &str, default: u64) -> u64 {
        self.get(name).map_or(default, |text| text.parse().unwrap())
    }

    fn amount(&self, name: &str, default: u128) -> u128 {
        self.get(name).map_or(default, |text| plain(text).parse().unwrap())
    }

    fn money(&self, name: &str, default: &str) -> String {
        plain(self.get(name).unwrap_or(default))
    }
}
