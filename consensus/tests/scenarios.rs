//! Scenarios told in `testdata/*.txt`: prose, commands after `>`, and what they print. Run with `UPDATE_EXPECT=1` to
//! write down what is printed now; then read the difference before believing it.
//!
//! Commands: `nodes N` · `tick N` (all nodes, settling after each) · `elect [NODE]` (that node stands for election;
//! then ticks until one leads all that run) · `propose NODE TEXT..` (the texts without a cycle between) · `read NODE
//! CONTEXT` · `isolate NODE` · `heal` · `crash NODE` · `start NODE` · `full NODE` (its disk refuses writes) · `space
//! NODE` · `lose NODE INDEX` (its disk forgets what is behind) · `garble NODE` (bytes that are no message) · `status` ·
//! `log NODE` · `syncs NODE COMMAND..` (how often its disk synced during a command) · `snapshot NODE` · `compact NODE
//! INDEX` · `unhelpful`, `helpful` (whether callers fetch what is offered) · `members NODE CHANGES..` (`+l4` a learner,
//! `+v4` a voter, `-4` none) · `who` (members as each node knows them) · `transfer NODE TO` · `down NODE` (it steps down).

#![allow(clippy::unwrap_used)]

mod common;

use std::{fmt::Write as _, fs, path::Path};

use common::Cluster;
use matrixai_consensus::MemberChange;

struct Stage {
    cluster: Cluster,
}

impl Stage {
    fn run(&mut self, line: &str) -> String {
        let words = line.split_whitespace().collect::<Vec<_>>();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let mut out = String::new();
        match words[0] {
            "nodes" => self.cluster = Cluster::new(number(1), 42),
            "tick" => {
                for _ in 0..number(1) {
                    self.cluster.tick_all();
                    self.settle(&mut out);
                }
            }
            "elect" => {
                if words.len() > 1 {
                    self.cluster.node(number(1)).unwrap().campaign().unwrap();
                    self.settle(&mut out);
                }
                self.elect(&mut out);
            }
            "propose" => {
                for text in &words[2..] {
                    let node = self.cluster.node(number(1)).unwrap();
                    if let Err(error) = node.propose(text.as_bytes().to_vec()) {
                        writeln!(out, "{error}: {error:?}").unwrap();
                    }
                }
                self.settle(&mut out);
            }
            "read" => {
                let id = number(1);
                let before = self.cluster.machines[&id].reads.len();
                if let Err(error) = self.cluster.node(id).unwrap().read_index(number(2)) {
                    writeln!(out, "{error}").unwrap();
                }
                self.settle(&mut out);
                for (context, index) in &self.cluster.machines[&id].reads[before..] {
                    writeln!(out, "read {context} at index {index}").unwrap();
                }
            }
            "isolate" => self.cluster.isolate(number(1)),
            "heal" => self.cluster.cut.clear(),
            "crash" => self.cluster.crash(number(1)),
            "start" => {
                match self.cluster.start(number(1)) {
                    Ok(()) => {}
                    Err(error) => writeln!(out, "{error}").unwrap(),
                }
                self.settle(&mut out);
            }
            "full" => self.cluster.machines[&number(1)].disk.fail_after(Some(0)),
            "space" => self.cluster.machines[&number(1)].disk.fail_after(None),
            "lose" => self.cluster.machines[&number(1)].disk.lose_behind(number(2)),
            "garble" => {
                let error = self.cluster.node(number(1)).unwrap().step(b"\x08\x03\x10").unwrap_err();
                writeln!(out, "{error}{}", if error.is_fatal() { ", fatal" } else { "" }).unwrap();
            }
            "status" => self.status(&mut out),
            "snapshot" => {
                self.cluster.take_snapshot(number(1));
                self.settle(&mut out);
            }
            "compact" => {
                self.cluster.node(number(1)).unwrap().compact(number(2));
                self.settle(&mut out);
            }
            "helpful" => self.cluster.unhelpful = false,
            "unhelpful" => self.cluster.unhelpful = true,
            "members" => {
                let mut change = MemberChange::default();
                for word in &words[2..] {
                    let (kind, id) = word.split_at(if word.starts_with('-') { 1 } else { 2 });
                    match kind {
                        "+l" => change.learners.push(id.parse().unwrap()),
                        "+v" => change.voters.push(id.parse().unwrap()),
                        _ => change.removed.push(id.parse().unwrap()),
                    }
                }
                let context = words[2..].join(" ").into_bytes();
                if let Err(error) = self.cluster.node(number(1)).unwrap().propose_members(&change, context) {
                    writeln!(out, "{error}").unwrap();
                }
                self.settle(&mut out);
            }
            "who" => {
                for (id, machine) in &self.cluster.machines {
                    if let Some(node) = &machine.node {
                        writeln!(out, "{id} {}", node.status().members).unwrap();
                    }
                }
            }
            "transfer" => {
                if let Err(error) = self.cluster.node(number(1)).unwrap().transfer_leader(number(2)) {
                    writeln!(out, "{error}").unwrap();
                }
                self.settle(&mut out);
            }
            "down" => {
                self.cluster.node(number(1)).unwrap().step_down();
                self.settle(&mut out);
            }
            "log" => {
                for entry in &self.cluster.machines[&number(1)].delivered {
                    let text = String::from_utf8_lossy(&entry.data);
                    let text = if text.is_empty() { "-" } else { &text };
                    let members = entry.members.as_ref().map(|members| format!(" -> {members}")).unwrap_or_default();
                    writeln!(out, "{} term {} {text}{members}", entry.index, entry.term).unwrap();
                }
            }
            "syncs" => {
                let disk = self.cluster.machines[&number(1)].disk.clone();
                let before = disk.syncs();
                out = self.run(&words[2..].join(" "));
                writeln!(out, "{} synced", disk.syncs() - before).unwrap();
            }
            other => panic!("unknown command {other:?}"),
        }
        out
    }

