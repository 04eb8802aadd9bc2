//! One simulated world: coordinators with their disks and clocks, workers, clients and the network, on one thread, driven
//! by a queue of events in simulated time. A seed decides everything; the trace hash proves it.

mod deeds;
mod end;
mod faults;
mod hosts;
mod joining;
mod outputs;
mod sessions;

use super::{
    checks::{Checks, Verdict, Violation},
    client::Clients,
    clock::{Clock, Micros, START_MS},
    coverage::Coverage,
    disk::Disk,
    faults::{Fault, Plan, When},
    found,
    net::Net,
    people::{MACHINES_MAX, People},
    process::{Identity, Process, Task},
    queue::Queue,
    rng::{Rng, Trace},
    worker::Worker,
};
use matrixai_coordinator::{
    core::{PeerRefusal, Reply, ToWorker},
    pending::Waiting,
    replica::Input,
    snapshots::Reference,
};
use matrixai_proto::v1::{Outcome, PeerStatus};
use matrixai_state::State;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

/// How long faults last, and then healing: microseconds.
pub const STORM_US: Micros = 200_000_000;
/// See [`STORM_US`].
pub const HEALING_US: Micros = 30_000_000;
/// A tick of a node's own clock, ms.
const TICK_MS: u64 = 50;
/// One bundle of commands so often, microseconds, and how many are in it: 25 commands a second at least.
const BUNDLE_EVERY_US: Micros = 160_000;
const BUNDLE: u64 = 4;
/// One linearizable read so often.
const READ_EVERY_US: Micros = 150_000;
/// The admins look after the coordinators so often.
const OPERATE_EVERY_US: Micros = 5_000_000;
/// So many readers.
const READERS: usize = 4;
/// A worker's own timer.
const WORKER_TICK_US: Micros = 1_000_000;

/// Messages on their way between coordinators.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    from: u64,
    raft: Vec<Vec<u8>>,
    status: Option<PeerStatus>,
}

/// What is going to happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A node's timer.
    Tick { node: u64, life: u64 },
    /// A frame arrives.
    Frame { to: u64, frame: Rc<Frame> },
    /// Clients want something.
    Bundle,
    /// A client wants to know a balance.
    Read,
    /// Requests go out: (again).
    Send { requests: Vec<u64> },
    /// Work of a process beside its replica.
    Task { node: u64, life: u64, task: Task },
    /// A snapshot has travelled.
    Fetched { node: u64, life: u64, from: u64, reference: Reference },
    /// Requests reach a node.
    Submit { node: u64, envelopes: Vec<(Asker, Waiting)> },
    /// A reply reaches whoever asked.
    Replied { asker: Asker, node: u64, reply: Reply },
    /// Nothing was heard about a request's try.
    Silence { request: u64, tries: u32 },
    /// A read reaches a node.
    View { node: u64, read: u64 },
    /// A view reaches its reader; none when it failed.
    Viewed { read: u64, seen: Option<(Option<u128>, u64)> },
    /// A worker's timer.
    WorkerTick { worker: usize },
    /// Something in a worker is done.
    WorkerLater { worker: usize, number: u64 },
    /// A worker dials a coordinator.
    Dial { worker: usize },
    /// Its hello arrives.
    Hello { node: u64, session: u64, worker: usize, holding: Vec<String> },
    /// The session's round trip is known.
    Measured { node: u64, session: u64 },
    /// A session's end reaches the coordinator.
    Hangup { node: u64, session: u64 },
    /// Something for a worker arrives.
    Told { worker: usize, session: u64, told: Told },
    /// A worker's report reaches the coordinator of its session.
    Report { node: u64, worker: usize, session: u64, id: [u8; 16], waiting: Waiting },
    /// The next fault.
    Fault,
    /// A node leaves, and is only back when all is healed.
    Leave,
    /// A fault ends.
    Relief(Fault),
    /// A new leader is cut off.
    Hunted { node: u64 },
    /// A node looks for missing segments.
    Segments { node: u64 },
    /// The admins look after the coordinators.
    Operate,
    /// A coordinator is told that another one does not listen to it.
    Refused { node: u64, by: u64, why: PeerRefusal },
    /// A node is started again.
    Restart { node: u64 },
    /// A worker is started again.
    WorkerRestart { worker: usize },
    /// The storm is over.
    Heal,
    /// Clients try whether the healed cluster serves.
    Canary,
    /// Operators introduce the others to coordinators that know too few of them, if nobody leads.
    Introduce,
}

/// Who is told what became of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A client's request.
    Client(u64),
    /// A worker's report, under this id and session.
    Worker { worker: usize, session: u64, id: [u8; 16] },
    /// A coordinator's own; it asks the state.
    Nobody,
}

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Told {
    Welcome { ledger_ms: u64 },
    Message(ToWorker),
    Ack { id: [u8; 16], outcomes: Vec<Outcome> },
    End,
}

