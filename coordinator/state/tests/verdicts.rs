//! Trainings in which somebody lies, stays silent or cannot: who is found out, and who is paid.
#![allow(clippy::unwrap_used)]

mod common;
mod sim;

use matrixai_state::{
    closing::CloseReason,
    ids::Hash,
    jobs::{JobState, Standing},
    money::Money,
    verdicts::ReplayState,
};
use sim::{
    COUNTS, Sim,
    jobs::*,
    reports::{delta, replayed, spec, trace, trace_opened, weights},
};

#[test]
fn a_wrong_delta_is_rejected_and_refunded() {
    let mut sim = market(&UNLIKE, 3);
    sim.habits("m2").lie_delta = true;
    let job = start(&mut sim, 3, spec(12, 2, ALL), JobState::Verifying);
    assert_eq!(sim.until_closed(job), JobState::Rejected);
    let liar = sim.world.machine("m2");
    assert_eq!(sim.job(job).accepted, Some(false));
    assert!(sim.job(job).reason.contains(&liar.to_string()));
    let unequal = sim.world.state.replays_of(job).find(|replay| replay.state == ReplayState::Unequal).unwrap();
    assert_eq!(unequal.prover, liar);
    assert!(unequal.dissenter.is_some(), "two others found the same");
    assert_eq!(sim.standing(job, "m2"), Standing::Guilty);
    assert!(sim.world.state.machine(liar).unwrap().suspended);
    assert_eq!(sim.world.state.machines().filter(|row| row.suspended).count(), 1);
    for worker in &sim.workers {
        assert_eq!(sim.world.state.power(worker.id).unwrap().training_micro_ut, 0);
    }
    check_refunded(&sim, job, CloseReason::ProofRejected);
}

#[test]
fn with_two_machines_a_difference_rejects_and_suspends_nobody() {
    let mut sim = market(&[128_000_000, 64_000_000], 2);
    sim.habits("m1").lie_delta = true;
    let job = start(&mut sim, 2, spec(8, 1, ALL), JobState::Verifying);
    assert_eq!(sim.until_closed(job), JobState::Rejected);
    assert_eq!(sim.world.state.machines().filter(|row| row.suspended).count(), 0);
    check_refunded(&sim, job, CloseReason::Undecided);
}

#[test]
fn a_sealed_trace_that_nobody_computes_is_rejected() {
    let mut sim = market(&UNLIKE, 3);
    sim.habits("m1").lie_trace = true;
    let job = start(&mut sim, 3, spec(12, 1, ALL), JobState::Verifying);
    assert_eq!(sim.until_closed(job), JobState::Rejected);
    assert_eq!(sim.standing(job, "m1"), Standing::Guilty);
    check_refunded(&sim, job, CloseReason::ProofRejected);
}

#[test]
fn a_seal_opens_with_what_it_sealed_or_not_at_all() {
    let mut sim = market(&UNLIKE, 3);
    sim.habits("m1").forge_opening = true;
    let job = start(&mut sim, 3, spec(12, 1, ALL), JobState::Verifying);
    assert_eq!(sim.until_closed(job), JobState::Settled);
    assert!(sim.refused.iter().all(|(who, _)| who == "m1"));
    assert!(sim.refused.iter().any(|(_, refusal)| *refusal == "wrong_seal"));
    unopened(&sim, job, "m1");
}

#[test]
fn a_prover_that_never_opens_is_not_paid_for_that_lease() {
    let mut sim = market(&UNLIKE, 3);
    sim.habits("m2").mute_open = true;
    let job = start(&mut sim, 3, spec(12, 1, ALL), JobState::Verifying);
    assert_eq!(sim.until_closed(job), JobState::Settled);
    unopened(&sim, job, "m2");

    // Saying so at once is the same, without the wait.
    let mut sim = market(&UNLIKE, 3);
    sim.habits("m2").cannot_open = true;
    let job = start(&mut sim, 3, spec(12, 1, ALL), JobState::Verifying);
    assert_eq!(sim.until_closed(job), JobState::Settled);
    unopened(&sim, job, "m2");
}

