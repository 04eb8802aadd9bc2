//! A member was away while the others cut the log behind their snapshots: it fetches the state in pieces, is killed in the middle,
//! goes on where it stopped, and holds the same state in the end.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{
    Cluster,
    client::{Client, balance},
};
use matrixai_proto::{
    envelope::random,
    v1::{Transfer, command::Kind},
};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    thread,
};

/// Accounts that make the state large, opened so many by one envelope.
const ACCOUNTS: usize = 80_000;
const OPENED_AT_ONCE: usize = 4_000;
/// Bytes of a piece of a snapshot, and after how many a narrow door lets no more out.
const PIECE_BYTES: u64 = 1 << 20;
const NARROW_BYTES: usize = 1_500_000;

/// How wide doors are; whoever waits at a narrow one is told when it opens.
#[derive(Default)]
struct Width {
    narrow: Mutex<bool>,
    changed: Condvar,
}

impl Width {
    fn set(&self, narrow: bool) {
        *self.narrow.lock().unwrap() = narrow;
        self.changed.notify_all();
    }

    fn wait_until_wide(&self) {
        drop(self.changed.wait_while(self.narrow.lock().unwrap(), |narrow| *narrow).unwrap());
    }
}

/// A proxy before a coordinator. While it is narrow, a connection lets so much out and then holds the rest.
fn door(address: &str, narrow: &Arc<Width>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let door = listener.local_addr().unwrap().to_string();
    let (address, narrow) = (address.to_owned(), narrow.clone());
    thread::spawn(move || {
        for inside in listener.incoming().map_while(Result::ok) {
            // Whoever knocks while the coordinator is down is sent away.
            let Ok(outside) = TcpStream::connect(&address) else { continue };
            let ends = (inside.try_clone().unwrap(), outside.try_clone().unwrap());
            let (open, narrow) = (Arc::new(Width::default()), narrow.clone());
            thread::spawn(move || pass(ends.0, ends.1, &open));
            thread::spawn(move || pass(outside, inside, &narrow));
        }
    });
    door
}

fn pass(mut from: TcpStream, mut to: TcpStream, width: &Width) {
    let (mut buffer, mut passed) = ([0; 64 << 10], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        passed += read;
        if passed > NARROW_BYTES {
            width.wait_until_wide();
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // The other direction ends with this one; it may have ended already.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn open_many(client: &Client) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut last = Vec::new();
    runtime.block_on(async {
        client.open(ACCOUNTS as u64).await;
        for _ in 0..ACCOUNTS / OPENED_AT_ONCE {
            let open = |_| {
                last = random::<20>().unwrap().to_vec();
                Kind::Transfer(Transfer { to: last.clone(), amount: "1".to_owned(), memo: String::new(), open: true })
            };
            client.done((0..OPENED_AT_ONCE).map(open).collect()).await;
        }
    });
    last
}

/// Files of a coordinator's snapshots with this ending, and their lengths.
fn files(folder: &Path, ending: &str) -> Vec<(PathBuf, u64)> {
    let files = fs::read_dir(folder.join("data/snapshots")).unwrap().map(|file| file.unwrap());
    let wanted = files.filter(|file| file.path().extension().is_some_and(|found| found == ending));
    // One that is gone meanwhile has no length.
    wanted.filter_map(|file| Some((file.path(), file.metadata().ok()?.len()))).collect()
}

#[test]
fn a_member_behind_a_cut_log_fetches_the_state_and_goes_on_where_it_was_killed() {
    let width = Arc::new(Width::default());
    let mut cluster = Cluster::found_behind("[snapshots]\ntail_entries = 10\n", |address| door(address, &width));
    let away = (cluster.leader() + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|place| *place != away).collect();
    let folder = |place: usize| cluster.home.path().join(format!("coordinator-{}", place + 1));
    let (its_folder, folders) = (folder(away), others.iter().map(|place| folder(*place)).collect::<Vec<_>>());
    cluster.coordinators[away].kill();
    let known = others.iter().map(|place| cluster.status(*place)["committed"].as_u64().unwrap()).max().unwrap();

    let client =
        Client::new(cluster.id(), &others.iter().map(|place| cluster.addresses()[*place].clone()).collect::<Vec<_>>());
    let account = open_many(&client);
    cluster.until("the others have cut their logs", |cluster| {
        for place in &others {
            cluster.run(&[
                "cluster",
                "snapshot",
                "save",
                "backup",
                "--force",
                "--cluster",
                &cluster.addresses()[*place],
            ]);
        }
        others.iter().all(|place| cluster.status(*place)["log_first"].as_u64() > Some(known + 1))
    });
    assert!(folders.iter().flat_map(|folder| files(folder, "snapshot")).all(|(_, bytes)| bytes > 2 * PIECE_BYTES));

    width.set(true);
    cluster.coordinators[away].restart();
    cluster.until("some of the state has arrived", |cluster| {
        cluster.status(away);
        files(&its_folder, "part").iter().any(|(_, bytes)| *bytes >= PIECE_BYTES)
    });
    cluster.coordinators[away].kill();
    assert!(files(&its_folder, "snapshot").is_empty(), "it was in the middle");
    let arrived = files(&its_folder, "part");
    assert_eq!(arrived.len(), 1, "{arrived:?}");
    width.set(false);

    cluster.coordinators[away].restart();
    let newest = cluster.status(cluster.leader())["committed"].as_u64().unwrap();
    cluster.until("it has caught up", |cluster| cluster.status(away)["applied"].as_u64() >= Some(newest));
    assert!(cluster.status(away)["log_first"].as_u64() > Some(known + 1), "by a snapshot, not by the log");
    let logs = folders.iter().map(|folder| fs::read_to_string(folder.join("log.txt")).unwrap());
    let offsets: Vec<u64> = logs.flat_map(|log| offsets(&log)).collect();
    assert!(
        offsets.contains(&0) && offsets.contains(&(arrived[0].1 / PIECE_BYTES * PIECE_BYTES)),
        "{offsets:?} {arrived:?}"
    );
    cluster.roots_equal_after(0);
    let epoch = cluster.run(&["cluster", "status"])["roots"][0]["epoch"].as_u64().unwrap();
    cluster.roots_equal_after(epoch);
    assert_eq!(balance(&cluster.addresses()[away], &account), "1");
    cluster.assert_conserved();
}

/// From which bytes on a coordinator says that it sent a snapshot.
fn offsets(log: &str) -> Vec<u64> {
    // The offset stands last in its line.
    let sent = log.lines().filter(|line| line.contains("sending a snapshot"));
    sent.filter_map(|line| line.trim_end().rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()).collect()
}
