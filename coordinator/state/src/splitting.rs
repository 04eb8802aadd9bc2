//! Cutting a round's virtual workers over machines by their speed, as a small numeric problem that knows nothing of jobs.
//!
//! Each machine gets a contiguous run of the given workers, as long as its share of the speeds (largest remainder, exact).
//! Machines without a measured speed get nothing, unless none has one: then all are taken to be equal.

use matrixai_protocol::split::largest_remainder;

/// The runs, in the order of `speeds`; together they are `workers`, without gaps or repeats. Without machines, nothing.
pub(crate) fn split(workers: &[u32], speeds: &[u64]) -> Vec<Vec<u32>> {
    let equal = vec![1; speeds.len()];
    let weights = if speeds.iter().all(|speed| *speed == 0) { &equal } else { speeds };
    let total = u32::try_from(workers.len()).unwrap_or(u32::MAX);
    let mut rest = workers;
    largest_remainder(total, weights)
        .into_iter()
        .map(|count| {
            let (run, after) = rest.split_at((count as usize).min(rest.len()));
            rest = after;
            run.to_vec()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn runs_are_contiguous_and_proportional() {
        let workers: Vec<u32> = (0..28).collect();
        let runs = split(&workers, &[400, 200, 100]);
        assert_eq!(runs.iter().map(Vec::len).collect::<Vec<_>>(), [16, 8, 4]);
        assert_eq!(runs.concat(), workers);
    }

    #[test]
    fn without_any_speed_all_are_equal() {
        assert_eq!(split(&[7, 8, 9], &[0, 0, 0]), [[7], [8], [9]]);
        assert_eq!(split(&[7, 8, 9], &[0, 5, 0]), [vec![], vec![7, 8, 9], vec![]]);
        assert_eq!(split(&[], &[3]), [Vec::<u32>::new()]);
        assert!(split(&[1], &[]).is_empty());
    }

    proptest! {
        #[test]
        fn every_worker_is_given_once(count in 0u32..257, speeds in prop::collection::vec(any::<u64>(), 1..65)) {
            let workers: Vec<u32> = (0..count).collect();
            prop_assert_eq!(split(&workers, &speeds).concat(), workers);
        }
    }
}
