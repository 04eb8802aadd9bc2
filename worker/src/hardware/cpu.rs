//! The processor: its name, and the instruction sets that matter for speed.

/// Name of the first processor in /proc/cpuinfo; the fields differ by architecture.
pub(super) fn model(cpuinfo: &str) -> Option<String> {
    ["model name", "Model", "cpu model", "uarch"].iter().find_map(|wanted| {
        cpuinfo.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            (name.trim() == *wanted && !value.is_empty()).then(|| value.to_owned())
        })
    })
}

/// Lists the extensions of the macro's names that this processor has.
#[cfg(target_arch = "x86_64")]
pub(super) fn isa() -> Vec<String> {
    macro_rules! detected {
        ($($name:tt),*) => { [$(($name, std::is_x86_feature_detected!($name))),*] };
    }
    let all = detected!(
        "sse4.2",
        "popcnt",
        "aes",
        "sha",
        "bmi2",
        "f16c",
        "fma",
        "avx",
        "avx2",
        "avxvnni",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512vnni",
        "avx512bf16"
    );
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect()
}

/// Lists the extensions of the macro's names that this processor has.
#[cfg(target_arch = "aarch64")]
pub(super) fn isa() -> Vec<String> {
    macro_rules! detected {
        ($($name:tt),*) => { [$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    let all = detected!("neon", "aes", "sha2", "dotprod", "i8mm", "fp16", "bf16", "sve", "sve2");
    all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect()
}

/// Other processors have no list yet: nothing is claimed of them.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn isa() -> Vec<String> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_first_processors() {
        let x86 =
            "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 1\nmodel name\t: AMD EPYC 7B13\n\nmodel name\t: B\n";
        assert_eq!(model(x86).as_deref(), Some("AMD EPYC 7B13"));
        assert_eq!(model("processor\t: 0\nModel\t\t: Raspberry Pi 5\n").as_deref(), Some("Raspberry Pi 5"));
        assert_eq!(model("processor : 0\nmodel name : \n"), None);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn detection_agrees_with_the_kernels_list() {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
        if !flags.is_empty() {
            assert_eq!(isa().contains(&"avx2".to_owned()), flags.split(' ').any(|flag| flag == "avx2"));
        }
    }
}
