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

/// A copy-on-write map from keys to rows, in order of arrival.
pub(crate) struct Registry<K, V> {
    /// All groups and pages but the last are full.
    groups: Vec<Group<K, V>>,
    len: usize,
    index: Index,
    hash_key: HashKey,
}

/// Pages that are shared as one.
type Group<K, V> = Arc<Vec<Arc<Page<K, V>>>>;

struct Page<K, V> {
    /// Empty as soon as a row may have changed.
    hash: OnceLock<Hash>,
    /// In line, so that a row is one step from its page.
    rows: [Option<(K, V)>; PAGE],
}

impl<K: AsRef<[u8]> + PartialEq + Clone, V: Clone> Registry<K, V> {
    /// Number of rows.
    pub(crate) const fn len(&self) -> u64 {
        self.len as u64
    }

    /// What the search of a key begins with.
    pub(crate) fn hash(&self, key: &K) -> u64 {
        self.hash_key.hash(key.as_ref())
    }

    /// Fetches the beginning of a search; see [`Index::touch`].
    pub(crate) fn touch(&self, hash: u64) -> u64 {
        self.index.touch(hash)
    }

    /// The place of the key whose hash this is.
    pub(crate) fn find_hashed(&self, hash: u64, key: &K) -> Option<Place> {
        self.index.find(hash, |place| self.row(place).is_some_and(|(other, _)| other == key))
    }

    /// The place of a key.
    pub(crate) fn find(&self, key: &K) -> Option<Place> {
        self.find_hashed(self.hash(key), key)
    }

    /// The row of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.at(self.find(key)?)
    }

    /// Whether a key has a row.
    pub(crate) fn contains(&self, key: &K) -> bool {
        self.find(key).is_some()
    }

    /// The row at a place.
    pub(crate) fn at(&self, place: Place) -> Option<&V> {
        self.row(place).map(|(_, row)| row)
    }

    /// The row of a key, to be changed. Copies its page if a view shares it.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.at_mut(self.find(key)?)
    }

    /// The row at a place, to be changed. Copies its page if a view shares it.
    pub(crate) fn at_mut(&mut self, place: Place) -> Option<&mut V> {
        let place = place as usize;
        let group = Arc::make_mut(self.groups.get_mut(place / GROUP_ROWS)?);
        let page = Arc::make_mut(group.get_mut(place / PAGE % GROUP)?);
        page.hash = OnceLock::new();
        page.rows[place % PAGE].as_mut().map(|(_, row)| row)
    }

    /// Puts a row under a key and returns the one that was there.
    pub(crate) fn insert(&mut self, key: K, row: V) -> Option<V> {
        if let Some(old) = self.get_mut(&key) {
            return Some(std::mem::replace(old, row));
        }
        let place = Place::try_from(self.len).expect("four thousand million rows do not fit the memory");
        self.index.insert(self.hash(&key), place);
        self.push(key, row);
        None
    }

    fn push(&mut self, key: K, row: V) {
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
        page.rows[in_page] = Some((key, row));
        self.len = self.len.saturating_add(1);
    }

    /// All rows in order of arrival.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.pages().flat_map(|page| page.present())
    }

    /// The rows that arrived after a key's; none when the key has none.
    pub(crate) fn after<'a>(&'a self, key: &K) -> impl DoubleEndedIterator<Item = (&'a K, &'a V)> + use<'a, K, V> {
        let from = self.find(key).map_or(self.len, |place| (place as usize).saturating_add(1));
        (from..self.len).filter_map(|place| self.row(place as Place)).map(|(key, row)| (key, row))
    }

    fn row(&self, place: Place) -> Option<&(K, V)> {
        let place = place as usize;
        self.groups.get(place / GROUP_ROWS)?.get(place / PAGE % GROUP)?.rows[place % PAGE].as_ref()
    }

    fn pages(&self) -> impl DoubleEndedIterator<Item = &Arc<Page<K, V>>> {
        self.groups.iter().flat_map(|group| group.iter())
    }
}

impl<K, V> Page<K, V> {
    fn present(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter().flatten().map(|(key, row)| (key, row))
    }
}

impl<K, V> Part for Registry<K, V>
where
    K: AsRef<[u8]> + PartialEq + Clone + Serialize + DeserializeOwned,
    V: Clone + Serialize + DeserializeOwned,
{
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
        let rows: Vec<(K, V)> = part::decode(bytes)?;
        if !self.len.is_multiple_of(PAGE) || !(1..=PAGE).contains(&rows.len()) {
            return Err(BadPage::new("a page is empty or too long, or one before it is short"));
        }
        for (key, row) in rows {
            if self.insert(key, row).is_some() {
                return Err(BadPage::new("a key has two rows"));
            }
        }
        Ok(())
    }
}

impl<K: Serialize, V: Serialize> Page<K, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        let rows: Vec<(&K, &V)> = self.present().collect();
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
impl<K: Clone, V: Clone> Clone for Page<K, V> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), hash: OnceLock::new() }
    }
}

/// Copies pointers, not rows.
impl<K, V> Clone for Registry<K, V> {
    fn clone(&self) -> Self {
        let Self { groups, len, index, hash_key } = self;
        Self { groups: groups.clone(), len: *len, index: index.clone(), hash_key: *hash_key }
    }
}

impl<K, V> fmt::Debug for Registry<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("rows", &self.len).finish()
    }
}
