//! Whatever is asked for, in whatever order: money is conserved, replicas stay equal, a refusal changes nothing, a
//! snapshot and a replay end in the same state. (`World::apply` checks the first two after every entry.)
#![allow(clippy::unwrap_used)]

mod common;

use common::{
    Founding, LIFE_MS, Odd, World,
    language::{self, command_of},
    restored, snapshot_of,
};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_state::{
    Outcome,
    ids::Hash,
    snapshot::{CHUNK_BYTES_MAX, Chunks, Loader},
};
use proptest::{collection::vec, prelude::*, sample::select};
use prost::Message;

/// Who signs. Mostly those whom it makes sense for.
const SIGNERS: &[&str] = &[
    "alice", "alice", "bob", "bob", "carol", "admin", "m1", "m2", "m3", "n1", "n2", "stranger", "alice2", "alice3",
    "bob2", "spare",
];

/// Commands with holes: `A` an account, `M` a machine, `X` something made before, `N` a small number, `P` money.
const SHAPES: &[&str] = &[
    "create_account",
    "faucet amount=P",
    "burn amount=P",
    "transfer to=A amount=P",
    "transfer to=A amount=P",
    "enrol machine=M",
    "enrol machine=A",
    "revoke machine=M",
    "campaign units=N redundancy=N",
    "commit unit=X attempt=N",
    "reveal unit=X",
    "offer machine=M price=P min=N max=N",
    "offer machine=M price=P",
    "withdraw offer=X",
    "submit machines=N price=P total=P duration=N",
    "submit machines=1 price=P total=P",
    "cancel job=X",
    "task_done job=X round=N v=N attempt=N",
    "reduced job=X round=N",
    "replayed job=X segment=N attempt=N",
    "opened job=X segment=N",
    "failed job=X attempt=N",
    "beat",
    "beat number=N",
    "online machine=M",
    "online machine=M",
    "lost machine=M",
    "attest epoch=N index=N",
    "announce version=N",
    "propose do=add_node key=A port=N",
    "propose do=promote node=N",
    "propose do=remove node=N",
    "propose do=move node=N port=N",
    "propose do=fee bp=N",
    "propose do=limits of=A rate=N burst=N open_max=N",
    "propose do=limits open_max=N",
    "propose do=limits of=A default=1",
    "propose do=role of=A role=R",
    "propose do=role of=A role=R",
    "propose do=threshold of=N",
    "propose do=campaign units=N redundancy=N",
    "propose do=rules version=N",
    "propose do=minimum amount=P",
    "propose do=issue amount=P ref=A",
    "propose do=redeem amount=P ref=R",
    "propose do=grant from=campaigns to=A amount=P ref=M",
    "approve proposal=X",
    "take_back proposal=X",
    "transfer to=A amount=P open=1",
    "hold to=A amount=P for=N",
    "hold to=A amount=P",
    "post hold=X amount=P",
    "post hold=X",
    "void hold=X",
    "order machines=N least=N price=P total=P duration=N",
    "order machines=1 price=P total=P",
    "order machines=2 least=1 price=2MAI total=5MAI",
    "order price=P total=P now=1",
    "order offer=X total=P",
    "amend order=X machines=N price=P total=P",
    "amend order=X price=P",
    "cancel_order order=X",
    "reprice offer=X price=P",
    "end agreement=X",
    "begin agreement=X",
    "renew agreement=X for=N",
    "rotate new=K",
    "recover of=A new=K",
    "recover of=alice new=K recovery=K",
    "payout to=A",
    "payout",
];

