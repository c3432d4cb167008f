//! What a suite asks of a table: plain values, and what it means for a cell to be of a type.
//!
//! Unaware of TOML and of reports.

use serde::Serialize;

use crate::table::number;

/// How bad a failed check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// The table is rejected.
    Error,
    /// The report says so; the table passes.
    Warning,
}

/// A whole suite.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Suite {
    /// The least number of rows, if any is asked for.
    pub(super) min_rows: Option<u64>,
    /// The greatest number of rows, if any is asked for.
    pub(super) max_rows: Option<u64>,
    /// How bad a wrong number of rows is.
    pub(super) rows_severity: Severity,
    /// How bad a column that the suite does not name is; `None` allows it.
    pub(super) extra_columns: Option<Severity>,
    /// The texts that count as no value, spaces around them aside.
    pub(super) null_values: Vec<String>,
    /// The columns, in the suite's order.
    pub(super) columns: Vec<ColumnRules>,
}

/// What a suite asks of one column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ColumnRules {
    /// The column's name.
    pub(super) name: String,
    /// Whether it must be there.
    pub(super) required: bool,
    /// What its values must be.
    pub(super) kind: Option<Kind>,
    /// How many nulls it may hold.
    pub(super) max_nulls: Option<Limit>,
    /// The values that it may hold: what is compared, and how the suite writes it.
    pub(super) allowed: Option<Vec<Value>>,
    /// Whether no value may come twice.
    pub(super) unique: bool,
    /// The least value.
    pub(super) min: Option<Value>,
    /// The greatest value.
    pub(super) max: Option<Value>,
    /// How many values may break the type, the allowed values, the range or the uniqueness, each
    /// counted by itself.
    pub(super) max_violations: Limit,
    /// The severity of each check, by its name; the rest are errors.
    pub(super) severities: Severities,
}

/// The severities of a column's checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Severities {
    /// That of every check not named in `named`.
    pub(super) default: Severity,
    /// By check.
    pub(super) named: Vec<(Check, Severity)>,
}

impl Severities {
    /// The severity of one check.
    pub(super) fn of(&self, check: Check) -> Severity {
        let named = self.named.iter().find(|(name, _)| *name == check);
        named.map_or(self.default, |(_, severity)| *severity)
    }
}

/// The checks, by the names that reports and suites use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Check {
    /// The file is a table at all.
    Format,
    /// The number of rows.
    RowCount,
    /// No column that the suite does not name.
    ExtraColumns,
    /// The column is there.
    Required,
    /// Every value is of the type.
    Type,
    /// Few enough values are missing.
    Nulls,
    /// Every value is one of a list.
    Allowed,
    /// Every value lies between two bounds.
    Range,
    /// No value comes twice.
    Unique,
}

impl Check {
    /// The checks of one column, in the order in which reports list them.
    pub(super) const OF_A_COLUMN: [(&'static str, Check); 6] = [
        ("required", Check::Required),
        ("type", Check::Type),
        ("nulls", Check::Nulls),
        ("allowed", Check::Allowed),
        ("range", Check::Range),
        ("unique", Check::Unique),
    ];

    /// The name that reports and suites use.
    pub(super) fn name(self) -> &'static str {
        match self {
            Check::Format => "format",
            Check::RowCount => "row_count",
            Check::ExtraColumns => "extra_columns",
            Check::Required => "required",
            Check::Type => "type",
            Check::Nulls => "nulls",
            Check::Allowed => "allowed",
            Check::Range => "range",
            Check::Unique => "unique",
        }
    }
}

/// How many rows may break a rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Limit {
    /// At most so many.
    Count(u64),
    /// At most so many of a hundred.
    Percent(f64),
}

impl Limit {
    /// Whether `count` of `total` is within the limit.
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 rows")]
    pub(super) fn holds(self, count: u64, total: u64) -> bool {
        match self {
            Limit::Count(most) => count <= most,
            Limit::Percent(percent) => count as f64 * 100.0 <= percent * total as f64,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Limit::Count(most) => write!(out, "{most}"),
            Limit::Percent(percent) => write!(out, "{percent}%"),
        }
    }
}

