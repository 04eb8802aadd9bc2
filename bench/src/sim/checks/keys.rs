//! A key that was replaced is dead: nothing that it signs from the next command on happens, in whatever entry or envelope. Read from
//! the commands alone, not from the state's table of keys.

use super::{First, Verdict, hold};
use crate::sim::entries::Said;
use matrixai_proto::v1::command::Kind;
use matrixai_state::ids::{AccountId, Key};
use std::collections::{BTreeMap, BTreeSet};

const NAME: &str = "a replaced key is dead";

/// Whose key was which.
#[derive(Debug, Default)]
pub struct Keys {
    present: BTreeMap<AccountId, Key>,
    dead: BTreeSet<Key>,
}

impl Keys {
    /// A new entry was applied.
    ///
    /// # Errors
    /// A dead key did something, or became somebody's.
    pub fn applied(&mut self, first: First<'_>, said: &[Said]) -> Verdict {
        let index = first.seen.entry.index;
        // A repeated envelope is answered with what was decided then.
        said.iter().filter(|said| said.done && said.index == index).try_for_each(|said| self.done(first, said))
    }

    fn done(&mut self, first: First<'_>, said: &Said) -> Verdict {
        let (index, key) = (first.seen.entry.index, said.key);
        hold(NAME, !self.dead.contains(&key), || format!("at {index} a dead key signed {:?}", said.kind))?;
        match &said.kind {
            Kind::CreateAccount(_) => {
                self.present.insert(AccountId::of_key(first.before.cluster_id(), &key), key);
                Ok(())
            }
            Kind::RotateKey(rotate) => {
                let account = self.present.iter().find(|(_, present)| **present == key).map(|(account, _)| *account);
                hold(NAME, account.is_some(), || format!("at {index} a key is replaced that is nobody's"))?;
                account.map_or(Ok(()), |account| self.replace(index, account, &rotate.new_key))
            }
            Kind::RecoverAccount(recover) => {
                let account = recover.account.as_slice().try_into().map(AccountId).unwrap_or(AccountId([0; 20]));
                self.replace(index, account, &recover.new_key)
            }
            _ => Ok(()),
        }
    }

    fn replace(&mut self, index: u64, account: AccountId, new_key: &[u8]) -> Verdict {
        let new_key = new_key.try_into().unwrap_or([0; 32]);
        hold(NAME, !self.dead.contains(&new_key), || format!("at {index} a dead key is account {account}'s again"))?;
        // A recovery that is said again changes nothing.
        if let Some(old) = self.present.insert(account, new_key).filter(|old| *old != new_key) {
            self.dead.insert(old);
        }
        Ok(())
    }
}
