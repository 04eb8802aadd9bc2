//! The figures of one coordinator for Prometheus. Units are in the names (`_seconds`, `_bytes`), as Prometheus asks.
//!
//! Figures that follow from the replicated state (machines by status, jobs by state) are not kept up to date by
//! whoever changes it: they are taken from one consistent view when somebody asks for `/metrics`.

use super::full::FullDisks;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Buckets of [`Metrics::propose_seconds`]: from a fast disk on loopback to a quorum that nearly timed out.
const PROPOSE_BUCKETS_S: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
/// Buckets of [`Metrics::envelopes_per_entry`]: powers of two up to a full entry of small envelopes.
const BATCH_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0];

/// Buckets of [`Metrics::snapshot_seconds`]: from an empty state to gigabytes on a slow disk.
const SNAPSHOT_BUCKETS_S: &[f64] = &[0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Every figure this coordinator exports. Cheap to share: all fields are handles.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Newest log index applied here.
    pub(crate) applied_index: IntGauge,
    /// Newest log index known committed here.
    pub(crate) committed_index: IntGauge,
    /// Raft term.
    pub(crate) term: IntGauge,
    /// 1 for the role this coordinator has (label `role`), 0 for the others.
    role: IntGaugeVec,
    /// From the arrival of an envelope to its outcome, on the leader.
    pub(crate) propose_seconds: Histogram,
    /// Envelopes that shared one log entry.
    pub(crate) envelopes_per_entry: Histogram,
    /// Workers' sessions that end here.
    pub(crate) sessions: IntGauge,
    machines: IntGaugeVec,
    jobs: IntGaugeVec,
    /// Bytes of artifacts on this disk, unfinished uploads included.
    pub(crate) artifacts_bytes: IntGauge,
    /// Most bytes of artifacts this coordinator accepts.
    pub(crate) artifacts_bytes_max: IntGauge,
    /// Artifacts that were missing here and were fetched from a peer.
    pub(crate) artifacts_fetched: IntCounter,
    refusals: IntCounterVec,
    /// Log entries applied but not yet in the statement index.
    pub(crate) history_lag: IntGauge,
    /// Times the statement index was set aside and built again.
    pub(crate) history_rebuilds: IntCounter,
    /// Entries in the log, committed and not yet cut off behind a snapshot.
    pub(crate) log_entries: IntGauge,
    /// Last entry of the newest snapshot.
    pub(crate) snapshot_index: IntGauge,
    /// Time to write a snapshot.
    pub(crate) snapshot_seconds: Histogram,
    /// The other folders whose disk is full.
    pub(crate) full_disks: FullDisks,
    /// 1 while the log's disk is full.
    pub(crate) disk_full: IntGauge,
    /// Live-update streams of browsers.
    pub(crate) web_streams: IntGauge,
    log_syncs: IntCounter,
    /// What the log's store counts itself; none before there is a log.
    log_syncs_counted: Arc<OnceLock<Arc<AtomicU64>>>,
}

/// The names a role can have, as `GetStatusReply.role`.
const ROLES: [&str; 4] = ["leader", "follower", "candidate", "uninitialised"];

