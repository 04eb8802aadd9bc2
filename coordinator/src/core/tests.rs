//! Scenarios of the core against the real state machine: events in, actions out, no threads and no clocks.

#![allow(clippy::unwrap_used)]

mod members;

use super::*;
use matrixai_proto::envelope::COMMANDS;
use matrixai_state::{
    ids::{AccountId, NodeId},
    roots::Attestation,
};
use std::collections::BTreeSet;

const WALL: u64 = 1_900_000_000_000;
const BEAT_MS: u64 = 1_000;
const TIMEOUT_MS: u64 = 3_000;
const TICK_MS: u64 = 50;

fn signer(seed: u8) -> Signer {
    Signer::from_seed([seed; 32]).unwrap()
}

fn genesis() -> Vec<u8> {
    let node = |id: u64| v1::GenesisNode {
        id,
        key: signer(u8::try_from(id).unwrap()).public_key().to_vec(),
        grpc: format!("127.0.0.1:{}", 7_000 + id),
        web: format!("127.0.0.1:{}", 8_000 + id),
    };
    v1::Genesis {
        format: 1,
        network: "test".to_owned(),
        test_network: true,
        nodes: (1..=3).map(node).collect(),
        admin_keys: vec![signer(9).public_key().to_vec()],
        faucet_daily: "1000".to_owned(),
        faucet_total: "100000".to_owned(),
        fee_bp: 100,
        beat_ms: BEAT_MS,
        r0: vec![7; 32],
        machine_timeout_ms: TIMEOUT_MS,
        epoch_beats: 2,
        created_ms: WALL,
        ..v1::Genesis::default()
    }
    .encode_to_vec()
}

/// A coordinator's core with a log that commits when the scenario says so.
struct Bench {
    core: Core,
    state: State,
    index: u64,
    now: u64,
    commands: u64,
    proposed: Vec<(u64, LogEntry)>,
}

impl Bench {
    /// Node `me` of three, which has heard the others' clocks.
    fn new(me: u64) -> Self {
        let mut bench = Self::deaf(me);
        for from in 1..=3 {
            if from != me {
                bench.status(from, PeerStatus::default());
            }
        }
        bench.pass(0);
        bench
    }

    /// As `new`, but it has heard nobody.
    fn deaf(me: u64) -> Self {
        Self::started(me, State::genesis(&genesis()).unwrap())
    }

    /// A process that has just been started with what its coordinator had applied.
    fn started(me: u64, state: State) -> Self {
        let config = CoreConfig {
            me,
            cluster_id: *state.cluster_id(),
            told: Vec::new(),
            signer: signer(u8::try_from(me).unwrap()),
            boot: [5; 8],
            beat_ms: BEAT_MS,
            machine_timeout_ms: TIMEOUT_MS,
        };
        let core = Core::new(config, Arc::new(state.clone()));
        let index = state.index();
        Self { core, state, index, now: 0, commands: 0, proposed: Vec::new() }
    }

    /// A leader.
    fn leader() -> Self {
        let mut bench = Self::new(1);
        bench.on(Event::Role { role: Role::Leader, leader: 1 });
        bench
    }

    /// Hands in an event; proposals are set aside, the other actions returned.
    fn on(&mut self, event: Event) -> Vec<Action> {
        let mut actions = self.core.on(event, self.now);
        actions.append(&mut self.core.on(Event::Flush { room: usize::MAX }, self.now));
        actions.retain(|action| match action {
            Action::Propose { number, entry, .. } => {
                self.proposed.push((*number, LogEntry::decode(entry.as_slice()).unwrap()));
                false
            }
            _ => true,
        });
        actions
    }

    /// Lets time pass on all clocks, in ticks.
    fn pass(&mut self, ms: u64) -> Vec<Action> {
        let end = self.now + ms;
        let mut actions = Vec::new();
        loop {
            self.now = end.min(self.now + TICK_MS);
            let wall_ms = WALL + self.now;
            actions.append(&mut self.on(Event::Tick { wall_ms }));
            if self.now == end {
                return actions;
            }
        }
    }

