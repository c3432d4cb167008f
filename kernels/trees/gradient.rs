//! Gradients and second derivatives of the losses, and their images as integers.

use crate::arithmetic::Arithmetic;
use crate::cpu::{Cpu, Kernel};
use crate::functions::exp_in;

/// Rows that one task takes.
pub(super) const BLOCK: usize = 1 << 14;
/// 1.5 · 2²³ and 1.5 · 2⁵²: adding them rounds to the nearest integer, ties to even.
const ROUND: f32 = 12_582_912.0;
const ROUND_WIDE: f64 = 6_755_399_441_055_744.0;
/// Quantised gradients are at most 2¹⁵, second derivatives 2¹⁶, so that a block of 2¹⁵ rows keeps
/// both sums within 32 bits.
const GRADIENT_BITS: i32 = 15;
const HESSIAN_BITS: i32 = 16;
/// For the sums that leaves are made of.
const WIDE_BITS: i32 = 30;

/// First and second derivative of the loss by the score, a row each.
#[derive(Clone, Debug, Default)]
pub(super) struct Gradients {
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
}

/// Exponents of the powers of two that derivatives are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scales {
    pub(super) first: i32,
    pub(super) second: i32,
}

/// 2ⁿ as binary64, n within the range of normal numbers.
pub(super) fn power_of_two(n: i32) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

/// The least n with `value` < 2ⁿ, for positive numbers; for zero that of the smallest normal one.
fn exponent(value: f32) -> i32 {
    let bits = f64::from(value.max(f32::MIN_POSITIVE)).to_bits();
    (bits >> 52) as i32 - 1022
}

impl Gradients {
    pub(super) fn new(rows: usize) -> Gradients {
        Gradients { first: vec![0.0; rows], second: vec![0.0; rows] }
    }

    /// Blocks of rows to fill: first row, first derivatives, second derivatives.
    fn blocks(&mut self) -> Vec<(usize, &mut [f32], &mut [f32])> {
        let parts = self.first.chunks_mut(BLOCK).zip(self.second.chunks_mut(BLOCK));
        parts.enumerate().map(|(block, (first, second))| (block * BLOCK, first, second)).collect()
    }

    /// Of the sigmoid's cross entropy; label 1 means yes. `t = exp(-|z|)`, `d = 1 + t`,
    /// `p = (z < 0 ? t : 1) / d`; `(p - y) · w` and `t / (d · d) · w`.
    pub(super) fn logistic(
        &mut self,
        cpu: &Cpu,
        scores: &[f32],
        labels: &[u32],
        weights: Option<&[f32]>,
    ) {
        cpu.each(self.blocks(), |(at, first, second)| {
            let (scores, labels) = (&scores[at..][..first.len()], &labels[at..][..first.len()]);
            cpu.run(Logistic { scores, labels, first, second });
        });
        self.weigh(weights);
    }

    /// Of the softmax's cross entropy, for one class: `(p - y) · w` and `2 · p · (1 - p) · w`.
    /// `probabilities` holds that class's.
    pub(super) fn softmax(
        &mut self,
        cpu: &Cpu,
        probabilities: &[f32],
        class: u32,
        labels: &[u32],
        weights: Option<&[f32]>,
    ) {
        cpu.each(self.blocks(), |(at, first, second)| {
            let rows = first.iter_mut().zip(second).zip(&probabilities[at..]).zip(&labels[at..]);
            for (((first, second), &p), &label) in rows {
                *first = p - if label == class { 1.0 } else { 0.0 };
                *second = 2.0 * p * (1.0 - p);
            }
        });
        self.weigh(weights);
    }

    /// Of half the squared error: `(score - target) · w` and `w`.
    pub(super) fn squared(
        &mut self,
        cpu: &Cpu,
        scores: &[f32],
        targets: &[f32],
        weights: Option<&[f32]>,
    ) {
        cpu.each(self.blocks(), |(at, first, second)| {
            let rows = first.iter_mut().zip(second).zip(&scores[at..]).zip(&targets[at..]);
            for (((first, second), score), target) in rows {
                *first = score - target;
                *second = 1.0;
            }
        });
        self.weigh(weights);
    }

