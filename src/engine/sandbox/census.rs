//! Counts a step's processes, and tells whether any of them can still do something.
//!
//! It is unaware of what is done about it.

use std::fs;

use super::tree;

/// How many processes and threads a step may have at a time on a machine with so many processors: far more than programs
/// make on purpose, and few enough for the machine to stay usable. Programs that start one for each processor, several
/// times over, need the more the larger the machine is.
pub(super) fn bound(processors: usize) -> u64 {
    4096.max(64 * processors as u64)
}

/// What the kernel itself holds a step to, if it can, lies so far above [`bound`]: whoever counts has to see more
/// than the bound. Ids below 300 are not given out a second time.
pub(super) const SLACK: u64 = 1024;

/// Has the kernel refuse processes beyond so many in this process's own namespace of ids; whether it does. Kernels
/// before 6.14 have one such bound for the whole machine, which is not ours to set.
pub(super) fn wall(bound: u64) -> bool {
    const SWITCH: &str = "/proc/sys/kernel/pid_max";
    is_at_least(6, 14) && fs::write(SWITCH, (bound + SLACK).to_string()).is_ok()
}

fn is_at_least(major: u32, minor: u32) -> bool {
    let name = rustix::system::uname();
    let mut parts =
        name.release().to_str().unwrap_or_default().split(|c: char| !c.is_ascii_digit());
    let mut part = || parts.next().and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
    (part(), part()) >= (major, minor)
}

/// Who is below one process.
#[derive(Debug)]
pub(super) struct Census {
    own: i32,
    /// Whether `/proc` lists nobody else's processes.
    is_alone: bool,
    /// The fewest threads that the machine had since.
    fewest: u64,
}

impl Census {
    /// Of those below the process `own`.
    pub(super) fn new(own: i32) -> Self {
        // The first process of a namespace of its own.
        Self { own, is_alone: own == 1, fewest: threads_of_machine().unwrap_or(0) }
    }

    /// Whether there are more than `bound` processes and threads. They are counted only if the whole machine has so many
    /// more than it had before.
    pub(super) fn exceeds(&mut self, bound: u64) -> bool {
        let Some(all) = threads_of_machine() else { return false };
        self.fewest = self.fewest.min(all);
        if all - self.fewest <= bound / 2 {
            return false;
        }
        let mut count = 0;
        for pid in self.pids() {
            count += threads(pid);
            if count > bound {
                return true;
            }
        }
        false
    }

    /// Whether everybody is stopped, or waits for somebody who is: then nobody inside can go on, nor help another to. `first`
    /// is the step's first process.
    pub(super) fn is_stuck(&self, first: i32) -> bool {
        // Almost always this says it, at the price of one file.
        if standing(first) == Some(Standing::Able) {
            return false;
        }
        let mut stopped = false;
        for pid in self.pids() {
            match standing(pid) {
                Some(Standing::Able) => return false,
                Some(Standing::Stopped) => stopped = true,
                Some(Standing::Waiting) | None => {}
            }
        }
        stopped
    }

    fn pids(&self) -> Vec<i32> {
        if !self.is_alone {
            return tree::descendants(self.own);
        }
        tree::all().filter(|pid| *pid != self.own).collect()
    }
}

/// What one process is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It runs, or something may wake it.
    Able,
    /// It was stopped by a signal.
    Stopped,
    /// It waits for the end of a child.
    Waiting,
}

/// `None` for one that has ended.
fn standing(pid: i32) -> Option<Standing> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let state = tree::fields(&stat)?.next()?;
    Some(match state {
        "Z" | "X" => return None,
        "T" => Standing::Stopped,
        "S" if threads(pid) == 1 && waits_for_child(pid) => Standing::Waiting,
        _ => Standing::Able,
    })
}

fn waits_for_child(pid: i32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
    [libc::SYS_wait4, libc::SYS_waitid].map(Some).contains(&number)
}

/// The threads of a process; none if it has ended.
fn threads(pid: i32) -> u64 {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let threads = tree::fields(&stat).and_then(|mut fields| fields.nth(17)?.parse().ok());
    threads.unwrap_or(0)
}

/// The threads of the whole machine, as far as the kernel tells.
fn threads_of_machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_ascii_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command},
        time::Instant,
    };

    use super::*;

    struct Ended(Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            for pid in tree::descendants(self.0.id() as i32) {
                super::super::kernel::kill(pid);
            }
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn shell(script: &str) -> Ended {
        Ended(Command::new("sh").args(["-c", script]).spawn().unwrap())
    }

    fn becomes_true(holds: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        while !holds() && begun.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        holds()
    }

    #[test]
    fn who_is_stopped_and_who_waits_for_one_that_is_cannot_go_on() {
        for script in ["kill -STOP $$; :", "sh -c 'kill -STOP $$; :'; :"] {
            let child = shell(script);
            let pid = child.0.id() as i32;
            // The shell itself is not below itself: what is below must be stuck, and so must it.
            let census = Census { own: pid, is_alone: false, fewest: 0 };
            let stuck = || match tree::descendants(pid).is_empty() {
                true => standing(pid) == Some(Standing::Stopped),
                false => census.is_stuck(pid),
            };
            assert!(becomes_true(stuck), "{script}");
        }
    }

    #[test]
    fn who_sleeps_or_waits_for_a_sleeper_can_go_on() {
        let child = shell("sh -c 'kill -STOP $$; :' & sleep 1000; :");
        let pid = child.0.id() as i32;
        assert!(becomes_true(|| {
            let below = tree::descendants(pid);
            below.len() == 2 && below.iter().any(|pid| standing(*pid) == Some(Standing::Stopped))
        }));
        let census = Census { own: pid, is_alone: false, fewest: 0 };
        assert!(!census.is_stuck(pid));
    }

    #[test]
    fn processes_are_counted_once_the_machine_has_many_more() {
        let child = shell("sleep 1000 & sleep 1000 & sleep 1000 & wait");
        let pid = child.0.id() as i32;
        assert!(becomes_true(|| tree::descendants(pid).len() == 3));
        let mut census = Census { own: pid, is_alone: false, fewest: 0 };
        assert!(census.exceeds(2));
        assert!(!census.exceeds(3));
        census.fewest = u64::MAX;
        assert!(!census.exceeds(2), "the machine has not more than before");
    }

    #[test]
    fn the_bound_grows_with_the_machine() {
        assert_eq!((bound(2), bound(192)), (4096, 12288));
    }
}
