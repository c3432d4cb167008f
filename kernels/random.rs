//! Random numbers by counter: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1,
//! 2, 3", 2011). Number i of a stream is a pure function of seed, stream and i, so any part of any
//! stream can be made anywhere, in any order.

/// One stream of random numbers: seed and stream name it, nothing else is in it.
#[derive(Clone, Copy, Debug)]
pub struct Philox {
    key: [u32; 2],
    stream: [u32; 2],
}

impl Philox {
    /// Stream number `stream` of `seed`. The key is the seed (low word first); the counter of block
    /// `b` is `b` (low word, high word), then the stream (low word, high word).
    pub fn new(seed: u64, stream: u64) -> Philox {
        Philox { key: words(seed), stream: words(stream) }
    }

    /// Key and the counter's upper half, low words first, as a kernel takes them.
    #[must_use]
    pub fn parts(&self) -> ([u32; 2], [u32; 2]) {
        (self.key, self.stream)
    }

    /// Block `index` of the stream: four independent words.
    #[inline(always)]
    pub fn block(&self, index: u64) -> [u32; 4] {
        let [low, high] = words(index);
        rounds([low, high, self.stream[0], self.stream[1]], self.key)
    }

    /// Fills `out` with numbers in [low, high): element i takes word i mod 4 of block i / 4 as
    /// `u = (word >> 8) · 2⁻²⁴`, and is `fma(u, high - low, low)`.
    pub fn fill_uniform(&self, out: &mut [f32], low: f32, high: f32) {
        use crate::arithmetic::{Arithmetic, Emulated};
        for (index, part) in out.chunks_mut(4).enumerate() {
            let block = self.block(index as u64);
            for (value, word) in part.iter_mut().zip(block) {
                let unit = (word >> 8) as f32 * (1.0 / 16_777_216.0);
                *value = Emulated::fma(unit, high - low, low);
            }
        }
    }
}

#[inline(always)]
fn words(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

#[inline(always)]
fn rounds(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [low0, high0] = words(0xD251_1F53 * u64::from(counter[0]));
        let [low1, high1] = words(0xCD9E_8D57 * u64::from(counter[2]));
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hash;

    #[test]
    fn blocks_are_the_published_known_answers() {
        // kat_vectors of Random123, `philox 4x32 10`.
        let all = u64::MAX;
        assert_eq!(
            Philox::new(0, 0).block(0),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            Philox::new(all, all).block(all),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        let pi = Philox::new(0x299f_31d0_a409_3822, 0x0370_7344_1319_8a2e);
        assert_eq!(
            pi.block(0x85a3_08d3_243f_6a88),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn uniform_numbers_fill_their_range_evenly() {
        let mut values = vec![0.0; 100_001];
        Philox::new(1, 2).fill_uniform(&mut values, -3.0, 5.0);
        assert!(values.iter().all(|v| (-3.0..5.0).contains(v)));
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        assert_eq!(hash(&values), "8480f2761f357c5d");
    }
}
