//! Temporary roots: what living processes need, and what killed ones needed, so that no collector
//! takes it.
//!
//! One file for each open store that has said so, locked by its process; a line for each thing
//! held. Written under the shared lock, before its writer looks whether the thing is there. What a
//! process that was killed had finished is not lost with it: its file goes on holding until its
//! owner has built again, or has not come back for long. An owner is whatever the session was begun
//! for; a file without one goes with the next sweep. Unaware of what owners are.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::digest::Digest;
use crate::fsio::{Fs, FsError, present};
use crate::layout::Layout;
use crate::lock::GcLock;
use crate::mark::{self, Mark};
use crate::object::Object;

const PREFIX: &str = "hold-";
/// How long what a killed process held is kept for an owner that does not come back.
const PATIENCE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What this store holds.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    mark: Option<Mark>,
    sessions: u32,
    owner: Option<Digest>,
    /// What was written down.
    held: HashSet<Held>,
}

/// What somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Held {
    Key(Digest),
    Object(Object),
}

/// Who holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Living,
    Killed,
}

impl Holds {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session, for the owner that is given if there is none yet.
    pub(crate) fn begin(&self, owner: Option<&Digest>) {
        let mut state = self.state();
        state.sessions += 1;
        state.owner = state.owner.or(owner.copied());
    }

    /// What is held so far stays held when it is let go, until its owner comes back.
    pub(crate) fn outlive(&self) {
        if let Some(mark) = &mut self.state().mark {
            mark.set_stays(true);
        }
    }

    /// The last session to end lets everything go.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.sessions -= 1;
        if state.sessions == 0 {
            *state = State::default();
        }
    }

    /// Holds keys and objects until the last session ends, or the store is closed.
    pub(crate) fn add(
        &self,
        fs: &Fs,
        layout: &Layout,
        lock: &GcLock,
        held: impl IntoIterator<Item = Held>,
    ) -> Result<(), FsError> {
        // One at a time: nobody may take for held what is only about to be written down.
        let mut state = self.state();
        let news: Vec<Held> = held.into_iter().filter(|held| !state.held.contains(held)).collect();
        if news.is_empty() {
            return Ok(());
        }
        // What a full disk cut off before must not become the beginning of this.
        let mut lines = String::from("\n");
        for held in &news {
            match held {
                Held::Key(key) => lines.push_str(&format!("key {key}\n")),
                Held::Object(object) => lines.push_str(&format!("object {object}\n")),
            }
        }
        let _shared = lock.shared()?;
        let prefix = match &state.owner {
            Some(owner) => format!("{PREFIX}{owner}-"),
            None => PREFIX.to_owned(),
        };
        let mark = match &mut state.mark {
            Some(mark) => mark,
            empty => empty.insert(Mark::create(fs, &layout.tmp(), &prefix, "")?),
        };
        fs.append(mark.path(), mark.file(), lines.as_bytes())?;
        state.held.extend(news);
        Ok(())
    }
}

/// What living and killed processes hold. To be called under the exclusive lock.
pub(crate) fn all(fs: &Fs, layout: &Layout) -> Result<Vec<(Held, Holder)>, FsError> {
    let mut found = Vec::new();
    for file in files(fs, layout)? {
        let holder = match &file.dead {
            None => Holder::Living,
            Some(_) if file.is_stale() => continue,
            Some(_) => Holder::Killed,
        };
        if let Some(bytes) = present(fs.read(&file.path))? {
            let text = String::from_utf8_lossy(&bytes);
            found.extend(text.lines().filter_map(parse).map(|held| (held, holder)));
        }
    }
    Ok(found)
}

/// Removes what killed processes held for nobody, or for somebody who has not come back for long.
pub(crate) fn sweep(fs: &Fs, layout: &Layout) -> Result<(), FsError> {
    remove_dead(fs, layout, HoldFile::is_stale)
}

/// Removes what killed processes held for this owner.
pub(crate) fn forget(fs: &Fs, layout: &Layout, owner: &Digest) -> Result<(), FsError> {
    remove_dead(fs, layout, |file| file.owner == Some(*owner))
}

fn remove_dead(fs: &Fs, layout: &Layout, goes: impl Fn(&HoldFile) -> bool) -> Result<(), FsError> {
    let files = files(fs, layout)?;
    let dead = files.iter().filter(|file| file.dead.is_some() && goes(file));
    dead.into_iter().try_for_each(|file| fs.remove_all(&file.path))
}

/// A file of what somebody holds.
struct HoldFile {
    path: PathBuf,
    owner: Option<Digest>,
    written: Option<SystemTime>,
    /// Its lock, if its process is gone.
    dead: Option<File>,
}

impl HoldFile {
    /// Whether nobody is waited for.
    fn is_stale(&self) -> bool {
        let age = self.written.and_then(|written| written.elapsed().ok());
        self.owner.is_none() || age.is_some_and(|age| age > PATIENCE)
    }
}

fn files(fs: &Fs, layout: &Layout) -> Result<Vec<HoldFile>, FsError> {
    let mut found = Vec::new();
    for name in fs.list(&layout.tmp())? {
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let path = layout.tmp().join(&name);
        found.push(HoldFile {
            owner: owner(rest),
            written: written(fs, &path)?,
            dead: mark::seize(fs, &path)?,
            path,
        });
    }
    Ok(found)
}

/// The owner that a file's name tells: `HEX-` and something fresh.
fn owner(rest: &str) -> Option<Digest> {
    let (hex, _) = rest.split_at_checked(64)?;
    hex.parse().ok()
}

fn written(fs: &Fs, path: &Path) -> Result<Option<SystemTime>, FsError> {
    Ok(present(fs.lstat(path))?.and_then(|metadata| metadata.modified().ok()))
}

/// A line that its writer was killed in the middle of holds nothing: the writer has not looked.
fn parse(line: &str) -> Option<Held> {
    match line.split_once(' ')? {
        ("key", hex) => hex.parse().ok().map(Held::Key),
        ("object", name) => name.parse().ok().map(Held::Object),
        _ => None,
    }
}
