//! How heavy work gives way: the caller's pace function is asked about every half millisecond, so that a worker limited
//! to half a core can sleep in between, and a withdrawn task ends at once.

use thiserror::Error;

/// The caller wants no more of this task; nothing of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the task was stopped")]
pub struct Stopped;

/// Asked regularly during heavy work; may sleep, may refuse.
pub type Pace<'a> = dyn FnMut() -> Result<(), Stopped> + 'a;

/// A pace that never waits and never refuses.
pub fn unpaced() -> Result<(), Stopped> {
    Ok(())
}

/// Operations between two questions: a quarter of a millisecond at 16 G/s, 1 ms on a core four times slower.
const OPS_PER_QUESTION: u64 = 4_000_000;

/// Counts operations and asks whenever enough have run up.
pub(crate) struct Meter<'a> {
    pace: &'a mut Pace<'a>,
    pending: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(pace: &'a mut Pace<'a>) -> Self {
        Self { pace, pending: 0 }
    }

    /// Accounts for `ops` operations just done.
    pub(crate) fn spend(&mut self, ops: u64) -> Result<(), Stopped> {
        self.pending += ops;
        if self.pending < OPS_PER_QUESTION {
            return Ok(());
        }
        self.pending = 0;
        (self.pace)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_once_enough_work_has_run_up() {
        let mut asked = 0;
        let mut pace = || {
            asked += 1;
            if asked == 3 { Err(Stopped) } else { Ok(()) }
        };
        let mut meter = Meter::new(&mut pace);
        assert_eq!(meter.spend(OPS_PER_QUESTION - 1), Ok(()));
        assert_eq!(meter.spend(1), Ok(()));
        assert_eq!(meter.spend(10 * OPS_PER_QUESTION), Ok(()), "one question however much");
        assert_eq!(meter.spend(OPS_PER_QUESTION), Err(Stopped));
        assert_eq!(asked, 3);
    }
}
