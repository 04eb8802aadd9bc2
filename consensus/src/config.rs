//! What a node is told once, and the limits that every node of a cluster shares.

use crate::error::Error;

/// Longest entry that can be proposed, in bytes. With the megabyte of other entries that may travel with it, a message
/// stays under the 4 MiB that gRPC stacks accept by default.
pub const ENTRY_BYTES_MAX: usize = 2 << 20;

/// Entries are packed into one append message up to this many bytes (a larger entry travels alone). Small values make
/// a follower that lags catch up in thousands of round trips.
pub(crate) const APPEND_BYTES_MAX: u64 = 1 << 20;
/// Committed entries returned by one cycle, in bytes; one entry is always returned.
pub(crate) const COMMITTED_BYTES_PER_CYCLE: u64 = 4 << 20;
/// Bytes of appends a node accepts while they wait for its disk. They are held in memory; beyond it appends are
/// dropped as if the network had lost them, and the leader sends them again.
pub(crate) const UNWRITTEN_BYTES_MAX: usize = 64 << 20;
/// Bytes of committed entries delivered and not applied, beyond which delivery pauses and a leader takes no proposals.
pub(crate) const APPLY_BACKLOG_BYTES_MAX: usize = 64 << 20;
/// Longest reference to a snapshot's data, in bytes.
pub const SNAPSHOT_DATA_BYTES_MAX: usize = 1 << 10;
/// Longest context of a change of members, in bytes.
pub(crate) const MEMBERS_CONTEXT_BYTES_MAX: usize = 64 << 10;

/// Most ticks an election may take; a larger number is a mistake of units.
const TICKS_MAX: usize = 10_000;

/// Configuration of one [`crate::Node`]. Times are in ticks; the caller decides how long a tick is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// This node's id: not 0, and never used by another disk of the cluster, past or present.
    pub id: u64,
    /// Ticks without a leader before an election; the actual wait is drawn from `[election_ticks, 2 * election_ticks)`.
    /// Few ticks mean few values to draw from, and votes split more often.
    pub election_ticks: usize,
    /// Ticks between a leader's heartbeats; at least 1 and less than `election_ticks`.
    pub heartbeat_ticks: usize,
    /// Seed of the election jitter. Equal seeds on several nodes are fine: the id is mixed in.
    pub seed: u64,
    /// Bytes of proposals a leader holds before they commit; more is [`crate::ProposeError::Busy`]. At least 1 MiB.
    pub max_uncommitted_bytes: u64,
    /// Append messages in flight to one follower.
    pub max_inflight_messages: usize,
}

impl NodeConfig {
    /// The defaults: elections after 10 to 19 ticks, a heartbeat every 2, 16 MiB uncommitted, 64 messages in flight: what is under way to a
    /// follower stands before its heartbeats.
    pub fn new(id: u64, seed: u64) -> Self {
        Self {
            id,
            election_ticks: 10,
            heartbeat_ticks: 2,
            seed,
            max_uncommitted_bytes: 16 << 20,
            max_inflight_messages: 64,
        }
    }

    /// The same for raft-rs, checked, with the entry up to which raft-rs has nothing to deliver.
    pub(crate) fn to_raft(&self, applied: u64) -> Result<raft::Config, Error> {
        if self.election_ticks > TICKS_MAX {
            return Err(Error::Config(format!("election_ticks must be at most {TICKS_MAX}")));
        }
        let config = raft::Config {
            id: self.id,
            election_tick: self.election_ticks,
            heartbeat_tick: self.heartbeat_ticks,
            applied,
            max_size_per_msg: APPEND_BYTES_MAX,
            max_inflight_msgs: self.max_inflight_messages,
            // A leader that hears no quorum steps down instead of serving an island, and a node that comes back from a
            // partition cannot depose a healthy leader.
            check_quorum: true,
            pre_vote: true,
            // Leases would trust clocks.
            read_only_option: raft::ReadOnlyOption::Safe,
            // raft-rs merges appends without an upper bound on the message; the measured gain is not worth messages of
            // a hundred megabytes to a follower that lags.
            batch_append: false,
            max_uncommitted_size: self.max_uncommitted_bytes,
            max_committed_size_per_ready: COMMITTED_BYTES_PER_CYCLE,
            ..raft::Config::default()
        };
        config.validate().map_err(|error| Error::Config(error.to_string()))?;
        Ok(config)
    }
}

/// The election timeout in ticks for a node in a given term and role: a pure function, so that the same inputs give the
/// same elections. raft-rs draws its own from the thread's random at every change of term or role; the node puts
/// this value over it after every call, which needs no knowledge of when raft-rs drew.
///
/// Two nodes that collide in one term draw anew in the next, because the term is part of the hash.
pub(crate) fn election_timeout(config: &NodeConfig, term: u64, role: u64) -> usize {
    let mut hash = config.seed;
    for word in [config.id, term, role] {
        hash = mix(hash ^ word);
    }
    config.election_ticks + (hash % config.election_ticks as u64) as usize
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_stay_in_range_and_differ_between_nodes_and_terms() {
        let mut seen = std::collections::BTreeSet::new();
        for id in 1..=5 {
            for term in 0..200 {
                let timeout = election_timeout(&NodeConfig::new(id, 7), term, 0);
                assert!((10..20).contains(&timeout));
                seen.insert(timeout);
            }
        }
        assert_eq!(seen.len(), 10, "every value of the range is drawn");
    }

    #[test]
    fn a_config_without_sense_is_refused() {
        for config in [
            NodeConfig::new(0, 1),
            NodeConfig { heartbeat_ticks: 0, ..NodeConfig::new(1, 1) },
            NodeConfig { election_ticks: 2, ..NodeConfig::new(1, 1) },
            NodeConfig { election_ticks: usize::MAX / 4, ..NodeConfig::new(1, 1) },
            NodeConfig { max_uncommitted_bytes: 1, ..NodeConfig::new(1, 1) },
            NodeConfig { max_inflight_messages: 0, ..NodeConfig::new(1, 1) },
        ] {
            assert!(matches!(config.to_raft(0), Err(Error::Config(_))), "{config:?}");
        }
    }
}
