//! What the roots of a starter's steps have in common, made once and copied for each.
//!
//! The starter keeps a mount namespace with the host's tree, in which roots are put together, and an empty one, in which
//! the steps live. A step's root is a tree of mounts that belongs to neither: `/proc/self/mountinfo`, which would name the
//! host's folder behind every bind, lists nothing, and there is nothing behind the root to break out into. It is unaware of
//! how the steps run.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
    mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{
    epoch, kernel,
    mounts::{self, Access},
    plan::{Base, Entry},
    root::{Builder, Failure, attempt},
};

/// The folder of a root in which a step has mounts on places of its own.
const OWN: &str = "build";

/// All that a starter's roots are made from.
#[derive(Debug)]
pub(super) struct Ground {
    /// The namespace without anything.
    empty: OwnedFd,
    /// Whether trees of mounts that belong to no namespace can be mounted on.
    detached: bool,
    templates: HashMap<u64, Template>,
    shared: SharedMemory,
}

/// A root without what only one step has.
#[derive(Debug)]
struct Template {
    tree: OwnedFd,
    /// The file system at `/build`, which steps can only read.
    own: OwnedFd,
}

impl Ground {
    /// Prepares this process, which has just come into a mount namespace of its own.
    pub(super) fn new(detached: bool) -> Result<Self, Failure> {
        // Not private: a folder that is mounted on first use has to be mounted for this namespace too.
        let slave = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
        attempt(|| "set mounts apart".into(), mount_change("/", slave))?;
        let empty = attempt(|| "make an empty namespace".into(), empty_namespace())?;
        let shared = attempt(|| "make /dev/shm".into(), SharedMemory::new())?;
        Ok(Self { empty, detached, templates: HashMap::new(), shared })
    }

    /// Makes the root that `base` describes, unless it is there.
    pub(super) fn learn(&mut self, base: &Base) -> Result<(), Failure> {
        if let Some(entries) = &base.entries {
            let template = Template::new(entries)?;
            self.templates.insert(base.id, template);
        }
        Ok(())
    }

    fn template(&self, base: &Base) -> Result<&Template, Failure> {
        let unknown = || io::Error::from(io::ErrorKind::NotFound);
        attempt(|| "find the base".into(), self.templates.get(&base.id).ok_or_else(unknown))
    }

    /// Makes the root of one step, and moves this process into it and into the empty namespace. What comes back is to be
    /// kept open as long as a process uses the root.
    pub(super) fn enter(&self, base: &Base, entries: &[Entry]) -> Result<OwnedFd, Failure> {
        let template = self.template(base)?;
        let mut tree =
            attempt(|| "copy the root".into(), mounts::copy_of(template.tree.as_fd(), true))?;
        if !self.detached {
            attempt(|| "mount the root".into(), mounts::attach(tree.as_fd(), Path::new("/")))?;
        }
        attempt(|| "enter the root".into(), rustix::process::fchdir(&tree))?;
        for entry in entries {
            self.add(template, entry)?;
        }
        if !self.detached {
            let attached = tree;
            tree = attempt(|| "copy the root".into(), mounts::copy_of(attached.as_fd(), true))?;
            attempt(|| "detach the root".into(), mounts::detach_here())?;
        }
        let mounts = Some(LinkNameSpaceType::Mount);
        let entered = move_into_link_name_space(self.empty.as_fd(), mounts);
        attempt(|| "enter the empty namespace".into(), entered)?;
        attempt(|| "enter the root".into(), rustix::process::fchdir(&tree))?;
        attempt(|| "switch to the root".into(), rustix::process::chroot("."))?;
        Ok(tree)
    }

    fn add(&self, template: &Template, entry: &Entry) -> Result<(), Failure> {
        match entry {
            Entry::Write { host, at } => bind(host, at, Access::Write),
            Entry::Read { host, at } => {
                let action = || format!("make {}", at.display());
                attempt(action, template.point(host, at))?;
                bind(host, at, Access::Read)
            }
            Entry::Memory(at, None) => {
                let shared = mounts::copy_of(self.shared.tree.as_fd(), false);
                attempt(
                    || format!("mount {}", at.display()),
                    shared.and_then(|tree| mounts::attach(tree.as_fd(), &here(at))),
                )
            }
            entry => Builder::here().add(entry, true),
        }
    }

    /// Makes what a step has used as if it had not; its last process is gone.
    pub(super) fn restore(&mut self, base: &Base, entries: &[Entry]) -> Result<(), Failure> {
        let template = self.template(base)?;
        for entry in entries {
            if let Entry::Read { at, .. } = entry {
                let action = || format!("remove {}", at.display());
                attempt(action, template.remove_point(at))?;
            }
        }
        if attempt(|| "look at /dev/shm".into(), self.shared.stamp())? != self.shared.fresh {
            self.shared = attempt(|| "make /dev/shm".into(), SharedMemory::new())?;
        }
        Ok(())
    }
}

/// `at`, from a root that is the working folder.
fn here(at: &Path) -> PathBuf {
    Path::new(".").join(at.strip_prefix("/").unwrap_or(at))
}

fn bind(host: &Path, at: &Path, access: Access) -> Result<(), Failure> {
    attempt(
        || format!("bind {} at {}", host.display(), at.display()),
        mounts::copy(host, access).and_then(|tree| mounts::attach(tree.as_fd(), &here(at))),
    )
}

