//! Accounts and signed envelopes, made before a clock starts, so that a run measures the cluster and not the signing.

use crate::{Result, doing};
use matrixai_proto::{
    envelope::{self, COMMANDS, Signer},
    v1::{Batch, Command, CreateAccount, Envelope, FaucetDraw, SubmitRequest, Transfer, command::Kind},
};
use matrixai_state::ids::AccountId;
use prost::{Message as _, bytes::Bytes};
use std::thread;

/// Size of a unary envelope with one transfer, bytes: the memo fills it up.
pub const ENVELOPE_BYTES: usize = 256;
/// What every account draws at its opening, minor units: more than it can send away.
pub const DRAW: u128 = 1 << 40;

/// A request that is encoded already.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Bytes of the gRPC message.
    pub request: Bytes,
    /// Commands in it.
    pub commands: u32,
}

/// Account holders.
#[derive(Debug)]
pub struct People {
    cluster_id: [u8; 32],
    signers: Vec<Signer>,
    ids: Vec<AccountId>,
}

/// One transfer of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// Places of the accounts among the people.
    pub from: usize,
    /// As above.
    pub to: usize,
}

impl People {
    /// This many, with keys that nobody else has.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(cluster_id: [u8; 32], count: usize) -> Result<Self> {
        let base: [u8; 24] = envelope::random().map_err(doing("draw a seed"))?;
        let make = |number: usize| {
            let mut seed = [0; 32];
            seed[..24].copy_from_slice(&base);
            seed[24..].copy_from_slice(&(number as u64).to_le_bytes());
            Signer::from_seed(seed).map_err(doing("make a key"))
        };
        let signers = in_parallel(count, &make)?;
        let ids = signers.iter().map(|signer| AccountId::of_key(&cluster_id, &signer.public_key())).collect();
        Ok(Self { cluster_id, signers, ids })
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The account of one of them.
    #[must_use]
    pub fn account(&self, place: usize) -> AccountId {
        self.ids[place]
    }

    /// One envelope each that opens the account and draws money. (An account can only be opened by its own signature,
    /// so a million accounts are a million envelopes.)
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn openings(&self, expires_ms: u64) -> Result<Vec<Ready>> {
        in_parallel(self.len(), &|place| {
            let kinds = [
                Kind::CreateAccount(CreateAccount::default()),
                Kind::FaucetDraw(FaucetDraw { amount: DRAW.to_string() }),
            ];
            Ok(ready(self.seal(place, &kinds, command_id(0, place), expires_ms)))
        })
    }

    /// Envelopes of `batch` transfers each between random pairs; those of one envelope have one sender. `run` keeps their
    /// ids apart from those of other calls.
    ///
    /// # Errors
    /// When there are fewer than two accounts.
    pub fn transfers(&self, run: u64, count: usize, batch: u32, expires_ms: u64) -> Result<Vec<Ready>> {
        self.transfers_among(0, run, count, batch, expires_ms)
    }

    /// As [`People::transfers`], but the first `spared` neither pay nor are paid.
    ///
    /// # Errors
    /// As [`People::transfers`].
    pub fn transfers_among(
        &self,
        spared: usize,
        run: u64,
        count: usize,
        batch: u32,
        expires_ms: u64,
    ) -> Result<Vec<Ready>> {
        let among = self.len().saturating_sub(spared);
        if among < 2 {
            return Err("sign transfers: two accounts at least are needed".to_owned());
        }
        let memo = self.memo(expires_ms);
        in_parallel(count, &|number| {
            let mut random = Random::new(run, number as u64);
            let from = random.below(among);
            let mut to = || spared + random.other(among, from);
            let kinds: Vec<Kind> = (0..batch).map(|_| self.transfer(to(), memo.clone())).collect();
            Ok(ready(self.seal(spared + from, &kinds, command_id(run, number), expires_ms)))
        })
    }

    /// One envelope with one transfer of one minor unit.
    #[must_use]
    pub fn one_transfer(&self, pair: Pair, id: [u8; 16], expires_ms: u64) -> Envelope {
        self.seal(pair.from, &[self.transfer(pair.to, "chaos".to_owned())], id, expires_ms)
    }

    fn transfer(&self, to: usize, memo: String) -> Kind {
        Kind::Transfer(Transfer { to: self.ids[to].0.to_vec(), amount: "1".to_owned(), memo, open: false })
    }

