//! The matrix product: the chains that nearly all of training consists of.
//!
//! `out[i][j]` starts at `start[j]` and takes `fma(a[i][k], b[k][j], ·)` for k ascending, in chunks of
//! [`CHUNK`]: the first chunk starts at the start value, the others at zero, and the chunks are added
//! up in ascending order. Packing and register tiles change the order in which *elements* are
//! computed, never the order within one.

mod few;

use crate::arithmetic::Arithmetic;
use crate::cpu::{Cpu, Kernel};
use crate::matrix::Matrix;
use crate::reduce::CHUNK;

/// Where each chain of a product starts.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// At zero.
    Zero,
    /// Column j starts at element j.
    Bias(&'a [f32]),
}

/// `out = start + a · b`, row by row; shapes `a`: m × k, `b`: k × n, `out`: m × n.
///
/// # Panics
/// If the shapes do not fit.
pub fn product(cpu: &Cpu, a: Matrix<'_>, b: Matrix<'_>, start: Start<'_>, out: &mut [f32]) {
    assert_eq!(a.cols, b.rows, "inner sizes");
    assert_eq!(out.len(), a.rows * b.cols, "size of the product");
    if let Start::Bias(bias) = start {
        assert_eq!(bias.len(), b.cols, "one start value a column");
    }
    if out.is_empty() {
        return;
    }
    if a.rows <= few::MOST && b.has_whole_rows() {
        return cpu.run(few::Few { a, b, start, out });
    }
    let panels = Panels::pack(b);
    let part = cpu.rows_per_thread(a.rows, a.cols * b.cols, QUANTUM);
    cpu.over_rows(out, b.cols, part, |first_row, out| {
        cpu.run(Rows { a, panels: &panels, start, first_row, out });
    });
}

/// Columns of a register tile.
const WIDTH: usize = 32;
/// Threads get multiples of this many rows: whole tiles for every instruction set.
const QUANTUM: usize = 12;

/// `b` rearranged: for each panel of [`WIDTH`] columns, its rows one after another, padded with zeros.
struct Panels {
    data: Vec<f32>,
    depth: usize,
    cols: usize,
}

impl Panels {
    fn pack(b: Matrix<'_>) -> Panels {
        let mut data = vec![0.0; b.cols.div_ceil(WIDTH) * WIDTH * b.rows];
        if b.rows > 0 {
            for (panel, part) in data.chunks_exact_mut(WIDTH * b.rows).enumerate() {
                let first = panel * WIDTH;
                let width = WIDTH.min(b.cols - first);
                for (k, row) in part.chunks_exact_mut(WIDTH).enumerate() {
                    for (j, value) in row[..width].iter_mut().enumerate() {
                        *value = b.at(k, first + j);
                    }
                }
            }
        }
        Panels { data, depth: b.rows, cols: b.cols }
    }

    /// Rows `from..to` of panel `index`.
    #[inline(always)]
    fn rows(&self, index: usize, from: usize, to: usize) -> &[[f32; WIDTH]] {
        let base = index * WIDTH * self.depth;
        self.data[base + from * WIDTH..base + to * WIDTH].as_chunks().0
    }
}

/// Some consecutive rows of the product.
struct Rows<'a> {
    a: Matrix<'a>,
    panels: &'a Panels,
    start: Start<'a>,
    first_row: usize,
    out: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    #[inline(always)]
    fn run<A: Arithmetic>(self) {
        // The tile's height is a property of the arithmetic; the branches fold away.
        match A::TILE_ROWS {
            12 => self.tiled::<A, 12, 32>(),
            6 => self.tiled::<A, 6, 16>(),
            _ => self.tiled::<A, 4, 8>(),
        }
    }
}

impl Rows<'_> {
    #[inline(always)]
    fn tiled<A: Arithmetic, const R: usize, const C: usize>(self) {
        let Rows { a, panels, start, first_row, out } = self;
        let (depth, cols) = (panels.depth, panels.cols);
        let rows = out.len() / cols;
        let mut packed = [[0.0f32; R]; CHUNK];
        let mut from = 0;
        loop {
            let to = depth.min(from + CHUNK);
            for top in (0..rows).step_by(R) {
                let height = R.min(rows - top);
                for (k, column) in packed[..to - from].iter_mut().enumerate() {
                    *column = [0.0; R];
                    for (r, value) in column[..height].iter_mut().enumerate() {
                        *value = a.at(first_row + top + r, from + k);
                    }
                }
                for left in (0..cols).step_by(C) {
                    let width = C.min(cols - left);
                    let mut tile = [[0.0f32; C]; R];
                    if let (0, Start::Bias(bias)) = (from, start) {
                        for row in &mut tile {
                            row[..width].copy_from_slice(&bias[left..left + width]);
                        }
                    }
                    let panel = panels.rows(left / WIDTH, from, to);
                    chains::<A, R, C>(&packed[..to - from], panel, left % WIDTH, &mut tile);
                    for (r, row) in tile[..height].iter().enumerate() {
                        let place = (top + r) * cols + left;
                        let target = &mut out[place..place + width];
                        for (value, &sum) in target.iter_mut().zip(row) {
                            *value = if from == 0 { sum } else { *value + sum };
                        }
                    }
                }
            }
            from = to;
            if from >= depth {
                break;
            }
        }
    }
}

