//! The kernels on this machine, without any cluster: a digest, and what each path reaches of what the processor could do.

use crate::{
    args::Device,
    error::{CliError, Result},
    output::{self, Format},
};
use matrixai_kernels::{Chosen, Compute, Fast, Reference, Rehearsal, Unpaced};
use matrixai_protocol::drilling::{Kernel, Workload};
use serde_json::{Value, json};
use std::time::Instant;

/// Bytes of a seed.
const SEED_BYTES: usize = 32;

/// 0: as many threads as there are cores for us.
fn threads(wanted: usize) -> usize {
    if wanted > 0 { wanted } else { std::thread::available_parallelism().map_or(1, Into::into) }
}

fn workload(kernel: &str, params: &[u32]) -> Result<Workload> {
    let campaign = super::campaign(kernel, params, 1, 1, 0)?;
    let kernel = Kernel::parse(kernel).ok_or_else(|| CliError::usage(format!("there is no kernel {kernel:?}")))?;
    let params = campaign.params.try_into().map_err(|_| CliError::usage("too many parameters"))?;
    Workload::new(kernel, params).map_err(|error| CliError::usage(error.to_string()))
}

fn seed(hex: &str) -> Result<[u8; SEED_BYTES]> {
    let mut seed = [0; SEED_BYTES];
    hex::decode_to_slice(hex, &mut seed).map_err(|_| CliError::usage("a seed is 64 hex digits"))?;
    Ok(seed)
}

/// Prints the digest of one unit, computed here.
pub(super) fn digest(
    format: Format,
    (kernel, params): (&str, &[u32]),
    seed_hex: &str,
    device: Device,
    wanted: usize,
) -> Result<()> {
    let (workload, seed) = (workload(kernel, params)?, seed(seed_hex)?);
    let chosen;
    let compute: &dyn Compute = match device {
        Device::Reference => &Reference,
        Device::Cpu => {
            chosen = Chosen::new(threads(wanted));
            let none = || CliError::local("drill", format!("no path of this machine knows the answers of {kernel}"));
            chosen.of(workload.kernel()).ok_or_else(none)?
        }
    };
    let start = Instant::now();
    let digest = compute.run(&workload, &seed, &mut Unpaced).map_err(|error| CliError::local("drill", error))?;
    let (digest, path) = (hex::encode(digest), compute.name());
    let value = json!({
        "kernel": kernel, "params": workload.params(), "seed": seed_hex, "path": path, "digest": digest,
        "ops": workload.ops(), "seconds": start.elapsed().as_secs_f64(),
    });
    output::show(format, &value, || digest.clone());
    Ok(())
}

/// Measures every path that knows its answers, on one thread and on all, beside its peak.
pub(super) fn bench(format: Format, rounds: usize, wanted: usize) -> Result<()> {
    let mut counts = vec![1, threads(wanted)];
    counts.dedup();
    let mut devices = Vec::new();
    for count in counts {
        let trials = Chosen::new(count);
        for fast in Fast::available(count) {
            let right = |kernel| trials.trials().iter().any(|t| t.right && t.kernel == kernel && t.path == fast.name());
            let wanted = Kernel::ALL.into_iter().filter(|&kernel| right(kernel));
            let kernels: Vec<Value> =
                wanted.flat_map(|kernel| kernel_rows(fast, kernel, rounds.max(1))).collect::<Result<_>>()?;
            devices.push(json!({ "name": fast.name(), "threads": count, "kernels": kernels }));
        }
    }
    let value = json!({ "devices": devices });
    output::show(format, &value, || {
        let rows: Vec<Vec<String>> = devices.iter().flat_map(table_rows).collect();
        output::table(&["device", "threads", "kernel", "Gop/s", "peak", "fraction", "of the unit"], &rows)
    });
    Ok(())
}

fn table_rows(device: &Value) -> Vec<Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number =
        |value: &Value, by: f64, digits: usize| format!("{:.digits$}", value.as_f64().unwrap_or_default() / by);
    let kernels = device["kernels"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |kernel: &Value| {
        vec![
            text(&device["name"]),
            device["threads"].to_string(),
            text(&kernel["kernel"]),
            number(&kernel["ops_per_s"], 1e9, 3),
            number(&kernel["peak"], 1e9, 3),
            number(&kernel["fraction"], 1.0, 2),
            number(&kernel["unit_fraction"], 1.0, 2),
        ]
    };
    kernels.iter().map(row).collect()
}

