//! Holding a table against a suite: one result for each check, with what was seen and where.
//!
//! Unaware of files and of how results are shown.

use std::collections::HashMap;

use serde::Serialize;

use super::rule::{Check, ColumnRules, Limit, Severity, Suite, Value};
use crate::nearest::nearest;
use crate::table::{Table, TableError, shortened};

/// How many examples of violations a result keeps.
const EXAMPLES: usize = 5;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// What was asked for holds.
    Passed,
    /// It does not.
    Failed,
    /// It could not be looked at: the column or the table is not there.
    Skipped,
}

/// One check's result. Together the fields read: *expected* so and so, *observed* this.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Finding {
    /// Which check.
    pub(super) check: Check,
    /// The column that it looks at; `None` for the table as a whole.
    pub(super) column: Option<String>,
    /// How bad a failure is.
    pub(super) severity: Severity,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// What the suite asks for.
    pub(super) expected: String,
    /// What the table holds.
    pub(super) observed: String,
    /// How many rows (for `extra_columns`, columns) break the rule.
    pub(super) violations: u64,
    /// `violations` as a share of the rows that were looked at, from 0 to 1.
    pub(super) share: f64,
    /// The first violations, in the order of the file.
    pub(super) examples: Vec<Example>,
}

/// One violation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Example {
    /// The line on which the record starts, counted from 1.
    pub(super) line: u64,
    /// What stands in the cell, cut after 60 characters.
    pub(super) value: String,
}

/// What a table that cannot be read gets: the `format` check fails, all else is skipped.
pub(super) fn unreadable(suite: &Suite, error: &TableError) -> Vec<Finding> {
    let mut findings = vec![format(Outcome::Failed, error.to_string())];
    let missing = "the table cannot be read";
    findings.extend(row_count(suite, None));
    findings.extend(extra_columns(suite, None));
    for rules in &suite.columns {
        findings.push(Finding {
            outcome: Outcome::Skipped,
            observed: missing.to_owned(),
            ..required(rules, None)
        });
        findings.extend(skipped(rules, missing));
    }
    findings
}

/// Holds a table against a suite: the table's own checks, then each column's, in the suite's order.
pub(super) fn judge(suite: &Suite, table: &Table) -> Vec<Finding> {
    let shape = format!("{} columns, {} rows", table.columns().len(), table.rows());
    let mut findings = vec![format(Outcome::Passed, shape)];
    findings.extend(row_count(suite, Some(table)));
    findings.extend(extra_columns(suite, Some(table)));
    for rules in &suite.columns {
        findings.push(required(rules, Some(table)));
        match table.column(&rules.name) {
            Ok(column) => findings.extend(column_findings(suite, rules, table, column)),
            Err(_) => findings.extend(skipped(rules, "the column is not there")),
        }
    }
    findings
}

/// Whether a cell counts as no value.
pub(super) fn is_null(suite: &Suite, cell: &str) -> bool {
    suite.null_values.iter().any(|null| null == cell.trim())
}

fn format(outcome: Outcome, observed: String) -> Finding {
    Finding {
        check: Check::Format,
        column: None,
        severity: Severity::Error,
        outcome,
        expected: "a CSV table with a header".to_owned(),
        observed,
        violations: u64::from(outcome == Outcome::Failed),
        share: if outcome == Outcome::Failed { 1.0 } else { 0.0 },
        examples: Vec::new(),
    }
}

