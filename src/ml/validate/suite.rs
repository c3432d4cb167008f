//! Reading a suite of checks from TOML; every problem is reported in one run.
//!
//! ```toml
//! [table]
//! min_rows = 100                  # and max_rows
//! extra_columns = "allow"         # or "warn", "reject": columns that the suite does not name
//! null_values = [""]              # what counts as no value
//! severity = "error"              # of the row count
//!
//! [columns.diagnosis]
//! required = true                 # the default
//! type = "string"                 # or "integer", "number", "boolean", "date"
//! max_nulls = 0                   # a number of rows, or a share such as "2%"
//! allowed = ["malignant", "benign"]
//! unique = false
//! max_violations = 0              # what the type, allowed, range and unique checks let pass
//! severity = "error"              # or "warning", or by check: { unique = "warning" }
//!
//! [columns.age]
//! type = "integer"
//! min = 0                         # and max: numbers, or dates such as "2024-01-31"
//! ```

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::rule::{Check, ColumnRules, Kind, Limit, Severities, Severity, Suite, Value};
use super::spanned::{Problem, Problems, number};

const TOP_KEYS: [&str; 2] = ["table", "columns"];
const TABLE_KEYS: [&str; 5] = ["min_rows", "max_rows", "extra_columns", "null_values", "severity"];
const COLUMN_KEYS: [&str; 9] = [
    "type",
    "required",
    "max_nulls",
    "allowed",
    "unique",
    "min",
    "max",
    "max_violations",
    "severity",
];
const SEVERITIES: [(&str, Severity); 2] =
    [("error", Severity::Error), ("warning", Severity::Warning)];

/// Reads a suite.
///
/// # Errors
/// All problems, in the order of the text.
pub(super) fn read(text: &str) -> Result<Suite, Vec<Problem>> {
    let (document, syntax) = DeTable::parse_recoverable(text);
    let mut problems = Problems::new(text);
    for error in &syntax {
        problems.note(error.span().unwrap_or(0..0), error.message());
    }
    if !syntax.is_empty() {
        // What a broken document seems to say is not worth a second message.
        return Err(problems.into_sorted());
    }
    let suite = suite(document.get_ref(), &mut problems);
    let problems = problems.into_sorted();
    if problems.is_empty() { Ok(suite) } else { Err(problems) }
}

fn suite<'i>(document: &DeTable<'i>, problems: &mut Problems<'i>) -> Suite {
    let mut suite = Suite {
        min_rows: None,
        max_rows: None,
        rows_severity: Severity::Error,
        extra_columns: None,
        null_values: vec![String::new()],
        columns: Vec::new(),
    };
    for (key, span, value) in Problems::entries(document) {
        match key {
            "table" => {
                if let Some(table) = problems.table(key, value) {
                    table_rules(table, &mut suite, problems);
                }
            }
            "columns" => {
                let Some(columns) = problems.table(key, value) else { continue };
                for (name, span, value) in Problems::entries(columns) {
                    if let Some(rules) = problems.table(name, value) {
                        let rules = column_rules(name, span, rules, problems);
                        suite.columns.push(rules);
                    }
                }
            }
            _ => problems.unknown(key, span, "a suite", &TOP_KEYS),
        }
    }
    suite
}

fn table_rules<'i>(table: &DeTable<'i>, suite: &mut Suite, problems: &mut Problems<'i>) {
    let mut last = 0..0;
    for (key, span, value) in Problems::entries(table) {
        match key {
            "min_rows" => suite.min_rows = problems.count(key, value),
            "max_rows" => {
                suite.max_rows = problems.count(key, value);
                last = value.span();
            }
            "extra_columns" => {
                let choices = [
                    ("allow", None),
                    ("warn", Some(Severity::Warning)),
                    ("reject", Some(Severity::Error)),
                ];
                suite.extra_columns = problems.choice(key, value, &choices).flatten();
            }
            "null_values" => {
                let Some(values) = problems.array(key, value) else { continue };
                let texts = values.iter().filter_map(|value| problems.text(key, value));
                suite.null_values = texts.map(|text| text.trim().to_owned()).collect();
            }
            "severity" => {
                if let Some(severity) = problems.choice(key, value, &SEVERITIES) {
                    suite.rows_severity = severity;
                }
            }
            _ => problems.unknown(key, span, "`[table]`", &TABLE_KEYS),
        }
    }
    if let (Some(min), Some(max)) = (suite.min_rows, suite.max_rows)
        && min > max
    {
        problems.note(last, format!("`max_rows` is {max}, less than `min_rows`, which is {min}"));
    }
}

