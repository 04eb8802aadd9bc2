//! A scenario's commands by their short names, and what they have for arguments that are not given.

use super::{Args, World, admin, duration_ms, key, market, named_hash, words::numbers};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_protocol::{drilling, training};
use matrixai_state::ids::{JobId, UnitId};

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
        "burn" => Kind::BurnFunds(v1::BurnFunds { amount: args.money("amount", "0") }),
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
            disk_gib: args.number("disk", 0) as u32,
            reserve_price: args.money("reserve", ""),
            grace_min: args.number("grace", 0) as u32,
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
        "lost" => Kind::MachineLost(v1::MachineLost { machine: machine(""), silent_ms: args.number("silent", 0) }),
        "attest" => Kind::AttestRoot(v1::AttestRoot {
            epoch: args.number("epoch", 1),
            index: args.number("index", 0),
            root: named_hash(args.get("root").unwrap_or("root")).to_vec(),
            segment: args.get("segment").map(|name| named_hash(name).to_vec()).unwrap_or_default(),
        }),
        other => market::command(world, other, args),
    }
}

pub(super) fn campaign(args: &Args<'_>) -> v1::PublishCampaign {
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
