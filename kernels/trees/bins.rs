//! From numbers to bins: cuts at quantiles, and a table of one byte a value.

use crate::Cpu;

/// The most bins of a feature, the one for missing values aside.
pub const MOST_BINS: usize = 255;

/// Where each feature is cut. A value lies in bin k if k cuts are below it; NaN is a missing value.
#[derive(Clone, Debug, PartialEq)]
pub struct Cuts {
    cuts: Vec<Vec<f32>>,
}

impl Cuts {
    /// Cuts each column of `sample` (rows × features, finite or NaN) into at most `bins` bins. With
    /// no more different values than bins, between each two neighbours; otherwise, of the m sorted
    /// values, before number ⌊k · m / bins⌋ for each k, or after its equals if the value before is
    /// equal. A cut is the middle of both neighbours (in binary64, rounded), or the lower one where
    /// that rounds to the upper.
    ///
    /// # Panics
    /// If `sample` is not whole rows or `bins` is not within 2 to [`MOST_BINS`].
    pub fn fit(cpu: &Cpu, sample: &[f32], features: usize, bins: usize) -> Cuts {
        assert!((2..=MOST_BINS).contains(&bins), "2 to {MOST_BINS} bins");
        assert!(features > 0 && sample.len().is_multiple_of(features), "whole rows of {features}");
        let columns = (0..features).collect();
        let cuts = cpu.each(columns, |feature: usize| {
            let column = sample.iter().skip(feature).step_by(features);
            // The bits of numbers, turned so that integers sort as the numbers do.
            let mut keys: Vec<u32> =
                column.filter(|value| !value.is_nan()).map(|value| key(*value + 0.0)).collect();
            keys.sort_unstable();
            column_cuts(&keys, bins)
        });
        Cuts { cuts }
    }

    /// How many features there are.
    pub fn features(&self) -> usize {
        self.cuts.len()
    }

    /// The cuts of a feature, ascending; at most 254.
    pub fn of(&self, feature: usize) -> &[f32] {
        &self.cuts[feature]
    }

    /// The bin that holds missing values.
    pub(super) fn missing(&self, feature: usize) -> usize {
        self.cuts[feature].len() + 1
    }
}

/// A number's bits in an order that integers share.
fn key(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn value(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

/// The cuts of one column, from its sorted keys.
fn column_cuts(keys: &[u32], bins: usize) -> Vec<f32> {
    let distinct = keys.chunk_by(|a, b| a == b).take(bins + 1).count();
    let mut cuts: Vec<f32> = Vec::new();
    let mut cut = |before: u32, after: u32| {
        let (low, high) = (value(before), value(after));
        let middle = (0.5 * (f64::from(low) + f64::from(high))) as f32;
        let cut = if middle < high { middle } else { low };
        if cuts.last() != Some(&cut) {
            cuts.push(cut);
        }
    };
    if distinct <= bins {
        for pair in keys.windows(2).filter(|pair| pair[0] != pair[1]) {
            cut(pair[0], pair[1]);
        }
        return cuts;
    }
    for k in 1..bins {
        let place = k * keys.len() / bins;
        let Some(before) = place.checked_sub(1).map(|before| keys[before]) else { continue };
        // After the equals of the value in front, if the place is in the midst of them.
        let after = place + keys[place..].partition_point(|key| *key == before);
        if let Some(&next) = keys.get(after) {
            cut(keys[after - 1], next);
        }
    }
    cuts
}

/// A table of bins, a byte a value, by rows (for histograms) and by columns (for partitions).
#[derive(Clone, Debug)]
pub struct Bins {
    cuts: Cuts,
    by_row: Vec<u8>,
    by_column: Vec<Vec<u8>>,
}

impl Bins {
    /// A table without rows.
    pub fn new(cuts: Cuts) -> Bins {
        let by_column = vec![Vec::new(); cuts.features()];
        Bins { cuts, by_row: Vec::new(), by_column }
    }

    /// Adds rows (rows × features, finite or NaN) at the end.
    ///
    /// # Panics
    /// If `values` is not whole rows.
    pub fn push(&mut self, cpu: &Cpu, values: &[f32]) {
        let width = self.cuts.features();
        assert!(values.len().is_multiple_of(width), "whole rows of {width}");
        let cuts = &self.cuts;
        let columns = self.by_column.iter_mut().enumerate().collect();
        cpu.each(columns, |(feature, column): (usize, &mut Vec<u8>)| {
            let mut table = [f32::INFINITY; 256];
            table[..cuts.of(feature).len()].copy_from_slice(cuts.of(feature));
            let missing = cuts.missing(feature) as u8;
            let values = values.iter().skip(feature).step_by(width);
            column.extend(values.map(|&value| bin(&table, missing, value)));
        });
        let first = self.by_row.len() / width;
        self.by_row.resize(self.by_row.len() + values.len(), 0);
        const BLOCK: usize = 1 << 14;
        let by_column = &self.by_column;
        let blocks = self.by_row[first * width..].chunks_mut(BLOCK * width).enumerate().collect();
        cpu.each(blocks, |(block, rows): (usize, &mut [u8])| {
            let first = first + block * BLOCK;
            for (feature, column) in by_column.iter().enumerate() {
                let column = &column[first..];
                for (row, bin) in rows.chunks_exact_mut(width).zip(column) {
                    row[feature] = *bin;
                }
            }
        });
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.by_column[0].len()
    }

    /// Where the features are cut.
    pub fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    pub(super) fn by_row(&self) -> &[u8] {
        &self.by_row
    }

    pub(super) fn column(&self, feature: usize) -> &[u8] {
        &self.by_column[feature]
    }
}

/// How many cuts lie below `value`; `missing` for NaN. The table is filled up with infinity.
#[inline(always)]
fn bin(table: &[f32; 256], missing: u8, value: f32) -> u8 {
    let mut at = 0_usize;
    for step in [128, 64, 32, 16, 8, 4, 2, 1] {
        at += if table[(at + step - 1) & 255] < value { step } else { 0 };
    }
    if value.is_nan() { missing } else { at as u8 }
}
