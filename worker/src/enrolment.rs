//! How a machine comes to belong to an account: the owner's key signs once, with the machine key's proof of possession
//! inside. The owner's key is read for each attempt, dropped after it, and never again once a coordinator has welcomed us.

use crate::identity::{Folder, IdentityError, account_id, read_key};
use crate::sealer::Sealer;
use matrixai_proto::{
    envelope::{COMMANDS, random},
    v1::{Batch, Command, EnrolMachine, Envelope, Inventory, command::Kind},
};
use prost::Message as _;
use std::path::PathBuf;

/// Owns the data folder, which remembers whether the enrolment is done.
#[derive(Debug)]
pub(crate) struct Enrolment {
    folder: Folder,
    /// Empty for none.
    owner_key: PathBuf,
    inventory: Inventory,
}

impl Enrolment {
    pub(crate) fn new(folder: Folder, owner_key: PathBuf, inventory: Inventory) -> Self {
        Self { folder, owner_key, inventory }
    }

    /// The owner's signed enrolment; none when there is nothing to do, or no key to do it with.
    pub(crate) fn envelope(&self, sealer: &Sealer) -> Result<Option<Envelope>, IdentityError> {
        if self.folder.enrolled() || self.owner_key.as_os_str().is_empty() {
            return Ok(None);
        }
        let owner = read_key(&self.owner_key)?;
        let account = account_id(sealer.cluster_id(), &owner.public_key());
        let enrol = EnrolMachine {
            machine_key: sealer.machine_key().to_vec(),
            possession: sealer.possession(&account).to_vec(),
            inventory: Some(self.inventory.clone()),
        };
        let batch = Batch { commands: vec![Command { kind: Some(Kind::EnrolMachine(enrol)) }], linked: false };
        let (id, expires_ms) = (random()?, sealer.expires_ms());
        Ok(Some(owner.seal(*sealer.cluster_id(), COMMANDS, id, expires_ms, batch.encode_to_vec())))
    }

    /// A coordinator knows this machine.
    pub(crate) fn welcomed(&mut self) {
        if let Err(error) = self.folder.set_enrolled() {
            tracing::warn!(%error, "the enrolment could not be noted: the owner's key is asked for again");
        }
    }
}
