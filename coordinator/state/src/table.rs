//! An ordered table whose pages are shared until they are written.
//!
//! Cloning copies one pointer per page, so a consistent view of a big state costs well under a millisecond, and a page is
//! copied only when the live state next writes to it. Each page remembers its hash; pages are shared with their hash, so
//! a root costs only what changed since the last one, on whichever thread it is taken.
//!
//! Where pages begin and end follows from the order of insertions and removals, which the log fixes: every replica has
//! the same pages, and a snapshot keeps them. A page holds at most `ROWS` rows; tables of big rows use fewer.

use crate::ids::Hash;
use matrixai_protocol::{sha256, training::merkle_root};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeSeq};
use std::{
    fmt,
    ops::RangeBounds,
    sync::{Arc, OnceLock},
};

/// Rows of a page unless the table says otherwise: small enough to copy on a write, big enough that a million rows are
/// some four thousand pointers.
pub const PAGE_ROWS: usize = 256;

/// A copy-on-write map from ordered keys to rows.
pub struct Table<K, V, const ROWS: usize = PAGE_ROWS> {
    /// Never empty pages, ascending.
    pages: Vec<Arc<Page<K, V>>>,
    len: u64,
}

struct Page<K, V> {
    /// Ascending by key, 1..=ROWS of them.
    rows: Vec<(K, V)>,
    /// Empty as soon as a row may have changed.
    hash: OnceLock<Hash>,
}

impl<K: Ord + Clone, V: Clone, const ROWS: usize> Table<K, V, ROWS> {
    /// A table without rows.
    pub const fn new() -> Self {
        assert!(ROWS >= 4, "a page must have room to split and merge");
        Self { pages: Vec::new(), len: 0 }
    }

    /// Number of rows.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no row.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The row of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let page = self.pages.get(self.page_of(key)?)?;
        let at = page.find(key).ok()?;
        page.rows.get(at).map(|(_, row)| row)
    }

    /// Whether a key has a row.
    pub fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// The row of a key, to be changed. Copies the page if a view shares it.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let page = self.page_of(key)?;
        let at = self.pages.get(page)?.find(key).ok()?;
        self.write(page).rows.get_mut(at).map(|(_, row)| row)
    }

    /// Puts a row under a key and returns the one that was there.
    pub fn insert(&mut self, key: K, row: V) -> Option<V> {
        let Some(index) = self.page_of(&key) else {
            // Before the first row, or the first row at all.
            match self.pages.is_empty() {
                true => self.pages.push(Arc::new(Page::new(vec![(key, row)]))),
                false => {
                    self.write(0).rows.insert(0, (key, row));
                    self.split(0);
                }
            }
            self.len = self.len.saturating_add(1);
            return None;
        };
        let last = index.saturating_add(1) == self.pages.len();
        let page = self.write(index);
        match page.find(&key) {
            Ok(at) => page.rows.get_mut(at).map(|(_, old)| std::mem::replace(old, row)),
            // Rows that arrive in order fill their pages: the next one begins a page of its own.
            Err(at) if last && at == page.rows.len() && at >= ROWS => {
                self.pages.push(Arc::new(Page::new(vec![(key, row)])));
                self.len = self.len.saturating_add(1);
                None
            }
            Err(at) => {
                page.rows.insert(at, (key, row));
                self.len = self.len.saturating_add(1);
                self.split(index);
                None
            }
        }
    }

    /// Takes the row of a key out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let index = self.page_of(key)?;
        let at = self.pages.get(index)?.find(key).ok()?;
        let page = self.write(index);
        let (_, row) = page.rows.remove(at);
        self.len = self.len.saturating_sub(1);
        self.merge(index);
        Some(row)
    }

    /// The first row.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// The last row.
    pub fn last(&self) -> Option<(&K, &V)> {
        self.iter().next_back()
    }

    /// All rows, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.pages.iter().flat_map(|page| page.rows.iter().map(|(key, row)| (key, row)))
    }

    /// The rows whose keys are in a range, ascending. Costs the rows taken, and a binary search at each end.
    pub fn range<'a, R: RangeBounds<K> + 'a>(&'a self, range: R) -> impl DoubleEndedIterator<Item = (&'a K, &'a V)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let (start, end) = (range.start_bound().cloned(), range.end_bound().cloned());
        let before = move |key: &K| match &start {
            Included(start) => key < start,
            Excluded(start) => key <= start,
            Unbounded => false,
        };
        let within = move |key: &K| match &end {
            Included(end) => key <= end,
            Excluded(end) => key < end,
            Unbounded => true,
        };
        // Pages that lie wholly outside, then rows of the pages at the ends.
        let from = self.pages.partition_point(|page| page.rows.last().is_some_and(|(key, _)| before(key)));
        let to = self.pages.partition_point(|page| page.rows.first().is_some_and(|(key, _)| within(key))).max(from);
        self.pages.get(from..to).unwrap_or_default().iter().flat_map(move |page| {
            let end = page.rows.partition_point(|(key, _)| within(key));
            let start = page.rows.partition_point(|(key, _)| before(key)).min(end);
            page.rows.get(start..end).unwrap_or_default().iter().map(|(key, row)| (key, row))
        })
    }

    /// The page that holds a key or would: the last one that begins at or before it.
    fn page_of(&self, key: &K) -> Option<usize> {
        self.pages.partition_point(|page| page.rows.first().is_some_and(|(first, _)| first <= key)).checked_sub(1)
    }

    /// A page of one's own, its hash forgotten.
    fn write(&mut self, index: usize) -> &mut Page<K, V> {
        let page = Arc::make_mut(self.pages.get_mut(index).expect("the index comes from a search of these pages"));
        page.hash = OnceLock::new();
        page
    }

    fn split(&mut self, index: usize) {
        if self.pages.get(index).is_some_and(|page| page.rows.len() <= ROWS) {
            return;
        }
        let page = self.write(index);
        let upper = page.rows.split_off(page.rows.len().div_ceil(2));
        self.pages.insert(index.saturating_add(1), Arc::new(Page::new(upper)));
    }

    /// Removes an empty page; joins a sparse one with the next while both fit half a page, so that a table that shrank
    /// does not stay a long list of single rows.
    fn merge(&mut self, index: usize) {
        let rows = |at: usize| self.pages.get(at).map(|page| page.rows.len());
        if rows(index) == Some(0) {
            self.pages.remove(index);
            return;
        }
        let next = index.saturating_add(1);
        let (Some(here), Some(there)) = (rows(index), rows(next)) else { return };
        if here.saturating_add(there).saturating_mul(2) <= ROWS {
            let joined = self.pages.remove(next);
            self.write(index).rows.extend(joined.rows.iter().cloned());
        }
    }
}

