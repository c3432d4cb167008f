//! What a project's builds were: for each step its recent keys, kept as a root.
//!
//! A project is a recipe at a place. Its root keeps the results of its last builds from the collector, and is what
//! explanations compare with. This module is unaware of how builds are made.

use std::{collections::BTreeMap, path::Path};

use kiln_cache::{Digest, Object, Root, RootError, Store};
use serde::{Deserialize, Serialize};

/// How many builds of a project are kept from the collector.
pub const KEPT_BUILDS: usize = 5;

/// How many different keys of a step are remembered for explanations.
const REMEMBERED_KEYS: usize = 10;

/// What is known of a project's earlier builds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// The keys of each step, latest first, no two in a row the same.
    pub steps: BTreeMap<String, Vec<Digest>>,
    /// The keys of the last builds, latest first.
    builds: Vec<Vec<Digest>>,
    /// The logs of steps whose last run failed.
    pub failures: BTreeMap<String, Failure>,
    /// The steps whose last run a verdict rejected or accepted are not here: verdicts are results, kept with them.
    #[serde(skip)]
    name: String,
    #[serde(skip)]
    label: String,
}

/// The last run of a step, which failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Why.
    pub reason: String,
    /// What it printed.
    pub log: Option<Object>,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

impl History {
    /// The history of the recipe called `recipe` in the folder `dir`.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn load(store: &Store, recipe: &str, dir: &Path) -> Result<Self, RootError> {
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let place = format!("{recipe}\0{}", dir.display());
        let digest = Digest::of(place.as_bytes()).to_string();
        let name = format!("project/{}", &digest[..32]);
        let label = format!("the last builds of `{recipe}` in {}", dir.display());
        let mut history: Self = match store.root(&name)? {
            Some(root) => serde_json::from_value(root.data).unwrap_or_default(),
            None => Self::default(),
        };
        history.name = name;
        history.label = label;
        Ok(history)
    }

    /// The latest key under which `step` was built that is not `current`.
    pub fn previous(&self, step: &str, current: Option<Digest>) -> Option<Digest> {
        self.steps.get(step)?.iter().copied().find(|&key| Some(key) != current)
    }

    /// The latest key of `step`.
    pub fn latest(&self, step: &str) -> Option<Digest> {
        self.steps.get(step)?.first().copied()
    }

    /// Notes that `step` now has `key`. Whether that is news.
    pub fn note(&mut self, step: &str, key: Digest) -> bool {
        let failed = self.failures.remove(step).is_some();
        let keys = self.steps.entry(step.to_owned()).or_default();
        if keys.first() == Some(&key) {
            return failed;
        }
        keys.retain(|&other| other != key);
        keys.insert(0, key);
        keys.truncate(REMEMBERED_KEYS);
        true
    }

    /// Notes that `step` failed.
    pub fn note_failure(&mut self, step: &str, failure: Failure) {
        self.failures.insert(step.to_owned(), failure);
    }

    /// Notes the keys of a build. Whether that is news.
    pub fn note_build(&mut self, mut keys: Vec<Digest>) -> bool {
        keys.sort_unstable();
        keys.dedup();
        if self.builds.first() == Some(&keys) {
            return false;
        }
        self.builds.retain(|build| *build != keys);
        self.builds.insert(0, keys);
        self.builds.truncate(KEPT_BUILDS);
        true
    }

    /// Writes it down, as the root that keeps what it names.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn save(&self, store: &Store, now_seconds: i64) -> Result<(), RootError> {
        let mut keys: Vec<Digest> = self.builds.iter().flatten().copied().collect();
        keys.sort_unstable();
        keys.dedup();
        let data = serde_json::to_value(self).expect("a history's maps have text keys");
        let root = Root {
            label: self.label.clone(),
            keys,
            objects: self.failures.values().filter_map(|failure| failure.log).collect(),
            data,
            at: now_seconds,
        };
        store.set_root(&self.name, &root)
    }
}
