//! Bugs planted on purpose at real places, to prove that a simulator finds their like. They exist with the feature
//! `plants` alone, which no build of a product has: without it `planted` is `false` for the compiler.

/// A bug that can be planted. Closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// Votes and acknowledgements leave before the disk has what they promise.
    AckBeforeSync,
    /// Term and vote are written without a sync when no entry is written with them.
    VoteUnsynced,
    /// A leader takes for committed what is on its own disk, whoever else has it.
    CommitAlone,
    /// The first entry behind an installed snapshot is not delivered.
    SnapshotSkipsEntry,
    /// Changes of the members that were committed before a restart, and are in no snapshot yet, are forgotten by it.
    RestartForgetsMembers,
}

impl Plant {
    /// All there are.
    pub const ALL: [Self; 5] = [
        Self::AckBeforeSync,
        Self::VoteUnsynced,
        Self::CommitAlone,
        Self::SnapshotSkipsEntry,
        Self::RestartForgetsMembers,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "ack-before-sync",
            Self::VoteUnsynced => "vote-unsynced",
            Self::CommitAlone => "commit-alone",
            Self::SnapshotSkipsEntry => "snapshot-skips-entry",
            Self::RestartForgetsMembers => "restart-forgets-members",
        }
    }
}

#[cfg(feature = "plants")]
static PLANTED: std::sync::OnceLock<Plant> = std::sync::OnceLock::new();

/// Plants a bug for the rest of the process. The first stays.
#[cfg(feature = "plants")]
pub fn plant(plant: Plant) {
    PLANTED.get_or_init(|| plant);
}

#[cfg(feature = "plants")]
pub(crate) fn planted(plant: Plant) -> bool {
    PLANTED.get() == Some(&plant)
}

/// Whether a bug is planted.
#[cfg(not(feature = "plants"))]
pub(crate) const fn planted(_: Plant) -> bool {
    false
}
