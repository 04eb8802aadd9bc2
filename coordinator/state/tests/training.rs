//! Whole trainings from submission to settlement: how they are split, paid, and survive losses.
#![allow(clippy::unwrap_used)]

mod common;
mod sim;

use matrixai_proto::v1::{self, command::Kind};
use matrixai_state::{
    Task,
    closing::CloseReason,
    drilling::ReplicaState,
    ids::JobId,
    jobs::{JobState, Stage, Standing},
    money::{MAI, Money},
};
use sim::{
    COUNTS, Sim,
    jobs::*,
    reports::{self, delta, failure, replayed, round_reduced, spec, task_done, trace, weights},
};

#[test]
fn three_unlike_machines_train_prove_and_are_paid() {
    let mut sim = market(&UNLIKE, 3);
    let job = start(&mut sim, 3, spec(28, 4, 1), JobState::Training);
    assert_eq!(sim.until_closed(job), JobState::Settled);
    assert!(sim.refused.is_empty(), "{:?}", sim.refused);
    let row = sim.job(job).clone();

    assert_eq!(models(&sim, job), expected_models(28, 4));
    assert_eq!((row.accepted, row.rounds_done(), row.reason.as_str()), (Some(true), 4, ""));
    let accuracy = row.accuracy.unwrap();
    assert_eq!((accuracy.first_correct, accuracy.last_correct, accuracy.total), COUNTS);

    // Tasks follow speed within a task or two a round; everyone is paid; prices differ.
    let total: u64 = row.members.iter().map(|member| member.speed_matched).sum();
    for member in &row.members {
        let fair = 28 * 4 * member.speed_matched / total;
        assert!(u64::from(member.tasks).abs_diff(fair) <= 4, "{} of {fair} tasks", member.tasks);
        assert!(member.paid_training > Money::ZERO && member.standing == Standing::Active);
        let rent = member.price_per_hour.rent_paid(member.trained_ms).unwrap();
        assert_eq!(member.paid_training, rent);
        let power = sim.world.state.power(member.machine).unwrap();
        assert_eq!(power.training_micro_ut, u128::from(member.tasks) * row.spec.credit_micro_ut());
    }
    for figure in sim.world.state.rounds_of(job).take(4) {
        assert_eq!(figure.shares.iter().map(|share| share.tasks).sum::<u32>(), 28);
    }
    check_escrow(&sim, job);
    check_chain(&sim, job);
    check_replays(&sim, job);
    for kind in ["job.submitted", "job.matched", "job.seeded", "job.committed", "job.challenged", "job.settled"] {
        assert_eq!(sim.count(kind), 1, "{kind}");
    }
    assert_eq!(sim.count("job.round"), 5);
    assert!(sim.workers.iter().all(|worker| sim.world.state.owed(worker.id).is_empty()));
    assert_eq!(sim.world.state.open_offers().count(), 3, "the machines are for rent again");
}

#[test]
fn four_machines_and_an_outside_verifier() {
    let mut sim = market(&[256_000_000, 128_000_000, 64_000_000, 64_000_000], 3);
    let job = start(&mut sim, 3, spec(12, 2, 3), JobState::Training);
    sim.offer("m4", 5);
    assert_eq!(sim.until_closed(job), JobState::Settled);
    let outsider = sim.world.machine("m4");
    assert!(sim.world.state.replays_of(job).all(|replay| replay.verifier == Some(outsider)));
    let paid = sim.job(job).outsiders[0].clone();
    assert_eq!((paid.machine, sim.job(job).outsiders.len()), (outsider, 1));
    assert_eq!(paid.paid, paid.price_per_hour.rent_paid(paid.verified_ms).unwrap());
    assert_eq!(sim.balance("t4"), paid.paid);
    check_escrow(&sim, job);

    let mut sim = market(&[256_000_000, 128_000_000, 64_000_000, 32_000_000], 4);
    let job = start(&mut sim, 4, spec(16, 2, 1), JobState::Training);
    assert_eq!(sim.until_closed(job), JobState::Settled);
    assert_eq!(models(&sim, job), expected_models(16, 2), "the machines leave no trace in the bits");
    check_escrow(&sim, job);
}