impl<K: Ord + Clone + Serialize, V: Clone + Serialize, const ROWS: usize> Table<K, V, ROWS> {
    /// The root over all pages: an RFC 6962 tree whose leaves are H(0x00 || rows of the page in postcard).
    pub fn root(&self) -> Hash {
        let leaves: Vec<Hash> = self.pages.iter().map(|page| page.hash()).collect();
        merkle_root(&leaves)
    }
}

impl<K: Ord, V> Page<K, V> {
    fn new(rows: Vec<(K, V)>) -> Self {
        Self { rows, hash: OnceLock::new() }
    }

    fn find(&self, key: &K) -> Result<usize, usize> {
        self.rows.binary_search_by(|(other, _)| other.cmp(key))
    }
}

impl<K: Serialize, V: Serialize> Page<K, V> {
    fn hash(&self) -> Hash {
        *self.hash.get_or_init(|| {
            let bytes = postcard::to_allocvec(&self.rows).expect("rows are plain data, which postcard always encodes");
            sha256(&[&[0], &bytes])
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
impl<K, V, const ROWS: usize> Clone for Table<K, V, ROWS> {
    fn clone(&self) -> Self {
        Self { pages: self.pages.clone(), len: self.len }
    }
}

impl<K: Ord + Clone, V: Clone, const ROWS: usize> Default for Table<K, V, ROWS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V, const ROWS: usize> fmt::Debug for Table<K, V, ROWS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("rows", &self.len).field("pages", &self.pages.len()).finish()
    }
}

/// Page by page, so that the root survives a snapshot.
impl<K: Serialize, V: Serialize, const ROWS: usize> Serialize for Table<K, V, ROWS> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pages = serializer.serialize_seq(Some(self.pages.len()))?;
        for page in &self.pages {
            pages.serialize_element(&page.rows)?;
        }
        pages.end()
    }
}