    /// Time passes, but this process does not notice.
    fn stand_still(&mut self, ms: u64) {
        self.now += ms;
        let wall_ms = WALL + self.now;
        self.on(Event::Tick { wall_ms });
    }

    /// Another coordinator's status with its clock in agreement.
    fn status(&mut self, from: u64, status: PeerStatus) {
        let status = PeerStatus { clock_ms: WALL + self.now, ..status };
        self.on(Event::Status { from, status });
    }

    /// Commits everything proposed so far; answers the actions and every own command that the log now has.
    fn commit(&mut self) -> Vec<Action> {
        let mut entries = Vec::new();
        for (_, entry) in std::mem::take(&mut self.proposed) {
            self.index += 1;
            entries.push(self.state.apply(self.index, &entry.encode_to_vec()));
        }
        self.on(Event::Applied { state: Some(Arc::new(self.state.clone())), entries })
    }

    /// The commands proposed and not yet committed.
    fn commands(&self) -> Vec<Kind> {
        let envelopes = self.proposed.iter().flat_map(|(_, entry)| &entry.envelopes);
        envelopes
            .flat_map(|bytes| {
                let envelope = Envelope::decode(bytes.as_slice()).unwrap();
                v1::Batch::decode(envelope.payload.as_slice()).unwrap().commands
            })
            .filter_map(|command| command.kind)
            .collect()
    }

    fn seal(&mut self, by: &Signer, kinds: Vec<Kind>) -> Waiting {
        self.commands += 1;
        let mut command_id = [0; 16];
        command_id[..8].copy_from_slice(&self.commands.to_le_bytes());
        let commands = kinds.into_iter().map(|kind| v1::Command { kind: Some(kind) }).collect();
        let payload = v1::Batch { commands, linked: false }.encode_to_vec();
        let hash = matrixai_protocol::sha256(&[&payload]);
        let expires_ms = WALL + self.now + 60_000;
        let envelope = by.seal(*self.state.cluster_id(), COMMANDS, command_id, expires_ms, payload);
        Waiting { id: (by.public_key(), command_id), payload: hash, bytes: envelope.encode_to_vec() }
    }

    fn submit(&mut self, caller: Caller, by: &Signer, kinds: Vec<Kind>) -> Vec<Action> {
        let envelope = self.seal(by, kinds);
        self.on(Event::Submitted { caller, envelope })
    }

    /// An enrolled machine of a new account.
    fn machine(&mut self, seed: u8) -> MachineId {
        let (owner, machine) = (signer(100 + seed), signer(200 + seed));
        let inventory = v1::Inventory { cores: 1, ram_bytes: 1 << 33, ..v1::Inventory::default() };
        let enrol = v1::EnrolMachine {
            machine_key: machine.public_key().to_vec(),
            possession: vec![1; 64],
            inventory: Some(inventory),
        };
        self.submit(0, &owner, vec![Kind::CreateAccount(v1::CreateAccount::default()), Kind::EnrolMachine(enrol)]);
        self.commit();
        MachineId::of_key(self.state.cluster_id(), &machine.public_key())
    }

    /// A share of another node for the next beat.
    fn share(&self, node: u64) -> PeerStatus {
        let (number, r) = self.state.beacon();
        let alpha = matrixai_protocol::beacon::alpha(self.state.cluster_id(), number + 1, &r);
        let share = matrixai_protocol::vrf::prove(&[u8::try_from(node).unwrap(); 32], &alpha).to_vec();
        PeerStatus { beat: number + 1, share, ..PeerStatus::default() }
    }

    /// Brings the next beat about.
    fn beat(&mut self) -> Vec<Action> {
        let share = self.share(2);
        self.status(2, share);
        self.pass(BEAT_MS);
        self.commit()
    }
}

fn replies(actions: &[Action]) -> Vec<(Caller, &Reply)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Reply { caller, reply } => Some((*caller, reply)),
            _ => None,
        })
        .collect()
}

fn create() -> Vec<Kind> {
    vec![Kind::CreateAccount(v1::CreateAccount::default())]
}

