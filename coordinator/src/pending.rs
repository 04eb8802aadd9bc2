//! Envelopes that wait to be decided, and the callers that wait for them.
//!
//! A caller is answered only with what was applied from a committed entry; here is where it waits meanwhile. Two callers
//! with the same envelope share one place, so that a client that asks again while its first request is still on its way
//! adds nothing to the log. Everything is bounded: full is an answer.

use matrixai_state::ids::{CommandId, Hash, Key};
use std::collections::{BTreeMap, VecDeque};

/// What names an envelope: its signer, and the signer's name for it.
pub type EnvelopeId = (Key, CommandId);

/// A caller's number, given by whoever holds its channel.
pub type Caller = u64;

/// Envelopes waiting at once.
pub const PENDING_MAX: usize = 65_536;
/// Envelopes of one key waiting at once, so that one signer cannot take every place.
pub const PENDING_PER_KEY_MAX: u32 = 2_048;
/// Bytes of envelopes that wait to be proposed. Proposed ones are bounded by the consensus.
pub const PENDING_BYTES_MAX: usize = 64 << 20;
/// Callers of one envelope.
const CALLERS_MAX: usize = 16;

/// Why an envelope was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAdded {
    /// There is no place for another envelope or caller now.
    Full,
    /// An envelope of this id but with another payload waits already: its outcome would be the wrong answer.
    Reused,
}

/// An envelope as it is handed in.
#[derive(Debug)]
pub struct Waiting {
    pub id: EnvelopeId,
    /// SHA-256 of its payload.
    pub payload: Hash,
    /// The whole envelope, encoded.
    pub bytes: Vec<u8>,
}

/// The waiting envelopes.
#[derive(Debug, Default)]
pub struct Pending {
    places: BTreeMap<EnvelopeId, Place>,
    /// Envelopes not yet proposed, in order of arrival. May name places that are gone.
    queue: VecDeque<EnvelopeId>,
    per_key: BTreeMap<Key, u32>,
    /// Of those not yet proposed.
    bytes: usize,
}

#[derive(Debug)]
struct Place {
    callers: Vec<Caller>,
    since: u64,
    payload: Hash,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The envelope's bytes, not yet proposed.
    Queued(Vec<u8>),
    /// Part of the proposal of this number.
    Proposed(u64),
}

impl Pending {
    /// Adds an envelope, or another caller of one that waits already.
    pub fn add(&mut self, envelope: Waiting, caller: Caller, now: u64) -> Result<(), NotAdded> {
        let Waiting { id, payload, bytes } = envelope;
        if let Some(place) = self.places.get_mut(&id) {
            if place.payload != payload {
                return Err(NotAdded::Reused);
            }
            if place.callers.len() == CALLERS_MAX {
                return Err(NotAdded::Full);
            }
            place.callers.push(caller);
            return Ok(());
        }
        let of_key = self.per_key.entry(id.0).or_default();
        let full = self.places.len() == PENDING_MAX || self.bytes + bytes.len() > PENDING_BYTES_MAX;
        if full || *of_key == PENDING_PER_KEY_MAX {
            if *of_key == 0 {
                self.per_key.remove(&id.0);
            }
            return Err(NotAdded::Full);
        }
        *of_key += 1;
        self.bytes += bytes.len();
        self.places.insert(id, Place { callers: vec![caller], since: now, payload, stage: Stage::Queued(bytes) });
        self.queue.push_back(id);
        Ok(())
    }

