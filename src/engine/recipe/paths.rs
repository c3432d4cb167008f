//! Paths and patterns in a recipe: relative to it, inside it, in one spelling.
//!
//! Works on text alone; unaware of whether anything is there.

/// What a path in a recipe names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spelled {
    /// A file or folder.
    Path(String),
    /// Files by pattern.
    Glob(String),
}

/// Whether `text` is a pattern.
pub(super) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// The normal form of a path or pattern: `./a//b/` is `a/b`.
///
/// The error says why it cannot be one.
pub(super) fn normal(text: &str) -> Result<Spelled, String> {
    if !is_glob(text) {
        return path(text).map(Spelled::Path);
    }
    let pattern = inside(text)?;
    // Inside braces a comma also ends a component: `{..,a}/b` leaves the folder too.
    if pattern.split(['/', '{', ',', '}']).any(|piece| piece == "..") {
        return Err(LEAVES.to_owned());
    }
    globset::Glob::new(&pattern).map_err(|error| format!("is no pattern: {}", error.kind()))?;
    Ok(Spelled::Glob(pattern))
}

/// The normal form of a path that is not a pattern.
pub(super) fn path(text: &str) -> Result<String, String> {
    inside(text)
}

const LEAVES: &str = "leaves the recipe's folder";

fn inside(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.contains("://") {
        return Err("is an address, not a path inside the recipe's folder".to_owned());
    }
    if text.starts_with(['/', '~']) {
        return Err(LEAVES.to_owned());
    }
    if text.contains('\\') {
        return Err("has a backslash: folders are separated by `/`".to_owned());
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(format!("has the control character {}", control.escape_default()));
    }
    let mut names = Vec::new();
    for name in text.split('/') {
        match name {
            "" | "." => {}
            ".." => match names.pop() {
                Some(_) => {}
                None => return Err(LEAVES.to_owned()),
            },
            name => names.push(name),
        }
    }
    if names.is_empty() {
        return Err("is the recipe's folder itself, which holds results too".to_owned());
    }
    Ok(names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for same in ["a/b", "./a//b/", "a/./b", "a/c/../b"] {
            assert_eq!(normal(same), Ok(Spelled::Path("a/b".into())), "{same}");
        }
        assert_eq!(normal("./data/**/*.csv"), Ok(Spelled::Glob("data/**/*.csv".into())));
    }

    #[test]
    fn what_leaves_the_folder_or_is_it_is_refused() {
        for wrong in [
            "",
            ".",
            "./",
            "a/..",
            "..",
            "../a",
            "a/../../b",
            "/etc",
            "~",
            "~/a",
            "a\\b",
            "a\nb",
            "../*",
            "{..,a}/b",
            "[a",
            "https://x/y",
            "*/../..",
        ] {
            assert!(normal(wrong).is_err(), "{wrong}");
        }
    }
}
