//! The core's behaviour as exact actions: each test is a little story of events.

use super::outbox::{RELAY_AGAIN_MS, RETRY_MS_MAX, RETRY_MS_MIN};
use super::*;
use crate::convert;
use matrixai_proto::v1;
use matrixai_protocol::drilling::{Kernel, Workload};
use std::sync::Arc;

const LEDGER_MS: u64 = 1_000_000;

fn drill(key: &str) -> Assignment {
    let workload = Workload::new(Kernel::Fgemm, [8, 8, 8, 1, 0, 0, 0, 0]).expect("a valid workload");
    task(key, Task::Drill(Drill { unit: [1; 20], attempt: 1, workload, seed: [2; 32] }))
}

fn task(key: &str, task: Task) -> Assignment {
    Assignment { key: key.to_owned(), deadline_ms: LEDGER_MS + 60_000, task }
}

fn context() -> Arc<matrixai_training::Context> {
    let wire = v1::Assignment {
        key: "k".to_owned(),
        task: Some(v1::assignment::Task::Reduce(v1::ReduceTask {
            context: Some(convert::tests::wire_context()),
            ..Default::default()
        })),
        ..Default::default()
    };
    match convert::assignment(wire).map(|assignment| assignment.task) {
        Ok(Task::Reduce(reduce)) => reduce.context,
        other => panic!("a reduction: {other:?}"),
    }
}

fn train(key: &str, virtual_workers: &[u32]) -> Assignment {
    let virtual_workers = virtual_workers.to_vec();
    task(key, Task::Train(Train { context: context(), round: 0, attempt: 1, virtual_workers, weights: [3; 32] }))
}

fn reduce(key: &str) -> Assignment {
    task(key, Task::Reduce(Reduce { context: context(), round: 0, before: None, deltas: Vec::new() }))
}

fn reveal(key: &str) -> Assignment {
    task(key, Task::Reveal(Reveal { unit: [1; 20] }))
}

fn report(key: &str, part: u32) -> Report {
    Report { key: key.to_owned(), part, payload: vec![7] }
}

fn produced(key: &str, part: u32) -> Event {
    Event::Produced { report: report(key, part), done_e6: 5 }
}

fn finished(key: &str) -> Event {
    Event::Finished { key: key.to_owned(), end: End::Done }
}

fn done() -> Vec<Verdict> {
    vec![Verdict { code: 0, name: "done".to_owned(), detail: String::new() }]
}

fn refused(name: &str) -> Vec<Verdict> {
    vec![Verdict { code: 9, name: name.to_owned(), detail: String::new() }]
}

/// An agent with a clock.
struct Story {
    agent: Agent,
    now: u64,
}

impl Story {
    fn offline(restored: Vec<Report>) -> Self {
        Self { agent: Agent::new([9; 32], restored), now: 1_000 }
    }

    fn online() -> Self {
        let mut story = Self::offline(Vec::new());
        assert_eq!(story.connect(), []);
        story
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.agent.on(event, self.now)
    }

    fn connect(&mut self) -> Vec<Action> {
        self.on(Event::Connected { ledger_ms: LEDGER_MS })
    }

    fn assign(&mut self, assignment: Assignment) -> Vec<Action> {
        self.on(Event::Assigned { assignment, ledger_ms: LEDGER_MS })
    }

    fn withdraw(&mut self, key: &str) -> Vec<Action> {
        self.on(Event::Withdrawn { key: key.to_owned() })
    }

    fn ack(&mut self, id: CommandId, verdicts: Vec<Verdict>) -> Vec<Action> {
        self.on(Event::Acked { id, verdicts })
    }

    fn after(&mut self, ms: u64) -> Vec<Action> {
        self.now += ms;
        self.on(Event::Tick)
    }
}

/// The one report among actions, and the id it goes under.
fn sent(actions: &[Action]) -> (CommandId, Report) {
    let mut all = actions.iter().filter_map(|action| match action {
        Action::Send { id, report } => Some((*id, report.clone())),
        _ => None,
    });
    match (all.next(), all.next()) {
        (Some(one), None) => one,
        _ => panic!("not one report: {actions:?}"),
    }
}

fn started(actions: &[Action]) -> Vec<&str> {
    let mut keys = Vec::new();
    for action in actions {
        if let Action::Run(assignment) = action {
            keys.push(assignment.key.as_str());
        }
    }
    keys
}