impl Template {
    fn new(entries: &[Entry]) -> Result<Self, Failure> {
        let tree = attempt(|| "make a root".into(), mounts::memory("0755", None))?;
        attempt(|| "mount a root".into(), mounts::attach(tree.as_fd(), Path::new("/")))?;
        attempt(|| "enter a root".into(), rustix::process::fchdir(&tree))?;
        let builder = Builder::here();
        let own_folder = Path::new("/").join(OWN);
        builder.add(&Entry::Folder(own_folder.clone()), true)?;
        let own = mounts::memory("0755", None).and_then(|own| {
            mounts::attach(own.as_fd(), &here(&own_folder))?;
            mounts::copy_of(own.as_fd(), false)
        });
        let own = attempt(|| format!("mount {}", own_folder.display()), own)?;
        for entry in entries {
            builder.add(entry, true)?;
        }
        for folder in [Path::new("."), &here(&own_folder)] {
            let done = epoch::set_below(folder).and_then(|()| builder.restrict(folder, false));
            attempt(|| "make a root read-only".into(), done)?;
        }
        let tree = attempt(|| "copy a root".into(), mounts::copy_of(tree.as_fd(), true))?;
        attempt(|| "detach a root".into(), mounts::detach_here())?;
        attempt(|| "leave a root".into(), rustix::process::chdir("/"))?;
        Ok(Self { tree, own })
    }

    /// Makes something at `at` that `host` can be mounted on.
    fn point(&self, host: &Path, at: &Path) -> io::Result<()> {
        let at = own(at)?;
        let is_folder = std::fs::metadata(host)?.is_dir();
        if is_folder {
            rustix::fs::mkdirat(&self.own, at, Mode::from_raw_mode(0o755))?;
        } else {
            let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&self.own, at, new, Mode::from_raw_mode(0o644))?;
        }
        self.settle(at)
    }

    fn remove_point(&self, at: &Path) -> io::Result<()> {
        let at = own(at)?;
        let removed = match rustix::fs::unlinkat(&self.own, at, AtFlags::empty()) {
            Err(Errno::ISDIR) => rustix::fs::unlinkat(&self.own, at, AtFlags::REMOVEDIR),
            removed => removed,
        };
        match removed {
            // A step that did not get so far.
            Ok(()) | Err(Errno::NOENT) => self.settle(at),
            Err(error) => Err(error.into()),
        }
    }

    fn settle(&self, changed: &Path) -> io::Result<()> {
        let folder = changed.parent().filter(|parent| !parent.as_os_str().is_empty());
        epoch::set_at(self.own.as_fd(), folder.unwrap_or(Path::new(".")))
    }
}

/// The path below [`OWN`].
fn own(at: &Path) -> io::Result<&Path> {
    at.strip_prefix("/")
        .and_then(|at| at.strip_prefix(OWN))
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a step's own mount is elsewhere"))
}

/// The `/dev/shm` of steps without a limit of memory. Almost no step touches it; one that did leaves it to nobody.
#[derive(Debug)]
struct SharedMemory {
    tree: OwnedFd,
    fresh: Stamp,
}

/// What changes in a file system in memory when anything in it, or of its root, changes.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    changed: (i64, i64),
    free: (u64, u64),
}

impl SharedMemory {
    fn new() -> io::Result<Self> {
        let tree = mounts::memory("1777", None)?;
        epoch::set_at(tree.as_fd(), Path::new("."))?;
        let fresh = Self::look(&tree)?;
        Ok(Self { tree, fresh })
    }

    fn stamp(&self) -> io::Result<Stamp> {
        Self::look(&self.tree)
    }

    fn look(tree: &OwnedFd) -> io::Result<Stamp> {
        let root = rustix::fs::fstat(tree)?;
        let usage = rustix::fs::fstatvfs(tree)?;
        Ok(Stamp {
            changed: (root.st_ctime as i64, root.st_ctime_nsec as i64),
            free: (usage.f_bfree, usage.f_ffree),
        })
    }
}

/// A mount namespace in which there is nothing but an empty folder that cannot be written to. This process is afterwards
/// where it was before.
fn empty_namespace() -> io::Result<OwnedFd> {
    let (own, root) = (File::open("/proc/self/ns/mnt")?, File::open("/")?);
    kernel::unshare(libc::CLONE_NEWNS)?;
    let made = (|| {
        let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        mount_change("/", private)?;
        let empty = File::open("/proc/self/ns/mnt")?;
        let folder = mounts::memory("0755", None)?;
        kernel::mount_setattr(folder.as_fd(), false, kernel::MOUNT_ATTR_RDONLY)?;
        mounts::attach(folder.as_fd(), Path::new("/"))?;
        rustix::process::fchdir(&folder)?;
        rustix::process::pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        io::Result::Ok(OwnedFd::from(empty))
    })();
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Mount))?;
    // The root of a process need not be that of its namespace.
    rustix::process::fchdir(&root)?;
    rustix::process::chroot(".")?;
    made
}

/// Whether all of the above works here: a root is made, entered, and looked at.
pub(super) fn attempt_all(detached: bool) -> Result<(), Failure> {
    let mut ground = Ground::new(detached)?;
    let entries = vec![Entry::Folder("/build/x".into()), Entry::Device("/dev/null".into())];
    let base = Base { id: 0, entries: Some(entries.into()) };
    ground.learn(&base)?;
    let own = [Entry::Read { host: "/dev".into(), at: "/build/y".into() }];
    let _root = ground.enter(&base, &own)?;
    attempt(|| "look at the root".into(), std::fs::metadata("/build/y/null")).map(drop)
}
