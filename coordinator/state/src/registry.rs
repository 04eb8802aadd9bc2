//! Rows that are found by key at once and never removed: accounts and keys.
//!
//! A row has the place in which it arrived, for good, so the log fixes the order and whoever has a row's place needs no
//! search. Pages of rows are shared until they are written, in groups of pages that are shared likewise: a view of a
//! million rows copies some five hundred pointers. Pages are small because a transfer writes two rows anywhere: while a
//! view is alive, each costs the copy of one page.

use crate::{
    ids::Hash,
    index::{HashKey, Index},
    part::{self, BadPage, Cursor, Part},
};
use matrixai_protocol::{sha256, training::merkle_root};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// Rows of a page.
const PAGE: usize = 32;
/// Pages of a group.
const GROUP: usize = 64;
const GROUP_ROWS: usize = GROUP * PAGE;

/// The place of a row: the number of rows that came before it.
pub(crate) type Place = u32;

/// How a key and what is known of it are kept together.
pub(crate) trait Record: Clone + Serialize + DeserializeOwned {
    type Key: AsRef<[u8]> + PartialEq;
    type Value;
    fn of(key: Self::Key, value: Self::Value) -> Self;
    fn key(&self) -> &Self::Key;
    fn value(&self) -> &Self::Value;
    fn value_mut(&mut self) -> &mut Self::Value;
}

/// A copy-on-write map from keys to rows, in order of arrival.
pub(crate) struct Registry<R> {
    /// All groups and pages but the last are full.
    groups: Vec<Group<R>>,
    len: usize,
    index: Index,
    hash_key: HashKey,
}

/// Pages that are shared as one.
type Group<R> = Arc<Vec<Arc<Page<R>>>>;

struct Page<R> {
    /// Empty as soon as a row may have changed.
    hash: OnceLock<Hash>,
    /// In line, so that a row is one step from its page.
    rows: [Option<R>; PAGE],
}

impl<R: Record> Registry<R> {
    /// Number of rows.
    pub(crate) const fn len(&self) -> u64 {
        self.len as u64
    }

    /// What the search of a key begins with.
    pub(crate) fn hash(&self, key: &R::Key) -> u64 {
        self.hash_key.hash(key.as_ref())
    }

    /// Fetches the beginning of a search; see [`Index::touch`].
    pub(crate) fn touch(&self, hash: u64) -> u64 {
        self.index.touch(hash)
    }

    /// Fetches the row that a search most likely ends at, and what a write to it looks at besides. In a loop over many
    /// hashes that were touched before, these loads overlap too.
    pub(crate) fn fetch(&self, hash: u64) -> u64 {
        self.index.find(hash, |_| true).map_or(0, |place| self.fetch_at(place))
    }

    /// Fetches the row at a place, and what a write to it looks at besides.
    pub(crate) fn fetch_at(&self, place: Place) -> u64 {
        let at = place as usize;
        let page = self.groups.get(at / GROUP_ROWS).and_then(|group| group.get(at / PAGE % GROUP));
        page.map_or(0, |page| {
            let looked_at = [page.rows[at % PAGE].is_some(), Arc::strong_count(page) > 1, page.hash.get().is_some()];
            looked_at.into_iter().map(u64::from).sum()
        })
    }

    /// The place of the key whose hash this is.
    pub(crate) fn find_hashed(&self, hash: u64, key: &R::Key) -> Option<Place> {
        self.index.find(hash, |place| self.row(place).is_some_and(|row| row.key() == key))
    }

    /// The place of a key.
    pub(crate) fn find(&self, key: &R::Key) -> Option<Place> {
        self.find_hashed(self.hash(key), key)
    }

    /// The row of a key.
    pub(crate) fn get(&self, key: &R::Key) -> Option<&R::Value> {
        self.at(self.find(key)?)
    }

    /// Whether a key has a row.
    pub(crate) fn contains(&self, key: &R::Key) -> bool {
        self.find(key).is_some()
    }

    /// The row at a place.
    pub(crate) fn at(&self, place: Place) -> Option<&R::Value> {
        self.row(place).map(Record::value)
    }

    /// The row of a key, to be changed. Copies its page if a view shares it.
    pub(crate) fn get_mut(&mut self, key: &R::Key) -> Option<&mut R::Value> {
        self.at_mut(self.find(key)?)
    }

    /// The row at a place, to be changed. Copies its page if a view shares it.
    pub(crate) fn at_mut(&mut self, place: Place) -> Option<&mut R::Value> {
        let place = place as usize;
        let group = Arc::make_mut(self.groups.get_mut(place / GROUP_ROWS)?);
        let page = Arc::make_mut(group.get_mut(place / PAGE % GROUP)?);
        page.hash = OnceLock::new();
        page.rows[place % PAGE].as_mut().map(Record::value_mut)
    }

