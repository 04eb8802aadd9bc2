//! Bugs planted on purpose at real places, to prove that the simulator finds their like: those of this package, and by
//! name those of the consensus and the state. They exist with the feature `plants` alone, which no build of the product
//! has: without it `planted` is `false` for the compiler.

/// Whether this build can have bugs planted.
pub const POSSIBLE: bool = cfg!(feature = "plants");

/// A bug that can be planted. Closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// A leader answers reads without asking whether it still leads.
    ReadUnconfirmed,
    /// A bounded read is answered from whatever was confirmed last, however old that is.
    BoundIgnored,
    /// A snapshot gets its place without a sync.
    SnapshotUnsynced,
    /// Another's snapshot gets its place without a sync.
    InstallUnsynced,
    /// The log is cut before it is in sealed segments.
    CutUnsealed,
    /// The ledger clock follows this machine's wall clock alone.
    OwnClockOnly,
    /// A leader that is a stranger to a member keeps its office all the same.
    StrangerLeads,
}

impl Plant {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::ReadUnconfirmed,
        Self::BoundIgnored,
        Self::SnapshotUnsynced,
        Self::InstallUnsynced,
        Self::CutUnsealed,
        Self::OwnClockOnly,
        Self::StrangerLeads,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadUnconfirmed => "read-unconfirmed",
            Self::BoundIgnored => "bound-ignored",
            Self::SnapshotUnsynced => "snapshot-unsynced",
            Self::InstallUnsynced => "install-unsynced",
            Self::CutUnsealed => "cut-unsealed",
            Self::OwnClockOnly => "own-clock-only",
            Self::StrangerLeads => "stranger-leads",
        }
    }
}

#[cfg(feature = "plants")]
static PLANTED: std::sync::OnceLock<Plant> = std::sync::OnceLock::new();

/// Names of everything that can be planted in this build.
pub fn names() -> Vec<&'static str> {
    if !POSSIBLE {
        return Vec::new();
    }
    let consensus = matrixai_consensus::plants::Plant::ALL.map(|plant| plant.name());
    let state = matrixai_state::plants::Plant::ALL.map(|plant| plant.name());
    consensus.into_iter().chain(state).chain(Plant::ALL.map(Plant::name)).collect()
}

/// Plants a bug for the rest of the process; answers whether there is one of this name. The first stays.
#[cfg(feature = "plants")]
pub fn plant(name: &str) -> bool {
    use matrixai_consensus::plants as consensus;
    use matrixai_state::plants as state;
    if let Some(plant) = consensus::Plant::ALL.into_iter().find(|plant| plant.name() == name) {
        consensus::plant(plant);
    } else if let Some(plant) = state::Plant::ALL.into_iter().find(|plant| plant.name() == name) {
        state::plant(plant);
    } else if let Some(plant) = Plant::ALL.into_iter().find(|plant| plant.name() == name) {
        PLANTED.get_or_init(|| plant);
    } else {
        return false;
    }
    true
}

/// Plants nothing: this build has no bugs to plant.
#[cfg(not(feature = "plants"))]
pub fn plant(_: &str) -> bool {
    false
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
