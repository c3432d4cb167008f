//! A product of very few rows, such as one that a model is asked about: `b` is read where it lies, since arranging it anew
//! would take longer than the product.

use super::Start;
use crate::arithmetic::Arithmetic;
use crate::cpu::Kernel;
use crate::matrix::Matrix;
use crate::reduce::CHUNK;

/// Rows up to which this is faster.
pub(super) const MOST: usize = 3;

/// The whole product, one row after another. The rows of `b` lie as one piece each.
pub(super) struct Few<'a> {
    pub(super) a: Matrix<'a>,
    pub(super) b: Matrix<'a>,
    pub(super) start: Start<'a>,
    pub(super) out: &'a mut [f32],
}

impl Kernel for Few<'_> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        let Few { a, b, start, out } = self;
        for (row, out) in out.chunks_exact_mut(b.cols()).enumerate() {
            let mut left = 0;
            while left < b.cols() {
                let columns = Columns { a, row, b, left, start };
                // As many chains at a time as there are registers for, so that they hide each other's waits.
                left += match b.cols() - left {
                    64.. => columns.sum::<A, 64>(out),
                    32.. => columns.sum::<A, 32>(out),
                    8.. => columns.sum::<A, 8>(out),
                    _ => columns.sum::<A, 1>(out),
                };
            }
        }
    }
}

/// Some columns of one row.
struct Columns<'a> {
    a: Matrix<'a>,
    row: usize,
    b: Matrix<'a>,
    left: usize,
    start: Start<'a>,
}

impl Columns<'_> {
    /// Puts `C` of them in their places, and gives how many these are.
    #[inline(always)]
    fn sum<A: Arithmetic, const C: usize>(&self, out: &mut [f32]) -> usize {
        let out: &mut [f32; C] =
            (&mut out[self.left..self.left + C]).try_into().expect("a piece of C columns");
        let depth = self.b.rows();
        let mut from = 0;
        loop {
            let to = depth.min(from + CHUNK);
            let mut sums = [0.0_f32; C];
            if let (0, Start::Bias(bias)) = (from, self.start) {
                sums.copy_from_slice(&bias[self.left..self.left + C]);
            }
            for k in from..to {
                let factor = self.a.at(self.row, k);
                let row: &[f32; C] = self.b.row(k)[self.left..self.left + C]
                    .try_into()
                    .expect("a piece of C columns");
                for c in 0..C {
                    sums[c] = A::fma(factor, row[c], sums[c]);
                }
            }
            for (value, sum) in out.iter_mut().zip(sums) {
                *value = if from == 0 { sum } else { *value + sum };
            }
            from = to;
            if from >= depth {
                return C;
            }
        }
    }
}
