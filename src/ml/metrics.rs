//! How good predictions are: classification metrics over plain arrays.
//!
//! Definitions follow scikit-learn's, so that figures can be compared. With a positive class,
//! precision, recall and f1 are that class's; otherwise they are the unweighted mean over the
//! classes that occur in the truth or in the predictions. A quotient 0/0 counts as 0. Every sum has
//! a fixed order and nothing calls libm, so the same input gives the same bits everywhere. Unaware
//! of models, files and gates.

use serde::Serialize;

/// A metric by which gates decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Share of rows that are classified as they should be.
    Accuracy,
    /// Of the rows classified as the class, the share that is of the class.
    Precision,
    /// Of the rows of the class, the share that is classified as such.
    Recall,
    /// Harmonic mean of precision and recall.
    F1,
    /// Area under the ROC curve: the chance that a row of the class scores above one that is not,
    /// ties counting half (Mann-Whitney U). Without a positive class the mean over the classes of
    /// the truth, each against the rest. Undefined if the truth holds one class only.
    RocAuc,
    /// Mean of −ln of the probability given to the true class, kept within [2⁻²³, 1 − 2⁻²³].
    LogLoss,
}

impl Metric {
    /// All metrics by the names that recipes and reports use.
    pub const NAMES: [(&'static str, Metric); 6] = [
        ("accuracy", Metric::Accuracy),
        ("precision", Metric::Precision),
        ("recall", Metric::Recall),
        ("f1", Metric::F1),
        ("roc_auc", Metric::RocAuc),
        ("log_loss", Metric::LogLoss),
    ];

    /// Whether a smaller value is a better one.
    pub fn lower_is_better(self) -> bool {
        self == Metric::LogLoss
    }
}

/// What one model scored on one test set.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// `confusion[t][p]`: rows of class `t` that were classified as `p`.
    pub confusion: Vec<Vec<u64>>,
    /// Each class against the rest.
    pub per_class: Vec<ClassScores>,
    /// The ROC curve, from (0, 0) to (1, 1): share of false, of true positives. Only with a
    /// positive class, and only if it is defined.
    pub roc: Option<Vec<[f64; 2]>>,
    values: [Option<f64>; 6],
}

/// One class against the rest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassScores {
    /// Rows of the class.
    pub support: u64,
    /// See [`Metric::Precision`].
    pub precision: f64,
    /// See [`Metric::Recall`].
    pub recall: f64,
    /// See [`Metric::F1`].
    pub f1: f64,
    /// See [`Metric::RocAuc`].
    pub roc_auc: Option<f64>,
}

impl Scores {
    /// A metric's value, or `None` where it is undefined on this test set.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        self.values[metric as usize]
    }
}

/// How probabilities become classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision {
    /// The most probable class, the first of equals.
    MostProbable,
    /// Of two classes: the positive one if it is at least as probable as the threshold.
    Threshold {
        /// The positive class's index.
        positive: usize,
        /// The least probability that makes a row positive.
        threshold: f64,
    },
}

/// Scores predictions. `truth` holds each row's class, `probabilities` is rows × classes, row by
/// row; neither is empty.
///
/// # Panics
/// When the lengths do not fit, or a class is out of range.
pub fn score(classes: usize, decision: Decision, truth: &[usize], probabilities: &[f32]) -> Scores {
    assert_eq!(probabilities.len(), truth.len() * classes, "rows × classes");
    let rows = || truth.iter().copied().zip(probabilities.chunks_exact(classes));
    let mut confusion = vec![vec![0_u64; classes]; classes];
    let mut loss = 0.0;
    for (class, row) in rows() {
        confusion[class][decide(decision, row)] += 1;
        loss -= ln(f64::from(row[class].clamp(f32::EPSILON, 1.0 - f32::EPSILON)));
    }
    let curve = |class: usize| Curve::new(rows().map(|(t, row)| (row[class], t == class)));
    let per_class: Vec<ClassScores> = (0..classes)
        .map(|class| {
            let hits = confusion[class][class];
            let support = confusion[class].iter().sum();
            let predicted = confusion.iter().map(|row| row[class]).sum();
            ClassScores {
                support,
                precision: quotient(hits, predicted),
                recall: quotient(hits, support),
                f1: quotient(2 * hits, support + predicted),
                roc_auc: curve(class).area(),
            }
        })
        .collect();
    let right = (0..classes).map(|class| confusion[class][class]).sum();
    let occurs = |class: &usize| {
        per_class[*class].support > 0 || confusion.iter().any(|row| row[*class] > 0)
    };
    let mean = |of: fn(&ClassScores) -> f64| {
        let values: Vec<f64> = (0..classes).filter(occurs).map(|c| of(&per_class[c])).collect();
        values.iter().sum::<f64>() / real(values.len() as u64)
    };
    let (chosen, roc) = match decision {
        Decision::Threshold { positive, .. } => {
            let class = per_class[positive];
            let curve = curve(positive);
            ([class.precision, class.recall, class.f1], class.roc_auc.map(|_| curve.points()))
        }
        Decision::MostProbable => {
            ([mean(|c| c.precision), mean(|c| c.recall), mean(|c| c.f1)], None)
        }
    };
    let area = match decision {
        Decision::Threshold { positive, .. } => per_class[positive].roc_auc,
        Decision::MostProbable => {
            let present = per_class.iter().filter(|class| class.support > 0);
            let areas: Option<Vec<f64>> = present.map(|class| class.roc_auc).collect();
            areas.map(|areas| areas.iter().sum::<f64>() / real(areas.len() as u64))
        }
    };
    let [precision, recall, f1] = chosen.map(Some);
    let accuracy = Some(quotient(right, truth.len() as u64));
    let loss = Some(loss / real(truth.len() as u64));
    let values = [accuracy, precision, recall, f1, area, loss];
    Scores { confusion, per_class, roc, values }
}

