//! What files outside of the store look like, as the system tells it without reading them.
//!
//! A folder is opened once, and its files are looked at by name from there, so that a path is not walked again for
//! each of them. Unaware of what is remembered of a file, and of content.

use std::fs::{File, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use serde::{Deserialize, Serialize};

use crate::fsio::{FsError, ctime_ns, mtime_ns};

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Device that the file is on.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of content or attributes, nanoseconds since 1970.
    pub ctime_ns: i64,
}

impl FileIdentity {
    /// What the system says of a file.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.len(),
            mtime_ns: mtime_ns(metadata),
            ctime_ns: ctime_ns(metadata),
        }
    }

    /// Whether a change after the time `taken_ns` would have shown in the file's times.
    ///
    /// `margin_ns` is the resolution of the file system's clock, or more.
    #[must_use]
    pub fn settled_before(&self, taken_ns: i64, margin_ns: i64) -> bool {
        let youngest = self.mtime_ns.max(self.ctime_ns);
        youngest.saturating_add(margin_ns) < taken_ns
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    File,
    Folder,
    Link,
    /// A FIFO, a socket or a device.
    Special(&'static str),
}

impl Sort {
    fn of(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Folder,
            FileType::Symlink => Self::Link,
            FileType::Fifo => Self::Special("FIFO"),
            FileType::Socket => Self::Special("socket"),
            _ => Self::Special("device"),
        }
    }
}

/// One look at a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) sort: Sort,
    pub(crate) executable: bool,
    pub(crate) identity: FileIdentity,
}

impl Look {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            sort: Sort::of(FileType::from_raw_mode(metadata.mode())),
            executable: metadata.mode() & 0o100 != 0,
            identity: FileIdentity::of(metadata),
        }
    }

    // The widths of the fields differ between platforms.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    fn of_stat(stat: &Stat) -> Self {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            sort: Sort::of(FileType::from_raw_mode(stat.st_mode)),
            executable: stat.st_mode & 0o100 != 0,
            identity: FileIdentity {
                dev: stat.st_dev as u64,
                ino: stat.st_ino as u64,
                size: stat.st_size as u64,
                mtime_ns: ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
                ctime_ns: ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            },
        }
    }
}

/// A name in a folder that is UTF-8, and what it stands for.
pub(crate) type Entry = (Box<str>, Sort);

/// A folder outside of the store, open to be looked into.
#[derive(Debug)]
pub(crate) struct OpenFolder {
    fd: OwnedFd,
    path: PathBuf,
}

impl OpenFolder {
    /// Opens it; the path must not end in a link.
    pub(crate) fn open(path: &Path) -> Result<Self, FsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| FsError::new("open", path, error))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What is in it, sorted bytewise by name; or a name that is not UTF-8.
    pub(crate) fn entries(&self) -> Result<Result<Vec<Entry>, PathBuf>, FsError> {
        let failed = |error| FsError::new("list", &self.path, error);
        let mut found: Vec<Entry> = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().to_str() else {
                let name = std::ffi::OsString::from_vec(entry.file_name().to_bytes().to_vec());
                return Ok(Err(self.path.join(name)));
            };
            if matches!(name, "." | "..") {
                continue;
            }
            let sort = match entry.file_type() {
                FileType::Unknown => self.look(name)?.sort,
                known => Sort::of(known),
            };
            found.push((name.into(), sort));
        }
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Ok(found))
    }

    /// Looks at a name in it; a link is not followed.
    pub(crate) fn look(&self, name: &str) -> Result<Look, FsError> {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| Look::of_stat(&stat))
            .map_err(|error| FsError::new("look at", &self.at(name), error))
    }

    /// Opens a file in it for reading; neither follows a link nor waits for the other end of a FIFO.
    pub(crate) fn open_file(&self, name: &str) -> Result<File, FsError> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map(File::from)
            .map_err(|error| FsError::new("open", &self.at(name), error))
    }

    /// Where a link in it points; `None` if that is not UTF-8.
    pub(crate) fn read_link(&self, name: &str) -> Result<Option<String>, FsError> {
        let target = rustix::fs::readlinkat(&self.fd, name, Vec::new())
            .map_err(|error| FsError::new("read the link", &self.at(name), error))?;
        Ok(target.into_string().ok())
    }
}
