//! The problems found so far in one recipe.
//!
//! Checks go on after a problem, so that one run reports all of them. Unaware of what the checks are.

use std::{ops::Range, sync::Arc};

use crate::diagnostic::{Diagnostic, Location, SourceText};

/// Beyond this many problems a recipe is broken in one big way; nearest names are no longer looked for.
const SUGGESTIONS: usize = 50;

/// Collects diagnostics about one text.
pub(super) struct Problems {
    source: Arc<SourceText>,
    found: Vec<Diagnostic>,
}

impl Problems {
    pub(super) fn new(source: &Arc<SourceText>) -> Self {
        Self { source: Arc::clone(source), found: Vec::new() }
    }

    /// The text that the spans are about.
    pub(super) fn text(&self) -> &str {
        &self.source.text
    }

    pub(super) fn place(&self, span: Range<usize>) -> Location {
        Location::new(&self.source, span)
    }

    /// A diagnostic at `span`, not yet reported.
    pub(super) fn at(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::new(message).at(self.place(span), label)
    }

    pub(super) fn push(&mut self, problem: Diagnostic) {
        self.found.push(problem);
    }

    /// Adds "did you mean", or, where nothing is near, the list of what there is.
    pub(super) fn suggest(
        &self,
        problem: Diagnostic,
        word: &str,
        known: &[&str],
        list: &str,
    ) -> Diagnostic {
        if self.found.len() >= SUGGESTIONS {
            return problem;
        }
        let advised = problem.help.len();
        let problem = problem.suggest(word, known.iter().copied());
        if problem.help.len() > advised {
            return problem;
        }
        if known.is_empty() {
            return problem;
        }
        problem.help(format!("{list}: {}", enumerate(known)))
    }

    /// Names to suggest from, sorted; none where nothing is suggested any more.
    pub(super) fn known<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
        if self.found.len() >= SUGGESTIONS {
            return Vec::new();
        }
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All problems: those without a place first, then in the order of the text.
    pub(super) fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.found
            .sort_by_key(|problem| problem.at.as_ref().map(|at| (at.span.start, at.span.end)));
        self.found
    }
}

/// `a`, `b`, `c`; long lists are cut.
pub(super) fn enumerate(words: &[&str]) -> String {
    const SHOWN: usize = 24;
    let mut text =
        words.iter().take(SHOWN).map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    if words.len() > SHOWN {
        text.push_str(&format!(" and {} more", words.len() - SHOWN));
    }
    text
}
