//! Money: whole minor units, checked arithmetic, and the two roundings that a rent needs.

use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, fmt};

/// Minor units of one MAI.
pub const MAI: u128 = 1_000_000_000;

const HOUR_S: u128 = 3_600;
const HOUR_MS: u128 = 3_600_000;
const BASIS: u128 = 10_000;

/// An amount in minor units; 10^9 of them are one MAI.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Money(u128);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);
    /// The most that an amount, and all money together, can be: 10^18 MAI. A price this high times a rent of
    /// 2^36 ms still fits 128 bits, so no product below can overflow.
    pub const MAX: Money = Money(1_000_000_000_000_000_000_000_000_000);

    /// An amount of minor units; `None` above [`Money::MAX`].
    pub const fn minor(units: u128) -> Option<Money> {
        if units <= Self::MAX.0 { Some(Money(units)) } else { None }
    }

    /// Parses the wire's form: decimal digits of minor units, no sign, no leading zeros, at most [`Money::MAX`].
    pub fn parse(text: &str) -> Option<Money> {
        let canonical = !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        if canonical { text.parse().ok().and_then(Money::minor) } else { None }
    }

    /// The amount in minor units.
    pub const fn units(self) -> u128 {
        self.0
    }

    /// Whether this is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum; `None` above [`Money::MAX`].
    pub fn checked_add(self, other: Money) -> Option<Money> {
        self.0.checked_add(other.0).and_then(Money::minor)
    }

    /// The difference; `None` below zero.
    pub fn checked_sub(self, other: Money) -> Option<Money> {
        self.0.checked_sub(other.0).map(Money)
    }

    /// The difference, or nothing.
    pub const fn saturating_sub(self, other: Money) -> Money {
        Money(self.0.saturating_sub(other.0))
    }

    /// The smaller of two amounts.
    pub fn at_most(self, limit: Money) -> Money {
        self.min(limit)
    }

    /// What `seconds` cost at this price per hour, rounded up: what a hold must cover. `None` on overflow.
    pub fn rent_held(self, seconds: u64) -> Option<Money> {
        self.0.checked_mul(seconds.into()).map(|product| product.div_ceil(HOUR_S)).and_then(Money::minor)
    }

    /// What `ms` of a lease are paid at this price per hour, rounded down. `None` on overflow.
    pub fn rent_paid(self, ms: u64) -> Option<Money> {
        self.0.checked_mul(ms.into()).and_then(|product| product.checked_div(HOUR_MS)).and_then(Money::minor)
    }

    /// The same rounded up: what a part of a rent is paid as soon as more than it was earned. `None` on overflow.
    pub(crate) fn rent_begun(self, ms: u64) -> Option<Money> {
        self.0.checked_mul(ms.into()).map(|product| product.div_ceil(HOUR_MS)).and_then(Money::minor)
    }

    /// A fee on this amount in basis points, rounded up: what a hold must cover. `None` on overflow.
    pub fn fee_held(self, basis_points: u32) -> Option<Money> {
        self.0.checked_mul(basis_points.into()).map(|product| product.div_ceil(BASIS)).and_then(Money::minor)
    }

    /// A fee on this amount in basis points, rounded down: what is charged. `None` on overflow.
    pub fn fee_paid(self, basis_points: u32) -> Option<Money> {
        self.0.checked_mul(basis_points.into()).and_then(|product| product.checked_div(BASIS)).and_then(Money::minor)
    }

    /// This many times the amount. `None` on overflow.
    pub(crate) fn times(self, count: u64) -> Option<Money> {
        self.0.checked_mul(count.into()).and_then(Money::minor)
    }

    /// Halved so many times, rounded down.
    pub(crate) fn halved(self, times: u64) -> Money {
        Money(u32::try_from(times).ok().and_then(|times| self.0.checked_shr(times)).unwrap_or(0))
    }

    /// Splits the amount by weights, by largest remainder: each part is rounded down, and what is left goes, a unit each, to
    /// those that lost most by that, of equal ones to the first. The parts sum to the amount exactly; without any weight all
    /// of it is the first part.
    pub fn split<const PARTS: usize>(self, weights: [u32; PARTS]) -> [Money; PARTS] {
        let whole = weights.iter().fold(0_u128, |sum, weight| sum.saturating_add((*weight).into()));
        let mut parts = [Money::ZERO; PARTS];
        if whole == 0 {
            parts.iter_mut().take(1).for_each(|first| *first = self);
            return parts;
        }
        // At most 10^27 times 2^32: far below 2^128.
        let product = |weight: u32| self.0.saturating_mul(weight.into());
        let mut order: Vec<(Reverse<u128>, usize)> = Vec::with_capacity(PARTS);
        let mut left = self.0;
        for (place, (part, weight)) in parts.iter_mut().zip(weights).enumerate() {
            part.0 = product(weight).checked_div(whole).unwrap_or(0);
            left = left.saturating_sub(part.0);
            order.push((Reverse(product(weight).checked_rem(whole).unwrap_or(0)), place));
        }
        order.sort_unstable();
        for (_, place) in order {
            if let Some(part) = parts.get_mut(place).filter(|_| left > 0) {
                part.0 = part.0.saturating_add(1);
                left = left.saturating_sub(1);
            }
        }
        parts
    }

    /// This amount as a positive change. Lossless: [`Money::MAX`] is far below 2^127.
    pub(crate) fn gain(self) -> i128 {
        i128::try_from(self.0).expect("no amount exceeds Money::MAX")
    }

    /// This amount as a negative change.
    pub(crate) fn loss(self) -> i128 {
        self.gain().saturating_neg()
    }
}

