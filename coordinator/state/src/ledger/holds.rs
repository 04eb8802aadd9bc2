//! Where transfers in their first phase are: at places, found by id through the index, so that one comes and goes without
//! a search in an ordered table of all.

use super::two_phase::HeldTransfer;
use crate::{
    ids::{Hash, HoldId},
    index::{HashKey, Index},
    part::{BadPage, Cursor, Part},
    registry::Place,
    slots::Slots,
};

/// The open holds.
#[derive(Debug, Clone)]
pub(crate) struct Holds {
    rows: Slots<HeldTransfer>,
    index: Index,
    hash_key: HashKey,
}

impl Holds {
    /// Number of open holds.
    pub(crate) const fn len(&self) -> u64 {
        self.rows.len()
    }

    /// Fetches the beginning of a search; see [`Index::touch`].
    pub(crate) fn touch(&self, id: &HoldId) -> u64 {
        self.index.touch(self.hash(id))
    }

    /// Where a hold is.
    pub(crate) fn find(&self, id: &HoldId) -> Option<Place> {
        self.index.find(self.hash(id), |place| self.rows.get(place).is_some_and(|row| row.id == *id))
    }

    /// A hold by its id.
    pub(crate) fn get(&self, id: &HoldId) -> Option<&HeldTransfer> {
        self.at(self.find(id)?)
    }

    /// The hold at a place.
    pub(crate) fn at(&self, place: Place) -> Option<&HeldTransfer> {
        self.rows.get(place)
    }

    /// Adds a hold, whose id the caller knows not to be there.
    pub(crate) fn insert(&mut self, row: HeldTransfer) -> Place {
        let hash = self.hash(&row.id);
        let place = self.rows.insert(row);
        self.index.insert(hash, place);
        place
    }

    /// Takes the hold at a place out.
    pub(crate) fn remove(&mut self, place: Place) -> Option<HeldTransfer> {
        let row = self.rows.remove(place)?;
        self.index.remove(self.hash(&row.id), place);
        Some(row)
    }

    /// All of them with their places, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place, &HeldTransfer)> {
        self.rows.iter()
    }

    fn hash(&self, id: &HoldId) -> u64 {
        self.hash_key.hash(id.as_ref())
    }
}

impl Part for Holds {
    fn empty(hash_key: HashKey) -> Self {
        Self { rows: Slots::empty(hash_key), index: Index::default(), hash_key }
    }

    fn root(&self) -> Hash {
        self.rows.root()
    }

    fn write_page(&self, cursor: &mut Cursor, out: &mut Vec<u8>) -> bool {
        self.rows.write_page(cursor, out)
    }

    fn read_page(&mut self, bytes: &[u8]) -> Result<(), BadPage> {
        let from = self.rows.places();
        self.rows.read_page(bytes)?;
        for place in from..self.rows.places() {
            let Some(id) = self.rows.get(place).map(|row| row.id) else { continue };
            if self.find(&id).is_some() {
                return Err(BadPage::new("a hold is there twice"));
            }
            self.index.insert(self.hash(&id), place);
        }
        Ok(())
    }
}