impl Metrics {
    /// All figures at zero.
    ///
    /// # Panics
    /// Never in practice: names and labels are constants, and each is registered once.
    #[must_use]
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let propose =
            HistogramOpts::new("matrixai_propose_seconds", "From an envelope's arrival to its outcome on the leader")
                .buckets(PROPOSE_BUCKETS_S.to_vec());
        let batch = HistogramOpts::new("matrixai_envelopes_per_entry", "Envelopes that shared one log entry")
            .buckets(BATCH_BUCKETS.to_vec());
        let snapshot = HistogramOpts::new("matrixai_snapshot_seconds", "Time to write a snapshot")
            .buckets(SNAPSHOT_BUCKETS_S.to_vec());
        let full_disks = FullDisks::new().expect("names and labels of metrics are constants and valid");
        registered(r, Ok(full_disks.figure()));
        Self {
            applied_index: gauge(r, "matrixai_applied_index", "Newest log index applied here"),
            committed_index: gauge(r, "matrixai_committed_index", "Newest log index known committed here"),
            term: gauge(r, "matrixai_term", "Raft term"),
            role: gauges(r, "matrixai_role", "1 for this coordinator's role, 0 for the others", "role"),
            propose_seconds: registered(r, Histogram::with_opts(propose)),
            envelopes_per_entry: registered(r, Histogram::with_opts(batch)),
            sessions: gauge(r, "matrixai_sessions", "Workers' sessions that end here"),
            machines: gauges(r, "matrixai_machines", "Machines by status", "status"),
            jobs: gauges(r, "matrixai_jobs", "Jobs by state", "state"),
            artifacts_bytes: gauge(
                r,
                "matrixai_artifacts_bytes",
                "Bytes of artifacts on this disk, unfinished uploads included",
            ),
            artifacts_bytes_max: gauge(r, "matrixai_artifacts_bytes_max", "Most bytes of artifacts accepted here"),
            artifacts_fetched: counter(
                r,
                "matrixai_artifacts_fetched_total",
                "Artifacts missing here and fetched from a peer",
            ),
            refusals: registered(
                r,
                IntCounterVec::new(
                    Opts::new("matrixai_refusals_total", "Commands refused, by the refusal's name"),
                    &["name"],
                ),
            ),
            history_lag: gauge(
                r,
                "matrixai_history_lag_entries",
                "Log entries applied but not yet in the statement index",
            ),
            history_rebuilds: counter(
                r,
                "matrixai_history_rebuilds_total",
                "Times the statement index was set aside and built again",
            ),
            log_entries: gauge(r, "matrixai_log_entries", "Entries in the log, committed and not cut off"),
            snapshot_index: gauge(r, "matrixai_snapshot_index", "Last log index of the newest snapshot"),
            snapshot_seconds: registered(r, Histogram::with_opts(snapshot)),
            full_disks,
            disk_full: gauge(r, "matrixai_disk_full", "1 while the log's disk is full"),
            web_streams: gauge(r, "matrixai_web_streams", "Live-update streams of browsers"),
            log_syncs: counter(r, "matrixai_log_syncs_total", "Synced writes (fdatasync) of the log's files"),
            log_syncs_counted: Arc::default(),
            registry,
        }
    }

    /// Notes this coordinator's role ("leader", "follower", "candidate" or "uninitialised").
    pub(crate) fn set_role(&self, role: &str) {
        for name in ROLES {
            self.role.with_label_values(&[name]).set(i64::from(name == role));
        }
    }

    /// Counts one refused command by the refusal's name.
    pub(crate) fn refused(&self, name: &str) {
        self.refusals.with_label_values(&[name]).inc();
    }

    /// Shows from now on how often the log's files are synced.
    pub(crate) fn show_log_syncs(&self, counted: Arc<AtomicU64>) {
        // A process opens one log.
        let _ = self.log_syncs_counted.set(counted);
    }

    /// Notes how many machines have each status.
    pub(crate) fn set_machines(&self, by_status: &BTreeMap<&str, i64>) {
        replace(&self.machines, by_status);
    }

    /// Notes how many jobs are in each state.
    pub(crate) fn set_jobs(&self, by_state: &BTreeMap<&str, i64>) {
        replace(&self.jobs, by_state);
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// When the encoder refuses a family, which would be a mistake of ours in its definition.
    pub(crate) fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        if let Some(counted) = self.log_syncs_counted.get() {
            let since = counted.load(Ordering::Relaxed).saturating_sub(self.log_syncs.get());
            self.log_syncs.inc_by(since);
        }
        let mut bytes = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut bytes)?;
        Ok(bytes)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A count that fell to zero disappears from the view, and must not stay at its last figure.
fn replace(family: &IntGaugeVec, counts: &BTreeMap<&str, i64>) {
    family.reset();
    for (label, count) in counts {
        family.with_label_values(&[label]).set(*count);
    }
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("names and labels of metrics are constants and valid");
    registry.register(Box::new(collector.clone())).expect("each metric is registered once");
    collector
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::new(name, help))
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help))
}

fn gauges(registry: &Registry, name: &str, help: &str, label: &str) -> IntGaugeVec {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), &[label]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_holds_what_was_noted_and_forgets_what_left() {
        let metrics = Metrics::new();
        metrics.set_role("leader");
        metrics.refused("insufficient_funds");
        metrics.set_jobs(&BTreeMap::from([("training", 2)]));
        metrics.set_jobs(&BTreeMap::from([("settled", 2)]));
        metrics.propose_seconds.observe(0.004);
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        for line in [
            "matrixai_role{role=\"leader\"} 1",
            "matrixai_role{role=\"follower\"} 0",
            "matrixai_refusals_total{name=\"insufficient_funds\"} 1",
            "matrixai_jobs{state=\"settled\"} 2",
            "matrixai_propose_seconds_count 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("state=\"training\""), "{text}");
    }
}