/// Carries R × C chains on through one chunk, all of them in registers.
#[inline(always)]
fn chains<A: Arithmetic, const R: usize, const C: usize>(
    a: &[[f32; R]],
    b: &[[f32; WIDTH]],
    offset: usize,
    tile: &mut [[f32; C]; R],
) {
    let mut sums = *tile;
    for (column, row) in a.iter().zip(b) {
        let row: &[f32; C] =
            row[offset..offset + C].try_into().expect("C divides WIDTH and offset is a multiple");
        for r in 0..R {
            for c in 0..C {
                sums[r][c] = A::fma(column[r], row[c], sums[r][c]);
            }
        }
    }
    *tile = sums;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cpus, hash, uniform};

    /// The definition, spelled out.
    fn reference(a: Matrix<'_>, b: Matrix<'_>, start: Start<'_>) -> Vec<f32> {
        let mut out = Vec::new();
        for i in 0..a.rows {
            for j in 0..b.cols {
                let mut total = 0.0;
                for chunk in 0..a.cols.div_ceil(512).max(1) {
                    let mut sum = match start {
                        Start::Bias(bias) if chunk == 0 => bias[j],
                        _ => 0.0,
                    };
                    for k in chunk * 512..a.cols.min((chunk + 1) * 512) {
                        sum = a.at(i, k).mul_add(b.at(k, j), sum);
                    }
                    total = if chunk == 0 { sum } else { total + sum };
                }
                out.push(total);
            }
        }
        out
    }

    #[test]
    fn every_edge_shape_equals_the_definition_on_every_cpu() {
        for (m, k, n) in [
            (1, 1, 1),
            (3, 0, 2),
            (5, 7, 1),
            (13, 30, 33),
            (12, 512, 32),
            (7, 513, 17),
            (2, 1100, 65),
            (1, 30, 64),
            (1, 513, 107),
            (3, 64, 41),
            (3, 0, 70),
            (4, 64, 41),
        ] {
            let (a, b, bias) = (uniform(m * k, 1), uniform(k * n, 2), uniform(n, 3));
            let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
            for start in [Start::Zero, Start::Bias(&bias)] {
                let want = reference(a, b, start);
                for cpu in cpus() {
                    let mut got = vec![f32::NAN; m * n];
                    product(&cpu, a, b, start, &mut got);
                    assert_eq!(got, want, "{m} × {k} × {n}, {cpu:?}");
                }
            }
        }
    }

    #[test]
    fn transposed_views_equal_transposed_copies() {
        let (a, b) = (uniform(20 * 9, 4), uniform(20 * 11, 5));
        let at: Vec<f32> = (0..180).map(|i| a[(i % 20) * 9 + i / 20]).collect();
        let cpu = Cpu::new(crate::Threads(1));
        let (mut viewed, mut copied) = (vec![0.0; 99], vec![0.0; 99]);
        let b = Matrix::new(&b, 20, 11);
        product(&cpu, Matrix::new(&a, 20, 9).transposed(), b, Start::Zero, &mut viewed);
        product(&cpu, Matrix::new(&at, 9, 20), b, Start::Zero, &mut copied);
        assert_eq!(viewed, copied);
    }

    #[test]
    fn thread_counts_and_instruction_sets_do_not_change_a_bit() {
        // Large enough that seven threads are really used.
        let (m, k, n) = (100, 600, 130);
        assert!(m * k * n > 7 << 20);
        let (a, b, bias) = (uniform(m * k, 6), uniform(k * n, 7), uniform(n, 8));
        for cpu in cpus() {
            let mut out = vec![0.0; m * n];
            let b = Matrix::new(&b, k, n);
            product(&cpu, Matrix::new(&a, m, k), b, Start::Bias(&bias), &mut out);
            assert_eq!(hash(&out), "a36a07a282f1fa27", "{cpu:?}");
        }
    }
}
