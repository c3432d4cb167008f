//! Guards files by rules about paths: behind a private root as a second layer, and in place of one where none can be had.
//!
//! A Landlock ruleset is put on by the step's process itself and needs no privilege. It cannot hide names, only what
//! is behind them.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use super::{
    kernel::{self, Ruleset},
    plan::Grant,
};

// The rights, as the kernel numbers them.
const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_FOLDER: u64 = 1 << 3;
const TRUNCATE: u64 = 1 << 14;
const DEVICE_IOCTL: u64 = 1 << 15;
const READ: u64 = EXECUTE | READ_FILE | READ_FOLDER;

/// Rights that make sense on a file; others on one are an error.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | DEVICE_IOCTL;

/// The rights that version `version` of Landlock knows.
fn known(version: u32) -> u64 {
    let count = match version {
        0 => 0,
        1 => 13,
        2 => 14,
        3 | 4 => 15,
        _ => 16,
    };
    (1 << count) - 1
}

/// The first version under which a file can be moved from one folder to another at all.
const MOVES: u32 = 2;

/// Lets this process, which has a private root, write to `writable` and below, and to nothing else, for good: should a
/// mount be wrong, it still cannot write to what lies there. Reading is the mounts' business.
pub(super) fn guard(writable: &[&Path]) -> io::Result<()> {
    let version = kernel::landlock_version()?;
    if version < MOVES {
        return Ok(());
    }
    let writing = known(version) & !(READ | DEVICE_IOCTL);
    let ruleset = kernel::landlock_ruleset(&Ruleset { files: writing, network: 0, scoped: 0 }, 8)?;
    for path in writable {
        allow(ruleset.as_fd(), path, writing)?;
    }
    kernel::landlock_restrict(ruleset.as_fd())
}

/// Confines this process, which has no private root, to `grants` for good.
pub(super) fn confine(grants: &[Grant], network: bool) -> io::Result<()> {
    let version = kernel::landlock_version()?;
    let all = known(version);
    let rules = Ruleset {
        files: all,
        // Binding and connecting, since version 4.
        network: if version >= 4 && !network { 0b11 } else { 0 },
        // Abstract sockets and signals, since version 6.
        scoped: if version >= 6 { 0b11 } else { 0 },
    };
    let size = match version {
        0..4 => 8,
        4 | 5 => 16,
        _ => 24,
    };
    let ruleset = kernel::landlock_ruleset(&rules, size)?;
    for Grant { path, write } in grants {
        allow(ruleset.as_fd(), path, if *write { all } else { READ & all })?;
    }
    kernel::landlock_restrict(ruleset.as_fd())
}

/// Allows `rights` on `path` and below. What is not there needs no rule.
fn allow(ruleset: BorrowedFd<'_>, path: &Path, rights: u64) -> io::Result<()> {
    let path = match open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Ok(path) => path,
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let is_folder = FileType::from_raw_mode(fstat(&path)?.st_mode) == FileType::Directory;
    let rights = if is_folder { rights } else { rights & OF_FILES };
    kernel::landlock_allow(ruleset, path.as_fd(), rights)
}

/// Puts both kinds of rules on this process, to find out whether it can, and tells their version.
pub(super) fn attempt() -> io::Result<u32> {
    rustix::thread::set_no_new_privs(true)?;
    let root = Grant { path: "/".into(), write: true };
    confine(&[root], true)?;
    guard(&[Path::new("/")])?;
    kernel::landlock_version()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_not_granted_is_read_only_whatever_is_mounted_there() {
        if kernel::landlock_version().is_ok_and(|version| version >= MOVES) {
            let folder = tempfile::tempdir().unwrap();
            let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
            for path in [&inside, &outside] {
                fs::create_dir_all(path.join("sub")).unwrap();
                fs::write(path.join("file"), "before").unwrap();
            }
            // Rules bind the thread that puts them on.
            let guarded = || {
                rustix::thread::set_no_new_privs(true).unwrap();
                guard(&[&inside, Path::new("/nowhere")]).unwrap();
                fs::write(inside.join("file"), "after").unwrap();
                fs::rename(inside.join("file"), inside.join("sub/moved")).unwrap();
                assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "before");
                let refused = [
                    fs::write(outside.join("file"), "after"),
                    fs::write(outside.join("new"), ""),
                    fs::create_dir(outside.join("new")),
                    fs::remove_file(outside.join("file")),
                    fs::remove_dir(outside.join("sub")),
                    fs::rename(inside.join("sub/moved"), outside.join("moved")),
                    fs::hard_link(inside.join("sub/moved"), outside.join("linked")),
                    fs::File::options().write(true).open(outside.join("file")).map(drop),
                ];
                for result in refused {
                    assert!(result.is_err(), "{result:?}");
                }
            };
            std::thread::scope(|scope| scope.spawn(guarded).join().unwrap());
            fs::write(outside.join("file"), "control").unwrap();
        } else {
            println!("skipped: this kernel has no Landlock that lets files move");
        }
    }
}
