//! The collector: keeps what roots, living processes and killed builds need, removes the rest, or
//! as much of it as it was told to.
//!
//! What things weigh is found out before the exclusive lock is taken. Under it only names and
//! records are read, and what goes is renamed to the trash; deleting takes its time after others
//! may go on. A collection that only tells takes no more than the shared lock. Unaware of what roots are for.

mod eviction;
mod holders;
mod weight;

use std::collections::BTreeMap;

use serde::Serialize;

use self::eviction::Candidates;
use self::weight::{Scales, Stock, Weights};
use crate::fsio::FsError;
use crate::inventory::{self, Entry};
use crate::item::Item;
use crate::layout::RecordName;
use crate::lock;
use crate::object::Object;
use crate::roots::{Root, RootError};
use crate::store::Store;
use crate::tombstone::Cause;
use crate::trash;

/// How to collect. Without limits, everything goes that nothing holds. With limits, only what is
/// beyond one of them; what roots or processes hold never goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GcOptions {
    /// Only say what would be done.
    pub dry_run: bool,
    /// How many bytes the store may take. Beyond it, what was used least recently goes first.
    pub keep_bytes: Option<u64>,
    /// Whatever was last used before this moment goes; in seconds since 1970.
    pub unused_since: Option<i64>,
}

/// How roots are counted otherwise than they stand.
#[derive(Debug, Clone, Default)]
pub struct RootChanges {
    /// These count too.
    pub added: Vec<Root>,
    /// The roots of these names do not count.
    pub ignored: Vec<String>,
    /// Of these recipes it is not known what has to stay: whatever they made, and whatever no record names, does. Each
    /// with the label of who is said to hold it.
    pub spared: Vec<Spared>,
}

/// A recipe of which everything stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spared {
    /// Its name.
    pub recipe: String,
    /// Who holds it.
    pub label: String,
}

/// Something that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// What it is.
    pub item: Item,
    /// Its size on disk.
    pub bytes: u64,
    /// The labels of the roots that hold it; empty if nothing does, and it is within the limits.
    pub held_by: Vec<String>,
    /// When it was last used, in seconds since 1970; `None` if it is held.
    pub last_use: Option<i64>,
}

/// Something that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// What it is.
    pub item: Item,
    /// Its size on disk.
    pub bytes: u64,
    /// When it was last used, in seconds since 1970.
    pub last_use: i64,
    /// Why it goes.
    pub cause: Cause,
}

/// What was kept and what was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct GcReport {
    /// What stays, in a fixed order.
    pub kept: Vec<Kept>,
    /// What goes, in a fixed order.
    pub removed: Vec<Removed>,
    /// Bytes that are still in use. A file that several things share counts once, here and below.
    pub bytes_kept: u64,
    /// Bytes of what is held, and could not go whatever the limits.
    pub bytes_held: u64,
    /// Bytes that are given back. A file that also is part of something that stays gives back
    /// nothing.
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

impl Store {
    /// Removes what neither a root nor a session holds, as far as the limits say, and records that
    /// cannot be read, each with a notice. Waits for a moment in which no process is placing
    /// anything, and lets none begin while it chooses, unless it is only to tell. What goes leaves a tombstone. Trash that
    /// cannot be deleted is told in a notice.
    ///
    /// # Errors
    /// If a root cannot be read (then nothing was removed), or the disk fails.
    pub fn gc(&self, options: GcOptions) -> Result<GcReport, GcError> {
        self.gc_with(options, &RootChanges::default())
    }

    /// Like [`gc`](Self::gc), with some roots counted otherwise than they stand.
    ///
    /// # Errors
    /// As for [`gc`](Self::gc).
    pub fn gc_with(&self, options: GcOptions, changes: &RootChanges) -> Result<GcReport, GcError> {
        if options.dry_run {
            // What is said may be different in the next moment anyhow: builders are not kept waiting for it.
            let _shared = self.gc_lock.shared()?;
            let stock = self.stock()?;
            let weights = Weights::of(&self.fs, &stock)?;
            return Ok(self.choose(options, changes, &stock, weights)?.0);
        }
        self.permit_change()?;
        // To walk through every tree takes longest by far, and needs no lock.
        let weights = Weights::of(&self.fs, &self.stock()?)?;
        let exclusive = lock::gc_exclusive(&self.fs, &self.layout)?;
        let damaged = self.set_damaged_records_aside()?;
        let stock = self.stock()?;
        let (report, going) = self.choose(options, changes, &stock, weights)?;
        // Records go first: a kill in between leaves objects without a record, never the reverse.
        let records_first = |item: &&Item| matches!(item, Item::Object(_));
        let (objects, records): (Vec<&Item>, Vec<&Item>) = going.keys().partition(records_first);
        for item in records.into_iter().chain(objects) {
            for path in &stock[item] {
                trash::set_aside(&self.fs, &self.layout, path)?;
            }
            if let (Item::Realisation(key), Some(index)) = (item, &self.index) {
                index.forget_record(key);
            }
        }
        drop(exclusive);
        self.commit_index();
        // First the trash: what is noted may need the space that it takes.
        self.empty_trash();
        let damaged = damaged.into_iter().map(|key| (Item::Realisation(key), Cause::Damaged));
        self.bury(damaged.chain(going));
        Ok(report)
    }

    /// What of a stock stays and what goes.
    fn choose(
        &self,
        options: GcOptions,
        changes: &RootChanges,
        stock: &Stock,
        weights: Weights,
    ) -> Result<(GcReport, BTreeMap<Item, Cause>), GcError> {
        let mut marks = self.marks(changes)?;
        self.spare(&mut marks, &changes.spared, stock)?;
        let mut scales = Scales::load(&self.fs, stock, weights)?;
        for item in marks.keys() {
            scales.hold(item);
        }
        let candidates = Candidates::find(self, stock, &marks)?;
        let going = eviction::choose(&candidates, &mut scales, &options);

        let mut report = GcReport {
            bytes_kept: scales.bytes_kept(),
            bytes_held: scales.bytes_held(),
            bytes_freed: scales.bytes_freed(),
            ..GcReport::default()
        };
        for &item in stock.keys() {
            let bytes = scales.bytes_of(&item);
            let last_use = candidates.last_use(&item);
            match (going.get(&item), last_use) {
                (Some(&cause), Some(last_use)) => {
                    report.removed.push(Removed { item, bytes, last_use, cause });
                }
                _ => {
                    let held_by = marks.get(&item).into_iter().flatten().cloned().collect();
                    report.kept.push(Kept { item, bytes, held_by, last_use });
                }
            }
        }
        Ok((report, going))
    }

    /// Everything that can go, with its paths.
    fn stock(&self) -> Result<Stock, FsError> {
        let mut stock = Stock::new();
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
}
