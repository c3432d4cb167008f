//! Sums of derivatives by bin, and the best cut that they show.

use super::bins::Bins;

/// Features that share a pass over the rows: their bins fill the first cache.
pub(super) const GROUP: usize = 16;
/// Rows whose packed words may be added up before the lower half could overflow.
const BLOCK: usize = 1 << 15;

/// First and second derivatives, summed.
pub(super) type Sums = [i64; 2];

/// The histograms of some features: the slots of each one after the other, the last of a feature
/// for missing values.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    sums: Vec<Sums>,
    /// Rows of each slot; empty where nobody asks.
    rows: Vec<u32>,
}

/// What splits must fulfil, in the units of the integer sums.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// L2 penalty, in units of the second derivatives.
    pub(super) l2: f64,
    /// The least sum of second derivatives in a child.
    pub(super) weight: f64,
    /// The fewest rows of a child; counted only if above 1.
    pub(super) rows: u32,
    /// The gain that must be passed.
    pub(super) gain: f64,
}

/// Where a node is cut in two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Split {
    pub(super) gain: f64,
    pub(super) feature: usize,
    pub(super) bin: usize,
    pub(super) missing_left: bool,
    /// The left child's sums.
    pub(super) left: Sums,
}

impl Histogram {
    /// Of `rows`, for `features` (at most [`GROUP`], ascending).
    pub(super) fn build(
        bins: &Bins,
        features: &[usize],
        rows: &[u32],
        words: &[u64],
        counts: bool,
    ) -> Histogram {
        let mut histogram = Histogram::default();
        let slots = |feature: &usize| bins.cuts().missing(*feature) + 1;
        histogram.sums = vec![[0; 2]; features.iter().map(slots).sum()];
        if counts {
            histogram.rows = vec![0; histogram.sums.len()];
        }
        let mut sums = vec![[0_u64; 256]; features.len()];
        for rows in rows.chunks(BLOCK) {
            accumulate(bins, features, rows, |row| words[row], &mut sums);
            histogram.drain(bins, features, &mut sums, |histogram, slot, word| {
                let lower = word & 0xffff_ffff;
                histogram.sums[slot][0] += (word.wrapping_sub(lower) as i64) >> 32;
                histogram.sums[slot][1] += lower as i64;
            });
            if counts {
                accumulate(bins, features, rows, |_| 1, &mut sums);
                histogram.drain(bins, features, &mut sums, |histogram, slot, word| {
                    histogram.rows[slot] += word as u32;
                });
            }
        }
        histogram
    }

    fn drain(
        &mut self,
        bins: &Bins,
        features: &[usize],
        sums: &mut [[u64; 256]],
        add: impl Fn(&mut Histogram, usize, u64),
    ) {
        let mut slot = 0;
        for (feature, sums) in features.iter().zip(sums) {
            for word in &mut sums[..=bins.cuts().missing(*feature)] {
                add(self, slot, *word);
                *word = 0;
                slot += 1;
            }
        }
    }

    /// What is left of it without `other`: exact, since the sums are integers.
    pub(super) fn subtract(&mut self, other: &Histogram) {
        for (sum, other) in self.sums.iter_mut().zip(&other.sums) {
            sum[0] -= other[0];
            sum[1] -= other[1];
        }
        for (rows, other) in self.rows.iter_mut().zip(&other.rows) {
            *rows -= other;
        }
    }

    /// The sums over all rows.
    pub(super) fn total(&self, bins: &Bins, features: &[usize]) -> Sums {
        let slots = bins.cuts().missing(features[0]) + 1;
        self.sums[..slots].iter().fold([0; 2], |total, sum| plus(total, *sum))
    }

    /// The best split of a node with these sums and rows; the lowest feature and bin of equals, and
    /// of these the one with missing values to the left.
    pub(super) fn best(
        &self,
        bins: &Bins,
        features: &[usize],
        total: Sums,
        rows: u32,
        limits: &Limits,
    ) -> Option<Split> {
        let mut best: Option<Split> = None;
        let mut first = 0;
        for &feature in features {
            let slots = bins.cuts().missing(feature) + 1;
            let counts = self.rows.get(first..first + slots);
            let scan = Scan { sums: &self.sums[first..first + slots], counts, total, rows, limits };
            let least = best.map_or(limits.gain, |best| best.gain);
            if let Some(found) = scan.best(feature, least) {
                best = Some(found);
            }
            first += slots;
        }
        best
    }
}

