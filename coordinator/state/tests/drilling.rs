//! Drilling from publication to verdict, with machines that are honest, slow, silent, lost or lying.
#![allow(clippy::unwrap_used)]

mod common;
mod sim;

use common::key;
use matrixai_proto::v1::{self, command::Kind};
use matrixai_protocol::{beacon, drilling::Kernel, sha256, vrf};
use matrixai_state::{
    Outcome, Task,
    drilling::{ReplicaState, UnitRow, UnitState},
    ids::{CampaignId, UnitId},
};
use sim::{
    Sim,
    jobs::name,
    reports::{commit, digest, reveal},
};
use std::collections::BTreeSet;

fn units(sim: &Sim, campaign: CampaignId) -> Vec<UnitRow> {
    sim.world.state.units().filter(|unit| unit.campaign == campaign).cloned().collect()
}

fn unit(sim: &Sim, id: UnitId) -> &UnitRow {
    sim.world.state.unit(id).unwrap()
}

/// Runs until a campaign's first unit is drawn and returns it.
fn drawn(sim: &mut Sim, campaign: CampaignId) -> UnitId {
    sim.until("a unit is drawn", |sim| !units(sim, campaign).is_empty());
    units(sim, campaign)[0].id
}

fn decided(sim: &mut Sim, unit: UnitId) -> UnitState {
    sim.until("the unit is decided", |sim| sim.world.state.unit(unit).unwrap().state.decided());
    sim.world.state.unit(unit).unwrap().state
}

#[test]
fn honest_machines_are_credited_alike_and_measured_apart() {
    let mut sim = Sim::new(&[64_000_000, 32_000_000, 16_000_000]);
    let campaign = sim.campaign(6, 3, 0);
    sim.until("five units are accepted", |sim| sim.world.state.campaign(campaign).unwrap().accepted == 5);
    sim.until("all are", |sim| sim.world.state.campaign(campaign).unwrap().accepted == 6);
    for (machine, speed) in [("m1", 64_000_000u64), ("m2", 32_000_000), ("m3", 16_000_000)] {
        let power = sim.world.state.power(sim.world.machine(machine)).unwrap();
        let credit = units(&sim, campaign)[0].workload.credit_micro_ut();
        assert_eq!(power.drilling_micro_ut, 6 * credit, "credit does not depend on speed");
        assert_eq!((power.units_drawn, power.units_accepted, power.consecutive_valid), (6, 6, 6));
        let measured = sim.fgemm(machine).unwrap();
        assert!(measured.abs_diff(speed) < speed / 10, "{machine}: {measured} for {speed}");
        assert_eq!(power.speeds[&Kernel::Fgemm].verified, 6);
    }
    assert!(sim.refused.is_empty(), "{:?}", sim.refused);
    assert_eq!(sim.count("unit.accepted"), 6);
    sim.world.finish();
}

#[test]
fn a_quorum_has_distinct_owners_and_is_drawn_by_the_second_beat_after() {
    let mut sim = Sim::new(&[64_000_000, 64_000_000]);
    sim.join_as("m3", "t1", 64_000_000);
    let before = sim.world.state.beacon().0;
    let campaign = sim.campaign(4, 2, 0);
    let first = drawn(&mut sim, campaign);
    assert_eq!(unit(&sim, first).beat, before + 2);
    assert_eq!(unit(&sim, first).beacon, sim.world.state.beacon().1);
    for unit in units(&sim, campaign) {
        let owners: BTreeSet<_> = unit.replicas.iter().map(|replica| replica.owner).collect();
        assert_eq!((unit.replicas.len(), owners.len()), (2, 2));
    }
    // Three owners are wanted and two are there: nothing is drawn.
    let hopeless = sim.campaign(1, 3, 0);
    sim.run_for(5_000);
    assert!(units(&sim, hopeless).is_empty());
}

#[test]
fn draws_keep_their_interval() {
    let mut sim = Sim::new(&[64_000_000, 64_000_000]);
    let campaign = sim.campaign(3, 2, 4_000);
    sim.until("all are drawn", |sim| sim.world.state.campaign(campaign).unwrap().drawn == 3);
    let mut times: Vec<u64> = units(&sim, campaign).iter().map(|unit| unit.replicas[0].drawn_ms).collect();
    times.sort_unstable();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 4_000), "{times:?}");
}