#[test]
fn a_follower_takes_no_command() {
    let mut bench = Bench::new(2);
    let actions = bench.submit(1, &signer(50), create());
    assert_eq!(replies(&actions), [(1, &Reply::NotLeader)]);
}

#[test]
fn a_caller_is_answered_when_its_entry_is_applied_and_not_before() {
    let mut bench = Bench::leader();
    assert!(replies(&bench.submit(1, &signer(50), create())).is_empty());
    bench.pass(50);
    let account = AccountId::of_key(bench.state.cluster_id(), &signer(50).public_key());
    let actions = bench.commit();
    let outcomes = Arc::from([Outcome::made(account)]);
    assert_eq!(replies(&actions), [(1, &Reply::Decided { index: 1, outcomes })]);
}

#[test]
fn what_arrives_together_shares_an_entry() {
    let mut bench = Bench::leader();
    for caller in 0..10 {
        let envelope = bench.seal(&signer(50 + caller), create());
        bench.core.on(Event::Submitted { caller: caller.into(), envelope }, 0);
    }
    bench.pass(0);
    assert_eq!(bench.proposed.len(), 1);
    assert_eq!(replies(&bench.commit()).len(), 10);
}

#[test]
fn nothing_is_stamped_before_a_majority_of_clocks_was_heard() {
    let mut bench = Bench::deaf(1);
    bench.on(Event::Role { role: Role::Leader, leader: 1 });
    bench.submit(1, &signer(50), create());
    bench.pass(50);
    assert!(bench.proposed.is_empty());
    bench.status(2, PeerStatus::default());
    bench.pass(50);
    assert_eq!(bench.proposed[0].1.now_ms, WALL + 100);
}

#[test]
fn a_leader_that_lost_says_so_and_answers_nobody_twice() {
    let mut bench = Bench::leader();
    bench.submit(1, &signer(50), create());
    let actions = bench.on(Event::Role { role: Role::Follower, leader: 2 });
    assert_eq!(replies(&actions), [(1, &Reply::LeadershipLost)]);
    // The next leader commits it after all: the caller's second attempt finds the first outcome in the state.
    assert!(replies(&bench.commit()).is_empty());
    assert!(bench.state.key_role(&signer(50).public_key()).is_some());
}

#[test]
fn the_same_envelope_at_another_leader_finds_the_first_outcome() {
    let mut first = Bench::leader();
    let envelope = first.seal(&signer(50), create());
    let again = Waiting { bytes: envelope.bytes.clone(), ..envelope };
    first.on(Event::Submitted { caller: 1, envelope });
    first.commit();
    let actions = first.on(Event::Submitted { caller: 2, envelope: again });
    assert!(replies(&actions).is_empty());
    let actions = first.commit();
    let [(2, Reply::Decided { index: 1, outcomes })] = replies(&actions)[..] else { panic!("{actions:?}") };
    assert!(matches!(outcomes[..], [Outcome::Done { id: Some(_) }]));
}

#[test]
fn a_dropped_proposal_frees_its_callers() {
    let mut bench = Bench::leader();
    bench.submit(1, &signer(50), create());
    let (number, _) = bench.proposed.pop().unwrap();
    let actions = bench.on(Event::Dropped { number, why: Reply::Full });
    assert_eq!(replies(&actions), [(1, &Reply::Full)]);
}

#[test]
fn a_caller_does_not_wait_for_ever() {
    let mut bench = Bench::leader();
    bench.submit(1, &signer(50), create());
    bench.pass(CALLER_WAIT_MS);
    let actions = bench.pass(REVIEW_EVERY_MS);
    assert_eq!(replies(&actions), [(1, &Reply::Late)]);
}