fn plus(a: Sums, b: Sums) -> Sums {
    [a[0] + b[0], a[1] + b[1]]
}

/// One feature's histogram in one node.
struct Scan<'a> {
    sums: &'a [Sums],
    counts: Option<&'a [u32]>,
    total: Sums,
    rows: u32,
    limits: &'a Limits,
}

impl Scan<'_> {
    fn best(&self, feature: usize, least: f64) -> Option<Split> {
        let (missing, values) = self.sums.split_last()?;
        let missing_rows = self.counts.and_then(|counts| counts.last()).copied().unwrap_or(0);
        let has_missing = *missing != [0; 2] || missing_rows > 0;
        let limits = self.limits;
        let whole = score(self.total, limits.l2);
        let total = self.total[1] as f64;
        let mut best: Option<Split> = None;
        let mut gain_to_pass = least;
        let (mut below, mut rows_below) = ([0_i64; 2], 0_u32);
        for (bin, sum) in values.iter().enumerate() {
            below = plus(below, *sum);
            rows_below += self.counts.map_or(0, |counts| counts[bin]);
            for missing_left in [true, false] {
                if missing_left && !has_missing {
                    continue;
                }
                let left = if missing_left { plus(below, *missing) } else { below };
                let weight = left[1] as f64;
                // A child's second derivatives must be above zero, whatever the limit.
                if left[1] <= 0
                    || left[1] >= self.total[1]
                    || weight < limits.weight
                    || total - weight < limits.weight
                {
                    continue;
                }
                if limits.rows > 1 {
                    let rows = rows_below + if missing_left { missing_rows } else { 0 };
                    if rows < limits.rows || self.rows - rows < limits.rows {
                        continue;
                    }
                }
                let right = [self.total[0] - left[0], self.total[1] - left[1]];
                let gain = (score(left, limits.l2) + score(right, limits.l2)) - whole;
                if gain > gain_to_pass {
                    gain_to_pass = gain;
                    // Without missing values in the node, they follow the heavier child.
                    let missing_left = if has_missing { missing_left } else { left[1] >= right[1] };
                    best = Some(Split { gain, feature, bin, missing_left, left });
                }
            }
        }
        best
    }
}

/// `G² / (H + λ)`.
#[inline(always)]
fn score(sums: Sums, l2: f64) -> f64 {
    let first = sums[0] as f64;
    first * first / (sums[1] as f64 + l2)
}

/// Adds each row's word to its bin of each feature.
fn accumulate(
    bins: &Bins,
    features: &[usize],
    rows: &[u32],
    word: impl Fn(usize) -> u64 + Copy,
    sums: &mut [[u64; 256]],
) {
    let width = bins.cuts().features();
    let all = bins.by_row();
    let first = features[0];
    let neighbours = features.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    macro_rules! unrolled {
        ($($n:literal)*) => {
            match features.len() {
                $($n if neighbours => {
                    let sums: &mut [[u64; 256]; $n] =
                        sums.try_into().expect("one histogram a feature");
                    for (index, &row) in rows.iter().enumerate() {
                        prefetch(all, rows, index, width, first);
                        let row = row as usize;
                        let word = word(row);
                        let bins: &[u8; $n] = all[row * width + first..][..$n]
                            .try_into()
                            .expect("as many bytes as asked for");
                        for (sums, &bin) in sums.iter_mut().zip(bins) {
                            let sum = &mut sums[bin as usize];
                            *sum = sum.wrapping_add(word);
                        }
                    }
                })*
                _ => {
                    for &row in rows {
                        let row = row as usize;
                        let word = word(row);
                        let bins = &all[row * width..][..width];
                        for (sums, &feature) in sums.iter_mut().zip(features) {
                            let sum = &mut sums[bins[feature] as usize];
                            *sum = sum.wrapping_add(word);
                        }
                    }
                }
            }
        };
    }
    unrolled!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
}

/// Asks for the bins of a row that is some rows ahead: rows of a node lie apart in memory.
#[inline(always)]
#[allow(unsafe_code)]
fn prefetch(all: &[u8], rows: &[u32], index: usize, width: usize, first: usize) {
    const AHEAD: usize = 16;
    #[cfg(target_arch = "x86_64")]
    if let Some(&row) = rows.get(index + AHEAD) {
        let place = all.as_ptr().wrapping_add(row as usize * width + first);
        // SAFETY: a prefetch reads nothing that a program could see, and faults at no address.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast())
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (all, rows, index, width, first);
}
