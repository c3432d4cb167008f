//! What builders there are: their arguments, types, outputs, and what their results depend on.
//!
//! The engine declares the shape of the table; whoever wires kiln together fills it in. One table drives
//! parsing, error messages, `kiln help builder`, and the generated reference. This module is unaware
//! of what any builder does.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

pub use crate::graph::Availability;
use crate::graph::Value;

/// Every builder that kiln brings, sorted by name. `command` is not among them: it is the engine's own.
#[derive(Clone, Copy, Debug)]
pub struct Catalogue {
    /// The rows.
    pub builders: &'static [Builder],
}

impl Catalogue {
    /// The builder called `name`.
    pub fn get(&self, name: &str) -> Option<&'static Builder> {
        self.builders.iter().find(|builder| builder.name == name)
    }

    /// All names, in the table's order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.builders.iter().map(|builder| builder.name)
    }
}

/// One row: a builder that kiln brings.
#[derive(Debug)]
pub struct Builder {
    /// What a recipe writes after `builder =`.
    pub name: &'static str,
    /// The semantic version: part of every key. It rises when the same arguments and inputs give other bytes.
    pub version: u32,
    /// One sentence.
    pub summary: &'static str,
    /// Paragraphs for the reference.
    pub details: &'static str,
    /// A step as one would write it, in TOML.
    pub example: &'static str,
    /// Arguments, in the order in which the reference lists them.
    pub args: &'static [Arg],
    /// Outputs, fixed or named by an argument.
    pub outputs: Outputs,
    /// Whether architecture and operating system can change the result; false for exact builders.
    pub platform: bool,
    /// Whether it gives a verdict.
    pub gate: bool,
    /// Libraries of the machine's that it works with: a step with the first that its arguments ask for.
    pub libraries: &'static [Library],
    /// Finds what no run could put right, in arguments whose types are right.
    pub check: Option<Check>,
}

/// A library that is installed on the machine. The digests of its files are in the key, and a step sees them, read-only.
#[derive(Clone, Copy, Debug)]
pub struct Library {
    /// What messages and keys call it.
    pub name: &'static str,
    /// Finds it, by the caller's variables. With no files, it is as if the step asked for none: its key says so.
    pub find: Find,
    /// Whether a step with these arguments asks for it.
    pub when: fn(&BTreeMap<String, Value>) -> bool,
    /// Whether such a step is lent a GPU.
    pub gpu: Gpu,
}

/// Whether a step that works with a library is lent a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpu {
    /// It needs none.
    Unneeded,
    /// One, without which it cannot run.
    Needed,
    /// One if there is one.
    IfThere,
}

/// The files of a library in the order in which they are opened, or why there are none and how to go on.
pub type Find = fn(&dyn Fn(&str) -> Option<OsString>) -> Result<Vec<PathBuf>, String>;

/// Takes the arguments of a step by name: defaults filled in, parameters put in, those left out absent.
pub type Check = fn(&BTreeMap<String, Value>) -> Vec<Complaint>;

/// A mistake in the arguments of a step that shows before anything runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Where it stands, from the step inwards; the first is the name of an argument.
    pub path: Vec<Inward>,
    /// What is wrong, in one lower-case line without a full stop.
    pub message: String,
    /// Why: the rule, and what is there instead.
    pub why: String,
    /// How to go on.
    pub help: String,
}

/// One step on the way to a value inside an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inward {
    /// To the key of this name in a table.
    Key(String),
    /// To an item of a list, counted from 0.
    Item(usize),
}

impl Builder {
    /// The argument called `name`.
    pub fn arg(&self, name: &str) -> Option<&'static Arg> {
        self.args.iter().find(|arg| arg.name == name)
    }
}

/// One argument of a builder, or one field of a table argument.
#[derive(Debug)]
pub struct Arg {
    /// The key in the recipe.
    pub name: &'static str,
    /// What may stand there.
    pub ty: Type,
    /// Whether it must stand there, and what holds where it does not.
    pub presence: Presence,
    /// Whether it enters the key.
    pub role: Role,
    /// What it means: shape, unit, range.
    pub doc: &'static str,
}

/// Whether an argument has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It must be there.
    Required,
    /// It may be left out, and is then absent.
    Optional,
    /// Left out, it is this TOML value: writing the default out does not change the key.
    Default(&'static str),
}

