//! Takes what a verification found damaged out of use, so that it is never served again.
//!
//! What can be made again goes to the trash, what is only in the wrong mode is set right, and what nobody else
//! can decide upon (roots, strangers) stays. Unaware of how damage is found.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::fsio::{FsError, present};
use crate::index;
use crate::inventory::{self, Entry};
use crate::item::Item;
use crate::layout::RecordName;
use crate::lock;
use crate::object::{Kind, Object};
use crate::rehash;
use crate::scan::{self, FILE_MODE, OPEN_MODE};
use crate::store::Store;
use crate::tombstone::Cause;
use crate::trash;
use crate::verify::{Problem, VerifyReport};

const MODES: &str = "its modes were set right";
const REMADE: &str = "it was moved out of the way: the next build that needs it makes it again";
const REWRITTEN: &str = "it was moved out of the way: it is written again when it is needed";

impl Store {
    /// Takes what is damaged out of use, and says in the report what was done. Waits until nobody is placing
    /// anything. In a store that can only be read nothing is done.
    ///
    /// # Errors
    /// If the store cannot be listed or locked. What cannot be moved keeps its advice.
    pub fn mend(&self, report: &mut VerifyReport) -> Result<(), FsError> {
        if report.problems.is_empty() || self.read_only().is_some() {
            return Ok(());
        }
        let exclusive = lock::gc_exclusive(&self.fs, &self.layout)?;
        let inventory = inventory::all(&self.fs, &self.layout)?;
        let known: HashMap<PathBuf, Entry> =
            inventory.into_iter().map(|item| (item.path, item.entry)).collect();
        let mut done: HashMap<PathBuf, &'static str> = HashMap::new();
        let mut lost = Vec::new();
        for problem in &mut report.problems {
            let Some(path) = self.place_of(problem, &known) else { continue };
            if let Some(before) = done.get(&path) {
                problem.help = (*before).to_owned();
                continue;
            }
            // What cannot be mended stays with its advice.
            if let Ok(Some(what)) = self.mend_one(&path, known.get(&path), &mut lost) {
                problem.help = what.to_owned();
                done.insert(path, what);
            }
        }
        drop(exclusive);
        self.commit_index();
        self.empty_trash();
        self.bury(lost.into_iter().map(|item| (item, Cause::Damaged)));
        Ok(())
    }

    /// The thing in the store that a problem is about; a problem may be deep in a tree.
    fn place_of(&self, problem: &Problem, known: &HashMap<PathBuf, Entry>) -> Option<PathBuf> {
        if problem.path == self.layout.index() {
            return Some(problem.path.clone());
        }
        problem.path.ancestors().find(|path| known.contains_key(*path)).map(Path::to_owned)
    }

    /// Says what was done, if anything was.
    fn mend_one(
        &self,
        path: &Path,
        entry: Option<&Entry>,
        lost: &mut Vec<Item>,
    ) -> Result<Option<&'static str>, FsError> {
        match entry {
            None => {
                index::abandon(&self.fs, &self.layout.index(), &self.layout.trash())?;
                Ok(Some(REWRITTEN))
            }
            Some(Entry::Object(object)) => {
                if self.set_modes(path, object).is_ok()
                    && let Ok(None) = rehash::content(&self.fs, path, object)
                {
                    return Ok(Some(MODES));
                }
                trash::set_aside(&self.fs, &self.layout, path)?;
                lost.push(Item::Object(*object));
                Ok(Some(REMADE))
            }
            Some(Entry::Listing(_)) => {
                trash::set_aside(&self.fs, &self.layout, path)?;
                Ok(Some(REWRITTEN))
            }
            Some(Entry::Record(name)) => {
                let (RecordName::Current(key) | RecordName::Earlier(key, _)) = name;
                if !self.set_aside_if_damaged(path, key)? {
                    return Ok(None);
                }
                if matches!(name, RecordName::Current(_)) {
                    lost.push(Item::Realisation(*key));
                }
                Ok(Some(REMADE))
            }
            Some(Entry::Stranger) => Ok(None),
        }
    }

    fn set_modes(&self, path: &Path, object: &Object) -> Result<(), FsError> {
        let set = |path: &Path, wanted: u32| {
            let mode = self.fs.lstat(path)?.mode() & 0o7777;
            if mode == wanted { Ok(()) } else { self.fs.chmod(path, wanted) }
        };
        match object.kind {
            Kind::File => set(path, if object.executable { OPEN_MODE } else { FILE_MODE }),
            Kind::Tree => {
                set(path, OPEN_MODE)?;
                for (rel, mode) in scan::wrong_modes(&self.fs, path)? {
                    let below = path.join(rel);
                    let open = mode & 0o111 != 0 || below.is_dir();
                    present(set(&below, if open { OPEN_MODE } else { FILE_MODE }))?;
                }
                Ok(())
            }
        }
    }
}
