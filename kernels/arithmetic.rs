//! The one operation that instruction sets disagree on: a fused multiply-add with a single rounding.
//!
//! A kernel is written once, generic over [`Arithmetic`]; which type it is compiled for decides how
//! the operation is carried out, never what it gives.

/// How a fused multiply-add is carried out, and the register tile that suits it.
pub(crate) trait Arithmetic: Copy {
    /// Rows of the matrix product's register tile.
    const TILE_ROWS: usize;
    /// `a * b + c`, rounded once, to nearest, ties to even.
    fn fma(a: f32, b: f32, c: f32) -> f32;
}

/// The hardware's own instruction, with sixteen registers of eight lanes.
#[derive(Clone, Copy)]
pub(crate) struct Fused;

/// The hardware's own instruction, with thirty-two registers of sixteen lanes.
#[derive(Clone, Copy)]
pub(crate) struct WideFused;

/// Binary64 operations that every CPU has, with the rounding repaired.
#[derive(Clone, Copy)]
pub(crate) struct Emulated;

impl Arithmetic for Fused {
    const TILE_ROWS: usize = 6;

    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl Arithmetic for WideFused {
    const TILE_ROWS: usize = 12;

    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl Arithmetic for Emulated {
    const TILE_ROWS: usize = 4;

    /// The product of two binary32 numbers is exact in binary64. The sum is rounded *to odd* there
    /// (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008): with more than
    /// two spare bits, rounding an odd-rounded sum once more equals a single rounding. Unlike
    /// `f32::mul_add` on a CPU without the instruction, this calls no C library and vectorises.
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        let product = f64::from(a) * f64::from(b);
        let addend = f64::from(c);
        let sum = product + addend;
        // Knuth's two-sum: `error` is exactly what the addition lost; NaN where `sum` is not finite.
        let virtual_addend = sum - product;
        let error = (product - (sum - virtual_addend)) + (addend - virtual_addend);
        let bits = sum.to_bits();
        let inexact = (error > 0.0) | (error < 0.0);
        let even = bits & 1 == 0;
        let away_from_zero = (error > 0.0) == (sum > 0.0);
        let step = if away_from_zero { 1 } else { u64::MAX };
        let odd = if inexact & even { bits.wrapping_add(step) } else { bits };
        f64::from_bits(odd) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::{Arithmetic, Emulated};
    use proptest::prelude::*;

    fn same(a: f32, b: f32, c: f32) {
        let (got, want) = (Emulated::fma(a, b, c), a.mul_add(b, c));
        assert!(
            got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()),
            "fma({a:e}, {b:e}, {c:e}): {got:e}, not {want:e}"
        );
    }

    #[test]
    fn emulated_fma_is_exact_where_double_rounding_would_show() {
        let tiny = f32::from_bits(1);
        let specials = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            1.0 + f32::EPSILON,
            1.0 - f32::EPSILON / 2.0,
            4097.0,
            16_777_215.0,
            tiny,
            -tiny,
            f32::MIN_POSITIVE,
            f32::MAX,
            f32::MIN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            1.5e-23,
            2.0f32.powi(-24),
            2.0f32.powi(-75),
        ];
        for a in specials {
            for b in specials {
                for c in specials {
                    same(a, b, c);
                }
            }
        }
        // The product lies a hair above the midpoint of two neighbours; binary64 alone rounds the
        // hair off and then ties to even.
        let half_ulp_plus = (1.0 + f32::EPSILON) * 2.0f32.powi(-24);
        let hair = 1.0 + 2.0f32.powi(-20);
        same(half_ulp_plus, hair, 1.0);
        same(tiny, tiny, 1.0 + f32::EPSILON);
        let a = 2.0f32.powi(-12) + 2.0f32.powi(-35);
        same(a, 2.0f32.powi(-12), 1.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn emulated_fma_equals_the_fused_one(a: u32, b: u32, c: u32) {
            same(f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
        }

        #[test]
        fn emulated_fma_equals_the_fused_one_under_cancellation(a: u32, b: u32, ulps in -40i32..40) {
            let a = f32::from_bits(a & 0x007f_ffff | 0x3f80_0000);
            let b = f32::from_bits(b & 0x007f_ffff | 0x3f80_0000);
            let near = f32::from_bits((-(a * b)).to_bits().wrapping_add_signed(ulps));
            same(a, b, near);
            // Addend and product some 24 bits apart: the region of ties.
            same(a * 2.0f32.powi(-24), b, 1.0 + ulps as f32 * f32::EPSILON);
        }
    }
}