/// Whether an argument can change the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It enters the key.
    Key,
    /// It says how, not what: recorded, not hashed.
    Implementation,
}

/// The type of an argument.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// A whole number in a range, ends included.
    Int {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// A number in a range, ends included; never NaN. Whole numbers are taken too.
    Float {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// Any text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A number, or a share of another one, written `"2%"`. Handed on as number or text.
    Amount,
    /// A list of this type.
    List(&'static Type),
    /// A table with these fields and no others.
    Table(&'static [Arg]),
    /// A table from names of the author's choice to this type; not empty.
    Map(&'static Type),
    /// A table whose field `kind` is one of these words and decides which other fields there are.
    Kinds(&'static [(&'static str, &'static [Arg])]),
    /// A reference to a file or folder: `"${sources.data}"`, `"${split.train}"`.
    Input,
}

impl Type {
    /// What may stand there, as it follows "expected".
    pub fn phrase(&self) -> String {
        match self {
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Int { min, max } => {
                let bound = |bound: i64| (bound != i64::MIN && bound != i64::MAX).then_some(bound);
                format!("a whole number{}", range(bound(*min), bound(*max)))
            }
            Self::Float { min, max } => {
                let bound = |bound: f64| {
                    (bound.is_finite() && bound.abs() != f64::MAX).then(|| bound_text(bound))
                };
                format!("a number{}", range(bound(*min), bound(*max)))
            }
            Self::Text => "a text".to_owned(),
            Self::Word(words) => format!("one of {}", enumerate(words.iter().copied())),
            Self::Amount => "a number, or a share such as `\"2%\"`".to_owned(),
            Self::List(item) => format!("a list, each item {}", item.phrase()),
            Self::Table(fields) => {
                format!("a table with {}", enumerate(fields.iter().map(|field| field.name)))
            }
            Self::Map(value) => {
                format!("a table from names to values, at least one, each {}", value.phrase())
            }
            Self::Kinds(kinds) => format!(
                "a table with `kind`, one of {}, and what that kind needs",
                enumerate(kinds.iter().map(|(kind, _)| *kind))
            ),
            Self::Input => {
                "a reference to a file or folder, such as `\"${sources.data}\"`".to_owned()
            }
        }
    }
}

/// A bound in a sentence: a great one by its exponent, not by hundreds of digits.
fn bound_text(bound: f64) -> String {
    if bound.abs() >= 1e15 { format!("{bound:e}") } else { bound.to_string() }
}

fn range<T: std::fmt::Display>(min: Option<T>, max: Option<T>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (Some(min), None) => format!(", at least {min}"),
        (None, Some(max)) => format!(", at most {max}"),
        (None, None) => String::new(),
    }
}

fn enumerate<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// Which outputs a step of this builder has.
#[derive(Clone, Copy, Debug)]
pub enum Outputs {
    /// These. A single one called `out` is what `${STEP}` means.
    Fixed(&'static [Output]),
    /// One for each name in the map argument `arg`; file names are the name and `suffix`.
    FromMap {
        /// The argument.
        arg: &'static str,
        /// `.csv`, say.
        suffix: &'static str,
        /// What each of them is.
        doc: &'static str,
    },
}

/// One fixed output.
#[derive(Debug)]
pub struct Output {
    /// What comes after the dot in `${STEP.NAME}`.
    pub name: &'static str,
    /// The file or folder that the builder writes; for an alias it is ignored.
    pub file: &'static str,
    /// When it is there.
    pub availability: Availability,
    /// The input argument that this output is, with no bytes of its own.
    pub alias_of: Option<&'static str>,
    /// What it holds.
    pub doc: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_great_bound_is_written_by_its_exponent_and_none_is_not_written() {
        let phrase = |min, max| Type::Float { min, max }.phrase();
        assert_eq!(phrase(-1e300, 1e300), "a number from -1e300 to 1e300");
        assert_eq!(phrase(0.0, 1e6), "a number from 0 to 1000000");
        assert_eq!(phrase(0.0, f64::MAX), "a number, at least 0");
        assert_eq!(phrase(f64::MIN, f64::MAX), "a number");
    }
}
