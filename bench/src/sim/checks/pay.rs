//! No double pay: a job is paid in one entry, the one that settles it, out of one hold that it never exceeds; and a
//! client's transfer, which carries a memo of its own, moves money once.

use super::{First, Verdict, hold};
use matrixai_state::{
    effect::{Cause, Movement},
    ids::{AccountId, JobId},
    jobs::JobState,
};
use std::collections::{BTreeMap, BTreeSet};

const NAME: &str = "no double pay";

/// What was paid.
#[derive(Debug, Default)]
pub struct Pay {
    /// The entry in which each job was paid.
    settled: BTreeMap<JobId, u64>,
    refunded: BTreeSet<JobId>,
    memos: BTreeSet<(AccountId, String)>,
}

impl Pay {
    /// A new entry was applied.
    ///
    /// # Errors
    /// Something was paid twice, or too early.
    pub fn applied(&mut self, first: First<'_>) -> Verdict {
        first.seen.applied.movements.iter().try_for_each(|movement| self.moved(first, movement))
    }

    fn moved(&mut self, first: First<'_>, movement: &Movement) -> Verdict {
        let index = first.seen.entry.index;
        match (movement.cause, movement.job()) {
            (Cause::PayTraining | Cause::PayVerification | Cause::Fee, Some(job)) => {
                let paid_at = *self.settled.entry(job).or_insert(index);
                hold(NAME, paid_at == index, || format!("job {job} is paid at {paid_at} and again at {index}"))?;
                let row = first.after.job(job).map(|row| row.state);
                hold(NAME, row == Some(JobState::Settled), || format!("job {job} is paid at {index} while {row:?}"))?;
                let hold_row = first.after.hold(job);
                let covered = hold_row
                    .is_some_and(|row| row.paid.units() + row.fees.units() + row.refunded.units() <= row.held.units());
                hold(NAME, covered, || format!("job {job} is paid more than was set aside: {hold_row:?}"))
            }
            (Cause::Refund, Some(job)) => {
                let fresh = self.refunded.insert(job) || movement.balance_change == 0;
                hold(NAME, fresh, || format!("job {job} is refunded again at {index}"))
            }
            (Cause::Transfer, _) => {
                let memo = movement.memo.as_deref().unwrap_or_default();
                let fresh = memo.is_empty() || self.memos.insert((movement.account, memo.to_owned()));
                hold(NAME, fresh, || format!("transfer {memo:?} moves money again at {index}"))
            }
            _ => Ok(()),
        }
    }
}
