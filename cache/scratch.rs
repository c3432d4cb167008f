//! Fresh folders that go with their owner. Unaware of what is done in them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, IFlags, Mode, OFlags};

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
    /// What a folder of this file system is like when it is new.
    new: Option<Condition>,
    // Dropped after the folder is gone: a folder never stands without its mark.
    mark: Mark,
}

impl Scratch {
    pub(crate) fn create(fs: &Fs, layout: &Layout) -> Result<Self, FsError> {
        let mark = Mark::create(fs, &layout.tmp(), PREFIX, SUFFIX)?;
        let path = mark.path().with_extension("");
        fs.create_dir(&path)?;
        let new = Condition::of(&path).ok();
        Ok(Self { fs: fs.clone(), path, new, mark })
    }

    /// Empties the folder, so that it serves another use. Folders in it that are empty and otherwise as if they had just been
    /// made stay: a file system takes far longer to make one, the longer the more have just been removed, than to look at it.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn renew(&self) -> Result<(), FsError> {
        for name in self.fs.list(&self.path)? {
            let path = self.path.join(&name);
            let is_as_new = self.new.as_ref().is_some_and(|new| is_as_new(&path, new));
            if !is_as_new {
                self.fs.remove_all(&path)?;
            }
        }
        Ok(())
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

/// What a folder bears beside its name, its mode, its times and its content.
#[derive(Debug, PartialEq, Eq)]
struct Condition {
    size: i64,
    owner: (u32, u32),
    flags: Option<IFlags>,
    has_attributes: bool,
}

impl Condition {
    fn of(path: &Path) -> io::Result<Self> {
        Self::of_open(&open(path)?)
    }

    fn of_open(folder: &OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(folder)?;
        Ok(Self {
            size: stat.st_size,
            owner: (stat.st_uid, stat.st_gid),
            // Not every file system has them.
            flags: rustix::fs::ioctl_getflags(folder).ok(),
            has_attributes: has_attributes(folder)?,
        })
    }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Whether there are attributes that a process without privileges can set.
fn has_attributes(folder: &OwnedFd) -> io::Result<bool> {
    let mut names = [0u8; 256];
    match rustix::fs::flistxattr(folder, &mut names) {
        Ok(length) => {
            let mut names = names[..length].split(|&byte| byte == 0);
            Ok(names.any(|name| !name.is_empty() && !name.starts_with(b"security.")))
        }
        Err(rustix::io::Errno::NOTSUP) => Ok(false),
        Err(rustix::io::Errno::RANGE) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn is_as_new(path: &Path, new: &Condition) -> bool {
    let look = || -> io::Result<bool> {
        let folder = open(path)?;
        let mode = rustix::fs::fstat(&folder)?.st_mode;
        let is_plain = FileType::from_raw_mode(mode) == FileType::Directory
            && Mode::from_raw_mode(mode) == Mode::from_raw_mode(0o755);
        if !is_plain || Condition::of_open(&folder)? != *new {
            return Ok(false);
        }
        for entry in Dir::read_from(&folder)? {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    };
    look().unwrap_or(false)
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