#[test]
fn a_beat_waits_for_a_majority_of_shares_and_for_its_time() {
    let mut bench = Bench::leader();
    bench.pass(BEAT_MS);
    assert!(bench.commands().is_empty(), "one share of three is no majority");
    let share = bench.share(2);
    bench.status(2, share);
    let share = bench.share(3);
    bench.status(3, share);
    bench.pass(50);
    let [Kind::Beat(beat)] = &bench.commands()[..] else { panic!() };
    assert_eq!(beat.shares.iter().map(|share| share.node).collect::<Vec<_>>(), [1, 2, 3], "every share in time is in");
    bench.pass(50);
    assert_eq!(bench.commands().len(), 1, "one beat at a time");
    bench.commit();
    assert_eq!(bench.state.beacon().0, 1);

    let share = bench.share(2);
    bench.status(2, share);
    bench.pass(BEAT_MS - 1);
    assert!(bench.commands().is_empty(), "the next one is not due yet");
    bench.pass(1);
    assert_eq!(bench.commands().len(), 1);
}

#[test]
fn a_bad_share_is_left_out() {
    let mut bench = Bench::leader();
    let bad = PeerStatus { share: vec![3; 80], ..bench.share(3) };
    bench.status(3, bad);
    let share = bench.share(2);
    bench.status(2, share);
    bench.pass(BEAT_MS);
    let [Kind::Beat(beat)] = &bench.commands()[..] else { panic!() };
    assert_eq!(beat.shares.len(), 2);
    bench.commit();
    assert_eq!(bench.state.beacon().0, 1);
}

#[test]
fn a_follower_tells_its_share_and_sessions_at_once_and_then_now_and_again() {
    let mut bench = Bench::new(2);
    let told = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::Broadcast(status) => Some(status.clone()),
            _ => None,
        })
    };
    assert!(told(&bench.pass(TICK_MS)).is_none(), "the share was told in the first tick, and it is too early for more");
    bench.on(Event::SessionOpened { session: 1, machine: MachineId([1; 20]), holding: vec![] });
    bench.on(Event::SessionMeasured { session: 1, round_trip_us: 300 });
    let status = told(&bench.pass(STATUS_EVERY_MS)).unwrap();
    assert_eq!((status.beat, status.share.len()), (1, 80));
    assert!((WALL..=WALL + bench.now).contains(&status.clock_ms));
    assert_eq!(status.sessions, [HeldSession { machine: vec![1; 20], round_trip_us: 300 }]);
}

#[test]
fn a_machine_is_online_while_somebody_holds_its_session() {
    let mut bench = Bench::leader();
    let machine = bench.machine(1);
    let held = || PeerStatus {
        sessions: vec![HeldSession { machine: machine.0.to_vec(), round_trip_us: 400 }],
        ..PeerStatus::default()
    };
    bench.status(2, held());
    bench.pass(REVIEW_EVERY_MS);
    assert!(matches!(&bench.commands()[..], [Kind::MachineOnline(online)] if online.round_trip_us == 400));
    bench.commit();
    assert!(bench.state.machine(machine).unwrap().online);
    bench.status(2, held());
    bench.pass(REVIEW_EVERY_MS);
    assert!(bench.commands().is_empty(), "nothing has changed");

    bench.pass(TIMEOUT_MS - REVIEW_EVERY_MS - 1);
    assert!(bench.commands().is_empty());
    bench.pass(REVIEW_EVERY_MS + 1);
    let silent = |ms| (TIMEOUT_MS..=TIMEOUT_MS + REVIEW_EVERY_MS).contains(&ms);
    assert!(matches!(&bench.commands()[..], [Kind::MachineLost(lost)] if silent(lost.silent_ms)));
    bench.commit();
    assert!(!bench.state.machine(machine).unwrap().online);
}

#[test]
fn a_new_leader_waits_a_whole_timeout_before_it_declares_a_loss() {
    let mut bench = Bench::leader();
    let machine = bench.machine(1);
    let sessions = vec![HeldSession { machine: machine.0.to_vec(), round_trip_us: 400 }];
    bench.status(2, PeerStatus { sessions, ..PeerStatus::default() });
    bench.pass(REVIEW_EVERY_MS);
    bench.commit();
    bench.pass(TIMEOUT_MS - REVIEW_EVERY_MS - 100);
    bench.on(Event::Role { role: Role::Follower, leader: 2 });
    bench.on(Event::Role { role: Role::Leader, leader: 1 });
    bench.pass(TIMEOUT_MS - 1);
    assert!(bench.commands().is_empty());
    bench.pass(REVIEW_EVERY_MS);
    assert!(matches!(&bench.commands()[..], [Kind::MachineLost(_)]));
}

