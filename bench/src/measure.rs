//! Figures about a run: percentiles of latencies, processor time of processes, counters behind `/metrics`.

use crate::{Result, doing};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

/// A page of figures comes within this time, or the process is gone.
const SCRAPE_WAIT: Duration = Duration::from_secs(5);

/// Latencies in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// Adds one.
    pub fn push(&mut self, latency: Duration) {
        self.0.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds all of another's.
    pub fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest latency that at least this part (0 to 1) of them does not exceed, ms; 0 when there are none.
    pub fn percentile_ms(&mut self, part: f64) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        self.0.sort_unstable();
        let rank = (part * self.0.len() as f64).ceil() as usize;
        let at = rank.clamp(1, self.0.len()) - 1;
        f64::from(self.0[at]) / 1_000.0
    }
}

/// The middle value; the mean of both middle ones of an even number; 0 of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Rounds to three places, for people.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Processor time that a process with all its threads has used, seconds, in steps of a hundredth (Linux' tick).
///
/// # Errors
/// When there is no such process.
pub fn cpu_s(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(doing(&path))?;
    // The second field is the name in brackets and may hold blanks; user and system time are the 14th and 15th.
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) as f64 / 100.0),
        _ => Err(format!("{path}: processor time is not where it was expected")),
    }
}

/// The sum of all series of a metric at a coordinator's web address (host:port).
///
/// # Errors
/// When the page cannot be read, or has no such metric.
pub fn scrape(web: &str, metric: &str) -> Result<f64> {
    let what = format!("read http://{web}/metrics");
    let mut stream = TcpStream::connect(web).map_err(doing(&what))?;
    stream.set_read_timeout(Some(SCRAPE_WAIT)).map_err(doing(&what))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {web}\r\n\r\n").map_err(doing(&what))?;
    let mut page = String::new();
    stream.read_to_string(&mut page).map_err(doing(&what))?;
    let series = page.lines().filter_map(|line| line.strip_prefix(metric));
    let values: Vec<f64> = series
        .filter(|rest| rest.starts_with([' ', '{']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
        .collect();
    if values.is_empty() { Err(format!("{what}: there is no {metric}")) } else { Ok(values.iter().sum()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_values() {
        let mut latencies = Latencies::default();
        for ms in (1..=100).rev() {
            latencies.push(Duration::from_millis(ms));
        }
        assert_eq!(latencies.percentile_ms(0.5), 50.0);
        assert_eq!(latencies.percentile_ms(0.99), 99.0);
        assert_eq!(latencies.percentile_ms(1.0), 100.0);
        assert_eq!(Latencies::default().percentile_ms(0.5), 0.0);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn this_process_has_used_some_time() {
        assert!(cpu_s(std::process::id()).is_ok());
        assert!(cpu_s(u32::MAX).is_err());
    }
}
