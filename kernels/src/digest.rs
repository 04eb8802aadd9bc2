//! Row digests (§1.4) at the speed the kernels need. The definition is `matrixai_protocol::drilling::row_digest`; here
//! are forms for the element types that kernels hold.
//!
//! A row digest is a sum, so a row may come in parts: each part names its first column, and the parts' digests are
//! added (wrapping).

use matrixai_protocol::philox::{GOLDEN, mix64};

/// Part of a row digest of f32 values from `column` on, by their bits.
#[must_use]
pub fn of_floats(row: u64, column: u64, values: &[f32]) -> u64 {
    sum(row, column, values.iter().map(|v| v.to_bits()))
}

/// Part of a row digest of 32-bit patterns from `column` on.
pub(crate) fn of_words(row: u64, column: u64, values: &[u32]) -> u64 {
    sum(row, column, values.iter().copied())
}

/// Part of a row digest of i32 values from `column` on.
#[must_use]
pub fn of_ints(row: u64, column: u64, values: &[i32]) -> u64 {
    sum(row, column, values.iter().map(|&v| v as u32))
}

/// Part of a row digest of sign-extended bytes from `column` on.
#[must_use]
pub fn of_bytes(row: u64, column: u64, values: &[i8]) -> u64 {
    sum(row, column, values.iter().map(|&v| i32::from(v) as u32))
}

/// (row << 32 | column) * G steps by G from column to column, which saves the multiplication.
#[inline]
fn sum(row: u64, column: u64, values: impl Iterator<Item = u32>) -> u64 {
    let mut position = (row << 32 | column).wrapping_mul(GOLDEN);
    let mut sum = 0u64;
    for value in values {
        sum = sum.wrapping_add(mix64(position ^ u64::from(value)));
        position = position.wrapping_add(GOLDEN);
    }
    sum
}

#[cfg(test)]
mod tests {
    use matrixai_protocol::drilling::{digest, row_digest};

    use super::*;

    #[test]
    fn equals_the_definition() {
        let ints = [0, -1, i32::MIN, i32::MAX, 77];
        assert_eq!(of_ints(9, 0, &ints), row_digest(9, ints.map(|v| v as u32)));
        let floats = [0.0f32, -0.0, 1.5, -2.5e-30];
        assert_eq!(of_floats(1 << 31, 0, &floats), row_digest(1 << 31, floats.map(f32::to_bits)));
        assert_eq!(of_bytes(3, 0, &[-1, 5]), row_digest(3, [u32::MAX, 5]));
    }

    #[test]
    fn parts_add_up() {
        let values: Vec<i32> = (-50..50).collect();
        let (left, right) = values.split_at(33);
        assert_eq!(of_ints(4, 0, left).wrapping_add(of_ints(4, 33, right)), of_ints(4, 0, &values));
    }

    #[test]
    fn one_wrong_or_moved_element_changes_it() {
        let right = [5, 6, 7, 8];
        let rows = |values: &[i32]| digest(b"header", &[of_ints(0, 0, &right), of_ints(1, 0, values)]);
        for wrong in [[5, 6, 7, 9], [6, 5, 7, 8], [4, 7, 7, 8]] {
            assert_ne!(rows(&right), rows(&wrong));
        }
        // The same values in another row, and rows in another order.
        assert_ne!(of_ints(0, 0, &right), of_ints(1, 0, &right));
        assert_ne!(
            digest(b"header", &[of_ints(0, 0, &right), of_ints(1, 0, &right)]),
            digest(b"header", &[of_ints(1, 0, &right), of_ints(0, 0, &right)])
        );
        // Signed zeros are different bits.
        assert_ne!(of_floats(0, 0, &[0.0]), of_floats(0, 0, &[-0.0]));
    }
}