    /// The memo that makes an envelope of one transfer as long as it is to be.
    fn memo(&self, expires_ms: u64) -> String {
        let length = |memo: String| self.seal(0, &[self.transfer(1, memo)], [1; 16], expires_ms).encoded_len();
        // Two bytes are the memo's own tag and length.
        "m".repeat(ENVELOPE_BYTES.saturating_sub(length(String::new()) + 2))
    }

    fn seal(&self, place: usize, kinds: &[Kind], id: [u8; 16], expires_ms: u64) -> Envelope {
        let commands = kinds.iter().map(|kind| Command { kind: Some(kind.clone()) }).collect();
        let payload = Batch { commands, linked: false }.encode_to_vec();
        self.signers[place].seal(self.cluster_id, COMMANDS, id, expires_ms, payload)
    }
}

/// The envelope as a request of `Ledger.Submit` and `Ledger.SubmitStream`.
#[must_use]
pub fn ready(envelope: Envelope) -> Ready {
    let commands = Batch::decode(envelope.payload.as_slice()).map_or(0, |batch| batch.commands.len());
    let request = SubmitRequest { envelope: Some(envelope) }.encode_to_vec().into();
    Ready { request, commands: u32::try_from(commands).unwrap_or(u32::MAX) }
}

/// The id of an envelope: the number of the call that made it, and its own.
#[must_use]
pub fn command_id(run: u64, number: usize) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(number as u64).to_le_bytes());
    id[8..].copy_from_slice(&run.to_le_bytes());
    id
}

/// The envelope's own number in its id.
#[must_use]
pub fn number(id: &[u8]) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(id.get(..8)?.try_into().ok()?)).ok()
}

/// Calls `make` for every number below `count`, on every core.
fn in_parallel<T: Send>(count: usize, make: &(impl Fn(usize) -> Result<T> + Sync)) -> Result<Vec<T>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = count.div_ceil(threads).max(1);
    thread::scope(|scope| {
        let starts = (0..count).step_by(share);
        let part = |start: usize| scope.spawn(move || (start..count.min(start + share)).map(make).collect());
        let parts: Vec<_> = starts.map(part).collect();
        let mut all = Vec::with_capacity(count);
        for part in parts {
            let made: Result<Vec<T>> = part.join().map_err(|_| "a signing thread panicked".to_owned())?;
            all.extend(made?);
        }
        Ok(all)
    })
}

/// SplitMix64 (Steele, Lea and Flood, 2014): pairs of accounts need spread, not secrecy.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A stream of its own for each pair of numbers.
    #[must_use]
    pub fn new(run: u64, number: u64) -> Self {
        Self(run.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is above 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.word() % end as u64) as usize
    }

    /// Below `end`, which is above 1, but not `than`.
    pub fn other(&mut self, end: usize, than: usize) -> usize {
        (than + 1 + self.below(end - 1)) % end
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_envelope_of_one_transfer_has_its_size_and_verifies() {
        let people = People::new([7; 32], 5).unwrap();
        for ready in people.transfers(1, 20, 1, 1_800_000_000_000).unwrap() {
            let envelope = SubmitRequest::decode(ready.request).unwrap().envelope.unwrap();
            assert_eq!(envelope.encoded_len(), ENVELOPE_BYTES);
            envelope::verify(&envelope).unwrap();
        }
    }

    #[test]
    fn nobody_pays_themselves_and_ids_differ() {
        let people = People::new([7; 32], 2).unwrap();
        let mut ids = std::collections::BTreeSet::new();
        for ready in people.transfers(3, 50, 4, 1_800_000_000_000).unwrap() {
            let envelope = SubmitRequest::decode(ready.request).unwrap().envelope.unwrap();
            let from = AccountId::of_key(&[7; 32], &envelope.key.as_slice().try_into().unwrap());
            for command in Batch::decode(envelope.payload.as_slice()).unwrap().commands {
                let Some(Kind::Transfer(transfer)) = command.kind else { panic!("a transfer") };
                assert_ne!(transfer.to, from.0);
            }
            assert_eq!(number(&envelope.command_id), Some(ids.len()));
            ids.insert(envelope.command_id);
        }
        assert_eq!(ids.len(), 50);
    }
}
