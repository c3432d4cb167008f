//! The few numbers that a host works out for a whole step: powers of decay rates, a cosine schedule.
//!
//! Binary64, each operation rounded by itself, no C library: they are computed once a step, on the CPU, whatever
//! device the step runs on.

/// `base` to the power `exponent`: `base` squared for each binary digit of the exponent, from the lowest, and
/// those with a one multiplied up in that order, from 1.
#[must_use]
pub fn power(base: f64, exponent: u64) -> f64 {
    let (mut result, mut square, mut rest) = (1.0, base, exponent);
    loop {
        if rest & 1 == 1 {
            result *= square;
        }
        rest >>= 1;
        if rest == 0 {
            return result;
        }
        square *= square;
    }
}

/// cos(π · `x`) within one unit in the last place of 1; exact at 0, ½ and 1; NaN if `x` is not finite.
///
/// `x` is brought to [0, ½] by symmetries that are exact; above ¼ it is sin(π · (½ - x)). Both are the
/// polynomials of fdlibm's `__kernel_cos` and `__kernel_sin` (Sun Microsystems) without their correction of the
/// argument, by Horner's rule.
#[must_use]
pub fn cos_pi(x: f64) -> f64 {
    // Multiples of 2 are taken off without rounding; what is left lies in [0, 2).
    let turn = x.abs() % 2.0;
    let half = if turn > 1.0 { 2.0 - turn } else { turn };
    let (quarter, sign) = if half > 0.5 { (1.0 - half, -1.0) } else { (half, 1.0) };
    let magnitude = if quarter > 0.25 { sin(PI * (0.5 - quarter)) } else { cos(PI * quarter) };
    sign * magnitude
}

const PI: f64 = std::f64::consts::PI;

/// sin on [0, π/4].
fn sin(x: f64) -> f64 {
    let z = x * x;
    let mut p = 1.589_690_995_211_55e-10;
    p = p * z - 2.505_076_025_340_686_3e-8;
    p = p * z + 2.755_731_370_707_006_8e-6;
    p = p * z - 1.984_126_982_985_795e-4;
    p = p * z + 8.333_333_333_322_49e-3;
    p = p * z - 1.666_666_666_666_663_2e-1;
    x + (x * z) * p
}

/// cos on [0, π/4].
fn cos(x: f64) -> f64 {
    let z = x * x;
    let mut p = -1.135_964_755_778_819_5e-11;
    p = p * z + 2.087_572_321_298_175e-9;
    p = p * z - 2.755_731_435_139_066_3e-7;
    p = p * z + 2.480_158_728_947_673e-5;
    p = p * z - 1.388_888_888_887_411e-3;
    p = p * z + 4.166_666_666_666_66e-2;
    1.0 - (0.5 * z - (z * z) * p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_is_near_the_truth_everywhere_and_exact_at_its_corners() {
        for i in -400_000..=400_000i32 {
            let x = f64::from(i) / 100_000.0;
            let want = (PI * x).cos();
            assert!((cos_pi(x) - want).abs() < 2e-15, "{x}: {} {want}", cos_pi(x));
        }
        let corners = [0.0, 0.5, 1.0, 1.5, 2.0, -0.5, 7.0];
        assert_eq!(corners.map(cos_pi), [1.0, 0.0, -1.0, 0.0, 1.0, 0.0, -1.0]);
        assert!(cos_pi(f64::INFINITY).is_nan() && cos_pi(f64::NAN).is_nan());
    }

    #[test]
    fn the_cosine_has_the_golden_bits() {
        let mut hasher = blake3::Hasher::new();
        for i in 0..10_000 {
            hasher.update(&cos_pi(f64::from(i) / 9999.0).to_bits().to_le_bytes());
        }
        assert_eq!(&hasher.finalize().to_hex()[..16], "1c2e62fecf432870");
    }

    #[test]
    fn powers_are_near_the_truth_and_have_the_golden_bits() {
        assert_eq!((power(0.9, 0), power(0.9, 1), power(2.0, 10)), (1.0, 0.9, 1024.0));
        for exponent in [2, 3, 17, 1000, 12_345] {
            let want = 0.999f64.powi(exponent);
            assert!((power(0.999, exponent as u64) / want - 1.0).abs() < 1e-12);
        }
        assert_eq!(power(0.999, 12_345).to_bits(), 4_526_719_685_358_803_120);
        assert_eq!(power(0.5, u64::MAX), 0.0);
    }
}
