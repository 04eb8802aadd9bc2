//! How a long computation stays interruptible and can be slowed down without knowing by whom or why.

/// Told to stop: the unit was withdrawn, or the worker shuts down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped")]
pub struct Stopped;

/// Asked between slices of work. It may block, to keep to a share of the CPU.
pub trait Pace {
    /// # Errors
    /// `Stopped` ends the computation.
    fn tick(&mut self) -> Result<(), Stopped>;
}

/// Never stops, never waits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unpaced;

impl Pace for Unpaced {
    fn tick(&mut self) -> Result<(), Stopped> {
        Ok(())
    }
}

/// Turns work done, in a kernel's own operations, into ticks.
pub(crate) struct Pacer<'a> {
    pace: &'a mut dyn Pace,
    done: u64,
    slice: u64,
}

/// Work between ticks, in dense operations: 0.6 to 1 ms where they run at 16 to 27 G a second, 2 ms where at 8.
const SLICE_OPS: u64 = 16_000_000;
/// The same of fast paths: 0.5 ms where they run at 200 G a second, 2 ms where at 50.
const FAST_SLICE_OPS: u64 = 100_000_000;

/// What one unit of other work weighs against one dense operation.
pub(crate) const OPS_PER_FILLED_BYTE: u64 = 20;
pub(crate) const OPS_PER_DIGESTED_VALUE: u64 = 40;
pub(crate) const OPS_PER_RANDOM_READ: u64 = 640;
pub(crate) const OPS_PER_MIX: u64 = 40;
/// A product and sum of `f32::mul_add`: an instruction, or a call of some nanoseconds.
pub(crate) const OPS_PER_MUL_ADD: u64 = if cfg!(target_feature = "fma") { 2 } else { 64 };

impl<'a> Pacer<'a> {
    pub(crate) fn new(pace: &'a mut dyn Pace) -> Self {
        Self { pace, done: 0, slice: SLICE_OPS }
    }

    /// For the fast paths, whose operations take a tenth of the time.
    pub(crate) fn fast(pace: &'a mut dyn Pace) -> Self {
        Self { pace, done: 0, slice: FAST_SLICE_OPS }
    }

    /// Counts `ops` as done; ticks when a slice is full.
    pub(crate) fn work(&mut self, ops: u64) -> Result<(), Stopped> {
        self.done += ops;
        if self.done < self.slice {
            return Ok(());
        }
        self.done = 0;
        self.pace.tick()
    }
}
