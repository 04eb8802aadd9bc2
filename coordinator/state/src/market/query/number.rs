//! Fixed-point numbers: whole multiples of 10^-9, which is also money's minor unit.

use crate::money::Money;
use std::fmt;

/// Parts of one.
const SCALE: i128 = 1_000_000_000;
/// Decimals that a number has at most.
const DECIMALS: i32 = 9;
/// Largest absolute value of a literal, in parts: 10^18.
const LITERAL_MAX: i128 = 1_000_000_000_000_000_000_000_000_000;
/// Most digits of a literal, and most of its exponent: enough for every value in range.
const DIGITS_MAX: usize = 36;
const EXPONENT_MAX: i32 = 40;

/// A number with nine decimals. Arithmetic that leaves 128 bits, and division by zero, give nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(i128);

impl Number {
    /// Zero.
    pub const ZERO: Number = Number(0);

    /// So many thousand-millionths.
    pub const fn parts(parts: i128) -> Self {
        Self(parts)
    }

    /// A whole number.
    pub fn whole(value: u64) -> Self {
        Self(i128::from(value).saturating_mul(SCALE))
    }

    /// A fraction, rounded down to nine decimals; nothing for a divisor of zero.
    pub fn ratio(of: u128, by: u128) -> Option<Self> {
        Number(i128::try_from(of).ok()?).over(Number(i128::try_from(by).ok()?))
    }

    /// An amount of MAI, exactly.
    pub fn money(amount: Money) -> Self {
        Self(amount.gain())
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference.
    pub fn minus(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The product, rounded towards minus infinity.
    pub fn times(self, other: Self) -> Option<Self> {
        self.0.checked_mul(other.0)?.checked_div_euclid(SCALE).map(Self)
    }

    /// The quotient, rounded towards zero.
    pub fn over(self, other: Self) -> Option<Self> {
        self.0.checked_mul(SCALE)?.checked_div(other.0).map(Self)
    }

    /// The number below zero.
    pub fn negated(self) -> Option<Self> {
        self.0.checked_neg().map(Self)
    }

    /// Reads digits, with a fraction and an exponent of ten if there are, times `unit`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn read(digits: &str, (times, by): (i128, i128)) -> Result<Self, &'static str> {
        let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() || mantissa.ends_with('.') {
            return Err("a number has digits before and after its point");
        }
        if whole.len().saturating_add(fraction.len()) > DIGITS_MAX {
            return Err("the number has too many digits");
        }
        let exponent: i32 = exponent.parse().map_err(|_| "the exponent is no number")?;
        if exponent.saturating_abs() > EXPONENT_MAX {
            return Err("the number is out of range");
        }
        let value: i128 = format!("{whole}{fraction}").parse().map_err(|_| "the number is out of range")?;
        let decimals = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
        let shift = DECIMALS.saturating_sub(decimals).saturating_add(exponent);
        let power = 10i128.checked_pow(shift.unsigned_abs()).ok_or("the number is out of range")?;
        let out_of_range = "the number is out of range";
        let (value, below) = match shift < 0 {
            true => (value, power),
            false => (value.checked_mul(power).ok_or(out_of_range)?, 1),
        };
        let (value, below) =
            (value.checked_mul(times).ok_or(out_of_range)?, below.checked_mul(by).ok_or(out_of_range)?);
        if value.checked_rem(below) != Some(0) {
            return Err("a number has at most nine decimals");
        }
        let value = value.checked_div(below).ok_or(out_of_range)?;
        if value > LITERAL_MAX { Err(out_of_range) } else { Ok(Self(value)) }
    }
}

/// The shortest decimal form.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = SCALE.unsigned_abs();
        let units = self.0.unsigned_abs();
        let (whole, rest) = (units.checked_div(scale).unwrap_or(0), units.checked_rem(scale).unwrap_or(0));
        let sign = if self.0 < 0 { "-" } else { "" };
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{rest:09}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}
