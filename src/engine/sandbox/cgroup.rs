//! A control group (version 2) for one step, where the system has delegated them.
//!
//! The kernel then counts memory exactly, shared pages and files in memory included, and ends the whole step when it
//! passes its limit. It is unaware of processes: they enrol themselves through [`Group::door`].

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// A control group; it is removed when this is dropped, which is to be after its processes are gone.
#[derive(Debug)]
pub(super) struct Group {
    folder: PathBuf,
}

impl Group {
    /// A new group beside this process's own, with these limits.
    pub(super) fn new(memory: Option<u64>, cpus: u32, processes: u64) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // The time keeps two processes apart whose numbers are the same, in containers for instance.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("kiln-{}-{since:x}-{number}", std::process::id());
        let group = Self::in_folder(&delegated()?.join(name), memory, cpus)?;
        // Without that controller the file is not there, and init counts alone.
        let _ = group.set("pids.max", &processes.to_string());
        Ok(group)
    }

    fn in_folder(folder: &Path, memory: Option<u64>, cpus: u32) -> io::Result<Self> {
        fs::create_dir(folder)?;
        let group = Self { folder: folder.to_owned() };
        if let Some(limit) = memory {
            group.set("memory.max", &limit.to_string())?;
            // Swap would only put the end off, and not every kernel counts it.
            let _ = group.set("memory.swap.max", "0");
            group.set("memory.oom.group", "1")?;
        }
        // A processor is worth the default weight; without that controller the file is not there.
        let _ = group.set("cpu.weight", &(u64::from(cpus.max(1)) * 100).min(10_000).to_string());
        Ok(group)
    }

    fn set(&self, name: &str, value: &str) -> io::Result<()> {
        fs::write(self.folder.join(name), value)
    }

    /// The file into which a process writes `0` to enrol.
    pub(super) fn door(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Whether the kernel has killed for the limit's sake.
    pub(super) fn ran_out(&self) -> bool {
        let events = fs::read_to_string(self.folder.join("memory.events")).unwrap_or_default();
        events
            .lines()
            .filter_map(|line| line.split_once(' '))
            .any(|(name, count)| name == "oom_kill" && count != "0")
    }

    /// The most bytes that were held together.
    pub(super) fn peak(&self) -> Option<u64> {
        fs::read_to_string(self.folder.join("memory.peak")).ok()?.trim().parse().ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group that cannot be removed is empty and costs nothing; the system removes it with its parent.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Whether a group could be made here, or why not.
pub(super) fn available() -> Result<String, String> {
    let folder = delegated().map_err(|error| error.to_string())?;
    Group::in_folder(&folder.join(format!("kiln-{}-probe", std::process::id())), Some(1 << 30), 1)
        .map(|_| String::new())
        .map_err(|error| format!("{}: {error}", folder.display()))
}

/// The folder in which groups with a memory controller may be made: that which holds this process's own.
fn delegated() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let parent = parent_group(&mounts, &own).ok_or_else(|| {
        io::Error::other("this process is in no control group of version 2 below the topmost")
    })?;
    let controllers = fs::read_to_string(parent.join("cgroup.subtree_control"))?;
    if !controllers.split_ascii_whitespace().any(|name| name == "memory") {
        return Err(io::Error::other(format!(
            "{} does not hand the memory controller on",
            parent.display()
        )));
    }
    Ok(parent)
}

fn parent_group(mounts: &str, own: &str) -> Option<PathBuf> {
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = Path::new(mount).join(path);
    (!path.is_empty()).then(|| group.parent().map(Path::to_owned)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_made_beside_our_own() {
        let mounts = "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let found = parent_group(mounts, "0::/user.slice/a.scope\n");
        assert_eq!(found.as_deref(), Some(Path::new("/sys/fs/cgroup/user.slice")));
        assert_eq!(parent_group(mounts, "0::/\n"), None);
        assert_eq!(parent_group("", "0::/a\n"), None);
    }

    #[test]
    fn a_group_says_its_limits_and_hears_of_kills() {
        let folder = tempfile::tempdir().unwrap();
        let group = Group::in_folder(&folder.path().join("g"), Some(4096), 2).unwrap();
        let read = |name: &str| fs::read_to_string(group.folder.join(name)).unwrap();
        assert_eq!((read("memory.max"), read("cpu.weight")), ("4096".into(), "200".into()));
        assert!(!group.ran_out());
        group.set("memory.events", "low 0\noom 1\noom_kill 2\n").unwrap();
        group.set("memory.peak", "123\n").unwrap();
        assert!(group.ran_out());
        assert_eq!(group.peak(), Some(123));
    }
}
