//! What chance says of one row: numbers of several distributions, from Philox.
//!
//! Unaware of tables. Only addition, multiplication, division and the kernels' own exponential and logarithm are used.

use kiln_kernels::{Philox, log};

/// Blocks of four words that one row may use.
const BLOCKS: u64 = 32;

/// The draws of one row.
pub struct Dice {
    philox: Philox,
    next: u64,
    words: [u32; 4],
    used: usize,
}

impl Dice {
    /// Those of row `row`: blocks `32 · row` and following of stream `stream` of `seed`.
    pub fn new(seed: u64, stream: u64, row: u64) -> Self {
        Self { philox: Philox::new(seed, stream), next: row * BLOCKS, words: [0; 4], used: 4 }
    }

    fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.words = self.philox.block(self.next);
            self.next += 1;
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// Evenly between 0 and 1, neither of them.
    pub fn unit(&mut self) -> f64 {
        (f64::from(self.word()) + 0.5) / 4_294_967_296.0
    }

    /// A whole number from 0 up to, and without, `count`.
    pub fn below(&mut self, count: u32) -> u32 {
        // The upper half of a product of 32 bits each.
        u32::try_from((u64::from(self.word()) * u64::from(count)) >> 32).unwrap_or(0)
    }

    /// True with this chance.
    pub fn chance(&mut self, chance: f64) -> bool {
        self.unit() < chance
    }

    /// Mean 0, variance 1, near a normal distribution, and never beyond ±2√3: the sum of four even ones.
    pub fn normal(&mut self) -> f64 {
        const ROOT_OF_3: f64 = 1.732_050_807_568_877_2;
        (self.unit() + self.unit() + self.unit() + self.unit() - 2.0) * ROOT_OF_3
    }

    /// Exponential, of this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, reason = "the logarithm is one of f32")]
        let unit = self.unit() as f32;
        -mean * f64::from(log(unit))
    }

    /// How often in a row, at most `most` times, it was true with this chance.
    pub fn streak(&mut self, chance: f64, most: u32) -> u32 {
        // As often as it says, whatever comes of it, so that what is drawn next does not move.
        let mut length = 0;
        let mut goes_on = true;
        for _ in 0..most {
            goes_on &= self.chance(chance);
            length += u32::from(goes_on);
        }
        length
    }
}

/// The whole part of a number, within bounds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within bounds")]
pub fn whole(value: f64, least: u32, most: u32) -> u32 {
    value.clamp(f64::from(least), f64::from(most)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_their_means_and_bounds() {
        let rows = 40_000;
        let mean = |draw: fn(&mut Dice) -> f64| {
            let values = (0..rows).map(|row| draw(&mut Dice::new(3, 9, row)));
            values.sum::<f64>() / rows as f64
        };
        assert!((mean(Dice::unit) - 0.5).abs() < 0.01);
        assert!(mean(Dice::normal).abs() < 0.02);
        assert!((mean(|dice| dice.normal().powi(2)) - 1.0).abs() < 0.03);
        assert!((mean(|dice| dice.exponential(5.0)) - 5.0).abs() < 0.1);
        assert!((mean(|dice| f64::from(dice.below(7))) - 3.0).abs() < 0.05);
        // Chances of 1/2, 1/4 and 1/8 for one, two and three.
        assert!((mean(|dice| f64::from(dice.streak(0.5, 3))) - 0.875).abs() < 0.02);
        assert!((0..rows).all(|row| Dice::new(3, 9, row).below(7) < 7));
        assert_eq!([whole(-1.0, 2, 5), whole(4.9, 2, 5), whole(1e9, 2, 5)], [2, 4, 5]);
    }
}
