//! Puts a private root together and moves into it.
//!
//! It carries out [`Entry`]s one by one, in a mount namespace of its own. It is unaware of what they are for.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
        mount_change, mount_remount, unmount,
    },
};

use super::{
    epoch,
    feature::Feature,
    kernel,
    mounts::{self, Access},
    plan::{Entry, Plan},
};

/// A step of the construction that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) action: String,
    pub(super) source: io::Error,
}

/// Says what was attempted when something fails.
pub(super) fn attempt<T>(
    action: impl FnOnce() -> String,
    result: Result<T, impl Into<io::Error>>,
) -> Result<T, Failure> {
    result.map_err(|source| Failure { action: action(), source: source.into() })
}

/// What of `/proc` a step may read and not write.
const READ_ONLY: [&str; 8] = ["sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "driver"];

/// What of `/proc` a step has no business with.
const MASKED: [&str; 7] =
    ["kcore", "keys", "key-users", "kmsg", "timer_list", "sched_debug", "latency_stats"];

/// Makes `plan`'s root and moves this process into it; the old one is gone then. What comes back, if anything, is to be
/// kept open as long as a process uses the root.
pub(super) fn enter(plan: &Plan, base: &[Entry]) -> Result<Option<OwnedFd>, Failure> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    attempt(|| "make mounts private".into(), mount_change("/", private))?;
    let root = plan.root.as_path();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    attempt(
        || format!("mount the root at {}", root.display()),
        mount("kiln", root, "tmpfs", flags, c"mode=0755"),
    )?;
    let builder = Builder { root, by_attributes: plan.uses(Feature::MountSetattr) };
    for entry in base.iter().chain(&plan.entries) {
        builder.add(entry, plan.uses(Feature::Procfs))?;
    }
    attempt(|| "set the times of the root".into(), epoch::set_below(root))?;
    attempt(|| "make the root read-only".into(), builder.restrict(root, false))?;
    attempt(|| "enter the root".into(), rustix::process::chdir(root))?;
    attempt(|| "switch to the root".into(), rustix::process::pivot_root(".", "."))?;
    attempt(|| "leave the old root".into(), unmount(".", UnmountFlags::DETACH))?;
    attempt(|| "enter the root".into(), rustix::process::chdir("/"))?;
    if !builder.by_attributes {
        return Ok(None);
    }
    // What it hides are names, so that a kernel that does not play along still gives a sound root.
    let detached = step_aside().ok();
    attempt(|| "enter the root".into(), rustix::process::chdir("/"))?;
    Ok(detached)
}

/// Moves this process into a copy of its root that belongs to no mount namespace, and is gone when the descriptor is.
///
/// `/proc/self/mountinfo` lists the mounts of the namespace that can be reached from the process's root. From this one
/// none can, so that the list, which would name the host's folders behind every bind, is empty.
fn step_aside() -> io::Result<OwnedFd> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let tree = mounts::copy_of(root.as_fd(), true)?;
    rustix::process::fchdir(&tree)?;
    rustix::process::chroot(".")?;
    Ok(tree)
}

/// Puts things into a root, at its place on the host.
pub(super) struct Builder<'a> {
    root: &'a Path,
    /// Whether read-only is set on a whole tree of mounts before anyone can see it, and mounts are made before they have
    /// a place.
    by_attributes: bool,
}

impl Builder<'static> {
    /// For a root that is the working folder.
    pub(super) fn here() -> Self {
        Self { root: Path::new("."), by_attributes: true }
    }
}

