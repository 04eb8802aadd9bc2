//! Jobs among machines that are lost, lie or fail at random: whatever happens, money is conserved, every hold closes to
//! the last unit, honest machines are never suspended, and a settled job has the bits it must have.
#![allow(clippy::unwrap_used)]

mod common;
mod sim;

use matrixai_protocol::{philox::Draw, sha256};
use matrixai_state::jobs::{JobState, Standing};
use sim::{Habits, jobs::*, reports::spec};
use std::collections::BTreeSet;

/// Coarse, because a hundred simulated minutes pass here.
const STEP_MS: u64 = 200;

/// One habit in ten is bad; the machine that has it is no longer honest.
fn habits(draw: &mut Draw) -> (Habits, bool) {
    let mut bad = || draw.below(10) == 0;
    let lies = Habits { lie_delta: bad(), lie_trace: bad(), lie_reduce: bad(), lie_replay: bad(), ..Habits::default() };
    let honest = !(lies.lie_delta || lies.lie_trace || lies.lie_reduce || lies.lie_replay);
    let faults = Habits {
        forge_opening: bad(),
        mute_open: bad(),
        mute_reduce: bad(),
        mute_replay: bad(),
        fail_train: bad(),
        ..lies
    };
    (faults, honest)
}

fn run(seed: u64) -> JobState {
    let mut draw = Draw::new(&sha256(&[b"chaos", &seed.to_le_bytes()]), 0);
    let mut sim = market(&[256_000_000, 128_000_000, 64_000_000, 64_000_000, 32_000_000], 5);
    let mut honest = BTreeSet::new();
    for worker in &mut sim.workers {
        let (habits, is_honest) = habits(&mut draw);
        worker.habits = habits;
        if is_honest {
            honest.insert(worker.id);
        }
    }
    sim.step_ms = STEP_MS;
    // Drilling goes on meanwhile, and liars may sit on any majority: only then can the honest be outvoted.
    sim.campaign(1_000, 3, 3_000);
    let job = sim.submit(3 + draw.below(3) as u32, spec(12, 3, 4), 200);
    while !sim.job(job).state.closed() {
        sim.run_for(1_000);
        let name = format!("m{}", 1 + draw.below(5));
        let up = sim.worker(&name).up;
        match draw.below(12) {
            0 if up => sim.kill(&name),
            1..=3 if !up => sim.revive(&name),
            _ => {}
        }
    }
    let row = sim.job(job).clone();
    let outvoted = row.members.iter().filter(|member| !honest.contains(&member.machine)).count() >= 2;
    for member in &row.members {
        let machine = sim.world.state.machine(member.machine).unwrap();
        assert!(machine.slot.is_none_or(|slot| matches!(slot.lease, matrixai_state::machines::Lease::Drill { .. })));
        if honest.contains(&member.machine) && !outvoted {
            assert!(member.standing != Standing::Guilty && !machine.suspended, "seed {seed}: {}", row.reason);
        }
    }
    if row.state == JobState::Settled && !outvoted {
        assert_eq!(models(&sim, job), expected_models(12, 3), "seed {seed}");
    }
    let hold = sim.world.state.hold(job).unwrap();
    assert_eq!(hold.held.units(), hold.paid.units() + hold.fees.units() + hold.refunded.units());
    assert!(!hold.open && (row.state == JobState::Settled || hold.paid.is_zero()));
    row.state
}

#[test]
fn whatever_happens_the_books_close() {
    let ends: Vec<JobState> = (0..8).map(run).collect();
    assert!(ends.contains(&JobState::Settled), "{ends:?}");
}

#[test]
fn whatever_else_happens_the_books_close() {
    let ends: Vec<JobState> = (8..14).map(run).collect();
    assert!(ends.contains(&JobState::Rejected), "{ends:?}");
}
