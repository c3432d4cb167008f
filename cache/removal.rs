//! Removing folders that nobody vouches for.
//!
//! A step may leave folders nested deeper than a path can name, or without permission to read
//! them. So a folder is removed through open folders, never by the paths below it: down by name,
//! up by `..`, with two of them open at most, however deep it goes. Unaware of what is removed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};

use crate::fsio::{Fs, FsError, present};

/// How often a removal begins again because another process removes the same.
const TRIES: usize = 8;

/// A folder on the way down.
struct Level {
    device: u64,
    inode: u64,
    /// What is in it and has not been looked at, in descending order.
    left: Vec<OsString>,
}

impl Fs {
    /// Removes a file, or a folder with all that is in it, whatever the modes and however deep;
    /// links are not followed. What is gone already is no error.
    pub(crate) fn remove_all(&self, path: &Path) -> Result<(), FsError> {
        for _ in 1..TRIES {
            let done = present(self.remove_present(path))?;
            // The way back up was gone: another process is at it too.
            if done.is_some() || present(self.lstat(path))?.is_none() {
                return Ok(());
            }
        }
        present(self.remove_present(path)).map(drop)
    }

    fn remove_present(&self, top: &Path) -> Result<(), FsError> {
        if !self.lstat(top)?.is_dir() {
            return self.remove_file(top);
        }
        let mut path = top.to_owned();
        let (mut folder, level) = self.enter(CWD, top.as_os_str(), &path)?;
        let mut levels = vec![level];
        while let Some(level) = levels.last_mut() {
            if let Some(name) = level.left.pop() {
                path.push(&name);
                // Whatever another process has removed meanwhile is gone, as it should be.
                if present(is_folder(&folder, &name, &path))? == Some(true) {
                    // Most folders of a step are empty: then one call does, where a look inside takes ten.
                    let removed = self.act("remove the folder", &path, || {
                        rustix::fs::unlinkat(&folder, &name, AtFlags::REMOVEDIR)
                    });
                    if removed.is_ok() {
                        path.pop();
                        continue;
                    }
                    if let Some((below, level)) = present(self.enter(&folder, &name, &path))? {
                        folder = below;
                        levels.push(level);
                        continue;
                    }
                } else {
                    present(self.act("remove", &path, || {
                        rustix::fs::unlinkat(&folder, &name, AtFlags::empty())
                    }))?;
                }
                path.pop();
                continue;
            }
            levels.pop();
            let Some(above) = levels.last() else { break };
            folder = leave(&folder, above, &path)?;
            let name = path.file_name().unwrap_or_default().to_owned();
            present(self.act("remove the folder", &path, || {
                rustix::fs::unlinkat(&folder, &name, AtFlags::REMOVEDIR)
            }))?;
            path.pop();
        }
        self.act("remove the folder", top, || std::fs::remove_dir(top))
    }

    /// Opens a folder that is in another one, and reads what is in it.
    fn enter(
        &self,
        above: impl AsFd,
        name: &OsStr,
        path: &Path,
    ) -> Result<(OwnedFd, Level), FsError> {
        let above = above.as_fd();
        let stat = rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| FsError::new("look at", path, error))?;
        if stat.st_mode & 0o700 != 0o700 {
            self.act("set the mode of", path, || {
                rustix::fs::chmodat(above, name, Mode::RWXU, AtFlags::empty())
            })?;
        }
        let folder = rustix::fs::openat(above, name, FOLDER, Mode::empty())
            .map_err(|error| FsError::new("open", path, error))?;
        let (device, inode) =
            identity(&folder).map_err(|error| FsError::new("look at", path, error))?;
        let left = names(&folder).map_err(|error| FsError::new("list", path, error))?;
        Ok((folder, Level { device, inode, left }))
    }
}

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Goes back up, and makes sure that it is where the way down came from: a folder that was moved
/// meanwhile would lead elsewhere.
fn leave(folder: &OwnedFd, above: &Level, path: &Path) -> Result<OwnedFd, FsError> {
    let failed = |error: io::Error| FsError::new("leave", path, error);
    let up = rustix::fs::openat(folder, "..", FOLDER, Mode::empty())
        .map_err(|error| failed(error.into()))?;
    if identity(&up).map_err(failed)? != (above.device, above.inode) {
        return Err(failed(io::Error::other("it was moved while it was being removed")));
    }
    Ok(up)
}

fn is_folder(folder: impl AsFd, name: &OsStr, path: &Path) -> Result<bool, FsError> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| FsError::new("look at", path, error))?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn identity(folder: &OwnedFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(folder)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The names in an open folder, the last one by name first.
fn names(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_written_to_is_removed_all_the_same() {
        let home = tempfile::tempdir().unwrap();
        let fs = Fs::default();
        let top = home.path().join("top");
        fs.create_dirs(&top.join("a/b")).unwrap();
        fs.write_new(&top.join("a/b/file"), b"x", false).unwrap();
        fs.symlink("../../..", &top.join("a/link")).unwrap();
        fs.chmod(&top.join("a/b"), 0o000).unwrap();
        fs.chmod(&top.join("a"), 0o555).unwrap();
        fs.chmod(&top, 0o000).unwrap();
        fs.remove_all(&top).unwrap();
        assert!(!top.exists());
        assert!(home.path().exists());
        fs.remove_all(&top).unwrap();
    }

    #[test]
    fn folders_too_deep_for_any_path_are_removed() {
        let home = tempfile::tempdir().unwrap();
        let fs = Fs::default();
        let top = home.path().join("top");
        fs.create_dir(&top).unwrap();
        let mut folder = rustix::fs::openat(CWD, &top, FOLDER, Mode::empty()).unwrap();
        let name = "n".repeat(42);
        // More levels than a process may have files open by default, with a sibling in each.
        for depth in 0..1500 {
            rustix::fs::mkdirat(&folder, &name, Mode::RWXU).unwrap();
            rustix::fs::symlinkat("..", &folder, "link").unwrap();
            let below = rustix::fs::openat(&folder, &name, FOLDER, Mode::empty()).unwrap();
            if depth % 100 == 0 {
                rustix::fs::fchmod(&folder, Mode::empty()).unwrap();
            }
            folder = below;
        }
        drop(folder);
        fs.remove_all(&top).unwrap();
        assert!(top.symlink_metadata().is_err());
        assert!(home.path().exists());
    }

    #[test]
    fn two_who_remove_the_same_do_not_get_in_each_others_way() {
        let home = tempfile::tempdir().unwrap();
        let top = home.path().join("top");
        for _ in 0..20 {
            for folder in 0..10 {
                let folder = top.join(folder.to_string()).join("below");
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join("file"), "x").unwrap();
            }
            std::thread::scope(|scope| {
                let remove = || scope.spawn(|| Fs::default().remove_all(&top));
                for removed in [remove(), remove()] {
                    removed.join().unwrap().unwrap();
                }
            });
            assert!(!top.exists());
        }
    }
}
