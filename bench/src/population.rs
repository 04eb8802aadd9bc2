//! A network of many accounts and the log entries that keep it busy: what `apply` and `snapshot` measure on.
//!
//! Entries are real `LogEntry` bytes with envelopes of the signed shape; the signature's bytes are there but are nobody's,
//! since `State::apply` does not look at them. Accounts are drawn uniformly, which is the worst case for caches.

use matrixai_proto::{
    envelope::COMMANDS,
    v1::{self, command::Kind},
};
use matrixai_protocol::sha256;
use matrixai_state::{
    State,
    ids::{AccountId, made_id},
};
use prost::Message;

/// Ledger time at which a measured network begins.
const START_MS: u64 = 1_800_000_000_000;
/// Life of an envelope, ms: how long it is remembered.
pub const LIFE_MS: u64 = 60_000;
/// Bytes of a single transfer's whole envelope, and of one command in a batch.
pub const TRANSFER_BYTES: usize = 256;
/// Bytes of a hold's memo.
const HOLD_MEMO_BYTES: usize = 16;
/// What each account has at first, minor units.
const ENDOWMENT: &str = "1000000000";

/// A state with its accounts, and where its log stands.
#[derive(Debug, Clone)]
pub struct Population {
    /// The state.
    pub state: State,
    /// Keys of the accounts.
    pub keys: Vec<[u8; 32]>,
    /// Their ids.
    pub ids: Vec<AccountId>,
    draw: u64,
    now_ms: u64,
    command_id: u64,
}

/// A hold that somebody may post.
#[derive(Debug)]
pub struct Posting {
    by: usize,
    hold: [u8; 20],
}

impl Population {
    /// A network of `accounts` accounts, each opened and endowed through the log.
    ///
    /// # Panics
    /// When the state refuses what it should not.
    pub fn new(accounts: usize) -> Self {
        let genesis = v1::Genesis {
            format: 1,
            network: "bench".into(),
            test_network: true,
            nodes: vec![v1::GenesisNode {
                id: 1,
                key: vec![1; 32],
                grpc: "127.0.0.1:1".into(),
                web: "127.0.0.1:2".into(),
            }],
            admin_keys: vec![vec![2; 32]],
            faucet_daily: "1000000000000".into(),
            faucet_total: "1000000000000000000000".into(),
            fee_bp: 100,
            beat_ms: 1_000,
            r0: vec![3; 32],
            machine_timeout_ms: 5_000,
            epoch_beats: 60,
            created_ms: START_MS,
            ..v1::Genesis::default()
        };
        let state = State::genesis(&genesis.encode_to_vec()).expect("the genesis is sound");
        let mut all = Self { state, keys: Vec::new(), ids: Vec::new(), draw: 7, now_ms: START_MS, command_id: 0 };
        for number in 0..accounts as u64 {
            let key = sha256(&[b"bench account", &number.to_le_bytes()]);
            all.ids.push(AccountId::of_key(all.state.cluster_id(), &key));
            all.keys.push(key);
        }
        for from in (0..accounts).step_by(1_024) {
            let envelopes = (from..accounts.min(from + 1_024))
                .map(|at| {
                    let open = Kind::CreateAccount(v1::CreateAccount::default());
                    let endow = Kind::FaucetDraw(v1::FaucetDraw { amount: ENDOWMENT.into() });
                    all.envelope(at, vec![command(open), command(endow)])
                })
                .collect();
            let entry = all.entry(envelopes, LIFE_MS);
            all.apply(&entry);
        }
        all
    }

    /// Applies an entry and wants every command done. Returns the commands.
    ///
    /// # Panics
    /// When one is refused.
    pub fn apply(&mut self, entry: &[u8]) -> usize {
        let applied = self.state.apply(self.state.index() + 1, entry);
        let outcomes = applied.results.iter().flat_map(|result| result.outcomes.iter());
        outcomes.inspect(|outcome| assert!(outcome.to_parts().0 == 0, "refused: {outcome:?}")).count()
    }

    /// An account drawn uniformly.
    pub fn any(&mut self) -> usize {
        // SplitMix64.
        self.draw = self.draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.draw;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        ((u128::from(word) * self.keys.len() as u128) >> 64) as usize
    }

    /// Two accounts that differ.
    pub fn pair(&mut self) -> (usize, usize) {
        let from = self.any();
        loop {
            let to = self.any();
            if to != from {
                return (from, to);
            }
        }
    }

    /// An entry of `count` single transfers, each in an envelope of [`TRANSFER_BYTES`] in all; then `advance_ms` pass.
    pub fn singles(&mut self, count: usize, advance_ms: u64) -> Vec<u8> {
        // All fields but the memo have fixed lengths.
        let overhead = self.envelope(0, vec![self.transfer(0, 1)]).len();
        let mut envelopes = Vec::with_capacity(count);
        for _ in 0..count {
            let (from, to) = self.pair();
            let transfer = self.transfer(to, 1 + TRANSFER_BYTES - overhead);
            envelopes.push(self.envelope(from, vec![transfer]));
        }
        self.entry(envelopes, advance_ms)
    }

