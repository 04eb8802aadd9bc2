//! Graphics processors, from what the kernel and its drivers say in /sys and /proc: no driver library is loaded, so a
//! machine without one is no special case.
//!
//! NVIDIA's driver names its devices under /proc/driver/nvidia but not their memory (and the PCI window is no measure of
//! it), so that is left 0; AMD's driver says both.

use std::{fs, path::Path};

/// PCI class of display controllers: the first byte of three.
const DISPLAY_CLASS: &str = "0x03";
/// Makers whose display controllers can compute; emulated and management ones are not listed.
const MAKERS: [(&str, &str); 3] = [("0x10de", "NVIDIA"), ("0x1002", "AMD"), ("0x8086", "Intel")];

/// One device; memory in bytes, 0 where the driver does not say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) model: String,
    pub(super) ram_bytes: u64,
}

/// Devices in order of their bus addresses. `root` is "/" except in tests.
pub(super) fn find(root: &Path) -> Vec<Found> {
    let devices = root.join("sys/bus/pci/devices");
    let mut slots: Vec<_> =
        fs::read_dir(&devices).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    slots.sort();
    slots.into_iter().filter_map(|slot| device(root, &devices.join(&slot), &slot.to_string_lossy())).collect()
}

fn device(root: &Path, path: &Path, slot: &str) -> Option<Found> {
    let read = |name: &str| fs::read_to_string(path.join(name)).map(|text| text.trim().to_owned()).unwrap_or_default();
    if !read("class").starts_with(DISPLAY_CLASS) {
        return None;
    }
    let vendor = read("vendor");
    let (_, maker) = MAKERS.iter().find(|(id, _)| *id == vendor)?;
    let named = nvidia_model(root, slot).or_else(|| Some(read("product_name")).filter(|name| !name.is_empty()));
    let model = named.unwrap_or_else(|| format!("{maker} device {}", read("device")));
    Some(Found { model, ram_bytes: read("mem_info_vram_total").parse().unwrap_or(0) })
}

fn nvidia_model(root: &Path, slot: &str) -> Option<String> {
    let text = fs::read_to_string(root.join("proc/driver/nvidia/gpus").join(slot).join("information")).ok()?;
    let model = text.lines().find_map(|line| line.strip_prefix("Model:"))?.trim().to_owned();
    (!model.is_empty()).then_some(model)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn an_nvidia_device_is_named_by_its_driver() {
        // As an H100's driver writes it.
        let root = machine(&[
            ("sys/bus/pci/devices/0000:00:06.0/class", "0x030200\n"),
            ("sys/bus/pci/devices/0000:00:06.0/vendor", "0x10de\n"),
            ("sys/bus/pci/devices/0000:00:06.0/device", "0x2330\n"),
            ("proc/driver/nvidia/gpus/0000:00:06.0/information", "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 41\n"),
        ]);
        assert_eq!(find(root.path()), [Found { model: "NVIDIA H100 80GB HBM3".to_owned(), ram_bytes: 0 }]);
    }

    #[test]
    fn without_a_name_the_device_number_stands_and_emulated_screens_do_not_count() {
        let root = machine(&[
            ("sys/bus/pci/devices/0000:00:01.0/class", "0x030000"),
            ("sys/bus/pci/devices/0000:00:01.0/vendor", "0x1234"),
            ("sys/bus/pci/devices/0000:00:02.0/class", "0x030000"),
            ("sys/bus/pci/devices/0000:00:02.0/vendor", "0x1002"),
            ("sys/bus/pci/devices/0000:00:02.0/device", "0x744c"),
            ("sys/bus/pci/devices/0000:00:02.0/mem_info_vram_total", "25753026560\n"),
            ("sys/bus/pci/devices/0000:00:03.0/class", "0x020000"),
            ("sys/bus/pci/devices/0000:00:03.0/vendor", "0x8086"),
        ]);
        assert_eq!(find(root.path()), [Found { model: "AMD device 0x744c".to_owned(), ram_bytes: 25_753_026_560 }]);
        assert_eq!(find(Path::new("/nonexistent")), []);
    }
}
