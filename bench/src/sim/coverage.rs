//! What a campaign has seen: every command with every outcome it had, every fault, every point where something died.

use super::{
    entries::Said,
    faults::{TASKS, When},
};
use matrixai_coordinator::core::Reply;
use matrixai_proto::v1::command::Kind;
use matrixai_state::Refusal;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem::{Discriminant, discriminant},
};

/// Every command, as [`Kind`] names it.
const COMMANDS: [&str; 28] = [
    "CreateAccount",
    "FaucetDraw",
    "Transfer",
    "EnrolMachine",
    "RevokeMachine",
    "PublishCampaign",
    "CommitUnit",
    "RevealUnit",
    "MakeOffer",
    "WithdrawOffer",
    "SubmitTraining",
    "CancelJob",
    "TaskDone",
    "RoundReduced",
    "SegmentReplayed",
    "TraceOpened",
    "TaskFailed",
    "Propose",
    "Approve",
    "WithdrawProposal",
    "HoldFunds",
    "PostHold",
    "VoidHold",
    "Beat",
    "MachineOnline",
    "MachineLost",
    "AttestRoot",
    "AnnounceRules",
];

/// Counts of what came up.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// By command and outcome.
    outcomes: BTreeMap<(&'static str, &'static str), u64>,
    points: BTreeMap<&'static str, u64>,
    crash_points: BTreeMap<(&'static str, &'static str), u64>,
    names: HashMap<Discriminant<Kind>, &'static str>,
}

impl Coverage {
    /// Commands of a new entry, and outcomes of envelopes whose commands cannot be read.
    pub fn said(&mut self, said: &[Said], unread: &[&'static str]) {
        for said in said {
            let name = *self.names.entry(discriminant(&said.kind)).or_insert_with(|| name(&said.kind));
            *self.outcomes.entry((name, said.outcome)).or_default() += 1;
        }
        for outcome in unread {
            *self.outcomes.entry(("(unreadable)", outcome)).or_default() += 1;
        }
    }

    /// An answer that is no decision.
    pub fn reply(&mut self, reply: &Reply) {
        self.point(match reply {
            Reply::Decided { .. } => "decided",
            Reply::NotLeader => "reply: not the leader",
            Reply::LeadershipLost => "reply: leadership lost",
            Reply::Full => "reply: full",
            Reply::Reused => "reply: id in use",
            Reply::Late => "reply: late",
        });
    }

    /// Something happened that a campaign should have seen.
    pub fn point(&mut self, name: &'static str) {
        *self.points.entry(name).or_default() += 1;
    }

    /// A node died at a task.
    pub fn crash_point(&mut self, task: &'static str, when: When) {
        *self.crash_points.entry((task, when.name())).or_default() += 1;
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        for (key, count) in &other.outcomes {
            *self.outcomes.entry(*key).or_default() += count;
        }
        for (key, count) in &other.crash_points {
            *self.crash_points.entry(*key).or_default() += count;
        }
        for (key, count) in &other.points {
            *self.points.entry(key).or_default() += count;
        }
    }

    /// Outcomes by command, and points, for people and machines.
    pub fn to_json(&self) -> Value {
        let mut commands: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
        for ((command, outcome), count) in &self.outcomes {
            commands.entry(command).or_default().insert(outcome, *count);
        }
        let crash_points: BTreeMap<String, u64> =
            self.crash_points.iter().map(|((task, side), count)| (format!("{side} {task}"), *count)).collect();
        let never = self.never();
        json!({ "commands": commands, "points": self.points, "crash_points": crash_points, "never": never })
    }

    /// What has not come up: commands that nobody did, refusals that nobody got, moments at which nothing died.
    fn never(&self) -> Value {
        let done = |name: &&&str| !self.outcomes.contains_key(&(**name, "done"));
        let commands: Vec<_> = COMMANDS.iter().filter(done).collect();
        let refused: BTreeSet<&str> = self.outcomes.keys().map(|(_, outcome)| *outcome).collect();
        let refusals = Refusal::ALL.iter().map(|(_, name, _)| *name).filter(|name| !refused.contains(name));
        let moments =
            TASKS.iter().flat_map(|task| [When::Before, When::Unsaid, When::Said].map(|when| (*task, when.name())));
        let alive = moments.filter(|moment| !self.crash_points.contains_key(moment));
        json!({
            "done": commands,
            "refused": refusals.collect::<Vec<_>>(),
            "died": alive.map(|(task, side)| format!("{side} {task}")).collect::<Vec<_>>(),
        })
    }

    /// Pairs of command and outcome that came up.
    pub fn pairs(&self) -> usize {
        self.outcomes.len()
    }
}

/// A command's name in `ledger.proto`. Leaked once a kind and campaign thread: a few dozen short strings.
fn name(kind: &Kind) -> &'static str {
    let debug = format!("{kind:?}");
    let name = debug.split('(').next().unwrap_or_default();
    Box::leak(name.to_owned().into_boxed_str())
}
