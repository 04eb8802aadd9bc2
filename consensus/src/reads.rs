//! Contexts of linearizable reads (ReadIndex, section 6.4 of Ongaro's dissertation).
//!
//! raft-rs matches an answer to a read by its context bytes alone. The caller's number is unique only while its process
//! lives, so the bytes also carry the node's id (a leader serves reads of several nodes) and its incarnation: an answer
//! to a read from before a restart must not satisfy a read of the same number after it, whose index could be higher.

/// Bytes of a context: node id, incarnation, the caller's number.
pub(crate) const CONTEXT_BYTES: usize = 24;
/// Reads a leader keeps waiting for a quorum's heartbeats. Each is a map entry and a broadcast.
pub(crate) const READS_PENDING_MAX: usize = 16_384;

/// Who asks: one life of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reader {
    pub(crate) id: u64,
    pub(crate) incarnation: u64,
}

impl Reader {
    /// The bytes that raft carries for the caller's `context`.
    pub(crate) fn encode(self, context: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CONTEXT_BYTES);
        for word in [self.id, self.incarnation, context] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The caller's context, if this life of this node asked.
    pub(crate) fn decode(self, bytes: &[u8]) -> Option<u64> {
        let (words, rest) = bytes.as_chunks::<8>();
        match (words, rest) {
            ([id, incarnation, context], []) => {
                let asked = Self { id: u64::from_le_bytes(*id), incarnation: u64::from_le_bytes(*incarnation) };
                (asked == self).then_some(u64::from_le_bytes(*context))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_life_of_the_same_node_accepts_an_answer() {
        let reader = Reader { id: 3, incarnation: 9 };
        let bytes = reader.encode(77);
        assert_eq!(bytes.len(), CONTEXT_BYTES);
        assert_eq!(reader.decode(&bytes), Some(77));
        assert_eq!(Reader { incarnation: 10, ..reader }.decode(&bytes), None);
        assert_eq!(Reader { id: 4, ..reader }.decode(&bytes), None);
        assert_eq!(reader.decode(&bytes[1..]), None);
        assert_eq!(reader.decode(&[]), None);
    }
}
