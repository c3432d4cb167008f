//! How much lies where.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::fsio::{Fs, FsError, present};

/// Bytes of a file, or of all files in a folder that a path can name.
pub(crate) fn of(fs: &Fs, path: &Path) -> Result<u64, FsError> {
    // Level by level, since what a running step makes may be nested without end.
    let (mut bytes, mut level) = (0, vec![path.to_owned()]);
    while !level.is_empty() {
        let looked = level.par_iter().map(|path| look(fs, path)).collect::<Result<Vec<_>, _>>()?;
        level.clear();
        for (own, below) in looked {
            bytes += own;
            level.extend(below);
        }
    }
    Ok(bytes)
}

/// Bytes of a file, or what is in a folder.
fn look(fs: &Fs, path: &Path) -> Result<(u64, Vec<PathBuf>), FsError> {
    let metadata = match present(fs.lstat(path)) {
        Ok(Some(metadata)) => metadata,
        Ok(None) => return Ok((0, Vec::new())),
        // A step that runs may make what no path can name; it is not in the store.
        Err(error) if error.is_too_long() => return Ok((0, Vec::new())),
        Err(error) => return Err(error),
    };
    if !metadata.is_dir() {
        return Ok((metadata.len(), Vec::new()));
    }
    let names = present(fs.list(path))?.unwrap_or_default();
    Ok((0, names.iter().map(|name| path.join(name)).collect()))
}
