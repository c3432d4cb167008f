//! Watches one child until it ends or has to.
//!
//! It runs in the init of a step (or, without process ids of its own, in the starter) and knows one child, a pipe
//! that means "go on" as long as it is open, and limits. It is unaware of namespaces.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{census::Census, kernel, spec::Exit, tree};

/// How often memory is sampled where the kernel does not count it. A program fills about 10 MB in a millisecond at
/// worst, so a limit is passed by some hundred megabytes before the step is killed.
const SAMPLING: Duration = Duration::from_millis(10);

/// How often processes are counted: where the kernel refuses them beyond a bound, and where nobody else does. A program
/// makes some thousands in a tenth of a second.
const WALLED: Duration = Duration::from_secs(1);
const UNWALLED: Duration = Duration::from_millis(100);

/// How often it is looked whether a step can go on. It takes two looks: between two steps of a shell, all may seem to stand.
const PROGRESS: Duration = Duration::from_secs(1);

/// How many ended processes are collected before the limits are looked at again: a step that makes processes faster than
/// they can be collected must not escape its time-out by that, nor Ctrl-C.
const COLLECTED_AT_ONCE: usize = 256;

/// So many new processes between two looks are killed one by one, without being stopped before.
const FEW: usize = 16;

/// What to watch.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    /// The step's first process.
    pub(super) child: i32,
    /// Hangs up when the caller is gone, or wants no more.
    pub(super) life: BorrowedFd<'a>,
    /// Readable when a child has ended.
    pub(super) events: OwnedFd,
    pub(super) timeout: Option<Duration>,
    pub(super) memory: Option<u64>,
    /// How many processes and threads it may have.
    pub(super) processes: u64,
    /// Whether the kernel makes no more than about so many.
    pub(super) is_walled: bool,
    /// File systems in memory that only the step writes to.
    pub(super) file_systems: Vec<PathBuf>,
}

/// Whom a round of collecting has met.
enum Reaped {
    /// The step's first process; others may have ended, too.
    Step(Exit),
    /// All that have ended; the step lives.
    All,
    /// Some; there may be more.
    Some,
}

impl Watch<'_> {
    /// Waits for the end, and says what it was and how much memory was seen. The child may still live if it was
    /// not its own end.
    pub(super) fn until_the_end(&self) -> io::Result<(Exit, u64)> {
        let start = Instant::now();
        let own = tree::own_id();
        let mut census = own.map(Census::new);
        let mut peak = 0;
        let counting = if self.is_walled { WALLED } else { UNWALLED };
        let (mut counted, mut looked) = (start, start);
        let mut was_stuck = false;
        loop {
            let reaped = self.reap()?;
            let too_many = Exit::TooManyProcesses { limit: self.processes };
            if let Reaped::Step(exit) = reaped {
                // Whoever is refused a process often ends for that.
                let why = census.as_mut().filter(|_| !exit.is_success());
                let exceeds = why.is_some_and(|census| census.exceeds(self.processes));
                return Ok((if exceeds { too_many } else { exit }, peak));
            }
            if let Some(census) = &mut census {
                if counted.elapsed() >= counting {
                    counted = Instant::now();
                    if census.exceeds(self.processes) {
                        return Ok((too_many, peak));
                    }
                }
                if looked.elapsed() >= PROGRESS {
                    looked = Instant::now();
                    let is_stuck = census.is_stuck(self.child);
                    if is_stuck && was_stuck {
                        return Ok((Exit::Stopped, peak));
                    }
                    was_stuck = is_stuck;
                }
            }
            if let (Some(limit), Some(own)) = (self.memory, own) {
                let held = self.held(own, limit);
                peak = peak.max(held);
                if held > limit {
                    return Ok((Exit::OutOfMemory { limit }, peak));
                }
            }
            let mut pause = self.memory.map(|_| SAMPLING);
            if census.is_some() {
                pause = Some(pause.map_or(counting, |pause| pause.min(counting)));
            }
            if let Some(limit) = self.timeout {
                let Some(left) = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero())
                else {
                    return Ok((Exit::TimedOut(limit), peak));
                };
                pause = Some(pause.map_or(left, |pause| pause.min(left)));
            }
            if matches!(reaped, Reaped::Some) {
                pause = Some(Duration::ZERO);
            }
            if self.sleep(pause)? {
                return Ok((Exit::Cancelled, peak));
            }
        }
    }

    /// Collects the children that have ended; the step's end, if its first process is among them.
    fn reap(&self) -> io::Result<Reaped> {
        for _ in 0..COLLECTED_AT_ONCE {
            match kernel::wait(-1, false) {
                Ok(Some(ended)) if ended.pid == self.child => {
                    return Ok(Reaped::Step(exit_of(ended.status)));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Reaped::All),
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(Reaped::All),
                Err(error) => return Err(error),
            }
        }
        Ok(Reaped::Some)
    }

    fn held(&self, own: i32, limit: u64) -> u64 {
        let files: u64 = self
            .file_systems
            .iter()
            .filter_map(|path| rustix::fs::statvfs(path).ok())
            .map(|usage| (usage.f_blocks - usage.f_bfree) * usage.f_frsize)
            .sum();
        files + tree::memory(&tree::descendants(own), limit.saturating_sub(files))
    }

    /// Waits for an event, at most so long; whether the caller has hung up.
    fn sleep(&self, pause: Option<Duration>) -> io::Result<bool> {
        let mut watched = [
            PollFd::from_borrowed_fd(self.life, PollFlags::IN),
            PollFd::new(&self.events, PollFlags::IN),
        ];
        let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
        match poll(&mut watched, pause.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if watched[1].revents().contains(PollFlags::IN) {
            // Which child it was, `wait` tells; here it is only to be silenced.
            let mut record = [0u8; 128];
            let _ = rustix::io::read(self.events.as_fd(), &mut record);
        }
        Ok(!watched[0].revents().is_empty())
    }
}

fn exit_of(status: i32) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    }
}

/// Ends every process below this one, and returns when all are gone.
///
/// Orphans come to this process, so that "no child left" means "nothing left". New ones may be born while others
/// are being killed, hence the loop; whoever is born faster than they are found is stopped first, all of them, so that it
/// ends.
pub(super) fn end_all() -> io::Result<()> {
    let own = tree::own_id();
    loop {
        if !collect()? {
            return Ok(());
        }
        let mut found = own.map(tree::descendants).unwrap_or_default();
        let mut known = HashSet::new();
        // Who is stopped has no children.
        while found.iter().filter(|pid| known.insert(**pid)).count() > FEW {
            found.iter().for_each(|pid| kernel::stop(*pid));
            found = own.map(tree::descendants).unwrap_or_default();
        }
        found.into_iter().for_each(kernel::kill);
        let patience = Instant::now();
        while patience.elapsed() < Duration::from_millis(5) && collect()? {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Collects the children that have ended; whether there are others.
fn collect() -> io::Result<bool> {
    loop {
        match kernel::wait(-1, false) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