/// Refuses pages that this table could not have made: empty, too long, or out of order.
impl<'de, K, V, const ROWS: usize> Deserialize<'de> for Table<K, V, ROWS>
where
    K: Ord + Deserialize<'de>,
    V: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pages = Vec::<Vec<(K, V)>>::deserialize(deserializer)?;
        if pages.iter().any(|rows| rows.is_empty() || rows.len() > ROWS) {
            return Err(de::Error::custom("a page is empty or too long"));
        }
        let keys = || pages.iter().flatten().map(|(key, _)| key);
        if keys().zip(keys().skip(1)).any(|(left, right)| left >= right) {
            return Err(de::Error::custom("rows are out of order"));
        }
        let len = pages.iter().map(|rows| rows.len() as u64).fold(0u64, u64::saturating_add);
        Ok(Self { pages: pages.into_iter().map(|rows| Arc::new(Page::new(rows))).collect(), len })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Small = Table<u16, u32, 4>;

    fn rows(table: &Small) -> Vec<(u16, u32)> {
        table.iter().map(|(key, row)| (*key, *row)).collect()
    }

    fn check_shape(table: &Small) {
        assert!(table.pages.iter().all(|page| (1..=4).contains(&page.rows.len())));
        assert!(rows(table).windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(table.len(), rows(table).len() as u64);
    }

    proptest! {
        /// The oracle is a BTreeMap; views taken on the way must not move.
        #[test]
        fn behaves_as_an_ordered_map(steps in prop::collection::vec((0u8..4, 0u16..64, any::<u32>()), 0..200)) {
            let mut table = Small::new();
            let mut oracle = BTreeMap::new();
            let mut views = Vec::new();
            for (kind, key, row) in steps {
                match kind {
                    0 | 1 => prop_assert_eq!(table.insert(key, row), oracle.insert(key, row)),
                    2 => prop_assert_eq!(table.remove(&key), oracle.remove(&key)),
                    _ => {
                        if let Some(old) = table.get_mut(&key) { *old = row; }
                        if let Some(old) = oracle.get_mut(&key) { *old = row; }
                        views.push((table.clone(), table.root(), oracle.clone()));
                    }
                }
                check_shape(&table);
                prop_assert_eq!(table.get(&key), oracle.get(&key));
            }
            views.push((table.clone(), table.root(), oracle));
            for (view, root, rows_then) in views {
                prop_assert_eq!(rows(&view), rows_then.clone().into_iter().collect::<Vec<_>>());
                let rehashed: Small = postcard::from_bytes(&postcard::to_allocvec(&view).unwrap()).unwrap();
                prop_assert_eq!(view.root(), root);
                prop_assert_eq!(rehashed.root(), root);
                let range: Vec<u16> = view.range(10..=40).map(|(key, _)| *key).collect();
                prop_assert_eq!(range, rows_then.range(10..=40).map(|(key, _)| *key).collect::<Vec<_>>());
                let reversed: Vec<u16> = view.range(..30).rev().map(|(key, _)| *key).collect();
                prop_assert_eq!(reversed, rows_then.range(..30).rev().map(|(key, _)| *key).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn rows_in_order_fill_their_pages() {
        let mut table = Small::new();
        (0..40).for_each(|key| assert_eq!(table.insert(key, 0), None));
        assert_eq!(table.pages.len(), 10);
    }

    #[test]
    fn a_clone_shares_all_pages_but_the_written_one() {
        let mut table = Small::new();
        (0..40).for_each(|key| assert_eq!(table.insert(key, 0), None));
        let view = table.clone();
        *table.get_mut(&17).unwrap() = 1;
        let shared = table.pages.iter().zip(&view.pages).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, 9);
        assert_ne!(table.root(), view.root());
        *table.get_mut(&17).unwrap() = 0;
        assert_eq!(table.root(), view.root());
    }

    #[test]
    fn pages_that_no_table_makes_are_refused() {
        let bytes = |pages: Vec<Vec<(u16, u32)>>| postcard::to_allocvec(&pages).unwrap();
        for bad in [vec![vec![]], vec![vec![(1, 0), (1, 0)]], vec![vec![(2, 0)], vec![(1, 0)]], vec![vec![(0, 0); 5]]] {
            assert!(postcard::from_bytes::<Small>(&bytes(bad)).is_err());
        }
    }
}
