//! Placing what a builder makes: files and folders at the places that a request names.
//!
//! Unaware of what is in them. Files are written plainly, since a builder's outputs only count once
//! it has ended well; whoever runs it moves them on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why an output could not be placed.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The request does not say where an output goes.
    #[error("the request names no place for the output `{0}`")]
    NoPlace(String),
    /// The request names a place for an output that the builder does not make.
    #[error("the request names a place for `{0}`, which this builder does not make")]
    Unexpected(String),
    /// A file or folder could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where the output `name` goes.
///
/// # Errors
/// [`OutputError::NoPlace`].
pub fn place<'a>(
    outputs: &'a BTreeMap<String, PathBuf>,
    name: &str,
) -> Result<&'a Path, OutputError> {
    outputs.get(name).map(PathBuf::as_path).ok_or_else(|| OutputError::NoPlace(name.to_owned()))
}

/// Writes a file.
///
/// # Errors
/// [`OutputError::Write`].
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), OutputError> {
    std::fs::write(path, bytes)
        .map_err(|source| OutputError::Write { path: path.to_owned(), source })
}

/// Creates a folder whose parent exists.
///
/// # Errors
/// [`OutputError::Write`], also when it is there already.
pub fn folder(path: &Path) -> Result<(), OutputError> {
    std::fs::create_dir(path).map_err(|source| OutputError::Write { path: path.to_owned(), source })
}

/// A value as a JSON document that people can read: two spaces of indent, a final newline.
pub fn json<T: serde::Serialize>(value: &T) -> String {
    let mut text = serde_json::to_string_pretty(value)
        .expect("reports have text keys and serialise to memory");
    text.push('\n');
    text
}
