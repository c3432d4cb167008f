//! New namespaces for this process, which has one thread.

use std::fs;

use super::{
    feature::Feature,
    kernel,
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

/// Makes the namespaces of `plan`; the next child is the first process in them.
pub(super) fn enter(plan: &Plan) -> Result<(), Failure> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if !plan.features.is_empty() {
        kernel::leave_groups();
    }
    let mut flags = 0;
    for feature in &plan.features {
        if !(plan.network && *feature == Feature::NetNamespace) {
            flags |= namespace(*feature).unwrap_or(0);
        }
    }
    if flags == 0 {
        return Ok(());
    }
    attempt(|| "make namespaces".into(), kernel::unshare(flags))?;
    if plan.uses(Feature::UserNamespace) {
        map_ids(uid.as_raw(), gid.as_raw())?;
    }
    // It hides only the name of the caller's own control group, and older kernels lack it.
    let _ = kernel::unshare(libc::CLONE_NEWCGROUP);
    Ok(())
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
