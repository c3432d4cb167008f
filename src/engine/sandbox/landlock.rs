//! Guards the host's files where no private root can be had.
//!
//! A Landlock ruleset is put on by the step's process itself and needs no privilege. It cannot hide names, only what
//! is behind them.

use std::{io, os::fd::AsFd};

use rustix::fs::{Mode, OFlags, open};

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

/// Confines this process to `grants` for good.
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
        let path = match open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(path) => path,
            Err(rustix::io::Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        let mut allowed = if *write { all } else { READ & all };
        if !std::fs::File::from(path.try_clone()?).metadata()?.is_dir() {
            allowed &= OF_FILES;
        }
        kernel::landlock_allow(ruleset.as_fd(), path.as_fd(), allowed)?;
    }
    kernel::landlock_restrict(ruleset.as_fd())
}