#[test]
fn a_machine_lost_in_mid_round_costs_no_bits() {
    let mut sim = market(&UNLIKE, 3);
    let job = start(&mut sim, 3, spec(28, 4, 1), JobState::Training);
    mid_round(&mut sim, job, 1);
    let lost = sim.world.machine("m1");
    let done_before: Vec<u32> =
        sim.world.state.tasks_of(job, 1).filter(|(_, task)| task.machine == lost).map(|(v, _)| v).collect();
    sim.kill("m1");
    sim.until("it is lost", |sim| sim.standing(job, "m1") == Standing::Lost);
    sim.until("the round closes", |sim| sim.job(job).rounds_done() == 2);
    let tasks: Vec<_> = sim.world.state.tasks_of(job, 1).collect();
    assert_eq!(tasks.len(), 28);
    for (worker, task) in tasks {
        assert_eq!(task.machine == lost, done_before.contains(&worker), "what was done stays, the rest moved");
    }
    sim.revive("m1");
    sim.until("it is in again", |sim| sim.standing(job, "m1") == Standing::Active);
    assert_eq!(sim.until_closed(job), JobState::Settled);
    assert_eq!(models(&sim, job), expected_models(28, 4));
    let shares: Vec<u32> = sim.world.state.rounds_of(job).map(|f| f.shares.iter().map(|s| s.tasks).sum()).collect();
    assert_eq!(shares, [28, 28, 28, 28, 0]);
    check_chain(&sim, job);
    check_escrow(&sim, job);
}

#[test]
fn reports_under_an_old_attempt_are_stale_and_repeated_ones_done() {
    let mut sim = market(&UNLIKE, 3);
    let job = start(&mut sim, 3, spec(28, 2, 1), JobState::Training);
    mid_round(&mut sim, job, 0);
    let (round, attempt, left) = train_lease(&sim, "m1").unwrap();
    let start = weights(&sim.world.state, job, 0);
    let right = |v: u32| (delta(round, v, &start), trace(round, v, &start));
    let done = |v: u32, attempt: u32| {
        let (delta, trace) = right(v);
        task_done("m1", job, (round, v, attempt), delta, trace)
    };
    let first = left[0];
    assert_eq!(name(sim.say("m1", done(first, attempt + 50))), "stale_attempt");
    assert_eq!(name(sim.say("m1", done(first, attempt))), "done");
    let before = sim.world.state.root();
    assert_eq!(name(sim.say("m1", done(first, attempt))), "done");
    let tasks = sim.job(job).tasks_done;
    assert_eq!(tasks as usize, sim.world.state.tasks_of(job, round).count(), "counted once");
    assert_ne!(before, [0; 32]);
    let other = task_done("m1", job, (round, first, attempt), [9; 32], [9; 32]);
    assert_eq!(name(sim.say("m1", other)), "already_done");
    let theirs = train_lease(&sim, "m2").unwrap().2[0];
    assert_eq!(name(sim.say("m1", done(theirs, attempt))), "bad_virtual_worker");
    assert_eq!(name(sim.say("m1", task_done("m1", job, (1, first, attempt), [1; 32], [1; 32]))), "wrong_round");
    assert_eq!(name(sim.say("m1", task_done("m1", JobId([3; 20]), (0, 0, 1), [1; 32], [1; 32]))), "unknown_job");
    assert_eq!(name(sim.say("m1", replayed(job, 0, 1, [1; 32], [1; 32], COUNTS))), "unknown_segment");

    // Lost and back: its old lease is fenced off.
    sim.kill("m1");
    sim.until("it is lost", |sim| sim.standing(job, "m1") == Standing::Lost);
    assert!(sim.job(job).state == JobState::Training && sim.job(job).round == 0);
    let id = sim.world.machine("m1");
    let online = v1::MachineOnline { machine: id.0.to_vec(), round_trip_us: 1 };
    sim.say("n1", Kind::MachineOnline(online));
    assert_eq!(name(sim.say("m1", done(left[1], attempt))), "stale_attempt");
    assert_eq!(name(sim.say("m1", done(first, attempt))), "done", "what it did before stands");
    assert_eq!(name(sim.say("m1", failure(job, attempt, "internal"))), "stale_attempt");
    sim.worker("m1").up = true;
    assert_eq!(sim.until_closed(job), JobState::Settled);
    assert_eq!(name(sim.say("m1", done(left[2], attempt + 99))), "stale_attempt");
    assert_eq!(name(sim.say("m1", failure(job, attempt, "internal"))), "job_closed");
    check_escrow(&sim, job);
}