fn column_rules<'i>(
    name: &str,
    name_span: Range<usize>,
    table: &DeTable<'i>,
    problems: &mut Problems<'i>,
) -> ColumnRules {
    let mut rules = ColumnRules {
        name: name.to_owned(),
        required: true,
        kind: None,
        max_nulls: None,
        allowed: None,
        unique: false,
        min: None,
        max: None,
        max_violations: Limit::Count(0),
        severities: Severities { default: Severity::Error, named: Vec::new() },
    };
    if name.trim().is_empty() {
        problems.note(name_span, "a column's name cannot be empty");
    }
    let entries = Problems::entries(table);
    // The type decides how bounds and allowed values are read, wherever it stands.
    if let Some((key, _, value)) = entries.iter().find(|(key, ..)| *key == "type") {
        rules.kind = problems.choice(key, value, &Kind::NAMES);
    }
    let typed = rules.kind.is_some() || !entries.iter().any(|(key, ..)| *key == "type");
    for (key, span, value) in entries {
        match key {
            "type" => {}
            "required" => rules.required = problems.flag(key, value).unwrap_or(true),
            "max_nulls" => rules.max_nulls = problems.limit(key, value),
            "allowed" if typed => rules.allowed = allowed(rules.kind, value, problems),
            "unique" => rules.unique = problems.flag(key, value).unwrap_or(false),
            "min" if typed => rules.min = bound(key, rules.kind, value, problems),
            "max" if typed => {
                rules.max = bound(key, rules.kind, value, problems);
                if let (Some(min), Some(max)) = (&rules.min, &rules.max)
                    && min > max
                {
                    problems.note(value.span(), format!("`max` is {max}, less than `min`, {min}"));
                }
            }
            "allowed" | "min" | "max" => {}
            "max_violations" => {
                rules.max_violations = problems.limit(key, value).unwrap_or(Limit::Count(0));
            }
            "severity" => severities(value, &mut rules.severities, problems),
            _ => problems.unknown(key, span, &format!("`[columns.{name}]`"), &COLUMN_KEYS),
        }
    }
    rules
}

/// A bound of a range, which needs a type that has an order.
fn bound<'i>(
    key: &str,
    kind: Option<Kind>,
    value: &Spanned<DeValue<'i>>,
    problems: &mut Problems<'i>,
) -> Option<Value> {
    match kind {
        Some(Kind::Integer | Kind::Number) => problems.number(key, value).map(Value::Number),
        Some(Kind::Date) => constant(Kind::Date, value.get_ref()).or_else(|| {
            let message = format!("`{key}` must be a date such as \"2024-01-31\"");
            problems.note(value.span(), message);
            None
        }),
        Some(Kind::String | Kind::Boolean) | None => {
            let message = format!(
                "`{key}` needs a type with an order; help: set `type` to \"integer\", \"number\" \
                 or \"date\""
            );
            problems.note(value.span(), message);
            None
        }
    }
}

/// The list of allowed values, each of the column's type; without one, the cells' text counts.
fn allowed<'i>(
    kind: Option<Kind>,
    value: &Spanned<DeValue<'i>>,
    problems: &mut Problems<'i>,
) -> Option<Vec<Value>> {
    let values = problems.array("allowed", value)?;
    if values.is_empty() {
        problems.note(value.span(), "`allowed` is empty, so that no value could ever pass");
        return None;
    }
    let kind = kind.unwrap_or(Kind::String);
    let mut list = Vec::new();
    for value in values {
        match constant(kind, value.get_ref()) {
            Some(constant) => list.push(constant),
            None => {
                let found = value.get_ref().type_str();
                let needed = kind.name();
                let message = format!(
                    "this {found} is not of the column's type, {needed}; help: `allowed` lists \
                     values of type {needed}"
                );
                problems.note(value.span(), message);
            }
        }
    }
    Some(list)
}

/// A value that a suite writes, if it is of the type.
fn constant(kind: Kind, value: &DeValue<'_>) -> Option<Value> {
    match (kind, value) {
        (Kind::String | Kind::Date, DeValue::String(text)) => kind.read(text),
        // TOML writes local dates without quotes too.
        (Kind::Date, DeValue::Datetime(date)) => kind.read(&date.to_string()),
        (Kind::Boolean, DeValue::Boolean(flag)) => Some(Value::Flag(*flag)),
        (Kind::Number, value) => number(value).map(Value::Number),
        (Kind::Integer, DeValue::Integer(_)) => number(value).map(Value::Number),
        _ => None,
    }
}

