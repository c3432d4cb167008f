//! Temporary roots: what living processes need, so that no collector takes it.
//!
//! One file for each open store that has said so, locked by its process; a line for each thing
//! held. Written under the shared lock, before its writer looks whether the thing is there.

use std::fs::File;
use std::sync::{Mutex, PoisonError};

use crate::digest::Digest;
use crate::fsio::{Fs, FsError, present};
use crate::layout::Layout;
use crate::lock::GcLock;
use crate::mark::{self, Mark};
use crate::object::Object;

const PREFIX: &str = "hold-";

/// What this store holds.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    mark: Option<Mark>,
    sessions: u32,
}

/// What somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Key(Digest),
    Object(Object),
}

impl Holds {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self) {
        self.state().sessions += 1;
    }

    /// The last session to end lets everything go.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.sessions -= 1;
        if state.sessions == 0 {
            state.mark = None;
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
        let mut lines = String::new();
        for held in held {
            match held {
                Held::Key(key) => lines.push_str(&format!("key {key}\n")),
                Held::Object(object) => lines.push_str(&format!("object {object}\n")),
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        let _shared = lock.shared()?;
        let mut state = self.state();
        let mark = match &mut state.mark {
            Some(mark) => mark,
            empty => empty.insert(Mark::create(fs, &layout.tmp(), PREFIX, "")?),
        };
        fs.append(mark.path(), mark.file(), lines.as_bytes())
    }
}

/// What living processes hold. To be called under the exclusive lock.
pub(crate) fn living(fs: &Fs, layout: &Layout) -> Result<Vec<Held>, FsError> {
    let mut found = Vec::new();
    for_each(fs, layout, |path, dead| {
        if dead.is_none()
            && let Some(bytes) = present(fs.read(path))?
        {
            found.extend(String::from_utf8_lossy(&bytes).lines().filter_map(parse));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Removes what dead processes held.
pub(crate) fn sweep(fs: &Fs, layout: &Layout) -> Result<(), FsError> {
    for_each(fs, layout, |path, dead| if dead.is_some() { fs.remove_all(path) } else { Ok(()) })
}

fn for_each(
    fs: &Fs,
    layout: &Layout,
    mut visit: impl FnMut(&std::path::Path, Option<File>) -> Result<(), FsError>,
) -> Result<(), FsError> {
    for name in fs.list(&layout.tmp())? {
        if name.to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            let path = layout.tmp().join(name);
            visit(&path, mark::seize(fs, &path)?)?;
        }
    }
    Ok(())
}

/// A line that its writer was killed in the middle of holds nothing: the writer has not looked.
fn parse(line: &str) -> Option<Held> {
    match line.split_once(' ')? {
        ("key", hex) => hex.parse().ok().map(Held::Key),
        ("object", name) => name.parse().ok().map(Held::Object),
        _ => None,
    }
}
