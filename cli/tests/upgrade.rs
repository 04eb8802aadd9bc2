//! A rolling upgrade: three real coordinators go from one build to the next, one after the other, while clients go on. The next
//! rules are switched on by the admins once every voter has announced them, and not before; from then on the build before
//! says that it cannot go on, and does not. Nothing acknowledged is lost, and the states are equal all the while.
//!
//! This test's own build is the next one (`--features next-rules`). MATRIXAI_BEFORE is the path of a `matrixai` without them.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{
    Cluster, DEADLINE, PROGRAM,
    client::{self, Client},
};
use matrixai_proto::v1::{Transfer, command::Kind};
use std::{
    env,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};
use tokio::{sync::watch, time::timeout};

/// Clients under way, and what each has to spend.
const CLIENTS: usize = 3;
const MONEY: u64 = 1_000_000;
const SWITCH: [&str; 5] = ["admin", "rules", "2", "--key", "operator.key"];

/// Pays one minor unit after the other until it is told to stop.
async fn pay(client: &Client, to: &[u8], stop: &AtomicBool, paid: &watch::Sender<u64>) {
    client.open(MONEY).await;
    let one = Transfer { to: to.to_vec(), amount: "1".to_owned(), memo: "upgrade".to_owned(), open: false };
    while !stop.load(Ordering::Relaxed) {
        client.done(vec![Kind::Transfer(one.clone())]).await;
        paid.send_modify(|paid| *paid += 1);
    }
}

/// Clients on a thread of their own, who pay one account.
struct Load {
    to: Vec<u8>,
    stop: Arc<AtomicBool>,
    paid: watch::Receiver<u64>,
    thread: JoinHandle<()>,
}

impl Load {
    fn start(cluster: &Cluster) -> Self {
        let (cluster_id, addresses) = (cluster.id(), cluster.addresses());
        let (stop, (counted, paid)) = (Arc::new(AtomicBool::new(false)), watch::channel(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let to = runtime.block_on(Client::new(cluster_id, &addresses).open(0));
        let (receiver, stopping) = (to.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let clients: Vec<Client> = (0..CLIENTS).map(|_| Client::new(cluster_id, &addresses)).collect();
            let payments = clients.iter().map(|client| pay(client, &receiver, &stopping, &counted));
            runtime.block_on(futures::future::join_all(payments));
        });
        Self { to, stop, paid, thread }
    }

    /// Waits until some more were paid.
    fn goes_on(&self) {
        let mut paid = self.paid.clone();
        let wanted = *paid.borrow() + 10;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let more = timeout(DEADLINE, paid.wait_for(|paid| *paid >= wanted)).await.expect("clients go on in time");
            more.expect("clients are there");
        });
    }

    /// Ends it; answers who was paid how much.
    fn stop(self) -> (Vec<u8>, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        (self.to, *self.paid.borrow())
    }
}

#[test]
fn a_cluster_goes_from_one_build_to_the_next_under_load() {
    let before = env::var_os("MATRIXAI_BEFORE").map(PathBuf::from);
    let before = before.expect("MATRIXAI_BEFORE names a matrixai that was built without next-rules");
    let next = Path::new(PROGRAM);
    let mut cluster = Cluster::found_as(&before);
    cluster.leader();
    for place in 0..3 {
        let status = cluster.status(place);
        assert_eq!((&status["rules_version"], &status["rules_supported"]), (&1.into(), &1.into()), "{status}");
    }
    let load = Load::start(&cluster);
    let mut epoch = cluster.roots_equal_after(0);

    for place in 0..3 {
        let (code, said) = cluster.attempt(&SWITCH).unwrap_err();
        assert!(code == 1 && said.contains("rules_not_announced"), "{said}");
        cluster.coordinators[place].kill();
        cluster.coordinators[place] = cluster.coordinators[place].again(next).unwrap();
        cluster.until("the new build announces what it applies", |cluster| {
            let nodes = cluster.attempt(&["cluster", "status"]).unwrap_or_default()["nodes"].clone();
            nodes[place]["node"] == place as u64 + 1 && nodes[place]["rules_version"] == 2
        });
        load.goes_on();
        epoch = cluster.roots_equal_after(epoch);
        assert_eq!(cluster.run(&["cluster", "status"])["rules_version"], 1, "nothing is switched by itself");
    }

    cluster.run(&SWITCH);
    cluster.until("the next rules are in effect everywhere", |cluster| {
        (0..3).all(|place| cluster.status(place)["rules_version"] == 2)
    });
    load.goes_on();
    epoch = cluster.roots_equal_after(epoch);

    // The build before meets the switch in its log, and goes no further.
    let away = (cluster.leader() + 1) % 3;
    let refusal = "is in effect since log entry";
    cluster.coordinators[away].kill();
    let said = match cluster.coordinators[away].again(&before) {
        Ok(mut process) => process.end(),
        Err(said) => said,
    };
    assert!(said.contains("rules version 2") && said.contains(refusal), "{said}");
    load.goes_on();

    // On the new build it comes back; from a snapshot of the new rules the build before does not even begin.
    cluster.coordinators[away] = cluster.coordinators[away].again(next).unwrap();
    epoch = cluster.roots_equal_after(epoch);
    let address = cluster.addresses()[away].clone();
    cluster.run(&["cluster", "snapshot", "save", "backup", "--force", "--cluster", &address]);
    cluster.coordinators[away].kill();
    let said = cluster.coordinators[away].again(&before).unwrap_err();
    assert!(said.contains("rules version 2") && said.contains(refusal), "{said}");
    cluster.coordinators[away] = cluster.coordinators[away].again(next).unwrap();
    load.goes_on();
    cluster.roots_equal_after(epoch);

    let (account, paid) = load.stop();
    for address in cluster.addresses() {
        assert_eq!(client::balance(&address, &account), paid.to_string(), "what was acknowledged is there, once");
    }
    cluster.assert_conserved();
}