#[test]
fn one_liar_costs_everyone_the_credit_and_shows_no_digest_before() {
    let mut sim = Sim::new(&[64_000_000, 32_000_000, 16_000_000]);
    sim.habits("m2").lie_drill = true;
    let campaign = sim.campaign(1, 3, 0);
    let id = drawn(&mut sim, campaign);
    sim.until("one has revealed", |sim| {
        unit(sim, id).replicas.iter().any(|replica| replica.state == ReplicaState::Revealed)
    });
    let row = unit(&sim, id);
    assert!(row.state.decided() || row.replicas.iter().all(|replica| row.digest_hash(replica).is_none()));
    assert_eq!(decided(&mut sim, id), UnitState::Rejected);
    let row = unit(&sim, id);
    assert_eq!(row.credit_micro_ut(), 0);
    assert!(row.replicas.iter().all(|replica| row.digest_hash(replica).is_some()));
    for machine in ["m1", "m2", "m3"] {
        let power = sim.world.state.power(sim.world.machine(machine)).unwrap();
        assert_eq!((power.drilling_micro_ut, power.units_lost), (0, 1));
        assert!(power.speeds.is_empty(), "an unverified time measures nothing");
    }
    sim.world.finish();
}

#[test]
fn one_slot_one_lease() {
    let mut sim = Sim::new(&[64_000_000, 64_000_000]);
    let campaign = sim.campaign(5, 2, 0);
    drawn(&mut sim, campaign);
    let machine = sim.world.machine("m1");
    for _ in 0..200 {
        sim.step();
        let leased = units(&sim, campaign)
            .iter()
            .flat_map(|unit| unit.replicas.clone())
            .filter(|replica| replica.machine == machine && replica.state == ReplicaState::Leased)
            .count();
        let owed = sim.world.state.owed(machine);
        let slots = owed.iter().filter(|assignment| matches!(assignment.task, Task::Drill { .. })).count();
        assert_eq!(leased, slots);
        assert!(slots <= 1);
    }
    assert_eq!(sim.world.state.campaign(campaign).unwrap().accepted, 5);
}

/// Two machines, one unit, driven by hand: returns the unit with both leases granted.
fn by_hand() -> (Sim, UnitId) {
    let mut sim = Sim::new(&[1, 1]);
    let campaign = sim.campaign(1, 2, 0);
    let unit = drawn(&mut sim, campaign);
    (sim, unit)
}

#[test]
fn reports_are_idempotent_and_everything_else_has_a_name() {
    let (mut sim, id) = by_hand();
    let right = digest(&sim.world.state, id);
    let attempt = |sim: &Sim, machine: &str| {
        let machine = sim.world.machine(machine);
        unit(sim, id).replicas.iter().find(|replica| replica.machine == machine).unwrap().attempt
    };
    let (one, two) = (attempt(&sim, "m1"), attempt(&sim, "m2"));
    sim.join(1);
    let nothing = UnitId([1; 20]);
    assert_eq!(name(sim.say("m1", commit("m1", nothing, 1, &right))), "unknown_unit");
    assert_eq!(name(sim.say("m3", commit("m3", id, 1, &right))), "not_a_member");
    assert_eq!(name(sim.say("m1", commit("m1", id, one + 7, &right))), "stale_attempt");
    assert_eq!(name(sim.say("m1", reveal("m1", id, &right))), "too_early");
    assert_eq!(name(sim.say("m1", commit("m1", id, one, &right))), "done");
    assert_eq!(name(sim.say("m1", commit("m1", id, one, &right))), "done");
    assert_eq!(name(sim.say("m1", commit("m1", id, one, &[9; 32]))), "already_committed");
    assert_eq!(name(sim.say("m1", reveal("m1", id, &right))), "too_early");
    // A copied commitment is accepted, and cannot be opened: the machine's key is inside.
    assert_eq!(name(sim.say("m2", commit("m1", id, two, &right))), "done");
    assert_eq!(unit(&sim, id).state, UnitState::Revealing);
    assert_eq!(name(sim.say("m1", reveal("m1", id, &[9; 32]))), "wrong_reveal");
    assert_eq!(name(sim.say("m1", reveal("m1", id, &right))), "done");
    assert_eq!(name(sim.say("m1", reveal("m1", id, &right))), "done");
    assert_eq!(name(sim.say("m1", reveal("m1", id, &[9; 32]))), "already_revealed");
    assert_eq!(name(sim.say("m2", reveal("m1", id, &right))), "wrong_reveal");
    assert_eq!(name(sim.say("m2", reveal("m2", id, &right))), "wrong_reveal");
    assert!(!unit(&sim, id).state.decided());
    // One revealed alone after the time is over: nobody to agree with.
    sim.world.now_ms += 20_000;
    sim.world.tick();
    assert_eq!(unit(&sim, id).state, UnitState::Void);
    assert_eq!(name(sim.say("m2", reveal("m2", id, &right))), "unit_closed");
    assert_eq!(name(sim.say("m1", reveal("m1", id, &right))), "done");
    assert!(sim.world.state.owed(sim.world.machine("m2")).is_empty());
}