#[test]
fn a_member_that_does_not_reduce_is_left_out_of_the_round() {
    let mut sim = market(&UNLIKE, 3);
    sim.habits("m3").mute_reduce = true;
    let job = start(&mut sim, 3, spec(6, 1, 1), JobState::Training);
    sim.until("the first model is there", |sim| sim.job(job).stage == Stage::Computing);
    assert_eq!(sim.job(job).members.iter().map(|member| member.failures).sum::<u32>(), 1);
    assert_eq!(sim.until_closed(job), JobState::Settled);
    check_escrow(&sim, job);
}

#[test]
fn reductions_have_names_for_everything() {
    let mut sim = market(&UNLIKE, 3);
    let job = start(&mut sim, 3, spec(6, 2, 1), JobState::Seeding);
    let first = reports::reduced(&None, &[]);
    let made = |round, weights| round_reduced(job, round, weights, first.1);
    assert_eq!(name(sim.say("m1", made(0, first.0))), "wrong_state");
    sim.workers.iter_mut().for_each(|worker| worker.habits.mute_reduce = true);
    sim.until("it is seeded", |sim| sim.job(job).state == JobState::Training);
    assert_eq!(name(sim.say("m1", made(1, first.0))), "wrong_round");
    assert_eq!(name(sim.say("m1", made(0, first.0))), "done");
    assert_eq!(name(sim.say("m1", made(0, first.0))), "done");
    assert_eq!(name(sim.say("m1", made(0, [9; 32]))), "already_done");
    assert_eq!(name(sim.say("m1", failure(job, 0, "bad_data"))), "already_done");
    let mut wrong = made(0, first.0);
    if let Kind::RoundReduced(reduced) = &mut wrong {
        reduced.watch_correct = reduced.watch_total + 1;
    }
    assert_eq!(name(sim.say("m2", wrong)), "bad_figures");
    sim.workers.iter_mut().for_each(|worker| worker.habits.mute_reduce = false);
    computing(&mut sim, job, 0);
    assert_eq!(name(sim.say("m1", made(0, first.0))), "done", "it is what was agreed on");
    assert_eq!(name(sim.say("m1", made(0, [9; 32]))), "wrong_round");
    sim.join(64_000);
    assert_eq!(name(sim.say("m4", made(0, first.0))), "not_a_member");
    assert_eq!(sim.until_closed(job), JobState::Settled);
}

#[test]
fn failing_machines_lose_their_tasks_and_at_last_their_place() {
    let mut sim = market(&UNLIKE, 3);
    sim.habits("m1").fail_train = true;
    let job = start(&mut sim, 3, spec(12, 5, 1), JobState::Training);
    assert_eq!(sim.until_closed(job), JobState::Settled);
    assert_eq!(sim.standing(job, "m1"), Standing::Left);
    assert_eq!(sim.count("job.machine_failed"), 3);
    assert_eq!(models(&sim, job), expected_models(12, 5));
    check_escrow(&sim, job);

    let mut sim = market(&[64_000_000, 64_000_000], 2);
    sim.workers.iter_mut().for_each(|worker| worker.habits.fail_train = true);
    let job = sim.submit(2, spec(4, 2, 1), 3_600);
    assert_eq!(sim.until_closed(job), JobState::Failed);
    check_refunded(&sim, job, CloseReason::ProviderLost);
}

