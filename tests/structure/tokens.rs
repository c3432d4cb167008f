//! Rust source as tokens, as far as a reader of names and paths needs it.
//!
//! Comments, literals and lifetimes are left out, and so is what is compiled for tests only. Unaware of modules.

/// A token that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A word: a name or a keyword.
    Word(String),
    /// `::`.
    Path,
    /// Any other character.
    Mark(char),
}

impl Token {
    /// Whether it is this word.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Token::Word(own) if own == word)
    }
}

/// The tokens of a file, without what stands behind `#[cfg(test)]`.
pub fn of_product(text: &str) -> Vec<Token> {
    without_tests(&of_all(text))
}

/// The tokens of a file.
pub fn of_all(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&here) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        at = match here {
            '/' if next == Some('/') => end_of_line(&chars, at),
            '/' if next == Some('*') => end_of_comment(&chars, at),
            '"' => end_of_string(&chars, at),
            '\'' => end_of_quote(&chars, at),
            ':' if next == Some(':') => {
                tokens.push(Token::Path);
                at + 2
            }
            _ if is_word(here) => {
                let end = at + chars[at..].iter().take_while(|own| is_word(**own)).count();
                let word: String = chars[at..end].iter().collect();
                match end_of_raw_string(&chars, end, &word) {
                    Some(end) => end,
                    None => {
                        tokens.push(Token::Word(word));
                        end
                    }
                }
            }
            _ => {
                if !here.is_whitespace() {
                    tokens.push(Token::Mark(here));
                }
                at + 1
            }
        };
    }
    tokens
}

fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

fn end_of_line(chars: &[char], from: usize) -> usize {
    from + chars[from..].iter().take_while(|own| **own != '\n').count()
}

fn end_of_comment(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    break;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn end_of_string(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// A character literal, or the mark of a lifetime.
fn end_of_quote(chars: &[char], from: usize) -> usize {
    match (chars.get(from + 1), chars.get(from + 2)) {
        (Some('\\'), _) => {
            // The character after the backslash belongs to the escape, even if it is a quote.
            let rest = chars.get(from + 3..).unwrap_or_default();
            from + 3 + rest.iter().take_while(|own| **own != '\'').count() + 1
        }
        (Some(_), Some('\'')) => from + 3,
        _ => {
            let rest = &chars[from + 1..];
            from + 1 + rest.iter().take_while(|own| is_word(**own)).count()
        }
    }
}

/// Where a raw string ends whose prefix (`r`, `br`) was `word`.
fn end_of_raw_string(chars: &[char], from: usize, word: &str) -> Option<usize> {
    if !matches!(word, "r" | "br" | "cr") {
        return None;
    }
    let hashes = chars[from..].iter().take_while(|own| **own == '#').count();
    let open = from + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let end = chars[open + 1..].windows(close.len()).position(|window| window == close)?;
    Some(open + 1 + end + close.len())
}

fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mark: Vec<Token> = of_all("#[cfg(test)]");
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].starts_with(&mark) {
            at = end_of_item(tokens, at + mark.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// An item ends with its `;`, with the brace that closes its first one, or, where it is one of a list, with its comma.
fn end_of_item(tokens: &[Token], from: usize) -> usize {
    const ITEMS: &[&str] =
        &["pub", "fn", "impl", "struct", "enum", "const", "static", "type", "trait", "unsafe"];
    let listed = !tokens.get(from).is_some_and(|first| ITEMS.iter().any(|word| first.is(word)));
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token {
            Token::Mark('{' | '(' | '[') => depth += 1,
            // What encloses the item ends, and the item with it.
            Token::Mark('}' | ')' | ']') if depth == 0 => return at,
            Token::Mark(close @ ('}' | ')' | ']')) => {
                depth -= 1;
                if depth == 0 && *close == '}' {
                    // `use a::{b};` goes on behind its brace.
                    let goes_on = tokens.get(at + 1) == Some(&Token::Mark(';'));
                    return at + 1 + usize::from(goes_on);
                }
            }
            Token::Mark(';') if depth == 0 => return at + 1,
            Token::Mark(',') if depth == 0 && listed => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let words = of_product(text).into_iter();
        words
            .filter_map(|token| if let Token::Word(word) = token { Some(word) } else { None })
            .collect()
    }

    #[test]
    fn comments_and_literals_are_left_out() {
        let text =
            "a // b\n/* c /* d */ e */ f \"g \\\" h\" 'i' '\\'' r#\"j \" k\"# b\"l\" m<'n>(o)";
        assert_eq!(words(text), ["a", "f", "b", "m", "o"]);
    }

    #[test]
    fn what_is_for_tests_is_left_out() {
        let text = "use a; #[cfg(test)] use b::{c}; d #[cfg(test)] mod e { f { g } } h #[cfg(test)] mod i; j";
        assert_eq!(words(text), ["use", "a", "d", "h", "j"]);
        let list = "a { #[cfg(test)] b: c(d, e), f } #[cfg(test)] fn g<H, I>(j: K) { l } m { #[cfg(test)] n }";
        assert_eq!(words(list), ["a", "f", "m"]);
    }
}