#[test]
fn a_waiting_drill_cannot_be_reported() {
    let mut sim = Sim::new(&[1, 1]);
    let campaign = sim.campaign(2, 2, 0);
    sim.until("both are drawn", |sim| units(sim, campaign).len() == 2);
    let machine = sim.world.machine("m1");
    let waiting = units(&sim, campaign)
        .into_iter()
        .find(|unit| unit.replicas.iter().any(|r| r.machine == machine && r.state == ReplicaState::Waiting))
        .unwrap();
    let attempt = waiting.replicas.iter().find(|replica| replica.machine == machine).unwrap().attempt;
    assert_eq!(name(sim.say("m1", commit("m1", waiting.id, attempt, &[1; 32]))), "not_granted");
}

#[test]
fn a_lost_machine_is_replaced() {
    let mut sim = Sim::new(&[6_400_000, 6_400_000, 6_400_000, 6_400_000]);
    let campaign = sim.campaign(1, 3, 0);
    let id = drawn(&mut sim, campaign);
    let lost = sim.name_of(unit(&sim, id).replicas[0].machine);
    sim.kill(&lost);
    assert_eq!(decided(&mut sim, id), UnitState::Accepted);
    let row = unit(&sim, id);
    assert_eq!(row.replicas.len(), 4);
    assert_eq!(row.replicas[0].state, ReplicaState::Forfeited);
    assert_eq!(row.active().count(), 3, "the others were not spoiled");
    let power = sim.world.state.power(row.replicas[0].machine).unwrap();
    assert_eq!((power.units_accepted, power.units_lost, power.drilling_micro_ut), (0, 1, 0));
    sim.world.finish();
}

#[test]
fn without_a_replacement_two_are_enough_and_one_is_not() {
    let mut sim = Sim::new(&[6_400_000, 6_400_000, 6_400_000]);
    let campaign = sim.campaign(1, 3, 0);
    let id = drawn(&mut sim, campaign);
    sim.kill("m1");
    assert_eq!(decided(&mut sim, id), UnitState::Accepted);
    assert_eq!(unit(&sim, id).quorum, 2);

    let mut sim = Sim::new(&[6_400_000, 6_400_000]);
    let campaign = sim.campaign(1, 2, 0);
    let id = drawn(&mut sim, campaign);
    sim.kill("m1");
    assert_eq!(decided(&mut sim, id), UnitState::Void);
    assert_eq!(sim.world.state.campaign(campaign).unwrap().void, 1);
    let power = sim.world.state.power(sim.world.machine("m2")).unwrap();
    assert_eq!(power.units_lost, 0, "whoever delivered loses nothing");
    sim.world.finish();
}

#[test]
fn a_machine_that_is_back_takes_its_place_again() {
    let mut sim = Sim::new(&[6_400_000, 6_400_000, 6_400_000]);
    let campaign = sim.campaign(1, 3, 0);
    let id = drawn(&mut sim, campaign);
    sim.kill("m1");
    sim.until("it is lost", |sim| sim.count("machine.lost") == 1);
    sim.revive("m1");
    assert_eq!(decided(&mut sim, id), UnitState::Accepted);
    let machine = sim.world.machine("m1");
    let attempts: Vec<u32> =
        unit(&sim, id).replicas.iter().filter(|r| r.machine == machine).map(|r| r.attempt).collect();
    assert_eq!(attempts.len(), 2);
    let stale = commit("m1", id, attempts[0], &digest(&sim.world.state, id));
    assert_eq!(name(sim.say("m1", stale)), "stale_attempt");
}

#[test]
fn a_late_machine_forfeits() {
    let mut sim = Sim::new(&[64_000_000, 64_000_000, 64_000]);
    let campaign = sim.campaign(1, 3, 0);
    let id = drawn(&mut sim, campaign);
    assert_eq!(decided(&mut sim, id), UnitState::Accepted);
    let slow = sim.world.machine("m3");
    assert!(unit(&sim, id).replicas.iter().all(|r| (r.machine == slow) == (r.state == ReplicaState::Forfeited)));
    assert!(sim.world.state.machine(slow).unwrap().slot.is_none(), "its slot is free again");
}

#[test]
fn whoever_does_not_reveal_is_left_out() {
    let mut sim = Sim::new(&[64_000_000, 64_000_000, 64_000_000]);
    sim.habits("m3").mute_reveal = true;
    let campaign = sim.campaign(1, 3, 0);
    let id = drawn(&mut sim, campaign);
    assert_eq!(decided(&mut sim, id), UnitState::Accepted);
    let power = |machine: &str| sim.world.state.power(sim.world.machine(machine)).unwrap();
    assert_eq!((power("m1").units_accepted, power("m3").units_accepted), (1, 0));
    assert_eq!(power("m3").units_lost, 1);
    assert!(sim.world.state.owed(sim.world.machine("m3")).is_empty(), "it is no longer asked");
    sim.world.finish();
}

