//! Sums in a fixed order.
//!
//! Long sums run in chunks of [`CHUNK`]; sums along a row run in [`LANES`] lanes that are folded by
//! a fixed tree, which is what a GPU warp does with `shfl_xor`.

use crate::arithmetic::Arithmetic;
use crate::cpu::{Cpu, Kernel};
use crate::matrix::Matrix;

/// Terms in one link of a long chain.
pub const CHUNK: usize = 512;
/// Lanes of a row sum.
pub const LANES: usize = 32;

/// Lane l adds terms l, l + 32, l + 64, … in that order, each starting at zero.
#[derive(Clone, Copy)]
pub(crate) struct LaneSum {
    lanes: [f32; LANES],
}

impl LaneSum {
    pub(crate) const ZERO: LaneSum = LaneSum { lanes: [0.0; LANES] };

    /// Adds term number `index`.
    #[inline(always)]
    pub(crate) fn add(&mut self, index: usize, term: f32) {
        self.lanes[index % LANES] += term;
    }

    /// Folds by lane distance 16, 8, 4, 2, 1: lane l takes `l + (l xor distance)`.
    #[inline(always)]
    pub(crate) fn total(self) -> f32 {
        let mut lanes = self.lanes;
        let mut distance = LANES / 2;
        while distance > 0 {
            for l in 0..distance {
                lanes[l] += lanes[l + distance];
            }
            distance /= 2;
        }
        lanes[0]
    }
}

/// `out[j]` = the sum of column j of `x`, rows ascending: chunks of 512 rows, each a chain of
/// additions from zero, added up in ascending order.
///
/// # Panics
/// If `out` has not `x.cols()` elements.
pub fn column_sums(cpu: &Cpu, x: Matrix<'_>, out: &mut [f32]) {
    assert_eq!(out.len(), x.cols(), "one sum a column");
    cpu.run(ColumnSums { x, out });
}

struct ColumnSums<'a> {
    x: Matrix<'a>,
    out: &'a mut [f32],
}

impl Kernel for ColumnSums<'_> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        let ColumnSums { x, out } = self;
        let mut chunk = vec![0.0f32; out.len()];
        let mut first = 0;
        loop {
            chunk.fill(0.0);
            let last = x.rows().min(first + CHUNK);
            for row in first..last {
                for (j, sum) in chunk.iter_mut().enumerate() {
                    *sum += x.at(row, j);
                }
            }
            for (total, part) in out.iter_mut().zip(&chunk) {
                *total = if first == 0 { *part } else { *total + *part };
            }
            first = last;
            if first >= x.rows() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cpus, uniform};

    #[test]
    fn column_sums_follow_the_chunked_chain_on_every_cpu() {
        for rows in [0, 1, 511, 512, 513, 1500] {
            let data = uniform(rows * 5, 3);
            let want: Vec<f32> = (0..5)
                .map(|j| {
                    let column: Vec<f32> = (0..rows).map(|r| data[r * 5 + j]).collect();
                    let mut parts = column.chunks(512).map(|c| c.iter().fold(0.0, |s, v| s + v));
                    let first = parts.next().unwrap_or(0.0);
                    parts.fold(first, |s, part| s + part)
                })
                .collect();
            for cpu in cpus() {
                let mut got = [9.0; 5];
                column_sums(&cpu, Matrix::new(&data, rows, 5), &mut got);
                assert_eq!(got.as_slice(), want, "{rows} rows, {cpu:?}");
            }
        }
    }

    #[test]
    fn lane_sums_fold_like_a_warp() {
        let terms = uniform(77, 8);
        let mut sum = LaneSum::ZERO;
        for (i, &term) in terms.iter().enumerate() {
            sum.add(i, term);
        }
        let mut lanes = [0.0f32; 32];
        for (i, term) in terms.iter().enumerate() {
            lanes[i % 32] += term;
        }
        for distance in [16, 8, 4, 2, 1] {
            let before = lanes;
            for l in 0..32 {
                lanes[l] = before[l] + before[l ^ distance];
            }
        }
        assert!(lanes.iter().all(|&l| l == sum.total()));
    }
}
