//! The names under which a step sees its inputs.
//!
//! A name is the input's number and its extension, so that a program that goes by extensions still can, while
//! nothing else of the original name, and no path, can leak into a result.

/// Suffixes that say how a file is packed rather than what it is.
const COMPRESSIONS: [&str; 8] = ["gz", "bz2", "xz", "zst", "lz4", "br", "Z", "lzma"];

/// The last suffix of `name` and, before a compression suffix, the one in front of it: `csv`, `csv.gz`, or nothing.
///
/// A leading dot begins a hidden name, not a suffix; a suffix that has anything but ASCII letters and digits, or
/// more than 16 of them, is none.
pub fn extension(name: &str) -> String {
    let stem = name.trim_start_matches('.');
    let Some((front, last)) = stem.rsplit_once('.') else { return String::new() };
    if front.is_empty() || !is_suffix(last) {
        return String::new();
    }
    if COMPRESSIONS.contains(&last)
        && let Some((first, inner)) = front.rsplit_once('.')
        && !first.is_empty()
        && is_suffix(inner)
    {
        return format!("{inner}.{last}");
    }
    last.to_owned()
}

fn is_suffix(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The name of input number `place` with this extension: `0.csv`, or `0`.
pub fn file_name(place: u32, extension: &str) -> String {
    if extension.is_empty() { place.to_string() } else { format!("{place}.{extension}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_the_last_suffix_and_what_a_compression_packs() {
        for (name, expected) in [
            ("wdbc.csv", "csv"),
            ("a.b.csv", "csv"),
            ("rows.csv.gz", "csv.gz"),
            ("rows.gz", "gz"),
            (".gitignore", ""),
            (".env.toml", "toml"),
            ("Makefile", ""),
            ("odd.", ""),
            ("v1.2 final", ""),
            ("a.tar.zst", "tar.zst"),
        ] {
            assert_eq!(extension(name), expected, "{name}");
        }
    }
}
