//! Why the bytes of a source cannot be had.

use std::{io, path::PathBuf};

use kiln_cache::{FsError, IngestError, SnapshotError, SourceError as HashError, TreeError};

/// Bytes of a source that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PresentError {
    /// It is not what it was when the build started.
    #[error("`{}` changed while the build was running; nothing that read it was recorded", .0.display())]
    Changed(PathBuf),
    /// It cannot be read.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The store cannot take it.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The store cannot make the tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] FsError),
    /// A file cannot be linked or copied for the step.
    #[error("failed to lay out `{}`", path.display())]
    Farm {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder cannot be copied into the store.
    #[error(transparent)]
    Snapshot(SnapshotError),
    /// It points nowhere.
    #[error("the source is absent")]
    Absent,
}

impl From<SnapshotError> for PresentError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Changed(path) => Self::Changed(path),
            error => Self::Snapshot(error),
        }
    }
}
