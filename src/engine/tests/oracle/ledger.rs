//! What a store must have on record, by what was read: kept by the oracle, never asked of the engine.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use kiln_cache::{Digest, Isolation, Object};

use crate::told::Told;

/// A result on record.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Digest,
    pub isolation: Isolation,
    /// Outputs with bytes of their own.
    pub own: BTreeMap<String, Object>,
    /// All outputs, those too that are what it read.
    pub outputs: BTreeSet<Object>,
    /// What its manifest says, in the words of the step that made it.
    pub told: Told,
}

/// See the module.
#[derive(Default)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
    struck: BTreeSet<String>,
}

impl Ledger {
    /// What is on record for these readings.
    pub fn get(&self, readings: &str) -> Option<&Entry> {
        self.entries.get(readings)
    }

    /// Notes a result.
    pub fn note(&mut self, readings: &str, entry: Entry) {
        self.entries.insert(readings.to_owned(), entry);
    }

    /// All of it.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Strikes out what a store no longer has.
    pub fn strike(&mut self, keys: &BTreeSet<Digest>) {
        let gone = self.entries.extract_if(.., |_, entry| keys.contains(&entry.key));
        self.struck.extend(gone.map(|(readings, _)| readings));
    }

    /// Whether this was on record at some time: the store may tell what became of it, or of an attempt before.
    pub fn was_struck(&self, readings: &str) -> bool {
        self.struck.contains(readings)
    }
}

/// Where the record under `key` lies in the store in `home`.
pub fn record(home: &Path, key: &Digest) -> PathBuf {
    let hex = key.to_string();
    home.join("realisations").join(&hex[..2]).join(hex)
}