/// The type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text.
    String,
    /// Decimal digits with an optional sign.
    Integer,
    /// A finite decimal number.
    Number,
    /// `true` or `false`, in any letter case.
    Boolean,
    /// A day of the Gregorian calendar, `YYYY-MM-DD`.
    Date,
}

impl Kind {
    /// The types by the names that suites use.
    pub(super) const NAMES: [(&'static str, Kind); 5] = [
        ("string", Kind::String),
        ("integer", Kind::Integer),
        ("number", Kind::Number),
        ("boolean", Kind::Boolean),
        ("date", Kind::Date),
    ];

    /// The name that suites use.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
            Kind::Date => "date",
        }
    }

    /// What a cell means under this type, or `None` if it is not of the type. Spaces around a cell
    /// count for strings only.
    pub(super) fn read(self, cell: &str) -> Option<Value> {
        let trimmed = cell.trim();
        match self {
            Kind::String => Some(Value::Text(cell.to_owned())),
            Kind::Number => number(trimmed).map(Value::Number),
            Kind::Integer => {
                let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
                let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                if whole { number(trimmed).map(Value::Number) } else { None }
            }
            Kind::Boolean if trimmed.eq_ignore_ascii_case("true") => Some(Value::Flag(true)),
            Kind::Boolean if trimmed.eq_ignore_ascii_case("false") => Some(Value::Flag(false)),
            Kind::Boolean => None,
            Kind::Date => date(trimmed).map(Value::Date),
        }
    }
}

/// A value that cells are compared with. Values of different kinds are never equal.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub(super) enum Value {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// A truth value.
    Flag(bool),
    /// A day, as year, month, day.
    Date((u16, u8, u8)),
}

impl std::fmt::Display for Value {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Number(number) => write!(out, "{number}"),
            Value::Text(text) => write!(out, "{text:?}"),
            Value::Flag(flag) => write!(out, "{flag}"),
            Value::Date((year, month, day)) => write!(out, "{year:04}-{month:02}-{day:02}"),
        }
    }
}

/// The day that `YYYY-MM-DD` names, if there is one.
pub(super) fn date(text: &str) -> Option<(u16, u8, u8)> {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        let part = &bytes[range];
        let plain = part.iter().all(u8::is_ascii_digit);
        plain.then(|| part.iter().fold(0_u16, |sum, byte| sum * 10 + u16::from(byte - b'0')))
    };
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    let narrow = |number: u16| u8::try_from(number).ok();
    if (1..=days).contains(&day) { Some((year, narrow(month)?, narrow(day)?)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_a_day_that_exists() {
        assert_eq!(date("2024-02-29"), Some((2024, 2, 29)));
        for no in ["2023-02-29", "1900-02-29", "2024-13-01", "2024-04-31", "2024-4-01", "24-04-01é"]
        {
            assert_eq!(date(no), None, "{no}");
        }
    }

    #[test]
    fn types_accept_their_own_cells_only() {
        assert!(Kind::Integer.read(" -12 ").is_some());
        for no in ["1.0", "", "-", "1e3", "0x1"] {
            assert!(Kind::Integer.read(no).is_none(), "{no}");
        }
        assert!(Kind::Number.read("1e3").is_some());
        assert!(Kind::Number.read("nan").is_none());
        assert_eq!(Kind::Boolean.read("TRUE"), Some(Value::Flag(true)));
        assert!(Kind::Boolean.read("yes").is_none());
    }

    #[test]
    fn a_share_is_of_all_rows_and_exact_at_its_bound() {
        assert!(Limit::Percent(2.0).holds(2, 100));
        assert!(!Limit::Percent(2.0).holds(3, 100));
        assert!(Limit::Percent(0.0).holds(0, 0));
        assert!(!Limit::Count(0).holds(1, 1_000_000));
    }
}
