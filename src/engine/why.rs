//! Explanations: what differs between two key manifests, in words.
//!
//! An explanation is a diff of what the keys were made of, so that it can never disagree with them. Inputs are
//! matched by how the recipe spells them rather than by place, since a new input moves the places of the others. This module
//! is unaware of where manifests are kept.

use std::collections::BTreeMap;

use kiln_cache::Object;
use serde::Serialize;

use crate::key::{KeyPart, Manifest, ManifestValue};

/// One thing that differs between two manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What it is about, as a person would name it: `epochs`, `input split.train`, `variable SEED`.
    pub subject: String,
    /// Which part of the key it stands in.
    pub part: Part,
    /// What stood there before; `None` if nothing did.
    pub before: Option<String>,
    /// What stands there now; `None` if nothing does.
    pub after: Option<String>,
    /// The contents before and now, where the change is one of content.
    pub objects: Option<(Object, Object)>,
}

/// The part of a key that a change stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Builder, arguments, determinism, network, salt.
    Recipe,
    /// One of `files`.
    File,
    /// A variable.
    Variable,
    /// An output's name or file name.
    Output,
    /// A tool or the host.
    Toolchain,
    /// Something that the step reads.
    Input,
}

/// What differs from `before` to `after`; inputs last, since theirs may be mere consequences.
pub fn changes(before: &Manifest, after: &Manifest) -> Vec<Change> {
    let (old, new) = (readable(before), readable(after));
    let subjects: std::collections::BTreeSet<&(Part, String)> =
        old.keys().chain(new.keys()).collect();
    subjects
        .into_iter()
        .filter_map(|subject| {
            let (before, after) = (old.get(subject), new.get(subject));
            if before.map(|fact| &fact.text) == after.map(|fact| &fact.text) {
                return None;
            }
            // The extension of an input that came or went comes or goes with it.
            if subject.1.starts_with("extension of ") && (before.is_none() || after.is_none()) {
                return None;
            }
            let objects =
                before.and_then(|fact| fact.object).zip(after.and_then(|fact| fact.object));
            Some(Change {
                subject: subject.1.clone(),
                part: subject.0,
                before: before.map(|fact| fact.text.clone()),
                after: after.map(|fact| fact.text.clone()),
                objects,
            })
        })
        .collect()
}

#[derive(Debug)]
struct Fact {
    text: String,
    object: Option<Object>,
}

/// The manifest as facts by subject.
fn readable(manifest: &Manifest) -> BTreeMap<(Part, String), Fact> {
    let labels: Vec<&str> = manifest.inputs().map(|(label, _)| label).collect();
    let label = |place: u32| labels.get(place as usize).map_or("?", |label| label);
    let mut facts: BTreeMap<(Part, String), Fact> = BTreeMap::new();
    for item in &manifest.items {
        let at: Vec<&str> = item.at.iter().map(String::as_str).collect();
        let object = match item.value {
            ManifestValue::Object(object) => Some(object),
            _ => None,
        };
        let text = match &item.value {
            // One without entries has nothing else to tell of it.
            ManifestValue::List(0) if at.len() > 1 && at[0] == "args" => "[]".to_owned(),
            ManifestValue::Table(0) if at.len() > 1 && at[0] == "args" => "{}".to_owned(),
            // The entries themselves tell more than their number.
            ManifestValue::List(_) | ManifestValue::Table(_) => continue,
            value => show(value, &label),
        };
        let subject = match at.as_slice() {
            ["args", path @ ..] => (Part::Recipe, spell(path)),
            ["env", name, rest @ ..] => (Part::Variable, format!("variable {}", with(name, rest))),
            ["files", name] => (Part::File, format!("file {name}")),
            ["outputs", name] => (Part::Output, format!("output {name}")),
            ["toolchain", name] => (Part::Toolchain, (*name).to_owned()),
            ["toolchain"] => (Part::Toolchain, "toolchain".to_owned()),
            ["inputs", place] => {
                let name = place.parse().map_or("?", &label);
                match item.value {
                    ManifestValue::Text(_) => (Part::Recipe, format!("extension of input {name}")),
                    _ => (Part::Input, format!("input {name}")),
                }
            }
            path => (Part::Recipe, spell(path)),
        };
        // Several items of one subject (an input's extension and content, an output's properties) read as one.
        facts
            .entry(subject)
            .and_modify(|fact| {
                fact.text = format!("{} {text}", fact.text);
                fact.object = fact.object.or(object);
            })
            .or_insert(Fact { text, object });
    }
    for ((part, _), fact) in &mut facts {
        if *part == Part::Input
            && let Some(object) = fact.object
        {
            fact.text = short(object);
        }
        if *part == Part::Output {
            fact.text = fact.text.split(' ').next().unwrap_or_default().to_owned();
        }
    }
    facts
}

fn with(name: &str, rest: &[&str]) -> String {
    if rest.is_empty() { name.to_owned() } else { format!("{name}{}", spell(rest)) }
}

/// `model.hidden[0]` from its path.
fn spell(path: &[&str]) -> String {
    let mut text = String::new();
    for segment in path {
        if segment.bytes().all(|byte| byte.is_ascii_digit()) {
            text.push_str(&format!("[{segment}]"));
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(segment);
        }
    }
    text
}

