//! Identities: twenty bytes each, a type each, so that a job can never be passed for a machine.

use matrixai_protocol::sha256;
use serde::{Deserialize, Serialize};
use std::{cmp::Ordering, fmt};

/// An ed25519 public key.
pub type Key = [u8; 32];
/// A SHA-256 hash.
pub type Hash = [u8; 32];
/// What a signer calls one of its envelopes; unique until the envelope expires.
pub type CommandId = [u8; 16];

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 20]);

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                words(&self.0).cmp(&words(&other.0))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [0; 40];
                let (pairs, _) = digits.as_chunks_mut::<2>();
                pairs.iter_mut().zip(self.0).for_each(|(pair, byte)| *pair = hex_digits(byte));
                f.pad(str::from_utf8(&digits).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<$name> for [u8; 20] {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

id!(
    /// An account: SHA-256("MatrixAI/account/v1" || cluster id || first key)[..20], or a system account's name.
    AccountId
);
id!(
    /// A machine: SHA-256("MatrixAI/machine/v1" || cluster id || machine key)[..20].
    MachineId
);
id!(
    /// A job, made by `SubmitTraining`.
    JobId
);
id!(
    /// An offer, made by `MakeOffer`.
    OfferId
);
id!(
    /// An order, made by `PlaceOrder`; that of a job has the job's id.
    OrderId
);
id!(
    /// An agreement: SHA-256("MatrixAI/agreement/v1" || order || number of the trade LE64)[..20].
    AgreementId
);
id!(
    /// A drilling campaign, made by `PublishCampaign`.
    CampaignId
);
id!(
    /// A drilling unit: SHA-256("MatrixAI/unit/v1" || campaign || number LE32)[..20].
    UnitId
);

id!(
    /// A proposal, made by `Propose`.
    ProposalId
);

id!(
    /// A hold, made by `HoldFunds`.
    HoldId
);

impl From<JobId> for OrderId {
    fn from(job: JobId) -> Self {
        Self(job.0)
    }
}

/// A coordinator: its number in genesis or the one it was given when it joined; its raft id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AccountId {
    /// Where money comes from. Holds none: the counter `minted` is its book.
    pub const MINT: AccountId = AccountId::system(b"mint");
    /// Where money goes to die. Holds none: the counter `burned` is its book.
    pub const BURN: AccountId = AccountId::system(b"burn");
    /// Receives fees.
    pub const TREASURY: AccountId = AccountId::system(b"treasury");
    /// Names the faucet in statements.
    pub const FAUCET: AccountId = AccountId::system(b"faucet");
    /// Budget of what the network adds to prices.
    pub const SUBSIDY: AccountId = AccountId::system(b"subsidy");
    /// Budget of drilling campaigns.
    pub const CAMPAIGNS: AccountId = AccountId::system(b"campaigns");
    /// Every system account with its name.
    pub const SYSTEM: [(AccountId, &'static str); 6] = [
        (Self::MINT, "mint"),
        (Self::BURN, "burn"),
        (Self::TREASURY, "treasury"),
        (Self::FAUCET, "faucet"),
        (Self::SUBSIDY, "subsidy"),
        (Self::CAMPAIGNS, "campaigns"),
    ];

    /// The account that a key opens.
    pub fn of_key(cluster_id: &Hash, key: &Key) -> Self {
        Self(first_20(sha256(&[b"MatrixAI/account/v1", cluster_id, key])))
    }

    /// The name's ASCII bytes, zero-padded; runs at compile time only.
    #[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
    const fn system(name: &[u8]) -> Self {
        let mut id = [0; 20];
        let mut at = 0;
        while at < name.len() {
            id[at] = name[at];
            at += 1;
        }
        Self(id)
    }
}

impl MachineId {
    /// The machine that a machine key acts for.
    pub fn of_key(cluster_id: &Hash, key: &Key) -> Self {
        Self(first_20(sha256(&[b"MatrixAI/machine/v1", cluster_id, key])))
    }
}

impl UnitId {
    /// The `number`-th unit of a campaign, counted from 0.
    pub fn of(campaign: CampaignId, number: u32) -> Self {
        Self(first_20(sha256(&[b"MatrixAI/unit/v1", &campaign.0, &number.to_le_bytes()])))
    }
}

/// The id of what the `position`-th command of an envelope makes. `kind` is "offer", "job", "campaign",
/// "proposal" or "hold".
pub fn made_id(kind: &str, key: &Key, command_id: &CommandId, position: u32) -> [u8; 20] {
    first_20(sha256(&[b"MatrixAI/id/v1", kind.as_bytes(), key, command_id, &position.to_le_bytes()]))
}

/// The id of an agreement: of which order, and the how manieth trade it was.
pub(crate) fn agreement_id(order: OrderId, trade: u64) -> AgreementId {
    AgreementId(first_20(sha256(&[b"MatrixAI/agreement/v1", &order.0, &trade.to_le_bytes()])))
}

/// The id of the order for what a lost agreement left.
pub(crate) fn order_id_again(agreement: AgreementId) -> OrderId {
    OrderId(first_20(sha256(&[b"MatrixAI/again/v1", &agreement.0])))
}

/// The cluster's id, which is the chain id of every formula.
pub fn cluster_id(genesis: &[u8]) -> Hash {
    sha256(&[b"MatrixAI/genesis/v1", genesis])
}

/// An id as numbers of the same order as its bytes: comparing bytes is a call of `memcmp`, which was half of what searches in
/// ordered tables cost.
fn words(id: &[u8; 20]) -> (u128, u32) {
    let (first, last) = (id.first_chunk().copied(), id.last_chunk().copied());
    (u128::from_be_bytes(first.unwrap_or_default()), u32::from_be_bytes(last.unwrap_or_default()))
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| hex_digits(*byte).map(char::from)).collect()
}

/// Those of one byte.
const fn hex_digits(byte: u8) -> [u8; 2] {
    const fn digit(nibble: u8) -> u8 {
        nibble.wrapping_add(if nibble < 10 { b'0' } else { b'a'.wrapping_sub(10) })
    }
    [digit(byte >> 4), digit(byte & 15)]
}

fn first_20(hash: Hash) -> [u8; 20] {
    let mut id = [0; 20];
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::hex;
    use proptest::prelude::*;

    #[test]
    fn system_accounts_are_named_by_their_bytes() {
        assert_eq!(&AccountId::TREASURY.0, b"treasury\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(AccountId::MINT.to_string(), "6d696e7400000000000000000000000000000000");
    }

    proptest! {
        #[test]
        fn ids_are_ordered_as_their_bytes(left in any::<[u8; 20]>(), same in 0usize..=20, right in any::<[u8; 20]>()) {
            let mut other = right;
            other.iter_mut().zip(left).take(same).for_each(|(to, from)| *to = from);
            prop_assert_eq!(OfferId(left).cmp(&OfferId(other)), left.cmp(&other));
            prop_assert_eq!(OfferId(left).to_string(), hex::encode(left));
        }
    }

    #[test]
    fn ids_of_one_envelope_differ_by_kind_and_position() {
        let id = |kind, position| made_id(kind, &[1; 32], &[2; 16], position);
        assert_ne!(id("job", 0), id("job", 1));
        assert_ne!(id("job", 0), id("offer", 0));
        assert_eq!(id("job", 0), id("job", 0));
    }
}
