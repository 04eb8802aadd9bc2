//! Scenarios: tables of commands with the outcomes they must have (the language is in `common/language.rs`).
#![allow(clippy::unwrap_used)]

mod common;

use common::language;

/// A test per file, and one list of them all.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            language::run(stringify!($name), include_str!(concat!("scenarios/", stringify!($name), ".txt")));
        })*

        const ALL: &[(&str, &str)] =
            &[$((stringify!($name), include_str!(concat!("scenarios/", stringify!($name), ".txt")))),*];
    };
}

scenarios![
    accounts,
    agreements,
    administration,
    beacon,
    campaigns,
    drilling,
    economy,
    economy_absent,
    economy_burn,
    envelopes,
    faucet,
    faucet_absent,
    jobs,
    keys,
    lifecycle,
    limits,
    linked,
    locked,
    machines,
    membership,
    minimum_balance,
    offers,
    orders,
    payouts,
    rejected,
    reliability,
    roots,
    rules,
    standalone,
    suspension,
    two_phase,
];

/// Refusals that no scenario can show in a few lines, and the test that does.
const SHOWN_ELSEWHERE: &[&str] = &[
    // properties.rs: a_full_window_refuses, an_account_has_only_so_many_machines
    "window_full",
    // properties.rs: an_account_changes_its_key_only_so_often
    "too_many_keys",
    // properties.rs: an_entry_takes_only_so_many_linked_envelopes
    "too_many_linked",
    "too_many_machines",
    // administration.rs: a_cluster_has_only_so_many_nodes
    "too_many_nodes",
    // administration.rs: the_next_rules_keep_dead_offers_out_of_the_book, in builds that know them
    "not_ready",
];

#[test]
fn every_refusal_is_shown_by_a_scenario() {
    let met: std::collections::BTreeSet<_> =
        ALL.iter().flat_map(|(name, text)| language::run(name, text)).chain(SHOWN_ELSEWHERE.iter().copied()).collect();
    let missing: Vec<_> = language::all_refusals().difference(&met).copied().collect();
    assert!(missing.is_empty(), "no scenario shows {missing:?}");
}