fn decide(decision: Decision, row: &[f32]) -> usize {
    match decision {
        Decision::Threshold { positive, threshold } => {
            if f64::from(row[positive]) >= threshold {
                positive
            } else {
                1 - positive
            }
        }
        Decision::MostProbable => {
            let better = |best, class| if row[class] > row[best] { class } else { best };
            (0..row.len()).fold(0, better)
        }
    }
}

/// True and false positives as the threshold falls: one step for each distinct score.
struct Curve {
    /// (negatives, positives) among the rows of each score, highest score first.
    steps: Vec<(u64, u64)>,
}

impl Curve {
    fn new(rows: impl Iterator<Item = (f32, bool)>) -> Curve {
        let mut rows: Vec<(f32, bool)> = rows.collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut steps: Vec<(u64, u64)> = Vec::new();
        let mut last = None;
        for (score, is_class) in rows {
            if last != Some(score) {
                steps.push((0, 0));
            }
            last = Some(score);
            if let Some((negatives, positives)) = steps.last_mut() {
                *negatives += u64::from(!is_class);
                *positives += u64::from(is_class);
            }
        }
        Curve { steps }
    }

    fn totals(&self) -> (u64, u64) {
        self.steps.iter().fold((0, 0), |sum, step| (sum.0 + step.0, sum.1 + step.1))
    }

    /// The area, from whole numbers: pairs won count two, pairs tied one.
    fn area(&self) -> Option<f64> {
        let (negatives, positives) = self.totals();
        if negatives == 0 || positives == 0 {
            return None;
        }
        let (mut won, mut above) = (0, 0);
        for (negative, positive) in &self.steps {
            won += negative * (2 * above + positive);
            above += positive;
        }
        Some(real(won) / real(2 * negatives * positives))
    }

