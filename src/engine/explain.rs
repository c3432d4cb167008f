//! Why a step has no result under its key: the diff to its last build, or that there was none.
//!
//! It reads history and records; it is unaware of how a build goes on.

use kiln_cache::{Cause, Digest, Isolation, Item, Realisation, Store, Tombstone};
use serde::Serialize;

use crate::{
    key::Manifest,
    moment,
    resolve::Context,
    why::{Change, Part, changes},
};

/// Why a step has to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Reason {
    /// This project never built it.
    NeverBuilt,
    /// It was built with just these inputs, but the record is gone.
    ResultLost {
        /// What is known of its going.
        removed: Option<Tombstone>,
    },
    /// It was built, but the record of that build is gone, so that nothing can be compared.
    NothingToCompare {
        /// What is known of its going.
        removed: Option<Tombstone>,
    },
    /// This differs from its last build.
    Changed {
        /// Root causes first.
        changes: Vec<Change>,
    },
    /// Its recorded result was made with weaker isolation than this machine gives.
    WeakerIsolation {
        /// That isolation.
        recorded: Isolation,
    },
    /// An output that is asked for is lost from the store.
    OutputLost {
        /// Which.
        output: String,
        /// What is known of its going.
        removed: Option<Tombstone>,
    },
    /// It was asked for with `--again`.
    Again,
    /// It was asked for with `--check`.
    Check,
}

/// Why the step called `name` has no result under `key`.
pub fn reason(
    context: &Context<'_>,
    name: &str,
    key: Digest,
    manifest: &dyn Fn() -> Manifest,
) -> Reason {
    let history = context.history;
    let removed = context.store.tombstone(&Item::Realisation(key));
    if removed.is_some() || history.latest(name) == Some(key) {
        return Reason::ResultLost { removed };
    }
    match history.previous(name, Some(key)) {
        None => Reason::NeverBuilt,
        Some(previous) => since(context, previous, &manifest()),
    }
}

/// What differs between the build under the key `previous` and `manifest`.
pub fn since(context: &Context<'_>, previous: Digest, manifest: &Manifest) -> Reason {
    let before = context
        .store
        .realisation(&previous)
        .ok()
        .flatten()
        .and_then(|record| Manifest::from_text(&record.manifest).ok());
    match before {
        Some(before) => {
            let mut changes = changes(&before, manifest);
            changes.sort_by_key(is_consequence);
            Reason::Changed { changes }
        }
        None => Reason::NothingToCompare {
            removed: context.store.tombstone(&Item::Realisation(previous)),
        },
    }
}

/// Why a step runs that has this result, but whose output of this name is lost.
pub fn output_lost(store: &Store, result: Option<&Realisation>, output: String) -> Reason {
    let removed = result.and_then(|result| {
        let tombstone = store.tombstone(&Item::Object(result.output(&output)?.object))?;
        // One that is older than the result tells of an earlier loss.
        (tombstone.at.saturating_mul(1000) >= result.cost.started_ms).then_some(tombstone)
    });
    Reason::OutputLost { output, removed }
}

/// Whether a change is one of what another step made, which has its own cause.
pub fn is_consequence(change: &Change) -> bool {
    change.part == Part::Input && !change.subject.starts_with("input sources.")
}

impl Reason {
    /// What is known of the going of what is missed.
    pub fn removed(&self) -> Option<&Tombstone> {
        match self {
            Self::ResultLost { removed }
            | Self::NothingToCompare { removed }
            | Self::OutputLost { removed, .. } => removed.as_ref(),
            _ => None,
        }
    }

    /// In words, one change a line.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::NeverBuilt => vec!["never built".into()],
            Self::ResultLost { removed } => {
                vec![format!("its result {}", fate(removed, "is lost from the store"))]
            }
            Self::NothingToCompare { removed } => vec![format!(
                "something changed since its last build, whose record {}",
                fate(removed, "is gone")
            )],
            Self::Changed { changes } if changes.is_empty() => {
                vec!["the format of keys changed".into()]
            }
            Self::Changed { changes } => changes.iter().map(Change::line).collect(),
            Self::WeakerIsolation { recorded } => vec![format!(
                "the recorded result was made with weaker isolation ({})",
                isolation_word(*recorded)
            )],
            Self::OutputLost { output, removed } => {
                vec![format!("its output `{output}` {}", fate(removed, "is lost from the store"))]
            }
            Self::Again => vec!["asked for with --again".into()],
            Self::Check => vec!["asked for with --check".into()],
        }
    }
}

