//! What had not reached the disk when the machine went down.
//!
//! A process that writes to the store first leaves an empty file in `unflushed/`, named after the
//! boot; the file goes, or its time moves on, when what was written has been flushed. No fsync is
//! needed for it: journaling file systems bring names to disk in order, so that the mark is there
//! whenever something written after it is. A mark of an earlier boot means that
//! whatever is younger than the mark may be torn, and is rehashed before anything is served.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::fsio::{Fs, FsError, mtime_ns, present};
use crate::layout::Layout;
use crate::mark::{self, Mark};

/// A mark's time and an object's come from the same clock, but ticks and rounding differ.
const MARGIN_NS: i64 = 10_000_000_000;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// This boot of the machine; empty where the kernel does not say.
pub(crate) fn current(fs: &Fs) -> String {
    let bytes = fs.read(Path::new(BOOT_ID)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// What this process has written and not flushed.
#[derive(Debug)]
pub(crate) struct Unflushed {
    boot: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mark: Option<Mark>,
    /// The mark's time.
    since: Option<SystemTime>,
    dirty: bool,
    group: u64,
}

impl Unflushed {
    pub(crate) fn new(boot: String) -> Self {
        Self { boot, state: Mutex::default() }
    }

    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    /// Says that something is about to be written; gives the group with which it will be flushed.
    pub(crate) fn will_write(&self, fs: &Fs, layout: &Layout) -> Result<u64, FsError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.mark.is_none() {
            let prefix = format!("{}.", self.boot);
            state.mark = Some(Mark::create(fs, &layout.unflushed(), &prefix, "")?);
        }
        state.dirty = true;
        let now = SystemTime::now();
        let set_back = state.since.is_some_and(|since| now < since);
        if let Some(mark) = &mut state.mark {
            mark.set_stays(true);
            // What is written after the clock was set back would look older than the mark.
            if set_back {
                set_time(mark, now)?;
            }
        }
        if set_back {
            state.since = Some(now);
        }
        Ok(state.group)
    }

    /// Brings all that was written so far to disk, if anything was.
    pub(crate) fn flush(&self, fs: &Fs, layout: &Layout) -> Result<(), FsError> {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if !std::mem::take(&mut state.dirty) {
                return Ok(());
            }
            state.group += 1;
        }
        let dead = dead_marks(fs, layout, &self.boot)?;
        let started = SystemTime::now();
        let synced = fs.sync_filesystem(layout.home());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if synced.is_err() {
            state.dirty = true;
            return synced;
        }
        let clean = !state.dirty;
        if let Some(mark) = &mut state.mark {
            // What is written from now on is younger than this.
            set_time(mark, started)?;
            mark.set_stays(!clean);
        }
        state.since = Some(started);
        for (path, _seized) in dead {
            fs.remove_all(&path)?;
        }
        Ok(())
    }
}

fn set_time(mark: &Mark, time: SystemTime) -> Result<(), FsError> {
    let moved = mark.file().set_modified(time);
    moved.map_err(|error| FsError::new("set the times of", mark.path(), error))
}

/// Marks of this boot whose processes are gone: what they wrote is in the kernel's hands.
fn dead_marks(
    fs: &Fs,
    layout: &Layout,
    boot: &str,
) -> Result<Vec<(std::path::PathBuf, std::fs::File)>, FsError> {
    let mut dead = Vec::new();
    for (path, of_boot) in marks(fs, layout)? {
        if of_boot == boot
            && let Some(seized) = mark::seize(fs, &path)?
        {
            dead.push((path, seized));
        }
    }
    Ok(dead)
}

/// Every mark with the boot that it is of.
fn marks(fs: &Fs, layout: &Layout) -> Result<Vec<(std::path::PathBuf, String)>, FsError> {
    let names = fs.list(&layout.unflushed())?;
    Ok(names
        .iter()
        .map(|name| {
            let text = name.to_string_lossy();
            let boot = text.split('.').next().unwrap_or_default().to_owned();
            (layout.unflushed().join(name), boot)
        })
        .collect())
}

/// What an earlier boot left in doubt.
#[derive(Debug)]
pub(crate) struct Doubt {
    /// Whatever changed at or after this time (nanoseconds since 1970) may be torn.
    pub(crate) since_ns: i64,
    marks: Vec<std::path::PathBuf>,
}

/// Whether an earlier boot ended before all was flushed.
pub(crate) fn doubt(fs: &Fs, layout: &Layout, boot: &str) -> Result<Option<Doubt>, FsError> {
    let mut doubt: Option<Doubt> = None;
    for (path, of_boot) in marks(fs, layout)? {
        if of_boot == boot {
            continue;
        }
        let Some(metadata) = present(fs.lstat(&path))? else { continue };
        // A process that holds its mark lives, whatever its kernel calls this boot: a virtual machine may share
        // the store.
        if mark::is_held(fs, &path) {
            continue;
        }
        let since_ns = mtime_ns(&metadata).saturating_sub(MARGIN_NS);
        let doubt = doubt.get_or_insert(Doubt { since_ns, marks: Vec::new() });
        doubt.since_ns = doubt.since_ns.min(since_ns);
        doubt.marks.push(path);
    }
    Ok(doubt)
}

impl Doubt {
    /// Everything in doubt was looked at.
    pub(crate) fn settle(self, fs: &Fs) -> Result<(), FsError> {
        self.marks.iter().try_for_each(|path| fs.remove_all(path))
    }
}