#[test]
fn a_revoked_machine_is_drawn_no_more() {
    let mut sim = Sim::new(&[64_000_000, 64_000_000, 64_000_000]);
    let revoke = Kind::RevokeMachine(v1::RevokeMachine { machine: sim.world.machine("m2").0.to_vec() });
    assert_eq!(sim.say("t2", revoke), Outcome::DONE);
    sim.workers.remove(1);
    let campaign = sim.campaign(3, 2, 0);
    sim.until("all are accepted", |sim| sim.world.state.campaign(campaign).unwrap().accepted == 3);
    let revoked = sim.world.machine("m2");
    assert!(units(&sim, campaign).iter().all(|unit| unit.replicas.iter().all(|r| r.machine != revoked)));
}

#[test]
fn campaigns_are_checked() {
    let mut sim = Sim::new(&[1]);
    let campaign = |kernel: &str, m: u32, units, redundancy, interval_ms| {
        let params = vec![m, 64, 64, 1, 0, 0, 0, 0];
        Kind::PublishCampaign(v1::PublishCampaign { kernel: kernel.into(), params, units, redundancy, interval_ms })
    };
    assert_eq!(name(sim.say("buyer", campaign("fgemm", 64, 1, 2, 0))), "not_admin");
    assert_eq!(name(sim.say("admin", campaign("sgemm", 64, 1, 2, 0))), "unknown_kernel");
    assert_eq!(name(sim.say("admin", campaign("fgemm", 0, 1, 2, 0))), "bad_params");
    assert_eq!(name(sim.say("admin", campaign("fgemm", 64, 0, 2, 0))), "bad_units");
    assert_eq!(name(sim.say("admin", campaign("fgemm", 64, 10_001, 2, 0))), "bad_units");
    assert_eq!(name(sim.say("admin", campaign("fgemm", 64, 1, 1, 0))), "bad_redundancy");
    assert_eq!(name(sim.say("admin", campaign("fgemm", 64, 1, 8, 0))), "bad_redundancy");
    assert_eq!(name(sim.say("admin", campaign("fgemm", 64, 1, 2, 86_400_001))), "bad_interval");
    for _ in 0..64 {
        assert_eq!(name(sim.say("admin", campaign("fgemm", 64, 1, 2, 0))), "done");
    }
    assert_eq!(name(sim.say("admin", campaign("fgemm", 64, 1, 2, 0))), "too_many_campaigns");
}

#[test]
fn a_beat_must_prove_itself() {
    let mut sim = Sim::new(&[]);
    let beat = |sim: &Sim, nodes: &[u64]| match sim.world.beat_of(nodes) {
        Kind::Beat(beat) => beat,
        other => panic!("{other:?}"),
    };
    let good = beat(&sim, &[1, 3]);
    let late = v1::Beat { number: good.number + 1, ..good.clone() };
    assert_eq!(name(sim.say("n1", Kind::Beat(late))), "wrong_beat");
    let short = beat(&sim, &[2]);
    assert_eq!(name(sim.say("n1", Kind::Beat(short))), "too_few_shares");
    let unordered = beat(&sim, &[3, 1]);
    assert_eq!(name(sim.say("n1", Kind::Beat(unordered))), "bad_share");
    let twice = beat(&sim, &[1, 1]);
    assert_eq!(name(sim.say("n1", Kind::Beat(twice))), "bad_share");
    let stranger = beat(&sim, &[1, 4]);
    assert_eq!(name(sim.say("n1", Kind::Beat(stranger))), "bad_share");
    let mut swapped = beat(&sim, &[1, 2]);
    swapped.shares[1].proof = good.shares[1].proof.clone();
    assert_eq!(name(sim.say("n1", Kind::Beat(swapped))), "bad_share");
    assert_eq!(name(sim.say("buyer", Kind::Beat(good.clone()))), "forbidden");
    let (number, r) = sim.world.state.beacon();
    assert_eq!(name(sim.say("n1", Kind::Beat(good.clone()))), "done");
    // R follows from the shares alone: an auditor computes it again.
    let alpha = beacon::alpha(sim.world.state.cluster_id(), number + 1, &r);
    let betas: Vec<[u8; 64]> = [(1u64, "n1"), (3, "n3")]
        .iter()
        .zip(&good.shares)
        .map(|((_, node), share)| vrf::verify(&key(node), &alpha, &share.proof).unwrap())
        .collect();
    assert_eq!(sim.world.state.beacon(), (number + 1, beacon::next(&r, &betas)));
    assert_eq!(name(sim.say("n1", Kind::Beat(good))), "wrong_beat");
    assert_ne!(sim.world.state.beacon().1, sha256(&[b"r0"]));
}
