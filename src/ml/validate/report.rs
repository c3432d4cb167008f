//! The report of a validation, as JSON for programs and as a page for people.
//!
//! `report.json`, format `kiln-validation-report`, version 1:
//!
//! | key | value |
//! |---|---|
//! | `format`, `version`, `builder` | `"kiln-validation-report"`, 1, `"validate"` |
//! | `verdict` | `accepted` and `reason` |
//! | `data` | `digest`; `rows` and `columns`, null where the file is no table |
//! | `suite` | `digest` |
//! | `summary` | how many checks `passed`, `failed` (as errors), `warned`, were `skipped` |
//! | `checks` | the findings: `check`, `column`, `severity`, `outcome`, `expected`, `observed`, `violations`, `share` (0 to 1), `examples` (`line`, `value`) |
//! | `profile` | for each column of the table: `column`, `nulls`, `distinct`, `numbers`; `min`, `max`, `mean` of its numbers, null without any |

use std::collections::HashSet;

use serde::Serialize;

use super::judge::{Finding, Outcome, is_null};
use super::rule::{Severity, Suite};
use crate::html::{self, Mark, escape, pill};
use crate::request::Verdict;
use crate::table::{Table, number};

/// The whole report.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    format: &'static str,
    version: u32,
    builder: &'static str,
    verdict: &'a Verdict,
    data: Data<'a>,
    suite: SuiteSource<'a>,
    summary: Summary,
    checks: &'a [Finding],
    profile: Vec<Profile<'a>>,
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    digest: &'a str,
    rows: Option<usize>,
    columns: Option<&'a [String]>,
}

#[derive(Debug, Serialize)]
struct SuiteSource<'a> {
    digest: &'a str,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    passed: usize,
    failed: usize,
    warned: usize,
    skipped: usize,
}

#[derive(Debug, Serialize)]
struct Profile<'a> {
    column: &'a str,
    nulls: usize,
    distinct: usize,
    numbers: usize,
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
}

/// The verdict that findings add up to: errors reject, and the first of them stand in the reason.
pub(super) fn verdict(findings: &[Finding]) -> Verdict {
    const NAMED: usize = 3;
    let count = |wanted: Mark| findings.iter().filter(|finding| mark(finding) == wanted).count();
    let (failed, warned) = (count(Mark::Bad), count(Mark::Warn));
    let warnings = match warned {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        more => format!(", {more} warnings"),
    };
    if failed == 0 {
        let passed = count(Mark::Good);
        return Verdict { accepted: true, reason: format!("{passed} checks passed{warnings}") };
    }
    let named: Vec<String> = findings
        .iter()
        .filter(|finding| mark(finding) == Mark::Bad)
        .take(NAMED)
        .map(|finding| {
            let column = finding.column.as_ref().map_or(String::new(), |name| format!("{name}: "));
            let line = finding.examples.first();
            let line =
                line.map_or(String::new(), |first| format!(", first on line {}", first.line));
            let (expected, observed) = (&finding.expected, &finding.observed);
            format!("{column}expected {expected}, found {observed}{line}")
        })
        .collect();
    let more =
        if failed > NAMED { format!("; and {} more", failed - NAMED) } else { String::new() };
    let checks = if failed == 1 { "check" } else { "checks" };
    let reason = format!("{failed} {checks} failed{warnings}: {}{more}", named.join("; "));
    Verdict { accepted: false, reason }
}

impl<'a> Report<'a> {
    /// Puts a report together. `table` is `None` where the file is no table.
    pub(super) fn new(
        verdict: &'a Verdict,
        data_digest: &'a str,
        suite_digest: &'a str,
        suite: &Suite,
        table: Option<&'a Table>,
        checks: &'a [Finding],
    ) -> Self {
        let mut summary = Summary::default();
        for finding in checks {
            match mark(finding) {
                Mark::Good => summary.passed += 1,
                Mark::Bad => summary.failed += 1,
                Mark::Warn => summary.warned += 1,
                Mark::Dim => summary.skipped += 1,
            }
        }
        Report {
            format: "kiln-validation-report",
            version: 1,
            builder: "validate",
            verdict,
            data: Data {
                digest: data_digest,
                rows: table.map(Table::rows),
                columns: table.map(Table::columns),
            },
            suite: SuiteSource { digest: suite_digest },
            summary,
            checks,
            profile: table.map_or_else(Vec::new, |table| profile(suite, table)),
        }
    }

