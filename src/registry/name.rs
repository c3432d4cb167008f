//! The names of recipes and deployments: plain enough to be the name of a folder and part of a root's.
//!
//! Unaware of which names there are.

/// The longest name, in bytes.
const LONGEST: usize = 128;

/// A text that can name no recipe and no deployment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` cannot name a {what}: a name has 1 to {LONGEST} letters, digits, `_`, `-` or `.`, and does not \
     begin with `.` or `-`"
)]
pub struct NameError {
    /// `recipe` or `deployment`.
    pub what: &'static str,
    /// The text, shortened and with control characters escaped.
    pub text: String,
}

/// Refuses what is no name.
pub(crate) fn check(what: &'static str, text: &str) -> Result<(), NameError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if (1..=LONGEST).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(plain)
    {
        return Ok(());
    }
    let text = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    Err(NameError { what, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for text in ["", ".", "..", "a/b", "../x", "/x", ".hidden", "-x", "a\0b", "a\nb", "ä"] {
            assert!(check("deployment", text).is_err(), "{text:?}");
        }
        assert!(check("deployment", &"x".repeat(129)).is_err());
    }

    #[test]
    fn plain_names_are_accepted() {
        for text in ["production", "_x", "a.b-c_d", "9", &"x".repeat(128)] {
            assert_eq!(check("recipe", text), Ok(()));
        }
    }

    #[test]
    fn a_refusal_shows_the_name_without_control_characters() {
        let message = check("recipe", "a\u{1b}[31m").unwrap_err().to_string();
        assert!(message.starts_with("`a\\u{1b}[31m` cannot name a recipe"), "{message}");
    }
}
