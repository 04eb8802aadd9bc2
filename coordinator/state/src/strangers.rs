//! What a key that the state does not know may ask for, and what keeps it from asking for ever: for the coordinators' edge, which
//! lets nothing of a stranger into the log that would be refused there. Applying decides the same again, by the same functions.

use crate::{
    accounts::{self, keys},
    command::Command,
    ids::Key,
    outcome::Refusal,
    state::State,
};

/// What bounds how often a stranger's request can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Somebody's money, or an account's own limit.
    State,
    /// Nothing: whoever lets it pass must count.
    Nothing,
}

impl State {
    /// Whether a key is or was an account's, a machine's or a node's.
    pub fn knows_key(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }

    /// Whether a key that nobody has may sign this as the first command of an envelope.
    ///
    /// # Errors
    /// `unknown_signer` for all but opening and recovering an account; what either would be refused with.
    pub fn stranger_may(&self, key: &Key, command: &Command) -> Result<Bound, Refusal> {
        if let Command::CreateAccount(cmd) = command {
            let funded = accounts::may_open(self, key, cmd)?;
            return Ok(if funded { Bound::State } else { Bound::Nothing });
        }
        let Command::RecoverAccount(cmd) = command else { return Err(Refusal::UnknownSigner) };
        keys::may_recover(self, key, cmd).map(|recovery| match recovery {
            keys::Recovery::Now => Bound::State,
            keys::Recovery::Done => Bound::Nothing,
        })
    }
}