#[test]
fn openings_have_names_for_everything() {
    let mut sim = market(&UNLIKE, 3);
    let job = start(&mut sim, 3, spec(12, 1, ALL), JobState::Verifying);
    let start = weights(&sim.world.state, job, 0);
    let waiting = sim.world.state.replays_of(job).next().unwrap().clone();
    let prover = sim.name_of(waiting.prover);
    let open = |name: &str, root: Hash| {
        trace_opened(name, job, waiting.segment, (waiting.round, waiting.virtual_worker), root)
    };
    let right = trace(waiting.round, waiting.virtual_worker, &start);
    assert_eq!(name(sim.say(&prover, open(&prover, right))), "wrong_state", "the verifier comes first");
    let stranger = sim.workers.iter().find(|worker| worker.id != waiting.prover).unwrap().name.clone();
    assert_eq!(name(sim.say(&stranger, open(&stranger, right))), "not_a_member");
    let replay = |sim: &Sim| sim.world.state.replays_of(job).next().unwrap().clone();
    sim.workers.iter_mut().for_each(|worker| worker.habits.mute_open = true);
    sim.until("it is replayed", |sim| replay(sim).state == ReplayState::Replayed);
    let verifier = sim.name_of(replay(&sim).verifier.unwrap());
    let attempt = replay(&sim).attempt;
    let report = |attempt, counts| {
        let delta = delta(waiting.round, waiting.virtual_worker, &start);
        replayed(job, waiting.segment, attempt, right, delta, counts)
    };
    assert_eq!(name(sim.say(&verifier, report(attempt, COUNTS))), "done", "the same again");
    assert_eq!(name(sim.say(&verifier, report(attempt, (1, 2, 100)))), "already_done");
    assert_eq!(name(sim.say(&verifier, report(attempt + 90, COUNTS))), "stale_attempt");
    assert_eq!(name(sim.say(&verifier, report(attempt, (1, 2, 0)))), "bad_figures");
    assert_eq!(name(sim.say(&verifier, report(attempt, (1, 101, 100)))), "bad_figures");
    assert_eq!(name(sim.say(&prover, report(attempt, COUNTS))), "stale_attempt");
    assert_eq!(name(sim.say(&prover, open(&prover, [9; 32]))), "wrong_seal");
    assert_eq!(name(sim.say(&prover, open(&prover, right))), "done");
    assert_eq!(name(sim.say(&prover, open(&prover, right))), "done");
    assert_eq!(name(sim.say(&prover, open(&prover, [9; 32]))), "already_done");
    sim.workers.iter_mut().for_each(|worker| worker.habits.mute_open = false);
    assert_eq!(sim.until_closed(job), JobState::Settled);
    assert_eq!(name(sim.say(&prover, open(&prover, right))), "done");
    assert_eq!(name(sim.say(&verifier, report(attempt, COUNTS))), "done");
    check_escrow(&sim, job);
}

#[test]
fn a_dissenter_in_a_reduction_is_guilty_and_unpaid() {
    let mut sim = market(&UNLIKE, 3);
    let job = start(&mut sim, 3, spec(12, 2, 1), JobState::Training);
    computing(&mut sim, job, 0);
    sim.habits("m3").lie_reduce = true;
    assert_eq!(sim.until_closed(job), JobState::Settled);
    assert_eq!(models(&sim, job), expected_models(12, 2));
    assert_eq!(sim.standing(job, "m3"), Standing::Guilty);
    assert!(sim.world.state.machine(sim.world.machine("m3")).unwrap().suspended);
    assert_eq!(sim.balance("t3"), Money::ZERO);
    assert!(sim.balance("t1") > Money::ZERO && sim.balance("t2") > Money::ZERO);
    check_escrow(&sim, job);
}

