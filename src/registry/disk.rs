//! The registry's door to the file system: small files, written aside, flushed and renamed into place.
//!
//! Unaware of what the files say. A test can end the "process" before any step that changes something.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The name under which a file is written before it is renamed. There is one writer at a time, who holds the lock.
const ASIDE: &str = ".new";

/// An operation on the file system that failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing} {}", path.display())]
pub struct DiskError {
    /// The verb: `read`, `rename`, …
    pub doing: &'static str,
    /// What it was done to.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError + use<> {
    let path = path.to_owned();
    move |source| DiskError { doing, path, source }
}

/// The file system.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// After so many changes nothing more happens: what is on disk then is what a crash would leave.
    #[cfg(test)]
    pub(crate) changes_left: Option<std::sync::atomic::AtomicU32>,
}

impl Disk {
    /// Passes a point before something changes; `Err` if the process is meant to be dead by now.
    pub(crate) fn point(&self) -> io::Result<()> {
        #[cfg(test)]
        if let Some(left) = &self.changes_left {
            use std::sync::atomic::Ordering::Relaxed;
            let alive = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
            return alive.map(drop).map_err(|_| io::Error::other("the process ended here"));
        }
        Ok(())
    }

    /// The whole file; `None` if there is none.
    pub(crate) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed("read", path)(error)),
        }
    }

    /// The names in a folder, in no order; none if there is no folder.
    pub(crate) fn list(&self, folder: &Path) -> Result<Vec<String>, DiskError> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", folder)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("list", folder))?.file_name();
            // Nothing of the registry's has a name that is not text.
            names.extend(name.into_string().ok());
        }
        Ok(names)
    }

    /// Makes a folder and those above it, for the user alone.
    pub(crate) fn create_folders(&self, folder: &Path) -> Result<(), DiskError> {
        if folder.is_dir() {
            return Ok(());
        }
        self.point().map_err(failed("create", folder))?;
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder).map_err(failed("create", folder))
    }

    /// Waits for the lock; it is given up when the file is dropped, or by the kernel when the process ends.
    pub(crate) fn lock(&self, path: &Path) -> Result<File, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(failed("open", path))?;
        file.lock().map_err(failed("lock", path))?;
        Ok(file)
    }

    /// Puts a file in its place in one move, on disk when this returns. The caller holds the lock.
    pub(crate) fn place(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let folder = path.parent().expect("the registry's files stand in folders");
        let aside = folder.join(ASIDE);
        let whole = self.point();
        let (dying, bytes) = match whole {
            Ok(()) => (None, bytes),
            // A process that ends here leaves half a file.
            Err(error) => (Some(error), &bytes[..bytes.len() / 2]),
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&aside).map_err(failed("create", &aside))?;
        file.write_all(bytes).map_err(failed("write", &aside))?;
        if let Some(error) = dying {
            return Err(failed("write", &aside)(error));
        }
        file.sync_all().map_err(failed("flush", &aside))?;
        self.point().map_err(failed("rename", path))?;
        fs::rename(&aside, path).map_err(failed("rename", path))?;
        self.sync_folder(folder)
    }

    /// Brings a folder's names to disk.
    pub(crate) fn sync_folder(&self, folder: &Path) -> Result<(), DiskError> {
        let opened = File::open(folder).map_err(failed("open", folder))?;
        opened.sync_all().map_err(failed("flush", folder))
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
