//! TOML text → a document with places, or every syntax error in it.

use toml::{Spanned, de::DeTable};

use super::problems::Problems;

/// Parses `text`; `None` after reporting what is wrong.
pub(super) fn document<'a>(text: &'a str, problems: &mut Problems) -> Option<Spanned<DeTable<'a>>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Some(table);
    }
    let mut last_line = None;
    let mut repeated_table = 0..0;
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        let span = on_characters(text, span.start, span.end);
        // One mistake often makes the parser stumble more than once on its line.
        let line_start = text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
        if last_line == Some(line_start) {
            continue;
        }
        let duplicate = error.message().starts_with("duplicate key");
        // The keys of a table that is defined twice are no further mistakes.
        if duplicate && repeated_table.contains(&span.start) {
            continue;
        }
        last_line = Some(line_start);
        if duplicate && text[line_start..].trim_start().starts_with('[') {
            let end = text[span.end..].find("\n[").map_or(text.len(), |next| span.end + next);
            repeated_table = span.end..end;
        }
        let message = match (duplicate, text.get(span.clone())) {
            (true, Some(key)) => format!("`{key}` is defined twice"),
            _ => "the recipe is not valid TOML".to_owned(),
        };
        let label = match duplicate {
            true => "again here".to_owned(),
            false => error.message().to_owned(),
        };
        let problem = problems.at(span, message, label);
        problems.push(match duplicate {
            true => problem.help("rename one of the two, or put them together"),
            false => problem,
        });
    }
    None
}

/// The range, widened to whole characters and kept inside `text`.
fn on_characters(text: &str, start: usize, end: usize) -> std::ops::Range<usize> {
    let mut start = start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = end.clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}
