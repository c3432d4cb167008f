//! Reading single values of the document, with a report where one is wrong.
//!
//! Unaware of which keys there are.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    params::{self, describe_node},
    paths::{self, Spelled},
    problems::{Problems, enumerate},
};
use crate::{
    diagnostic::{Diagnostic, nearest},
    graph::Value,
};

/// A value with its place.
pub(super) type Node<'a> = Spanned<DeValue<'a>>;
/// A key with its place.
pub(super) type KeyNode<'a> = Spanned<DeString<'a>>;

/// The normal form of a path or pattern, or `None` after a report.
pub(super) fn spelled(text: &str, node: &Node<'_>, problems: &mut Problems) -> Option<Spelled> {
    if text.contains("${") {
        problems.push(no_references(text, node, problems));
        return None;
    }
    paths::normal(text)
        .map_err(|why| {
            let mut problem = bad_path(text, node, why, problems);
            if problem.label.contains("is no pattern") {
                problem.help = vec!["in a pattern `*`, `?`, `[` and `{` have a meaning; `{ path = \"…\" }` takes them as they are".into()];
            }
            problems.push(problem);
        })
        .ok()
}

/// The normal form of a path whose every character is meant, or `None` after a report.
pub(super) fn literal(text: &str, node: &Node<'_>, problems: &mut Problems) -> Option<String> {
    if text.contains("${") {
        problems.push(no_references(text, node, problems));
        return None;
    }
    paths::path(text).map_err(|why| problems.push(bad_path(text, node, why, problems))).ok()
}

fn bad_path(text: &str, node: &Node<'_>, why: String, problems: &Problems) -> Diagnostic {
    problems
        .at(node.span(), format!("the path {text:?} cannot be used"), format!("it {why}"))
        .help("paths are relative to the recipe and stay inside its folder")
}

/// What is said where a reference cannot stand.
pub(super) fn no_references(text: &str, node: &Node<'_>, problems: &Problems) -> Diagnostic {
    problems
        .at(node.span(), format!("a reference in {text:?}"), "no reference can stand here")
        .help("references can stand in `run`, in values of `env` and in builders' arguments")
}

/// An amount with a unit, or a plain whole number.
pub(super) fn quantity<T>(
    node: &Node<'_>,
    key: &str,
    expected: &str,
    of_text: fn(&str) -> Result<T, String>,
    of_number: fn(i64) -> Result<T, String>,
    problems: &mut Problems,
) -> Option<T> {
    let found = match (node.get_ref(), params::scalar(node)) {
        (DeValue::String(text), _) => of_text(text),
        (_, Ok(Value::Int(number))) => of_number(number),
        _ => {
            problems.push(wrong_type(node, key, expected, problems));
            return None;
        }
    };
    found
        .map_err(|why| {
            let problem = problems
                .at(node.span(), format!("`{key}` cannot be read"), why)
                .help(format!("expected {expected}"));
            problems.push(problem);
        })
        .ok()
}

/// Where a table is defined: its `[header]`, or its key where it is written in one line.
pub(super) fn header(key: &KeyNode<'_>, node: &Node<'_>, problems: &Problems) -> Range<usize> {
    let is_header = node.get_ref().is_table()
        && problems.text().get(node.span()).is_some_and(|text| text.starts_with('['));
    if is_header { node.span() } else { key.span() }
}

/// Reports each key of `table` that is not in `valid`; says whether there was none.
pub(super) fn unknown_keys(
    table: &DeTable<'_>,
    valid: &[&str],
    of: &str,
    list: &str,
    problems: &mut Problems,
) -> bool {
    let mut sound = true;
    for (key, _) in table.iter() {
        let name = key.get_ref().as_ref();
        if !valid.contains(&name) {
            sound = false;
            let problem = problems.at(
                key.span(),
                format!("unknown key `{name}`"),
                format!("{of} has no such key"),
            );
            problems.push(problems.suggest(problem, name, valid, list));
        }
    }
    sound
}

/// Whether an unknown key of `table` was probably meant to be `wanted`.
pub(super) fn misspelt(table: &DeTable<'_>, wanted: &str, valid: &[&str]) -> bool {
    table
        .keys()
        .map(|key| key.get_ref().as_ref())
        .filter(|key| !valid.contains(key))
        .any(|key| nearest(key, valid.iter().copied()) == Some(wanted))
}

/// What is said of a value of the wrong type.
pub(super) fn wrong_type(
    node: &Node<'_>,
    key: &str,
    expected: &str,
    problems: &Problems,
) -> Diagnostic {
    problems.at(
        node.span(),
        format!("`{key}` has the wrong type"),
        format!("expected {expected}, found {}", describe_node(node)),
    )
}

/// A text, or `None` after a report.
pub(super) fn text<'a>(node: &'a Node<'a>, key: &str, problems: &mut Problems) -> Option<&'a str> {
    let found = node.get_ref().as_str();
    if found.is_none() {
        problems.push(wrong_type(node, key, "a text", problems));
    }
    found
}

/// One of `words`, or `None` after a report.
pub(super) fn word<'a>(
    node: &'a Node<'a>,
    key: &str,
    words: &[&str],
    problems: &mut Problems,
) -> Option<&'a str> {
    let found = text(node, key, problems)?;
    if words.contains(&found) {
        return Some(found);
    }
    let problem = problems.at(
        node.span(),
        format!("`{key}` cannot be {found:?}"),
        format!("expected one of {}", enumerate(words)),
    );
    problems.push(problem.suggest(found, words.iter().copied()));
    None
}
