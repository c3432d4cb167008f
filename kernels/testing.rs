//! What the tests of several kernels need: reproducible data, digests, and every CPU to compare.

use crate::{Cpu, Isa, Philox, Threads};

/// The first 16 hex digits of the BLAKE3 digest of the little-endian bytes; every NaN counts as one.
pub(crate) fn hash(values: &[f32]) -> String {
    let mut hasher = blake3::Hasher::new();
    for value in values {
        let bits = if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() };
        hasher.update(&bits.to_le_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// `len` numbers in [-1, 1).
pub(crate) fn uniform(len: usize, stream: u64) -> Vec<f32> {
    let mut out = vec![0.0; len];
    Philox::new(42, stream).fill_uniform(&mut out, -1.0, 1.0);
    out
}

/// Every instruction set of this machine on 1, 2 and 7 threads.
pub(crate) fn cpus() -> Vec<Cpu> {
    let mut all = Vec::new();
    for isa in Isa::ALL {
        for threads in [1, 2, 7] {
            all.extend(Cpu::with_isa(Threads(threads), isa));
        }
    }
    all
}
