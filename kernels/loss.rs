//! Activations and the two losses of a classifier, with their gradients.

use crate::arithmetic::Arithmetic;
use crate::cpu::{Cpu, Kernel};
use crate::functions::{exp_in, gelu_in, gelu_slope_in, log_in, maximum_in, sigmoid_in};
use crate::reduce::LaneSum;

/// Sets everything that is not above zero to zero, NaN excepted: NaN must stay visible.
pub fn relu(cpu: &Cpu, values: &mut [f32]) {
    struct Relu<'a>(&'a mut [f32]);
    impl Kernel for Relu<'_> {
        #[inline(always)]
        fn run<A: Arithmetic>(self) {
            for value in self.0 {
                *value = if *value <= 0.0 { 0.0 } else { *value };
            }
        }
    }
    cpu.run(Relu(values));
}

/// The probabilities of both classes for each logit z: sigmoid(-z), then sigmoid(z). Both by the sigmoid itself, since
/// 1 - p would lose the small ones.
///
/// # Panics
/// If `out` is not twice as long as `logits`.
pub fn sigmoid_pairs(cpu: &Cpu, logits: &[f32], out: &mut [f32]) {
    struct Pairs<'a>(&'a [f32], &'a mut [f32]);
    impl Kernel for Pairs<'_> {
        #[inline(always)]
        fn run<A: Arithmetic>(self) {
            for (pair, &z) in self.1.as_chunks_mut().0.iter_mut().zip(self.0) {
                *pair = [sigmoid_in::<A>(-z), sigmoid_in::<A>(z)];
            }
        }
    }
    assert_eq!(out.len(), 2 * logits.len(), "two classes a logit");
    cpu.run(Pairs(logits, out));
}

/// Sets `gradient` to zero where the activation that [`relu`] gave is zero.
///
/// # Panics
/// If the lengths differ.
pub fn relu_backward(cpu: &Cpu, activation: &[f32], gradient: &mut [f32]) {
    struct Backward<'a>(&'a [f32], &'a mut [f32]);
    impl Kernel for Backward<'_> {
        #[inline(always)]
        fn run<A: Arithmetic>(self) {
            for (gradient, &activation) in self.1.iter_mut().zip(self.0) {
                *gradient = if activation <= 0.0 { 0.0 } else { *gradient };
            }
        }
    }
    assert_eq!(activation.len(), gradient.len(), "one gradient an activation");
    cpu.run(Backward(activation, gradient));
}

/// Replaces every value by its [`gelu`](crate::gelu).
pub fn gelu_forward(cpu: &Cpu, values: &mut [f32]) {
    struct Gelu<'a>(&'a mut [f32]);
    impl Kernel for Gelu<'_> {
        #[inline(always)]
        fn run<A: Arithmetic>(self) {
            for value in self.0 {
                *value = gelu_in::<A>(*value);
            }
        }
    }
    cpu.run(Gelu(values));
}

/// Multiplies `gradient` by gelu's derivative at `input`, what [`gelu_forward`] was given.
///
/// # Panics
/// If the lengths differ.
pub fn gelu_backward(cpu: &Cpu, input: &[f32], gradient: &mut [f32]) {
    struct Backward<'a>(&'a [f32], &'a mut [f32]);
    impl Kernel for Backward<'_> {
        #[inline(always)]
        fn run<A: Arithmetic>(self) {
            for (gradient, &x) in self.1.iter_mut().zip(self.0) {
                *gradient *= gelu_slope_in::<A>(x);
            }
        }
    }
    assert_eq!(input.len(), gradient.len(), "one gradient an input");
    cpu.run(Backward(input, gradient));
}

/// Replaces each row of `classes` logits by its probabilities: with `m` the row's largest logit,
/// `exp(z - m)` divided by the lane sum of these.
///
/// # Panics
/// If `logits` is not whole rows.
pub fn softmax_rows(cpu: &Cpu, logits: &mut [f32], classes: usize) {
    struct Softmax<'a>(&'a mut [f32], usize);
    impl Kernel for Softmax<'_> {
        #[inline(always)]
        fn run<A: Arithmetic>(self) {
            for row in self.0.chunks_exact_mut(self.1) {
                let _ = softmax::<A>(row);
            }
        }
    }
    assert!(classes > 0 && logits.len().is_multiple_of(classes), "whole rows of {classes}");
    cpu.run(Softmax(logits, classes));
}