#[test]
fn a_drill_is_run_reported_and_acknowledged() {
    let mut story = Story::online();
    assert_eq!(story.assign(drill("d")), [Action::Run(drill("d"))]);
    assert_eq!(story.agent.holding(), ["d"]);
    let actions = story.on(produced("d", 0));
    let (id, told) = sent(&actions);
    assert_eq!(told, report("d", 0));
    assert_eq!(story.on(finished("d")), []);
    assert_eq!(story.agent.holding(), ["d"], "finished and not acknowledged");
    assert_eq!(story.ack(id, done()), [Action::Forget { key: "d".to_owned(), part: 0 }]);
    assert_eq!(story.agent.holding(), Vec::<String>::new());
    assert_eq!(story.ack(id, done()), [], "a second acknowledgement means nothing");
    assert_eq!(story.after(60_000), []);
}

#[test]
fn one_slot_and_the_urgent_first() {
    let mut story = Story::online();
    assert_eq!(started(&story.assign(train("t1", &[0]))), ["t1"]);
    for waiting in [train("t2", &[1]), drill("d1"), drill("d2"), reduce("r"), train("t1", &[0])] {
        assert_eq!(story.assign(waiting), []);
    }
    // A reveal needs no slot.
    assert_eq!(story.assign(reveal("v")), [Action::Recall(reveal("v"))]);
    let mut order = Vec::new();
    let mut running = "t1".to_owned();
    while let [Action::Run(next)] = &story.on(finished(&running))[..] {
        running = next.key.clone();
        order.push(running.clone());
    }
    assert_eq!(order, ["r", "d1", "d2", "t2"]);
}

#[test]
fn the_same_assignment_twice_is_the_same_work() {
    let mut story = Story::online();
    assert_eq!(started(&story.assign(drill("d"))), ["d"]);
    assert_eq!(story.assign(drill("d")), []);
    let (id, _) = sent(&story.on(produced("d", 0)));
    story.on(finished("d"));
    // Finished, its report on the way: not run again.
    assert_eq!(story.assign(drill("d")), []);
    story.ack(id, done());
    // Acknowledged, but a coordinator that lags sends it again: the report goes out once more, under the same id.
    assert_eq!(sent(&story.assign(drill("d"))), (id, report("d", 0)));
}

#[test]
fn reports_are_repeated_until_they_are_acknowledged() {
    let mut story = Story::online();
    story.assign(drill("d"));
    let (id, _) = sent(&story.on(produced("d", 0)));
    assert_eq!(story.after(RETRY_MS_MIN - 1), []);
    assert_eq!(sent(&story.after(1)).0, id);
    assert_eq!(story.after(RETRY_MS_MIN), [], "the pauses grow");
    assert_eq!(sent(&story.after(RETRY_MS_MIN)).0, id);
    for _ in 0..20 {
        assert_eq!(sent(&story.after(RETRY_MS_MAX)).0, id);
    }
    // The relay failed: the same again, soon.
    assert_eq!(story.ack(id, Vec::new()), []);
    assert_eq!(sent(&story.after(RELAY_AGAIN_MS)).0, id);
    assert_eq!(story.ack(id, done()), [Action::Forget { key: "d".to_owned(), part: 0 }]);
    assert_eq!(story.after(RETRY_MS_MAX), []);
}

#[test]
fn nothing_is_sent_without_a_session_and_everything_with_the_next() {
    let mut story = Story::online();
    story.assign(train("t", &[0, 1]));
    assert_eq!(story.on(Event::Disconnected), []);
    assert_eq!(story.on(produced("t", 0)), []);
    assert_eq!(story.on(produced("t", 1)), []);
    assert_eq!(story.on(finished("t")), []);
    assert_eq!(story.after(60_000), []);
    assert_eq!(story.agent.holding(), ["t"]);
    let actions = story.connect();
    let sent = actions.iter().filter(|action| matches!(action, Action::Send { .. })).count();
    assert_eq!((sent, actions.len()), (2, 2), "{actions:?}");
    assert_eq!(story.assign(train("t", &[0, 1])), [], "what is finished is not run again");
}

#[test]
fn work_goes_on_while_the_session_is_down() {
    let mut story = Story::online();
    story.assign(train("t1", &[0]));
    story.assign(train("t2", &[1]));
    story.on(Event::Disconnected);
    assert_eq!(started(&story.on(finished("t1"))), ["t2"]);
}

