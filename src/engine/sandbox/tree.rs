//! The processes below one, as `/proc` shows them: who they are, and how much memory they hold.
//!
//! It is unaware of what is done about it.

use std::{collections::HashMap, fs};

/// The id under which this process appears in `/proc`, whatever namespace that `/proc` shows.
pub(super) fn own_id() -> Option<i32> {
    fs::read_link("/proc/self").ok()?.to_str()?.parse().ok()
}

/// All processes that `/proc` shows.
pub(super) fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// All processes below `root`, without it.
pub(super) fn descendants(root: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in all() {
        // A process may end at any moment; then it has no parent that matters.
        if let Ok(stat) = fs::read(format!("/proc/{pid}/stat"))
            && let Some(parent) = parent(&stat)
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        found.extend_from_slice(&below);
        next.extend(below);
    }
    found
}

/// What follows the name in the text of a `stat` file: the state, the parent, and so on. The name may contain anything,
/// brackets included.
pub(super) fn fields(stat: &[u8]) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    let after_name = stat.iter().rposition(|&byte| byte == b')')?;
    Some(str::from_utf8(&stat[after_name + 1..]).ok()?.split_ascii_whitespace())
}

fn parent(stat: &[u8]) -> Option<i32> {
    fields(stat)?.nth(1)?.parse().ok()
}

/// Bytes of memory that `pids` hold together, not more than they do if that is above `enough`.
///
/// The sum of resident sets counts shared pages once for each process; it is cheap, and an upper bound. Only when it
/// says too much is the exact, costly share of each process asked for. Shared memory of files in memory
/// is left out of the exact sum, since whoever owns the file system counts it.
pub(super) fn memory(pids: &[i32], enough: u64) -> u64 {
    let resident = pids.iter().filter_map(|&pid| resident(pid)).sum();
    if resident <= enough {
        return resident;
    }
    pids.iter().filter_map(|&pid| share(pid).or_else(|| self::resident(pid))).sum()
}

fn resident(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn share(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_a_hostile_name() {
        assert_eq!(parent(b"12 (a) R 99 (x)) S 7 12 12 0"), Some(7));
        assert_eq!(parent(b"12 (sh"), None);
    }

    #[test]
    fn a_child_is_below_us_and_holds_memory() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let below = descendants(own_id().unwrap());
        let pid = child.id() as i32;
        assert!(below.contains(&pid));
        assert!(memory(&[pid], u64::MAX) > 0);
        assert!(memory(&[pid], 0) <= memory(&[pid], u64::MAX), "a share is never above the whole");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!descendants(own_id().unwrap()).contains(&pid));
    }
}
