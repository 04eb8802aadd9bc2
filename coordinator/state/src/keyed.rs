//! Rows with ids: each at a place of its own (`slots.rs`), found by id through the hash table, so that one comes, changes and
//! goes without a search in an ordered table of all.

use crate::{
    ids::Hash,
    index::{HashKey, Index},
    part::{BadPage, Cursor, Part},
    registry::Place,
    slots::Slots,
};
use serde::{Serialize, de::DeserializeOwned};

/// A row that has its id in it, which does not change.
pub(crate) trait Identified: Clone + Serialize + DeserializeOwned {
    type Id: AsRef<[u8]> + PartialEq;
    fn id(&self) -> &Self::Id;
}

/// Rows by id. Their order is that of their places: the same on every replica, and that of their arrival as long as none was
/// taken out.
#[derive(Debug, Clone)]
pub(crate) struct Keyed<R> {
    rows: Slots<R>,
    index: Index,
    hash_key: HashKey,
}

impl<R: Identified> Keyed<R> {
    /// Number of rows.
    pub(crate) const fn len(&self) -> u64 {
        self.rows.len()
    }

    /// Whether there is no row.
    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fetches the beginning of a search; see [`Index::touch`].
    pub(crate) fn touch(&self, id: &R::Id) -> u64 {
        self.index.touch(self.hash(id))
    }

    /// Where a row is.
    pub(crate) fn find(&self, id: &R::Id) -> Option<Place> {
        self.index.find(self.hash(id), |place| self.rows.get(place).is_some_and(|row| row.id() == id))
    }

    /// A row by its id.
    pub(crate) fn get(&self, id: &R::Id) -> Option<&R> {
        self.at(self.find(id)?)
    }

    /// A row by its id, to be changed.
    pub(crate) fn get_mut(&mut self, id: &R::Id) -> Option<&mut R> {
        self.at_mut(self.find(id)?)
    }

    /// Whether an id has a row.
    pub(crate) fn contains(&self, id: &R::Id) -> bool {
        self.find(id).is_some()
    }

    /// The row at a place.
    pub(crate) fn at(&self, place: Place) -> Option<&R> {
        self.rows.get(place)
    }

    /// The row at a place, to be changed. Copies its page if a view shares it.
    pub(crate) fn at_mut(&mut self, place: Place) -> Option<&mut R> {
        self.rows.get_mut(place)
    }

    /// Adds a row, whose id the caller knows not to be there.
    pub(crate) fn insert(&mut self, row: R) -> Place {
        let hash = self.hash(row.id());
        let place = self.rows.insert(row);
        self.index.insert(hash, place);
        place
    }

    /// Takes the row of an id out.
    pub(crate) fn remove(&mut self, id: &R::Id) -> Option<R> {
        self.remove_at(self.find(id)?)
    }

    /// Takes the row at a place out.
    pub(crate) fn remove_at(&mut self, place: Place) -> Option<R> {
        let row = self.rows.remove(place)?;
        self.index.remove(self.hash(row.id()), place);
        Some(row)
    }

    /// All of them with their places, ascending.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (Place, &R)> {
        self.rows.iter()
    }

    fn hash(&self, id: &R::Id) -> u64 {
        self.hash_key.hash(id.as_ref())
    }
}

impl<R: Identified> Part for Keyed<R> {
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
            let Some(row) = self.rows.get(place) else { continue };
            if self.find(row.id()).is_some() {
                return Err(BadPage::new("a row is there twice"));
            }
            self.index.insert(self.hash(row.id()), place);
        }
        Ok(())
    }
}
