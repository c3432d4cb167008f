//! Tries every feature on this kernel, each in a child of its own.
//!
//! It runs in the starter. What a kernel says it has and what a container's rules or a distribution's policy let
//! through differ, so nothing is concluded that was not tried.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount},
    pipe::{PipeFlags, pipe_with},
};

use super::{
    feature::Feature,
    ground,
    kernel::{self, Side},
    landlock, namespaces, network,
};

/// Tries all features but the control group, which is the caller's to have, and tells of each.
pub(super) fn run(
    mut tell: impl FnMut(Feature, Result<String, String>) -> io::Result<()>,
) -> io::Result<()> {
    let user = apart(|| enter_user_namespace().map(|()| String::new()));
    let has_user = user.is_ok();
    tell(Feature::UserNamespace, user)?;
    for feature in Feature::ALL {
        if matches!(feature, Feature::UserNamespace | Feature::Cgroup) {
            continue;
        }
        let result = apart(|| {
            if has_user && !matches!(feature, Feature::Seccomp | Feature::Landlock) {
                enter_user_namespace()?;
            }
            attempt(feature)
        });
        tell(feature, result)?;
    }
    Ok(())
}

fn enter_user_namespace() -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    kernel::unshare(libc::CLONE_NEWUSER)?;
    namespaces::map_ids(uid.as_raw(), gid.as_raw())
        .map_err(|failure| io::Error::other(format!("{}: {}", failure.action, failure.source)))
}

fn attempt(feature: Feature) -> io::Result<String> {
    let done = String::new();
    match feature {
        // A new mount namespace is worth something only if something can be mounted in it.
        Feature::MountNamespace => {
            private_mounts()?;
            mount("kiln", "/dev", "tmpfs", MountFlags::empty(), c"")?;
            rustix::process::chdir("/dev")?;
            rustix::process::pivot_root(".", ".")?;
            unmount(".", UnmountFlags::DETACH)?;
        }
        // They are worth something only if a root can be made of them, from the first mount to the last.
        Feature::MountSetattr | Feature::DetachedMounts => {
            kernel::unshare(libc::CLONE_NEWNS)?;
            let made = ground::attempt_all(feature == Feature::DetachedMounts);
            made.map_err(|failure| {
                io::Error::other(format!("{}: {}", failure.action, failure.source))
            })?;
        }
        Feature::Procfs => {
            kernel::unshare(libc::CLONE_NEWPID)?;
            // The first child is the first process of the namespace, whose `/proc` it then is.
            return apart(|| {
                private_mounts()?;
                mount("proc", "/proc", "proc", MountFlags::empty(), c"")?;
                Ok(String::new())
            })
            .map_err(io::Error::other);
        }
        Feature::NetNamespace => {
            kernel::unshare(libc::CLONE_NEWNET)?;
            network::raise()?;
        }
        Feature::Seccomp => kernel::filters_work()?,
        Feature::Landlock => return Ok(format!("version {}", landlock::attempt()?)),
        Feature::UtsNamespace => {
            kernel::unshare(libc::CLONE_NEWUTS)?;
            rustix::system::sethostname(b"kiln")?;
        }
        // Where a step has both, it is forked into them; the one alone is entered.
        Feature::PidNamespace => match kernel::fork_into(libc::CLONE_NEWPID)? {
            Side::Child => kernel::leave(0),
            Side::Parent(child) => drop(kernel::wait(child, true)?),
        },
        Feature::IpcNamespace => {
            kernel::unshare(libc::CLONE_NEWIPC)?;
            if let Side::Parent(child) = kernel::fork_into(libc::CLONE_NEWIPC)? {
                kernel::wait(child, true)?;
            } else {
                kernel::leave(0);
            }
        }
        Feature::UserNamespace | Feature::Cgroup => {}
    }
    Ok(done)
}

fn private_mounts() -> io::Result<()> {
    kernel::unshare(libc::CLONE_NEWNS)?;
    Ok(mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?)
}

/// Does `what` in a child, so that this process stays as it is.
fn apart(what: impl FnOnce() -> io::Result<String>) -> Result<String, String> {
    let text = |error: io::Error| error.to_string();
    let (from, to) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| text(error.into()))?;
    match kernel::fork().map_err(text)? {
        Side::Child => {
            let (mark, said) = match what() {
                Ok(said) => (b'+', said),
                Err(error) => (b'-', error.to_string()),
            };
            let mut to = File::from(to);
            let _ = to.write_all(&[mark]).and_then(|()| to.write_all(said.as_bytes()));
            std::process::exit(0);
        }
        Side::Parent(child) => {
            drop(to);
            let mut said = String::new();
            let read = File::from(from).read_to_string(&mut said);
            kernel::wait(child, true).map_err(text)?;
            read.map_err(text)?;
            match said.split_at_checked(1) {
                Some(("+", rest)) => Ok(rest.to_owned()),
                Some((_, rest)) => Err(rest.to_owned()),
                None => Err("the trial was killed".to_owned()),
            }
        }
    }
}
