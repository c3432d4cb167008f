//! What a project's builds were: for each step its recent keys, kept as a root.
//!
//! A project is a recipe at a place. Its root keeps the results of its last builds from the collector, and is what
//! explanations compare with. This module is unaware of how builds are made.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use kiln_cache::{Digest, Object, Root, RootError, Store};
use serde::{Deserialize, Serialize};

/// How the names of the roots begin.
const PREFIX: &str = "project/";

/// How many builds of a project are kept from the collector.
pub const KEPT_BUILDS: usize = 5;

/// How many different keys of a step are remembered for explanations.
const REMEMBERED_KEYS: usize = 10;

mod keys;

/// What is known of a project's earlier builds.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct History {
    /// The keys of each step, latest first, no two in a row the same.
    #[serde(default)]
    pub steps: BTreeMap<String, Vec<Digest>>,
    /// The keys of the last builds, latest first.
    #[serde(default)]
    builds: Vec<Vec<Digest>>,
    /// The keys of the last build, if it did not come to a good end: such builds do not push out good ones.
    #[serde(default)]
    unfinished: Vec<Digest>,
    /// The logs of steps whose last run failed.
    pub failures: BTreeMap<String, Failure>,
    /// The folder of the recipe, if its path is UTF-8: whether it is still there tells whether the project is.
    #[serde(default)]
    folder: Option<String>,
    #[serde(skip)]
    name: String,
    #[serde(skip)]
    label: String,
}

/// How a build ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every step has its result, and no gate rejected.
    Well,
    /// Something failed, was rejected, or was stopped.
    Otherwise,
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

/// A project whose folder is gone, but whose last builds are still kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Abandoned {
    /// The name of its root.
    #[serde(skip)]
    pub root: String,
    /// What the root says that it holds.
    pub label: String,
    /// The folder that is gone.
    pub folder: PathBuf,
}

/// The projects whose folders are gone. One that cannot be looked at is not gone.
///
/// # Errors
/// If a root cannot be read.
pub fn abandoned(store: &Store) -> Result<Vec<Abandoned>, RootError> {
    let found = store.roots()?.into_iter().filter_map(|(name, root)| {
        let folder = PathBuf::from(root.data.get("folder")?.as_str()?);
        let gone =
            folder.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
        (name.starts_with(PREFIX) && gone).then_some(Abandoned {
            root: name,
            label: root.label,
            folder,
        })
    });
    Ok(found.collect())
}

