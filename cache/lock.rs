//! Locks between processes, all of them the kernel's: a killed process leaves none behind.
//!
//! Unaware of what is done under them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::digest::Digest;
use crate::fsio::{Fs, FsError};
use crate::layout::Layout;
use crate::mark;

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The lock's file cannot be used.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The caller asked to stop waiting.
    #[error("stopped waiting for another process that realises the same action")]
    Cancelled,
}

/// The one lock under which the collector takes things away (exclusive) and builders say what
/// they need (shared). Within a process its holders are counted, since the kernel counts open
/// files, not threads.
#[derive(Debug)]
pub(crate) struct GcLock {
    path: PathBuf,
    /// `None` where not even reading it is allowed: then nobody can be kept away.
    file: Option<File>,
    holders: Mutex<u32>,
}

/// The collector is kept away while this lives.
#[derive(Debug)]
pub(crate) struct Shared<'l>(&'l GcLock);

impl GcLock {
    pub(crate) fn open(fs: &Fs, layout: &Layout) -> Result<Self, FsError> {
        let path = layout.gc_lock();
        // Whoever may read a file may lock it.
        let file = match fs.read_only() {
            Some(_) => fs.open(&path).ok(),
            None => Some(fs.open_lock(&path)?),
        };
        Ok(Self { path, file, holders: Mutex::new(0) })
    }

    pub(crate) fn shared(&self) -> Result<Shared<'_>, FsError> {
        self.enter()?;
        Ok(Shared(self))
    }

    /// Keeps the collector away until as many have left as entered.
    pub(crate) fn enter(&self) -> Result<(), FsError> {
        // Whoever comes second needs what the first one waits for, so waiting in here is right.
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if *holders == 0
            && let Some(file) = &self.file
        {
            let locked = file.lock_shared();
            locked.map_err(|error| FsError::new("lock", &self.path, error))?;
        }
        *holders += 1;
        Ok(())
    }

    pub(crate) fn leave(&self) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        *holders -= 1;
        if *holders == 0
            && let Some(file) = &self.file
        {
            // Unlocking an open file that is locked does not fail.
            let _ = file.unlock();
        }
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Takes the collector's side of the lock; released when the file is dropped.
pub(crate) fn gc_exclusive(fs: &Fs, layout: &Layout) -> Result<File, FsError> {
    let path = layout.gc_lock();
    let file = fs.open_lock(&path)?;
    file.lock().map_err(|error| FsError::new("lock", &path, error))?;
    Ok(file)
}

/// Holds others off an action while it is realised; released when dropped or when the process
/// ends.
#[derive(Debug)]
pub struct ActionLock {
    fs: Fs,
    path: PathBuf,
    // Keeps the kernel's lock until after the name is removed.
    _file: File,
}

impl Drop for ActionLock {
    fn drop(&mut self) {
        // A file that stays is locked by nobody and is used again; it does no harm.
        let _ = self.fs.remove_file(&self.path);
    }
}

fn action_path(layout: &Layout, key: &Digest) -> PathBuf {
    layout.locks().join(key.to_string())
}

pub(crate) fn try_action(
    fs: &Fs,
    layout: &Layout,
    key: &Digest,
) -> Result<Option<ActionLock>, FsError> {
    let path = action_path(layout, key);
    loop {
        let file = fs.open_lock(&path)?;
        if !mark::try_lock(&path, &file)? {
            return Ok(None);
        }
        // Its last owner may have removed the name between our opening and our locking.
        if mark::names(fs, &path, &file)? {
            return Ok(Some(ActionLock { fs: fs.clone(), path, _file: file }));
        }
    }
}

pub(crate) fn action(
    fs: &Fs,
    layout: &Layout,
    key: &Digest,
    cancelled: &dyn Fn() -> bool,
) -> Result<ActionLock, LockError> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(lock) = try_action(fs, layout, key)? {
            return Ok(lock);
        }
        if cancelled() {
            return Err(LockError::Cancelled);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Serialises the writers of the records in one shard; held for microseconds.
pub(crate) fn records(fs: &Fs, layout: &Layout, key: &Digest) -> Result<File, FsError> {
    let path = layout.locks().join(format!("records-{:02x}", key.as_bytes()[0]));
    locked(fs, &path)
}

/// Serialises those who change tombstones.
pub(crate) fn tombstones(fs: &Fs, layout: &Layout) -> Result<File, FsError> {
    locked(fs, &layout.locks().join("tombstones"))
}

fn locked(fs: &Fs, path: &Path) -> Result<File, FsError> {
    let file = fs.open_lock(path)?;
    file.lock().map_err(|error| FsError::new("lock", path, error))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::new(home.path());
        Fs::default().create_dirs(&layout.locks()).unwrap();
        (home, layout)
    }

    #[test]
    fn an_action_is_never_locked_twice() {
        let (_home, layout) = layout();
        let (fs, key) = (Fs::default(), Digest::of(b"key"));
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = action(&fs, &layout, &key, &|| false).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert!(!action_path(&layout, &key).exists());
    }

    #[test]
    fn waiting_can_be_cancelled() {
        let (_home, layout) = layout();
        let (fs, key) = (Fs::default(), Digest::of(b"key"));
        let _lock = try_action(&fs, &layout, &key).unwrap().unwrap();
        assert!(try_action(&fs, &layout, &key).unwrap().is_none());
        assert!(matches!(action(&fs, &layout, &key, &|| true), Err(LockError::Cancelled)));
        assert!(try_action(&fs, &layout, &Digest::of(b"other")).unwrap().is_some());
    }
}
