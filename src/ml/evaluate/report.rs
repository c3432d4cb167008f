//! The report of an evaluation, as JSON for programs and as a page for people.
//!
//! `report.json`, format `kiln-evaluation-report`, version 1:
//!
//! | key | value |
//! |---|---|
//! | `format`, `version`, `builder` | `"kiln-evaluation-report"`, 1, `"evaluate"` |
//! | `verdict` | `accepted` and `reason` |
//! | `test` | `digest`, `rows` |
//! | `label`, `classes`, `positive`, `threshold` | what is predicted; the last two null without a positive class |
//! | `model` | `digest`, `metrics` (by name; null where undefined), `per_class`, `confusion` (`[true][predicted]`), `roc` (points of false and true positive rate, or null) |
//! | `baseline` | null, or `digest`, `state` (`"same"`, `"scored"`, `"unusable"`), `why` (if unusable) and, if scored, what `model` holds |
//! | `gates` | for each condition: `metric`, `condition`, `bound`, `holds`, `reason`, `value`, `baseline`, `limit`, `text` |

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::gate::{Baseline, Decided, figure};
use crate::html::{self, Mark, escape, pill};
use crate::metrics::{ClassScores, Metric, Scores};
use crate::request::Verdict;

/// The whole report.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    format: &'static str,
    version: u32,
    builder: &'static str,
    pub(super) verdict: &'a Verdict,
    pub(super) test: TestData<'a>,
    pub(super) label: &'a str,
    pub(super) classes: &'a [String],
    pub(super) positive: Option<&'a str>,
    pub(super) threshold: Option<f64>,
    model: Candidate<'a>,
    baseline: Option<Compared<'a>>,
    pub(super) gates: &'a [Decided],
}

#[derive(Debug, Serialize)]
pub(super) struct TestData<'a> {
    pub(super) digest: &'a str,
    pub(super) rows: usize,
}

#[derive(Debug, Serialize)]
struct Candidate<'a> {
    digest: &'a str,
    #[serde(flatten)]
    scored: Scored<'a>,
}

#[derive(Debug, Serialize)]
struct Scored<'a> {
    metrics: BTreeMap<&'static str, Option<f64>>,
    per_class: BTreeMap<&'a str, ClassScores>,
    confusion: &'a [Vec<u64>],
    roc: Option<&'a [[f64; 2]]>,
}

#[derive(Debug, Serialize)]
struct Compared<'a> {
    digest: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
    #[serde(flatten)]
    scored: Option<Scored<'a>>,
}

/// A model's digest, its classes and what it scored.
pub(super) struct Subject<'a> {
    pub(super) digest: &'a str,
    pub(super) classes: &'a [String],
    pub(super) scores: &'a Scores,
}

impl<'a> Subject<'a> {
    fn scored(&self) -> Scored<'a> {
        Scored {
            metrics: Metric::NAMES
                .iter()
                .map(|(name, metric)| (*name, self.scores.value(*metric)))
                .collect(),
            per_class: self
                .classes
                .iter()
                .map(String::as_str)
                .zip(self.scores.per_class.iter().copied())
                .collect(),
            confusion: &self.scores.confusion,
            roc: self.scores.roc.as_deref(),
        }
    }
}

/// What a report says beside the scores.
pub(super) struct Circumstances<'a> {
    pub(super) verdict: &'a Verdict,
    pub(super) test: TestData<'a>,
    pub(super) label: &'a str,
    pub(super) positive: Option<&'a str>,
    pub(super) threshold: Option<f64>,
    pub(super) gates: &'a [Decided],
}