/// The wire's form: digits of minor units.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The form for people: decimal MAI without trailing zeros.
#[derive(Debug, Clone, Copy)]
pub struct InMai(pub Money);

impl fmt::Display for InMai {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.0.units();
        let (whole, rest) = (units.checked_div(MAI).unwrap_or(0), units.checked_rem(MAI).unwrap_or(0));
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{rest:09}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn money(units: u128) -> Money {
        Money::minor(units).unwrap()
    }

    #[test]
    fn only_canonical_digits_parse() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("1000000000000000000000000000", Some(Money::MAX.units())),
            ("1000000000000000000000000001", None),
            ("340282366920938463463374607431768211456", None),
            ("", None),
            ("01", None),
            ("+1", None),
            ("-1", None),
            ("1.5", None),
            (" 1", None),
            ("١", None),
        ] {
            assert_eq!(Money::parse(text).map(Money::units), wanted, "{text:?}");
        }
    }

    #[test]
    fn holds_round_up_and_payments_round_down() {
        assert_eq!(money(3_601).rent_held(1), Some(money(2)));
        assert_eq!(money(3_600).rent_held(1), Some(money(1)));
        assert_eq!(money(7_199).rent_paid(1_000), Some(money(1)));
        assert_eq!(money(101).fee_held(100), Some(money(2)));
        assert_eq!(money(199).fee_paid(100), Some(money(1)));
        assert_eq!(Money::MAX.rent_held(u64::MAX), None);
    }

    #[test]
    fn a_split_sums_exactly_and_favours_the_largest_remainder() {
        for (amount, weights, parts) in [
            (10, [1, 1, 1], [4, 3, 3]),
            (10, [5_000, 3_000, 2_000], [5, 3, 2]),
            (1, [1, 2, 2], [0, 1, 0]),
            (99, [5_000, 2_501, 2_499], [49, 25, 25]),
            (7, [0, 0, 0], [7, 0, 0]),
            (0, [1, 2, 3], [0, 0, 0]),
        ] {
            let split = money(amount).split(weights);
            assert_eq!(split.map(Money::units), parts, "{amount} by {weights:?}");
            assert_eq!(split.iter().map(|part| part.units()).sum::<u128>(), amount);
        }
        let split = Money::MAX.split([u32::MAX, 1, 7]);
        assert_eq!(split.iter().map(|part| part.units()).sum::<u128>(), Money::MAX.units());
    }

    #[test]
    fn sums_stop_at_the_limit() {
        assert_eq!(Money::MAX.checked_add(money(1)), None);
        assert_eq!(money(1).checked_sub(money(2)), None);
    }

    #[test]
    fn people_read_mai() {
        for (units, text) in [(0, "0"), (1, "0.000000001"), (1_500_000_000, "1.5"), (100 * MAI, "100")] {
            assert_eq!(InMai(money(units)).to_string(), text);
        }
    }
}