#[test]
fn without_a_majority_a_reduction_fails_the_job() {
    let mut sim = market(&[128_000_000, 64_000_000], 2);
    sim.habits("m1").lie_reduce = true;
    let job = sim.submit(2, spec(8, 2, 1), 3_600);
    assert_eq!(sim.until_closed(job), JobState::Failed);
    assert_eq!(sim.world.state.machines().filter(|row| row.suspended).count(), 0, "nobody knows who was wrong");
    check_refunded(&sim, job, CloseReason::Undecided);
}

#[test]
fn bad_data_close_the_job_when_a_majority_says_so() {
    let mut sim = market(&UNLIKE, 3);
    sim.workers.iter_mut().for_each(|worker| worker.habits.bad_data = true);
    let job = sim.submit(3, spec(6, 2, 1), 3_600);
    assert_eq!(sim.until_closed(job), JobState::Failed);
    assert!(sim.job(job).reason.contains("It broke"), "{}", sim.job(job).reason);
    check_refunded(&sim, job, CloseReason::BadInput);

    // One machine alone cannot end a job by saying so.
    let mut sim = market(&UNLIKE, 3);
    sim.habits("m1").bad_data = true;
    let job = sim.submit(3, spec(6, 2, 1), 3_600);
    assert_eq!(sim.until_closed(job), JobState::Settled);
    assert_eq!(sim.standing(job, "m1"), Standing::Guilty);
    check_escrow(&sim, job);
}

#[test]
fn a_false_verifier_is_found_out() {
    let mut sim = market(&UNLIKE, 3);
    let job = start(&mut sim, 3, spec(12, 2, ALL), JobState::Training);
    sim.habits("m1").lie_replay = true;
    assert_eq!(sim.until_closed(job), JobState::Settled);
    assert_eq!(sim.standing(job, "m1"), Standing::Guilty);
    assert!(sim.count("job.disputed") > 0);
    assert_eq!(sim.balance("t1"), Money::ZERO);
    assert!(sim.world.state.replays_of(job).all(|replay| replay.state != ReplayState::Unequal));
    check_escrow(&sim, job);
}

#[test]
fn verifiers_that_count_differently_fail_the_job() {
    let mut sim = market(&[128_000_000, 64_000_000], 2);
    sim.habits("m1").lie_count = true;
    let job = start(&mut sim, 2, spec(12, 2, ALL), JobState::Verifying);
    assert_eq!(sim.until_closed(job), JobState::Failed);
    check_refunded(&sim, job, CloseReason::Undecided);
}

/// A buyer that has one machine among the verifiers must not get its training for nothing.
#[test]
fn one_verifier_that_counts_differently_is_not_paid() {
    let mut sim = market(&UNLIKE, 3);
    sim.habits("m1").lie_count = true;
    let job = start(&mut sim, 3, spec(12, 2, ALL), JobState::Verifying);
    assert_eq!(sim.until_closed(job), JobState::Settled);
    assert_eq!(sim.standing(job, "m1"), Standing::Guilty);
    assert_eq!(sim.balance("t1"), Money::ZERO);
    assert_eq!(sim.job(job).accuracy.unwrap().last_correct, COUNTS.1);
    check_escrow(&sim, job);
}

#[test]
fn a_lost_verifier_is_replaced() {
    let mut sim = market(&UNLIKE, 3);
    let job = start(&mut sim, 3, spec(12, 2, ALL), JobState::Verifying);
    sim.kill("m3");
    assert_eq!(sim.until_closed(job), JobState::Settled);
    let lost = sim.world.machine("m3");
    assert!(sim.count("job.verifier_gone") > 0);
    assert!(shut(&sim, job).iter().all(|prover| *prover == lost));
    check_escrow(&sim, job);
}

#[test]
fn a_job_nobody_can_verify_fails() {
    let mut sim = market(&[128_000_000, 64_000_000], 1);
    let job = start(&mut sim, 1, spec(4, 1, 0), JobState::Verifying);
    sim.run_for(5_000);
    assert!(sim.world.state.replays_of(job).all(|replay| replay.verifier.is_none()));
    sim.skip(600_000);
    assert_eq!(sim.job(job).state, JobState::Failed);
    check_refunded(&sim, job, CloseReason::Undecided);
}