fn row_count(suite: &Suite, table: Option<&Table>) -> Option<Finding> {
    let expected = match (suite.min_rows, suite.max_rows) {
        (None, None) => return None,
        (Some(min), None) => format!("at least {min} rows"),
        (None, Some(max)) => format!("at most {max} rows"),
        (Some(min), Some(max)) => format!("{min} to {max} rows"),
    };
    let rows = table.map(|table| table.rows() as u64);
    let fits = rows.map(|rows| {
        suite.min_rows.is_none_or(|min| rows >= min) && suite.max_rows.is_none_or(|max| rows <= max)
    });
    Some(Finding {
        check: Check::RowCount,
        column: None,
        severity: suite.rows_severity,
        outcome: outcome(fits),
        expected,
        observed: rows.map_or_else(|| "not counted".to_owned(), |rows| format!("{rows} rows")),
        violations: u64::from(fits == Some(false)),
        share: if fits == Some(false) { 1.0 } else { 0.0 },
        examples: Vec::new(),
    })
}

fn extra_columns(suite: &Suite, table: Option<&Table>) -> Option<Finding> {
    let severity = suite.extra_columns?;
    let named = |name: &str| suite.columns.iter().any(|rules| rules.name == name);
    let extra: Option<Vec<&str>> = table.map(|table| {
        table.columns().iter().map(String::as_str).filter(|name| !named(name)).collect()
    });
    let observed = match extra.as_deref() {
        None => "not looked at".to_owned(),
        Some([]) => "none".to_owned(),
        Some(names) => names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", "),
    };
    let violations = extra.as_ref().map_or(0, |names| names.len() as u64);
    let total = table.map_or(0, |table| table.columns().len() as u64);
    Some(Finding {
        check: Check::ExtraColumns,
        column: None,
        severity,
        outcome: outcome(extra.map(|names| names.is_empty())),
        expected: "no column that the suite does not name".to_owned(),
        observed,
        violations,
        share: share(violations, total),
        examples: Vec::new(),
    })
}

fn required(rules: &ColumnRules, table: Option<&Table>) -> Finding {
    let present = table.is_none_or(|table| table.column(&rules.name).is_ok());
    let near = table.and_then(|table| {
        nearest(&rules.name, table.columns().iter().map(String::as_str)).filter(|_| !present)
    });
    Finding {
        check: Check::Required,
        column: Some(rules.name.clone()),
        severity: rules.severities.of(Check::Required),
        outcome: outcome(Some(present || !rules.required)),
        expected: if rules.required {
            "a column of this name"
        } else {
            "a column of this name, or none"
        }
        .to_owned(),
        observed: match (present, near) {
            (true, _) => "one".to_owned(),
            (false, None) => "none".to_owned(),
            (false, Some(near)) => format!("none, but there is {near:?}"),
        },
        violations: u64::from(!present && rules.required),
        share: if !present && rules.required { 1.0 } else { 0.0 },
        examples: Vec::new(),
    }
}

/// The checks that a column's rules ask for beyond its presence, with what each expects.
fn wanted(rules: &ColumnRules) -> Vec<(Check, String)> {
    let mut wanted = Vec::new();
    let mut tolerated = |check, text: String| {
        let most = match rules.max_violations {
            Limit::Count(0) => String::new(),
            limit => format!(", except in at most {limit} of the rows"),
        };
        wanted.push((check, text + &most));
    };
    if let Some(kind) = rules.kind {
        tolerated(Check::Type, format!("values of type {}", kind.name()));
    }
    if let Some(values) = &rules.allowed {
        let list = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        tolerated(Check::Allowed, format!("one of {list}"));
    }
    match (&rules.min, &rules.max) {
        (None, None) => {}
        (Some(min), None) => tolerated(Check::Range, format!("at least {min}")),
        (None, Some(max)) => tolerated(Check::Range, format!("at most {max}")),
        (Some(min), Some(max)) => tolerated(Check::Range, format!("{min} to {max}")),
    }
    if rules.unique {
        tolerated(Check::Unique, "every value once".to_owned());
    }
    if let Some(limit) = rules.max_nulls {
        let most = match limit {
            Limit::Count(0) => "no value missing".to_owned(),
            limit => format!("at most {limit} of the values missing"),
        };
        wanted.push((Check::Nulls, most));
    }
    let place = |check| Check::OF_A_COLUMN.iter().position(|(_, other)| *other == check);
    wanted.sort_by_key(|(check, _)| place(*check));
    wanted
}

