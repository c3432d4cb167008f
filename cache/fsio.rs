//! The one door to the file system.
//!
//! Every create, write, rename, link, mode change and removal of the store goes through [`Fs`],
//! so that each error names its path, and so that a test can stop the process at any one of them.
//! Unaware of what the files mean.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::access::{Closed, ReadOnly};
use crate::fault::FaultPlan;
use crate::holes;

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

    /// Whether the path, or a name in it, is longer than the system takes.
    pub(crate) fn is_too_long(&self) -> bool {
        self.source.kind() == io::ErrorKind::InvalidFilename
    }

    /// The error with its cause, in one line.
    pub(crate) fn told(&self) -> String {
        format!("{self}: {}", self.source)
    }

    /// Whether there was no space left for it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the path was there already.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
        )
    }
}

/// Turns "it is not there" into `None`.
pub(crate) fn present<T>(result: Result<T, FsError>) -> Result<Option<T>, FsError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What can be done on a disk that is full.
const FREE: [&str; 5] =
    ["remove", "remove the folder", "set the mode of", "set the times of", "flush"];

/// The second after 1970 began: the time of everything in the store.
const FIXED: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The door. Clones share the fault plan.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fs {
    faults: Option<FaultPlan>,
    closed: Option<Arc<Closed>>,
}

impl Fs {
    pub(crate) fn new(faults: Option<FaultPlan>) -> Self {
        Self { faults, closed: None }
    }

    /// The same door, through which a store is only read.
    pub(crate) fn closed(self, closed: Arc<Closed>) -> Self {
        Self { closed: Some(closed), ..self }
    }

    /// Why the store can only be read, if that is so.
    pub(crate) fn read_only(&self) -> Option<&ReadOnly> {
        self.closed.as_ref().map(|closed| closed.why())
    }

    /// Refuses what would change something in a store that can only be read.
    pub(crate) fn permit(&self, doing: &'static str, path: &Path) -> Result<(), FsError> {
        match self.closed.as_ref().and_then(|closed| closed.refusal(path)) {
            Some(refusal) => Err(FsError::new(doing, path, refusal)),
            None => Ok(()),
        }
    }

    /// Passes one numbered point, then acts.
    pub(crate) fn act<T, E: Into<io::Error>>(
        &self,
        doing: &'static str,
        path: &Path,
        act: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, FsError> {
        self.permit(doing, path)?;
        if let Some(plan) = &self.faults {
            let takes_space = !FREE.contains(&doing);
            plan.point(takes_space).map_err(|error| FsError::new(doing, path, error))?;
        }
        act().map_err(|error| FsError::new(doing, path, error))
    }

    /// Creates a folder for the user alone.
    pub(crate) fn create_dir(&self, path: &Path) -> Result<(), FsError> {
        self.act("create the folder", path, || fs::DirBuilder::new().mode(0o700).create(path))
    }

    /// Creates a folder as any folder that the user makes, subject to the umask.
    pub(crate) fn create_open_dir(&self, path: &Path) -> Result<(), FsError> {
        self.act("create the folder", path, || fs::create_dir(path))
    }

    /// Creates a folder for the user alone, and those above it.
    pub(crate) fn create_dirs(&self, path: &Path) -> Result<(), FsError> {
        if path.is_dir() {
            return Ok(());
        }
        self.act("create the folder", path, || {
            fs::DirBuilder::new().mode(0o700).recursive(true).create(path)
        })
    }

    /// Creates a file that was not there, open for reading and writing; `mode` is subject to the
    /// umask.
    pub(crate) fn create_file(&self, path: &Path, mode: u32) -> Result<File, FsError> {
        self.act("create", path, || {
            OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)
        })
    }

    /// Opens a file that serves as a lock, creating it if need be.
    pub(crate) fn open_lock(&self, path: &Path) -> Result<File, FsError> {
        self.permit("open", path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map_err(|error| FsError::new("open", path, error)),
        }
        self.act("create", path, || options.create(true).open(path))
    }

    /// Appends bytes to an open file in one write.
    pub(crate) fn append(&self, path: &Path, file: &File, bytes: &[u8]) -> Result<(), FsError> {
        self.act("write to", path, || (&mut &*file).write_all(bytes))
    }

    /// Writes a new file. With `durable` its bytes are on disk when this returns.
    pub(crate) fn write_new(
        &self,
        path: &Path,
        bytes: &[u8],
        durable: bool,
    ) -> Result<(), FsError> {
        let mut file = self.create_file(path, 0o600)?;
        self.act("write to", path, || file.write_all(bytes))?;
        if durable {
            self.act("flush", path, || file.sync_all())?;
        }
        Ok(())
    }

    /// Copies an open file's bytes into another, empty one's: a reflink where the file system has them, otherwise holes stay
    /// holes.
    pub(crate) fn copy_bytes(&self, from: &File, to: &File, path: &Path) -> Result<(), FsError> {
        self.act("copy to", path, || {
            if rustix::fs::ioctl_ficlone(to, from).is_ok() {
                return Ok(());
            }
            holes::copy(from, to)
        })
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), FsError> {
        self.act("rename into place", to, || fs::rename(from, to))
    }

    /// Renames into a folder that may not be there yet.
    pub(crate) fn rename_into(&self, from: &Path, to: &Path) -> Result<(), FsError> {
        match self.rename(from, to) {
            Err(error) if error.is_absent() => {}
            done => return done,
        }
        if let Some(folder) = to.parent() {
            self.create_dirs(folder)?;
        }
        self.rename(from, to)
    }

