//! How much lies where.

use std::path::Path;

use rayon::prelude::*;

use crate::fsio::{Fs, FsError, present};

/// Bytes of a file, or of all files in a folder.
pub(crate) fn of(fs: &Fs, path: &Path) -> Result<u64, FsError> {
    let Some(metadata) = present(fs.lstat(path))? else { return Ok(0) };
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let names = present(fs.list(path))?.unwrap_or_default();
    names.par_iter().map(|name| of(fs, &path.join(name))).sum()
}
