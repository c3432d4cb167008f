//! What is taken away leaves a tombstone, and what comes again loses its own.
//!
//! One file for each first byte of a digest. All of it is derived: a tombstone that is lost costs a
//! sentence and nothing else, and one whose thing is there again says nothing any more. Unaware of
//! how the collector chooses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::fsio::{FsError, present};
use crate::item::Item;
use crate::lock;
use crate::realisation::Realisation;
use crate::store::Store;
use crate::tombstone::{self, Cause, PER_FILE, Tombstone};

impl Store {
    /// What is known of something that is not in the store any more. `None` if it is there, if
    /// nobody took it away, or if that is forgotten.
    #[must_use]
    pub fn tombstone(&self, item: &Item) -> Option<Tombstone> {
        let shard = item.digest().as_bytes()[0];
        // The latest one is the last.
        let found = self.tombstones(shard).iter().rev().find(|one| one.item == *item).copied();
        found.filter(|_| !self.is_there(item))
    }

    /// Notes that these were taken away. A failure is only told: nobody depends on tombstones.
    pub(crate) fn bury(&self, items: impl IntoIterator<Item = (Item, Cause)>) {
        let mut by_shard: BTreeMap<u8, Vec<(Item, Cause)>> = BTreeMap::new();
        for (item, cause) in items {
            by_shard.entry(item.digest().as_bytes()[0]).or_default().push((item, cause));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        for (shard, items) in by_shard {
            let new = items.into_iter().map(|(item, cause)| Tombstone { item, at, cause });
            let new: Vec<Tombstone> = new.collect();
            if let Err(error) = self.rewrite(shard, &BTreeSet::new(), &new) {
                let what = format!("what was removed could not be noted there: {}", error.told());
                self.notice(&self.layout.tombstones(shard), what);
                return;
            }
        }
    }

    /// Takes away the tombstones of what a record makes whole again.
    pub(crate) fn unbury(&self, realisation: &Realisation) {
        let outputs = realisation.outputs.iter().filter(|output| output.alias.is_none());
        let objects = outputs.map(|output| Item::Object(output.object));
        let mut stale: BTreeMap<u8, BTreeSet<Item>> = BTreeMap::new();
        for item in objects.chain([Item::Realisation(realisation.key)]) {
            let shard = item.digest().as_bytes()[0];
            if self.tombstones(shard).iter().any(|one| one.item == item) {
                stale.entry(shard).or_default().insert(item);
            }
        }
        for (shard, items) in stale {
            // One that stays says nothing while its thing is there.
            let _ = self.rewrite(shard, &items, &[]);
        }
    }

    /// Replaces a file of tombstones: without `stale` and without those whose things are there,
    /// and with the new ones.
    fn rewrite(&self, shard: u8, stale: &BTreeSet<Item>, new: &[Tombstone]) -> Result<(), FsError> {
        let _writers = lock::tombstones(&self.fs, &self.layout)?;
        let before = self.tombstones(shard);
        let replaced: BTreeSet<Item> = new.iter().map(|one| one.item).collect();
        let stays = |one: &&Tombstone| {
            !stale.contains(&one.item) && !replaced.contains(&one.item) && !self.is_there(&one.item)
        };
        let mut after: Vec<Tombstone> = before.iter().filter(stays).copied().collect();
        // Somebody may have made it again since it was taken away.
        after.extend(new.iter().filter(|one| !self.is_there(&one.item)));
        after.drain(..after.len().saturating_sub(PER_FILE));
        if after == *before {
            return Ok(());
        }
        let path = self.layout.tombstones(shard);
        if after.is_empty() {
            return present(self.fs.remove_file(&path)).map(drop);
        }
        let frame = tombstone::encode(&after);
        self.staging.write(&self.fs, &self.layout, &path, &frame)
    }

    /// The tombstones in one file, in the order in which they were written; none if it cannot be
    /// read.
    fn tombstones(&self, shard: u8) -> Arc<Vec<Tombstone>> {
        let path = self.layout.tombstones(shard);
        let Ok(metadata) = self.fs.lstat(&path) else { return Arc::default() };
        let read = || tombstone::decode(&self.fs.read(&path).unwrap_or_default());
        self.tombstones_read.get(shard, &metadata, read)
    }

    /// Whether the thing itself is in the store. One look at a name.
    fn is_there(&self, item: &Item) -> bool {
        match item {
            Item::Object(object) => self.contains(object),
            Item::Realisation(key) => self.fs.lstat(&self.layout.realisation(key)).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn store() -> (tempfile::TempDir, Store) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        (home, store)
    }

    /// An item whose digest begins with 0.
    fn item(number: u32) -> Item {
        let mut bytes = [0; 32];
        bytes[28..].copy_from_slice(&number.to_be_bytes());
        Item::Realisation(Digest::from_bytes(bytes))
    }

    #[test]
    fn only_so_many_are_kept_and_the_latest_stay() {
        let (_home, store) = store();
        let last = 2 * PER_FILE as u32;
        for number in 0..=last {
            store.bury([(item(number), Cause::Unheld)]);
        }
        assert_eq!(store.tombstone(&item(0)), None);
        let first = last + 1 - PER_FILE as u32;
        assert_eq!(store.tombstone(&item(first - 1)), None);
        assert_eq!(store.tombstone(&item(first)).unwrap().cause, Cause::Unheld);
        store.bury([(item(first), Cause::Damaged)]);
        assert_eq!(store.tombstone(&item(first)).unwrap().cause, Cause::Damaged);
        assert_eq!(store.tombstones(0).len(), PER_FILE);
        store.bury((0..1000).map(|number| (item(number), Cause::Unused)));
        assert_eq!(store.tombstones(0).len(), PER_FILE);
        assert_eq!(store.take_notices(), []);
    }

    #[test]
    fn what_is_there_has_no_tombstone() {
        let (_home, store) = store();
        let object = store.put_bytes(b"abc").unwrap();
        let item = Item::Object(object);
        store.bury([(item, Cause::Unheld)]);
        assert_eq!(store.tombstone(&item), None);
        std::fs::remove_file(store.path(&object)).unwrap();
        assert_eq!(store.tombstone(&item), None, "what was there was not buried");
        store.bury([(item, Cause::Unheld)]);
        assert!(store.tombstone(&item).is_some());
        store.put_bytes(b"abc").unwrap();
        assert_eq!(store.tombstone(&item), None);
    }

    #[test]
    fn lost_and_damaged_files_harm_nothing() {
        let (_home, store) = store();
        store.bury([(item(1), Cause::Unheld)]);
        let path = store.layout.tombstones(0);
        for damage in [&b""[..], b"KLNT", &[0x5a; 300]] {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, damage).unwrap();
            assert_eq!(store.tombstone(&item(1)), None);
            store.bury([(item(2), Cause::Unheld)]);
            assert!(store.tombstone(&item(2)).is_some());
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(store.tombstone(&item(2)), None);
        std::fs::create_dir(&path).unwrap();
        store.bury([(item(1), Cause::Unheld)]);
        assert_eq!(store.take_notices().len(), 1);
        assert_eq!(store.tombstone(&item(1)), None);
    }
}
