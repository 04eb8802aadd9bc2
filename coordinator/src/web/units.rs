//! Figures for people: few digits, a unit, one spelling. Exact values are in the JSON.

use matrixai_state::money::{InMai, Money};

/// Minutes, hours and days in milliseconds.
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Operations per second with an SI prefix: `1.23 Gop/s`.
pub(super) fn speed(ops_per_s: u64) -> String {
    format!("{}op/s", scaled(ops_per_s as f64, 1000.0, &["", "k", "M", "G", "T", "P", "E"]))
}

/// A number of operations with an SI prefix.
pub(super) fn operations(ops: u64) -> String {
    format!("{}op", scaled(ops as f64, 1000.0, &["", "k", "M", "G", "T", "P", "E"]))
}

/// Bytes with a binary prefix: `15.6 GiB`.
pub(super) fn bytes(bytes: u64) -> String {
    format!("{}B", scaled(bytes as f64, 1024.0, &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]))
}

/// Micro-ut of the wire as ut: `0.0123 ut`.
pub(super) fn ut(micro: &str) -> String {
    match micro.parse::<u128>() {
        Ok(0) => "0 ut".to_owned(),
        Ok(micro) => format!("{} ut", digits(micro as f64 / 1e6)),
        Err(_) => "–".to_owned(),
    }
}

/// Minor units of the wire as decimal MAI, exact. Not a figure of money: a dash.
pub(super) fn mai(minor: &str) -> String {
    Money::parse(minor).map_or_else(|| "–".to_owned(), |money| format!("{} MAI", InMai(money)))
}

/// A part of a whole in per cent; a dash while the whole is nothing.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

/// Millionths in per cent.
pub(super) fn percent_e6(millionths: u32) -> String {
    percent(millionths.into(), 1_000_000)
}

/// A length of time: `12 ms`, `1.25 s`, `3 min 20 s`, `2 h 5 min`.
pub(super) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..MINUTE_MS => format!("{} s", digits(ms as f64 / 1e3)),
        MINUTE_MS..HOUR_MS => format!("{} min {} s", ms / MINUTE_MS, ms % MINUTE_MS / 1_000),
        HOUR_MS..DAY_MS => format!("{} h {} min", ms / HOUR_MS, ms % HOUR_MS / MINUTE_MS),
        _ => format!("{} d {} h", ms / DAY_MS, ms % DAY_MS / HOUR_MS),
    }
}

/// A point in time, in UTC: `2026-11-22 10:41:26`; a dash for none.
pub(super) fn moment(ms: u64) -> String {
    if ms == 0 {
        return "–".to_owned();
    }
    let (year, month, day) = civil(ms / DAY_MS);
    let second = ms % DAY_MS / 1_000;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// The beginning of an id or hash, enough to tell a few apart.
pub(super) fn short(hex: &str) -> &str {
    hex.get(..10).unwrap_or(hex)
}

fn scaled(value: f64, base: f64, prefixes: &[&str]) -> String {
    let mut value = value;
    let mut prefixes = prefixes.iter().copied();
    let mut prefix = prefixes.next().unwrap_or_default();
    // What would round to a full step is shown in the next unit.
    while value >= base * 0.9995 {
        let Some(next) = prefixes.next() else { break };
        (value, prefix) = (value / base, next);
    }
    format!("{} {prefix}", digits(value))
}

/// Three significant digits, without an exponent or needless zeros.
fn digits(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let before = value.abs().log10().floor();
    let decimals = (2.0 - before).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar: days are counted from a March,
/// so that a leap day ends its year, in eras of 400 years, which all have the same length.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        for (shown, wanted) in [
            (speed(0), "0 op/s"),
            (speed(999), "999 op/s"),
            (speed(999_999), "1 Mop/s"),
            (speed(1_234_567_890), "1.23 Gop/s"),
            (speed(u64::MAX), "18.4 Eop/s"),
            (bytes(16_693_673_984), "15.5 GiB"),
            (bytes(1_023), "1023 B"),
            (bytes(1_048_575), "1 MiB"),
            (ut("0"), "0 ut"),
            (ut("1234"), "0.00123 ut"),
            (ut("12345678"), "12.3 ut"),
            (ut("nonsense"), "–"),
            (mai("1500000000"), "1.5 MAI"),
            (mai("-1"), "–"),
            (percent(1, 3), "33.3 %"),
            (percent(1, 0), "–"),
            (percent_e6(930_000), "93.0 %"),
            (duration(999), "999 ms"),
            (duration(1_250), "1.25 s"),
            (duration(200_000), "3 min 20 s"),
            (duration(7_500_000), "2 h 5 min"),
            (duration(100_000_000), "1 d 3 h"),
        ] {
            assert_eq!(shown, wanted);
        }
    }

    #[test]
    fn the_calendar_knows_leap_years() {
        for (ms, wanted) in [
            (1, "1970-01-01 00:00:00"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (1_709_251_199_000, "2024-02-29 23:59:59"),
            (1_709_251_200_000, "2024-03-01 00:00:00"),
            (4_107_542_399_000, "2100-02-28 23:59:59"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
            (0, "–"),
        ] {
            assert_eq!(moment(ms), wanted);
        }
    }
}
