//! What happens to a store between two builds.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use kiln_cache::{Digest, GcOptions, Object};

use crate::{
    chance::Chance,
    ledger::{Entry, record},
    world::{World, writable},
};

impl World {
    /// Something happens to the store, or nothing; says what.
    pub fn damage(&mut self, chance: &mut Chance, site: usize) -> String {
        match chance.below(24) {
            0..=4 => self.lose_object(chance),
            5 | 6 => self.lose_record(chance),
            7 => self.damage_record(chance),
            8 | 9 => {
                let options = GcOptions {
                    keep_bytes: chance.once_in(3).then(|| chance.next() % 50_000),
                    unused_since: chance.once_in(3).then_some(i64::MAX),
                    ..GcOptions::default()
                };
                self.collect(options);
                format!("the collector runs beside an open store: {options:?}")
            }
            10 | 11 => {
                self.reopen(|_| {});
                self.collect_exactly();
                "the collector runs alone".into()
            }
            12 => {
                self.sites[site].touch(chance);
                "a file is written again as it is".into()
            }
            13 => {
                self.reopen(|_| {});
                "the store is opened again".into()
            }
            14 => {
                self.reopen(|home| fs::remove_dir_all(home.join("index")).unwrap());
                "the index is lost".into()
            }
            15 if chance.once_in(4) => {
                // Times of files become old enough to be trusted.
                std::thread::sleep(Duration::from_millis(25));
                "some time passes".into()
            }
            _ => "no damage".into(),
        }
    }

    fn lose_object(&self, chance: &mut Chance) -> String {
        let objects: BTreeSet<Object> =
            self.ledger.entries().flat_map(|entry| entry.own.values().copied()).collect();
        let objects: Vec<Object> = objects.into_iter().collect();
        let Some(object) = chance.pick(&objects) else { return "nothing to lose".into() };
        let path = self.store().path(object);
        if path.is_dir() && chance.once_in(3) {
            remove(&path.with_extension("tree"));
            return format!("the listing of {object} is lost");
        }
        remove(&path);
        format!("{object} is lost")
    }

    fn keys(&self) -> Vec<Digest> {
        let keys: BTreeSet<Digest> = self.ledger.entries().map(|entry| entry.key).collect();
        keys.into_iter().collect()
    }

    fn lose_record(&mut self, chance: &mut Chance) -> String {
        let keys = self.keys();
        let Some(key) = chance.pick(&keys) else { return "nothing to lose".into() };
        let path = record(self.store().home(), key);
        self.lose_earlier(&path);
        remove(&path);
        self.ledger.strike(&BTreeSet::from([*key]));
        format!("the record of {key} is lost")
    }

    /// Removes the attempts before the record at `path`: what they made would be kept in its stead.
    fn lose_earlier(&self, path: &Path) {
        let prefix = format!("{}.", path.file_name().unwrap().display());
        for entry in fs::read_dir(path.parent().unwrap()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                remove(&entry.path());
            }
        }
    }

    fn damage_record(&mut self, chance: &mut Chance) -> String {
        let keys = self.keys();
        let Some(key) = chance.pick(&keys) else { return "nothing to damage".into() };
        let path = record(self.store().home(), key);
        self.lose_earlier(&path);
        let mut bytes = fs::read(&path).unwrap();
        let at = chance.below(bytes.len());
        bytes[at] ^= 1 << chance.below(8);
        remove(&path);
        fs::write(&path, bytes).unwrap();
        self.ledger.strike(&BTreeSet::from([*key]));
        format!("a bit of the record of {key} flips")
    }

    /// Collects. What the projects remember must stay.
    fn collect(&mut self, options: GcOptions) {
        let kept: BTreeSet<Digest> =
            self.sites.iter().flat_map(|site| site.memory.kept()).collect();
        let held = self.ledger.entries().filter(|entry| kept.contains(&entry.key));
        let held: Vec<&Entry> = held.collect();
        let there = self.present(held.iter().flat_map(|entry| entry.own.values()));
        self.store().gc(options).unwrap();
        let home = self.store().home();
        for entry in held {
            assert!(record(home, &entry.key).exists(), "the collector took what is remembered");
            for object in entry.own.values().filter(|object| there.contains(object)) {
                let path = self.store().path(object);
                assert!(path.exists(), "the collector took {object}, which is remembered");
            }
        }
        let gone = self.keys().into_iter().filter(|key| !record(home, key).exists()).collect();
        self.ledger.strike(&gone);
    }

    /// Collects while nobody else has the store: what nobody remembers must go.
    fn collect_exactly(&mut self) {
        let own = self.ledger.entries().flat_map(|entry| entry.own.values().copied());
        let own: BTreeSet<Object> = own.collect();
        self.collect(GcOptions::default());
        let kept: BTreeSet<Digest> =
            self.sites.iter().flat_map(|site| site.memory.kept()).collect();
        let mut needed: BTreeSet<Object> = BTreeSet::new();
        for entry in self.ledger.entries() {
            assert!(kept.contains(&entry.key), "the collector left what nobody remembers");
            needed.extend(&entry.outputs);
        }
        let left = self.present(own.difference(&needed));
        assert!(left.is_empty(), "the collector left what nobody remembers: {left:?}");
    }
}

/// Removes a file or a folder behind the store's back.
pub fn remove(path: &Path) {
    let Ok(meta) = path.symlink_metadata() else { return };
    if meta.is_dir() {
        writable(path);
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}
