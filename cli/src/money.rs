//! Money for people: decimal MAI outside, integer minor units (10^9 to the MAI) inside.

use crate::error::{CliError, Result};

const DECIMALS: usize = 9;
const UNIT: u128 = 1_000_000_000;

/// Parses decimal MAI such as `12.5` into minor units.
///
/// # Errors
/// More than nine decimals, anything but digits and one point, or an overflow.
pub(crate) fn parse_mai(text: &str) -> Result<u128> {
    let wrong = || {
        CliError::usage(format!(
            "`{text}` is no amount: write MAI as digits with at most {DECIMALS} decimals, like 12.5"
        ))
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > DECIMALS || text.ends_with('.') {
        return Err(wrong());
    }
    let whole: u128 = whole.parse().map_err(|_| wrong())?;
    let fraction: u128 = format!("{fraction:0<DECIMALS$}").parse().map_err(|_| wrong())?;
    whole.checked_mul(UNIT).and_then(|units| units.checked_add(fraction)).ok_or_else(wrong)
}

/// Minor units as decimal MAI without trailing zeros.
pub(crate) fn mai(units: u128) -> String {
    let fraction = format!("{:0DECIMALS$}", units % UNIT);
    let fraction = fraction.trim_end_matches('0');
    let whole = units / UNIT;
    if fraction.is_empty() { whole.to_string() } else { format!("{whole}.{fraction}") }
}

/// Minor units in a wire string; the cluster only sends well-formed ones, so anything else counts as zero.
pub(crate) fn units(wire: &str) -> u128 {
    wire.parse().unwrap_or(0)
}

/// A wire string (possibly signed) as decimal MAI.
pub(crate) fn wire_mai(wire: &str) -> String {
    match wire.strip_prefix('-') {
        Some(rest) => format!("-{}", mai(units(rest))),
        None => mai(units(wire)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_mai_survives_both_ways() {
        for (text, units) in [("0", 0), ("1", UNIT), ("12.5", 12_500_000_000), ("0.000000001", 1)] {
            assert_eq!(parse_mai(text).ok(), Some(units));
            assert_eq!(mai(units), text);
        }
        assert_eq!(wire_mai("-1500000000"), "-1.5");
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "1e3", "1.0000000001", "99999999999999999999999999999999999999999"] {
            assert!(parse_mai(text).is_err(), "{text}");
        }
    }
}
