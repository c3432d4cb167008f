//! Gates: conditions on metrics, absolute or relative to a baseline, and what each says.
//!
//! Unaware of models and of data: metrics come in as numbers.

use serde::{Deserialize, Serialize};

use crate::metrics::{Metric, Scores};
use crate::nearest::suggestion;

/// One gate as a recipe writes it: a metric and one or more conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The metric's name.
    pub metric: String,
    /// The least value.
    pub min: Option<f64>,
    /// The greatest value.
    pub max: Option<f64>,
    /// How much worse than the baseline it may be.
    pub max_drop: Option<Amount>,
    /// How much better than the baseline it must be.
    pub min_gain: Option<Amount>,
}

/// A difference: a number in the metric's own unit, or a share of the baseline's value.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub enum Amount {
    /// In the metric's own unit.
    Absolute(f64),
    /// So many hundredths of the baseline's value.
    Percent(f64),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

impl TryFrom<Written> for Amount {
    type Error = String;

    fn try_from(written: Written) -> Result<Amount, String> {
        let (amount, number) = match &written {
            Written::Number(number) => (Amount::Absolute(*number), *number),
            Written::Text(text) => {
                let number = text.strip_suffix('%').and_then(|text| text.trim().parse().ok());
                let number = number.ok_or_else(|| {
                    format!(
                        "{text:?} is no amount; help: write a number, or a share such as \"2%\""
                    )
                })?;
                (Amount::Percent(number), number)
            }
        };
        if number.is_finite() && number >= 0.0 {
            return Ok(amount);
        }
        Err(format!(
            "{amount} is no amount; help: it must be at least 0: `max_drop` allows a loss, \
             `min_gain` demands a gain"
        ))
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Amount::Absolute(number) => write!(out, "{number}"),
            Amount::Percent(number) => write!(out, "{number}%"),
        }
    }
}

impl Amount {
    /// The difference in the metric's unit, given the baseline's value.
    fn of(self, baseline: f64) -> f64 {
        match self {
            Amount::Absolute(number) => number,
            Amount::Percent(percent) => baseline.abs() * percent / 100.0,
        }
    }
}

/// A gate that cannot decide anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// There is no such metric.
    #[error("gate {number}: there is no metric {name:?}; help: {help}")]
    Metric {
        /// The gate, counted from 1.
        number: usize,
        /// The name.
        name: String,
        /// The nearest name, or all.
        help: String,
    },
    /// It has no condition.
    #[error(
        "gate {number}, on {name}: there is no condition; help: give it `min`, `max`, `max_drop` or `min_gain`"
    )]
    Empty {
        /// The gate, counted from 1.
        number: usize,
        /// The metric.
        name: String,
    },
}

/// One condition of a gate, checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Condition {
    pub(super) metric: Metric,
    name: &'static str,
    rule: Rule,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    Min(f64),
    Max(f64),
    MaxDrop(Amount),
    MinGain(Amount),
}

impl Condition {
    /// Whether it compares with the baseline.
    pub(super) fn is_relative(self) -> bool {
        matches!(self.rule, Rule::MaxDrop(_) | Rule::MinGain(_))
    }
}

/// All conditions of all gates, in their order.
///
/// # Errors
/// For the first gate whose metric is unknown or that has no condition.
pub(super) fn conditions(gates: &[Gate]) -> Result<Vec<Condition>, GateError> {
    let mut conditions = Vec::new();
    for (index, gate) in gates.iter().enumerate() {
        let number = index + 1;
        let known = Metric::NAMES.iter().find(|(name, _)| *name == gate.metric);
        let &(name, metric) = known.ok_or_else(|| GateError::Metric {
            number,
            name: gate.metric.clone(),
            help: suggestion(&gate.metric, Metric::NAMES.iter().map(|(name, _)| *name)),
        })?;
        let rules = [
            gate.min.map(Rule::Min),
            gate.max.map(Rule::Max),
            gate.max_drop.map(Rule::MaxDrop),
            gate.min_gain.map(Rule::MinGain),
        ];
        let before = conditions.len();
        conditions.extend(rules.into_iter().flatten().map(|rule| Condition { metric, name, rule }));
        if conditions.len() == before {
            return Err(GateError::Empty { number, name: name.to_owned() });
        }
    }
    Ok(conditions)
}

