//! Card payments. One or two of a hundred are fraud; what marks them are interactions: much money at night, far away
//! without the card, a device that nobody has seen, many payments in an hour.
//!
//! As it drifts, fraud moves to small amounts in the daytime and to devices that were taken over, while honest people
//! travel more and use the card less.

use std::fmt::Write as _;

use kiln_kernels::{exp, log};

use super::dice::{Dice, whole};

/// The columns, label last. `minutes_since_last` is empty at a customer's first payment, `device_days` where the card was
/// there.
pub const HEADER: &str = "amount,hour,category,distance_km,card_present,foreign,account_days,payments_last_hour,\
minutes_since_last,amount_to_usual,device_days,fraud\n";

/// What each category adds to the log-odds.
const CATEGORIES: [f64; 12] = [-0.8, -0.5, 0.0, 0.6, 1.0, 0.2, -0.3, 0.4, -0.2, 0.9, 0.1, -0.6];

fn grown(power: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, reason = "the exponential is one of f32")]
    let power = power as f32;
    f64::from(exp(power))
}

/// Appends one row's features, and gives the log-odds of its label.
pub fn row(dice: &mut Dice, drift: f64, line: &mut String) -> f64 {
    let hour = if dice.chance(0.1) { dice.below(6) } else { 6 + dice.below(18) };
    let usual = 3.3 + 0.6 * dice.normal();
    let cents = whole(grown(usual + 0.9 * dice.normal() + 0.2 * drift) * 100.0, 50, 5_000_000);
    // In hundredths.
    let ratio = whole(f64::from(cents) / grown(usual), 1, 100_000);
    let category = dice.below(12).min(dice.below(12));
    let mean_distance = if dice.chance(0.08 + 0.1 * drift) { 700.0 } else { 9.0 };
    // In tenths of a kilometre.
    let distance = whole(dice.exponential(mean_distance) * 10.0, 0, 200_000);
    let present = dice.chance(0.65 - 0.25 * drift);
    let foreign = dice.chance(if distance > 3000 { 0.5 } else { 0.03 });
    let account = 1 + whole(dice.unit() * dice.unit() * 5000.0, 0, 5000);
    let payments = dice.streak(0.3, 8);
    let first = dice.chance(0.05);
    let pause = if payments > 0 { 20.0 } else { 1800.0 };
    let minutes = whole(dice.exponential(pause), 0, 100_000);
    let minutes = (!first).then_some(minutes);
    let device = whole(dice.unit() * dice.unit() * 1200.0, 0, 1200);
    let device = (!present).then_some(device);

    write!(
        line,
        "{}.{:02},{hour},{category},{}.{},{},{},{account},{payments},",
        cents / 100,
        cents % 100,
        distance / 10,
        distance % 10,
        u8::from(present),
        u8::from(foreign),
    )
    .expect("a text takes all");
    if let Some(minutes) = minutes {
        write!(line, "{minutes}").expect("a text takes all");
    }
    write!(line, ",{}.{:02},", ratio / 100, ratio % 100).expect("a text takes all");
    if let Some(device) = device {
        write!(line, "{device}").expect("a text takes all");
    }

    let held = 1.0 - drift;
    let if_so = |is: bool, weight: f64| if is { weight } else { 0.0 };
    #[expect(clippy::cast_precision_loss, reason = "cents are few")]
    let amount = f64::from(log(cents as f32 / 100.0));
    let night = hour < 6;
    let far = distance > 2000;
    -6.4 + 0.5 * held * (amount - 3.3)
        + CATEGORIES[category as usize]
        + if_so(night, 0.8)
        + if_so(night && amount > 4.5, 2.0 * held)
        + if_so(!night && amount < 2.5, 1.8 * drift)
        + if_so(far && !present, 2.2)
        + if_so(far && present && foreign, -0.6)
        + if_so(foreign && !far, 1.6)
        + if_so(account < 90, 1.3)
        + 0.45 * f64::from(payments.min(6))
        + minutes.map_or(1.1, |minutes| if_so(minutes < 2 && payments > 1, 1.7))
        + if_so(ratio > 500, 1.5 * held)
        + device.map_or(0.0, |device| {
            0.9 + if_so(device < 4, 2.4 * held) + if_so(device > 500, 1.6 * drift)
        })
}