#[test]
fn a_silent_machine_loses_its_lease_after_the_deadline() {
    let mut sim = market(&UNLIKE, 3);
    sim.habits("m1").mute_train = true;
    let job = start(&mut sim, 3, spec(12, 1, 1), JobState::Training);
    assert_eq!(sim.until_closed(job), JobState::Settled);
    let silent = sim.world.machine("m1");
    assert!(sim.world.state.tasks_of(job, 0).all(|(_, task)| task.machine != silent));
    assert_eq!(
        sim.balance("t1").units(),
        sim.job(job).members.iter().find(|m| m.machine == silent).unwrap().paid().units()
    );
    check_escrow(&sim, job);
}

#[test]
fn all_machines_die_and_come_back() {
    let mut sim = market(&UNLIKE, 3);
    let job = start(&mut sim, 3, spec(12, 3, 1), JobState::Training);
    mid_round(&mut sim, job, 1);
    ["m1", "m2", "m3"].iter().for_each(|machine| sim.kill(machine));
    sim.until("all are lost", |sim| sim.count("machine.lost") == 3);
    sim.run_for(60_000);
    assert_eq!(sim.job(job).state, JobState::Training, "it waits");
    sim.revive("m2");
    sim.until("the round closes", |sim| sim.job(job).rounds_done() == 2);
    sim.revive("m1");
    sim.revive("m3");
    assert_eq!(sim.until_closed(job), JobState::Settled);
    assert_eq!(models(&sim, job), expected_models(12, 3));
    check_escrow(&sim, job);
}

#[test]
fn a_job_that_never_matches_expires() {
    let mut sim = market(&UNLIKE, 2);
    let job = sim.submit(3, spec(12, 1, 1), 3_600);
    assert!(sim.job(job).reason.contains("3 machines"));
    assert_eq!(sim.until_closed(job), JobState::Expired);
    assert!(sim.job(job).closed_ms - sim.job(job).submitted_ms < 31_000);
    check_refunded(&sim, job, CloseReason::Expired);
}

#[test]
fn a_job_whose_rent_ends_expires() {
    let mut sim = market(&UNLIKE, 3);
    let job = sim.submit(3, spec(28, 100, 1), 20);
    assert_eq!(sim.until_closed(job), JobState::Expired);
    let row = sim.job(job);
    assert!((20_000..21_000).contains(&(row.closed_ms - row.matched_ms)));
    assert!(row.members.iter().all(|member| member.leases.is_empty()));
    check_refunded(&sim, job, CloseReason::Expired);
    assert!(sim.workers.iter().all(|worker| sim.world.state.owed(worker.id).is_empty()));
}

#[test]
fn owners_cancel_until_the_commit() {
    let cancel = |job: JobId| Kind::CancelJob(v1::CancelJob { job: job.0.to_vec() });
    let mut sim = market(&UNLIKE, 3);
    let job = start(&mut sim, 3, spec(28, 4, 1), JobState::Training);
    mid_round(&mut sim, job, 1);
    assert_eq!(name(sim.say("t1", cancel(job))), "not_your_job");
    assert_eq!(name(sim.say("buyer", cancel(JobId([1; 20])))), "unknown_job");
    assert_eq!(name(sim.say("buyer", cancel(job))), "done");
    assert_eq!(name(sim.say("buyer", cancel(job))), "done");
    assert_eq!(sim.job(job).state, JobState::Cancelled);
    check_refunded(&sim, job, CloseReason::Buyer);
    assert!(sim.workers.iter().all(|worker| sim.world.state.machine(worker.id).unwrap().slot.is_none()));

    // Waiting ones too; then the machines serve the next one.
    sim.join(64_000);
    let waiting = sim.submit(4, spec(4, 1, 1), 60);
    assert_eq!(name(sim.say("buyer", cancel(waiting))), "done");
    let job = start(&mut sim, 3, spec(6, 1, 1), JobState::Challenging);
    assert_eq!(name(sim.say("buyer", cancel(job))), "wrong_state");
    assert_eq!(sim.until_closed(job), JobState::Settled);
    assert_eq!(name(sim.say("buyer", cancel(job))), "job_closed");
    check_escrow(&sim, job);
}