#[test]
fn withdrawn_work_stops() {
    let mut story = Story::online();
    story.assign(train("t", &[0]));
    story.assign(drill("d"));
    story.assign(drill("e"));
    assert_eq!(story.withdraw("d"), []);
    assert_eq!(story.withdraw("t"), [Action::Cancel { key: "t".to_owned() }]);
    assert_eq!(story.withdraw("t"), [], "once is enough");
    assert_eq!(story.agent.holding(), ["e"]);
    // The slot is free only when the runner has let go.
    let stopped = Event::Finished { key: "t".to_owned(), end: End::Stopped };
    assert_eq!(started(&story.on(stopped)), ["e"]);
}

#[test]
fn withdrawn_and_owed_again_runs_again() {
    let mut story = Story::online();
    story.assign(train("t", &[0, 1, 2]));
    let (id, _) = sent(&story.on(produced("t", 1)));
    story.withdraw("t");
    assert_eq!(story.assign(train("t", &[0, 1, 2])), [], "the slot is still taken");
    let stopped = Event::Finished { key: "t".to_owned(), end: End::Done };
    // What was reported before is left out.
    assert_eq!(story.on(stopped), [Action::Run(train("t", &[0, 2]))]);
    // And what has waited for its acknowledgement all the while is still repeated.
    assert_eq!(sent(&story.after(RETRY_MS_MIN)).0, id);
}

#[test]
fn a_finished_assignment_that_was_withdrawn_may_come_back() {
    let mut story = Story::online();
    story.assign(drill("d"));
    let (id, _) = sent(&story.on(produced("d", 0)));
    story.on(finished("d"));
    story.ack(id, done());
    story.withdraw("d");
    assert_eq!(started(&story.assign(drill("d"))), ["d"]);
}

#[test]
fn what_is_too_late_stops_or_never_starts() {
    let mut story = Story::online();
    story.assign(train("t", &[0]));
    story.assign(drill("d"));
    assert_eq!(story.after(60_000), []);
    let late = |key: &str| Action::Note(Note::TooLate { key: key.to_owned() });
    assert_eq!(story.after(1), [late("d"), late("t"), Action::Cancel { key: "t".to_owned() }]);
    assert_eq!(story.after(1), []);
    let stopped = Event::Finished { key: "t".to_owned(), end: End::Stopped };
    assert_eq!(story.on(stopped), []);
    // No deadline: never late.
    let endless = Assignment { deadline_ms: 0, ..drill("e") };
    assert_eq!(started(&story.assign(endless)), ["e"]);
    assert_eq!(story.after(1_000_000), []);
}

#[test]
fn refusals_end_a_report_unless_they_are_about_its_time() {
    let mut story = Story::online();
    story.assign(train("t", &[0, 1]));
    let (first, _) = sent(&story.on(produced("t", 0)));
    let actions = story.ack(first, refused("stale_attempt"));
    assert!(matches!(&actions[..], [Action::Forget { .. }, Action::Note(Note::Refused { .. })]), "{actions:?}");
    assert_eq!(story.after(RETRY_MS_MAX), []);
    let (old, _) = sent(&story.on(produced("t", 1)));
    assert_eq!(story.ack(old, refused("expired")), []);
    let (new, told) = sent(&story.after(RETRY_MS_MIN));
    assert_eq!(told, report("t", 1));
    assert_ne!(new, old, "the ledger remembers the refusal under the old id");
    assert_eq!(story.ack(new, done()), [Action::Forget { key: "t".to_owned(), part: 1 }]);
    // A ledger that never accepts its time is not asked for ever.
    let (mut id, _) = sent(&story.on(produced("t", 2)));
    let mut tries = 0;
    while story.ack(id, refused("expired")).is_empty() {
        (id, _) = sent(&story.after(RETRY_MS_MIN));
        tries += 1;
        assert!(tries < 100);
    }
}

#[test]
fn a_restart_goes_on_with_what_was_not_acknowledged() {
    let mut story = Story::online();
    story.assign(train("t", &[0, 1]));
    let (id, _) = sent(&story.on(produced("t", 0)));
    let mut story = Story::offline(vec![report("t", 0), report("d", 0)]);
    assert_eq!(story.agent.holding(), ["d", "t"]);
    let actions = story.connect();
    let again: Vec<_> = actions.iter().filter(|action| matches!(action, Action::Send { .. })).collect();
    assert_eq!(again.len(), 2);
    assert!(again.contains(&&Action::Send { id, report: report("t", 0) }), "under the id of the earlier life");
    // Only what is missing is computed.
    assert_eq!(story.assign(train("t", &[0, 1])), [Action::Run(train("t", &[1]))]);
    assert_eq!(story.assign(drill("d")), [], "and what was reported is not run again");
}