impl<'a> Report<'a> {
    /// Puts a report together; the baseline comes with its digest and its classes.
    pub(super) fn new(
        about: Circumstances<'a>,
        model: &Subject<'a>,
        baseline: Option<(&'a str, &'a [String], &'a Baseline)>,
    ) -> Self {
        let compared = baseline.map(|(digest, classes, baseline)| {
            let (state, why, scored) = match baseline {
                Baseline::Scored(scores) => {
                    ("scored", None, Some(Subject { digest, classes, scores }.scored()))
                }
                Baseline::Unusable(why) => ("unusable", Some(why.as_str()), None),
                Baseline::Same | Baseline::Absent => ("same", None, None),
            };
            Compared { digest, state, why, scored }
        });
        Report {
            format: "kiln-evaluation-report",
            version: 1,
            builder: "evaluate",
            verdict: about.verdict,
            test: about.test,
            label: about.label,
            classes: model.classes,
            positive: about.positive,
            threshold: about.threshold,
            model: Candidate { digest: model.digest, scored: model.scored() },
            baseline: compared,
            gates: about.gates,
        }
    }

    /// The metrics that are defined, by name.
    pub(super) fn metrics(&self) -> BTreeMap<&'static str, f64> {
        let defined = |(name, value): (&&'static str, &Option<f64>)| Some((*name, (*value)?));
        self.model.scored.metrics.iter().filter_map(defined).collect()
    }

    /// The report as a page.
    pub(super) fn page(&self) -> String {
        let mut figures = vec![
            (self.test.rows.to_string(), "test rows"),
            (self.classes.len().to_string(), "classes"),
        ];
        if let (Some(positive), Some(threshold)) = (self.positive, self.threshold) {
            figures.push((positive.to_owned(), "positive class"));
            figures.push((threshold.to_string(), "threshold"));
        }
        let mut body = html::figures(&figures);
        if !self.gates.is_empty() {
            body.push_str("<h2>Gates</h2>\n");
            let rows: Vec<Vec<String>> = self.gates.iter().map(gate_row).collect();
            body.push_str(&html::table(&["", "Metric", "Condition", "Finding"], &rows));
        }
        body.push_str("<h2>Metrics</h2>\n");
        body.push_str(&self.metrics_table());
        body.push_str("<div class=\"grid\">\n<div><h2>Confusion</h2>\n");
        body.push_str(&self.confusion_table());
        body.push_str("</div>\n");
        if let Some(points) = self.model.scored.roc {
            let other = self.baseline.as_ref().and_then(|compared| compared.scored.as_ref());
            body.push_str("<div><h2>ROC curve</h2>\n");
            body.push_str(&curve(points, other.and_then(|scored| scored.roc)));
            body.push_str("</div>\n");
        }
        body.push_str("</div>\n<h2>Classes</h2>\n");
        body.push_str(&self.class_table());
        let _ = writeln!(
            body,
            "<footer>model {}, test {}{}</footer>",
            html::digest(self.model.digest),
            html::digest(self.test.digest),
            self.baseline.as_ref().map_or_else(String::new, |compared| format!(
                ", baseline {}",
                html::digest(compared.digest)
            ))
        );
        html::page("Evaluation", self.verdict, &body)
    }

    fn metrics_table(&self) -> String {
        let other = self.baseline.as_ref().and_then(|compared| compared.scored.as_ref());
        let rows: Vec<Vec<String>> = Metric::NAMES
            .iter()
            .map(|(name, metric)| {
                let value = self.model.scored.metrics[name];
                let mut row = vec![escape(name), shown(value)];
                if let Some(other) = other {
                    let before = other.metrics[name];
                    row.push(shown(before));
                    row.push(difference(*metric, value, before));
                }
                row
            })
            .collect();
        if other.is_some() {
            return html::table(&["Metric", "Candidate", "Baseline", "Difference"], &rows);
        }
        let note = match self.baseline.as_ref() {
            None => "There is no baseline to compare with.".to_owned(),
            Some(Compared { why: Some(why), .. }) => {
                format!("The baseline cannot be scored on this data: {}", escape(why))
            }
            Some(_) => "The candidate is the baseline.".to_owned(),
        };
        html::table(&["Metric", "Candidate"], &rows) + &format!("<p class=\"note\">{note}</p>\n")
    }

    fn confusion_table(&self) -> String {
        let mut header = vec!["true \\ predicted"];
        header.extend(self.classes.iter().map(String::as_str));
        let rows: Vec<Vec<String>> = self
            .model
            .scored
            .confusion
            .iter()
            .zip(self.classes)
            .enumerate()
            .map(|(class, (counts, name))| {
                let mut row = vec![format!("<code>{}</code>", escape(name))];
                row.extend(counts.iter().enumerate().map(|(other, count)| {
                    let class = match (class == other, *count) {
                        (_, 0) => "dim",
                        (true, _) => "good",
                        (false, _) => "bad",
                    };
                    format!("<span class=\"{class}\">{count}</span>")
                }));
                row
            })
            .collect();
        html::table(&header, &rows)
    }

    fn class_table(&self) -> String {
        let rows: Vec<Vec<String>> = self
            .classes
            .iter()
            .map(|name| {
                let class = &self.model.scored.per_class[name.as_str()];
                vec![
                    format!("<code>{}</code>", escape(name)),
                    class.support.to_string(),
                    shown(Some(class.precision)),
                    shown(Some(class.recall)),
                    shown(Some(class.f1)),
                    shown(class.roc_auc),
                ]
            })
            .collect();
        html::table(&["Class", "Rows", "Precision", "Recall", "f1", "ROC-AUC"], &rows)
    }
}

fn gate_row(decided: &Decided) -> Vec<String> {
    let (mark, word) = if decided.holds { (Mark::Good, "holds") } else { (Mark::Bad, "fails") };
    vec![
        pill(mark, word),
        escape(decided.metric),
        format!("<code>{} = {}</code>", escape(decided.condition), escape(&decided.bound)),
        escape(&decided.text),
    ]
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "<span class=\"dim\">undefined</span>".to_owned(), figure)
}

