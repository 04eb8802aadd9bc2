//! Wanderers: accounts whose key changes again and again, by the present key or by the recovery key. Keys that are dead go on
//! signing, and owners say who is paid what their machines earn.

use super::{BUYERS, People};
use crate::sim::{client::Request, found};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_state::{State, accounts::AccountRow, ids::Key, money::MAI};

/// Accounts whose key changes.
pub(super) const WANDERERS: u64 = 3;
/// Keys that a wanderer may ever take: few, so that dead ones are proposed again.
const KEYS: u64 = 64;

/// A wanderer's keys; its first is number 0.
fn key(wanderer: u64, number: u64) -> Key {
    found::key("wanderer", wanderer * KEYS + number)
}

/// Its recovery keys; the first of them is named when the account is opened.
fn recovery_key(wanderer: u64, number: u64) -> Key {
    found::key("rescuer", wanderer * KEYS + number)
}

impl People {
    /// What wanderers begin with.
    pub(super) fn wanderers(now_ms: u64) -> Vec<Request> {
        let open = |at| {
            let create = v1::CreateAccount { recovery_key: recovery_key(at, 0).to_vec() };
            let draw = v1::FaucetDraw { amount: (50 * MAI).to_string() };
            Self::plain(key(at, 0), vec![Kind::CreateAccount(create), Kind::FaucetDraw(draw)], now_ms)
        };
        (0..WANDERERS).map(open).collect()
    }

    /// A key changes, or somebody uses one that has changed; or what an owner earns goes elsewhere.
    pub(super) fn wandering(&mut self, state: &State) -> Request {
        let now_ms = state.now_ms();
        let wanderer = self.rng.below(WANDERERS);
        let account = self.account(&key(wanderer, 0));
        let row = state.account(account);
        let present = row.and_then(|row| row.key).unwrap_or(key(wanderer, 0));
        let any = key(wanderer, self.rng.below(KEYS));
        // Now and then one that signed before, or never.
        let signer = if self.rng.one_in(4) { any } else { present };
        let next = self.next_key(wanderer);
        let possession = vec![0; if self.rng.one_in(12) { 63 } else { 64 }];
        let (signer, command) = match self.rng.below(8) {
            0 | 1 => (signer, Kind::RotateKey(v1::RotateKey { new_key: next.to_vec(), possession })),
            2 | 3 => {
                let recovery = self.recovery(row, wanderer);
                let successor = recovery_key(wanderer, self.rng.below(KEYS));
                let successor = if self.rng.one_in(3) { successor.to_vec() } else { Vec::new() };
                let account = account.0.to_vec();
                let new_key = if self.rng.one_in(4) { present } else { next }.to_vec();
                let recover = v1::RecoverAccount { account, new_key, possession, recovery_key: successor };
                (recovery, Kind::RecoverAccount(recover))
            }
            4 => self.payout(),
            5 => (signer, Kind::FaucetDraw(v1::FaucetDraw { amount: self.amount() })),
            _ => {
                let buyer = found::key("buyer", self.rng.below(BUYERS));
                let to = self.account(&buyer).0.to_vec();
                let amount = self.rng.between(1, 1 << 30).to_string();
                (signer, Kind::Transfer(v1::Transfer { to, amount, ..Default::default() }))
            }
        };
        // What is signed by a key counts from there: the next command of the same envelope has a dead one.
        let mut commands = vec![command];
        if self.rng.one_in(4) {
            commands.push(Kind::FaucetDraw(v1::FaucetDraw { amount: "1".to_owned() }));
        }
        Self::plain(signer, commands, now_ms)
    }

    fn next_key(&mut self, wanderer: u64) -> Key {
        match self.rng.below(12) {
            0 => found::key("buyer", 0),
            1 => recovery_key(wanderer, 0),
            _ => key(wanderer, self.rng.below(KEYS)),
        }
    }

    /// Mostly the one that counts.
    fn recovery(&mut self, row: Option<&AccountRow>, wanderer: u64) -> Key {
        let known = row.and_then(|row| row.recovery_key.as_deref().copied());
        known.filter(|_| !self.rng.one_in(4)).unwrap_or(recovery_key(wanderer, self.rng.below(4)))
    }

    fn payout(&mut self) -> (Key, Kind) {
        let owner = found::key("owner", self.rng.below(self.machines));
        let to = match self.rng.below(5) {
            0 => Vec::new(),
            1 => self.account(&owner).0.to_vec(),
            2 => vec![9; 20],
            _ => {
                let wanderer = key(self.rng.below(WANDERERS), 0);
                self.account(&wanderer).0.to_vec()
            }
        };
        (owner, Kind::SetPayout(v1::SetPayout { to }))
    }
}
