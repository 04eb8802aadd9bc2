//! Two clocks a node: a monotonic one that drifts, and a wall clock on top of it that people and bad batteries set.
//! True time is the simulator's own and is shown to no node.

use super::rng::Rng;

/// Microseconds of true time since the world began.
pub type Micros = u64;

/// Wall time when the world begins, ms since the Unix epoch.
pub const START_MS: u64 = 1_800_000_000_000;

/// Fastest drift of a clock, parts per million; cheap crystals stay within 100.
const DRIFT_PPM_MAX: u64 = 200;
/// Most that a wall clock is off at the start, ms.
const OFFSET_MS_MAX: u64 = 500;

/// One machine's clocks.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Monotonic microseconds per million of true ones.
    rate: u64,
    /// Wall time minus monotonic time, ms.
    offset_ms: i64,
}

impl Clock {
    /// A clock as machines have them.
    pub fn new(rng: &mut Rng) -> Self {
        let rate = 1_000_000 - DRIFT_PPM_MAX + rng.below(2 * DRIFT_PPM_MAX);
        let off = rng.below(2 * OFFSET_MS_MAX) as i64 - OFFSET_MS_MAX as i64;
        Self { rate, offset_ms: START_MS as i64 + off }
    }

    /// Monotonic time, ms.
    pub fn now_ms(&self, at: Micros) -> u64 {
        (u128::from(at) * u128::from(self.rate) / 1_000_000_000) as u64
    }

    /// What the wall clock shows, ms since the Unix epoch.
    pub fn wall_ms(&self, at: Micros) -> u64 {
        self.now_ms(at).saturating_add_signed(self.offset_ms)
    }

    /// Somebody sets the wall clock.
    pub fn jump(&mut self, by_ms: i64) {
        self.offset_ms += by_ms;
    }
}