/// A machine with a coordinator on it.
#[derive(Debug)]
pub(super) struct Host {
    identity: Identity,
    clock: Clock,
    disk: Disk,
    folder: PathBuf,
    process: Option<Process>,
    life: u64,
    /// Whom it sends to.
    links: Vec<u64>,
    /// Stands still until then.
    stopped_until: Micros,
    /// It is busy with something else until then, and applies slowly.
    lags_until: Micros,
    /// It dies at its next task of this name.
    trap: Option<(&'static str, When)>,
    /// When its newest task of each kind is done: one thread does all of a kind, in order.
    busy_until: BTreeMap<&'static str, Micros>,
    /// A bit of its disk was flipped: it may refuse to start, and is not missed then.
    flipped: bool,
    /// It will not come back: its disk is lost or damaged, or it was removed.
    gone: bool,
}

impl Host {
    /// A machine with an empty disk.
    fn new(identity: Identity, folder: &Path, rng: &mut Rng) -> Self {
        let id = identity.id;
        Self {
            identity,
            clock: Clock::new(&mut rng.fork(10 + id)),
            disk: Disk::new(rng.fork(20 + id)),
            folder: folder.join(format!("n{id}")),
            process: None,
            life: 0,
            links: Vec::new(),
            stopped_until: 0,
            lags_until: 0,
            trap: None,
            busy_until: BTreeMap::new(),
            flipped: false,
            gone: false,
        }
    }
}

/// The world.
pub struct World {
    rng: Rng,
    now: Micros,
    queue: Queue<Event>,
    sequence: u64,
    trace: Trace,
    hosts: Vec<Host>,
    net: Net,
    people: People,
    clients: Clients,
    workers: Vec<Worker>,
    plan: Plan,
    checks: Checks,
    coverage: Coverage,
    /// Who waits for which reply, by the number that the core knows.
    callers: BTreeMap<u64, Asker>,
    next_caller: u64,
    next_session: u64,
    /// Worker and node of each session, and when its newest message to the worker arrives: streams keep their order.
    sessions: BTreeMap<u64, (usize, u64, Micros)>,
    /// The newest state that anybody applied: what people know when they ask.
    newest: Arc<State>,
    healing: bool,
    /// Accounts had to keep a minimum at some time.
    minimum: bool,
    /// The coordinator that each reader asks, until it fails it.
    readers: [u64; READERS],
    /// Requests of the canary that were not answered yet.
    canary: Vec<u64>,
    faults: u64,
    /// Until then a wall clock is wrong, or some node may still remember what it showed.
    jumped_until: Micros,
    /// Nodes that are away for long: cut off, or else down.
    away: BTreeMap<u64, bool>,
    /// Leaders that are still to be hunted, and the one that was cut off last.
    hunt: u64,
    hunted: Option<u64>,
    snapshots: u64,
    installed: u64,
    folder: PathBuf,
}

/// What a seed came to.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Commands that clients asked for.
    pub commands: u64,
    /// Faults.
    pub faults: u64,
    /// Terms that had a leader.
    pub elections: u64,
    /// Entries applied.
    pub entries: u64,
    /// Snapshots saved, and installed from another node.
    pub snapshots: u64,
    /// See `snapshots`.
    pub installed: u64,
    /// Envelopes whose outcome a client knows.
    pub acknowledged: u64,
    /// Operations in checked histories.
    pub operations: u64,
    /// Accounts whose histories were too hard.
    pub undecided: u64,
    /// Simulated microseconds.
    pub simulated_us: Micros,
    /// The hash of everything that happened.
    pub trace: u64,
    /// What came up.
    pub coverage: Coverage,
}

impl World {
    /// The world of a seed; `folder` is where raft-engine finds the names of its files.
    ///
    /// # Errors
    /// A node that does not start.
    pub fn new(seed: u64, folder: PathBuf) -> Result<Self, Violation> {
        let mut rng = Rng::new(seed);
        let count = if rng.one_in(8) { 5 } else { 3 };
        let genesis = Arc::new(found::genesis(count));
        let newest = Arc::new(State::genesis(&genesis).map_err(|error| broken(&error))?);
        let cluster_id = *newest.cluster_id();
        let voters: Vec<u64> = (1..=count).collect();
        let hosts = (1..=count).map(|id| {
            let (genesis, voters) = (genesis.clone(), voters.clone());
            let identity = Identity { id, key_seed: found::node_seed(id), genesis, voters, told: Vec::new() };
            Host::new(identity, &folder, &mut rng)
        });
        let hosts = hosts.collect();
        let machines = rng.between(4, MACHINES_MAX);
        let mut draw = rng.fork(3);
        let workers = (0..machines).map(|number| Worker::new(number, &cluster_id, &mut draw)).collect();
        let mut world = Self {
            net: Net::new(rng.fork(1)),
            people: People::new(rng.fork(2), cluster_id, machines),
            clients: Clients::new(rng.fork(4), cluster_id),
            plan: Plan::new(rng.fork(5)),
            rng,
            now: 0,
            queue: Queue::default(),
            sequence: 0,
            trace: Trace(seed),
            hosts,
            workers,
            checks: Checks::default(),
            coverage: Coverage::default(),
            callers: BTreeMap::new(),
            next_caller: 0,
            next_session: 0,
            sessions: BTreeMap::new(),
            newest,
            healing: false,
            minimum: false,
            readers: [1; READERS],
            canary: Vec::new(),
            faults: 0,
            jumped_until: 0,
            away: BTreeMap::new(),
            hunt: 0,
            hunted: None,
            snapshots: 0,
            installed: 0,
            folder,
        };
        (1..=count).try_for_each(|node| world.start(node))?;
        world.begin();
        Ok(world)
    }

