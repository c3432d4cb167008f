//! Why a step has no result under its key: the diff to its last build, or that there was none.
//!
//! It reads history and records; it is unaware of how a build goes on.

use kiln_cache::{Digest, Isolation};
use serde::Serialize;

use crate::{
    key::Manifest,
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
    ResultLost,
    /// It was built, but the record of that build is gone, so that nothing can be compared.
    NothingToCompare,
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
    if history.latest(name) == Some(key) {
        return Reason::ResultLost;
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
        None => Reason::NothingToCompare,
    }
}

/// Whether a change is one of what another step made, which has its own cause.
pub fn is_consequence(change: &Change) -> bool {
    change.part == Part::Input && !change.subject.starts_with("input sources.")
}

impl Reason {
    /// In words, one change a line.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::NeverBuilt => vec!["never built".into()],
            Self::ResultLost => vec!["its result is lost from the store".into()],
            Self::NothingToCompare => {
                vec!["something changed since its last build, whose record is gone".into()]
            }
            Self::Changed { changes } if changes.is_empty() => {
                vec!["the format of keys changed".into()]
            }
            Self::Changed { changes } => changes.iter().map(Change::line).collect(),
            Self::WeakerIsolation { recorded } => vec![format!(
                "the recorded result was made with weaker isolation ({})",
                isolation_word(*recorded)
            )],
            Self::OutputLost { output } => {
                vec![format!("its output `{output}` is lost from the store")]
            }
            Self::Again => vec!["asked for with --again".into()],
            Self::Check => vec!["asked for with --check".into()],
        }
    }
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
    fn every_reason_has_words() {
        let reasons = [
            (Reason::NeverBuilt, "never built"),
            (Reason::ResultLost, "its result is lost from the store"),
            (
                Reason::NothingToCompare,
                "something changed since its last build, whose record is gone",
            ),
            (Reason::Changed { changes: Vec::new() }, "the format of keys changed"),
            (
                Reason::WeakerIsolation { recorded: Isolation::Off },
                "the recorded result was made with weaker isolation (off)",
            ),
            (
                Reason::OutputLost { output: "model".into() },
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
