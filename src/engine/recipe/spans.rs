//! Where in the file a piece of a string value stands.
//!
//! A TOML string's value differs from its text by quotes, escapes and joined lines. This module maps a range of
//! the value to the range of the file that spells it. Unaware of what the string means.

use std::ops::Range;

/// How a string value is spelled in a text.
pub(super) struct Spelling {
    span: Range<usize>,
    letters: Letters,
}

enum Letters {
    /// As the value is, between two quotes.
    Plain,
    /// For every byte of the value, and its end, where its spelling starts.
    At(Vec<usize>),
    /// They cannot be matched.
    Unknown,
}

impl Spelling {
    /// Of `value`, which `span` of `text` spells.
    pub(super) fn new(text: &str, span: Range<usize>, value: &str) -> Self {
        let letters = match text.get(span.clone()) {
            // Nearly every string is written as it is, between single quotes or double ones.
            Some(raw)
                if raw.len() == value.len() + 2 && raw.get(1..raw.len() - 1) == Some(value) =>
            {
                Letters::Plain
            }
            Some(raw) => starts(raw, value).map_or(Letters::Unknown, Letters::At),
            None => Letters::Unknown,
        };
        Self { span, letters }
    }

    /// The part of the text that spells `piece`, a byte range of the value; where that cannot be told, all of it.
    pub(super) fn of(&self, piece: Range<usize>) -> Range<usize> {
        let start = self.span.start;
        match &self.letters {
            Letters::Plain => start + 1 + piece.start..start + 1 + piece.end,
            Letters::At(starts) => match (starts.get(piece.start), starts.get(piece.end)) {
                (Some(from), Some(to)) if from <= to => start + from..start + to,
                _ => self.span.clone(),
            },
            Letters::Unknown => self.span.clone(),
        }
    }
}

/// For every byte of `value`, and its end, the offset in `raw` at which its spelling starts.
fn starts(raw: &str, value: &str) -> Option<Vec<usize>> {
    let quotes = ["\"\"\"", "'''", "\"", "'"];
    let quote = quotes.into_iter().find(|quote| raw.starts_with(quote))?;
    let end = raw.len().checked_sub(quote.len()).filter(|&end| end >= quote.len())?;
    let escapes = quote.starts_with('"');
    let mut at = quote.len();
    if quote.len() == 3 {
        at += if raw[at..].starts_with("\r\n") {
            2
        } else {
            usize::from(raw[at..].starts_with('\n'))
        };
    }
    let mut starts = Vec::with_capacity(value.len() + 1);
    let mut chars = value.chars();
    while at < end {
        let next = raw[at..].chars().next()?;
        if escapes && next == '\\' {
            let after = raw[at + 1..].chars().next()?;
            if after.is_whitespace() {
                let rest = &raw[at + 1..end];
                at = end - rest.trim_start().len();
                continue;
            }
            let width = match after {
                'x' => 4,
                'u' => 6,
                'U' => 10,
                _ => 2,
            };
            let decoded = chars.next()?;
            starts.extend(std::iter::repeat_n(at, decoded.len_utf8()));
            at += width;
            continue;
        }
        let decoded = chars.next()?;
        if decoded == '\n' && raw[at..].starts_with("\r\n") {
            starts.push(at);
            at += 2;
            continue;
        }
        if decoded != next {
            return None;
        }
        starts.extend(std::iter::repeat_n(at, decoded.len_utf8()));
        at += next.len_utf8();
    }
    starts.push(end);
    (chars.next().is_none() && starts.len() == value.len() + 1).then_some(starts)
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    /// The text that spells the first `@…@` of the value of `key`.
    fn spelled(text: &str) -> String {
        let table = DeTable::parse(text).unwrap();
        let node = table.get_ref().get("k").unwrap();
        let value = node.get_ref().as_str().unwrap();
        let start = value.find('@').unwrap();
        let end = value.rfind('@').unwrap() + 1;
        text[Spelling::new(text, node.span(), value).of(start..end)].to_owned()
    }

    #[test]
    fn a_piece_is_found_behind_escapes_quotes_and_joined_lines() {
        for text in [
            "k = \"a@x@b\"",
            "k = '@x@'",
            "k = \"\\t\\u00e4\\U0001F600ä@x@\"",
            "k = \"\"\"\nab\\\n   \n  c@x@\"\"\"",
            "k = \"\"\"\r\nab\r\nc@x@\"\"\"",
            "k = '''\n\\n@x@'''",
        ] {
            assert_eq!(spelled(text), "@x@", "{text}");
        }
        assert_eq!(spelled("k = \"@\\x41@\""), "@\\x41@");
    }

    #[test]
    fn what_cannot_be_matched_is_the_whole_value() {
        assert_eq!(Spelling::new("\"ab\"", 0..4, "zz").of(0..1), 0..4);
        assert_eq!(Spelling::new("\"", 0..1, "").of(0..0), 0..1);
        assert_eq!(Spelling::new("", 5..9, "").of(0..0), 5..9);
    }
}
