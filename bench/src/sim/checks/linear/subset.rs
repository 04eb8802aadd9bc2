//! Which changes of a balance sum to a given difference. A subset sum is hard in general; here two bounds cut it down:
//! what is left must lie between what the remaining changes can still take and give, and, the changes being tried in the
//! order of their lowest bits, must be divisible by the lowest bit of those that remain. The people's transfers each have a
//! low bit nearly their own (`people.rs`), so that a balance tells which of them it contains.

/// The search was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// Calls `found` with each set of positions in `changes` that sums to `wanted`, until it answers false. Takes what it needs
/// from `steps`.
///
/// # Errors
/// There are not enough.
pub(super) fn subsets(
    changes: &[i128],
    wanted: i128,
    steps: &mut u64,
    found: &mut dyn FnMut(&[usize]) -> bool,
) -> Result<(), TooMany> {
    let mut order: Vec<usize> = (0..changes.len()).collect();
    order.sort_by_key(|at| changes[*at].trailing_zeros());
    let mut bounds = vec![(0, 0); order.len() + 1];
    for (place, at) in order.iter().enumerate().rev() {
        let (takes, gives) = bounds[place + 1];
        bounds[place] = (changes[*at].min(0).saturating_add(takes), changes[*at].max(0).saturating_add(gives));
    }
    let mut search = Subsets { changes, order, bounds, chosen: Vec::new(), steps, found };
    search.from(0, wanted).map(|_| ())
}

struct Subsets<'a> {
    changes: &'a [i128],
    /// Positions, those with the lowest bits first.
    order: Vec<usize>,
    /// Most that the changes from each place of the order on can take, and give.
    bounds: Vec<(i128, i128)>,
    chosen: Vec<usize>,
    steps: &'a mut u64,
    found: &'a mut dyn FnMut(&[usize]) -> bool,
}

impl Subsets<'_> {
    /// Decides the changes from a place on; answers whether to look on.
    fn from(&mut self, place: usize, left: i128) -> Result<bool, TooMany> {
        *self.steps = self.steps.checked_sub(1).ok_or(TooMany)?;
        let (takes, gives) = self.bounds[place];
        if left < takes || left > gives {
            return Ok(true);
        }
        let Some(at) = self.order.get(place).copied() else { return Ok((self.found)(&self.chosen)) };
        let change = self.changes[at];
        if left.trailing_zeros() < change.trailing_zeros() {
            return Ok(true);
        }
        self.chosen.push(at);
        let on = self.from(place + 1, left.saturating_sub(change));
        self.chosen.pop();
        if on? { self.from(place + 1, left) } else { Ok(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(changes: &[i128], wanted: i128) -> Vec<Vec<usize>> {
        let mut all = Vec::new();
        let found = subsets(changes, wanted, &mut 10_000, &mut |set| {
            let mut set = set.to_vec();
            set.sort_unstable();
            all.push(set);
            true
        });
        assert_eq!(found, Ok(()));
        all.sort();
        all
    }

    #[test]
    fn every_subset_is_found() {
        let changes = [5, -3, 8, 3, -8, 0, 12, 5];
        for wanted in -12..=34 {
            let mut expected: Vec<Vec<usize>> = (0_u32..1 << changes.len())
                .map(|mask| (0..changes.len()).filter(|at| mask >> at & 1 == 1).collect::<Vec<_>>())
                .filter(|set| set.iter().map(|at| changes[*at]).sum::<i128>() == wanted)
                .collect();
            expected.sort();
            assert_eq!(all(&changes, wanted), expected, "sum {wanted}");
        }
        assert_eq!(all(&[], 0), [Vec::<usize>::new()]);
        assert_eq!(all(&[], 1), [[0; 0]; 0]);
    }

    #[test]
    fn low_bits_of_their_own_make_it_easy() {
        let changes: Vec<i128> =
            (0..60).map(|at| if at % 3 == 0 { -(1 << at) } else { (3 << 70) + (1 << at) }).collect();
        let wanted = changes.iter().step_by(2).sum();
        let mut sets = 0;
        let found = subsets(&changes, wanted, &mut 500, &mut |set| {
            sets += 1;
            set.len() == 30
        });
        assert_eq!((found, sets), (Ok(()), 1));
        assert_eq!(subsets(&[1; 60], 30, &mut 10_000, &mut |_| true), Err(TooMany));
    }
}
