//! CPU time of the calling thread, which a busy machine disturbs least, and memory.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::fs;

/// A moment of this thread's time on a CPU.
#[derive(Debug, Clone, Copy)]
pub struct Moment(Timespec);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self(clock_gettime(ClockId::ThreadCPUTime))
    }

    /// CPU nanoseconds since then.
    pub fn cpu_ns(&self) -> u64 {
        let Self(now) = Self::now();
        let ns = (now.tv_sec - self.0.tv_sec) * 1_000_000_000 + (now.tv_nsec - self.0.tv_nsec);
        u64::try_from(ns).unwrap_or_default()
    }
}

/// The middle one of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Memory of this process that is in use, bytes; 0 where the system does not tell.
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map_or(0, |kib| kib << 10)
}
