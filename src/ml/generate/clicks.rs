//! Advertisements that were shown. Some of a hundred are clicked: it depends on where they stand, on the advertisement
//! itself, and on who sees it on what and when.
//!
//! As it drifts, old advertisements wear out and others appeal, and people move from computers to phones.

use std::fmt::Write as _;

use super::dice::{Dice, whole};

/// The columns, label last. `age` is empty for who did not say, `past_rate` for who never saw one.
pub const HEADER: &str =
    "hour,weekday,device,position,advertisement,age,visits,past_rate,interest,page_words,clicked\n";

/// How many advertisements there are.
const ADVERTISEMENTS: u32 = 400;

/// The Philox streams of what advertisements are worth, now and after the drift.
const WORTH: [u64; 2] = [3, 4];

/// Appends one row's features, and gives the log-odds of its label.
pub fn row(dice: &mut Dice, drift: f64, seed: u64, line: &mut String) -> f64 {
    let hour = (6 + dice.below(10) + dice.below(10)) % 24;
    let weekday = dice.below(7);
    // A phone, a computer, a tablet.
    let device = match dice.unit() {
        kind if kind < 0.5 + 0.3 * drift => 0,
        kind if kind < 0.9 => 1,
        _ => 2,
    };
    let position = 1 + dice.below(8).min(dice.below(8));
    let advertisement = dice.below(ADVERTISEMENTS).min(dice.below(ADVERTISEMENTS));
    let age = 16 + whole(dice.unit() * 40.0 + dice.unit() * 30.0, 0, 70);
    let age = (!dice.chance(0.15)).then_some(age);
    let visits = dice.streak(0.8, 24);
    // In thousandths.
    let past = whole(dice.exponential(60.0), 0, 1000);
    let past = (visits > 0).then_some(past);
    let interest = dice.below(101);
    let words = 50 + whole(dice.exponential(500.0), 0, 10_000);

    write!(line, "{hour},{weekday},{device},{position},{advertisement},")
        .expect("a text takes all");
    if let Some(age) = age {
        write!(line, "{age}").expect("a text takes all");
    }
    write!(line, ",{visits},").expect("a text takes all");
    if let Some(past) = past {
        write!(line, "{}.{:03}", past / 1000, past % 1000).expect("a text takes all");
    }
    write!(line, ",{interest},{words}").expect("a text takes all");

    let if_so = |is: bool, weight: f64| if is { weight } else { 0.0 };
    let worth = |stream| Dice::new(seed, stream, u64::from(advertisement)).normal();
    let [now, then] = WORTH.map(worth);
    let evening = hour >= 18;
    -2.9 - 0.35 * f64::from(position - 1)
        + 0.7 * ((1.0 - drift) * now + drift * then)
        + 0.024 * (f64::from(interest) - 50.0)
        + if_so(device == 0 && evening, 0.7)
        + if_so(device == 1 && weekday < 5 && !evening, 0.5)
        + if_so(weekday >= 5, 0.2)
        + age.map_or(-0.3, |age| if_so(age < 25, 0.4) + if_so(age > 55 && device == 0, -0.8))
        + past.map_or(0.2, |past| 4.0 * f64::from(past.min(300)) / 1000.0)
        - 0.02 * f64::from(visits)
        + if_so(words > 1200, -0.4)
}