impl Builder<'_> {
    fn place(&self, at: &Path) -> PathBuf {
        self.root.join(at.strip_prefix("/").unwrap_or(at))
    }

    pub(super) fn add(&self, entry: &Entry, own_proc: bool) -> Result<(), Failure> {
        match entry {
            Entry::Folder(at) => attempt(|| format!("make {}", at.display()), self.folder(at)),
            Entry::File(at, bytes) => attempt(
                || format!("write {}", at.display()),
                self.parent(at).and_then(|()| fs::write(self.place(at), bytes)),
            ),
            Entry::Link(at, target) => attempt(
                || format!("make the link {}", at.display()),
                self.parent(at).and_then(|()| std::os::unix::fs::symlink(target, self.place(at))),
            ),
            Entry::Read { host, at } => self.bind(host, at, true),
            Entry::Write { host, at } => self.bind(host, at, false),
            Entry::Device(path) => attempt(
                || format!("bind {}", path.display()),
                self.point(path, false).and_then(|to| match self.by_attributes {
                    true => mounts::attach(mounts::copy(path, Access::AsItIs)?.as_fd(), &to),
                    false => Ok(mount_bind(path, to)?),
                }),
            ),
            Entry::Node { host, at } => attempt(
                || format!("bind {} at {}", host.display(), at.display()),
                self.point(at, false).and_then(|to| match self.by_attributes {
                    true => mounts::attach(mounts::copy(host, Access::AsItIs)?.as_fd(), &to),
                    false => Ok(mount_bind(host, to)?),
                }),
            ),
            Entry::Memory(at, bytes) => {
                attempt(|| format!("mount {}", at.display()), self.memory(at, *bytes))
            }
            Entry::Proc if own_proc => attempt(|| "mount /proc".into(), self.proc()),
            Entry::Proc => self.bind(Path::new("/proc"), Path::new("/proc"), true),
        }
    }

    fn memory(&self, at: &Path, bytes: Option<u64>) -> io::Result<()> {
        let to = self.place(at);
        if !to.is_dir() {
            self.folder(at)?;
        }
        if self.by_attributes {
            mounts::attach(mounts::memory("1777", bytes)?.as_fd(), &to)?;
        } else {
            let size = bytes.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
            let options = kernel::c_string(format!("mode=1777{size}").as_ref())?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            mount("kiln", &to, "tmpfs", flags, options.as_c_str())?;
        }
        epoch::set(&to)
    }

    fn folder(&self, at: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(self.place(at))
    }

    fn parent(&self, at: &Path) -> io::Result<()> {
        at.parent().map_or(Ok(()), |parent| self.folder(parent))
    }

    /// Something to mount on.
    fn point(&self, at: &Path, is_folder: bool) -> io::Result<PathBuf> {
        let place = self.place(at);
        if is_folder {
            self.folder(at)?;
        } else {
            self.parent(at)?;
            fs::File::create(&place)?;
        }
        Ok(place)
    }

    fn bind(&self, host: &Path, at: &Path, read_only: bool) -> Result<(), Failure> {
        let action = || format!("bind {} at {}", host.display(), at.display());
        let is_folder = attempt(action, fs::metadata(host))?.is_dir();
        let to = attempt(action, self.point(at, is_folder))?;
        if !self.by_attributes {
            attempt(action, mount_bind_recursive(host, &to))?;
            return if read_only { attempt(action, self.restrict(&to, true)) } else { Ok(()) };
        }
        let access = if read_only { Access::Read } else { Access::Write };
        let tree = attempt(action, mounts::copy(host, access))?;
        attempt(action, mounts::attach(tree.as_fd(), &to))
    }

    /// Makes the mount at `place` read-only, and those below it if `recursive`.
    pub(super) fn restrict(&self, place: &Path, recursive: bool) -> io::Result<()> {
        if self.by_attributes {
            let opened = rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            return kernel::mount_setattr(opened.as_fd(), recursive, kernel::MOUNT_ATTR_RDONLY);
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        for (point, flags) in mounts.lines().filter_map(mount_of) {
            if point == place || (recursive && point.starts_with(place)) {
                mount_remount(&point, flags | MountFlags::BIND | MountFlags::RDONLY, c"")?;
            }
        }
        Ok(())
    }

    /// A fresh `/proc`. What reaches the host through it is read-only or hidden: the step's user owns those files if
    /// root runs kiln, and needs no capability to write to them.
    fn proc(&self) -> io::Result<()> {
        let proc = Path::new("/proc");
        if self.by_attributes {
            let to = self.place(proc);
            if !to.is_dir() {
                self.folder(proc)?;
            }
            mounts::attach(mounts::processes()?.as_fd(), &to)?;
            for name in READ_ONLY {
                let path = to.join(name);
                mounts::attach_if_any(mounts::copy(&path, Access::Read), &path)?;
            }
            let null = mounts::copy(Path::new("/dev/null"), Access::AsItIs)?;
            for name in MASKED {
                mounts::attach_if_any(mounts::copy_of(null.as_fd(), false), &to.join(name))?;
            }
            return Ok(());
        }
        self.folder(proc)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("proc", self.place(proc), "proc", flags, c"")?;
        for name in READ_ONLY {
            let path = self.place(proc).join(name);
            match mount_bind(&path, &path) {
                Ok(()) => self.restrict(&path, false)?,
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for name in MASKED {
            match mount_bind("/dev/null", self.place(proc).join(name)) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Mount point and flags in a line of `mountinfo`. The flags have to be repeated when a mount is changed, since some
/// of them are locked in a user namespace.
fn mount_of(line: &str) -> Option<(PathBuf, MountFlags)> {
    let mut fields = line.split(' ').skip(4);
    let point = unescape(fields.next()?);
    let mut flags = MountFlags::empty();
    for option in fields.next()?.split(',') {
        flags |= match option {
            "ro" => MountFlags::RDONLY,
            "nosuid" => MountFlags::NOSUID,
            "nodev" => MountFlags::NODEV,
            "noexec" => MountFlags::NOEXEC,
            "noatime" => MountFlags::NOATIME,
            "nodiratime" => MountFlags::NODIRATIME,
            "relatime" => MountFlags::RELATIME,
            _ => MountFlags::empty(),
        };
    }
    Some((point.into(), flags))
}

/// Spaces and the like stand as three octal digits in `mountinfo`.
fn unescape(text: &str) -> std::ffi::OsString {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'\\')
            .then(|| tail.get(..3).and_then(|digits| str::from_utf8(digits).ok()))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_mounts_makes_its_reader_panic() {
        kiln_fuzzing::Fuzz::new("mounts")
            .samples([r"36 35 98:0 /m /a\040b rw,nosuid,noexec,relatime master:1 - ext4 /dev/r rw"])
            .words(["\\", "\\999", " ", "é", ",", "-"])
            .texts(|line| drop(mount_of(line)));
    }

    #[test]
    fn a_mount_is_read_with_its_spaces_and_its_locked_flags() {
        let line = r"36 35 98:0 /m /a\040b rw,nosuid,noexec,relatime master:1 - ext4 /dev/r rw";
        let (point, flags) = mount_of(line).unwrap();
        assert_eq!(point, Path::new("/a b"));
        assert_eq!(flags, MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::RELATIME);
        assert!(mount_of("36 35").is_none());
    }
}
