//! The one hash table: it finds rows by key and is never iterated, so its layout decides nothing.
//!
//! An entry is the upper half of the key's hash and a place; whoever looks something up compares the row at that place.
//! A search begins at the entry that the hash's first bits name and goes on to the next ones; a removal closes the gap that
//! it leaves, so nothing wears out, and the table grows without a look at the rows. Entries are in pages that are shared until
//! they are written, like the rows themselves.
//!
//! Whoever signs an envelope chooses the bytes that are hashed here: 16 of its id, and its key. With a hash that he can compute,
//! ids that all begin their search at one entry cost him milliseconds each, and each of the 65,536 that one key may have
//! remembered would cost every replica a search through all of them. So the hash is SipHash-1-3 under a key that he does not
//! know: the cluster's, mixed with bits that each process draws for itself ([`salt_tables`]). Replicas then lay their tables out
//! differently, which nothing can see.

use crate::ids::Hash;
use std::sync::{Arc, OnceLock};

/// Entries of a page: 8 KiB.
const PAGE: usize = 1_024;
/// Marks an entry as taken; the bits below are the place, those above the tag.
const TAKEN: u64 = 1 << 32;
const TAG: u64 = !(2 * TAKEN - 1);

/// What the hash is keyed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HashKey(u64, u64);

/// The secret bits of this process; none where nobody attacks, as in tests and in the simulator.
static SALT: OnceLock<[u64; 2]> = OnceLock::new();

/// Keys the hash tables of every state that is made from here on with these random bits; answers whether they are the first,
/// which are the ones that count. Copies of a state keep its key.
pub fn salt_tables(random: [u8; 16]) -> bool {
    SALT.set(words(&random)).is_ok()
}

/// The first two words.
fn words(bytes: &[u8]) -> [u64; 2] {
    let (words, _) = bytes.as_chunks::<8>();
    [0, 1].map(|at: usize| words.get(at).map_or(0, |word| u64::from_le_bytes(*word)))
}

impl HashKey {
    /// The key of a cluster in this process.
    pub(crate) fn of(cluster_id: &Hash) -> Self {
        Self::salted(cluster_id, SALT.get().copied().unwrap_or_default())
    }

    fn salted(cluster_id: &Hash, salt: [u64; 2]) -> Self {
        let [low, high] = words(cluster_id);
        Self(low ^ salt[0], high ^ salt[1])
    }

    /// SipHash-1-3 of a key's bytes, of which there are at most 64 and always as many in one table.
    pub(crate) fn hash(self, bytes: &[u8]) -> u64 {
        let mut v = [
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ];
        let (blocks, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        for word in blocks.iter().chain([&last]) {
            let word = u64::from_le_bytes(*word);
            v[3] ^= word;
            round(&mut v);
            v[0] ^= word;
        }
        v[2] ^= 0xff;
        (0..3).for_each(|_| round(&mut v));
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

/// Finds the places of rows by the hashes of their keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    /// A power of two of them, or none.
    pages: Vec<Arc<[u64; PAGE]>>,
    len: usize,
}

impl Index {
    /// The place of a key: the first under its hash whose row `is` the key's.
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash)?;
        loop {
            let entry = self.entry(at);
            if entry == 0 {
                return None;
            }
            if (entry ^ hash) & TAG == 0 && is(entry as u32) {
                return Some(entry as u32);
            }
            at = self.after(at);
        }
    }

    /// Looks at the entry where a key's search begins. In a loop over many keys these loads overlap, so that the searches
    /// that follow wait for no memory.
    pub(crate) fn touch(&self, hash: u64) -> u64 {
        self.home(hash).map_or(0, |at| self.entry(at))
    }

    /// Adds a place. The caller has looked that its key is not there.
    pub(crate) fn insert(&mut self, hash: u64, place: u32) {
        // At most three quarters full, or searches become long.
        if self.len.saturating_add(1).saturating_mul(4) > self.capacity().saturating_mul(3) {
            let pages = self.pages.len().saturating_mul(2).max(1);
            let old = std::mem::replace(&mut self.pages, (0..pages).map(|_| Arc::new([0; PAGE])).collect());
            old.iter().flat_map(|page| page.iter()).filter(|entry| **entry != 0).for_each(|entry| self.put(*entry));
        }
        self.put(hash & TAG | TAKEN | u64::from(place));
        self.len = self.len.saturating_add(1);
    }