    fn begin(&mut self) {
        for request in self.people.beginning(START_MS) {
            self.ask(request, 1_500_000);
        }
        for request in self.people.offers(START_MS + 20_000) {
            self.ask(request, 20_000_000);
        }
        for worker in 0..self.workers.len() {
            let at = self.rng.between(100_000, 3_000_000);
            self.after(at, Event::Dial { worker });
            self.after(at + WORKER_TICK_US, Event::WorkerTick { worker });
        }
        for node in self.nodes() {
            self.after(2_000_000 + node, Event::Segments { node });
        }
        self.after(OPERATE_EVERY_US, Event::Operate);
        self.after(3_000_000, Event::Bundle);
        self.after(3_000_000, Event::Read);
        let first = self.plan.pause();
        self.after(first, Event::Fault);
        if let Some(before) = self.plan.absent() {
            self.after(STORM_US - before, Event::Leave);
        }
        self.after(STORM_US, Event::Heal);
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first violation.
    pub fn run(&mut self) -> Result<Summary, Violation> {
        while let Some((at, event)) = self.queue.pop() {
            if at > STORM_US + HEALING_US {
                break;
            }
            self.now = at;
            self.trace.add(at);
            self.happen(event)?;
        }
        self.finish()
    }

    /// Simulated time now, microseconds.
    pub fn now(&self) -> Micros {
        self.now
    }

    fn after(&mut self, delay: Micros, event: Event) {
        self.sequence += 1;
        self.queue.push(self.now + delay, self.sequence, event);
    }

    /// A place in the order of everything that clients do and see.
    fn moment(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn true_ms(&self) -> u64 {
        START_MS + self.now / 1_000
    }

    fn happen(&mut self, event: Event) -> Verdict {
        match event {
            Event::Tick { node, life } => self.tick(node, life),
            Event::Frame { to, frame } => self.frame(to, frame),
            Event::Task { node, life, task } => self.task(node, life, task),
            Event::Fetched { node, life, from, reference } => self.fetched(node, life, from, &reference),
            Event::Bundle => self.bundle(),
            Event::Read => self.begin_read(),
            Event::Send { requests } => self.send(&requests),
            Event::Submit { node, envelopes } => self.submit(node, envelopes),
            Event::Replied { asker, node, reply } => self.replied(asker, node, reply),
            Event::Silence { request, tries } => self.silence(request, tries),
            Event::View { node, read } => self.view(node, read),
            Event::Viewed { read, seen } => self.viewed(read, seen),
            Event::WorkerTick { worker } => self.worker_tick(worker),
            Event::WorkerLater { worker, number } => self.worker_later(worker, number),
            Event::Dial { worker } => self.dial(worker),
            Event::Hello { node, session, worker, holding } => self.hello(node, session, worker, holding),
            Event::Measured { node, session } => self.measured(node, session),
            Event::Hangup { node, session } => self.hangup(node, session),
            Event::Told { worker, session, told } => self.told(worker, session, told),
            Event::Report { node, worker, session, id, waiting } => self.report(node, worker, session, id, waiting),
            Event::Fault => self.next_fault(),
            Event::Leave => self.leave(),
            Event::Relief(fault) => self.relieve(fault),
            Event::Hunted { node } => self.hunted(node),
            Event::Segments { node } => self.fetch_segment(node),
            Event::Operate => self.operate(),
            Event::Refused { node, by, why } => self.on(node, [Input::Refused { by, why }]),
            Event::Restart { node } => self.restart(node),
            Event::WorkerRestart { worker } => self.restart_worker(worker),
            Event::Heal => self.heal(),
            Event::Canary => self.sing(),
            Event::Introduce => self.introduce(),
        }
    }
}

fn broken(error: &dyn std::fmt::Display) -> Violation {
    Violation { invariant: "a fresh cluster starts", story: error.to_string() }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now", &self.now).field("trace", &self.trace).finish_non_exhaustive()
    }
}