    pub(crate) fn hard_link(&self, from: &Path, to: &Path) -> Result<(), FsError> {
        self.act("link", to, || fs::hard_link(from, to))
    }

    pub(crate) fn symlink(&self, target: &str, link: &Path) -> Result<(), FsError> {
        self.act("link", link, || std::os::unix::fs::symlink(target, link))
    }

    pub(crate) fn chmod(&self, path: &Path, mode: u32) -> Result<(), FsError> {
        self.act("set the mode of", path, || {
            fs::set_permissions(path, Permissions::from_mode(mode))
        })
    }

    /// Gives a file, folder or link the one time that everything in the store has.
    pub(crate) fn fix_times(&self, path: &Path) -> Result<(), FsError> {
        let times = Timestamps { last_access: FIXED, last_modification: FIXED };
        self.act("set the times of", path, || {
            rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Gives an open file its mode and the one time that everything in the store has.
    pub(crate) fn finish(&self, path: &Path, file: &File, mode: u32) -> Result<(), FsError> {
        self.act("set the mode of", path, || file.set_permissions(Permissions::from_mode(mode)))?;
        let times = Timestamps { last_access: FIXED, last_modification: FIXED };
        self.act("set the times of", path, || rustix::fs::futimens(file, &times))
    }

    /// Gives an open file the present time of its file system and returns it, in nanoseconds since
    /// 1970.
    pub(crate) fn touch(&self, path: &Path, file: &File) -> Result<i64, FsError> {
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        self.act("set the times of", path, || rustix::fs::futimens(file, &times))?;
        let metadata = file.metadata().map_err(|error| FsError::new("look at", path, error))?;
        Ok(mtime_ns(&metadata))
    }

    /// Sets a file's time of change, to the present if none is given; the time at which it was read
    /// stays.
    pub(crate) fn set_mtime(&self, path: &Path, time: Option<SystemTime>) -> Result<(), FsError> {
        let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let since = time.map(|time| time.duration_since(UNIX_EPOCH).unwrap_or_default());
        let time = match since {
            None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
            Some(since) => Timespec {
                tv_sec: since.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: since.subsec_nanos().into(),
            },
        };
        let times = Timestamps { last_access: omit, last_modification: time };
        self.act("set the times of", path, || {
            rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    pub(crate) fn remove_file(&self, path: &Path) -> Result<(), FsError> {
        self.act("remove", path, || fs::remove_file(path))
    }

    /// Brings everything that was written to the file system of this folder onto its disk.
    pub(crate) fn sync_filesystem(&self, path: &Path) -> Result<(), FsError> {
        let folder = self.open(path)?;
        self.act("flush", path, || rustix::fs::syncfs(&folder))
    }

    /// Brings the names in a folder onto disk.
    pub(crate) fn sync_folder(&self, path: &Path) -> Result<(), FsError> {
        let folder = self.open(path)?;
        self.act("flush", path, || folder.sync_all())
    }

    /// Opens for reading.
    pub(crate) fn open(&self, path: &Path) -> Result<File, FsError> {
        File::open(path).map_err(|error| FsError::new("open", path, error))
    }

    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>, FsError> {
        fs::read(path).map_err(|error| FsError::new("read", path, error))
    }

    pub(crate) fn lstat(&self, path: &Path) -> Result<Metadata, FsError> {
        fs::symlink_metadata(path).map_err(|error| FsError::new("look at", path, error))
    }

    /// Looks at what a path leads to, through links.
    pub(crate) fn stat(&self, path: &Path) -> Result<Metadata, FsError> {
        fs::metadata(path).map_err(|error| FsError::new("look at", path, error))
    }

    pub(crate) fn read_link(&self, path: &Path) -> Result<PathBuf, FsError> {
        fs::read_link(path).map_err(|error| FsError::new("read the link", path, error))
    }

    /// The names in a folder, sorted bytewise.
    pub(crate) fn list(&self, path: &Path) -> Result<Vec<OsString>, FsError> {
        let list = || -> io::Result<Vec<OsString>> {
            fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
        };
        let mut names = list().map_err(|error| FsError::new("list", path, error))?;
        names.sort_unstable();
        Ok(names)
    }
}

/// Time of last change of the content, in nanoseconds since 1970.
pub(crate) fn mtime_ns(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

/// Time of last change of content or attributes, in nanoseconds since 1970.
pub(crate) fn ctime_ns(metadata: &Metadata) -> i64 {
    metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_path_and_keeps_its_cause() {
        let error = Fs::default().read(Path::new("/no/such/file")).unwrap_err();
        assert_eq!(error.to_string(), "failed to read /no/such/file");
        assert!(error.is_absent());
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn each_change_of_the_disk_is_a_point_where_a_fault_can_stand() {
        let home = tempfile::tempdir().unwrap();
        let plan = FaultPlan::fail_at(2);
        let fs = Fs::new(Some(plan.clone()));
        let path = home.path().join("file");
        let error = fs.write_new(&path, b"x", false).unwrap_err();
        assert_eq!((error.doing, plan.passed()), ("write to", 2));
        assert!(fs.list(home.path()).is_ok());
        assert_eq!(plan.passed(), 2);
    }
}
