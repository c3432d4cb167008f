//! Problems in what the user wrote, with the place where they stand.
//!
//! A [`Diagnostic`] says what is wrong, where, why, and how to go on. It is data: rendering it (colours, carets,
//! width) is the terminal's business, which this module is unaware of.

use std::{fmt, ops::Range, sync::Arc};

/// A text that the user wrote, with the name under which it is shown.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceText {
    /// The path as the user would type it.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl SourceText {
    /// Line and column (both from 1, columns in characters) of byte `offset`.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (line, before[start..].chars().count() + 1)
    }
}

/// A range of bytes in a [`SourceText`].
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    /// The text.
    pub source: Arc<SourceText>,
    /// Byte offsets, end exclusive; never beyond the text.
    pub span: Range<usize>,
}

impl Location {
    /// The place `span` in `source`.
    pub fn new(source: &Arc<SourceText>, span: Range<usize>) -> Self {
        let end = span.end.min(source.text.len());
        Self { source: Arc::clone(source), span: span.start.min(end)..end }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.source.line_column(self.span.start);
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One problem in a recipe or in what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, in one lower-case line without a full stop.
    pub message: String,
    /// Where.
    pub at: Option<Location>,
    /// What stands under the caret: why it is wrong (rule and value).
    pub label: String,
    /// Other places that belong to it ("first defined here"), each with its label.
    pub related: Vec<(Location, String)>,
    /// Further facts.
    pub notes: Vec<String>,
    /// How to go on.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// A problem without a place.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: one_line(message.into()),
            at: None,
            label: String::new(),
            related: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
        }
    }

    /// Says where it stands, and what the caret says.
    #[must_use]
    pub fn at(mut self, location: Location, label: impl Into<String>) -> Self {
        self.at = Some(location);
        self.label = one_line(label.into());
        self
    }

    /// Adds another place.
    #[must_use]
    pub fn related(mut self, location: Location, label: impl Into<String>) -> Self {
        self.related.push((location, one_line(label.into())));
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Adds "did you mean" advice where `word` is near one of `known`.
    #[must_use]
    pub fn suggest<'a>(self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(word, known) {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None => self,
        }
    }
}

/// What the user wrote may have any character in it; a message is one line, and says nothing to the terminal.
fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// A text of the user's as a message quotes it: no more of it than a person reads.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN: usize = 100;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(f, "{at}: {}", self.message)?,
            None => write!(f, "{}", self.message)?,
        }
        if !self.label.is_empty() {
            write!(f, ": {}", self.label)?;
        }
        Ok(())
    }
}

/// An error and its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// The entry of `known` that `word` was probably meant to be, by edit distance (adjacent swaps count one).
///
/// A third of the letters may differ; of fewer than three none, but they may be swapped or of the other case.
/// Of equally near ones the first wins. `word` itself was not meant: it is what was wrong.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = word.chars().count() / 3;
    let swapped = |candidate: &str| {
        let mut letters = word.chars();
        let (first, second) = (letters.next(), letters.next());
        letters.next().is_none()
            && second.is_some()
            && candidate.chars().eq(second.into_iter().chain(first))
    };
    known
        .into_iter()
        .filter(|candidate| *candidate != word)
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= allowed || swapped(candidate))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    let mut rows: Vec<Vec<usize>> = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let substitution = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitution.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let source = SourceText { name: "kiln.toml".into(), text: "ä = 1\nb = 2".into() };
        assert_eq!(source.line_column(0), (1, 1));
        assert_eq!(source.line_column(2), (1, 2));
        assert_eq!(source.line_column(7), (2, 1));
        assert_eq!(source.line_column(999), (2, 6));
    }

    #[test]
    fn a_message_is_one_line_whatever_the_user_wrote() {
        let problem = Diagnostic::new("no `a\nb`\u{1b}[31m");
        assert_eq!(problem.message, "no `a\\nb`\\u{1b}[31m");
    }

    #[test]
    fn the_nearest_name_is_within_a_third_of_the_letters() {
        assert_eq!(nearest("epohcs", ["epochs", "hidden"]), Some("epochs"));
        assert_eq!(nearest("zzz", ["epochs", "hidden"]), None);
    }

    #[test]
    fn of_a_word_of_one_or_two_letters_none_may_differ() {
        assert_eq!(nearest("a", ["b"]), None);
        assert_eq!(nearest("ab", ["ac", "abc"]), None);
        assert_eq!(nearest("ab", ["ac", "ba"]), Some("ba"));
        assert_eq!(nearest("f1", ["F1"]), Some("F1"));
        assert_eq!(nearest("abc", ["abd"]), Some("abd"));
    }

    #[test]
    fn a_word_is_not_meant_to_be_itself() {
        assert_eq!(nearest("train", ["train"]), None);
        assert_eq!(nearest("train", ["train", "trains"]), Some("trains"));
    }
}
