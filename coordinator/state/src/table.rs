//! An ordered table whose pages are shared until they are written.
//!
//! Pages are in groups, which are shared likewise: cloning copies one pointer per group, so a consistent view of a big state
//! costs well under a millisecond, and what is copied when the live state next writes is one page and the list of its
//! group's pages. Each page remembers its hash; pages are shared with their hash, so a root costs only what changed since
//! the last one, on whichever thread it is taken.
//!
//! Where pages begin and end follows from the order of insertions and removals, which the log fixes: every replica has
//! the same pages, and a snapshot keeps them. Where groups do is of no consequence. A page holds at most `ROWS` rows; tables
//! of big rows use fewer.

use crate::{
    ids::Hash,
    index::HashKey,
    part::{self, BadPage, Cursor, Part},
};
use matrixai_protocol::{sha256, training::merkle_root};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt,
    ops::RangeBounds,
    sync::{Arc, OnceLock},
};

/// Rows of a page unless the table says otherwise: small enough to copy on a write.
pub const PAGE_ROWS: usize = 256;

/// Pages of a group that grew by one too many and is halved: a view of 100,000 pages copies some 1,000 pointers.
#[cfg(not(test))]
const GROUP_PAGES_MAX: usize = 128;
/// Small, so that tests see many groups.
#[cfg(test)]
const GROUP_PAGES_MAX: usize = 3;

/// A copy-on-write map from ordered keys to rows.
pub struct Table<K, V, const ROWS: usize = PAGE_ROWS> {
    /// Never empty groups, ascending.
    groups: Vec<Group<K, V>>,
    len: u64,
}

/// Pages that are shared as one.
struct Group<K, V> {
    /// First key of its first page.
    first: K,
    pages: Arc<Vec<Entry<K, V>>>,
}

/// A page in its group.
struct Entry<K, V> {
    /// First key of the page, here so that a search need not go there.
    first: K,
    page: Arc<Page<K, V>>,
}

struct Page<K, V> {
    /// Ascending by key, 1..=ROWS of them.
    rows: Vec<(K, V)>,
    /// Empty as soon as a row may have changed.
    hash: OnceLock<Hash>,
}

/// Where a page is: its group, and its place there.
type At = (usize, usize);

impl<K: Ord + Clone, V: Clone, const ROWS: usize> Table<K, V, ROWS> {
    /// A table without rows.
    pub const fn new() -> Self {
        assert!(ROWS >= 4, "a page must have room to split and merge");
        Self { groups: Vec::new(), len: 0 }
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
        let page = self.page(self.page_of(key)?)?;
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
        let at = self.page(page)?.find(key).ok()?;
        self.write(page).rows.get_mut(at).map(|(_, row)| row)
    }

    /// Puts a row under a key and returns the one that was there.
    pub fn insert(&mut self, key: K, row: V) -> Option<V> {
        // Before the first row it goes into the first page.
        let at = self.page_of(&key).unwrap_or((0, 0));
        let last = self.next(at).is_none();
        let Some(found) = self.page(at).map(|page| page.find(&key)) else {
            self.len = 1;
            self.insert_page((0, 0), vec![(key, row)]);
            return None;
        };
        match found {
            Ok(place) => self.write(at).rows.get_mut(place).map(|(_, old)| std::mem::replace(old, row)),
            Err(place) => {
                self.len = self.len.saturating_add(1);
                let (group, page) = at;
                // Rows that arrive in order fill their pages: the next one begins a page of its own.
                if last && place >= ROWS {
                    self.insert_page((group, page.saturating_add(1)), vec![(key, row)]);
                    return None;
                }
                let rows = &mut self.write(at).rows;
                rows.insert(place, (key, row));
                let upper = (rows.len() > ROWS).then(|| rows.split_off(rows.len().div_ceil(2)));
                if place == 0 {
                    self.note_first(at);
                }
                if let Some(upper) = upper {
                    self.insert_page((group, page.saturating_add(1)), upper);
                }
                None
            }
        }
    }