    /// The curve's corners; of more than 200, an even choice with both ends.
    fn points(&self) -> Vec<[f64; 2]> {
        const MOST: usize = 200;
        let (negatives, positives) = self.totals();
        let mut points = vec![[0.0, 0.0]];
        let (mut false_positives, mut true_positives) = (0, 0);
        for (negative, positive) in &self.steps {
            false_positives += negative;
            true_positives += positive;
            points
                .push([quotient(false_positives, negatives), quotient(true_positives, positives)]);
        }
        if points.len() <= MOST {
            return points;
        }
        (0..MOST).map(|index| points[index * (points.len() - 1) / (MOST - 1)]).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn real(count: u64) -> f64 {
    count as f64
}

fn quotient(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { real(part) / real(whole) }
}

/// The natural logarithm of a positive normal number, within 2 units in the last place, by plain
/// arithmetic: x = m·2ᵉ with m in (√½, √2], and ln m = 2·artanh s with s = (m − 1)/(m + 1), whose
/// series ends at s²³ (|s| ≤ 0.172, so the rest is below 2⁻⁵⁵).
fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = x.to_bits();
    let mut exponent = f64::from((bits >> 52) as u32) - 1023.0;
    let mut m = f64::from_bits((bits & MANTISSA) | 1.0_f64.to_bits());
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1.0;
    }
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut sum = 0.0;
    for odd in (3..=23).rev().step_by(2) {
        sum = (sum + 1.0 / f64::from(odd)) * z;
    }
    exponent * std::f64::consts::LN_2 + (2.0 * s + 2.0 * s * sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINARY: Decision = Decision::Threshold { positive: 1, threshold: 0.5 };

    /// Probabilities of two classes from those of the second.
    fn pairs(second: &[f32]) -> Vec<f32> {
        second.iter().flat_map(|p| [1.0 - p, *p]).collect()
    }

    fn near(value: Option<f64>, expected: f64) -> bool {
        (value.unwrap() - expected).abs() < 1e-12
    }

    #[test]
    fn binary_metrics_follow_their_definitions() {
        // Expected values by hand; scikit-learn 1.9.1 gives the same.
        let truth = [0, 0, 1, 1, 1, 0, 1, 0];
        let p = [0.125, 0.5, 0.75, 0.25, 0.5, 0.375, 0.875, 0.625];
        let scores = score(2, BINARY, &truth, &pairs(&p));
        assert_eq!(scores.confusion, [[2, 2], [1, 3]]);
        assert!(near(scores.value(Metric::Accuracy), 5.0 / 8.0));
        assert!(near(scores.value(Metric::Precision), 3.0 / 5.0));
        assert!(near(scores.value(Metric::Recall), 3.0 / 4.0));
        assert!(near(scores.value(Metric::F1), 2.0 / 3.0));
        // Of 16 pairs 11 are won and one is tied.
        assert!(near(scores.value(Metric::RocAuc), 11.5 / 16.0));
        let given = [0.875, 0.5, 0.75, 0.25, 0.5, 0.625, 0.875, 0.375_f64];
        let loss = given.iter().map(|p| -p.ln()).sum::<f64>() / 8.0;
        assert!(near(scores.value(Metric::LogLoss), loss));
    }

    #[test]
    fn the_curve_runs_from_corner_to_corner_and_ties_make_a_slope() {
        let scores = score(2, BINARY, &[0, 1, 1, 0], &pairs(&[0.5, 0.5, 0.9, 0.1]));
        assert_eq!(scores.roc.unwrap(), [[0.0, 0.0], [0.0, 0.5], [0.5, 1.0], [1.0, 1.0]]);
        let many: Vec<f32> = (0..1000).map(|n| n as f32 / 1000.0).collect();
        let truth: Vec<usize> = (0..1000).map(|n| n % 2).collect();
        let roc = score(2, BINARY, &truth, &pairs(&many)).roc.unwrap();
        assert_eq!((roc.len(), roc[0], roc[199]), (200, [0.0, 0.0], [1.0, 1.0]));
    }

    #[test]
    fn without_a_positive_class_the_mean_over_classes_that_occur_counts() {
        let p = [
            [0.8, 0.1, 0.1, 0.0],
            [0.3, 0.6, 0.1, 0.0],
            [0.5, 0.4, 0.1, 0.0],
            [0.1, 0.2, 0.7, 0.0],
        ];
        let scores = score(4, Decision::MostProbable, &[0, 1, 1, 2], p.as_flattened());
        assert!(near(scores.value(Metric::Accuracy), 0.75));
        assert!(near(scores.value(Metric::Precision), (0.5 + 1.0 + 1.0) / 3.0));
        assert!(near(scores.value(Metric::Recall), (1.0 + 0.5 + 1.0) / 3.0));
        assert!(near(scores.value(Metric::F1), (2.0 / 3.0 + 2.0 / 3.0 + 1.0) / 3.0));
        assert!(near(scores.value(Metric::RocAuc), 1.0));
        assert_eq!(scores.roc, None);
    }

    #[test]
    fn what_is_undefined_is_none_and_what_is_empty_is_zero() {
        let scores = score(2, BINARY, &[0, 0], &pairs(&[0.1, 0.2]));
        assert_eq!(scores.value(Metric::RocAuc), None);
        assert_eq!(scores.roc, None);
        assert_eq!(scores.value(Metric::Precision), Some(0.0));
        assert_eq!(scores.value(Metric::F1), Some(0.0));
    }

    #[test]
    fn certainty_in_the_wrong_costs_a_finite_loss() {
        let scores = score(2, BINARY, &[1], &pairs(&[0.0]));
        assert!(near(scores.value(Metric::LogLoss), 23.0 * std::f64::consts::LN_2));
    }

    #[test]
    fn the_logarithm_is_within_two_units_of_libm() {
        let mut x = 1e-8;
        while x < 4.0 {
            let (ours, theirs) = (ln(x), x.ln());
            assert!((ours - theirs).abs() <= 4.0 * f64::EPSILON * theirs.abs().max(1e-3), "{x}");
            x *= 1.000_37;
        }
        assert_eq!(ln(1.0).to_bits(), 0.0_f64.to_bits());
    }
}
