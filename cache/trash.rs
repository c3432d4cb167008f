//! Where things go that are to be removed: moved at once, deleted at leisure.

use std::path::Path;

use crate::fsio::{Fs, FsError, present};
use crate::layout::{self, Layout};
use crate::mark::fresh_name;
use crate::staging;

/// Moves a file or folder to the trash, whatever its mode, also where the disk is full. What is gone already
/// is no error.
pub(crate) fn set_aside(fs: &Fs, layout: &Layout, path: &Path) -> Result<(), FsError> {
    let Some(metadata) = present(fs.lstat(path))? else { return Ok(()) };
    let mut _mark = None;
    if metadata.is_dir() {
        // A folder that cannot be written to cannot be renamed. If this process is killed in between,
        // the mark tells the next sweep that the tree is to have its mode again. On a disk that is
        // full there is no mark, but room has to be made all the same.
        _mark =
            layout::tree_at(path).and_then(|digest| staging::mark_open(fs, layout, &digest).ok());
        fs.chmod(path, 0o700)?;
    }
    let rename = || present(fs.rename(path, &layout.trash().join(fresh_name()))).map(drop);
    match rename() {
        Err(error) if error.is_full() => {}
        moved => return moved,
    }
    // Even a name takes space. What is there already makes room, and what can go in one step needs none.
    empty(fs, layout, &mut drop)?;
    match rename() {
        Err(error) if error.is_full() && !metadata.is_dir() => {
            present(fs.remove_file(path)).map(drop)
        }
        moved => moved,
    }
}

/// Deletes all that is in the trash; what cannot be deleted is told to `stays`.
pub(crate) fn empty(
    fs: &Fs,
    layout: &Layout,
    stays: &mut dyn FnMut(FsError),
) -> Result<(), FsError> {
    for name in fs.list(&layout.trash())? {
        if let Err(error) = fs.remove_all(&layout.trash().join(name)) {
            stays(error);
        }
    }
    Ok(())
}