    /// Takes the row of a key out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.page_of(key)?;
        let place = self.page(at)?.find(key).ok()?;
        self.len = self.len.saturating_sub(1);
        let rows = &mut self.write(at).rows;
        let (_, row) = rows.remove(place);
        if rows.is_empty() {
            self.remove_page(at);
            return Some(row);
        }
        if place == 0 {
            self.note_first(at);
        }
        self.merge(at);
        Some(row)
    }

    /// The first row.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.page((0, 0))?.rows.first().map(|(key, row)| (key, row))
    }

    /// The last row.
    pub fn last(&self) -> Option<(&K, &V)> {
        self.groups.last()?.pages.last()?.page.rows.last().map(|(key, row)| (key, row))
    }

    /// All rows, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.pages().flat_map(|page| page.rows.iter().map(|(key, row)| (key, row)))
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
        // Groups and pages that lie wholly outside, then rows of the pages at the ends.
        let groups = between(
            &self.groups,
            |group| group.pages.last().is_some_and(|last| last.page.ends(&before)),
            |group| within(&group.first),
        );
        groups.iter().flat_map(move |group| {
            let pages = between(&group.pages, |entry| entry.page.ends(&before), |entry| within(&entry.first));
            let (before, within) = (before.clone(), within.clone());
            pages.iter().flat_map(move |entry| {
                let rows = between(&entry.page.rows, |(key, _)| before(key), |(key, _)| within(key));
                rows.iter().map(|(key, row)| (key, row))
            })
        })
    }

    /// The page that holds a key or would: the last one that begins at or before it.
    fn page_of(&self, key: &K) -> Option<At> {
        let group = self.groups.partition_point(|group| group.first <= *key).checked_sub(1)?;
        let pages = &self.groups.get(group)?.pages;
        Some((group, pages.partition_point(|entry| entry.first <= *key).checked_sub(1)?))
    }

    fn page(&self, (group, page): At) -> Option<&Page<K, V>> {
        self.groups.get(group)?.pages.get(page).map(|entry| &*entry.page)
    }

    /// The page after one, in the same group or the next.
    fn next(&self, (group, page): At) -> Option<At> {
        let next = (group, page.saturating_add(1));
        let of_next_group = (group.saturating_add(1), 0);
        [next, of_next_group].into_iter().find(|at| self.page(*at).is_some())
    }

    fn pages(&self) -> impl DoubleEndedIterator<Item = &Page<K, V>> {
        self.groups.iter().flat_map(|group| group.pages.iter().map(|entry| &*entry.page))
    }

    /// A page of one's own, its hash forgotten.
    fn write(&mut self, (group, page): At) -> &mut Page<K, V> {
        let group = self.groups.get_mut(group).expect("the place comes from a search of these groups");
        let entry =
            Arc::make_mut(&mut group.pages).get_mut(page).expect("the place comes from a search of these pages");
        let page = Arc::make_mut(&mut entry.page);
        page.hash = OnceLock::new();
        page
    }

    /// The first row of a page is another one now.
    fn note_first(&mut self, (group, page): At) {
        let Some(group) = self.groups.get_mut(group) else { return };
        let pages = Arc::make_mut(&mut group.pages);
        let Some(entry) = pages.get_mut(page) else { return };
        if let Some((first, _)) = entry.page.rows.first() {
            entry.first = first.clone();
        }
        if let Some(entry) = pages.first() {
            group.first = entry.first.clone();
        }
    }

    /// Puts a page of these rows, at least one, at a place in a group, or a group of it behind all when there is none.
    fn insert_page(&mut self, (group, page): At, rows: Vec<(K, V)>) {
        let Some((first, _)) = rows.first() else { return };
        let first = first.clone();
        let entry = Entry { first: first.clone(), page: Arc::new(Page::new(rows)) };
        let Some(found) = self.groups.get_mut(group) else {
            self.groups.push(Group { first, pages: Arc::new(vec![entry]) });
            return;
        };
        let pages = Arc::make_mut(&mut found.pages);
        pages.insert(page, entry);
        if pages.len() > GROUP_PAGES_MAX {
            let upper = pages.split_off(pages.len().div_ceil(2));
            if let Some(entry) = upper.first() {
                let upper = Group { first: entry.first.clone(), pages: Arc::new(upper) };
                self.groups.insert(group.saturating_add(1), upper);
            }
        }
    }

    fn remove_page(&mut self, (group, page): At) {
        let Some(found) = self.groups.get_mut(group) else { return };
        let pages = Arc::make_mut(&mut found.pages);
        pages.remove(page);
        match pages.first() {
            Some(entry) => found.first = entry.first.clone(),
            None => {
                self.groups.remove(group);
            }
        }
    }

    /// Joins a sparse page with the next while both fit half a page, so that a table that shrank does not stay a long list
    /// of single rows.
    fn merge(&mut self, at: At) {
        let rows = |at: At| self.page(at).map(|page| page.rows.len());
        let Some(next) = self.next(at) else { return };
        let (Some(here), Some(there)) = (rows(at), rows(next)) else { return };
        if here.saturating_add(there).saturating_mul(2) <= ROWS {
            let joined = self.page(next).map(|page| page.rows.clone()).unwrap_or_default();
            self.remove_page(next);
            self.write(at).rows.extend(joined);
        }
    }
}

/// The part of a sorted slice after those `before` and while `within`.
fn between<T>(sorted: &[T], before: impl Fn(&T) -> bool, within: impl Fn(&T) -> bool) -> &[T] {
    let end = sorted.partition_point(within);
    let start = sorted.partition_point(before).min(end);
    sorted.get(start..end).unwrap_or_default()
}