#[test]
fn a_leader_that_stood_still_blames_nobody_for_it() {
    let mut bench = Bench::leader();
    let machine = bench.machine(1);
    let held = || PeerStatus {
        sessions: vec![HeldSession { machine: machine.0.to_vec(), round_trip_us: 400 }],
        ..PeerStatus::default()
    };
    bench.status(2, held());
    bench.pass(REVIEW_EVERY_MS);
    bench.commit();
    bench.pass(TIMEOUT_MS - REVIEW_EVERY_MS - 100);
    bench.stand_still(60_000);
    assert!(bench.commands().is_empty());
    bench.status(2, held());
    bench.pass(REVIEW_EVERY_MS);
    assert!(bench.commands().is_empty());
}

/// A leader with two machines online here and a drilling unit leased to both.
fn drilling() -> (Bench, [MachineId; 2]) {
    let mut bench = Bench::leader();
    let machines = [bench.machine(1), bench.machine(2)];
    for (session, machine) in (1..).zip(machines) {
        bench.on(Event::SessionOpened { session, machine, holding: vec![] });
        bench.on(Event::SessionMeasured { session, round_trip_us: 300 });
    }
    bench.pass(REVIEW_EVERY_MS);
    bench.commit();
    let campaign = v1::PublishCampaign {
        kernel: "igemm".to_owned(),
        params: vec![64, 64, 64, 1, 0, 0, 0, 0],
        units: 1,
        redundancy: 2,
        interval_ms: 0,
    };
    bench.submit(1, &signer(9), vec![Kind::PublishCampaign(campaign)]);
    bench.commit();
    bench.beat();
    (bench, machines)
}

fn told(actions: &[Action]) -> Vec<(SessionId, String)> {
    let text = |message: &ToWorker| match message {
        ToWorker::Assign { assignment, .. } => format!("do {}", assignment.key),
        ToWorker::Withdraw(key) => format!("stop {key}"),
    };
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Send { session, message } => Some((*session, text(message))),
            _ => None,
        })
        .collect()
}

