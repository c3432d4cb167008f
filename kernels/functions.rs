//! exp, log, tanh and sigmoid as fixed chains of IEEE operations: no C library, no tables.
//!
//! Coefficients are those of Moshier's Cephes library (`expf`, `logf`, `tanhf`), evaluated with
//! fused multiply-adds. The tests state the error bounds.

use crate::arithmetic::{Arithmetic, Emulated};

/// 1.5 · 2²³: adding and subtracting it rounds to the nearest integer, ties to even.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts, the first with few bits, so that `n · LN2_HIGH` is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// eˣ, within 1.1 units in the last place for normal results; 0 below about -103.97, infinite above
/// about 88.72; NaN stays NaN.
pub fn exp(x: f32) -> f32 {
    exp_in::<Emulated>(x)
}

/// Natural logarithm; -∞ at 0, NaN below.
pub fn log(x: f32) -> f32 {
    log_in::<Emulated>(x)
}

/// Hyperbolic tangent.
pub fn tanh(x: f32) -> f32 {
    tanh_in::<Emulated>(x)
}

/// 1 / (1 + e⁻ˣ), accurate at both ends.
pub fn sigmoid(x: f32) -> f32 {
    sigmoid_in::<Emulated>(x)
}

/// The larger number, +0 above -0; NaN if either is. Associative and commutative, so that a maximum over many may
/// be taken in any order.
pub fn maximum(a: f32, b: f32) -> f32 {
    maximum_in(a, b)
}

/// x times a smooth step: `x / (1 + exp(-√(8/π) · (x + 0.044715 · x³)))`, which is Hendrycks and Gimpel's form with
/// the hyperbolic tangent (2016).
pub fn gelu(x: f32) -> f32 {
    gelu_in::<Emulated>(x)
}

#[inline(always)]
pub(crate) fn maximum_in(a: f32, b: f32) -> f32 {
    if a > b {
        a
    } else if b > a {
        b
    } else if a == b {
        // Equal numbers differ in nothing but a zero's sign.
        f32::from_bits(a.to_bits() & b.to_bits())
    } else {
        f32::NAN
    }
}

/// √(8/π), and 0.044715 times it.
const GELU_LINEAR: f32 = 1.595_769_2;
const GELU_CUBIC: f32 = 0.071_354_82;

#[inline(always)]
pub(crate) fn gelu_in<A: Arithmetic>(x: f32) -> f32 {
    let near = clamped(x);
    let z = near * near;
    x * sigmoid_in::<A>(near * A::fma(GELU_CUBIC, z, GELU_LINEAR))
}

/// The derivative of [`gelu`] at x.
#[inline(always)]
pub(crate) fn gelu_slope_in<A: Arithmetic>(x: f32) -> f32 {
    let x = clamped(x);
    let z = x * x;
    let s = sigmoid_in::<A>(x * A::fma(GELU_CUBIC, z, GELU_LINEAR));
    let inner = A::fma(3.0 * GELU_CUBIC, z, GELU_LINEAR);
    A::fma((x * s) * (1.0 - s), inner, s)
}

/// x within [-16, 16], where the step has long reached 0 or 1; NaN stays NaN.
#[inline(always)]
fn clamped(x: f32) -> f32 {
    let x = if x < -16.0 { -16.0 } else { x };
    if x > 16.0 { 16.0 } else { x }
}