#[test]
fn a_lease_without_anything_left_is_finished() {
    let mut story = Story::offline(vec![report("t", 0), report("t", 1)]);
    story.connect();
    assert_eq!(story.assign(train("t", &[0, 1])), []);
    assert_eq!(started(&story.assign(drill("d"))), ["d"], "the slot is free");
}

#[test]
fn openings_come_from_the_journal() {
    let mut story = Story::online();
    assert_eq!(story.assign(reveal("v")), [Action::Recall(reveal("v"))]);
    assert_eq!(story.assign(reveal("v")), [], "asked already");
    assert_eq!(story.agent.holding(), ["v"]);
    let found = Event::Recalled { key: "v".to_owned(), report: Some(report("v", 0)) };
    let (id, told) = sent(&story.on(found));
    assert_eq!(told, report("v", 0));
    assert_eq!(story.assign(reveal("v")), []);
    story.ack(id, done());
    story.assign(reveal("w"));
    let nothing = Event::Recalled { key: "w".to_owned(), report: None };
    assert_eq!(story.on(nothing), [Action::Note(Note::NotInJournal { key: "w".to_owned() })]);
    assert_eq!(story.assign(reveal("w")), [], "the journal is not asked twice");
}

#[test]
fn failures_are_reported_and_reductions_tried_again() {
    let mut story = Story::online();
    let failed = |key: &str, retry| Event::Finished {
        key: key.to_owned(),
        end: End::Failed { report: Some(report(key, FAILED_PART)), retry },
    };
    story.assign(train("t", &[0]));
    let (id, told) = sent(&story.on(failed("t", true)));
    assert_eq!(told, report("t", FAILED_PART));
    story.ack(id, done());
    assert_eq!(sent(&story.assign(train("t", &[0]))).0, id, "it failed: it is not run again");

    assert_eq!(started(&story.assign(reduce("r"))), ["r"]);
    assert_eq!(story.on(failed("r", true)), []);
    assert_eq!(started(&story.assign(drill("d"))), ["d"], "others are not kept waiting");
    story.on(finished("d"));
    assert_eq!(story.assign(reduce("r")), []);
    assert_eq!(started(&story.after(REDUCE_AGAIN_MS)), ["r"]);
    assert_eq!(sent(&story.on(failed("r", false))).1, report("r", FAILED_PART));

    assert_eq!(started(&story.assign(drill("e"))), ["e"]);
    let silent = Event::Finished { key: "e".to_owned(), end: End::Failed { report: None, retry: false } };
    story.on(silent);
    assert_eq!(story.assign(drill("e")), []);
}

#[test]
fn a_deadline_that_was_put_off_holds() {
    let mut story = Story::online();
    story.assign(reduce("r"));
    story.assign(drill("d"));
    let later = |assignment: Assignment| Assignment { deadline_ms: LEDGER_MS + 90_000, ..assignment };
    assert_eq!(story.assign(later(reduce("r"))), []);
    assert_eq!(story.assign(later(drill("d"))), []);
    assert_eq!(story.after(90_000), []);
    assert_eq!(story.after(1).len(), 3);
}

#[test]
fn more_than_can_be_held_is_passed_over() {
    let mut story = Story::online();
    story.assign(drill("first"));
    for n in 0..HELD_MAX {
        assert_eq!(story.assign(drill(&format!("d{n}"))), []);
    }
    assert_eq!(story.assign(drill("over")), [Action::Note(Note::TooMany { key: "over".to_owned() })]);
    story.withdraw("d0");
    assert_eq!(story.assign(drill("over")), []);
}

#[test]
fn what_a_stranger_says_about_unknown_things_changes_nothing() {
    let mut story = Story::online();
    assert_eq!(story.withdraw("x"), []);
    assert_eq!(story.ack([1; 16], done()), []);
    assert_eq!(story.on(finished("x")), []);
    assert_eq!(story.on(Event::Recalled { key: "x".to_owned(), report: Some(report("x", 0)) }), []);
}