/// `severity = "warning"`, or `severity = { unique = "warning" }`.
fn severities<'i>(
    value: &Spanned<DeValue<'i>>,
    severities: &mut Severities,
    problems: &mut Problems<'i>,
) {
    let DeValue::Table(table) = value.get_ref() else {
        if let Some(severity) = problems.choice("severity", value, &SEVERITIES) {
            severities.default = severity;
        }
        return;
    };
    let names = Check::OF_A_COLUMN.map(|(name, _)| name);
    for (key, span, value) in Problems::entries(table) {
        let check = Check::OF_A_COLUMN.iter().find(|(name, _)| *name == key);
        let Some((_, check)) = check else {
            problems.unknown(key, span, "`severity`", &names);
            continue;
        };
        if let Some(severity) = problems.choice(key, value, &SEVERITIES) {
            severities.named.push((*check, severity));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages(text: &str) -> Vec<String> {
        read(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_full_suite_is_read_in_its_own_order() {
        let suite = read(
            "[table]\nmin_rows = 1\nmax_rows = 9\nextra_columns = \"reject\"\n\
             null_values = [\"\", \"NA\"]\nseverity = \"warning\"\n\
             [columns.z]\ntype = \"integer\"\nmin = 0\nmax = 0x10\nmax_nulls = \"2.5%\"\n\
             severity = { nulls = \"warning\" }\n\
             [columns.\"a b\"]\nrequired = false\nallowed = [\"x\"]\nunique = true\n\
             max_violations = 2\nseverity = \"warning\"\n\
             [columns.d]\ntype = \"date\"\nmin = 2024-01-31\nmax = \"2024-02-01\"\n",
        )
        .unwrap();
        assert_eq!((suite.min_rows, suite.max_rows), (Some(1), Some(9)));
        assert_eq!(suite.rows_severity, Severity::Warning);
        assert_eq!(suite.extra_columns, Some(Severity::Error));
        assert_eq!(suite.null_values, ["", "NA"]);
        let names: Vec<&str> = suite.columns.iter().map(|rules| rules.name.as_str()).collect();
        assert_eq!(names, ["z", "a b", "d"]);
        let z = &suite.columns[0];
        assert_eq!((&z.min, &z.max), (&Some(Value::Number(0.0)), &Some(Value::Number(16.0))));
        assert_eq!(z.max_nulls, Some(Limit::Percent(2.5)));
        assert_eq!(z.severities.of(Check::Nulls), Severity::Warning);
        assert_eq!(z.severities.of(Check::Type), Severity::Error);
        assert_eq!(suite.columns[1].severities.of(Check::Unique), Severity::Warning);
        assert_eq!(suite.columns[2].min, Some(Value::Date((2024, 1, 31))));
    }

    #[test]
    fn all_problems_come_in_one_run_with_their_places() {
        let text = "[table]\nmin_row = 1\nmax_rows = -1\n[columns.a]\ntype = \"interger\"\n\
                    min = 3\n[columns.b]\nmin = 1\nmax_nulls = \"200%\"\n\
                    [columns.c]\ntype = \"integer\"\nallowed = [1, \"x\"]\nmin = 5\nmax = 4\n\
                    severity = { uniq = \"warning\", type = \"fatal\" }\n[column.d]\n";
        assert_eq!(
            messages(text),
            [
                "2:1: unknown key `min_row` in `[table]`; help: did you mean \"min_rows\"?",
                "3:12: `max_rows` must be a whole number of at least 0",
                "5:8: `type` cannot be \"interger\"; help: did you mean \"integer\"?",
                "8:7: `min` needs a type with an order; help: set `type` to \"integer\", \
                 \"number\" or \"date\"",
                "9:13: `max_nulls` cannot be \"200%\"; help: write a number of rows such as 3, or \
                 a share of them from \"0%\" to \"100%\"",
                "12:15: this string is not of the column's type, integer; help: `allowed` lists \
                 values of type integer",
                "14:7: `max` is 4, less than `min`, 5",
                "15:14: unknown key `uniq` in `severity`; help: did you mean \"unique\"?",
                "15:39: `type` cannot be \"fatal\"; help: there are: \"error\", \"warning\"",
                "16:2: unknown key `column` in a suite; help: did you mean \"columns\"?",
            ]
        );
    }

    #[test]
    fn broken_toml_is_placed() {
        let found = messages("[table]\nmin_rows = \n");
        assert!(found[0].starts_with("2:"), "{found:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = read(&text);
        }

        #[test]
        fn any_value_under_a_known_key_is_read_or_refused(
            key in prop::sample::select(COLUMN_KEYS.to_vec()),
            value in "(\"[a-z0-9%-]{0,6}\"|-?[0-9]{1,25}|[0-9]\\.[0-9]e[0-9]{1,3}|nan|\\[1,\"é\"\\]|\\{a=1\\}|1979-05-27)",
        ) {
            let _ = read(&format!("[columns.a]\n{key} = {value}\n"));
        }
    }
}
