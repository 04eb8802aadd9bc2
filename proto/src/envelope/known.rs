//! Points of the keys whose signatures held lately. Finding the point of a key's 32 bytes is a fifth of checking a signature,
//! and the same people sign again and again.
//!
//! It is a cache and decides nothing: a key's point is a function of its bytes. Only keys whose signatures held come in, so
//! that nobody fills it with keys that they do not have.

use curve25519_dalek::EdwardsPoint;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Keys of one generation; there are two, of some 8 MB each.
const GENERATION_MAX: usize = 1 << 15;

/// The cache. Those that were not met during a whole generation are forgotten.
#[derive(Debug, Default)]
pub struct KnownKeys(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<[u8; 32], EdwardsPoint>,
    old: HashMap<[u8; 32], EdwardsPoint>,
}

impl KnownKeys {
    /// The points of these keys, where they are known.
    pub(super) fn points<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Vec<Option<EdwardsPoint>> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.map(|key| generations.point(key)).collect()
    }

    /// Keeps these.
    pub(super) fn remember(&self, points: impl Iterator<Item = ([u8; 32], EdwardsPoint)>) {
        let mut points = points.peekable();
        if points.peek().is_none() {
            return;
        }
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        points.for_each(|(key, point)| generations.insert(key, point));
    }
}

impl Generations {
    fn point(&mut self, key: &[u8]) -> Option<EdwardsPoint> {
        if let Some(point) = self.young.get(key) {
            return Some(*point);
        }
        let (key, point) = self.old.remove_entry(key)?;
        self.insert(key, point);
        Some(point)
    }

    fn insert(&mut self, key: [u8; 32], point: EdwardsPoint) {
        if self.young.len() == GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, point);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use curve25519_dalek::{Scalar, constants::ED25519_BASEPOINT_TABLE};

    fn key(number: usize) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key
    }

    #[test]
    fn what_is_met_again_stays_and_the_rest_is_forgotten_in_time() {
        let (known, point) = (KnownKeys::default(), &Scalar::from(5_u64) * ED25519_BASEPOINT_TABLE);
        let first = key(usize::MAX);
        known.remember([(first, point)].into_iter());
        for number in 0..4 * GENERATION_MAX {
            known.remember([(key(number), point)].into_iter());
            if number % 1_000 == 0 {
                assert_eq!(known.points([&first[..]].into_iter()), [Some(point)]);
            }
        }
        assert_eq!(known.points([&key(0)[..], &[1, 2, 3]].into_iter()), [None, None]);
        let generations = known.0.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION_MAX);
    }
}
