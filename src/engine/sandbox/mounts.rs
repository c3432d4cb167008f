//! Mounts that belong to no folder yet, and their way to one.
//!
//! The calls of Linux 5.2 and 5.12, on descriptors. It is unaware of what the mounts are for.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::CWD,
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
    },
};

use super::kernel::{self, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};

/// What may be done through a copy of a tree of mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    /// As the original allows, devices included.
    AsItIs,
}

/// A new file system in memory, empty, of at most so many bytes.
pub(super) fn memory(mode: &str, bytes: Option<u64>) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "kiln")?;
    fsconfig_set_string(&context, "mode", mode)?;
    if let Some(bytes) = bytes {
        fsconfig_set_string(&context, "size", bytes.to_string())?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A new `/proc` of this process's ids.
pub(super) fn processes() -> io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A copy of what is mounted at `path` and below it. Nothing that is mounted there later comes into it.
pub(super) fn copy(path: &Path, access: Access) -> io::Result<OwnedFd> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, path, clone)?;
    let attributes = match access {
        Access::Read => MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY,
        Access::Write => MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
        Access::AsItIs => 0,
    };
    kernel::mount_setattr(tree.as_fd(), true, attributes)?;
    Ok(tree)
}

/// A copy of a tree of mounts, or of its topmost mount alone.
pub(super) fn copy_of(tree: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        clone |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(tree, c"", clone)?)
}

/// Mounts `tree` at `at`.
pub(super) fn attach(tree: BorrowedFd<'_>, at: &Path) -> io::Result<()> {
    Ok(move_mount(tree, c"", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// The same for a tree that may not be there.
pub(super) fn attach_if_any(tree: io::Result<OwnedFd>, at: &Path) -> io::Result<()> {
    match tree.and_then(|tree| attach(tree.as_fd(), at)) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => Ok(()),
        done => done,
    }
}

/// Takes away what is mounted at the working folder, which stays usable.
pub(super) fn detach_here() -> io::Result<()> {
    Ok(unmount(".", UnmountFlags::DETACH)?)
}