/// The signed change from the baseline, coloured by whether it is for the better.
fn difference(metric: Metric, value: Option<f64>, before: Option<f64>) -> String {
    let (Some(value), Some(before)) = (value, before) else { return String::new() };
    let change = value - before;
    let class = if change == 0.0 {
        "dim"
    } else if (change < 0.0) == metric.lower_is_better() {
        "good"
    } else {
        "bad"
    };
    let sign = if change > 0.0 { "+" } else { "" };
    format!("<span class=\"{class}\">{sign}{}</span>", figure(change))
}

/// The ROC curve as a drawing; the baseline's is dashed.
fn curve(points: &[[f64; 2]], baseline: Option<&[[f64; 2]]>) -> String {
    const SIZE: f64 = 300.0;
    const LEFT: f64 = 40.0;
    const TOP: f64 = 10.0;
    let line = |points: &[[f64; 2]]| {
        let place = |[x, y]: &[f64; 2]| {
            let (x, y) = (LEFT + x * SIZE, TOP + (1.0 - y) * SIZE);
            format!("{},{}", (x * 10.0).round() / 10.0, (y * 10.0).round() / 10.0)
        };
        points.iter().map(place).collect::<Vec<_>>().join(" ")
    };
    let mut svg = String::from(
        "<svg viewBox=\"0 0 360 350\" role=\"img\" aria-label=\"ROC curve\">\n\
         <rect x=\"40\" y=\"10\" width=\"300\" height=\"300\" fill=\"none\" \
         stroke=\"var(--line)\"/>\n\
         <path d=\"M40 310 L340 10\" stroke=\"var(--line)\" stroke-dasharray=\"3 4\"/>\n",
    );
    for (x, y, anchor, text) in [
        (40, 325, "middle", "0"),
        (340, 325, "middle", "1"),
        (190, 342, "middle", "false positive rate"),
        (32, 314, "end", "0"),
        (32, 14, "end", "1"),
    ] {
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>");
    }
    svg.push_str(
        "<text transform=\"translate(14 160) rotate(-90)\" text-anchor=\"middle\">true positive \
         rate</text>\n",
    );
    if let Some(baseline) = baseline {
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke=\"var(--soft)\" stroke-width=\"1.5\" \
             stroke-dasharray=\"5 4\" points=\"{}\"/>\n<text x=\"334\" y=\"302\" \
             text-anchor=\"end\">dashed: baseline</text>\n",
            line(baseline)
        );
    }
    let _ = write!(
        svg,
        "<polyline fill=\"none\" stroke=\"var(--accent)\" stroke-width=\"2\" \
         stroke-linejoin=\"round\" points=\"{}\"/>\n</svg>\n",
        line(points)
    );
    svg
}
