//! Bugs planted on purpose at real places, to prove that the simulator finds their like. They exist with the feature
//! `plants` alone, which no build of the product has: without it `planted` is `false` for the compiler.

/// A bug that can be planted. Closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// Ledger time is an entry's stamp, even when that is earlier than the one before.
    TimeRunsBack,
    /// A commitment counts whatever attempt it names.
    AttemptUnchecked,
    /// The lease of a drill never ends.
    LateReportTaken,
    /// A task is paid when it is reported, before anybody has replayed it.
    PaidOnReport,
    /// The treasury gets a job's fee, and nobody pays it.
    FeeFromNowhere,
    /// A transfer takes the money before it looks for the receiver.
    RefusalKeepsMoney,
    /// Envelopes that a snapshot remembers are forgotten when it is loaded.
    SnapshotForgetsEnvelopes,
}

impl Plant {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::TimeRunsBack,
        Self::AttemptUnchecked,
        Self::LateReportTaken,
        Self::PaidOnReport,
        Self::FeeFromNowhere,
        Self::RefusalKeepsMoney,
        Self::SnapshotForgetsEnvelopes,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TimeRunsBack => "time-runs-back",
            Self::AttemptUnchecked => "attempt-unchecked",
            Self::LateReportTaken => "late-report-taken",
            Self::PaidOnReport => "paid-on-report",
            Self::FeeFromNowhere => "fee-from-nowhere",
            Self::RefusalKeepsMoney => "refusal-keeps-money",
            Self::SnapshotForgetsEnvelopes => "snapshot-forgets-envelopes",
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
