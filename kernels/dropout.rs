//! Dropout (Srivastava et al., 2014), inverted: what stays is scaled up, so that nothing is to be done when a
//! model is used.

use crate::arithmetic::Arithmetic;
use crate::cpu::{Cpu, Kernel};
use crate::random::Philox;

/// Which elements of an array are dropped, and how much the others grow. The same mask serves the way forward
/// and the way back.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    stream: Philox,
    /// Elements whose 24 random bits are below this are dropped.
    threshold: u32,
    scale: f32,
}

impl Dropout {
    /// Drops each element with the probability `rate`, in steps of 2⁻²⁴: element i where
    /// `word >> 8 < round(rate · 2²⁴)`, `word` being word i mod 4 of block i / 4 of `stream`. The others are
    /// multiplied by `1 / (1 - rate)`, worked out in binary64 and rounded once.
    ///
    /// # Panics
    /// If `rate` is not in [0, 1).
    pub fn new(stream: Philox, rate: f64) -> Dropout {
        assert!((0.0..1.0).contains(&rate), "a rate from 0 to below 1, not {rate}");
        let threshold = (rate * f64::from(1u32 << 24)).round_ties_even() as u32;
        Dropout { stream, threshold, scale: (1.0 / (1.0 - rate)) as f32 }
    }

    /// Threshold and scale, as a kernel takes them.
    #[must_use]
    pub fn parts(&self) -> (Philox, u32, f32) {
        (self.stream, self.threshold, self.scale)
    }

    /// Drops elements of `values`: activations on the way forward, their gradients on the way back.
    pub fn apply(&self, cpu: &Cpu, values: &mut [f32]) {
        struct Apply<'a>(Dropout, u64, &'a mut [f32]);
        impl Kernel for Apply<'_> {
            #[inline(always)]
            fn run<A: Arithmetic>(self) {
                let Apply(Dropout { stream, threshold, scale }, first, values) = self;
                for (index, part) in values.chunks_mut(4).enumerate() {
                    let block = stream.block(first + index as u64);
                    for (value, word) in part.iter_mut().zip(block) {
                        *value = if word >> 8 < threshold { 0.0 } else { *value * scale };
                    }
                }
            }
        }
        let part = cpu.rows_per_thread(values.len(), 8, 4);
        cpu.over_rows(values, 1, part, |first, values| {
            cpu.run(Apply(*self, first as u64 / 4, values));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cpus, hash, uniform};

    #[test]
    fn a_share_is_dropped_and_the_rest_grows_by_golden_bits_on_every_cpu() {
        for cpu in cpus() {
            let mut values = uniform(1_000_003, 20);
            Dropout::new(Philox::new(9, 4), 0.3).apply(&cpu, &mut values);
            let dropped = values.iter().filter(|v| **v == 0.0).count();
            assert!((dropped as f64 / 1e6 - 0.3).abs() < 0.002, "{dropped}");
            assert_eq!(hash(&values), "16b2bcf6f23f9ff1", "{cpu:?}");
        }
    }

    #[test]
    fn a_rate_of_zero_changes_nothing_and_both_ways_have_one_mask() {
        let cpu = Cpu::new(crate::Threads(1));
        let before = uniform(99, 21);
        let mut values = before.clone();
        Dropout::new(Philox::new(1, 1), 0.0).apply(&cpu, &mut values);
        assert_eq!(values, before);
        let half = Dropout::new(Philox::new(1, 1), 0.5);
        let (mut forward, mut back) = (vec![1.0f32; 99], vec![3.0f32; 99]);
        half.apply(&cpu, &mut forward);
        half.apply(&cpu, &mut back);
        assert!(forward.iter().zip(&back).all(|(f, b)| f * 3.0 == *b && [0.0, 2.0].contains(f)));
    }
}