    /// The report as a page.
    pub(super) fn page(&self) -> String {
        let mut figures: Vec<(String, &str)> = Vec::new();
        if let (Some(rows), Some(columns)) = (self.data.rows, self.data.columns) {
            figures.push((rows.to_string(), "rows"));
            figures.push((columns.len().to_string(), "columns"));
        }
        figures.push((self.summary.passed.to_string(), "checks passed"));
        figures.push((self.summary.failed.to_string(), "failed"));
        figures.push((self.summary.warned.to_string(), "warnings"));
        if self.summary.skipped > 0 {
            figures.push((self.summary.skipped.to_string(), "skipped"));
        }
        let mut body = html::figures(&figures);
        body.push_str("<h2>Checks</h2>\n");
        // What needs attention comes first; the order is otherwise the suite's.
        let mut sorted: Vec<&Finding> = self.checks.iter().collect();
        sorted.sort_by_key(|finding| match mark(finding) {
            Mark::Bad => 0,
            Mark::Warn => 1,
            Mark::Dim => 2,
            Mark::Good => 3,
        });
        let rows: Vec<Vec<String>> = sorted.into_iter().map(check_row).collect();
        body.push_str(&html::table(&["", "Column", "Check", "Expected", "Found"], &rows));
        if !self.profile.is_empty() {
            body.push_str("<h2>Columns</h2>\n");
            let rows: Vec<Vec<String>> = self.profile.iter().map(profile_row).collect();
            let header = ["Column", "Nulls", "Distinct", "Numbers", "Least", "Mean", "Greatest"];
            body.push_str(&html::table(&header, &rows));
        }
        body.push_str(&format!(
            "<footer>data {}, suite {}</footer>\n",
            html::digest(self.data.digest),
            html::digest(self.suite.digest)
        ));
        html::page("Validation", self.verdict, &body)
    }
}

fn mark(finding: &Finding) -> Mark {
    match (finding.outcome, finding.severity) {
        (Outcome::Passed, _) => Mark::Good,
        (Outcome::Skipped, _) => Mark::Dim,
        (Outcome::Failed, Severity::Error) => Mark::Bad,
        (Outcome::Failed, Severity::Warning) => Mark::Warn,
    }
}

fn check_row(finding: &Finding) -> Vec<String> {
    let mark = mark(finding);
    let word = match mark {
        Mark::Good => "passed",
        Mark::Warn => "warning",
        Mark::Bad => "failed",
        Mark::Dim => "skipped",
    };
    let mut found = escape(&finding.observed);
    if !finding.examples.is_empty() {
        let examples: Vec<String> = finding
            .examples
            .iter()
            .map(|example| match example.value.trim() {
                "" => format!("line {} (empty)", example.line),
                _ => format!("line {} <code>{}</code>", example.line, escape(&example.value)),
            })
            .collect();
        let more = finding.violations > finding.examples.len() as u64;
        let more = if more { ", …" } else { "" };
        found.push_str(&format!("<br><span class=\"note\">{}{more}</span>", examples.join(", ")));
    }
    vec![
        pill(mark, word),
        finding.column.as_deref().map_or_else(
            || "<span class=\"dim\">table</span>".to_owned(),
            |name| format!("<code>{}</code>", escape(name)),
        ),
        escape(finding.check.name()),
        escape(&finding.expected),
        found,
    ]
}

/// What each column holds, whatever the suite says of it.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 rows")]
fn profile<'a>(suite: &Suite, table: &'a Table) -> Vec<Profile<'a>> {
    let columns = table.columns().iter().enumerate().map(|(column, name)| {
        let cells = (0..table.rows()).map(|row| table.text(row, column));
        let values: Vec<&str> = cells.filter(|cell| !is_null(suite, cell)).collect();
        // Adding zero turns -0 into 0, whose order among the two would not be fixed.
        let numbers: Vec<f64> =
            values.iter().filter_map(|cell| number(cell)).map(|value| value + 0.0).collect();
        let sum: f64 = numbers.iter().sum();
        // The sum of huge numbers may leave the range of f64; then there is no mean to show.
        let mean = Some(sum / numbers.len() as f64).filter(|mean| mean.is_finite());
        Profile {
            column: name,
            nulls: table.rows() - values.len(),
            distinct: values.iter().collect::<HashSet<_>>().len(),
            numbers: numbers.len(),
            min: numbers.iter().copied().reduce(f64::min),
            max: numbers.iter().copied().reduce(f64::max),
            mean,
        }
    });
    columns.collect()
}

fn profile_row(profile: &Profile<'_>) -> Vec<String> {
    let figure = |value: Option<f64>| {
        value.map_or_else(String::new, |value| {
            let rounded = (value * 1e4).round() / 1e4;
            if rounded.is_finite() && value.abs() >= 1e-3 { rounded } else { value }.to_string()
        })
    };
    vec![
        format!("<code>{}</code>", escape(profile.column)),
        profile.nulls.to_string(),
        profile.distinct.to_string(),
        profile.numbers.to_string(),
        figure(profile.min),
        figure(profile.mean),
        figure(profile.max),
    ]
}