/// One row, or one for each rounding of `fgemm`. Sizes are those of class S, with fewer products.
fn kernel_rows(fast: Fast, kernel: Kernel, rounds: usize) -> Vec<Result<Value>> {
    let dense = |name: &str, mut parts: Rehearsal, params: [u32; 8]| -> Result<Value> {
        let unit = Workload::new(kernel, params).map_err(|error| CliError::local("drill", error))?;
        let (mut peaks, mut products, mut units) = (Vec::new(), Vec::new(), Vec::new());
        // In turn, so that whatever else the machine does falls on all three.
        for _ in 0..rounds {
            peaks.push(rate(|| parts.peak()));
            products.push(rate(|| parts.product()));
            units.push(rate(|| run(fast, &unit)));
        }
        Ok(row(name, median(products), median(peaks), median(units)))
    };
    match kernel {
        Kernel::Igemm => vec![dense("igemm", fast.rehearse_bytes(), [1024, 1024, 1024, 8, 0, 0, 0, 0])],
        Kernel::Qmlp => vec![dense("qmlp", fast.rehearse_bytes(), [256, 1024, 16, 10, 0, 0, 0, 0])],
        Kernel::Fgemm => vec![
            dense("fgemm fma=0", fast.rehearse_floats(false), [1024, 1024, 1024, 4, 0, 0, 0, 0]),
            dense("fgemm fma=1", fast.rehearse_floats(true), [1024, 1024, 1024, 4, 1, 0, 0, 0]),
        ],
        Kernel::Memwalk => vec![walk(fast, rounds)],
    }
}

/// The walk against one written by hand. One round more costs the walk alone: its speed is that of the difference.
fn walk(fast: Fast, rounds: usize) -> Result<Value> {
    let unit = |r| {
        let workload = Workload::new(Kernel::Memwalk, Fast::walk_params(r));
        workload.map_err(|error| CliError::local("drill", error))
    };
    let (short, long) = (unit(1)?, unit(3)?);
    let table: Vec<u64> = (0..Fast::walk_words() as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
    let mut next = vec![0; table.len()];
    let (mut peaks, mut walks, mut units) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        peaks.push(rate(|| fast.plain_walk(&table, &mut next)));
        let (one, three) = (rate(|| run(fast, &short)), rate(|| run(fast, &long)));
        let seconds = long.ops() as f64 / three - short.ops() as f64 / one;
        walks.push((long.ops() - short.ops()) as f64 / seconds);
        units.push(three);
    }
    Ok(row("memwalk", median(walks), median(peaks), median(units)))
}

fn row(kernel: &str, ops_per_s: f64, peak: f64, unit: f64) -> Value {
    json!({
        "kernel": kernel, "ops_per_s": ops_per_s, "peak": peak, "fraction": ops_per_s / peak, "unit_fraction": unit / peak,
    })
}

/// Runs a unit; its operations. Without a pace nothing stops it.
fn run(fast: Fast, unit: &Workload) -> u64 {
    let digest = fast.run(unit, &[7; SEED_BYTES], &mut Unpaced);
    if std::hint::black_box(digest).is_ok() { unit.ops() } else { 0 }
}

/// Operations a second of what returns how many it did.
fn rate(mut work: impl FnMut() -> u64) -> f64 {
    let start = Instant::now();
    let ops = work();
    ops as f64 / start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_unit_is_refused() {
        let says = |result: Result<Workload>, part: &str| {
            let text = result.unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        };
        says(workload("ngemm", &[1]), "no kernel");
        says(workload("igemm", &[0, 1, 1, 1]), "parameter m");
        says(workload("igemm", &[1; 9]), "at most 8");
        assert!(seed("00").is_err() && seed(&"zz".repeat(32)).is_err());
        assert_eq!(seed(&"07".repeat(32)).unwrap(), [7; 32]);
        assert_eq!(workload("igemm", &[64, 64, 64, 1]).unwrap().ops(), 2 << 18);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
