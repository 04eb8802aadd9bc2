//! Known answers of every kernel, run at each start of a worker: an implementation that misses one is not used. Those
//! published (§1.6) are tiny, so there are some of our own, of shapes that fill no block of any implementation evenly.

use matrixai_protocol::drilling::{Kernel, Workload};

use crate::{Compute, Reference, Unpaced};

/// An answer: seed 00 01 … 1f.
struct KnownAnswer {
    kernel: Kernel,
    params: [u32; 8],
    /// Digest of the first row.
    #[cfg(test)]
    row: u64,
    /// In hex.
    digest: &'static str,
}

const KNOWN_ANSWERS: [KnownAnswer; 10] = [
    KnownAnswer {
        kernel: Kernel::Igemm,
        params: [64, 64, 64, 1, 0, 0, 0, 0],
        #[cfg(test)]
        row: 0x2f6f_c82f_ebec_92bb,
        digest: "ff47274bea6359cdfe6dd42414c99afcb6bc8152a957f96c9d48dfbde8a14bf4",
    },
    KnownAnswer {
        kernel: Kernel::Fgemm,
        params: [64, 64, 64, 1, 0, 0, 0, 0],
        #[cfg(test)]
        row: 0x0912_cc44_8f24_abfd,
        digest: "976729fe7666209858c2959e133ee39fd9984a6aee909e47845b82e6383158ac",
    },
    KnownAnswer {
        kernel: Kernel::Fgemm,
        params: [64, 64, 64, 1, 1, 0, 0, 0],
        #[cfg(test)]
        row: 0xa94d_bf2b_73b4_a294,
        digest: "6ac040c96cfe425ca1c67addba3188ad13071ab16336c0cca470a202494dfce8",
    },
    KnownAnswer {
        kernel: Kernel::Memwalk,
        params: [12, 5, 2, 0, 0, 0, 0, 0],
        #[cfg(test)]
        row: 0x9429_6709_672b_4a27,
        digest: "7b26034a6447fea65c2502b92d85fea807f37ab03786bb2c40f5d626128bc514",
    },
    KnownAnswer {
        kernel: Kernel::Qmlp,
        params: [16, 64, 3, 8, 0, 0, 0, 0],
        #[cfg(test)]
        row: 0xa4d3_f9ee_28d4_b736,
        digest: "1b52b21d263f1a2d3f6a983f524d4abe8d719b6dc57ecb9797fec315a6434a53",
    },
    KnownAnswer {
        kernel: Kernel::Igemm,
        params: [101, 300, 1100, 1, 0, 0, 0, 0],
        #[cfg(test)]
        row: 0x3d69_3fb8_3343_8931,
        digest: "c2447e9364a8e2502cd6bae7d2080c9b04b7ea27085f350c25caea8a0933c706",
    },
    KnownAnswer {
        kernel: Kernel::Fgemm,
        params: [7, 300, 300, 2, 0, 0, 0, 0],
        #[cfg(test)]
        row: 0xbd5b_e7e5_bed1_ce05,
        digest: "5166d35475630f22da1a7beec1e60fe091cb6a99567bbd6db863f6f7d809777e",
    },
    KnownAnswer {
        kernel: Kernel::Fgemm,
        params: [7, 300, 300, 2, 1, 0, 0, 0],
        #[cfg(test)]
        row: 0x16e3_5ac9_58a7_db7f,
        digest: "e632b2b05b1ab19cd92b52ef1b168526c93bf37bb0b3afd873c88f7acfb247d0",
    },
    KnownAnswer {
        kernel: Kernel::Memwalk,
        params: [13, 6, 3, 0, 0, 0, 0, 0],
        #[cfg(test)]
        row: 0x5564_7c9e_98fe_95c0,
        digest: "8e9e06affea37e48a2df94e58fa770abd667021c077a0a3a6c02c76ee6270db5",
    },
    KnownAnswer {
        kernel: Kernel::Qmlp,
        params: [99, 530, 2, 9, 0, 0, 0, 0],
        #[cfg(test)]
        row: 0x0501_751e_2dcf_17d3,
        digest: "762edffdc014d8439b4232d0629a16ca2c2e9db6078bcfb2f8f7e447e9eebed0",
    },
];

/// Seed of all known answers.
pub(crate) const SEED: [u8; 32] = {
    let mut seed = [0; 32];
    let mut i = 0;
    while i < seed.len() {
        seed[i] = i as u8;
        i += 1;
    }
    seed
};

/// The reference against all known answers, kernel by kernel; a few milliseconds.
#[must_use]
pub fn selftest() -> Vec<(Kernel, bool)> {
    selftest_of(&Reference)
}

/// Any implementation against all known answers: (kernel, whether all its answers are right), in the order of `ALL`.
#[must_use]
pub fn selftest_of(compute: &dyn Compute) -> Vec<(Kernel, bool)> {
    Kernel::ALL
        .into_iter()
        .map(|kernel| {
            (kernel, KNOWN_ANSWERS.iter().filter(|known| known.kernel == kernel).all(|known| holds(compute, known)))
        })
        .collect()
}

fn holds(compute: &dyn Compute, known: &KnownAnswer) -> bool {
    let Ok(workload) = Workload::new(known.kernel, known.params) else {
        return false;
    };
    compute.run(&workload, &SEED, &mut Unpaced).is_ok_and(|digest| hex(&digest) == known.digest)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_reference_knows_all_answers() {
        assert_eq!(selftest(), Kernel::ALL.map(|kernel| (kernel, true)));
    }

    #[test]
    fn first_rows_are_those_published() {
        for known in &KNOWN_ANSWERS {
            let workload = Workload::new(known.kernel, known.params).unwrap();
            let rows = Reference.rows(&workload, &SEED, &mut Unpaced).unwrap();
            assert_eq!(format!("{:016x}", rows[0]), format!("{:016x}", known.row), "{}", known.kernel);
            assert_eq!(rows.len() as u64, workload.rows());
        }
    }
}
