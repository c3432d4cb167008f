//! Which of the things that nothing holds go, and in which order: what was used least recently
//! first.
//!
//! A realisation goes with its objects, but for those that another one needs. It was last used when
//! it was recorded, or when a root let go of it: that is what its file's time says. An object that
//! no record names was last used when it was placed. Unaware of who holds what, and of how things
//! are removed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use super::GcOptions;
use super::holders::{Marks, needed_by};
use super::weight::Scales;
use crate::fsio::{FsError, ctime_ns, mtime_ns, present};
use crate::item::Item;
use crate::store::Store;
use crate::tombstone::Cause;

/// What nothing holds.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// What goes at once, least recently used first: a realisation, or an object that none names.
    units: BTreeSet<(i64, Item)>,
    /// The objects of each realisation that nothing holds.
    objects: BTreeMap<Item, Vec<Item>>,
    /// How many realisations need an object that nothing holds.
    needed: HashMap<Item, usize>,
    /// When each was last used.
    last_use: HashMap<Item, i64>,
}

impl Candidates {
    /// Finds what is in stock and not marked.
    pub(super) fn find(
        store: &Store,
        stock: &BTreeMap<Item, Vec<PathBuf>>,
        marks: &Marks,
    ) -> Result<Self, FsError> {
        let mut found = Self::default();
        let unmarked = || stock.iter().filter(|(item, _)| !marks.contains_key(item));
        for (&item, paths) in unmarked() {
            let Item::Realisation(key) = item else { continue };
            let used = latest(store, paths, mtime_ns)?;
            let needed = needed_by(&store.sound_attempts(&key)?).into_iter().map(Item::Object);
            // Each once: a record may name one object several times.
            let needed: BTreeSet<Item> = needed
                .filter(|object| stock.contains_key(object) && !marks.contains_key(object))
                .collect();
            for &object in &needed {
                *found.needed.entry(object).or_default() += 1;
                let last_use = found.last_use.entry(object).or_insert(used);
                *last_use = (*last_use).max(used);
            }
            found.objects.insert(item, needed.into_iter().collect());
            found.last_use.insert(item, used);
            found.units.insert((used, item));
        }
        for (&item, paths) in unmarked() {
            if matches!(item, Item::Object(_)) && !found.needed.contains_key(&item) {
                let used = latest(store, paths, ctime_ns)?;
                found.last_use.insert(item, used);
                found.units.insert((used, item));
            }
        }
        Ok(found)
    }

    /// When something was last used, in seconds since 1970; `None` if it is held.
    pub(super) fn last_use(&self, item: &Item) -> Option<i64> {
        self.last_use.get(item).map(|used| used.div_euclid(1_000_000_000))
    }
}

/// The latest time of several files.
fn latest(
    store: &Store,
    paths: &[PathBuf],
    time: impl Fn(&std::fs::Metadata) -> i64,
) -> Result<i64, FsError> {
    let mut latest = i64::MIN;
    for path in paths {
        if let Some(metadata) = present(store.fs.lstat(path))? {
            latest = latest.max(time(&metadata));
        }
    }
    Ok(latest)
}

/// Chooses what goes, and why; takes it off the scales.
pub(super) fn choose(
    candidates: &Candidates,
    scales: &mut Scales,
    options: &GcOptions,
) -> BTreeMap<Item, Cause> {
    let since_ns = options.unused_since.map(|since| since.saturating_mul(1_000_000_000));
    let limited = options.keep_bytes.is_some() || since_ns.is_some();
    let mut needed = candidates.needed.clone();
    let mut going = BTreeMap::new();
    for &(used, unit) in &candidates.units {
        let cause = if !limited {
            Cause::Unheld
        } else if since_ns.is_some_and(|since| used < since) {
            Cause::Unused
        } else if options.keep_bytes.is_some_and(|most| scales.bytes_kept() > most) {
            Cause::OverBudget
        } else {
            // What follows was used later, and the rest fits.
            break;
        };
        let objects = candidates.objects.get(&unit).into_iter().flatten();
        let released = objects.filter(|object| {
            let left = needed.entry(**object).or_default();
            *left = left.saturating_sub(1);
            *left == 0
        });
        for item in released.copied().chain([unit]).collect::<Vec<_>>() {
            scales.take_off(&item);
            going.insert(item, cause);
        }
    }
    going
}
