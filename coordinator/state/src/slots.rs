//! Rows that come and go, each at a place that is its own while it is there: put, found by place and taken out without a
//! search or a move of others.
//!
//! A place that was left is taken again, the one that was left last first: places that are free name each other, so which
//! comes next follows from the log alone and goes through a snapshot with the pages. Pages are shared until they are written,
//! in groups of pages that are shared likewise. The pages of the most rows that there ever were at once stay.

use crate::{
    ids::Hash,
    index::HashKey,
    part::{self, BadPage, Cursor, Part},
    registry::Place,
};
use matrixai_protocol::{sha256, training::merkle_root};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// Places of a page.
const PAGE: usize = 16;
/// Pages of a group.
const GROUP: usize = 64;
const GROUP_SLOTS: usize = GROUP * PAGE;

/// A copy-on-write list of rows with gaps.
pub(crate) struct Slots<R> {
    /// All groups and pages but the last are full of slots.
    groups: Vec<Group<R>>,
    /// Places that were ever taken.
    len: usize,
    rows: u64,
    /// The place that was left last.
    free: Next,
}

/// Pages that are shared as one.
type Group<R> = Arc<Vec<Arc<Page<R>>>>;

struct Page<R> {
    /// Empty as soon as a row may have changed.
    hash: OnceLock<Hash>,
    slots: Vec<Slot<R>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Slot<R> {
    Row(R),
    /// Nothing; and the place that was left before this one.
    Free(Next),
}

/// A free place plus one; 0 for none.
type Next = u32;

impl<R: Clone> Slots<R> {
    /// Number of rows.
    pub(crate) const fn len(&self) -> u64 {
        self.rows
    }

    /// Places that were ever taken: all rows are below.
    pub(crate) const fn places(&self) -> Place {
        self.len as Place
    }

    /// The row at a place.
    pub(crate) fn get(&self, place: Place) -> Option<&R> {
        let place = place as usize;
        match self.groups.get(place / GROUP_SLOTS)?.get(place / PAGE % GROUP)?.slots.get(place % PAGE)? {
            Slot::Row(row) => Some(row),
            Slot::Free(_) => None,
        }
    }

    /// The row at a place, to be changed. Copies its page if a view shares it.
    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut R> {
        match self.slot_mut(place)? {
            Slot::Row(row) => Some(row),
            Slot::Free(_) => None,
        }
    }

    /// Puts a row somewhere and returns where.
    pub(crate) fn insert(&mut self, row: R) -> Place {
        self.rows = self.rows.saturating_add(1);
        let Some(place) = self.free.checked_sub(1) else { return self.push(Slot::Row(row)) };
        let slot = self.slot_mut(place).expect("a free place is one that was taken before");
        match std::mem::replace(slot, Slot::Row(row)) {
            Slot::Free(next) => self.free = next,
            Slot::Row(_) => panic!("place {place} is called free and has a row"),
        }
        place
    }

    /// Takes the row at a place out.
    pub(crate) fn remove(&mut self, place: Place) -> Option<R> {
        self.get(place)?;
        let free = self.free;
        let slot = self.slot_mut(place)?;
        let Slot::Row(row) = std::mem::replace(slot, Slot::Free(free)) else { return None };
        self.free = next(place);
        self.rows = self.rows.saturating_sub(1);
        Some(row)
    }

    /// All rows with their places, ascending.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (Place, &R)> {
        (0..self.places()).filter_map(|place| Some((place, self.get(place)?)))
    }

    fn slot_mut(&mut self, place: Place) -> Option<&mut Slot<R>> {
        let place = place as usize;
        let group = Arc::make_mut(self.groups.get_mut(place / GROUP_SLOTS)?);
        let page = Arc::make_mut(group.get_mut(place / PAGE % GROUP)?);
        page.hash = OnceLock::new();
        page.slots.get_mut(place % PAGE)
    }

    fn push(&mut self, slot: Slot<R>) -> Place {
        let place = Place::try_from(self.len).expect("four thousand million rows do not fit the memory");
        if self.len.is_multiple_of(GROUP_SLOTS) {
            self.groups.push(Arc::new(Vec::with_capacity(GROUP)));
        }
        let group = Arc::make_mut(self.groups.last_mut().expect("there is a group now"));
        if self.len.is_multiple_of(PAGE) {
            group.push(Arc::new(Page { hash: OnceLock::new(), slots: Vec::with_capacity(PAGE) }));
        }
        let page = Arc::make_mut(group.last_mut().expect("there is a page now"));
        page.hash = OnceLock::new();
        page.slots.push(slot);
        self.len = self.len.saturating_add(1);
        place
    }
}

impl<R> Slots<R> {
    fn pages(&self) -> impl Iterator<Item = &Arc<Page<R>>> {
        self.groups.iter().flat_map(|group| group.iter())
    }
}

fn next(place: Place) -> Next {
    place.checked_add(1).expect("there is memory for far fewer places")
}

impl<R: Clone + Serialize + DeserializeOwned> Part for Slots<R> {
    fn empty(_: HashKey) -> Self {
        Self { groups: Vec::new(), len: 0, rows: 0, free: 0 }
    }

    fn root(&self) -> Hash {
        let leaves: Vec<Hash> = self.pages().map(|page| page.hash()).collect();
        merkle_root(&leaves)
    }