    /// Puts a row under a key and returns the one that was there.
    pub(crate) fn insert(&mut self, key: R::Key, row: R::Value) -> Option<R::Value> {
        if let Some(old) = self.get_mut(&key) {
            return Some(std::mem::replace(old, row));
        }
        self.add(R::of(key, row));
        None
    }

    fn add(&mut self, row: R) {
        let place = Place::try_from(self.len).expect("four thousand million rows do not fit the memory");
        self.index.insert(self.hash(row.key()), place);
        self.push(row);
    }

    fn push(&mut self, row: R) {
        let (in_group, in_page) = (self.len % GROUP_ROWS, self.len % PAGE);
        if in_group == 0 {
            self.groups.push(Arc::new(Vec::with_capacity(GROUP)));
        }
        let group = Arc::make_mut(self.groups.last_mut().expect("there is a group now"));
        if in_page == 0 {
            group.push(Arc::new(Page { hash: OnceLock::new(), rows: [const { None }; PAGE] }));
        }
        let page = Arc::make_mut(group.last_mut().expect("there is a page now"));
        page.hash = OnceLock::new();
        page.rows[in_page] = Some(row);
        self.len = self.len.saturating_add(1);
    }

    /// All rows in order of arrival.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&R::Key, &R::Value)> {
        self.pages().flat_map(|page| page.present()).map(|row| (row.key(), row.value()))
    }

    /// The rows that arrived after a key's; none when the key has none.
    pub(crate) fn after<'a>(
        &'a self,
        key: &R::Key,
    ) -> impl DoubleEndedIterator<Item = (&'a R::Key, &'a R::Value)> + use<'a, R> {
        let from = self.find(key).map_or(self.len, |place| (place as usize).saturating_add(1));
        (from..self.len).filter_map(|place| self.row(place as Place)).map(|row| (row.key(), row.value()))
    }

    fn row(&self, place: Place) -> Option<&R> {
        let place = place as usize;
        self.groups.get(place / GROUP_ROWS)?.get(place / PAGE % GROUP)?.rows[place % PAGE].as_ref()
    }

    fn pages(&self) -> impl DoubleEndedIterator<Item = &Arc<Page<R>>> {
        self.groups.iter().flat_map(|group| group.iter())
    }
}

impl<R> Page<R> {
    fn present(&self) -> impl DoubleEndedIterator<Item = &R> {
        self.rows.iter().flatten()
    }
}

impl<R: Record> Part for Registry<R> {
    fn empty(hash_key: HashKey) -> Self {
        Self { groups: Vec::new(), len: 0, index: Index::default(), hash_key }
    }

    fn root(&self) -> Hash {
        let leaves: Vec<Hash> = self.pages().map(|page| page.hash()).collect();
        merkle_root(&leaves)
    }

    fn write_page(&self, cursor: &mut Cursor, out: &mut Vec<u8>) -> bool {
        let page = self.groups.get(cursor.page / GROUP).and_then(|group| group.get(cursor.page % GROUP));
        cursor.page = cursor.page.saturating_add(1);
        page.inspect(|page| page.encode(out)).is_some()
    }

    fn read_page(&mut self, bytes: &[u8]) -> Result<(), BadPage> {
        let rows: Vec<R> = part::decode(bytes)?;
        if !self.len.is_multiple_of(PAGE) || !(1..=PAGE).contains(&rows.len()) {
            return Err(BadPage::new("a page is empty or too long, or one before it is short"));
        }
        for row in rows {
            if self.find(row.key()).is_some() {
                return Err(BadPage::new("a key has two rows"));
            }
            self.add(row);
        }
        Ok(())
    }
}

impl<R: Serialize> Page<R> {
    fn encode(&self, out: &mut Vec<u8>) {
        let rows: Vec<&R> = self.present().collect();
        part::encode(&rows, out);
    }

    fn hash(&self) -> Hash {
        *self.hash.get_or_init(|| {
            let mut bytes = vec![0];
            self.encode(&mut bytes);
            sha256(&[&bytes])
        })
    }
}

/// The copy is about to be written, so it starts without a hash.
impl<R: Clone> Clone for Page<R> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), hash: OnceLock::new() }
    }
}

/// Copies pointers, not rows.
impl<R> Clone for Registry<R> {
    fn clone(&self) -> Self {
        let Self { groups, len, index, hash_key } = self;
        Self { groups: groups.clone(), len: *len, index: index.clone(), hash_key: *hash_key }
    }
}

impl<R> fmt::Debug for Registry<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("rows", &self.len).finish()
    }
}
