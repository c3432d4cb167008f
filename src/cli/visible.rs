//! Text that others wrote (steps, names of files), made safe to show: it must not move a terminal's cursor, set its
//! title, or pass for a line of kiln's own.
//!
//! JSON documents need none of it: there everything is escaped anyway.

use std::borrow::Cow;

/// `text` in one line, its control characters written out: `\n`, `\u{1b}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character != '\t' && is_hidden(character))
}

/// `text` with its line breaks, other control characters written out.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| !matches!(character, '\t' | '\n') && is_hidden(character))
}

/// A line of a log as a terminal would have left it: what came after the last return to its beginning, without colours.
pub fn log_line(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    let last = line.rsplit('\r').next().unwrap_or_default();
    visible(&anstream::adapter::strip_str(last).to_string()).into_owned()
}

fn escaped(text: &str, hides: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&hides) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if hides(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Control characters, and those that turn the direction of the text around them.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_is_written_out() {
        assert_eq!(visible("a b\tc é"), "a b\tc é");
        assert_eq!(visible("a\nb\x1b[2J\u{9b}m\0"), r"a\nb\u{1b}[2J\u{9b}m\u{0}");
        assert_eq!(visible("gpj.\u{202e}exe"), r"gpj.\u{202e}exe");
        assert_eq!(visible_lines("a\nb\r"), "a\nb\\r");
    }

    #[test]
    fn a_log_s_line_is_what_a_terminal_would_have_left() {
        assert_eq!(log_line("10 %\r20 %\r\x1b[32mdone\x1b[0m\r"), "done");
        assert_eq!(log_line("\x1b]0;title\x07\x1b[2Jplain"), "plain");
        assert_eq!(log_line("\u{85}x"), r"\u{85}x");
        assert_eq!(log_line(""), "");
    }
}