    /// Takes a place out. Entries after it whose search would end at the gap move up.
    pub(crate) fn remove(&mut self, hash: u64, place: u32) {
        let wanted = hash & TAG | TAKEN | u64::from(place);
        let Some(mut gap) = self.home(hash) else { return };
        while self.entry(gap) != wanted {
            if self.entry(gap) == 0 {
                return;
            }
            gap = self.after(gap);
        }
        self.len = self.len.saturating_sub(1);
        let mut at = gap;
        loop {
            at = self.after(at);
            let entry = self.entry(at);
            if entry == 0 {
                self.set(gap, 0);
                return;
            }
            // An entry may fill the gap unless its own search begins after it.
            let home = self.home(entry).unwrap_or_default();
            if self.distance(home, at) >= self.distance(gap, at) {
                self.set(gap, entry);
                gap = at;
            }
        }
    }

    fn put(&mut self, entry: u64) {
        let mut at = self.home(entry).expect("the table has just been given room");
        while self.entry(at) != 0 {
            at = self.after(at);
        }
        self.set(at, entry);
    }

    const fn capacity(&self) -> usize {
        self.pages.len().saturating_mul(PAGE)
    }

    /// Where the search for a hash begins: its first bits, which an entry keeps. None in an empty table.
    fn home(&self, hash: u64) -> Option<usize> {
        // The capacity is a power of two up to 2^31, so that an entry has all the bits that are used here.
        let bits = self.capacity().checked_ilog2()?;
        Some((hash >> 64u32.saturating_sub(bits)) as usize)
    }

    const fn after(&self, at: usize) -> usize {
        at.wrapping_add(1) & self.capacity().wrapping_sub(1)
    }

    const fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.capacity().wrapping_sub(1)
    }

    fn entry(&self, at: usize) -> u64 {
        self.pages.get(at / PAGE).map_or(0, |page| page[at % PAGE])
    }

    fn set(&mut self, at: usize, entry: u64) {
        if let Some(page) = self.pages.get_mut(at / PAGE) {
            Arc::make_mut(page)[at % PAGE] = entry;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Few hashes, so that searches are long and wrap around the end.
        #[test]
        fn finds_what_was_put_and_not_taken(steps in prop::collection::vec((any::<bool>(), 0u64..8, 0u32..64), 0..400)) {
            let mut index = Index::default();
            let mut oracle = BTreeMap::new();
            for (put, hash, place) in steps {
                let hash = (hash << 61 | u64::MAX >> 3).wrapping_sub((u64::from(place) % 3) << 40);
                match (put, oracle.contains_key(&place)) {
                    (true, false) => {
                        index.insert(hash, place);
                        oracle.insert(place, hash);
                    }
                    (false, true) => index.remove(oracle.remove(&place).unwrap(), place),
                    _ => {}
                }
                prop_assert_eq!(index.len, oracle.len());
                for place in 0..64 {
                    let at = oracle.get(&place).and_then(|hash| index.find(*hash, |other| other == place));
                    prop_assert_eq!(at, oracle.contains_key(&place).then_some(place));
                }
            }
        }
    }

    /// What an attacker grinds who knows the cluster and not the process: ids that all begin their search in one 256th of the
    /// table. Under a salt they are ids like others.
    #[test]
    fn ids_ground_against_the_cluster_do_not_collide_in_a_process() {
        let cluster = [7; 32];
        let home = |key: HashKey, id: u64| key.hash(&id.to_le_bytes()) >> 56;
        let known = HashKey::salted(&cluster, [0, 0]);
        let ground: Vec<u64> = (0..).filter(|id| home(known, *id) == 9).take(1_024).collect();
        let salted = HashKey::salted(&cluster, [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321]);
        let mut homes = BTreeMap::new();
        ground.iter().for_each(|id| *homes.entry(home(salted, *id)).or_insert(0) += 1);
        // Four of each in the mean.
        assert!(homes.len() > 200 && homes.values().all(|count| *count < 20), "{homes:?}");
    }

    #[test]
    fn grows_and_shares_its_pages() {
        let key = HashKey::of(&[7; 32]);
        let hash = |place: u32| key.hash(&place.to_le_bytes());
        let mut index = Index::default();
        (0..10_000).for_each(|place| index.insert(hash(place), place));
        let view = index.clone();
        (0..5_000).for_each(|place| index.remove(hash(place), place));
        for place in 0..10_000 {
            assert_eq!(view.find(hash(place), |other| other == place), Some(place));
            assert_eq!(index.find(hash(place), |other| other == place), (place >= 5_000).then_some(place));
        }
        assert_eq!(index.find(hash(10_000), |_| true), None);
    }
}
