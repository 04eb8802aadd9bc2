//! Which implementation computes which kernel on this machine: the fastest that knows its answers.

use matrixai_protocol::Hash;
use matrixai_protocol::drilling::{Kernel, Workload};

use crate::{Compute, Fast, Pace, Reference, Stopped, selftest_of};

/// What one implementation's known answers for one kernel came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Name of the implementation.
    pub path: &'static str,
    pub kernel: Kernel,
    /// Whether all answers were right; one that was not is never used.
    pub right: bool,
}

/// For each kernel the implementation that computes it.
#[derive(Debug, Clone)]
pub struct Chosen {
    trials: Vec<Trial>,
    /// Fastest first, the reference last.
    paths: Vec<Candidate>,
}

#[derive(Debug, Clone, Copy)]
enum Candidate {
    Fast(Fast),
    Reference(Reference),
}

impl Candidate {
    fn compute(&self) -> &dyn Compute {
        match self {
            Candidate::Fast(fast) => fast,
            Candidate::Reference(reference) => reference,
        }
    }
}

impl Chosen {
    /// Runs the known answers of every implementation that this processor has: some milliseconds each. Fast ones use
    /// `threads` threads, 1 being the caller's alone.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let fast = Fast::available(threads).into_iter().map(Candidate::Fast);
        let paths: Vec<_> = fast.chain([Candidate::Reference(Reference)]).collect();
        let trials_of = |compute: &dyn Compute| {
            let path = compute.name();
            selftest_of(compute).into_iter().map(move |(kernel, right)| Trial { path, kernel, right })
        };
        let trials = paths.iter().flat_map(|path| trials_of(path.compute())).collect();
        Self { trials, paths }
    }

    /// All trials, path by path, the fastest first.
    #[must_use]
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// Kernels that no implementation gets right: this machine must not compute them.
    #[must_use]
    pub fn disabled(&self) -> Vec<Kernel> {
        Kernel::ALL.into_iter().filter(|&kernel| self.of(kernel).is_none()).collect()
    }

    /// The implementation of a kernel; none where all are wrong.
    #[must_use]
    pub fn of(&self, kernel: Kernel) -> Option<&dyn Compute> {
        let right =
            |path: &str| self.trials.iter().any(|trial| trial.kernel == kernel && trial.right && trial.path == path);
        self.paths.iter().map(Candidate::compute).find(|compute| right(compute.name()))
    }
}

impl Compute for Chosen {
    fn name(&self) -> &'static str {
        "cpu"
    }

    /// Falls back on the reference for a kernel that is disabled: whoever runs it was to ask.
    fn run(&self, workload: &Workload, seed: &[u8; 32], pace: &mut dyn Pace) -> Result<Hash, Stopped> {
        self.of(workload.kernel()).unwrap_or(&Reference).run(workload, seed, pace)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_fastest_that_is_right_is_taken() {
        let mut chosen = Chosen::new(1);
        assert!(chosen.trials().iter().all(|trial| trial.right), "{:?}", chosen.trials());
        assert_eq!(chosen.disabled(), []);
        let fastest = chosen.trials()[0].path;
        assert_eq!(chosen.of(Kernel::Igemm).unwrap().name(), fastest);
        // A path that misses one answer loses that kernel to the next, and only that one.
        for trial in chosen.trials.iter_mut().filter(|trial| trial.kernel == Kernel::Igemm && trial.path != "reference")
        {
            trial.right = false;
        }
        assert_eq!(chosen.of(Kernel::Igemm).unwrap().name(), "reference");
        assert_eq!(chosen.of(Kernel::Fgemm).unwrap().name(), fastest);
        chosen.trials.iter_mut().for_each(|trial| trial.right = false);
        assert_eq!(chosen.disabled(), Kernel::ALL);
    }
}
