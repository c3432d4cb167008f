//! Stochastic gradient descent with momentum, element by element.

use crate::arithmetic::Arithmetic;
use crate::cpu::{Cpu, Kernel};

/// The numbers of one step, the same for every element.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Step size.
    pub rate: f32,
    /// Share of the velocity that is kept; 0 is plain descent.
    pub momentum: f32,
    /// Times the weight, added to its gradient (L2 penalty).
    pub decay: f32,
}

impl Sgd {
    /// One step for `weights`. For each element, with `g = fma(decay, w, gradient)`:
    /// `velocity = fma(momentum, velocity, g)`, `w = fma(-rate, velocity, w)`. The velocity is zero before the
    /// first step.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn apply(&self, cpu: &Cpu, weights: &mut [f32], gradient: &[f32], velocity: &mut [f32]) {
        struct Step<'a>(Sgd, &'a mut [f32], &'a [f32], &'a mut [f32]);
        impl Kernel for Step<'_> {
            #[inline(always)]
            fn run<A: Arithmetic>(self) {
                let Step(Sgd { rate, momentum, decay }, weights, gradient, velocity) = self;
                for ((w, &gradient), v) in weights.iter_mut().zip(gradient).zip(velocity) {
                    let g = A::fma(decay, *w, gradient);
                    *v = A::fma(momentum, *v, g);
                    *w = A::fma(-rate, *v, *w);
                }
            }
        }
        assert_eq!(weights.len(), gradient.len(), "one gradient a weight");
        assert_eq!(weights.len(), velocity.len(), "one velocity a weight");
        cpu.run(Step(*self, weights, gradient, velocity));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cpus, hash, uniform};

    #[test]
    fn three_steps_give_the_golden_bits_on_every_cpu() {
        for cpu in cpus() {
            let (mut weights, gradient) = (uniform(10_001, 13), uniform(10_001, 14));
            let mut velocity = vec![0.0; 10_001];
            for rate in [0.1, 0.05, 0.01] {
                Sgd { rate, momentum: 0.9, decay: 0.01 }.apply(
                    &cpu,
                    &mut weights,
                    &gradient,
                    &mut velocity,
                );
            }
            assert_eq!(hash(&weights), "79a7d59a2b11a8bd", "{cpu:?}");
        }
    }

    #[test]
    fn plain_descent_is_one_fused_step() {
        let cpu = Cpu::new(crate::Threads(1));
        let (mut weights, mut velocity) = ([1.0f32, -2.0], [0.0; 2]);
        Sgd { rate: 0.5, momentum: 0.0, decay: 0.0 }.apply(
            &cpu,
            &mut weights,
            &[1.0, -1.0],
            &mut velocity,
        );
        assert_eq!(weights, [0.5, -1.5]);
    }
}
