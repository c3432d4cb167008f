//! The one moment that everything bears which a step finds when it begins.
//!
//! A step that archives its working folder, or lists it with times, would otherwise put the clock into its outputs.
//! It is unaware of what the files are.

use std::{
    fs, io,
    os::{fd::BorrowedFd, unix::fs::MetadataExt},
    path::Path,
};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use walkdir::WalkDir;

/// Seconds since 1970: the first moment that a zip file can express.
pub(super) const EPOCH: i64 = 315_532_800;

/// Gives `path` the moment; a link itself, not what it leads to.
pub(super) fn set(path: &Path) -> io::Result<()> {
    set_at(CWD, path)
}

/// The same for a path in `folder`.
pub(super) fn set_at(folder: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let moment = Timespec { tv_sec: EPOCH, tv_nsec: 0 };
    let times = Timestamps { last_access: moment, last_modification: moment };
    Ok(utimensat(folder, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Gives `top` and all below it the moment. What is mounted there is somebody else's, and stays as it is.
pub(super) fn set_below(top: &Path) -> io::Result<()> {
    let device = fs::symlink_metadata(top)?.dev();
    // A folder comes after its content, since to list it touches its access time.
    for entry in WalkDir::new(top).same_file_system(true).contents_first(true) {
        let entry = entry?;
        if fs::symlink_metadata(entry.path())?.dev() == device {
            set(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_folders_and_links_bear_it_and_what_links_lead_to_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let (top, outside) = (folder.path().join("top"), folder.path().join("outside"));
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/b/x"), "x").unwrap();
        fs::write(&outside, "o").unwrap();
        std::os::unix::fs::symlink(&outside, top.join("link")).unwrap();
        set_below(&top).unwrap();
        let mtime = |path: &Path| fs::symlink_metadata(path).unwrap().mtime();
        for name in ["", "a", "a/b", "a/b/x", "link"] {
            assert_eq!(mtime(&top.join(name)), EPOCH, "{name}");
        }
        assert_ne!(mtime(&outside), EPOCH);
        assert_ne!(mtime(folder.path()), EPOCH);
    }
}