/// Turns logits into probabilities; gives the row's maximum and its sum of exponentials.
#[inline(always)]
fn softmax<A: Arithmetic>(row: &mut [f32]) -> (f32, f32) {
    let mut max = f32::NEG_INFINITY;
    for &z in row.iter() {
        max = maximum_in(max, z);
    }
    let mut sum = LaneSum::ZERO;
    for (i, z) in row.iter_mut().enumerate() {
        *z = exp_in::<A>(*z - max);
        sum.add(i, *z);
    }
    let sum = sum.total();
    for e in row.iter_mut() {
        *e /= sum;
    }
    (max, sum)
}

/// Cross entropy of a softmax over each row of `classes` logits. `losses[i]` becomes
/// `log(Σ exp(z - m)) - (z_label - m)`; `logits` becomes the gradient
/// `(probability - [class = label]) · scale`.
///
/// # Panics
/// If the sizes do not fit or a label is not below `classes`.
pub fn softmax_cross_entropy(
    cpu: &Cpu,
    logits: &mut [f32],
    classes: usize,
    labels: &[u32],
    scale: f32,
    losses: &mut [f32],
) {
    struct CrossEntropy<'a> {
        logits: &'a mut [f32],
        classes: usize,
        labels: &'a [u32],
        scale: f32,
        losses: &'a mut [f32],
    }
    impl Kernel for CrossEntropy<'_> {
        #[inline(always)]
        fn run<A: Arithmetic>(self) {
            let rows = self.logits.chunks_exact_mut(self.classes);
            for ((row, &label), loss) in rows.zip(self.labels).zip(self.losses) {
                let logit = row[label as usize];
                let (max, sum) = softmax::<A>(row);
                *loss = log_in::<A>(sum) - (logit - max);
                row[label as usize] -= 1.0;
                for value in row {
                    *value *= self.scale;
                }
            }
        }
    }
    assert_eq!(logits.len(), labels.len() * classes, "one row a label");
    assert_eq!(losses.len(), labels.len(), "one loss a label");
    cpu.run(CrossEntropy { logits, classes, labels, scale, losses });
}