    fn settle(&mut self, out: &mut String) {
        for (id, error) in self.cluster.settle() {
            writeln!(out, "node {id}: {error}").unwrap();
        }
    }

    fn elect(&mut self, out: &mut String) {
        for _ in 0..200 {
            self.cluster.tick_all();
            self.settle(out);
            let leaders = self.cluster.leaders();
            let agreed = |leader| {
                let cut = &self.cluster.cut;
                let reached = |id: &u64| !cut.contains(&(leader, *id));
                let nodes = self.cluster.machines.iter().filter(|(id, _)| reached(id));
                nodes.filter_map(|(_, machine)| machine.node.as_ref()).all(|node| node.status().leader == leader)
            };
            if let [leader] = leaders[..]
                && agreed(leader)
            {
                return;
            }
        }
        panic!("nobody was elected");
    }

    fn status(&mut self, out: &mut String) {
        for (id, machine) in &self.cluster.machines {
            match &machine.node {
                None => writeln!(out, "{id} down").unwrap(),
                Some(node) => {
                    let status = node.status();
                    writeln!(
                        out,
                        "{id} {:?} leader {} term {} commit {} applied {} last {}{}",
                        status.role,
                        status.leader,
                        status.term,
                        status.commit,
                        status.applied,
                        status.last,
                        if status.first > 1 { format!(" first {}", status.first) } else { String::new() }
                    )
                    .unwrap();
                }
            }
        }
    }
}

fn play(script: &str) -> String {
    let mut stage = Stage { cluster: Cluster::new(0, 0) };
    let mut told = String::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            told += line;
            told.push('\n');
            told += &stage.run(command);
        } else if line.is_empty() || line.starts_with('#') {
            told += line;
            told.push('\n');
        }
    }
    told
}

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata").join(name);
    let script = fs::read_to_string(&path).unwrap();
    let told = play(&script);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &told).unwrap();
    }
    assert_eq!(told, script, "{name} tells another story");
    assert_eq!(play(&script), told, "{name} is not the same twice");
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => { $(#[test] fn $name() { check(concat!(stringify!($name), ".txt")); })* };
}

scenarios!(election, replication, restart, reads, disk, garbage, snapshots, members);

#[test]
fn every_story_is_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 8, "a file in testdata must be named in scenarios!");
}
