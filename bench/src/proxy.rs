//! TCP proxies on loopback, one before each coordinator, through which the others and the clients reach it. A cut stops what
//! passes between two parties without closing anything, as a network does; when it heals, what was held goes on.

use crate::{Result, doing};
use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// Bytes that a proxy holds of one direction.
const BUFFER_BYTES: usize = 64 << 10;

/// A place among the coordinators.
pub type Place = usize;

/// Pairs of coordinators that do not hear each other, and coordinators that no client reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cuts {
    pairs: BTreeSet<(Place, Place)>,
    clients: BTreeSet<Place>,
}

impl Cuts {
    /// Nothing passes to or from this one.
    #[must_use]
    pub fn around(place: Place, count: usize) -> Self {
        let others = (0..count).filter(|other| *other != place);
        let pairs = others.flat_map(|other| [(place, other), (other, place)]).collect();
        Self { pairs, clients: BTreeSet::from([place]) }
    }

    fn holds(&self, from: Option<Place>, to: Place) -> bool {
        from.map_or_else(|| self.clients.contains(&to), |from| self.pairs.contains(&(from, to)))
    }
}

/// The proxies; they end with it.
#[derive(Debug)]
pub struct Proxies {
    /// host:port of the proxy before each coordinator.
    pub addresses: Vec<String>,
    cuts: watch::Sender<Cuts>,
    /// Process numbers of the coordinators: who a connection comes from is told by whose socket it is.
    pids: Arc<Mutex<Vec<u32>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Proxies {
    /// Starts one before each of these addresses.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(targets: Vec<String>) -> Result<Self> {
        let (cuts, watched) = watch::channel(Cuts::default());
        let pids = Arc::new(Mutex::new(Vec::new()));
        let (mut addresses, mut tasks) = (Vec::new(), Vec::new());
        for (place, target) in targets.into_iter().enumerate() {
            let listener = TcpListener::bind("127.0.0.1:0").await.map_err(doing("start a proxy"))?;
            let address = listener.local_addr().map_err(doing("start a proxy"))?;
            addresses.push(address.to_string());
            let door = Door { place, target, port: address.port(), cuts: watched.clone(), pids: pids.clone() };
            tasks.push(tokio::spawn(door.serve(listener)));
        }
        Ok(Self { addresses, cuts, pids, tasks })
    }

    /// From now on these are the coordinators' processes.
    pub fn know(&self, pids: Vec<u32>) {
        *self.pids.lock().unwrap_or_else(PoisonError::into_inner) = pids;
    }

    /// Replaces the cuts; an empty set heals all.
    pub fn cut(&self, cuts: Cuts) {
        self.cuts.send_replace(cuts);
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// One proxy.
struct Door {
    place: Place,
    target: String,
    port: u16,
    cuts: watch::Receiver<Cuts>,
    pids: Arc<Mutex<Vec<u32>>>,
}

impl Door {
    async fn serve(self, listener: TcpListener) {
        loop {
            // A connection that ended before it was accepted is nobody's concern.
            let Ok((inside, peer)) = listener.accept().await else { continue };
            let pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let from = owner(peer.port(), self.port, &pids);
            let (target, to, cuts) = (self.target.clone(), self.place, self.cuts.clone());
            tokio::spawn(async move {
                // A coordinator that is down refuses, and so does its proxy: the connection is dropped.
                let Ok(outside) = TcpStream::connect(&target).await else { return };
                if inside.set_nodelay(true).and(outside.set_nodelay(true)).is_err() {
                    return;
                }
                let ((from_inside, to_inside), (from_outside, to_outside)) =
                    (inside.into_split(), outside.into_split());
                let there = pass(from_inside, to_outside, cuts.clone(), from, to);
                let back = pass(from_outside, to_inside, cuts, from, to);
                // Either end closing ends both: gRPC does not half-close its connections.
                tokio::select! {
                    () = there => {}
                    () = back => {}
                }
            });
        }
    }
}

/// Passes bytes on, but while the two are cut holds them.
async fn pass(
    mut reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
    mut cuts: watch::Receiver<Cuts>,
    from: Option<Place>,
    to: Place,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(read @ 1..) = reader.read(&mut buffer).await {
        // The sender of cuts lives as long as the proxies.
        if cuts.wait_for(|cuts| !cuts.holds(from, to)).await.is_err() {
            return;
        }
        if writer.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Whose socket the connection from `port` to `to_port` is; none for a process that is no coordinator.
fn owner(port: u16, to_port: u16, pids: &[u32]) -> Option<Place> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    // Fields: number, local address, remote address, …; the inode is the tenth.
    let ends = |text: &str, port: u16| text.ends_with(&format!(":{port:04X}"));
    let inode = table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ours = ends(fields.get(1)?, port) && ends(fields.get(2)?, to_port);
        if ours { fields.get(9).map(|inode| (*inode).to_owned()) } else { None }
    })?;
    let name = format!("socket:[{inode}]");
    pids.iter().position(|pid| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == name.as_str()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    /// Reads four bytes, or says that none came.
    async fn hears(stream: &mut TcpStream) -> bool {
        let mut bytes = [0; 4];
        tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut bytes)).await.is_ok()
    }

    #[tokio::test]
    async fn a_cut_holds_bytes_and_healing_lets_them_pass() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxies = Proxies::start(vec![server.local_addr().unwrap().to_string()]).await.unwrap();
        // This process plays the other coordinator.
        proxies.know(vec![u32::MAX, std::process::id()]);
        let mut client = TcpStream::connect(&proxies.addresses[0]).await.unwrap();
        let (mut served, _) = server.accept().await.unwrap();
        client.write_all(b"one ").await.unwrap();
        assert!(hears(&mut served).await);
        proxies.cut(Cuts { pairs: BTreeSet::from([(1, 0)]), clients: BTreeSet::new() });
        client.write_all(b"two ").await.unwrap();
        assert!(!hears(&mut served).await, "what a coordinator sends is held");
        proxies.cut(Cuts::default());
        assert!(hears(&mut served).await, "and comes when the cut heals");
    }

    #[test]
    fn an_isolated_coordinator_hears_nobody() {
        let cuts = Cuts::around(1, 3);
        assert!(cuts.holds(Some(0), 1) && cuts.holds(Some(1), 2) && cuts.holds(None, 1));
        assert!(!cuts.holds(Some(0), 2) && !cuts.holds(None, 0));
    }
}