fn skipped(rules: &ColumnRules, why: &str) -> Vec<Finding> {
    let findings = wanted(rules).into_iter().map(|(check, expected)| Finding {
        check,
        column: Some(rules.name.clone()),
        severity: rules.severities.of(check),
        outcome: Outcome::Skipped,
        expected,
        observed: why.to_owned(),
        violations: 0,
        share: 0.0,
        examples: Vec::new(),
    });
    findings.collect()
}

/// Violations of one check, as they are met.
#[derive(Default)]
struct Tally {
    count: u64,
    examples: Vec<Example>,
}

impl Tally {
    fn add(&mut self, line: u64, cell: &str) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(Example { line, value: shortened(cell) });
        }
    }
}

fn column_findings(
    suite: &Suite,
    rules: &ColumnRules,
    table: &Table,
    column: usize,
) -> Vec<Finding> {
    let mut tallies: HashMap<Check, Tally> = HashMap::new();
    let mut seen: HashMap<String, u64> = HashMap::new();
    let mut add = |check, row: usize, cell: &str| {
        tallies.entry(check).or_default().add(table.line(row), cell);
    };
    let mut values = 0;
    for row in 0..table.rows() {
        let cell = table.text(row, column);
        if is_null(suite, cell) {
            add(Check::Nulls, row, cell);
            continue;
        }
        values += 1;
        if rules.unique
            && *seen.entry(identity(rules, cell)).and_modify(|n| *n += 1).or_insert(1) > 1
        {
            add(Check::Unique, row, cell);
        }
        let kind = rules.kind.unwrap_or(super::rule::Kind::String);
        // A cell that is not of the type breaks that rule alone: it has no place in a range.
        let Some(value) = kind.read(cell) else {
            add(Check::Type, row, cell);
            continue;
        };
        if rules.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&value)) {
            add(Check::Allowed, row, cell);
        }
        let below = rules.min.as_ref().is_some_and(|min| value < *min);
        if below || rules.max.as_ref().is_some_and(|max| value > *max) {
            add(Check::Range, row, cell);
        }
    }
    let rows = table.rows() as u64;
    let finding = |(check, expected)| {
        let (limit, total, noun) = match check {
            Check::Nulls => (rules.max_nulls.unwrap_or(Limit::Count(0)), rows, "missing"),
            _ => (rules.max_violations, values, violation(check)),
        };
        let tally = tallies.remove(&check).unwrap_or_default();
        Finding {
            check,
            column: Some(rules.name.clone()),
            severity: rules.severities.of(check),
            outcome: outcome(Some(limit.holds(tally.count, total))),
            expected,
            observed: format!("{} of {total} {noun}", tally.count),
            violations: tally.count,
            share: share(tally.count, total),
            examples: tally.examples,
        }
    };
    wanted(rules).into_iter().map(finding).collect()
}

/// What makes two cells the same value: for numbers `1` and `1.0` are, for texts spaces count.
fn identity(rules: &ColumnRules, cell: &str) -> String {
    match rules.kind.and_then(|kind| kind.read(cell)) {
        // Adding zero turns -0 into 0.
        Some(Value::Number(number)) => format!("{}", number + 0.0),
        Some(Value::Text(_)) | None => cell.to_owned(),
        Some(value) => value.to_string(),
    }
}

fn violation(check: Check) -> &'static str {
    match check {
        Check::Type => "of another type",
        Check::Range => "out of range",
        Check::Unique => "repeated",
        _ => "not allowed",
    }
}

fn outcome(holds: Option<bool>) -> Outcome {
    match holds {
        None => Outcome::Skipped,
        Some(true) => Outcome::Passed,
        Some(false) => Outcome::Failed,
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 rows")]
fn share(count: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { count as f64 / total as f64 }
}