    /// Takes the next envelopes for the proposal `number`: at most `count` of at most `bytes` in all, but one if any.
    pub fn take(&mut self, number: u64, count: usize, bytes: usize) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        let mut size = 0;
        while taken.len() < count {
            let Some(id) = self.queue.front() else { break };
            if let Some(place) = self.places.get_mut(id)
                && let Stage::Queued(envelope) = &mut place.stage
            {
                if !taken.is_empty() && size + envelope.len() > bytes {
                    break;
                }
                size += envelope.len();
                taken.push(std::mem::take(envelope));
                place.stage = Stage::Proposed(number);
            }
            self.queue.pop_front();
        }
        self.bytes -= size;
        taken
    }

    /// Bytes of envelopes that wait to be proposed.
    pub fn queued_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether anything waits to be proposed.
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The envelope was decided: its callers, and since when they wait.
    pub fn decided(&mut self, id: &EnvelopeId) -> Option<(Vec<Caller>, u64)> {
        self.remove(id).map(|place| (place.callers, place.since))
    }

    /// The proposal of this number was not taken.
    pub fn dropped(&mut self, number: u64) -> Vec<Caller> {
        self.remove_where(|place| matches!(place.stage, Stage::Proposed(of) if of == number))
    }

    /// Everybody, when this coordinator no longer leads.
    pub fn all(&mut self) -> Vec<Caller> {
        self.remove_where(|_| true)
    }

    /// Callers that have waited since before a point in time.
    pub fn older_than(&mut self, since: u64) -> Vec<Caller> {
        self.remove_where(|place| place.since < since)
    }

    fn remove_where(&mut self, gone: impl Fn(&Place) -> bool) -> Vec<Caller> {
        let ids: Vec<EnvelopeId> = self.places.iter().filter(|(_, place)| gone(place)).map(|(id, _)| *id).collect();
        ids.iter().filter_map(|id| self.remove(id)).flat_map(|place| place.callers).collect()
    }

    fn remove(&mut self, id: &EnvelopeId) -> Option<Place> {
        let place = self.places.remove(id)?;
        if let Stage::Queued(envelope) = &place.stage {
            self.bytes -= envelope.len();
        }
        if let Some(count) = self.per_key.get_mut(&id.0) {
            *count -= 1;
            if *count == 0 {
                self.per_key.remove(&id.0);
            }
        }
        if self.places.is_empty() {
            self.queue.clear();
        }
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(key: u8, command: u8) -> EnvelopeId {
        ([key; 32], [command; 16])
    }

    fn waiting(id: EnvelopeId, bytes: Vec<u8>) -> Waiting {
        Waiting { id, payload: [0; 32], bytes }
    }

    #[test]
    fn callers_of_one_envelope_share_one_place() {
        let mut pending = Pending::default();
        assert_eq!(pending.add(waiting(id(1, 1), vec![1; 10]), 7, 0), Ok(()));
        assert_eq!(pending.add(waiting(id(1, 1), vec![1; 10]), 8, 5), Ok(()));
        let other = Waiting { id: id(1, 1), payload: [1; 32], bytes: vec![2; 10] };
        assert_eq!(pending.add(other, 9, 5), Err(NotAdded::Reused));
        assert_eq!(pending.take(1, 10, 100), [vec![1; 10]]);
        assert!(!pending.has_queued());
        assert_eq!(pending.decided(&id(1, 1)), Some((vec![7, 8], 0)));
        assert_eq!(pending.decided(&id(1, 1)), None);
    }

    #[test]
    fn proposals_are_cut_by_count_and_bytes_in_order() {
        let mut pending = Pending::default();
        for command in 0..5 {
            assert_eq!(pending.add(waiting(id(1, command), vec![command; 40]), 1, 0), Ok(()));
        }
        assert_eq!(pending.take(1, 10, 100).len(), 2);
        assert_eq!(pending.take(2, 1, 100), [vec![2; 40]]);
        assert_eq!(pending.take(3, 10, 1), [vec![3; 40]], "one goes even if it is too large for its company");
        assert!(pending.has_queued());
    }

    #[test]
    fn a_dropped_proposal_frees_only_its_own() {
        let mut pending = Pending::default();
        for caller in 0..3 {
            assert_eq!(pending.add(waiting(id(1, caller), vec![0; 8]), u64::from(caller), u64::from(caller)), Ok(()));
            pending.take(u64::from(caller), 1, 100);
        }
        assert_eq!(pending.dropped(1), [1]);
        assert_eq!(pending.older_than(1), [0]);
        assert_eq!(pending.all(), [2]);
    }

    #[test]
    fn bytes_that_wait_are_bounded_and_freed() {
        let mut pending = Pending::default();
        let half = || vec![0; PENDING_BYTES_MAX / 2];
        for command in 0..2 {
            assert_eq!(pending.add(waiting(id(1, command), half()), 1, 0), Ok(()));
        }
        assert_eq!(pending.add(waiting(id(1, 2), vec![0]), 1, 0), Err(NotAdded::Full));
        assert_eq!(pending.take(1, 1, usize::MAX).len(), 1);
        assert_eq!(pending.add(waiting(id(1, 2), half()), 1, 0), Ok(()));
        assert_eq!(pending.all().len(), 3);
        assert_eq!(pending.add(waiting(id(1, 3), half()), 1, 0), Ok(()));
    }

    #[test]
    fn one_key_cannot_take_every_place() {
        let mut pending = Pending::default();
        let mut command: CommandId = [0; 16];
        for number in 0..PENDING_PER_KEY_MAX {
            command[..4].copy_from_slice(&number.to_le_bytes());
            assert_eq!(pending.add(waiting(([1; 32], command), vec![]), 1, 0), Ok(()));
        }
        assert_eq!(pending.add(waiting(([1; 32], [9; 16]), vec![]), 1, 0), Err(NotAdded::Full));
        assert_eq!(pending.add(waiting(([2; 32], [9; 16]), vec![]), 1, 0), Ok(()));
    }
}