    /// An entry of `envelopes` envelopes with `batch` transfers each, every command of [`TRANSFER_BYTES`] in the batch's
    /// encoding; then `advance_ms` pass.
    pub fn batches(&mut self, envelopes: usize, batch: usize, advance_ms: u64) -> Vec<u8> {
        // The lengths of memo, transfer and command take a byte more each above 127.
        let overhead = v1::Batch { commands: vec![self.transfer(0, 1)], linked: false }.encoded_len() + 3;
        let mut all = Vec::with_capacity(envelopes);
        for _ in 0..envelopes {
            let from = self.any();
            let mut commands = Vec::with_capacity(batch);
            while commands.len() < batch {
                let to = self.any();
                if to != from {
                    commands.push(self.transfer(to, 1 + TRANSFER_BYTES - overhead));
                }
            }
            all.push(self.envelope(from, commands));
        }
        self.entry(all, advance_ms)
    }

    /// An entry of `count` first and as many second phases of transfers, one command an envelope: the posts are those of
    /// `open`, in which the holds are left. Then `advance_ms` pass.
    pub fn two_phase_singles(&mut self, count: usize, open: &mut Vec<Posting>, advance_ms: u64) -> Vec<u8> {
        let posts = std::mem::take(open);
        let mut envelopes = Vec::with_capacity(count + posts.len());
        for _ in 0..count {
            let (from, to) = self.pair();
            envelopes.push(self.envelope(from, vec![self.hold(to, HOLD_MEMO_BYTES)]));
            open.push(Posting { by: to, hold: self.made(from, 0) });
        }
        for posting in posts {
            envelopes.push(self.envelope(posting.by, vec![post(&posting)]));
        }
        self.entry(envelopes, advance_ms)
    }

    /// The same with `batch` commands an envelope, all holds of an envelope for one account, which posts them together.
    pub fn two_phase_batches(
        &mut self,
        envelopes: usize,
        batch: usize,
        open: &mut Vec<Posting>,
        advance_ms: u64,
    ) -> Vec<u8> {
        let posts = std::mem::take(open);
        let mut all = Vec::with_capacity(2 * envelopes);
        for _ in 0..envelopes {
            let (from, to) = self.pair();
            let commands = (0..batch).map(|_| self.hold(to, HOLD_MEMO_BYTES)).collect();
            all.push(self.envelope(from, commands));
            open.extend((0..batch as u32).map(|position| Posting { by: to, hold: self.made(from, position) }));
        }
        for posts in posts.chunks(batch) {
            all.push(self.envelope(posts[0].by, posts.iter().map(post).collect()));
        }
        self.entry(all, advance_ms)
    }

    /// What the command at a position of the newest envelope makes.
    fn made(&self, from: usize, position: u32) -> [u8; 20] {
        made_id("hold", &self.keys[from], &self.spread(), position)
    }

    fn hold(&self, to: usize, memo_bytes: usize) -> v1::Command {
        command(Kind::HoldFunds(v1::HoldFunds {
            to: self.ids[to].0.to_vec(),
            amount: (100 + self.command_id % 900).to_string(),
            duration_s: 600,
            memo: "m".repeat(memo_bytes),
        }))
    }

    /// The newest command id: spread like the random ids of real clients.
    fn spread(&self) -> [u8; 16] {
        let hash = sha256(&[&self.command_id.to_le_bytes()]);
        std::array::from_fn(|at| hash[at])
    }

    /// An envelope of an account, under the next command id.
    pub fn envelope(&mut self, from: usize, commands: Vec<v1::Command>) -> Vec<u8> {
        self.envelope_of(self.keys[from], commands)
    }

    /// The same of any key.
    pub fn envelope_of(&mut self, key: [u8; 32], commands: Vec<v1::Command>) -> Vec<u8> {
        self.command_id += 1;
        v1::Envelope {
            cluster_id: self.state.cluster_id().to_vec(),
            key: key.to_vec(),
            method: COMMANDS.into(),
            command_id: self.spread().to_vec(),
            expires_ms: self.now_ms + LIFE_MS,
            payload: v1::Batch { commands, linked: false }.encode_to_vec(),
            signature: vec![0x5a; 64],
        }
        .encode_to_vec()
    }

    /// An entry of these envelopes, stamped now; then `advance_ms` pass.
    pub fn entry(&mut self, envelopes: Vec<Vec<u8>>, advance_ms: u64) -> Vec<u8> {
        let entry = v1::LogEntry { now_ms: self.now_ms, rules_version: 1, envelopes }.encode_to_vec();
        self.now_ms += advance_ms;
        entry
    }

    fn transfer(&self, to: usize, memo_bytes: usize) -> v1::Command {
        let amount = (100 + self.command_id % 900).to_string();
        command(Kind::Transfer(v1::Transfer {
            to: self.ids[to].0.to_vec(),
            amount,
            memo: "m".repeat(memo_bytes),
            open: false,
        }))
    }
}

fn post(posting: &Posting) -> v1::Command {
    command(Kind::PostHold(v1::PostHold { hold: posting.hold.to_vec(), amount: String::new() }))
}

/// A command of a kind.
pub fn command(kind: Kind) -> v1::Command {
    v1::Command { kind: Some(kind) }
}
