//! Dividing whole things in proportion: a round's virtual workers over machines by their speed, money over shares.

/// Largest remainder (Hamilton): each index gets floor(total * w / W), and what is left goes one each to the largest
/// remainders, equal remainders to the lower index. Exact for all inputs, sums to `total`; a zero weight gets 0. With
/// no positive weight there is nobody to give to and every share is 0.
#[must_use]
pub fn largest_remainder(total: u32, weights: &[u64]) -> Vec<u32> {
    let sum: u128 = weights.iter().map(|&w| u128::from(w)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let products: Vec<u128> = weights.iter().map(|&w| u128::from(total) * u128::from(w)).collect();
    // A quotient is at most `total`, so it fits.
    let mut shares: Vec<u32> = products.iter().map(|product| (product / sum) as u32).collect();
    let left = total - shares.iter().sum::<u32>();

    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| (products[b] % sum).cmp(&(products[a] % sum)).then(a.cmp(&b)));
    // Remainders sum to left * sum and each is under sum: at least `left` are positive, so no zero weight is reached.
    for &index in order.iter().take(left as usize) {
        shares[index] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_hamiltons() {
        let check = |total, weights: &[u64], expect: &[u32]| {
            assert_eq!(largest_remainder(total, weights), expect, "{total} by {weights:?}");
        };
        check(28, &[1, 1, 2], &[7, 7, 14]);
        // 12.6, 8.4, 7: the larger remainder gets the one left.
        check(28, &[45, 30, 25], &[13, 8, 7]);
        // Equal remainders: the lower indices.
        check(5, &[1, 1, 1], &[2, 2, 1]);
        check(1, &[1, 1], &[1, 0]);
        check(3, &[0, 7, 0], &[0, 3, 0]);
        check(0, &[1, 2], &[0, 0]);
        check(9, &[], &[]);
        check(9, &[0, 0], &[0, 0]);
        check(u32::MAX, &[u64::MAX, u64::MAX, 1], &[1 << 31, u32::MAX >> 1, 0]);
    }

    #[test]
    fn shares_sum_up_and_stay_within_one_of_the_quota() {
        let mut draw = crate::philox::Draw::new(&[5; 32], 0);
        for _ in 0..2000 {
            let weights: Vec<u64> = (0..1 + draw.below(9)).map(|_| draw.below(1 << draw.clone().below(64))).collect();
            let total = draw.next_u32() >> draw.clone().below(32);
            let shares = largest_remainder(total, &weights);
            let sum: u128 = weights.iter().map(|&w| u128::from(w)).sum();
            if sum == 0 {
                assert!(shares.iter().all(|&s| s == 0));
                continue;
            }
            assert_eq!(shares.iter().map(|&s| u64::from(s)).sum::<u64>(), u64::from(total));
            for (&share, &weight) in shares.iter().zip(&weights) {
                let floor = u128::from(total) * u128::from(weight) / sum;
                assert!(u128::from(share) == floor || u128::from(share) == floor + 1);
                assert!(weight > 0 || share == 0);
            }
        }
    }
}
