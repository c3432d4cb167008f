//! The one door to the file system.
//!
//! Every create, write, rename, link, mode change and removal of the store goes through [`Fs`],
//! so that each error names its path, and so that a test can stop the process at any one of them.
//! Unaware of what the files mean.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on the file system that failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing} {}", path.display())]
pub struct FsError {
    /// The verb: `open`, `rename`, …
    pub doing: &'static str,
    /// What it was done to.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl FsError {
    pub(crate) fn new(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self { doing, path: path.to_owned(), source: source.into() }
    }

    /// Whether the path was not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    }
}