#[test]
fn drills_go_on_at_round_boundaries_and_move_the_split() {
    let mut sim = market(&UNLIKE, 3);
    let drills = sim.campaign(1_000, 3, 1_000);
    let job = start(&mut sim, 3, spec(28, 12, 1), JobState::Training);
    computing(&mut sim, job, 2);
    let fast = sim.world.machine("m1");
    let at = sim.job(job).members.iter().position(|member| member.machine == fast).unwrap();
    let share = |sim: &Sim, round: usize| sim.world.state.rounds_of(job).nth(round).unwrap().shares[at];
    let before = share(&sim, 0);
    // Unannounced, the fast machine becomes a quarter as fast.
    sim.worker("m1").ops_per_s /= 4;
    assert_eq!(sim.until_closed(job), JobState::Settled);
    let after = share(&sim, 11);
    assert!(after.speed < before.speed / 3, "{} from {}", after.speed, before.speed);
    assert!(after.tasks < before.tasks * 2 / 3, "{} from {}", after.tasks, before.tasks);
    assert!(sim.world.state.campaign(drills).unwrap().accepted > 5);
    check_escrow(&sim, job);
}

#[test]
fn submissions_are_checked() {
    let mut sim = market(&UNLIKE, 3);
    let submit = |name: &str, spec: Option<v1::TrainingSpec>, total_mai: u128| {
        let order = v1::OrderTerms {
            machines: 3,
            price_limit: MAI.to_string(),
            total_limit: (total_mai * MAI).to_string(),
            duration_s: 60,
            start_deadline_s: 0,
            query: Default::default(),
        };
        Kind::SubmitTraining(v1::SubmitTraining { name: name.into(), spec, order: Some(order) })
    };
    assert_eq!(name(sim.say("buyer", submit("", Some(spec(4, 1, 1)), 1))), "bad_name");
    assert_eq!(name(sim.say("buyer", submit(&"x".repeat(65), Some(spec(4, 1, 1)), 1))), "bad_name");
    assert_eq!(name(sim.say("buyer", submit("x", Some(spec(0, 1, 1)), 1))), "bad_spec");
    let huge = v1::TrainingSpec { dataset_bytes: 256 << 20, features: 4_096, hidden: vec![4_096; 4], ..spec(4, 1, 1) };
    assert_eq!(name(sim.say("buyer", submit("x", Some(huge), 1))), "no_capable_machine");
    assert_eq!(name(sim.say("buyer", submit("x", Some(spec(4, 1, 1)), 101))), "insufficient_funds");
    assert_eq!(sim.world.state.jobs().count(), 0);
    assert_eq!(sim.balance("buyer").units(), 100 * MAI);
}

#[test]
fn no_drill_is_timed_while_its_machine_owes_a_reduction() {
    let mut sim = market(&UNLIKE, 3);
    let job = start(&mut sim, 3, spec(12, 2, 1), JobState::Training);
    computing(&mut sim, job, 0);
    sim.workers.iter_mut().for_each(|worker| worker.habits.mute_reduce = true);
    sim.until("the round is computed", |sim| sim.job(job).stage == Stage::Reducing);
    let campaign = sim.campaign(1, 3, 0);
    sim.run_for(4_000);
    let states = |sim: &Sim| -> Vec<ReplicaState> {
        let units = sim.world.state.units().filter(|unit| unit.campaign == campaign);
        units.flat_map(|unit| &unit.replicas).map(|replica| replica.state).collect()
    };
    assert_eq!(states(&sim), [ReplicaState::Waiting; 3]);
    assert!(sim.workers.iter().all(|worker| {
        let owed = sim.world.state.owed(worker.id);
        matches!(owed.as_slice(), [assignment] if matches!(assignment.task, Task::Reduce { .. }))
    }));
    sim.workers.iter_mut().for_each(|worker| worker.habits.mute_reduce = false);
    sim.until("the unit is accepted", |sim| sim.world.state.campaign(campaign).unwrap().accepted == 1);
    assert_eq!(sim.until_closed(job), JobState::Settled);
}
