//! Adam (Kingma and Ba, 2015), element by element.

use crate::arithmetic::Arithmetic;
use crate::cpu::{Cpu, Kernel};

/// The numbers of one Adam step, the same for every element.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// Step size with the corrections of both moments in it: `rate · √(1 - β₂ᵗ) / (1 - β₁ᵗ)`.
    pub step: f32,
    /// Decay of the first moment, β₁.
    pub beta1: f32,
    /// Decay of the second moment, β₂.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Times the weight, added to its gradient (L2 penalty).
    pub decay: f32,
}

/// The two moments of some weights.
#[derive(Clone, Debug)]
pub struct AdamState {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl AdamState {
    /// Moments of `len` weights before the first step: zero.
    pub fn new(len: usize) -> AdamState {
        AdamState { first: vec![0.0; len], second: vec![0.0; len] }
    }
}

impl Adam {
    /// One step for `weights`. For each element, with `g = fma(decay, w, gradient)`:
    /// `m = fma(β₁, m, (1 - β₁) · g)`, `v = fma(β₂, v, (1 - β₂) · (g · g))`,
    /// `w = fma(-step, m / (√v + ε), w)`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn apply(&self, cpu: &Cpu, weights: &mut [f32], gradient: &[f32], state: &mut AdamState) {
        assert_eq!(weights.len(), gradient.len(), "one gradient a weight");
        assert_eq!(weights.len(), state.first.len(), "one pair of moments a weight");
        // An element costs about as much as 16 multiply-adds.
        let part = cpu.rows_per_thread(weights.len(), 16, 64);
        let mut steps = weights
            .chunks_mut(part)
            .zip(gradient.chunks(part))
            .zip(state.first.chunks_mut(part).zip(state.second.chunks_mut(part)))
            .map(|((w, g), (m, v))| Step { adam: *self, w, g, m, v });
        let Some(mine) = steps.next() else { return };
        std::thread::scope(|scope| {
            for step in steps {
                scope.spawn(move || cpu.run(step));
            }
            cpu.run(mine);
        });
    }
}

struct Step<'a> {
    adam: Adam,
    w: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl Kernel for Step<'_> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        let Step { adam: Adam { step, beta1, beta2, epsilon, decay }, w, g, m, v } = self;
        let moments = m.iter_mut().zip(v);
        for ((w, &gradient), (m, v)) in w.iter_mut().zip(g).zip(moments) {
            let g = A::fma(decay, *w, gradient);
            *m = A::fma(beta1, *m, (1.0 - beta1) * g);
            *v = A::fma(beta2, *v, (1.0 - beta2) * (g * g));
            *w = A::fma(-step, *m / (v.sqrt() + epsilon), *w);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cpus, hash, uniform};

    #[test]
    fn three_steps_give_the_golden_bits_on_every_cpu() {
        let len = 300_000;
        for cpu in cpus() {
            let (mut weights, gradient) = (uniform(len, 11), uniform(len, 12));
            let mut state = AdamState::new(len);
            for step in [0.001, 0.002, 0.003] {
                Adam { step, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.01 }.apply(
                    &cpu,
                    &mut weights,
                    &gradient,
                    &mut state,
                );
            }
            assert_eq!(hash(&weights), "0e01ac2930513b43", "{cpu:?}");
        }
    }

    #[test]
    fn it_walks_to_the_minimum_of_a_bowl() {
        let cpu = Cpu::new(crate::Threads(1));
        let (mut x, mut state) = ([5.0f32, -3.0], AdamState::new(2));
        let (mut b1, mut b2) = (1.0f64, 1.0f64);
        for _ in 0..2000 {
            (b1, b2) = (b1 * 0.9, b2 * 0.999);
            let step = (0.05 * (1.0 - b2).sqrt() / (1.0 - b1)) as f32;
            let gradient = [x[0] - 1.0, 4.0 * (x[1] - 2.0)];
            Adam { step, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.0 }
                .apply(&cpu, &mut x, &gradient, &mut state);
        }
        assert!((x[0] - 1.0).abs() < 1e-3 && (x[1] - 2.0).abs() < 1e-3, "{x:?}");
    }
}