/// What happens next.
#[derive(Debug, Clone)]
enum Happening {
    Said(Step),
    /// A machine does what it is owed.
    Answered(&'static str),
    /// Beats pass.
    Beats(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => step().prop_map(Happening::Said),
        3 => select(&["m1", "m2", "m3"][..]).prop_map(Happening::Answered),
        1 => (1u8..4).prop_map(Happening::Beats),
    ]
}

#[derive(Debug, Clone)]
struct Step {
    signer: &'static str,
    /// Shape and what fills its holes.
    commands: Vec<(&'static str, u64)>,
    /// Time that passes before it.
    wait_ms: u64,
    /// Sends the same envelope twice in one entry.
    twice: bool,
    /// All of its commands or none.
    linked: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let commands = vec((select(SHAPES), any::<u64>()), 1..4);
    let wait_ms = prop_oneof![12 => 0u64..2_000, 2 => 0u64..100_000, 1 => Just(90_000_000u64)];
    let odd = (any::<bool>(), any::<bool>());
    (select(SIGNERS), commands, wait_ms, odd).prop_map(|(signer, commands, wait_ms, (twice, linked))| Step {
        signer,
        commands,
        wait_ms,
        twice,
        linked,
    })
}

/// Fills a shape's holes from a number.
fn fill(world: &World, shape: &str, mut seed: u64) -> String {
    let mut pick = |choices: u64| {
        let chosen = seed % choices;
        seed = (seed / choices) ^ (seed << 7);
        chosen
    };
    let made: Vec<&String> = world.names.keys().collect();
    shape
        .split(' ')
        .map(|word| match word.split_once('=') {
            Some((name, "A")) => format!("{name}={}", ["alice", "bob", "carol", "admin", "treasury"][pick(5) as usize]),
            Some((name, "K")) => {
                format!("{name}={}", ["alice", "alice2", "alice3", "bob2", "carol2", "m1"][pick(6) as usize])
            }
            Some((name, "R")) => format!("{name}={}", ["admin", "operator", "auditor", "user"][pick(4) as usize]),
            Some((name, "M")) => format!("{name}=m{}", pick(4) + 1),
            Some((name, "N")) => format!("{name}={}", [0, 1, 1, 2, 2, 3, 7, u64::from(u32::MAX)][pick(8) as usize]),
            Some((name, "P")) => {
                let amounts = ["0", "1", "999999999", "1MAI", "2MAI", "5MAI", "30MAI", "1000000000000000000000000000"];
                format!("{name}={}", amounts[pick(8) as usize])
            }
            Some((name, "X")) if !made.is_empty() => format!("{name}={}", made[pick(made.len() as u64) as usize]),
            _ => word.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Parts that a refused envelope may change: the index and the memory of the refusal.
fn lasting(world: &World) -> Vec<(&'static str, Hash)> {
    let fleeting = ["head", "windows", "rates", "rate_expiry"];
    world.state.part_hashes().into_iter().filter(|(name, _)| !fleeting.contains(name)).collect()
}

/// Takes a step; checks what must hold of it.
fn take(world: &mut World, step: &Step) {
    world.now_ms += step.wait_ms;
    world.tick();
    let before = lasting(world);
    let movements = world.state.minted();
    let kinds: Vec<Kind> = step
        .commands
        .iter()
        .map(|(shape, seed)| command_of(world, step.signer, &fill(world, shape, *seed), "property"))
        .collect();
    let envelope = world.envelope(step.signer, kinds, &Odd { linked: step.linked, ..Odd::default() });
    let envelopes = if step.twice { vec![envelope.clone(), envelope] } else { vec![envelope] };
    let applied = world.apply(envelopes).clone();
    if step.twice {
        assert_eq!(applied.results[0], applied.results[1], "the same envelope again has the same result");
    }
    let outcomes = &applied.results[0].outcomes;
    let refused = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Refused(_))).count();
    assert!(!step.linked || refused == 0 || refused == outcomes.len(), "all or nothing: {step:?} {outcomes:?}");
    if refused == outcomes.len() {
        assert_eq!(before, lasting(world), "a refusal changed something: {step:?}");
        assert_eq!(movements, world.state.minted());
        assert!(applied.movements.is_empty() && applied.events.is_empty(), "a refusal left something: {step:?}");
    }
    for outcome in outcomes.iter() {
        if let Outcome::Done { id: Some(id) } = outcome {
            let name = format!("x{}", world.names.len() % 12);
            world.names.insert(name, *id);
        }
    }
    let sequences: Vec<u64> = applied.movements.iter().map(|movement| movement.sequence).collect();
    assert!(sequences.windows(2).all(|pair| pair[0] + 1 == pair[1]), "movements are numbered without gaps");
}

/// Accounts, machines and offers that most commands need to get anywhere.
fn furnished() -> World {
    let economy = v1::Economy {
        emission: "1000003".into(),
        halving_epochs: 2,
        subsidy_bp: 3_333,
        campaign_bp: 3_333,
        burn_bp: 1_234,
        issuer: common::key("bank").to_vec(),
        issue_max: "50000000000".into(),
        dispute_s: 70,
    };
    let mut world = World::new(&Founding { economy: Some(economy), ..Founding::default() });
    for (who, machine) in [("alice", "m1"), ("bob", "m2"), ("carol", "m3")] {
        let say = |world: &World, text: &str| command_of(world, who, text, "furnished");
        let kinds = vec![
            say(&world, "create_account recovery=spare"),
            say(&world, "faucet amount=90MAI"),
            say(&world, &format!("enrol machine={machine}")),
            say(&world, &format!("offer machine={machine} price=1MAI")),
        ];
        let result = world.submit(who, kinds);
        assert!(result.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done { .. })));
        let online = command_of(&world, "n1", &format!("online machine={machine}"), "furnished");
        world.one("n1", online);
    }
    language::measure(&mut world, &["m1", "m2", "m3"], "furnished");
    // A job is under way from the start, and another waits.
    for name in ["x0", "x1"] {
        let submit = command_of(&world, "alice", "submit machines=2 total=10MAI rounds=2", "furnished");
        let Outcome::Done { id: Some(id) } = world.one("alice", submit) else { panic!("a job can be submitted") };
        world.names.insert(name.into(), id);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_is_asked_for_breaks_the_state(happenings in vec(happening(), 1..60)) {
        let mut world = furnished();
        for happening in &happenings {
            match happening {
                Happening::Said(step) => take(&mut world, step),
                Happening::Answered(machine) => {
                    world.now_ms += 200;
                    language::answer(&mut world, machine);
                }
                Happening::Beats(count) => (0..*count).for_each(|_| world.beat()),
            }
        }
        world.finish();
    }

    /// Bytes of any kind, as an entry and as an envelope, are skipped alike everywhere.
    #[test]
    fn garbage_is_skipped(bytes in vec(any::<u8>(), 0..300), flips in vec((any::<prop::sample::Index>(), 1u8..), 0..3)) {
        let mut world = furnished();
        world.apply(vec![bytes.clone()]);
        prop_assert_eq!(world.last.results.len(), 1);
        let kind = command_of(&world, "alice", "transfer to=bob amount=1MAI", "garbage");
        let mut envelope = world.envelope("alice", vec![kind], &Odd::default());
        for (at, mask) in flips {
            let at = at.index(envelope.len());
            envelope[at] ^= mask;
        }
        world.apply(vec![envelope]);
        let root = world.state.part_hashes();
        let mut state = world.state.clone();
        let applied = state.apply(state.index() + 1, &bytes);
        prop_assert!(applied.results.is_empty() || v1::LogEntry::decode(bytes.as_slice()).is_ok());
        prop_assert_eq!(root.len(), state.part_hashes().len());
    }
}

#[test]
fn a_full_window_refuses() {
    let mut world = furnished();
    let limit = matrixai_state::windows::WINDOW_ENVELOPES_MAX as usize;
    let used = 1;
    let zero = command_of(&world, "alice", "faucet amount=0", "window");
    let kind = || zero.clone();
    let mut sent = used;
    while sent < limit {
        let envelopes: Vec<_> =
            (0..8_000.min(limit - sent)).map(|_| world.envelope("alice", vec![kind()], &Odd::default())).collect();
        sent += envelopes.len();
        world.apply(envelopes);
    }
    let code = |outcome: Outcome| outcome.to_parts().1;
    assert_eq!(code(world.one("alice", kind())), "window_full");
    assert_eq!(code(world.one("bob", kind())), "zero_amount", "a window is one key's");
    // Forgetting is bounded an entry, and keeps up.
    world.now_ms += LIFE_MS + 1_000;
    (0..10).for_each(|_| world.tick());
    assert_eq!(code(world.one("alice", kind())), "zero_amount");
}

#[test]
fn an_entry_takes_only_so_many_linked_envelopes() {
    let mut world = furnished();
    let limit = matrixai_state::LINKED_PER_ENTRY_MAX as usize;
    let odd = Odd { linked: true, ..Odd::default() };
    let pay = command_of(&world, "alice", "transfer to=bob amount=1", "linked");
    let envelopes: Vec<_> = (0..=limit).map(|_| world.envelope("alice", vec![pay.clone(); 2], &odd)).collect();
    let last = envelopes[limit].clone();
    let plain = world.envelope("alice", vec![pay.clone()], &Odd::default());
    let name = |result: &matrixai_state::EnvelopeResult| result.outcomes[0].to_parts().1;
    let results = world.apply(envelopes.into_iter().chain([plain]).collect()).results.clone();
    assert!(results[..limit].iter().all(|result| name(result) == "done"));
    assert_eq!((name(&results[limit]), name(&results[limit + 1])), ("too_many_linked", "done"));
    // It is not remembered: the same envelope goes into a later entry.
    assert_eq!(name(&world.apply(vec![last]).results[0]), "done");
}

#[test]
fn an_account_has_only_so_many_machines() {
    let mut world = furnished();
    let limit = matrixai_state::machines::MACHINES_PER_ACCOUNT_MAX as usize;
    let enrol = |world: &World, number: usize| command_of(world, "bob", &format!("enrol machine=many{number}"), "many");
    // Bob has one already; 300 fit an envelope.
    let numbers: Vec<usize> = (1..limit).collect();
    let envelopes: Vec<_> = numbers
        .chunks(300)
        .map(|numbers| {
            let kinds = numbers.iter().map(|number| enrol(&world, *number)).collect();
            world.envelope("bob", kinds, &Odd::default())
        })
        .collect();
    world.apply(envelopes);
    let done = |outcome: &Outcome| matches!(outcome, Outcome::Done { .. });
    assert!(world.last.results.iter().all(|result| result.outcomes.iter().all(done)));
    let one_more = enrol(&world, limit);
    assert_eq!(world.one("bob", one_more.clone()).to_parts().1, "too_many_machines");
    assert!(done(&world.one("alice", one_more)));
}

#[test]
fn an_account_changes_its_key_only_so_often() {
    let mut world = furnished();
    let mut signer = "alice".to_owned();
    for number in 0..matrixai_state::accounts::keys::KEY_CHANGES_MAX {
        let next = format!("next{number}");
        let kind = command_of(&world, &signer, &format!("rotate new={next}"), "keys");
        assert_eq!(world.one(&signer, kind), Outcome::DONE);
        signer = next;
    }
    let kind = command_of(&world, &signer, "rotate new=last", "keys");
    assert_eq!(world.one(&signer, kind).to_parts().1, "too_many_keys");
    // Whoever used them up cannot keep the recovery key out.
    let kind = command_of(&world, "spare", "recover of=alice new=last", "keys");
    assert_eq!(world.one("spare", kind), Outcome::DONE);
}

#[test]
fn time_never_goes_back() {
    let mut world = furnished();
    world.now_ms += 5_000;
    world.tick();
    let now = world.state.now_ms();
    world.now_ms -= 4_000;
    world.tick();
    assert_eq!(world.state.now_ms(), now);
}

#[test]
fn empty_and_unknown_entries_move_the_index_only() {
    let mut world = furnished();
    let before: Vec<_> = world.state.part_hashes().into_iter().filter(|(name, _)| *name != "head").collect();
    let index = world.state.index();
    let unknown_rules =
        v1::LogEntry { now_ms: world.now_ms + 1, rules_version: 2, envelopes: Vec::new() }.encode_to_vec();
    for (step, entry) in [Vec::new(), b"no entry".to_vec(), unknown_rules].into_iter().enumerate() {
        let applied = world.state.apply(index + 1 + step as u64, &entry);
        assert!(applied.results.is_empty());
    }
    let after: Vec<_> = world.state.part_hashes().into_iter().filter(|(name, _)| *name != "head").collect();
    assert_eq!(before, after);
    assert_eq!(world.state.index(), index + 3);
}

#[test]
fn a_damaged_snapshot_is_refused() {
    let world = furnished();
    let bytes = snapshot_of(&world.state);
    assert!(restored(&bytes[1..]).is_err());
    assert!(restored(&bytes[..bytes.len() - 1]).is_err());
    assert!(restored(&[]).is_err());
    for at in (0..bytes.len()).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        // A flipped bit either is noticed or was redundant in the encoding.
        let same = restored(&damaged).map_or(true, |state| state.root() == world.state.root());
        assert!(same, "byte {at}");
    }
}

#[test]
fn a_snapshot_says_what_it_is_and_comes_in_bounded_chunks() {
    let mut world = furnished();
    // Long memos are not part of the state, but remembered refusals are: enough of them for several chunks.
    let refused = command_of(&world, "alice", "faucet amount=0", "chunks");
    for _ in 0..4 {
        let envelopes = (0..8_000).map(|_| world.envelope("alice", vec![refused.clone()], &Odd::default())).collect();
        world.apply(envelopes);
    }
    let chunks: Vec<Vec<u8>> = Chunks::new(world.state.clone(), b"members".to_vec()).collect();
    assert!(chunks.len() > 2 && chunks.iter().all(|chunk| (1..=CHUNK_BYTES_MAX).contains(&chunk.len())));
    let mut loader = Loader::new();
    loader.push(&chunks[0]).unwrap();
    let header = loader.header().expect("the first chunk is the header");
    assert_eq!((header.index, header.root), (world.state.index(), world.state.root()));
    assert_eq!((header.genesis.as_slice(), header.attached.as_slice()), (world.founding.as_slice(), &b"members"[..]));
    chunks[1..].iter().for_each(|chunk| loader.push(chunk).unwrap());
    assert_eq!(loader.finish().unwrap().part_hashes(), world.state.part_hashes());
    // Without one of them it is refused.
    let mut loader = Loader::new();
    [0, 2].into_iter().take_while(|at| loader.push(&chunks[*at]).is_ok()).for_each(drop);
    assert!(loader.finish().is_err());
}

/// A view does not move while the state goes on, and goes on like it when it is applied to itself.
#[test]
fn a_view_can_go_on() {
    let mut world = furnished();
    let mut view = world.state.clone();
    let (root, index) = (view.root(), view.index());
    let kind = command_of(&world, "alice", "transfer to=bob amount=1MAI", "view");
    let first = world.submit("alice", vec![kind]);
    assert!(matches!(first.outcomes[0], Outcome::Done { .. }));
    assert_eq!((view.root(), view.index()), (root, index));
    let (index, entry) = world.log.last().unwrap().clone();
    assert_eq!(view.apply(index, &entry), world.last);
    assert_eq!(view.part_hashes(), world.state.part_hashes());
    view.check_invariants().unwrap();
    // What it remembers it remembers still.
    let again = view.apply(index + 1, &entry);
    assert_eq!((again.results[0].index, &again.results[0].outcomes), (index, &first.outcomes));
}

#[test]
fn a_stranger_leaves_nothing() {
    let mut world = furnished();
    let before = lasting(&world);
    let windows = |world: &World| world.state.part_hashes().into_iter().find(|(name, _)| *name == "windows");
    let remembered = windows(&world);
    let transfer = command_of(&world, "stranger", "transfer to=bob amount=1", "stranger");
    let create = v1::CreateAccount { recovery_key: common::key("stranger").to_vec() };
    let result = world.submit("stranger", vec![Kind::CreateAccount(create), transfer]);
    let names: Vec<&str> = result.outcomes.iter().map(|outcome| outcome.to_parts().1).collect();
    assert_eq!(names, ["bad_key", "unknown_signer"]);
    assert_eq!((before, remembered), (lasting(&world), windows(&world)));
}
