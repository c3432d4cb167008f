//! Typed access to a TOML document that remembers places: every problem is collected with its line
//! and column, so that one run reports them all.
//!
//! Unaware of what a suite means.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::rule::Limit;
use crate::nearest::suggestion;

/// One thing wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// What is wrong, why, and what to do.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// Collects problems of one document.
pub(super) struct Problems<'i> {
    text: &'i str,
    found: Vec<Problem>,
}

impl<'i> Problems<'i> {
    pub(super) fn new(text: &'i str) -> Self {
        Problems { text, found: Vec::new() }
    }

    /// Notes a problem at a place given in bytes.
    pub(super) fn note(&mut self, span: Range<usize>, message: impl Into<String>) {
        let start = self.text.floor_char_boundary(span.start);
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        self.found.push(Problem {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        });
    }

    /// All of them, in the order of the text.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| (problem.line, problem.column));
        self.found
    }

    /// The entries of a table in the order of the text, whatever order the parser keeps.
    pub(super) fn entries<'t>(
        table: &'t DeTable<'i>,
    ) -> Vec<(&'t str, Range<usize>, &'t Spanned<DeValue<'i>>)> {
        let mut entries: Vec<_> =
            table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value)).collect();
        entries.sort_by_key(|(_, span, _)| span.start);
        entries
    }

    /// Notes a key that the place does not know.
    pub(super) fn unknown(&mut self, key: &str, span: Range<usize>, place: &str, known: &[&str]) {
        let help = suggestion(key, known.iter().copied());
        self.note(span, format!("unknown key `{key}` in {place}; help: {help}"));
    }

    fn wrong(&mut self, key: &str, value: &Spanned<DeValue<'_>>, needed: &str) {
        let found = value.get_ref().type_str();
        self.note(value.span(), format!("`{key}` must be {needed}, but this is a TOML {found}"));
    }

    pub(super) fn table<'t>(
        &mut self,
        key: &str,
        value: &'t Spanned<DeValue<'i>>,
    ) -> Option<&'t DeTable<'i>> {
        if let DeValue::Table(table) = value.get_ref() {
            return Some(table);
        }
        self.wrong(key, value, "a table");
        None
    }

    pub(super) fn array<'t>(
        &mut self,
        key: &str,
        value: &'t Spanned<DeValue<'i>>,
    ) -> Option<&'t [Spanned<DeValue<'i>>]> {
        if let DeValue::Array(array) = value.get_ref() {
            return Some(array);
        }
        self.wrong(key, value, "an array");
        None
    }

    pub(super) fn flag(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<bool> {
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(key, value, "true or false");
        }
        flag
    }

    pub(super) fn text(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(key, value, "a string");
        }
        text
    }

    /// A string that must be one of a few.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(key, value)?;
        let found = choices.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let help = suggestion(&text, choices.iter().map(|(name, _)| *name));
            self.note(value.span(), format!("`{key}` cannot be {text:?}; help: {help}"));
        }
        found.map(|(_, choice)| *choice)
    }

    pub(super) fn count(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<u64> {
        let count = value
            .get_ref()
            .as_integer()
            .and_then(|integer| u64::from_str_radix(integer.as_str(), integer.radix()).ok());
        if count.is_none() {
            self.note(value.span(), format!("`{key}` must be a whole number of at least 0"));
        }
        count
    }

    /// A count such as `3`, or a share of the rows such as `"2%"`.
    pub(super) fn limit(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Limit> {
        if let Some(text) = value.get_ref().as_str() {
            let percent = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
            match percent {
                Some(percent) if (0.0..=100.0).contains(&percent) => {
                    return Some(Limit::Percent(percent));
                }
                _ => {
                    self.note(
                        value.span(),
                        format!(
                            "`{key}` cannot be {text:?}; help: write a number of rows such as 3, \
                             or a share of them from \"0%\" to \"100%\""
                        ),
                    );
                    return None;
                }
            }
        }
        self.count(key, value).map(Limit::Count)
    }

    /// A finite number, integer or float.
    pub(super) fn number(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<f64> {
        let number = number(value.get_ref());
        if number.is_none() {
            self.wrong(key, value, "a finite number");
        }
        number
    }
}

/// The finite number that a value is.
#[expect(clippy::cast_precision_loss, reason = "cells are compared as f64 too")]
pub(super) fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number as f64)
        }
        DeValue::Float(float) => {
            float.as_str().parse().ok().filter(|number: &f64| number.is_finite())
        }
        _ => None,
    }
}