/// What became of something that is missed, or the words for it where nothing is known.
fn fate(removed: &Option<Tombstone>, unknown: &str) -> String {
    let Some(removed) = removed else { return unknown.to_owned() };
    let how = match removed.cause {
        Cause::Unheld => "collected: nothing held it",
        Cause::OverBudget => {
            "collected: nothing held it, and of all that it was the least recently used"
        }
        Cause::Unused => "collected: nothing held it, and it had not been used for long",
        Cause::Damaged => "removed: it was damaged",
        Cause::Torn => "removed: it had not reached the disk when the machine went down",
    };
    format!("was here until {}, then {how}", moment::local(removed.at.saturating_mul(1000)))
}

/// The word for an isolation.
pub fn isolation_word(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Off => "off",
        Isolation::Partial => "partial",
        Isolation::Full => "full",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest with one parameter and inputs by label.
    fn manifest(epochs: i64, inputs: &[(&str, &str)]) -> Manifest {
        let mut text = format!("[{{\"at\":[\"args\",\"epochs\"],\"int\":{epochs}}}");
        for (place, (label, content)) in inputs.iter().enumerate() {
            let digest = Digest::of(content.as_bytes());
            text.push_str(&format!(
                ",{{\"at\":[\"inputs\",\"{place}\"],\"object\":{{\"kind\":\"file\",\"digest\":\"{digest}\",\"executable\":false}},\"label\":\"{label}\"}}"
            ));
        }
        Manifest::from_text(&(text + "]")).unwrap()
    }

    #[test]
    fn what_another_step_made_is_a_consequence_and_all_else_a_cause() {
        let before = manifest(60, &[("split.train", "a"), ("sources.data", "b")]);
        let after = manifest(61, &[("split.train", "c"), ("sources.data", "d")]);
        let consequences: Vec<(String, bool)> = changes(&before, &after)
            .iter()
            .map(|change| (change.subject.clone(), is_consequence(change)))
            .collect();
        let of = |what: &str| {
            let found = consequences.iter().find(|(subject, _)| subject.contains(what));
            found.unwrap_or_else(|| panic!("nothing is said of {what}: {consequences:?}")).1
        };
        assert!(of("split.train"));
        assert!(!of("sources.data") && !of("epochs"));
    }

    #[test]
    fn what_was_taken_away_is_told_with_its_time_and_why() {
        let item = Item::Realisation(Digest::of(b"key"));
        let ends = [
            (Cause::Unheld, "then collected: nothing held it"),
            (Cause::OverBudget, "the least recently used"),
            (Cause::Unused, "not been used for long"),
            (Cause::Damaged, "then removed: it was damaged"),
            (Cause::Torn, "had not reached the disk when the machine went down"),
        ];
        for (cause, end) in ends {
            let removed = Some(Tombstone { item, at: 1_777_777_777, cause });
            let begin = format!("was here until {}, then ", moment::local(1_777_777_777_000));
            let reasons = [
                (Reason::ResultLost { removed }, "its result "),
                (
                    Reason::NothingToCompare { removed },
                    "something changed since its last build, whose record ",
                ),
                (Reason::OutputLost { output: "out".into(), removed }, "its output `out` "),
            ];
            for (reason, what) in reasons {
                let [line] = &reason.lines()[..] else { panic!("{reason:?}") };
                assert!(line.starts_with(&format!("{what}{begin}")), "{line}");
                assert!(line.ends_with(end), "{line}");
                assert_eq!(reason.removed().map(|removed| removed.cause), Some(cause));
            }
        }
    }

    #[test]
    fn every_reason_has_words() {
        let reasons = [
            (Reason::NeverBuilt, "never built"),
            (Reason::ResultLost { removed: None }, "its result is lost from the store"),
            (
                Reason::NothingToCompare { removed: None },
                "something changed since its last build, whose record is gone",
            ),
            (Reason::Changed { changes: Vec::new() }, "the format of keys changed"),
            (
                Reason::WeakerIsolation { recorded: Isolation::Off },
                "the recorded result was made with weaker isolation (off)",
            ),
            (
                Reason::OutputLost { output: "model".into(), removed: None },
                "its output `model` is lost from the store",
            ),
            (Reason::Again, "asked for with --again"),
            (Reason::Check, "asked for with --check"),
        ];
        for (reason, words) in reasons {
            assert_eq!(reason.lines(), [words]);
        }
    }
}