/// What relative conditions compare with.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Baseline {
    /// There is none, and that was accepted.
    Absent,
    /// It is the candidate.
    Same,
    /// It cannot be scored on this data, and why.
    Unusable(String),
    /// What it scored on the same data.
    Scored(Box<Scores>),
}

/// Why a condition holds or fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    /// The numbers say so.
    Compared,
    /// The candidate is the baseline, so that it cannot be worse.
    IsBaseline,
    /// There is no baseline, and the recipe accepts that.
    NoBaseline,
    /// The baseline cannot be scored on this data.
    BaselineUnusable,
    /// The metric is undefined on this data.
    Undefined,
}

/// What one condition said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Decided {
    /// The metric.
    pub(super) metric: &'static str,
    /// `min`, `max`, `max_drop` or `min_gain`.
    pub(super) condition: &'static str,
    /// The condition's number or amount, as the recipe means it.
    pub(super) bound: String,
    /// Whether it holds.
    pub(super) holds: bool,
    /// Why.
    pub(super) reason: Reason,
    /// The candidate's value.
    pub(super) value: Option<f64>,
    /// The baseline's value, for a relative condition.
    pub(super) baseline: Option<f64>,
    /// The value that the candidate had to reach or not to pass.
    pub(super) limit: Option<f64>,
    /// All of it in words.
    pub(super) text: String,
}

/// Decides one condition.
pub(super) fn decide(condition: Condition, candidate: &Scores, baseline: &Baseline) -> Decided {
    let Condition { metric, name, rule } = condition;
    let (kind, bound) = match rule {
        Rule::Min(least) => ("min", least.to_string()),
        Rule::Max(most) => ("max", most.to_string()),
        Rule::MaxDrop(amount) => ("max_drop", amount.to_string()),
        Rule::MinGain(amount) => ("min_gain", amount.to_string()),
    };
    let mut decided = Decided {
        metric: name,
        condition: kind,
        bound,
        holds: false,
        reason: Reason::Compared,
        value: candidate.value(metric),
        baseline: None,
        limit: None,
        text: String::new(),
    };
    let settle = |mut decided: Decided, holds: bool, reason: Reason, text: String| {
        (decided.holds, decided.reason, decided.text) = (holds, reason, text);
        decided
    };
    if condition.is_relative() {
        let settled = match baseline {
            Baseline::Absent => {
                Some((true, Reason::NoBaseline, "there is no baseline yet".to_owned()))
            }
            Baseline::Same => {
                Some((true, Reason::IsBaseline, "the candidate is the baseline".to_owned()))
            }
            Baseline::Unusable(why) => {
                let text = format!("the baseline cannot be scored on this data: {why}");
                Some((false, Reason::BaselineUnusable, text))
            }
            Baseline::Scored(scores) => {
                decided.baseline = scores.value(metric);
                None
            }
        };
        if let Some((holds, reason, text)) = settled {
            return settle(decided, holds, reason, format!("{name}: {text}"));
        }
    }
    let Some(value) = decided.value else {
        let text = format!("{name} is undefined on this test data, which holds one class only");
        return settle(decided, false, Reason::Undefined, text);
    };
    // The same rows make a metric defined or not, whatever the model.
    let reference = decided.baseline.unwrap_or(value);
    // For metrics where lower is better a loss points up, a gain down.
    let sign = if metric.lower_is_better() { -1.0 } else { 1.0 };
    let (limit, at_least) = match rule {
        Rule::Min(least) => (least, true),
        Rule::Max(most) => (most, false),
        Rule::MaxDrop(amount) => (reference - sign * amount.of(reference), sign > 0.0),
        Rule::MinGain(amount) => (reference + sign * amount.of(reference), sign > 0.0),
    };
    // A limit that was computed is off by a few roundings: 10 % below 0.8 is to be 0.72, not more.
    let slack = if condition.is_relative() { 4.0 * f64::EPSILON * reference.abs() } else { 0.0 };
    let holds = if at_least { value >= limit - slack } else { value <= limit + slack };
    let (value, limit_text) = distinct(value, limit);
    let side = if at_least { "at least" } else { "at most" };
    let verb = if holds { "is" } else { "is not" };
    let text = match rule {
        Rule::Min(_) | Rule::Max(_) => format!("{name} {value} {verb} {side} {limit_text}"),
        Rule::MaxDrop(amount) | Rule::MinGain(amount) => {
            let than = match rule {
                Rule::MaxDrop(_) => "a drop of at most",
                _ => "a gain of at least",
            };
            let base = figure(reference);
            format!(
                "{name} {value} {verb} {side} {limit_text}, {than} {amount} from the baseline's {base}"
            )
        }
    };
    decided.limit = Some(limit);
    settle(decided, holds, Reason::Compared, text)
}

