//! Orders of rows: a keyed bijection, so that the row at any place is found without the other places.
//!
//! A Fisher–Yates shuffle is one long dependency; a bijection lets each of a GPU's threads find its own row,
//! and lets a training that was cut short go on in the middle of an epoch.

use crate::arithmetic::Arithmetic;
use crate::cpu::{Cpu, Kernel};
use crate::random::Philox;

/// Rounds of the network: enough for every order of four elements to be as likely as any other.
const ROUNDS: usize = 16;

/// A permutation of the numbers below `len`, named by a Philox stream.
///
/// An alternating Feistel network over as many bits as the largest number has (at least two): in even rounds
/// the high half takes `xor mix(key, low)`, in odd rounds the low half takes `xor mix(key, high)`. Results that
/// are not below `len` go through the network again (Black and Rogaway's cycle walking, "Ciphers with
/// arbitrary finite domains", 2002).
#[derive(Clone, Copy, Debug)]
pub struct Order {
    keys: [u32; ROUNDS],
    low_bits: u32,
    high_bits: u32,
    len: u32,
}

impl Order {
    /// The order of `len` elements that `stream` names. Round r has word r mod 4 of block r / 4 as its key.
    pub fn new(stream: Philox, len: u32) -> Order {
        let mut keys = [0; ROUNDS];
        for (index, part) in keys.chunks_exact_mut(4).enumerate() {
            part.copy_from_slice(&stream.block(index as u64));
        }
        let bits = (u32::BITS - len.saturating_sub(1).leading_zeros()).max(2);
        let high_bits = bits / 2;
        Order { keys, low_bits: bits - high_bits, high_bits, len }
    }

    /// How many elements it orders.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it orders nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The keys of the rounds and the widths of both halves, as a kernel takes them: low, then high.
    #[must_use]
    pub fn parts(&self) -> ([u32; ROUNDS], u32, u32) {
        (self.keys, self.low_bits, self.high_bits)
    }

    /// The element at `place`.
    ///
    /// # Panics
    /// If `place` is not below the length.
    #[must_use]
    pub fn at(&self, place: u32) -> u32 {
        assert!(place < self.len, "place {place} of {}", self.len);
        self.walk(self.network(place))
    }

    /// The elements from `first` on, as many as `out` holds.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn fill(&self, cpu: &Cpu, first: u32, out: &mut [u32]) {
        struct Fill<'a>(&'a Order, u32, &'a mut [u32]);
        impl Kernel for Fill<'_> {
            #[inline(always)]
            fn run<A: Arithmetic>(self) {
                let Fill(order, first, out) = self;
                // All of them once, in the CPU's vectors; then those few that left the range.
                for (offset, element) in out.iter_mut().enumerate() {
                    *element = order.network(first.wrapping_add(offset as u32));
                }
                for element in out {
                    *element = order.walk(*element);
                }
            }
        }
        let end = u64::from(first) + out.len() as u64;
        assert!(end <= u64::from(self.len), "places up to {end} of {}", self.len);
        cpu.run(Fill(self, first, out));
    }

    /// Through the network until the result is below the length. The start was, so the walk along its cycle
    /// comes back to such a number.
    #[inline(always)]
    fn walk(&self, mut element: u32) -> u32 {
        while element >= self.len {
            element = self.network(element);
        }
        element
    }

    #[inline(always)]
    fn network(&self, value: u32) -> u32 {
        let low_mask = u32::MAX >> (u32::BITS - self.low_bits);
        let high_mask = u32::MAX >> (u32::BITS - self.high_bits);
        let (mut low, mut high) = (value & low_mask, value >> self.low_bits);
        for pair in self.keys.as_chunks::<2>().0 {
            high ^= mix(pair[0], low) & high_mask;
            low ^= mix(pair[1], high) & low_mask;
        }
        high << self.low_bits | low
    }
}

/// `value xor key` through the finaliser of MurmurHash3 (Appleby), a bijection that lets every bit reach every
/// other.
#[inline(always)]
fn mix(key: u32, value: u32) -> u32 {
    let mut hash = value ^ key;
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85EB_CA6B);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xC2B2_AE35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cpus;

    fn all(seed: u64, stream: u64, len: u32) -> Vec<u32> {
        let order = Order::new(Philox::new(seed, stream), len);
        (0..len).map(|place| order.at(place)).collect()
    }

    #[test]
    fn every_length_is_permuted() {
        for len in (0..70).chain([127, 128, 129, 1000, 4096, 65_537]) {
            let mut elements = all(1, u64::from(len), len);
            elements.sort_unstable();
            assert!(elements.iter().copied().eq(0..len), "{len}");
        }
    }

    #[test]
    fn the_golden_order_comes_out_of_every_cpu_and_from_any_place_on() {
        let golden = [7, 6, 1, 8, 4, 5, 9, 0, 3, 2];
        assert_eq!(all(7, 0, 10), golden);
        for cpu in cpus() {
            let order = Order::new(Philox::new(7, 0), 10);
            let mut part = [0; 6];
            order.fill(&cpu, 4, &mut part);
            assert_eq!(part, golden[4..]);
            let order = Order::new(Philox::new(3, 8), 100_003);
            let mut elements = vec![0; 100_003];
            order.fill(&cpu, 0, &mut elements);
            let bytes: Vec<u8> = elements.iter().flat_map(|e| e.to_le_bytes()).collect();
            assert_eq!(&blake3::hash(&bytes).to_hex()[..16], "20bee90d56b7dbcd");
        }
    }

    #[test]
    fn orders_of_few_elements_are_equally_likely() {
        for len in [2u32, 3, 4] {
            let orders = (1..=len).product::<u32>() as usize;
            let mut counts = std::collections::BTreeMap::new();
            for stream in 0..1000 * orders as u64 {
                *counts.entry(all(5, stream, len)).or_insert(0) += 1;
            }
            assert_eq!(counts.len(), orders);
            assert!(counts.values().all(|n| (850..1150).contains(n)), "{counts:?}");
        }
    }

    #[test]
    fn every_element_comes_to_every_place_equally_often_and_neighbours_part() {
        let len = 50;
        let mut places = vec![0u32; 2500];
        let mut neighbours = vec![0u32; 2500];
        for stream in 0..50_000 {
            let order = all(11, stream, len);
            for (place, &element) in order.iter().enumerate() {
                places[place * 50 + element as usize] += 1;
            }
            for pair in order.windows(2) {
                neighbours[(pair[0] * 50 + pair[1]) as usize] += 1;
            }
        }
        // 1000 expected, with a standard deviation of 31; of 2500 figures the furthest lies some 3.6 of these away.
        assert!(places.iter().all(|n| (830..1170).contains(n)));
        let off_diagonal = neighbours.iter().enumerate().filter(|(i, _)| i / 50 != i % 50);
        assert!(off_diagonal.into_iter().all(|(_, n)| (830..1170).contains(n)));
    }

    #[test]
    fn the_largest_range_is_a_bijection_of_all_words() {
        let order = Order::new(Philox::new(1, 1), u32::MAX);
        let elements: std::collections::BTreeSet<u32> =
            (0..10_000).chain(u32::MAX - 10_000..u32::MAX).map(|p| order.at(p)).collect();
        assert_eq!(elements.len(), 20_000);
    }
}
