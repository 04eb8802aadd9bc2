//! A log as three honest coordinators would write it: accounts, test money, transfers, beats, and each epoch's roots and
//! segments attested in the next.

use crate::archive::{Entry, Head, SegmentHasher, hasher::entry_hash};
use matrixai_proto::{
    envelope::{COMMANDS, Signer},
    v1::{self, Envelope, LogEntry, command::Kind as Command},
};
use matrixai_state::{Effect, State, ids::AccountId};
use prost::Message as _;

const START_MS: u64 = 1_900_000_000_000;

pub(crate) fn signer(seed: u8) -> Signer {
    Signer::from_seed([seed; 32]).unwrap()
}

pub(crate) fn genesis() -> Vec<u8> {
    let node = |id: u8| v1::GenesisNode {
        id: id.into(),
        key: signer(id).public_key().to_vec(),
        grpc: format!("127.0.0.1:{}", 7_000 + u16::from(id)),
        web: format!("127.0.0.1:{}", 8_000 + u16::from(id)),
    };
    v1::Genesis {
        format: 1,
        network: "test".to_owned(),
        test_network: true,
        nodes: (1..=3).map(node).collect(),
        admin_keys: Vec::new(),
        faucet_daily: "1000000".to_owned(),
        faucet_total: "1000000000".to_owned(),
        fee_bp: 100,
        beat_ms: 1_000,
        r0: vec![7; 32],
        machine_timeout_ms: 3_000,
        epoch_beats: 2,
        created_ms: START_MS,
        ..v1::Genesis::default()
    }
    .encode_to_vec()
}

/// The writer of a log.
pub(crate) struct Maker {
    pub(crate) state: State,
    pub(crate) entries: Vec<Entry>,
    /// Ends of the epochs.
    pub(crate) heads: Vec<Head>,
    hasher: SegmentHasher,
    now_ms: u64,
    commands: u64,
    due: Vec<v1::AttestRoot>,
}

impl Maker {
    pub(crate) fn new() -> Self {
        let state = State::genesis(&genesis()).unwrap();
        let head = Head::genesis(*state.cluster_id());
        Self {
            state,
            entries: Vec::new(),
            heads: vec![head],
            hasher: SegmentHasher::after(head),
            now_ms: START_MS,
            commands: 0,
            due: Vec::new(),
        }
    }

    /// A log of so many closed epochs, and one that is open.
    pub(crate) fn log(epochs: usize) -> Self {
        let mut maker = Self::new();
        for account in [101, 102] {
            let draw = v1::FaucetDraw { amount: "1000".to_owned() };
            let opening = [Command::CreateAccount(v1::CreateAccount::default()), Command::FaucetDraw(draw)];
            maker.commit(vec![maker.seal(&signer(account), opening.to_vec())]);
        }
        while maker.heads.len() <= epochs {
            maker.epoch();
        }
        maker.transfers();
        maker
    }

    fn epoch(&mut self) {
        for _ in 0..2 {
            self.transfers();
            let attested = std::mem::take(&mut self.due);
            for root in attested {
                let sealed =
                    (1..=3).map(|node| self.seal(&signer(node), vec![Command::AttestRoot(root.clone())])).collect();
                self.commit(sealed);
            }
            self.beat();
        }
    }

    fn transfers(&mut self) {
        let to = |seed: u8| AccountId::of_key(self.state.cluster_id(), &signer(seed).public_key()).0.to_vec();
        let transfer =
            |to| Command::Transfer(v1::Transfer { to, amount: "3".to_owned(), memo: "m".to_owned(), open: false });
        let (one, two) = (vec![transfer(to(102))], vec![transfer(to(101)), transfer(to(101))]);
        self.commit(vec![self.seal(&signer(101), one), self.seal(&signer(102), two)]);
    }

    fn beat(&mut self) {
        let (number, r) = self.state.beacon();
        let alpha = matrixai_protocol::beacon::alpha(self.state.cluster_id(), number + 1, &r);
        let share = |node: u8| v1::BeatShare {
            node: node.into(),
            proof: matrixai_protocol::vrf::prove(&[node; 32], &alpha).to_vec(),
        };
        let beat = v1::Beat { number: number + 1, shares: (1..=3).map(share).collect() };
        self.commit(vec![self.seal(&signer(1), vec![Command::Beat(beat)])]);
    }

    pub(crate) fn seal(&self, by: &Signer, kinds: Vec<Command>) -> Envelope {
        let commands = kinds.into_iter().map(|kind| v1::Command { kind: Some(kind) }).collect();
        let payload = v1::Batch { commands, linked: false }.encode_to_vec();
        let mut command_id = [0; 16];
        command_id[..8].copy_from_slice(&self.commands.to_le_bytes());
        by.seal(*self.state.cluster_id(), COMMANDS, command_id, self.now_ms + 60_000, payload)
    }

    pub(crate) fn commit(&mut self, envelopes: Vec<Envelope>) {
        (self.commands, self.now_ms) = (self.commands + 1, self.now_ms + 100);
        let envelopes = envelopes.iter().map(Envelope::encode_to_vec).collect();
        let data = LogEntry { now_ms: self.now_ms, rules_version: 1, envelopes }.encode_to_vec();
        let entry = Entry { index: self.state.index() + 1, term: 1, data };
        let applied = self.state.apply(entry.index, &entry.data);
        for outcome in applied.results.iter().flat_map(|result| result.outcomes.iter()) {
            assert!(outcome.to_parts().0 == 0, "the log has a refusal: {outcome:?}");
        }
        self.hasher.push(entry.index, &entry_hash(&entry));
        self.entries.push(entry);
        for effect in applied.effects {
            if let Effect::RootDue { epoch, index } = effect {
                let head = self.hasher.sealed().head;
                assert_eq!((head.epoch, head.index), (epoch, index));
                self.heads.push(head);
                self.hasher = SegmentHasher::after(head);
                let root = self.state.root().to_vec();
                self.due.push(v1::AttestRoot { epoch, index, root, segment: head.hash.to_vec() });
            }
        }
    }
}

/// Changes an entry as somebody would who makes everything fit that needs no key.
pub(crate) fn change(entry: &mut Entry, change: impl FnOnce(&mut LogEntry)) {
    let mut wire = LogEntry::decode(entry.data.as_slice()).unwrap();
    change(&mut wire);
    entry.data = wire.encode_to_vec();
}