#[inline(always)]
pub(crate) fn exp_in<A: Arithmetic>(x: f32) -> f32 {
    // Written as comparisons that NaN fails, so that NaN passes through.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = A::fma(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let r = A::fma(n, -LN2_HIGH, x);
    let r = A::fma(n, -LN2_LOW, r);
    let mut p = 1.987_569_1e-4f32;
    p = A::fma(p, r, 1.398_199_9e-3);
    p = A::fma(p, r, 8.333_452e-3);
    p = A::fma(p, r, 4.166_579_6e-2);
    p = A::fma(p, r, 1.666_666_5e-1);
    p = A::fma(p, r, 5e-1);
    let p = A::fma(p, r * r, r) + 1.0;
    // Two factors, since 2ⁿ alone may lie outside the range of normal numbers.
    let half = exponent >> 1;
    p * power_of_two(half) * power_of_two(exponent.wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

#[inline(always)]
pub(crate) fn log_in<A: Arithmetic>(x: f32) -> f32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let scaled = if subnormal { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits();
    // The mantissa as a number in [0.5, 1), then moved to [√½, √2).
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let exponent = ((bits >> 23) & 0xff) as i32 - 126 - if subnormal { 23 } else { 0 };
    let low = mantissa < std::f32::consts::FRAC_1_SQRT_2;
    let m = if low { mantissa + mantissa } else { mantissa } - 1.0;
    let e = (exponent - i32::from(low)) as f32;
    let z = m * m;
    let mut p = 7.037_683_6e-2f32;
    p = A::fma(p, m, -1.151_461e-1);
    p = A::fma(p, m, 1.167_699_9e-1);
    p = A::fma(p, m, -1.242_014_1e-1);
    p = A::fma(p, m, 1.424_932_3e-1);
    p = A::fma(p, m, -1.666_805_8e-1);
    p = A::fma(p, m, 2.000_071_5e-1);
    p = A::fma(p, m, -2.499_999_4e-1);
    p = A::fma(p, m, 3.333_333e-1);
    let y = (p * m) * z;
    let y = A::fma(e, LN2_LOW, y);
    let y = A::fma(-0.5, z, y);
    let finite = A::fma(e, LN2_HIGH, m + y);
    if x > 0.0 && x < f32::INFINITY {
        finite
    } else if x == 0.0 {
        f32::NEG_INFINITY
    } else if x == f32::INFINITY {
        x
    } else {
        f32::NAN
    }
}

#[inline(always)]
pub(crate) fn tanh_in<A: Arithmetic>(x: f32) -> f32 {
    let magnitude = x.abs();
    if magnitude < 0.625 {
        let z = x * x;
        let mut p = -5.704_988_7e-3f32;
        p = A::fma(p, z, 2.063_909e-2);
        p = A::fma(p, z, -5.373_971_6e-2);
        p = A::fma(p, z, 1.333_144_2e-1);
        p = A::fma(p, z, -3.333_328e-1);
        A::fma(p * z, x, x)
    } else {
        let tail = 1.0 - 2.0 / (exp_in::<A>(magnitude + magnitude) + 1.0);
        tail.copysign(x)
    }
}

#[inline(always)]
pub(crate) fn sigmoid_in<A: Arithmetic>(x: f32) -> f32 {
    let t = exp_in::<A>(-x.abs());
    let numerator = if x < 0.0 { t } else { 1.0 };
    numerator / (1.0 + t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arithmetic::Fused;
    use crate::testing::hash;

    /// The largest distance of `f` from `truth` over `inputs`, in units of the last place.
    fn worst_ulps(inputs: &[f32], f: fn(f32) -> f32, truth: fn(f64) -> f64) -> f64 {
        let mut worst = 0.0f64;
        for &x in inputs {
            let want = truth(f64::from(x));
            let near = (want as f32).abs().max(f32::MIN_POSITIVE);
            let ulp = f64::from(f32::from_bits(near.to_bits() + 1)) - f64::from(near);
            worst = worst.max((f64::from(f(x)) - want).abs() / ulp);
        }
        worst
    }

    fn sweep(low: f32, high: f32) -> Vec<f32> {
        (0..=200_000).map(|i| low + (high - low) * i as f32 / 200_000.0).collect()
    }

    #[test]
    fn errors_stay_within_their_bounds() {
        assert!(worst_ulps(&sweep(-87.0, 88.7), exp, f64::exp) < 1.1);
        assert!(worst_ulps(&sweep(1e-3, 3.0), log, f64::ln) < 1.1);
        assert!(worst_ulps(&sweep(1.0, 1e30), log, f64::ln) < 1.1);
        assert!(worst_ulps(&sweep(-10.0, 10.0), tanh, f64::tanh) < 2.1);
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        assert!(worst_ulps(&sweep(-80.0, 80.0), sigmoid, logistic) < 2.6);
    }

    #[test]
    fn ends_of_the_range_are_what_ieee_says() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-103.0), (-103.0f64).exp() as f32);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(log(1.0), 0.0);
        assert_eq!(log(0.0), f32::NEG_INFINITY);
        assert_eq!(log(f32::INFINITY), f32::INFINITY);
        assert!(log(-1.0).is_nan() && log(f32::NAN).is_nan());
        let smallest = f32::from_bits(1);
        assert!((f64::from(log(smallest)) - f64::from(smallest).ln()).abs() < 1e-5);
        assert_eq!(tanh(40.0), 1.0);
        assert_eq!(tanh(-40.0), -1.0);
        assert_eq!(sigmoid(0.0), 0.5);
        assert_eq!(sigmoid(200.0), 1.0);
        assert_eq!(sigmoid(-200.0), 0.0);
        assert!(sigmoid(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
    }

    #[test]
    fn both_arithmetics_give_the_golden_bits() {
        let inputs = sweep(-30.0, 30.0);
        let of = |f: fn(f32) -> f32| inputs.iter().map(|&x| f(x)).collect::<Vec<_>>();
        let golden = [
            (exp as fn(f32) -> f32, exp_in::<Fused> as fn(f32) -> f32, "e07eb68fa3986f86"),
            (log, log_in::<Fused>, "3c16bc00cb8de6ca"),
            (tanh, tanh_in::<Fused>, "706402f1c6b70505"),
            (sigmoid, sigmoid_in::<Fused>, "229334b5e9ca0b55"),
            (gelu, gelu_in::<Fused>, "1fc7371ba882b6fb"),
            (gelu_slope_in::<Emulated>, gelu_slope_in::<Fused>, "8683a028d6935f9d"),
        ];
        for (emulated, fused, want) in golden {
            assert_eq!(hash(&of(emulated)), hash(&of(fused)));
            assert_eq!(hash(&of(emulated)), want);
        }
    }

    #[test]
    fn maxima_do_not_depend_on_order_and_let_nan_through() {
        let values = [f32::NEG_INFINITY, -1.0, -0.0, 0.0, 3.0, f32::INFINITY, f32::NAN];
        for a in values {
            for b in values {
                let (got, other) = (maximum(a, b), maximum(b, a));
                assert!(got.to_bits() == other.to_bits() || (got.is_nan() && other.is_nan()));
                assert_eq!(got.is_nan(), a.is_nan() || b.is_nan());
                assert!(got.is_nan() || (got >= a && got >= b));
            }
        }
        assert!(maximum(-0.0, 0.0).is_sign_positive() && maximum(-0.0, -0.0).is_sign_negative());
    }

    #[test]
    fn gelu_and_its_slope_agree_with_double_precision() {
        let c = (2.0 / std::f64::consts::PI).sqrt();
        let truth = |x: f64| 0.5 * x * (1.0 + (c * (x + 0.044715 * x * x * x)).tanh());
        for x in sweep(-20.0, 20.0) {
            let wide = f64::from(x);
            assert!((f64::from(gelu(x)) - truth(wide)).abs() < 1e-6 * wide.abs().max(1.0));
            let slope = (truth(wide + 1e-5) - truth(wide - 1e-5)) / 2e-5;
            assert!((f64::from(gelu_slope_in::<Emulated>(x)) - slope).abs() < 2e-6, "{x}");
        }
        assert_eq!((gelu(1e30), gelu_slope_in::<Emulated>(1e30)), (1e30, 1.0));
        assert_eq!((gelu(-1e30), gelu_slope_in::<Emulated>(-1e30)), (0.0, 0.0));
        assert!(gelu(f32::NAN).is_nan() && gelu_slope_in::<Emulated>(f32::NAN).is_nan());
    }
}
