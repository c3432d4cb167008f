//! Where things go that are to be removed: moved at once, deleted at leisure.

use std::path::Path;

use crate::fsio::{Fs, FsError, present};
use crate::layout::Layout;
use crate::mark::fresh_name;

/// Moves a file or folder to the trash, whatever its mode. What is gone already is no error.
pub(crate) fn set_aside(fs: &Fs, layout: &Layout, path: &Path) -> Result<(), FsError> {
    let Some(metadata) = present(fs.lstat(path))? else { return Ok(()) };
    if metadata.is_dir() {
        // A folder that cannot be written to cannot be renamed.
        fs.chmod(path, 0o700)?;
    }
    present(fs.rename(path, &layout.trash().join(fresh_name()))).map(drop)
}

/// Deletes all that is in the trash.
pub(crate) fn empty(fs: &Fs, layout: &Layout) -> Result<(), FsError> {
    let names = fs.list(&layout.trash())?;
    names.iter().try_for_each(|name| fs.remove_all(&layout.trash().join(name)))
}
