//! What a cluster may be founded with, and the error that each mistake gets.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Founding, key};
use matrixai_proto::v1::{Economy, Genesis, Limits};
use matrixai_state::State;
use prost::Message;

fn error_of(change: impl FnOnce(&mut Genesis)) -> String {
    let mut genesis = Founding::default().wire();
    change(&mut genesis);
    State::genesis(&genesis.encode_to_vec()).expect_err("a bad genesis").to_string()
}

#[test]
fn an_ordinary_genesis_is_read() {
    let state = State::genesis(&Founding::default().wire().encode_to_vec()).unwrap();
    assert_eq!(state.founding().nodes.len(), 3);
    assert_eq!(state.majority(), 2);
    assert_eq!((state.policy().admin_threshold, state.rules_version()), (1, 1));
    assert_eq!(state.index(), 0);
    assert_eq!(state.accounts().count(), 7, "six of the system and one admin");
    state.check_invariants().unwrap();
}

#[test]
fn each_mistake_is_named() {
    let economy = |change: fn(&mut Economy)| {
        let mut economy = Economy { emission: "100".into(), halving_epochs: 3, ..Economy::default() };
        change(&mut economy);
        error_of(|g| g.economy = Some(economy))
    };
    let cases: Vec<(&str, String)> = vec![
        ("economy.emission", economy(|e| e.emission = "x".into())),
        ("economy.emission would exceed", economy(|e| e.emission = "500000000000000000000000000".into())),
        ("and the emission exceed", economy(|e| e.emission = "166666666666666666666666666".into())),
        ("economy.halving_epochs", economy(|e| e.halving_epochs = 0)),
        ("economy.subsidy_bp and campaign_bp", economy(|e| (e.subsidy_bp, e.campaign_bp) = (5_001, 5_000))),
        ("economy.burn_bp", economy(|e| e.burn_bp = 10_001)),
        ("economy.dispute_s", economy(|e| e.dispute_s = 604_801)),
        ("economy.issue_max must be 0", economy(|e| e.issue_max = "1".into())),
        ("economy.issuer has 5 bytes", economy(|e| e.issuer = vec![1; 5])),
        ("genesis names key", economy(|e| e.issuer = key("admin").to_vec())),
        ("genesis has format 2, this version reads format 1", error_of(|g| g.format = 2)),
        ("network", error_of(|g| g.network.clear())),
        ("the number of nodes", error_of(|g| g.nodes.clear())),
        ("a node's id", error_of(|g| g.nodes[0].id = 0)),
        ("genesis names node 2 twice", error_of(|g| g.nodes[0].id = 2)),
        ("genesis names key", error_of(|g| g.nodes[0].key = g.nodes[1].key.clone())),
        ("genesis names key", error_of(|g| g.admin_keys.push(key("admin").to_vec()))),
        ("genesis names key", error_of(|g| g.admin_keys.push(g.nodes[0].key.clone()))),
        ("a node's key has 31 bytes, must have 32", error_of(|g| g.nodes[0].key = vec![0; 31])),
        ("genesis names address 127.0.0.1:1002 twice", error_of(|g| g.nodes[0].grpc = "127.0.0.1:1002".into())),
        ("genesis names address 127.0.0.1:1001 twice", error_of(|g| g.nodes[0].web = "127.0.0.1:1001".into())),
        ("a node's web address", error_of(|g| g.nodes[0].web.clear())),
        ("faucet_daily", error_of(|g| g.faucet_daily = "1.5".into())),
        ("faucet_total", error_of(|g| g.faucet_total = String::new())),
        ("faucet_total must be 0", error_of(|g| g.test_network = false)),
        ("fee_bp", error_of(|g| g.fee_bp = 10_001)),
        ("beat_ms", error_of(|g| g.beat_ms = 0)),
        ("r0", error_of(|g| g.r0.clear())),
        ("machine_timeout_ms", error_of(|g| g.machine_timeout_ms = 0)),
        ("epoch_beats", error_of(|g| g.epoch_beats = 0)),
        ("admin_threshold", error_of(|g| g.admin_threshold = 2)),
        ("minimum_balance", error_of(|g| g.minimum_balance = "-1".into())),
        ("limits", error_of(|g| g.limits = Some(Limits { commands_per_s: 5, ..Limits::default() }))),
    ];
    for (wanted, error) in cases {
        assert!(error.contains(wanted), "{error:?} does not say {wanted:?}");
    }
}

#[test]
fn unknown_fields_are_refused() {
    let mut bytes = Founding::default().wire().encode_to_vec();
    // Field 99, varint 1.
    bytes.extend([0x98, 0x06, 0x01]);
    assert!(State::genesis(&bytes).is_err());
}
