//! The matching engine trades as the naive matcher does. (`bench --bin market -- --check 1000000` is the long form.)

use matrixai_bench::market::{Crowd, Fast, Mix, Naive};

/// Every trade of a crowd, command by command; returns how many there were.
fn trades_alike(crowd: Crowd, seed: u64) -> usize {
    let crowd = crowd.record(seed);
    let (mut fast, mut naive) = (Fast::new(&crowd.queries), Naive::new(&crowd.queries));
    let mut traded = 0;
    for (at, command) in crowd.setup.iter().chain(&crowd.stream).enumerate() {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        fast.apply(command, &mut ours);
        naive.apply(command, &mut theirs);
        assert_eq!(ours, theirs, "seed {seed}, command {at}: {command:?}");
        traded += ours.len();
    }
    traded
}

#[test]
fn random_commands_trade_as_by_definition() {
    let crowd = Crowd { mix: Mix::Anything, offers: 12, orders: 8, queries: 0, commands: 400 };
    let traded: usize = (0..25).map(|seed| trades_alike(crowd, seed)).sum();
    assert!(traded > 100, "only {traded} trades");
}

#[test]
fn crowds_that_are_measured_trade_as_by_definition() {
    let queries = Crowd { mix: Mix::Queries, offers: 400, orders: 40, queries: 24, commands: 400 };
    let plain = Crowd { mix: Mix::Plain, offers: 40, orders: 40, queries: 1, commands: 1_000 };
    for crowd in [queries, plain] {
        let traded = trades_alike(crowd, 7);
        assert!(traded > 0, "{crowd:?}: nothing is traded");
    }
}