impl History {
    /// The history of the recipe called `recipe` in the folder `dir`.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn load(store: &Store, recipe: &str, dir: &Path) -> Result<Self, RootError> {
        let (name, dir) = Self::place(recipe, dir);
        let label = format!("the last builds of `{recipe}` in {}", dir.display());
        let mut history = Self::read(store, &name)?;
        history.name = name;
        history.label = label;
        history.folder = dir.to_str().map(str::to_owned);
        Ok(history)
    }

    /// The name of the root that holds the history of the recipe called `recipe` in the folder `dir`.
    pub fn root_name(recipe: &str, dir: &Path) -> String {
        Self::place(recipe, dir).0
    }

    /// The name of the root, and the folder without links on the way.
    fn place(recipe: &str, dir: &Path) -> (String, PathBuf) {
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        let place = format!("{recipe}\0{}", dir.display());
        let digest = Digest::of(place.as_bytes()).to_string();
        (format!("{PREFIX}{}", &digest[..32]), dir)
    }

    /// Takes in what another process noted since this was loaded.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn reload(&mut self, store: &Store) -> Result<(), RootError> {
        let (name, label) = (std::mem::take(&mut self.name), std::mem::take(&mut self.label));
        let folder = self.folder.take();
        *self = Self::read(store, &name)?;
        (self.name, self.label, self.folder) = (name, label, folder);
        Ok(())
    }

    /// Names this project, for locks.
    pub fn digest(&self) -> Digest {
        Self::owner(&self.name)
    }

    /// Names the project whose history is the root called `root`, for locks and sessions.
    pub fn owner(root: &str) -> Digest {
        Digest::of(root.as_bytes())
    }

    /// What is damaged is begun anew: it costs explanations, and what only earlier builds made may be collected.
    fn read(store: &Store, name: &str) -> Result<Self, RootError> {
        let why = match store.root(name) {
            Ok(Some(root)) => match Self::said_by(root) {
                Ok(history) => return Ok(history),
                Err(why) => why,
            },
            Ok(None) => return Ok(Self::default()),
            Err(error @ (RootError::Damaged { .. } | RootError::Changed(_))) => error.to_string(),
            Err(error) => return Err(error),
        };
        store
            .set_root_aside(name, &format!("the last builds of a project are not known: {why}"))?;
        Ok(Self::default())
    }

    /// What a root says, or what is wrong with it.
    fn said_by(root: Root) -> Result<Self, String> {
        let mut history: Self =
            serde_json::from_value(root.data).map_err(|error| error.to_string())?;
        // Without bytes it was written by an earlier version, which had all of it in the text.
        if !root.bytes.is_empty() {
            (history.steps, history.builds, history.unfinished) =
                keys::decode(&root.bytes).ok_or("its keys cannot be read")?;
        }
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

    /// Notes the keys of a build, and whether every step of it ended well. Whether that is news.
    pub fn note_build(&mut self, mut keys: Vec<Digest>, ended: Ended) -> bool {
        keys.sort_unstable();
        keys.dedup();
        if ended == Ended::Otherwise {
            let news = self.unfinished != keys;
            self.unfinished = keys;
            return news;
        }
        self.unfinished.clear();
        if self.builds.first() == Some(&keys) {
            return false;
        }
        self.builds.retain(|build| *build != keys);
        self.builds.insert(0, keys);
        self.builds.truncate(KEPT_BUILDS);
        true
    }

    /// Notes that what it names is still of use, though nothing in it is new.
    ///
    /// # Errors
    /// If its name cannot be that of a root.
    pub fn touch(&self, store: &Store) -> Result<(), RootError> {
        store.touch_root(&self.name)
    }

    /// Writes it down, as the root that keeps what it names.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn save(&self, store: &Store, now_seconds: i64) -> Result<(), RootError> {
        let latest = self.steps.values().filter_map(|keys| keys.first());
        let builds = self.builds.iter().flatten();
        let mut keys: Vec<Digest> = builds.chain(&self.unfinished).chain(latest).copied().collect();
        keys.sort_unstable();
        keys.dedup();
        let text = serde_json::json!({ "folder": self.folder, "failures": self.failures });
        let root = Root {
            label: self.label.clone(),
            keys,
            objects: self.failures.values().filter_map(|failure| failure.log).collect(),
            data: text,
            bytes: keys::encode(&self.steps, &self.builds, &self.unfinished),
            at: now_seconds,
        };
        store.set_root(&self.name, &root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Digest {
        Digest::of(&number.to_le_bytes())
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        (folder, store)
    }

    #[test]
    fn a_history_that_was_saved_is_read_again() {
        let (folder, store) = store();
        let mut history = History::load(&store, "r", folder.path()).unwrap();
        assert_eq!(history.latest("a"), None);
        assert!(history.note("a", key(1)) && history.note_build(vec![key(1)], Ended::Well));
        history.note_failure("b", Failure { reason: "why".into(), log: None, at_ms: 3 });
        history.save(&store, 7).unwrap();
        let read = History::load(&store, "r", folder.path()).unwrap();
        assert_eq!(read.latest("a"), Some(key(1)));
        assert_eq!(read.failures["b"].reason, "why");
        assert_eq!(History::load(&store, "other", folder.path()).unwrap().latest("a"), None);
        let elsewhere = tempfile::tempdir().unwrap();
        assert_eq!(History::load(&store, "r", elsewhere.path()).unwrap().latest("a"), None);
    }

    #[test]
    fn a_history_that_an_earlier_version_wrote_as_text_is_read() {
        let (folder, store) = store();
        let name = History::root_name("r", folder.path());
        let (one, two) = (key(1).to_string(), key(2).to_string());
        let data = serde_json::json!({
            "steps": { "a": [one, two] }, "builds": [[two]], "unfinished": [], "failures": {}, "folder": null
        });
        let (keys, objects) = (vec![key(1)], Vec::new());
        let root = Root { label: "l".into(), keys, objects, data, bytes: Vec::new(), at: 7 };
        store.set_root(&name, &root).unwrap();
        let mut history = History::load(&store, "r", folder.path()).unwrap();
        assert_eq!(history.steps["a"], [key(1), key(2)]);
        assert!(!history.note_build(vec![key(2)], Ended::Well), "that build is known");
        history.save(&store, 8).unwrap();
        assert_eq!(History::load(&store, "r", folder.path()).unwrap().steps, history.steps);
    }

    #[test]
    fn going_back_to_an_old_key_makes_it_the_latest_and_keeps_the_other() {
        let mut history = History::default();
        history.note("a", key(1));
        history.note("a", key(2));
        assert!(history.note("a", key(1)));
        assert!(!history.note("a", key(1)), "the same again is no news");
        assert_eq!(history.steps["a"], [key(1), key(2)]);
        assert_eq!(history.previous("a", Some(key(1))), Some(key(2)));
        assert_eq!(history.previous("a", Some(key(3))), Some(key(1)));
        assert_eq!(history.previous("a", None), Some(key(1)));
        assert_eq!(history.previous("b", None), None);
    }

    #[test]
    fn a_step_that_succeeds_again_has_failed_no_more() {
        let mut history = History::default();
        history.note("a", key(1));
        history.note_failure("a", Failure { reason: "why".into(), log: None, at_ms: 0 });
        assert!(history.note("a", key(1)), "that it no longer fails is news");
        assert!(history.failures.is_empty());
    }

    #[test]
    fn the_collector_keeps_the_last_builds_and_the_logs_of_failures() {
        let (folder, store) = store();
        let mut history = History::load(&store, "r", folder.path()).unwrap();
        let log = store.put_bytes(b"log").unwrap();
        for build in 0..KEPT_BUILDS + 2 {
            assert!(history.note_build(vec![key(build), key(100), key(100)], Ended::Well));
        }
        assert!(
            !history.note_build(vec![key(100), key(KEPT_BUILDS + 1)], Ended::Well),
            "the order of keys does not matter"
        );
        history.note_failure("a", Failure { reason: "why".into(), log: Some(log), at_ms: 0 });
        history.save(&store, 7).unwrap();
        let root = store.root(&history.name).unwrap().unwrap();
        let mut kept: Vec<Digest> = (2..KEPT_BUILDS + 2).map(key).chain([key(100)]).collect();
        kept.sort_unstable();
        assert_eq!(root.keys, kept);
        assert_eq!(root.objects, [log]);
        assert!(root.label.contains("`r`"), "{}", root.label);
    }

    #[test]
    fn a_project_is_abandoned_when_its_folder_is_gone() {
        let (folder, store) = store();
        let (here, there) = (folder.path().join("here"), folder.path().join("there"));
        for dir in [&here, &there] {
            std::fs::create_dir(dir).unwrap();
            let mut history = History::load(&store, "r", dir).unwrap();
            history.note("a", key(1));
            history.save(&store, 7).unwrap();
        }
        let data = serde_json::json!({ "folder": "/no/such/folder" });
        let other = Root {
            label: "mine".into(),
            keys: vec![],
            objects: vec![],
            data,
            bytes: vec![],
            at: 7,
        };
        store.set_root("pin/mine", &other).unwrap();
        assert_eq!(abandoned(&store).unwrap(), []);
        std::fs::remove_dir(&there).unwrap();
        let found = abandoned(&store).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].folder.ends_with("there") && found[0].label.contains("there"),
            "{found:?}"
        );
        assert!(store.remove_root(&found[0].root).unwrap());
        assert_eq!(History::load(&store, "r", &here).unwrap().latest("a"), Some(key(1)));
    }

    #[test]
    fn only_so_many_keys_are_remembered() {
        let mut history = History::default();
        (0..REMEMBERED_KEYS + 5).for_each(|number| assert!(history.note("a", key(number))));
        assert_eq!(history.steps["a"].len(), REMEMBERED_KEYS);
        assert_eq!(history.latest("a"), Some(key(REMEMBERED_KEYS + 4)));
    }
}
