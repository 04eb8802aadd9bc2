//! What each role may do. Closed: a new role or right must be decided on here.

use crate::{
    accounts::{AccountRole, AccountRow},
    ids::AccountId,
    outcome::Refusal,
    state::State,
};

/// Something that not every account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// Enrol machines, offer them, submit jobs. An auditor is nobody's competitor or customer.
    TakePart,
    /// Propose what keeps the network running: nodes and campaigns.
    ProposeOperations,
    /// Propose anything.
    ProposeAnything,
    /// Approve proposals.
    Approve,
}

/// Whether a role has a right.
const fn may(role: AccountRole, right: Right) -> bool {
    match (role, right) {
        (AccountRole::Admin, Right::TakePart | Right::ProposeOperations | Right::ProposeAnything | Right::Approve)
        | (AccountRole::Operator, Right::TakePart | Right::ProposeOperations)
        | (AccountRole::User, Right::TakePart) => true,
        (AccountRole::Operator, Right::ProposeAnything | Right::Approve)
        | (AccountRole::User, Right::ProposeOperations | Right::ProposeAnything | Right::Approve)
        | (AccountRole::Auditor | AccountRole::System, _) => false,
    }
}

/// # Errors
/// `not_allowed`.
pub(crate) fn check(state: &State, account: AccountId, right: Right) -> Result<(), Refusal> {
    if has(state.accounts.get(&account), right) { Ok(()) } else { Err(Refusal::NotAllowed) }
}

/// Whether there is such an account, and it has a right.
pub(crate) fn has(account: Option<&AccountRow>, right: Right) -> bool {
    account.is_some_and(|row| may(row.role, right))
}

impl State {
    /// Whether an account may ask for a transfer of the leader's office: as whoever may propose operations.
    pub fn may_operate(&self, account: AccountId) -> bool {
        check(self, account, Right::ProposeOperations).is_ok()
    }
}