/// Two numbers for one sentence: short, unless they would look the same without being it.
fn distinct(a: f64, b: f64) -> (String, String) {
    let short = (figure(a), figure(b));
    let blurred = short.0 == short.1 && a.to_bits() != b.to_bits();
    if blurred { (a.to_string(), b.to_string()) } else { short }
}

/// A number with at most six decimals.
pub(super) fn figure(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    if rounded.is_finite() { rounded.to_string() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Decision, score};

    #[test]
    fn no_gate_makes_its_reader_panic() {
        let scores = scores(7, 10);
        kiln_fuzzing::Fuzz::new("gate")
            .samples([
                r#"{"metric":"f1","min":0.9}"#,
                r#"{"metric":"accuracy","max_drop":"2%"}"#,
                r#"{"metric":"log_loss","min_gain":0.1,"confidence":0.95}"#,
            ])
            .words([
                "1e400",
                "\"1e400%\"",
                "\"nan%\"",
                "\"%\"",
                "null",
                "-1",
                "min",
                "max",
                "confidence",
                "é",
            ])
            .texts(|text| {
                let Ok(gate) = serde_json::from_str::<Gate>(text) else { return };
                for condition in conditions(&[gate]).unwrap_or_default() {
                    for baseline in [Baseline::Absent, Baseline::Same, scored(6)] {
                        let _ = format!("{:?}", decide(condition, &scores, &baseline));
                    }
                }
            });
    }

    /// Scores of a classifier that is sure of itself and right on `right` of `rows` rows.
    fn scores(right: usize, rows: usize) -> Scores {
        let truth: Vec<usize> = (0..rows).map(|row| row % 2).collect();
        let p: Vec<f32> = (0..rows)
            .flat_map(|row| {
                let says = if row < right { row % 2 } else { 1 - row % 2 };
                if says == 1 { [0.1, 0.9] } else { [0.9, 0.1] }
            })
            .collect();
        score(2, Decision::Threshold { positive: 1, threshold: 0.5 }, &truth, &p)
    }

    fn verdicts(gate: &str, candidate: usize, baseline: &Baseline) -> Vec<Decided> {
        let gate: Gate = serde_json::from_str(gate).unwrap();
        let conditions = conditions(&[gate]).unwrap();
        conditions.into_iter().map(|c| decide(c, &scores(candidate, 100), baseline)).collect()
    }

    fn one(gate: &str, candidate: usize, baseline: &Baseline) -> Decided {
        verdicts(gate, candidate, baseline).remove(0)
    }

    fn scored(right: usize) -> Baseline {
        Baseline::Scored(Box::new(scores(right, 100)))
    }

    #[test]
    fn absolute_gates_hold_at_their_bound() {
        let absent = Baseline::Absent;
        assert!(one(r#"{"metric":"accuracy","min":0.9}"#, 90, &absent).holds);
        let low = one(r#"{"metric":"accuracy","min":0.9}"#, 89, &absent);
        assert!(!low.holds);
        assert_eq!(low.text, "accuracy 0.89 is not at least 0.9");
        assert!(one(r#"{"metric":"accuracy","max":0.9}"#, 90, &absent).holds);
        assert!(!one(r#"{"metric":"accuracy","max":0.9}"#, 91, &absent).holds);
    }

    #[test]
    fn a_share_is_of_the_baselines_value_and_a_number_is_not() {
        assert!(one(r#"{"metric":"accuracy","max_drop":"10%"}"#, 72, &scored(80)).holds);
        let low = one(r#"{"metric":"accuracy","max_drop":"10%"}"#, 71, &scored(80));
        assert!(!low.holds);
        assert_eq!(
            low.text,
            "accuracy 0.71 is not at least 0.72, a drop of at most 10% from the baseline's 0.8"
        );
        assert!(one(r#"{"metric":"accuracy","max_drop":0.1}"#, 71, &scored(80)).holds);
        assert!(!one(r#"{"metric":"accuracy","min_gain":"1%"}"#, 80, &scored(80)).holds);
        assert!(one(r#"{"metric":"accuracy","min_gain":"1%"}"#, 81, &scored(80)).holds);
    }

    #[test]
    fn for_log_loss_a_drop_is_a_rise() {
        let gate = r#"{"metric":"log_loss","max_drop":"1%"}"#;
        assert!(one(gate, 85, &scored(80)).holds, "more right, less loss");
        assert!(!one(gate, 75, &scored(80)).holds);
        assert!(one(r#"{"metric":"log_loss","min_gain":0.01}"#, 85, &scored(80)).holds);
        assert!(!one(r#"{"metric":"log_loss","min_gain":0.01}"#, 80, &scored(80)).holds);
    }

    #[test]
    fn without_a_comparison_only_absolute_conditions_decide() {
        let gate = r#"{"metric":"f1","min":0.99,"min_gain":"5%"}"#;
        for (baseline, reason) in
            [(Baseline::Absent, Reason::NoBaseline), (Baseline::Same, Reason::IsBaseline)]
        {
            let decided = verdicts(gate, 90, &baseline);
            assert!(!decided[0].holds);
            assert!(decided[1].holds);
            assert_eq!(decided[1].reason, reason);
        }
        let decided = verdicts(gate, 90, &Baseline::Unusable("no column \"x\"".to_owned()));
        assert!(!decided[1].holds);
        assert!(decided[1].text.contains("no column \"x\""));
    }

    #[test]
    fn an_undefined_metric_holds_no_gate() {
        let gate: Gate = serde_json::from_str(r#"{"metric":"roc_auc","min":0.1}"#).unwrap();
        let decision = Decision::Threshold { positive: 1, threshold: 0.5 };
        let scores = score(2, decision, &[1], &[0.1, 0.9]);
        let decided = decide(conditions(&[gate]).unwrap()[0], &scores, &Baseline::Absent);
        assert!(!decided.holds);
        assert_eq!(decided.reason, Reason::Undefined);
    }

    #[test]
    fn senseless_gates_are_refused() {
        let refusal = |text: &str| match serde_json::from_str::<Gate>(text) {
            Ok(gate) => conditions(&[gate]).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(
            refusal(r#"{"metric":"f2","min":0}"#),
            "gate 1: there is no metric \"f2\"; help: did you mean \"f1\"?"
        );
        assert!(refusal(r#"{"metric":"f1"}"#).contains("there is no condition"));
        assert!(refusal(r#"{"metric":"f1","max_drop":-0.1}"#).contains("at least 0"));
        assert!(refusal(r#"{"metric":"f1","max_drop":"2"}"#).contains("is no amount"));
        assert!(refusal(r#"{"metric":"f1","minimum":1}"#).contains("unknown field"));
    }
}