    fn weigh(&mut self, weights: Option<&[f32]>) {
        let Some(weights) = weights else { return };
        for ((first, second), weight) in self.first.iter_mut().zip(&mut self.second).zip(weights) {
            *first *= weight;
            *second *= weight;
        }
    }

    /// Whether all of them are finite numbers.
    pub(super) fn is_finite(&self) -> bool {
        self.first.iter().chain(&self.second).all(|value| value.is_finite())
    }

    /// The scales for histograms: the largest powers of two that keep the largest magnitudes below
    /// 2¹⁵ and 2¹⁶ before rounding.
    pub(super) fn scales(&self) -> Scales {
        let most =
            |values: &[f32]| values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        Scales {
            first: GRADIENT_BITS - exponent(most(&self.first)),
            second: HESSIAN_BITS - exponent(most(&self.second)),
        }
    }

    /// Each row's derivatives as integers in one word, the first in the upper half, the second in
    /// the lower: sums of words are sums of both, as long as the lower one stays within its half.
    pub(super) fn packed(&self, cpu: &Cpu, scales: Scales, words: &mut [u64]) {
        let first_scale = power_of_two(scales.first);
        let second_scale = power_of_two(scales.second);
        let blocks = words.chunks_mut(BLOCK).enumerate().collect();
        cpu.each(blocks, |(block, words): (usize, &mut [u64])| {
            let at = block * BLOCK;
            cpu.run(Pack {
                first: &self.first[at..][..words.len()],
                second: &self.second[at..][..words.len()],
                scales: [first_scale, second_scale],
                words,
            });
        });
    }

    /// The scales of [`Gradients::wide`].
    pub(super) fn wide_scales(&self) -> Scales {
        let Scales { first, second } = self.scales();
        let further = |scale, bits| scale + WIDE_BITS - bits;
        Scales { first: further(first, GRADIENT_BITS), second: further(second, HESSIAN_BITS) }
    }

    /// A row's derivatives as integers of up to 2³⁰.
    #[inline(always)]
    pub(super) fn wide(&self, row: usize, scales: [f64; 2]) -> [i64; 2] {
        let round = |value: f32, scale: f64| {
            let moved = f64::from(value) * scale + ROUND_WIDE;
            moved.to_bits().wrapping_sub(ROUND_WIDE.to_bits()) as i64
        };
        [round(self.first[row], scales[0]), round(self.second[row], scales[1])]
    }
}

struct Logistic<'a> {
    scores: &'a [f32],
    labels: &'a [u32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl Kernel for Logistic<'_> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        let rows = self.first.iter_mut().zip(self.second).zip(self.scores).zip(self.labels);
        for (((first, second), &z), &label) in rows {
            let t = exp_in::<A>(-z.abs());
            let d = 1.0 + t;
            let p = if z < 0.0 { t } else { 1.0 } / d;
            *first = p - if label == 1 { 1.0 } else { 0.0 };
            *second = t / (d * d);
        }
    }
}

struct Pack<'a> {
    first: &'a [f32],
    second: &'a [f32],
    scales: [f64; 2],
    words: &'a mut [u64],
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        // A product with a power of two is exact, or too small to round to anything but zero.
        let round = |value: f32, scale: f64| {
            let moved = (f64::from(value) * scale) as f32 + ROUND;
            (moved.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32)
        };
        for ((word, &first), &second) in self.words.iter_mut().zip(self.first).zip(self.second) {
            let upper = i64::from(round(first, self.scales[0])) << 32;
            let lower = i64::from(round(second, self.scales[1]));
            *word = upper.wrapping_add(lower) as u64;
        }
    }
}