impl<K, V, const ROWS: usize> Part for Table<K, V, ROWS>
where
    K: Ord + Clone + Serialize + DeserializeOwned,
    V: Clone + Serialize + DeserializeOwned,
{
    fn empty(_: HashKey) -> Self {
        Self::new()
    }

    /// An RFC 6962 tree whose leaves are H(0x00 || rows of the page in postcard).
    fn root(&self) -> Hash {
        let leaves: Vec<Hash> = self.pages().map(Page::hash).collect();
        merkle_root(&leaves)
    }

    fn write_page(&self, cursor: &mut Cursor, out: &mut Vec<u8>) -> bool {
        let at = (cursor.group, cursor.page);
        let Some(page) = self.page(at) else { return false };
        part::encode(&page.rows, out);
        let after = cursor.page.saturating_add(1);
        let (group, page) = self.next(at).unwrap_or((cursor.group, after));
        *cursor = Cursor { group, page };
        true
    }

    /// Refuses pages that this table could not have made: empty, too long, or out of order.
    fn read_page(&mut self, bytes: &[u8]) -> Result<(), BadPage> {
        let rows: Vec<(K, V)> = part::decode(bytes)?;
        if !(1..=ROWS).contains(&rows.len()) {
            return Err(BadPage::new("a page is empty or too long"));
        }
        let before = || self.last().map(|(key, _)| key);
        let keys = || before().into_iter().chain(rows.iter().map(|(key, _)| key));
        if keys().zip(keys().skip(1)).any(|(left, right)| left >= right) {
            return Err(BadPage::new("rows are out of order"));
        }
        self.len = self.len.saturating_add(rows.len() as u64);
        let group = self.groups.len().saturating_sub(1);
        let page = self.groups.last().map_or(0, |group| group.pages.len());
        // Groups that begin half full have room to grow.
        let at = if page.saturating_mul(2) < GROUP_PAGES_MAX { (group, page) } else { (group.saturating_add(1), 0) };
        self.insert_page(at, rows);
        Ok(())
    }
}

impl<K: Ord, V> Page<K, V> {
    fn new(rows: Vec<(K, V)>) -> Self {
        Self { rows, hash: OnceLock::new() }
    }

    fn find(&self, key: &K) -> Result<usize, usize> {
        self.rows.binary_search_by(|(other, _)| other.cmp(key))
    }

    /// Whether all its rows are before something.
    fn ends(&self, before: impl Fn(&K) -> bool) -> bool {
        self.rows.last().is_some_and(|(key, _)| before(key))
    }
}

impl<K: Serialize, V: Serialize> Page<K, V> {
    fn hash(&self) -> Hash {
        *self.hash.get_or_init(|| {
            let mut bytes = vec![0];
            part::encode(&self.rows, &mut bytes);
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
impl<K: Clone, V, const ROWS: usize> Clone for Table<K, V, ROWS> {
    fn clone(&self) -> Self {
        Self { groups: self.groups.clone(), len: self.len }
    }
}

impl<K: Clone, V> Clone for Group<K, V> {
    fn clone(&self) -> Self {
        Self { first: self.first.clone(), pages: Arc::clone(&self.pages) }
    }
}

impl<K: Clone, V> Clone for Entry<K, V> {
    fn clone(&self) -> Self {
        Self { first: self.first.clone(), page: Arc::clone(&self.page) }
    }
}

impl<K: Ord + Clone, V: Clone, const ROWS: usize> Default for Table<K, V, ROWS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V, const ROWS: usize> fmt::Debug for Table<K, V, ROWS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("rows", &self.len).field("groups", &self.groups.len()).finish()
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
        assert!(table.pages().all(|page| (1..=4).contains(&page.rows.len())));
        for group in &table.groups {
            assert!((1..=GROUP_PAGES_MAX).contains(&group.pages.len()) && group.first == group.pages[0].first);
            assert!(group.pages.iter().all(|entry| entry.first == entry.page.rows[0].0));
        }
        assert!(rows(table).windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(table.len(), rows(table).len() as u64);
    }

    /// The table after a way through a snapshot.
    fn reread(table: &Small) -> Small {
        let (mut again, mut cursor, mut page) = (Small::new(), Cursor::default(), Vec::new());
        while table.write_page(&mut cursor, &mut page) {
            again.read_page(&page).unwrap();
            page.clear();
        }
        again
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
                let rehashed = reread(&view);
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
        assert_eq!(table.pages().count(), 10);
    }

    #[test]
    fn a_clone_shares_all_pages_but_the_written_one() {
        let mut table = Small::new();
        (0..40).for_each(|key| assert_eq!(table.insert(key, 0), None));
        let view = table.clone();
        *table.get_mut(&17).unwrap() = 1;
        let shared = table.pages().zip(view.pages()).filter(|(a, b)| std::ptr::eq(*a, *b)).count();
        assert_eq!(shared, 9);
        assert_ne!(table.root(), view.root());
        *table.get_mut(&17).unwrap() = 0;
        assert_eq!(table.root(), view.root());
    }

    #[test]
    fn pages_that_no_table_makes_are_refused() {
        let page = |rows: Vec<(u16, u32)>| postcard::to_allocvec(&rows).unwrap();
        let mut table = Small::new();
        for bad in [vec![], vec![(1, 0), (1, 0)], vec![(2, 0), (1, 0)], vec![(0, 0); 5]] {
            assert!(table.read_page(&page(bad)).is_err());
        }
        table.read_page(&page(vec![(4, 0)])).unwrap();
        assert!(table.read_page(&page(vec![(4, 0)])).is_err());
        assert!(table.read_page(&[page(vec![(5, 0)]), vec![0]].concat()).is_err());
        table.read_page(&page(vec![(5, 0)])).unwrap();
    }
}
