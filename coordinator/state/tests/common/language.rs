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
//! agreement a 0                                   # names the newest agreement (1: the next, by time, then price); its machine begins
//! agreement a 0 unstarted                         # its machine does not
//! answer m1                                       # does honestly whatever the machine is owed, once
//! see account alice balance=95MAI held=0
//! events offer.made                               # kinds of the last entry's events, in order
//! ```

mod admin;
mod commands;
mod market;
mod sight;
mod words;

use super::{Founding, Odd, World, key};
pub use commands::command_of;
use matrixai_protocol::{drilling::Kernel, sha256};
use matrixai_state::{Outcome, Refusal, Task};
use std::collections::BTreeSet;
use words::plain;

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
        let (name, rest) = name.split_once(' ').unwrap_or((name, "0"));
        let (back, begun) = rest.strip_suffix(" unstarted").map_or((rest, true), |back| (back, false));
        market::name_agreement(world, name, back.parse().unwrap());
        if begun {
            market::begin(world, name, place);
        }
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
        sight::see(world, rest, place);
    } else if let Some(kinds) = line.strip_prefix("events") {
        let seen: Vec<&str> = world.last.events.iter().map(|event| event.kind).collect();
        assert_eq!(seen, kinds.split_whitespace().collect::<Vec<_>>(), "{place}");
    } else if let Some(rest) = line.strip_prefix("movements") {
        sight::movements(world, rest, place);
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
            Task::Begin { agreement } => {
                world.names.insert("owed".into(), agreement.0);
                vec!["begin agreement=owed".to_owned()]
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
