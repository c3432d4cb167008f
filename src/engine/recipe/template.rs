//! Text with `${…}` in it, cut into pieces.
//!
//! Knows the grammar of a reference, not what it refers to.

use std::{borrow::Cow, ops::Range};

/// A piece of text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// As it is; `$${` has become `${`.
    Text(Cow<'a, str>),
    /// A reference.
    Reference(Mention<'a>),
}

/// A reference as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mention<'a> {
    /// Without `${` and `}`.
    pub(super) name: &'a str,
    /// Where it stands in the text, `${` and `}` included.
    pub(super) range: Range<usize>,
}

/// What cannot be cut.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// `${` without `}` on the same line.
    Open(Range<usize>),
    /// Something between the braces that is no name with dots.
    NoName(Range<usize>),
}

/// Cuts `text`; what cannot be cut is left out of the pieces.
pub(super) fn pieces(text: &str) -> (Vec<Piece<'_>>, Vec<Flaw>) {
    let mut pieces = Vec::new();
    let mut flaws = Vec::new();
    let mut at = 0;
    // Where the next `}` or line end is; looked for once, however many `${` stand in front of it.
    let mut stop = 0;
    while let Some(found) = text[at..].find("${") {
        let open = at + found;
        // `$${` is a literal `${`: the dollar in front goes, what follows stays.
        if open > at && text.as_bytes()[open - 1] == b'$' {
            push_text(&mut pieces, &text[at..open - 1]);
            push_text(&mut pieces, "${");
            at = open + 2;
            continue;
        }
        push_text(&mut pieces, &text[at..open]);
        let from = open + 2;
        if stop < from {
            stop = text[from..].find(['}', '\n']).map_or(text.len(), |found| from + found);
        }
        if !text[stop..].starts_with('}') || text[from..stop].contains("${") {
            flaws.push(Flaw::Open(open..open + 2));
            at = from;
            continue;
        }
        let range = open..stop + 1;
        at = range.end;
        let name = &text[from..stop];
        if name.split('.').all(is_word) {
            pieces.push(Piece::Reference(Mention { name, range }));
        } else {
            flaws.push(Flaw::NoName(range));
        }
    }
    push_text(&mut pieces, &text[at..]);
    (pieces, flaws)
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

fn push_text<'a>(pieces: &mut Vec<Piece<'a>>, text: &'a str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(before)) => before.to_mut().push_str(text),
        _ => pieces.push(Piece::Text(Cow::Borrowed(text))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        match pieces(text) {
            (pieces, flaws) if flaws.is_empty() => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) => format!("[{text}]"),
                    Piece::Reference(mention) => format!("<{}>", mention.name),
                })
                .collect(),
            (_, flaws) => format!("{flaws:?}"),
        }
    }

    #[test]
    fn references_are_cut_out_and_dollars_stay() {
        assert_eq!(shown("a ${x.y} b${z}"), "[a ]<x.y>[ b]<z>");
        assert_eq!(shown("$HOME $ $$ $(x) {y}"), "[$HOME $ $$ $(x) {y}]");
        assert_eq!(shown("a $${x} ${y}"), "[a ${x} ]<y>");
        assert_eq!(shown("$$${x}"), "[$${x}]");
        assert_eq!(shown(""), "");
    }

    #[test]
    fn open_and_nameless_references_are_flaws_at_their_place() {
        assert_eq!(shown("ab ${x"), "[Open(3..5)]");
        assert_eq!(shown("${x\n}"), "[Open(0..2)]");
        assert_eq!(shown("${a ${b}"), "[Open(0..2)]");
        assert_eq!(shown("${} ${X:-1} ${a..b}"), "[NoName(0..3), NoName(4..11), NoName(12..19)]");
    }

    proptest! {
        #[test]
        fn any_text_is_cut_without_loss_or_refused(text in "[a-z${}.\\n ä]{0,40}") {
            let (pieces, flaws) = pieces(&text);
            if flaws.is_empty() {
                let again: String = pieces
                    .iter()
                    .map(|piece| match piece {
                        Piece::Text(text) => text.replace("${", "$${"),
                        Piece::Reference(mention) => format!("${{{}}}", mention.name),
                    })
                    .collect();
                prop_assert_eq!(again, text);
            }
        }
    }
}
