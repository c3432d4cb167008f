//! The collector: keeps what roots and living processes need, removes the rest.
//!
//! Under the exclusive lock it only reads names and records and renames what goes to the trash;
//! deleting takes its time after others may go on. Unaware of what roots are for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::digest::Digest;
use crate::fsio::{Fs, FsError, present};
use crate::holds::{self, Held};
use crate::inventory::{self, Entry};
use crate::layout::RecordName;
use crate::lock;
use crate::object::Object;
use crate::realisation::Realisation;
use crate::roots::{self, RootError};
use crate::size;
use crate::store::Store;
use crate::trash;

/// What a living process holds is said to be held by this.
const RUNNING: &str = "a build that is running";

/// How to collect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GcOptions {
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Something that the collector decides upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Item {
    /// A file or tree.
    Object(Object),
    /// All attempts recorded under a key.
    Realisation(Digest),
}

/// Something that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// What it is.
    pub item: Item,
    /// Its size on disk.
    pub bytes: u64,
    /// The labels of the roots that hold it.
    pub held_by: Vec<String>,
}

/// Something that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// What it is.
    pub item: Item,
    /// Its size on disk.
    pub bytes: u64,
}

/// What was kept and what was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct GcReport {
    /// What stays, in a fixed order.
    pub kept: Vec<Kept>,
    /// What goes, in a fixed order.
    pub removed: Vec<Removed>,
    /// Bytes of what stays.
    pub bytes_kept: u64,
    /// Bytes that are given back. A file that also is part of something that stays gives back
    /// nothing, and one that is part of several things that go counts once.
    pub bytes_freed: u64,
}

/// Why nothing was collected.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The disk.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A root cannot be read, so that it is not known what must stay.
    #[error("cannot tell what must be kept")]
    Root(#[from] RootError),
}

/// For each item that stays, who holds it.
type Marks = BTreeMap<Item, BTreeSet<String>>;

impl Store {
    /// Removes everything that neither a root nor a living session holds, and records that cannot
    /// be read, each with a notice. Waits for a moment in which no process is placing anything,
    /// and lets none begin while it chooses. Trash that cannot be deleted is told in a notice.
    ///
    /// # Errors
    /// If a root cannot be read (then nothing was removed), or the disk fails.
    pub fn gc(&self, options: GcOptions) -> Result<GcReport, GcError> {
        let exclusive = lock::gc_exclusive(&self.fs, &self.layout)?;
        if !options.dry_run {
            self.set_damaged_records_aside()?;
        }
        let marks = self.marks()?;
        let mut report = GcReport::default();
        let mut victims = Vec::new();
        let mut files = Files::default();
        // Records go first: a kill in between leaves objects without a record, never the reverse.
        for (item, paths) in self.stock()? {
            let paths = paths.iter().map(PathBuf::as_path);
            let bytes =
                paths.clone().map(|path| size::of(&self.fs, path)).sum::<Result<u64, _>>()?;
            match marks.get(&item) {
                Some(held_by) => {
                    report.bytes_kept += bytes;
                    let held_by = held_by.iter().cloned().collect();
                    report.kept.push(Kept { item, bytes, held_by });
                }
                None => {
                    for path in paths.clone() {
                        files.add(&self.fs, path)?;
                    }
                    report.removed.push(Removed { item, bytes });
                    victims.extend(paths.map(|path| (item, path.to_owned())));
                }
            }
        }
        report.bytes_freed = files.freed();
        if options.dry_run {
            return Ok(report);
        }
        victims.sort_by_key(|(item, _)| matches!(item, Item::Object(_)));
        for (item, path) in victims {
            trash::set_aside(&self.fs, &self.layout, &path)?;
            if let (Item::Realisation(key), Some(index)) = (item, &self.index) {
                index.forget_record(&key);
            }
        }
        drop(exclusive);
        self.commit_index();
        self.empty_trash();
        Ok(report)
    }

    /// Everything that can go, with its paths.
    fn stock(&self) -> Result<BTreeMap<Item, Vec<PathBuf>>, FsError> {
        let mut stock: BTreeMap<Item, Vec<_>> = BTreeMap::new();
        for found in inventory::all(&self.fs, &self.layout)? {
            let item = match found.entry {
                Entry::Object(object) => Item::Object(object),
                Entry::Listing(digest) => Item::Object(Object::tree(digest)),
                Entry::Record(RecordName::Current(key) | RecordName::Earlier(key, _)) => {
                    Item::Realisation(key)
                }
                // What the store did not put there it does not take away.
                Entry::Stranger => continue,
            };
            stock.entry(item).or_default().push(found.path);
        }
        Ok(stock)
    }

    fn marks(&self) -> Result<Marks, GcError> {
        let mut marks = Marks::new();
        for (name, root) in roots::all(&self.fs, &self.layout)? {
            let label = if root.label.is_empty() { name } else { root.label };
            for object in root.objects {
                mark(&mut marks, Item::Object(object), &label);
            }
            for key in root.keys {
                self.mark_key(&mut marks, &key, &label)?;
            }
        }
        for held in holds::living(&self.fs, &self.layout)? {
            match held {
                Held::Object(object) => mark(&mut marks, Item::Object(object), RUNNING),
                Held::Key(key) => self.mark_key(&mut marks, &key, RUNNING)?,
            }
        }
        Ok(marks)
    }

    /// Marks a key's records, all that the one in use refers to, and the logs of earlier ones.
    fn mark_key(&self, marks: &mut Marks, key: &Digest, label: &str) -> Result<(), FsError> {
        let known = marks.get(&Item::Realisation(*key));
        if known.is_some_and(|labels| labels.contains(label)) {
            return Ok(());
        }
        mark(marks, Item::Realisation(*key), label);
        let attempts = self.attempts(key)?;
        let Some((current, earlier)) = attempts.split_last() else { return Ok(()) };
        let logs = earlier.iter().filter_map(|earlier: &Realisation| earlier.log);
        for object in current.objects().chain(logs) {
            mark(marks, Item::Object(object), label);
        }
        Ok(())
    }
}

fn mark(marks: &mut Marks, item: Item, label: &str) {
    let labels = marks.entry(item).or_default();
    if !labels.contains(label) {
        labels.insert(label.to_owned());
    }
}

/// The files behind the names that go: only one whose every name goes gives its bytes back.
#[derive(Default)]
struct Files(HashMap<(u64, u64), File>);

struct File {
    bytes: u64,
    names: u64,
    going: u64,
}

impl Files {
    fn add(&mut self, fs: &Fs, path: &Path) -> Result<(), FsError> {
        let Some(metadata) = present(fs.lstat(path))? else { return Ok(()) };
        if metadata.is_dir() {
            let names = present(fs.list(path))?.unwrap_or_default();
            return names.iter().try_for_each(|name| self.add(fs, &path.join(name)));
        }
        let file = File { bytes: metadata.len(), names: metadata.nlink(), going: 0 };
        self.0.entry((metadata.dev(), metadata.ino())).or_insert(file).going += 1;
        Ok(())
    }

    fn freed(&self) -> u64 {
        self.0.values().filter(|file| file.going >= file.names).map(|file| file.bytes).sum()
    }
}