/// Cross entropy of a sigmoid over one logit a row; label 1 means yes, 0 no. `losses[i]` becomes
/// `max(z, 0) - z · label + log(1 + exp(-|z|))`; `logits` becomes the gradient
/// `(sigmoid(z) - label) · scale`.
///
/// # Panics
/// If the sizes do not fit.
pub fn sigmoid_cross_entropy(
    cpu: &Cpu,
    logits: &mut [f32],
    labels: &[u32],
    scale: f32,
    losses: &mut [f32],
) {
    struct CrossEntropy<'a>(&'a mut [f32], &'a [u32], f32, &'a mut [f32]);
    impl Kernel for CrossEntropy<'_> {
        #[inline(always)]
        fn run<A: Arithmetic>(self) {
            for ((z, &label), loss) in self.0.iter_mut().zip(self.1).zip(self.3) {
                let yes = if label == 1 { 1.0 } else { 0.0 };
                let above = if *z <= 0.0 { 0.0 } else { *z };
                let tail = log_in::<A>(1.0 + exp_in::<A>(-z.abs()));
                *loss = (above - *z * yes) + tail;
                *z = (sigmoid_in::<A>(*z) - yes) * self.2;
            }
        }
    }
    assert_eq!(logits.len(), labels.len(), "one logit a label");
    assert_eq!(losses.len(), labels.len(), "one loss a label");
    cpu.run(CrossEntropy(logits, labels, scale, losses));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cpus, hash, uniform};

    #[test]
    fn both_classes_have_the_sigmoids_bits_on_every_cpu() {
        let logits: Vec<f32> = uniform(501, 12).iter().map(|v| v * 60.0).collect();
        let want: Vec<f32> =
            logits.iter().flat_map(|&z| [-z, z]).map(crate::functions::sigmoid).collect();
        for cpu in cpus() {
            let mut got = vec![f32::NAN; 1002];
            sigmoid_pairs(&cpu, &logits, &mut got);
            assert_eq!(got, want, "{cpu:?}");
        }
    }

    #[test]
    fn softmax_loss_and_gradient_agree_with_double_precision() {
        let logits: Vec<f32> = uniform(40 * 45, 9).iter().map(|v| v * 8.0).collect();
        let labels: Vec<u32> = (0..40).map(|i| i * 7 % 45).collect();
        for cpu in cpus() {
            let (mut gradient, mut losses) = (logits.clone(), vec![0.0; 40]);
            softmax_cross_entropy(&cpu, &mut gradient, 45, &labels, 0.5, &mut losses);
            for (i, &label) in labels.iter().enumerate() {
                let row: Vec<f64> =
                    logits[i * 45..][..45].iter().map(|&z| f64::from(z).exp()).collect();
                let sum: f64 = row.iter().sum();
                let loss = -(row[label as usize] / sum).ln();
                assert!((f64::from(losses[i]) - loss).abs() < 2e-6);
                for (c, e) in row.iter().enumerate() {
                    let target = if c == label as usize { 1.0 } else { 0.0 };
                    let want = (e / sum - target) * 0.5;
                    assert!((f64::from(gradient[i * 45 + c]) - want).abs() < 1e-6);
                }
            }
            assert_eq!(
                (hash(&gradient).as_str(), hash(&losses).as_str()),
                ("7bad1938c24978bf", "cc0bab76e5142ff5")
            );
        }
    }

    #[test]
    fn sigmoid_loss_and_gradient_agree_with_double_precision() {
        let logits: Vec<f32> = uniform(200, 10).iter().map(|v| v * 30.0).collect();
        let labels: Vec<u32> = (0..200).map(|i| i % 2).collect();
        for cpu in cpus() {
            let (mut gradient, mut losses) = (logits.clone(), vec![0.0; 200]);
            sigmoid_cross_entropy(&cpu, &mut gradient, &labels, 0.25, &mut losses);
            for i in 0..200 {
                let (z, y) = (f64::from(logits[i]), f64::from(labels[i]));
                let loss = z.max(0.0) - z * y + (-z.abs()).exp().ln_1p();
                assert!((f64::from(losses[i]) - loss).abs() < 3e-6);
                let want = (1.0 / (1.0 + (-z).exp()) - y) * 0.25;
                assert!((f64::from(gradient[i]) - want).abs() < 1e-7);
            }
            assert_eq!(
                (hash(&gradient).as_str(), hash(&losses).as_str()),
                ("002342f7f2292b98", "f1bec512abc71279")
            );
        }
    }

    #[test]
    fn probabilities_sum_to_one_and_extreme_logits_do_not_overflow() {
        for cpu in cpus() {
            let mut rows = [1000.0, -1000.0, 999.0, 0.0, 0.0, 0.0];
            softmax_rows(&cpu, &mut rows, 3);
            assert!((rows[0] - 0.731_058_6).abs() < 1e-6 && rows[1] == 0.0);
            assert!(rows[3..].iter().all(|&p| p == 1.0 / 3.0));
        }
    }

    #[test]
    fn relu_keeps_nan_visible_and_its_gradient_stops_at_zero() {
        for cpu in cpus() {
            let mut values = [-1.0, -0.0, 0.0, 2.0, f32::NAN];
            relu(&cpu, &mut values);
            assert_eq!(values[..4], [0.0, 0.0, 0.0, 2.0]);
            assert!(values[1].is_sign_positive() && values[4].is_nan());
            let mut gradient = [1.0; 5];
            relu_backward(&cpu, &values, &mut gradient);
            assert_eq!(gradient, [0.0, 0.0, 0.0, 1.0, 1.0]);
        }
    }
}
