//! Every verb by hand, each part in a folder of its own, everything over TLS, and what is refused.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::Cluster;
use std::{os::unix::fs::PermissionsExt as _, process::Command};

#[test]
fn a_job_by_hand_and_what_is_refused() {
    let mut cluster = Cluster::found_with_tls();
    cluster.add_workers(&["0.5", "0.5", "0.5"]);
    let job = cluster.submit(3, 60, 3);
    let id = hex::encode(&job);
    let settled = cluster.follow(&job, "the job settles though its source data are gone", |job| job.state == "settled");
    assert_eq!(settled.proof.as_ref().unwrap().verdict, "accepted");
    for replay in &settled.proof.as_ref().unwrap().replayed {
        assert_ne!(replay.prover, replay.verifier);
        assert_eq!(replay.state, "equal");
    }

    // What people and scripts ask afterwards.
    let receipt = cluster.run(&["job", "result", &id, "--model", "model.safetensors"]);
    assert_eq!(receipt["state"], "settled");
    assert_eq!(receipt["shares"].as_array().unwrap().len(), 3);
    let model = std::fs::read(cluster.home.path().join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(model[..8].try_into().unwrap()) as usize;
    assert!(String::from_utf8_lossy(&model[8..8 + header]).contains("layers.0.weight"));
    assert_eq!(cluster.run(&["job", "verify", &id])["equal"], true);
    assert!(cluster.run(&["account", "statement", "--key", "buyer.key"]).as_array().unwrap().len() >= 3);
    assert_eq!(cluster.run(&["market", "history"]).as_array().unwrap().len(), 3);
    let drilling = cluster.run(&["drill", "status"]);
    let unit = drilling["units"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(cluster.run(&["drill", "explain", &unit])["replicas"].as_array().unwrap().len(), 3);
    cluster.run(&["audit", "export", "--out", "export"]);
    assert!(cluster.home.path().join("export/log.jsonl").exists());

    // An artifact there and back.
    std::fs::write(cluster.home.path().join("note.txt"), "some bytes").unwrap();
    let hash =
        cluster.run(&["artifact", "put", "note.txt", "--key", "buyer.key"])["sha256"].as_str().unwrap().to_owned();
    cluster.run(&["artifact", "get", &hash, "--to", "again.txt"]);
    assert_eq!(std::fs::read(cluster.home.path().join("again.txt")).unwrap(), b"some bytes");

    two_phases(&cluster);
    payments(&cluster);
    renting(&cluster);
    refusals(&cluster);
    strangers(&cluster);
    cluster.assert_conserved();
}

/// Money held for another account, which takes a part and lets the next go.
fn two_phases(cluster: &Cluster) {
    let trainer = cluster.run(&["account", "show", "--key", "trainer-1.key"])["account"].as_str().unwrap().to_owned();
    let hold = |amount: &str| {
        let held = cluster.run(&["account", "hold", &trainer, amount, "--memo", "deposit", "--key", "buyer.key"]);
        held["id"].as_str().unwrap().to_owned()
    };
    let (first, second) = (hold("2"), hold("3"));
    let open = cluster.run(&["account", "holds", "--key", "trainer-1.key"]);
    let amounts: Vec<_> = open.as_array().unwrap().iter().map(|row| (&row["hold"], &row["amount"])).collect();
    assert!(amounts.len() == 2 && amounts.contains(&(&first.as_str().into(), &"2".into())), "{open}");
    cluster.run(&["account", "post", &first, "1.5", "--key", "trainer-1.key"]);
    cluster.run(&["account", "void", &second, "--key", "trainer-1.key"]);
    assert!(cluster.run(&["account", "holds", "--key", "buyer.key"]).as_array().unwrap().is_empty());
    let statement = cluster.run(&["account", "statement", "--key", "trainer-1.key", "--limit", "1"]);
    let line = &statement[0];
    assert_eq!((&line["cause"], &line["memo"]), (&"hold_posted".into(), &"deposit".into()), "{line}");
    assert_eq!((&line["balance_change"], &line["hold"]), (&"1.5".into(), &first.as_str().into()), "{line}");
}

/// A file of payments is paid as a whole or not at all.
fn payments(cluster: &Cluster) {
    let account = |key: &str| cluster.run(&["account", "show", "--key", key]);
    let id = |key: &str| account(key)["account"].as_str().unwrap().to_owned();
    let (first, second) = (id("trainer-1.key"), id("trainer-2.key"));
    let write = |text: String| std::fs::write(cluster.home.path().join("payments"), text).unwrap();
    let before = (account("buyer.key"), account("trainer-1.key"));
    write(format!("# payments\n{first}, 1, rent\n\n{},2\n{second},3\n", "00".repeat(20)));
    let (ended, said) = cluster.attempt(&["account", "pay", "payments", "--key", "buyer.key"]).unwrap_err();
    assert_eq!(ended, 1, "{said}");
    assert!(said.contains("payments:4: refused (unknown_account)") && said.contains("nothing was paid"), "{said}");
    assert_eq!((account("buyer.key"), account("trainer-1.key")), before);
    write(format!("{first}, 1, rent\n{second}, 0.25"));
    let paid = cluster.run(&["account", "pay", "payments", "--key", "buyer.key"]);
    assert_eq!((&paid["payments"], &paid["total"]), (&2.into(), &"1.25".into()), "{paid}");
    let line = &cluster.run(&["account", "statement", "--key", "trainer-1.key", "--limit", "1"])[0];
    assert_eq!((&line["balance_change"], &line["memo"]), (&"1".into(), &"rent".into()), "{line}");
}

/// Machines rented by the hour: an order that waits and is taken back, one that names an offer, and what is paid at its end.
fn renting(cluster: &Cluster) {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let order = |args: &[&str]| {
        let place = ["order", "place", "--key", "buyer.key"];
        text(&cluster.run(&[&place[..], args].concat())["id"])
    };
    let listed = || cluster.run(&["order", "list", "--all", "--key", "buyer.key"]);
    let waiting = order(&["--machines", "2", "--price", "0.000000001", "--total", "1", "--where", "cores >= 1"]);
    assert_eq!(cluster.run(&["market", "book"])["orders"][0]["order"], waiting.as_str());
    cluster.run(&["order", "amend", &waiting, "--total", "2", "--machines", "3", "--key", "buyer.key"]);
    let found = listed()["orders"][0].clone();
    assert_eq!((&found["total_limit"], &found["least"]), (&"2".into(), &3.into()), "{found}");
    cluster.run(&["order", "cancel", &waiting, "--key", "buyer.key"]);
    assert_eq!(listed()["orders"].as_array().unwrap().len(), 0);

    let offer = text(&cluster.run(&["market", "book"])["offers"][0]["offer"]);
    let cheapest =
        &cluster.run(&["market", "list", "--sort", "price", "--per-page", "1", "--where", "speed.fgemm > 0"])[0];
    assert_eq!(
        (&cheapest["offer"], cheapest["price_of_speed"].is_string()),
        (&offer.as_str().into(), true),
        "{cheapest}"
    );
    assert_eq!(cluster.run(&["market", "list", "--region", "nowhere"]).as_array().unwrap().len(), 0);
    let like = cluster.run(&["offer", "suggest", cheapest["machine"].as_str().unwrap()]);
    assert!(like["fgemm_ops_per_s"].as_u64().unwrap() > 0 && like["asked"]["count"].is_u64(), "{like}");
    let taken = order(&["--offer", &offer, "--price", "100", "--total", "5", "--seconds", "600"]);
    cluster.until("its machine has begun", |_| listed()["agreements"][0]["started_ms"].as_u64() > Some(0));
    let agreement = listed()["agreements"][0].clone();
    assert_eq!((&agreement["order"], &agreement["closed"]), (&taken.as_str().into(), &"".into()), "{agreement}");
    let owners = ["trainer-1.key", "trainer-2.key", "trainer-3.key"];
    let account = |key: &str| cluster.run(&["account", "show", "--key", key])["account"].clone();
    let owner = owners.into_iter().find(|key| account(key) == agreement["seller"]).unwrap();
    cluster.run(&["offer", "amend", &offer, "--price", "0.7", "--key", owner]);
    cluster.run(&["order", "end", agreement["agreement"].as_str().unwrap(), "--key", "buyer.key"]);
    let closed = listed()["agreements"][0].clone();
    assert_eq!((&closed["closed"], &closed["held"]), (&"buyer".into(), &agreement["held"]), "{closed}");
    let earned = &cluster.run(&["account", "statement", "--key", owner, "--limit", "1"])[0];
    assert_eq!((&earned["cause"], &earned["balance_change"]), (&"pay_rent".into(), &closed["earned"]), "{earned}");
    let offers = cluster.run(&["offer", "list"]);
    let again = offers.as_array().unwrap().iter().find(|row| row["offer"] == offer.as_str()).unwrap();
    assert_eq!((&again["status"], &again["price_per_hour"]), (&"open".into(), &"0.7".into()));
}

/// What is refused says so by name and ends with the exit code for it; nothing changes.
fn refusals(cluster: &Cluster) {
    let before = cluster.run(&["account", "list"])["accounts"].clone();
    let machine = cluster.workers[0].text("machine");
    let stranger = "00".repeat(20);
    let cases: [(&[&str], i32, &str); 11] = [
        (&["account", "transfer", &stranger, "1", "--key", "buyer.key"], 1, "unknown_account"),
        (&["account", "transfer", &stranger, "0.0000000001", "--key", "buyer.key"], 2, "no amount"),
        (&["account", "transfer", "zz", "1", "--key", "buyer.key"], 2, "no id"),
        (&["account", "hold", &stranger, "1", "--key", "buyer.key"], 1, "unknown_account"),
        (&["account", "post", &stranger, "--key", "buyer.key"], 1, "unknown_hold"),
        (&["faucet", "100000", "--key", "buyer.key"], 1, "faucet"),
        (&["offer", "make", &machine, "--price", "0", "--key", "trainer-1.key"], 1, "zero_price"),
        (&["offer", "make", &machine, "--price", "1", "--max-s", "0", "--key", "trainer-1.key"], 1, "duration"),
        (&["offer", "make", &machine, "--price", "1", "--key", "buyer.key"], 1, "not_your_machine"),
        (&["drill", "publish", "fgemm", "64,64,64,1", "--key", "buyer.key"], 1, "not_admin"),
        (&["job", "status", &stranger], 1, "NotFound"),
    ];
    for (args, code, word) in cases {
        let (ended, said) = cluster.attempt(args).unwrap_err();
        assert_eq!(ended, code, "{args:?} said: {said}");
        assert!(said.contains(word), "{args:?} said: {said}");
    }
    assert_eq!(cluster.run(&["account", "list"])["accounts"], before);
}

/// Who does not trust the cluster's CA, or speaks plaintext, reaches nobody; certificates are never replaced.
fn strangers(cluster: &Cluster) {
    let outside = Command::new(env!("CARGO_BIN_EXE_matrixai"))
        .args(["account", "list", "--cluster", "192.0.2.1:7600"])
        .env_remove("MATRIXAI_TLS_CA")
        .output()
        .unwrap();
    assert_eq!(outside.status.code(), Some(2), "plaintext to another machine is wrong usage");
    assert!(String::from_utf8_lossy(&outside.stderr).contains("--tls-ca"), "{outside:?}");
    let exposed = Command::new(env!("CARGO_BIN_EXE_matrixai"))
        .args(["coordinator", "--data", "exposed", "--grpc", "0.0.0.0:0", "--web", "127.0.0.1:0"])
        .current_dir(cluster.home.path())
        .output()
        .unwrap();
    assert_eq!(exposed.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&exposed.stderr).contains("needs TLS"), "{exposed:?}");

    let before = std::fs::read(cluster.home.path().join("certs/ca.key")).unwrap();
    let (code, said) = cluster.attempt(&["certs", "ca"]).unwrap_err();
    assert!(code == 4 && said.contains("not replaced"), "{said}");
    assert_eq!(std::fs::read(cluster.home.path().join("certs/ca.key")).unwrap(), before);
    let mode = std::fs::metadata(cluster.home.path().join("certs/ca.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = cluster.coordinators[0].text("node_key");
    std::fs::create_dir(cluster.home.path().join("mixed")).unwrap();
    cluster.run(&["certs", "ca", "--dir", "other"]);
    std::fs::copy(cluster.home.path().join("certs/ca.pem"), cluster.home.path().join("mixed/ca.pem")).unwrap();
    std::fs::copy(cluster.home.path().join("other/ca.key"), cluster.home.path().join("mixed/ca.key")).unwrap();
    let (code, said) = cluster.attempt(&["certs", "node", &key, "--host", "127.0.0.1", "--dir", "mixed"]).unwrap_err();
    assert!(code == 2 && said.contains("cannot be used"), "{said}");
    assert_eq!(std::fs::read_dir(cluster.home.path().join("mixed")).unwrap().count(), 2, "nothing is left behind");
}