    fn write_page(&self, cursor: &mut Cursor, out: &mut Vec<u8>) -> bool {
        let page = self.groups.get(cursor.page / GROUP).and_then(|group| group.get(cursor.page % GROUP));
        cursor.page = cursor.page.saturating_add(1);
        page.inspect(|page| part::encode(&page.slots, out)).is_some()
    }

    fn read_page(&mut self, bytes: &[u8]) -> Result<(), BadPage> {
        let slots: Vec<Slot<R>> = part::decode(bytes)?;
        if !self.len.is_multiple_of(PAGE) || !(1..=PAGE).contains(&slots.len()) {
            return Err(BadPage::new("a page is empty or too long, or one before it is short"));
        }
        for slot in slots {
            let left = match &slot {
                Slot::Row(_) => None,
                Slot::Free(before) => Some(*before),
            };
            let place = self.push(slot);
            match left {
                None => self.rows = self.rows.saturating_add(1),
                // Each free place but the last that was left is named by one other: what is left over is that one.
                Some(before) => self.free ^= next(place) ^ before,
            }
        }
        Ok(())
    }
}

impl<R: Serialize> Page<R> {
    fn hash(&self) -> Hash {
        *self.hash.get_or_init(|| {
            let mut bytes = vec![0];
            part::encode(&self.slots, &mut bytes);
            sha256(&[&bytes])
        })
    }
}

/// The copy is about to be written, so it starts without a hash, and with room for all that it may hold.
impl<R: Clone> Clone for Page<R> {
    fn clone(&self) -> Self {
        let mut slots = Vec::with_capacity(PAGE);
        slots.extend(self.slots.iter().cloned());
        Self { hash: OnceLock::new(), slots }
    }
}

/// Copies pointers, not rows.
impl<R> Clone for Slots<R> {
    fn clone(&self) -> Self {
        Self { groups: self.groups.clone(), len: self.len, rows: self.rows, free: self.free }
    }
}

impl<R> fmt::Debug for Slots<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("rows", &self.rows).field("places", &self.len).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// The slots after a way through a snapshot.
    fn reread(slots: &Slots<u64>) -> Slots<u64> {
        let (mut again, mut cursor, mut page) = (Slots::empty(HashKey::default()), Cursor::default(), Vec::new());
        while slots.write_page(&mut cursor, &mut page) {
            again.read_page(&page).unwrap();
            page.clear();
        }
        again
    }

    proptest! {
        /// The oracle is a BTreeMap; views taken on the way must not move, and a copy from a snapshot goes on alike.
        #[test]
        fn rows_keep_their_places(steps in prop::collection::vec((0u8..8, any::<prop::sample::Index>()), 0..300)) {
            let mut slots = Slots::empty(HashKey::default());
            let mut oracle = BTreeMap::new();
            let mut views = Vec::new();
            for (number, (kind, at)) in (0u64..).zip(steps) {
                match kind {
                    0..=3 => prop_assert_eq!(oracle.insert(slots.insert(number), number), None),
                    4 if !oracle.is_empty() => {
                        let place = *oracle.keys().nth(at.index(oracle.len())).unwrap();
                        *slots.get_mut(place).unwrap() = number;
                        oracle.insert(place, number);
                    }
                    5..=6 if !oracle.is_empty() => {
                        let place = *oracle.keys().nth(at.index(oracle.len())).unwrap();
                        prop_assert_eq!(slots.remove(place), oracle.remove(&place));
                        prop_assert_eq!(slots.remove(place), None);
                    }
                    _ => {
                        views.push((slots.clone(), oracle.clone()));
                        let again = reread(&slots);
                        prop_assert_eq!(again.root(), slots.root());
                        slots = again;
                    }
                }
                prop_assert_eq!(slots.len(), oracle.len() as u64);
            }
            let mut twin = reread(&slots);
            for number in 0..20 {
                prop_assert_eq!(twin.insert(number), slots.insert(number));
            }
            for (view, oracle) in views {
                prop_assert_eq!(view.iter().map(|(place, row)| (place, *row)).collect::<BTreeMap<_, _>>(), oracle);
            }
        }
    }

    #[test]
    fn the_place_that_was_left_last_is_taken_first() {
        let mut slots = Slots::empty(HashKey::default());
        assert_eq!((0..5).map(|row| slots.insert(row)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!((slots.remove(1), slots.remove(3)), (Some(1), Some(3)));
        assert_eq!([slots.insert(6), slots.insert(7), slots.insert(8)], [3, 1, 5]);
        assert_eq!((slots.get(3), slots.get(9)), (Some(&6), None));
    }

    #[test]
    fn pages_that_no_slots_make_are_refused() {
        let page = |slots: Vec<Slot<u64>>| postcard::to_allocvec(&slots).unwrap();
        let mut slots: Slots<u64> = Slots::empty(HashKey::default());
        for bad in [vec![], vec![Slot::Row(1); PAGE + 1]] {
            assert!(slots.read_page(&page(bad)).is_err());
        }
        slots.read_page(&page(vec![Slot::Row(1)])).unwrap();
        assert!(slots.read_page(&page(vec![Slot::Row(1)])).is_err(), "the page before it is short");
    }
}
