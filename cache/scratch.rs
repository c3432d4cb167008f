//! Fresh folders that go with their owner. Unaware of what is done in them.

use std::path::{Path, PathBuf};

use crate::fsio::{Fs, FsError};
use crate::layout::Layout;
use crate::mark::{self, Mark};

const PREFIX: &str = "s-";
const SUFFIX: &str = ".lock";

/// A fresh, empty folder on the store's file system, for the user alone. Removed when dropped; if
/// the process is killed first, the next [`sweep`](crate::Store::sweep) removes it.
#[derive(Debug)]
pub struct Scratch {
    fs: Fs,
    path: PathBuf,
    // Dropped after the folder is gone: a folder never stands without its mark.
    mark: Mark,
}

impl Scratch {
    pub(crate) fn create(fs: &Fs, layout: &Layout) -> Result<Self, FsError> {
        let mark = Mark::create(fs, &layout.tmp(), PREFIX, SUFFIX)?;
        let path = mark.path().with_extension("");
        fs.create_dir(&path)?;
        Ok(Self { fs: fs.clone(), path, mark })
    }

    /// Where the folder is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is swept later, when its mark has no owner.
        let removed = self.fs.remove_all(&self.path);
        self.mark.set_stays(removed.is_err());
    }
}

/// Removes the folders whose owners are gone; what cannot be removed is told to `stays`, and keeps
/// its mark.
pub(crate) fn sweep(
    fs: &Fs,
    layout: &Layout,
    stays: &mut dyn FnMut(FsError),
) -> Result<(), FsError> {
    for name in fs.list(&layout.tmp())? {
        let Some(name) = name.to_str() else { continue };
        if !name.starts_with(PREFIX) || !name.ends_with(SUFFIX) {
            continue;
        }
        let path = layout.tmp().join(name);
        if let Err(error) = remove_if_dead(fs, &path) {
            stays(error);
        }
    }
    Ok(())
}

fn remove_if_dead(fs: &Fs, mark: &Path) -> Result<(), FsError> {
    if let Some(_seized) = mark::seize(fs, mark)? {
        fs.remove_all(&mark.with_extension(""))?;
        fs.remove_all(mark)?;
    }
    Ok(())
}
