//! What a project must remember of its builds, and what the collector therefore has to leave it.

use std::collections::{BTreeMap, BTreeSet};

use kiln_cache::Digest;

/// See the module.
#[derive(Default)]
pub struct Memory {
    /// What each step read, by name, the latest first, none twice.
    steps: BTreeMap<String, Vec<String>>,
    /// The keys of good builds, the latest first, none twice.
    good: Vec<BTreeSet<Digest>>,
    /// The keys of the last build, if it was not good.
    bad: BTreeSet<Digest>,
    /// The latest key of each step.
    latest: BTreeMap<String, Digest>,
}

impl Memory {
    /// Takes in a build: for each step with a result what it read, and its key.
    pub fn note(&mut self, results: &BTreeMap<String, (String, Digest)>, good: bool) {
        for (step, (readings, key)) in results {
            let known = self.steps.entry(step.clone()).or_default();
            known.retain(|other| other != readings);
            known.insert(0, readings.clone());
            known.truncate(10);
            self.latest.insert(step.clone(), *key);
        }
        let keys: BTreeSet<Digest> = results.values().map(|(_, key)| *key).collect();
        if !good {
            self.bad = keys;
            return;
        }
        self.bad.clear();
        self.good.retain(|other| *other != keys);
        self.good.insert(0, keys);
        self.good.truncate(5);
    }

    /// The keys that the collector has to leave.
    pub fn kept(&self) -> BTreeSet<Digest> {
        self.good.iter().flatten().chain(&self.bad).chain(self.latest.values()).copied().collect()
    }

    /// Whether `step` read just this when it was built last.
    pub fn is_latest(&self, step: &str, readings: &str) -> bool {
        self.steps.get(step).and_then(|known| known.first()).is_some_and(|last| last == readings)
    }

    /// What `step` read when it was built last and read something else than now.
    pub fn previous(&self, step: &str, readings: &str) -> Option<&String> {
        self.steps.get(step)?.iter().find(|other| *other != readings)
    }
}