fn show<'a>(value: &ManifestValue, label: &dyn Fn(u32) -> &'a str) -> String {
    match value {
        ManifestValue::Text(text) => text.clone(),
        ManifestValue::Int(number) => number.to_string(),
        ManifestValue::Float(text) => text.clone(),
        ManifestValue::Flag(flag) => flag.to_string(),
        ManifestValue::List(count) | ManifestValue::Table(count) => format!("{count} entries"),
        ManifestValue::Parts(parts) => parts
            .iter()
            .map(|part| match part {
                KeyPart::Text(text) => text.clone(),
                KeyPart::In(place) => format!("${{{}}}", label(*place)),
                KeyPart::Out(name) if name == "out" => "${out}".to_owned(),
                KeyPart::Out(name) => format!("${{out.{name}}}"),
            })
            .collect(),
        ManifestValue::Object(object) => short(*object),
        ManifestValue::Place(place) => format!("${{{}}}", label(*place)),
        ManifestValue::Absent => "absent".to_owned(),
    }
}

/// An object's kind and the first twelve digits of its digest.
pub fn short(object: Object) -> String {
    let digest = object.digest.to_string();
    let executable = if object.executable { " (executable)" } else { "" };
    format!("{} {}{executable}", object.kind, &digest[..12])
}

impl Change {
    /// One line: `epochs: 60 → 100`.
    pub fn line(&self) -> String {
        let quote = |text: &String| {
            let line = text.lines().next().unwrap_or_default();
            let mut cut: String = line.chars().take(60).collect();
            if cut.len() < text.trim_end().len() {
                cut.push('…');
            }
            // What begins or ends with nothing to see, or is nothing, is seen by its quotes.
            if cut.trim() == cut && !cut.is_empty() { cut } else { format!("{cut:?}") }
        };
        match (&self.before, &self.after) {
            (Some(before), Some(after)) if quote(before) == quote(after) => {
                format!("{}: changed", self.subject)
            }
            (Some(before), Some(after)) => {
                format!("{}: {} → {}", self.subject, quote(before), quote(after))
            }
            (None, Some(after)) => format!("{}: new, {}", self.subject, quote(after)),
            (Some(before), None) => format!("{}: gone, was {}", self.subject, quote(before)),
            (None, None) => self.subject.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::ManifestItem;

    fn manifest(items: Vec<(&[&str], ManifestValue, Option<&str>)>) -> Manifest {
        let items = items.into_iter().map(|(at, value, label)| ManifestItem {
            at: at.iter().map(|&segment| segment.to_owned()).collect(),
            value,
            label: label.map(str::to_owned),
        });
        Manifest { items: items.collect() }
    }

    #[test]
    fn a_changed_argument_shows_both_values() {
        let one = manifest(vec![(&["args", "epochs"], ManifestValue::Int(60), None)]);
        let two = manifest(vec![(&["args", "epochs"], ManifestValue::Int(100), None)]);
        let lines: Vec<String> = changes(&one, &two).iter().map(Change::line).collect();
        assert_eq!(lines, ["epochs: 60 → 100"]);
        assert!(changes(&one, &one).is_empty());
    }

    #[test]
    fn a_value_with_nothing_to_see_is_quoted() {
        let value =
            |text: &str| manifest(vec![(&["env", "X"], ManifestValue::Text(text.into()), None)]);
        let line = |one: &str, two: &str| changes(&value(one), &value(two))[0].line();
        assert_eq!(line("", "a"), "variable X: \"\" → a");
        assert_eq!(line("a", "a "), "variable X: a → \"a \"");
        let gone = changes(&value(""), &manifest(Vec::new()))[0].line();
        assert_eq!(gone, "variable X: gone, was \"\"");
    }

    #[test]
    fn a_list_that_was_emptied_or_left_out_says_so() {
        let empty = manifest(vec![(&["args", "weights"], ManifestValue::List(0), None)]);
        let full = manifest(vec![
            (&["args", "weights"], ManifestValue::List(1), None),
            (&["args", "weights", "0"], ManifestValue::Int(3), None),
        ]);
        let none = manifest(Vec::new());
        let lines = |one: &Manifest, two: &Manifest| -> Vec<String> {
            changes(one, two).iter().map(Change::line).collect()
        };
        assert_eq!(lines(&none, &empty), ["weights: new, []"]);
        assert_eq!(lines(&full, &empty), ["weights: new, []", "weights[0]: gone, was 3"]);
    }

    #[test]
    fn a_new_input_in_front_does_not_make_the_others_look_changed() {
        let object =
            |byte: u8| ManifestValue::Object(Object::file(kiln_cache::Digest::of(&[byte])));
        let one = manifest(vec![(&["inputs", "0"], object(1), Some("sources.data"))]);
        let two = manifest(vec![
            (&["inputs", "0"], object(2), Some("sources.base")),
            (&["inputs", "1"], object(1), Some("sources.data")),
        ]);
        let subjects: Vec<String> =
            changes(&one, &two).into_iter().map(|change| change.subject).collect();
        assert_eq!(subjects, ["input sources.base"]);
    }

    #[test]
    fn references_read_as_the_recipe_spells_them() {
        let run = |text: &str| {
            manifest(vec![
                (
                    &["args", "run"],
                    ManifestValue::Parts(vec![KeyPart::Text(text.into()), KeyPart::In(0)]),
                    None,
                ),
                (&["inputs", "0"], ManifestValue::Absent, Some("sources.data")),
            ])
        };
        let lines: Vec<String> =
            changes(&run("cat "), &run("tac ")).iter().map(Change::line).collect();
        assert_eq!(lines, ["run: cat ${sources.data} → tac ${sources.data}"]);
    }
}
