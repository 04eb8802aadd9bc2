//! Times the reference or a fast path on one core: `cargo run --release -p matrixai-kernels --example time -- avx2 fgemm
//! 512 512 512 1 0`. With a path alone, or nothing (`reference`), a table of sizes. Times are the process's CPU time where Linux tells it (in steps of 10 ms, so
//! each workload is repeated for a second), else wall time.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::time::Instant;

use matrixai_kernels::{Compute, Fast, Pace, Reference, Stopped};
use matrixai_protocol::drilling::{Kernel, Workload};

/// Remembers the longest time between ticks.
struct Gaps {
    last: Instant,
    ticks: u32,
    longest_us: u128,
}

impl Pace for Gaps {
    fn tick(&mut self) -> Result<(), Stopped> {
        self.longest_us = self.longest_us.max(self.last.elapsed().as_micros());
        self.last = Instant::now();
        self.ticks += 1;
        Ok(())
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = arguments.first().map_or("reference", String::as_str);
    let fast = Fast::available(1).into_iter().find(|fast| fast.name() == path);
    let compute: &dyn Compute = match &fast {
        Some(fast) => fast,
        None => &Reference,
    };
    let time = |kernel, params: &[u32]| time(compute, kernel, params);
    if let [_, kernel, params @ ..] = arguments.as_slice() {
        let params: Vec<u32> = params.iter().map(|p| p.parse().unwrap()).collect();
        return time(Kernel::parse(kernel).unwrap(), &params);
    }
    for n in [256, 512, 1024] {
        time(Kernel::Igemm, &[n, n, n, 1]);
        time(Kernel::Fgemm, &[n, n, n, 1, 0]);
    }
    time(Kernel::Fgemm, &[256, 256, 256, 1, 1]);
    for p in [16, 18, 20, 22, 23] {
        time(Kernel::Memwalk, &[p, p.min(20) - 10, 1]);
    }
    for batch in [16, 64, 256] {
        time(Kernel::Qmlp, &[batch, 1024, 4, 10]);
    }
}

fn time(compute: &dyn Compute, kernel: Kernel, params: &[u32]) {
    let mut all = [0; 8];
    all[..params.len()].copy_from_slice(params);
    let workload = Workload::new(kernel, all).unwrap();
    let start = Instant::now();
    let cpu = || cpu_ms().unwrap_or(start.elapsed().as_millis() as f64);
    let (mut runs, begin) = (0, cpu());
    let mut gaps = Gaps { last: start, ticks: 0, longest_us: 0 };
    while cpu() < begin + 1000.0 {
        gaps = Gaps { last: Instant::now(), ticks: 0, longest_us: gaps.longest_us };
        compute.run(&workload, &[7; 32], &mut gaps).unwrap();
        runs += 1;
    }
    let ms = (cpu() - begin) / f64::from(runs);
    let (speed, gap) = (workload.ops() as f64 / ms / 1e6, ms / f64::from(gaps.ticks.max(1)));
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{kernel:8} {params:?}: {ms:.1} ms, {speed:.3} Gop/s, a tick every {gap:.2} ms, longest by the wall {:.1} ms",
        gaps.longest_us as f64 / 1e3
    )
    .unwrap();
}

/// User and system time of this process, milliseconds.
fn cpu_ms() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) * 10.0)
}
