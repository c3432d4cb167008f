//! Names that a recipe gives: recipe, steps, sources, parameters, deployments, outputs, files, programs, variables.
//!
//! Which text is a name, and the message where one is not.

use toml::{Spanned, de::DeString};

use super::problems::Problems;
use crate::diagnostic::Diagnostic;

/// Names become file names in the store and in `result/`; this leaves room for what is added to them.
const LONGEST: usize = 128;

/// The longest name of a file that a step makes, in bytes.
const LONGEST_FILE: usize = 200;

/// The name of a step, source, parameter or deployment.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= LONGEST
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// The name of a recipe.
pub(super) fn is_recipe_name(name: &str) -> bool {
    name.len() <= LONGEST
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// The name of an output.
pub(super) fn is_output_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// The name of an environment variable.
pub(super) fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Why `name` cannot be the name of a file under `/build/out`, if it cannot.
pub(super) fn file_name_flaw(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("is empty".to_owned());
    }
    if matches!(name, "." | "..") {
        return Some("is a folder's name for itself or for its parent".to_owned());
    }
    if name.contains('/') {
        return Some("has a `/`: an output is one file or folder".to_owned());
    }
    if let Some(control) = name.chars().find(|c| c.is_control()) {
        return Some(format!("has the control character {}", control.escape_default()));
    }
    (name.len() > LONGEST_FILE)
        .then(|| format!("has {} bytes, more than {LONGEST_FILE}", name.len()))
}

/// Why `name` cannot be the name of a program, if it cannot.
pub(super) fn program_flaw(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("is empty".to_owned());
    }
    if name.contains('/') {
        return Some("has a `/`: a tool is named, and found in PATH".to_owned());
    }
    if matches!(name, "." | "..") || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some("is no program's name".to_owned());
    }
    None
}

/// Why `name` is none: it is empty, or too long, or against `rule`.
pub(super) fn flaw(name: &str, rule: &str) -> String {
    match name.chars().count() {
        0 => "it is empty".to_owned(),
        length if length > LONGEST => {
            format!("it is too long: {length} characters, more than {LONGEST}")
        }
        _ => rule.to_owned(),
    }
}

/// What is said of a key that is not a name.
pub(super) fn bad_name(problems: &Problems, key: &Spanned<DeString<'_>>, what: &str) -> Diagnostic {
    let name = key.get_ref();
    let why = flaw(
        name,
        "a name is letters, digits, `_` and `-`, and does not begin with a digit or `-`",
    );
    problems.at(key.span(), format!("`{name}` cannot be the name of a {what}"), why)
}
