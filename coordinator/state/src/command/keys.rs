//! Commands about who signs for an account, and who is paid.

use crate::ids::{AccountId, Key};

/// Another key signs for the signer's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotateKey {
    /// Which.
    pub new_key: Key,
    /// Its signature over "MatrixAI/account-key/v1" || cluster id || account id; checked at the edge and by auditors.
    pub possession: Vec<u8>,
}

/// Another key signs for an account, says its recovery key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverAccount {
    /// Which account.
    pub account: AccountId,
    /// Which key.
    pub new_key: Key,
    /// As in [`RotateKey`].
    pub possession: Vec<u8>,
    /// The next recovery key; none keeps the present one.
    pub recovery_key: Option<Key>,
}

/// Has another account paid what the signer's machines earn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetPayout {
    /// Whom; none: the signer itself.
    pub to: Option<AccountId>,
}
