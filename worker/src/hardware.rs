//! What this machine is, as far as a process can see: reported truthfully at enrolment, and believed by nobody
//! (speed comes from drilling alone).

mod cpu;
mod gpu;

use matrixai_proto::v1::{Gpu, Inventory};
use std::{fs, path::Path};

/// Longest text, and most devices, that the ledger takes in an inventory.
pub(crate) const TEXT_BYTES_MAX: usize = 128;
const GPUS_MAX: usize = 16;

/// Takes stock. What cannot be found out is empty or 0, never guessed; `data` is on the disk whose room counts, `region` is
/// the owner's word.
pub(crate) fn inventory(data: &Path, region: &str) -> Inventory {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let short = |text: String| crate::run::cut(&text, TEXT_BYTES_MAX).to_owned();
    Inventory {
        cpu_model: short(cpu::model(&read("/proc/cpuinfo")).unwrap_or_else(|| std::env::consts::ARCH.to_owned())),
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        isa: cpu::isa(),
        ram_bytes: ram_bytes(&read("/proc/meminfo"), &read("/sys/fs/cgroup/memory.max")),
        disk_bytes: disk_bytes(data),
        gpus: gpu::find(Path::new("/"))
            .into_iter()
            .take(GPUS_MAX)
            .map(|found| Gpu { model: short(found.model), ram_bytes: found.ram_bytes })
            .collect(),
        os: short(os_name(&read("/etc/os-release"), &read("/proc/sys/kernel/osrelease"))),
        region: region.to_owned(),
    }
}

/// Memory of the machine, or of the container if that is less.
fn ram_bytes(meminfo: &str, cgroup_max: &str) -> u64 {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib.saturating_mul(1024));
    // "max" when there is no limit.
    cgroup_max.trim().parse::<u64>().map_or(total, |limit| limit.min(total))
}

/// Bytes that an ordinary user can still write beside `data`.
fn disk_bytes(data: &Path) -> u64 {
    rustix::fs::statvfs(data).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn os_name(os_release: &str, kernel: &str) -> String {
    let name = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or(std::env::consts::OS, |name| name.trim().trim_matches('"'));
    match kernel.trim() {
        "" => name.to_owned(),
        kernel => format!("{name}, kernel {kernel}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_something_of_everything() {
        let found = inventory(Path::new("."), "europe");
        assert_eq!(found.region, "europe");
        assert!(!found.cpu_model.is_empty() && !found.os.is_empty());
        assert!(found.cores >= 1);
        assert!(found.ram_bytes > 64 << 20, "{}", found.ram_bytes);
        assert!(found.disk_bytes > 0);
        assert!(found.gpus.iter().all(|gpu| !gpu.model.is_empty()));
    }

    #[test]
    fn a_container_has_no_more_memory_than_its_limit() {
        let meminfo = "MemTotal:       131981020 kB\nMemFree: 1 kB\n";
        assert_eq!(ram_bytes(meminfo, "max\n"), 131_981_020 * 1024);
        assert_eq!(ram_bytes(meminfo, "1073741824\n"), 1 << 30);
        assert_eq!(ram_bytes(meminfo, ""), 131_981_020 * 1024);
        assert_eq!(ram_bytes("", "1073741824"), 0);
    }

    #[test]
    fn the_system_is_named_with_its_kernel() {
        assert_eq!(os_name("NAME=x\nPRETTY_NAME=\"Debian 13\"\n", "6.18.44\n"), "Debian 13, kernel 6.18.44");
        assert_eq!(os_name("", ""), std::env::consts::OS);
    }
}
