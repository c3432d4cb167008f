//! New namespaces: those of a starter, and those of one step. The calling process has one thread.

use std::{fs, io};

use super::{
    feature::Feature,
    kernel::{self, Side},
    plan::Plan,
    root::{Failure, attempt},
};

/// Name and id of user and group inside.
pub(super) const INSIDE_ID: u32 = 1000;

/// The flag of the namespace behind a feature.
pub(super) fn namespace(feature: Feature) -> Option<i32> {
    match feature {
        Feature::UserNamespace => Some(libc::CLONE_NEWUSER),
        Feature::MountNamespace => Some(libc::CLONE_NEWNS),
        Feature::PidNamespace => Some(libc::CLONE_NEWPID),
        Feature::NetNamespace => Some(libc::CLONE_NEWNET),
        Feature::IpcNamespace => Some(libc::CLONE_NEWIPC),
        Feature::UtsNamespace => Some(libc::CLONE_NEWUTS),
        _ => None,
    }
}

/// Those that every step has for itself, where there are process ids of its own to bind them to.
const OF_ONE_STEP: [Feature; 2] = [Feature::PidNamespace, Feature::IpcNamespace];

fn flags(plan: &Plan, of_one_step: bool) -> i32 {
    plan.features
        .iter()
        .filter(|feature| !(plan.network && **feature == Feature::NetNamespace))
        .filter(|feature| OF_ONE_STEP.contains(feature) == of_one_step)
        .filter_map(|feature| namespace(*feature))
        .fold(0, |flags, flag| flags | flag)
}

/// Makes the namespaces that the steps of this process share, the mount namespace among them if `shares_mounts`; all of
/// them, if its one step has no process ids of its own.
pub(super) fn enter_shared(plan: &Plan, shares_mounts: bool) -> Result<(), Failure> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if !plan.features.is_empty() {
        kernel::leave_groups();
    }
    let mut flags = flags(plan, false);
    if !plan.uses(Feature::PidNamespace) {
        flags |= self::flags(plan, true);
    } else if !shares_mounts {
        flags &= !libc::CLONE_NEWNS;
    }
    if flags == 0 {
        return Ok(());
    }
    attempt(|| "make namespaces".into(), kernel::unshare(flags))?;
    if plan.uses(Feature::UserNamespace) {
        map_ids(uid.as_raw(), gid.as_raw())?;
    }
    Ok(())
}

/// Forks the first process of the namespaces that a step of `plan` has for itself.
pub(super) fn fork_init(plan: &Plan, shares_mounts: bool) -> io::Result<Side> {
    let mut flags = flags(plan, true);
    if plan.uses(Feature::MountNamespace) && !shares_mounts {
        flags |= libc::CLONE_NEWNS;
    }
    kernel::fork_into(flags)
}

/// Makes `uid` and `gid` of the outside appear as [`INSIDE_ID`] in this user namespace.
pub(super) fn map_ids(uid: u32, gid: u32) -> Result<(), Failure> {
    let groups = fs::write("/proc/self/setgroups", "deny");
    attempt(|| "give up supplementary groups".into(), groups)?;
    let users = fs::write("/proc/self/uid_map", format!("{INSIDE_ID} {uid} 1"));
    attempt(|| "map the user".into(), users)?;
    let groups = fs::write("/proc/self/gid_map", format!("{INSIDE_ID} {gid} 1"));
    attempt(|| "map the group".into(), groups)
}