#[test]
fn sessions_are_sent_what_their_machine_is_owed() {
    let (mut bench, machines) = drilling();
    let owed = told(&bench.beat());
    assert_eq!(owed.iter().map(|(session, _)| *session).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
    assert!(owed.iter().all(|(_, text)| text.starts_with("do drill/")), "{owed:?}");
    let key = bench.state.owed(machines[0])[0].key.clone();

    // A reconnect is told everything again, and to stop what is no longer owed.
    let holding = vec!["drill/old/1".to_owned(), key.clone()];
    let actions = bench.on(Event::SessionOpened { session: 3, machine: machines[0], holding });
    assert!(actions.iter().any(|action| matches!(action, Action::End { session: 1 })), "one session a machine");
    assert_eq!(told(&actions), [(3, "stop drill/old/1".to_owned()), (3, format!("do {key}"))]);

    // The lease ends with its deadline: the machine is told to stop.
    let mut after = Vec::new();
    while bench.state.owed(machines[0]).iter().any(|assignment| assignment.key == key) {
        after.extend(told(&bench.beat()));
        assert!(bench.now < 600_000, "the lease has a deadline");
    }
    assert!(after.contains(&(3, format!("stop {key}"))), "{after:?}");
}

#[test]
fn a_session_that_lost_its_carrier_is_forgotten() {
    let (mut bench, _) = drilling();
    assert_eq!(bench.core.sessions(), 2);
    bench.core.retain_sessions(|session| session == 2);
    assert_eq!(bench.core.sessions(), 1);
}

/// Two beats, which close an epoch; its number and the entry that closed it.
fn closed_epoch(bench: &mut Bench) -> (u64, u64) {
    bench.beat();
    bench.beat();
    let row = bench.state.epochs().next_back().unwrap();
    (row.epoch, row.index)
}

#[test]
fn the_leader_attests_root_and_segment_until_the_log_has_them() {
    let mut bench = Bench::leader();
    let (epoch, index) = closed_epoch(&mut bench);
    bench.on(Event::SegmentSealed { epoch, index, hash: [6; 32] });
    assert!(bench.commands().is_empty(), "there is no root yet");
    bench.on(Event::RootComputed { epoch, index, root: [4; 32] });
    assert!(matches!(&bench.commands()[..], [Kind::AttestRoot(_)]));
    bench.commit();
    let attested = Attestation { node: NodeId(1), root: [4; 32], segment: Some([6; 32]) };
    assert_eq!(bench.state.epochs().next_back().unwrap().attested, [attested]);
    bench.pass(10_000);
    assert!(!bench.commands().iter().any(|kind| matches!(kind, Kind::AttestRoot(_))));
}

#[test]
fn a_late_segment_holds_the_root_up_for_moments_only() {
    let mut bench = Bench::leader();
    let (epoch, index) = closed_epoch(&mut bench);
    bench.on(Event::RootComputed { epoch, index, root: [4; 32] });
    let attestations =
        |bench: &Bench| bench.commands().into_iter().filter(|kind| matches!(kind, Kind::AttestRoot(_))).count();
    assert_eq!(attestations(&bench), 0);
    bench.pass(1_000);
    assert_eq!(attestations(&bench), 1);
    bench.commit();
    let segment = |bench: &Bench| bench.state.epochs().next_back().unwrap().attested[0].segment;
    assert_eq!(segment(&bench), None);
    bench.on(Event::SegmentSealed { epoch, index, hash: [6; 32] });
    bench.commit();
    assert_eq!(segment(&bench), Some([6; 32]));
}

#[test]
fn a_follower_relays_its_root_again_when_it_does_not_arrive() {
    let mut leader = Bench::leader();
    let (epoch, index) = closed_epoch(&mut leader);
    let mut bench = Bench::new(2);
    bench.on(Event::Role { role: Role::Follower, leader: 1 });
    bench.on(Event::Applied { state: Some(Arc::new(leader.state.clone())), entries: vec![] });
    let relayed = |actions: &[Action]| actions.iter().filter(|action| matches!(action, Action::Relay(_))).count();
    bench.on(Event::SegmentSealed { epoch, index, hash: [6; 32] });
    assert_eq!(relayed(&bench.on(Event::RootComputed { epoch, index, root: [4; 32] })), 1);
    assert_eq!(relayed(&bench.pass(1_000)), 0);
    assert_eq!(relayed(&bench.pass(2_000)), 1);
    assert_eq!(relayed(&bench.on(Event::Role { role: Role::Follower, leader: 3 })), 0);
    assert_eq!(relayed(&bench.pass(REVIEW_EVERY_MS)), 1, "a new leader is told at once");
}

#[test]
fn a_node_that_differs_from_the_majority_stops() {
    for (own_root, own_segment, differing) in [([4; 32], [6; 32], [5; 32]), ([5; 32], [4; 32], [6; 32])] {
        let mut bench = Bench::leader();
        let (epoch, index) = closed_epoch(&mut bench);
        bench.on(Event::SegmentSealed { epoch, index, hash: own_segment });
        bench.on(Event::RootComputed { epoch, index, root: own_root });
        for (node, stops) in [(2, false), (3, true)] {
            let root = v1::AttestRoot { epoch, index, root: vec![5; 32], segment: vec![6; 32] };
            bench.submit(node.into(), &signer(node), vec![Kind::AttestRoot(root)]);
            let actions = bench.commit();
            let stop = actions.iter().find_map(|action| match action {
                Action::Stop(why) => Some(why),
                _ => None,
            });
            assert_eq!(stop.is_some(), stops);
            assert!(stop.is_none_or(|why| why.contains("epoch 1") && why.contains(&hex::encode(differing))));
        }
    }
}
