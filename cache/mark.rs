//! Marks of living processes: a file that its owner holds a kernel lock on.
//!
//! The lock goes when its process goes, however it goes; a mark that can be locked by somebody
//! else is a dead one's leftover. Unaware of what is marked.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::fsio::{Fs, FsError, present};

/// A mark of this process; removed when dropped.
#[derive(Debug)]
pub(crate) struct Mark {
    fs: Fs,
    path: PathBuf,
    file: File,
    stays: bool,
}

/// A name that no other process and no other call chooses.
pub(crate) fn fresh_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:x}-{since:x}-{count:x}", std::process::id())
}

impl Mark {
    /// A new mark in a folder, named `PREFIX` and something fresh and `SUFFIX`.
    pub(crate) fn create(
        fs: &Fs,
        folder: &Path,
        prefix: &str,
        suffix: &str,
    ) -> Result<Self, FsError> {
        loop {
            let path = folder.join(format!("{prefix}{}{suffix}", fresh_name()));
            let file = match fs.create_file(&path, 0o600) {
                Err(error) if error.is_taken() => continue,
                created => created?,
            };
            // Between creation and lock a sweeper may have taken it for a leftover.
            if try_lock(&path, &file)? && names(fs, &path, &file)? {
                return Ok(Self { fs: fs.clone(), path, file, stays: false });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether the file is left behind when the mark is dropped.
    pub(crate) fn set_stays(&mut self, stays: bool) {
        self.stays = stays;
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if !self.stays {
            // A mark that cannot be removed is swept later: its lock goes with this process.
            let _ = self.fs.remove_file(&self.path);
        }
    }
}

/// Locks a mark whose owner is gone; `None` if the owner lives or the mark is not there.
pub(crate) fn seize(fs: &Fs, path: &Path) -> Result<Option<File>, FsError> {
    let Some(file) = present(fs.open(path))? else { return Ok(None) };
    Ok((try_lock(path, &file)? && names(fs, path, &file)?).then_some(file))
}

/// Whether somebody else holds this mark. One that cannot be opened counts as nobody's.
pub(crate) fn is_held(fs: &Fs, path: &Path) -> bool {
    fs.open(path).is_ok_and(|file| matches!(try_lock(path, &file), Ok(false)))
}

/// Tries for the exclusive lock.
pub(crate) fn try_lock(path: &Path, file: &File) -> Result<bool, FsError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(FsError::new("lock", path, error)),
    }
}

/// Whether the path still names this open file.
pub(crate) fn names(fs: &Fs, path: &Path, file: &File) -> Result<bool, FsError> {
    let own = file.metadata().map_err(|error| FsError::new("look at", path, error))?;
    let there = present(fs.lstat(path))?;
    Ok(there.is_some_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_can_be_seized_only_when_its_owner_is_gone() {
        let home = tempfile::tempdir().unwrap();
        let fs = Fs::default();
        let mut mark = Mark::create(&fs, home.path(), "m-", ".lock").unwrap();
        let path = mark.path().to_owned();
        assert!(seize(&fs, &path).unwrap().is_none());
        mark.set_stays(true);
        drop(mark);
        assert!(seize(&fs, &path).unwrap().is_some());
        let mark = Mark::create(&fs, home.path(), "m-", ".lock").unwrap();
        let path = mark.path().to_owned();
        drop(mark);
        assert!(!path.exists());
    }
}
