//! One store and the recipes that share it; builds that are held against the expectation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use kiln_cache::{Digest, Object, Root, Store, Trust};
use kiln_engine::{
    diagnostic::SourceText,
    event::{How, StepReport},
    graph::{Graph, StepId},
    plan,
    project::Ended,
    realise::{self, Built, Options},
    recipe,
    resolve::{BuildError, Context, default_targets},
    sandbox::Cancel,
    schedule::Capacity,
    source::{Pointers, Reader, SNAPSHOT_FILES, SNAPSHOT_LIMIT},
    surroundings::Surroundings,
};

use crate::{
    builders::CATALOGUE,
    draft::{Draft, PART},
    expectation::{Expected, Fate},
    fake::{Fake, Ran},
    judge::Judged,
    ledger::Ledger,
    needs::Before,
    request::Request,
    site::Site,
};

/// See the module.
pub struct World {
    pub root: tempfile::TempDir,
    store: Option<Store>,
    pub sites: Vec<Site>,
    pub ledger: Ledger,
    pub fake: Fake,
    /// Large sources are read where they lie.
    in_place: bool,
    /// What each key that was ever seen stands for, and the other way round.
    readings: BTreeMap<Digest, String>,
    keys: BTreeMap<String, Digest>,
}

/// What came of a build that was as it had to be.
pub struct Outcome {
    pub ran: Vec<Ran>,
    pub reports: BTreeMap<String, StepReport>,
    /// Everything has its result.
    pub whole: bool,
}

struct Live {
    production: Option<Object>,
    staging: Option<Object>,
}

impl Pointers for Live {
    fn current(&self, _: &str, deployment: &str) -> Result<Option<Object>, String> {
        Ok(if deployment == "production" { self.production } else { self.staging })
    }
}

fn memory_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = PathBuf::from("/dev/shm");
        let usable = tempfile::tempdir_in(&memory).is_ok();
        if usable { memory } else { std::env::temp_dir() }
    })
}

/// What all worlds share: looking the host up is slow.
pub fn surroundings() -> &'static Surroundings {
    static SURROUNDINGS: OnceLock<(tempfile::TempDir, Surroundings)> = OnceLock::new();
    let (_, surroundings) = SURROUNDINGS.get_or_init(|| {
        let cache = tempfile::tempdir().unwrap();
        let surroundings =
            Surroundings::new(BTreeMap::new(), cache.path().into(), cache.path().into());
        (cache, surroundings)
    });
    surroundings
}

impl World {
    /// An empty store, and a recipe.
    pub fn new(in_place: bool, draft: Draft) -> Self {
        let mut prefix = tempfile::Builder::new();
        let root = prefix.prefix("kiln-oracle-").tempdir_in(memory_folder()).unwrap();
        let store = Store::open(&root.path().join("store")).unwrap();
        let mut world = Self {
            root,
            store: Some(store),
            sites: Vec::new(),
            ledger: Ledger::default(),
            fake: Fake::new(),
            in_place,
            readings: BTreeMap::new(),
            keys: BTreeMap::new(),
        };
        world.settle_in(draft);
        world
    }

    /// One more recipe beside the store.
    pub fn settle_in(&mut self, draft: Draft) {
        let folder = self.root.path().join(format!("recipe{}", self.sites.len()));
        let site = Site::new(self.store(), folder, draft);
        self.sites.push(site);
    }

    /// The store.
    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("it is closed only while it is opened again")
    }

    /// Closes the store, lets `meanwhile` have its folder, and opens it again.
    pub fn reopen(&mut self, meanwhile: impl FnOnce(&Path)) {
        let home = self.store().home().to_owned();
        self.store = None;
        meanwhile(&home);
        self.store = Some(Store::open(&home).unwrap());
        let store = self.store.as_ref().expect("it was just opened");
        for site in &mut self.sites {
            site.history.reload(store).unwrap();
        }
    }

    /// Which of these are in the store.
    pub fn present<'a>(&self, objects: impl IntoIterator<Item = &'a Object>) -> BTreeSet<Object> {
        let store = self.store();
        let there = objects.into_iter().filter(|object| store.path(object).exists());
        there.copied().collect()
    }

    fn live(&self, draft: &Draft) -> Live {
        let store = self.store();
        let production = draft.live.map(|text| store.put_bytes(text.as_bytes()).unwrap());
        let staging = draft.staged.map(|text| {
            let part = store.put_bytes(text.as_bytes()).unwrap();
            store.compose_tree(vec![(PART.to_owned(), part)]).unwrap().object
        });
        let objects = production.into_iter().chain(staging).collect();
        let data = serde_json::Value::Null;
        let root = Root {
            label: "deployed".into(),
            keys: Vec::new(),
            objects,
            data,
            bytes: Vec::new(),
            at: 0,
        };
        store.set_root("deployed", &root).unwrap();
        Live { production, staging }
    }

    /// Builds, and holds everything that came of it against the expectation. `None` if a source is gone.
    pub fn build(&mut self, site: usize, request: &Request) -> Option<Outcome> {
        let draft = request.applied(&self.sites[site].draft);
        let text = SourceText { name: "kiln.toml".into(), text: self.sites[site].draft.toml() };
        let sets: Vec<_> = request.sets.iter().map(|setting| setting.pair()).collect();
        let graph = recipe::evaluate(&Arc::new(text), &CATALOGUE, &sets)
            .unwrap_or_else(|problems| panic!("a sound recipe is refused: {problems:?}"));
        let options = options(&graph, request);
        self.fake.flaky.clone_from(&request.flaky);
        self.fake.hiccups.lock().unwrap().clone_from(&request.hiccups);
        self.fake.isolation = request.isolation;
        let pointers = self.live(&draft);
        let store = self.store();
        let reader = Reader {
            store,
            root: &self.sites[site].folder,
            recipe: "oracle",
            pointers: &pointers,
            trust: Trust::Cached,
            snapshot_limit: if self.in_place { 4 } else { SNAPSHOT_LIMIT },
            snapshot_files: SNAPSHOT_FILES,
        };
        let cancel = Cancel::new().unwrap();
        let context = Context {
            graph: &graph,
            store,
            reader: &reader,
            surroundings: surroundings(),
            executor: &self.fake,
            history: &self.sites[site].history,
            numbers: &(),
            cancel: &cancel,
        };
        let closure = draft.closure(&request.asked(&draft));
        let mut expected = Expected::new(&draft, &closure, &BTreeMap::new());
        let own: Vec<Object> =
            closure.iter().flat_map(|&at| expected.own(at).into_values()).collect();
        let present = self.present(&own);
        let planned = plan::plan(&context, &options);
        assert!(self.fake.take().is_empty(), "a plan ran something");
        let built = realise::build(&context, &options, &mut |_| {});
        let ran = self.fake.take();
        if !closure.iter().all(|&at| draft.is_readable(at)) {
            assert!(matches!(built, Err(BuildError::Recipe(_))), "a source is gone");
            assert!(ran.is_empty(), "a step ran though a source is gone: {ran:?}");
            return None;
        }
        let (planned, built) = (planned.unwrap(), built.unwrap());
        let reports: BTreeMap<String, StepReport> =
            built.report.steps.iter().map(|report| (report.step.clone(), report.clone())).collect();
        if draft.wobbles() {
            expected = Expected::new(&draft, &closure, &reports);
        }
        let before =
            Before { expected: &expected, request, ledger: &self.ledger, present: &present };
        let memory = &self.sites[site].memory;
        let in_place = self.in_place;
        let judged = Judged {
            before: &before,
            graph: &graph,
            reports: &reports,
            ran: &ran,
            memory,
            in_place,
        };
        judged.all(&planned, &built);
        let recorded = judged.recorded();
        self.pair_up(&expected, &reports);
        for (readings, entry) in recorded {
            self.ledger.note(&readings, entry);
        }
        if request.remember {
            self.remember(site, &graph, &built);
        }
        let whole = expected.fates.values().all(|fate| matches!(fate, Fate::Made { .. }))
            && reports.values().all(|report| matches!(report.how, How::Ran | How::Reused));
        Some(Outcome { ran, reports, whole })
    }

    /// Equal readings have equal keys, and different ones different keys.
    fn pair_up(&mut self, expected: &Expected<'_>, reports: &BTreeMap<String, StepReport>) {
        for (&at, fate) in &expected.fates {
            let key = reports[&expected.draft.steps[at].name].action_key;
            let (Some(readings), Some(key)) = (fate.readings(), key) else { continue };
            let known = self.readings.entry(key).or_insert_with(|| readings.to_owned());
            assert_eq!(known, readings, "one key for two sets of inputs");
            let known = *self.keys.entry(readings.to_owned()).or_insert(key);
            assert_eq!(known, key, "two keys for the same inputs: {readings}");
        }
    }

    /// Notes a build as the program does.
    fn remember(&mut self, site: usize, graph: &Graph, built: &Built) {
        let Site { history, memory, .. } = &mut self.sites[site];
        let mut results = BTreeMap::new();
        for (&step, result) in &built.results {
            let name = &graph.step(step).name;
            history.note(name, result.key);
            results.insert(name.clone(), (self.readings[&result.key].clone(), result.key));
        }
        let good = !built.report.failed() && !built.report.rejected();
        memory.note(&results, good);
        let keys = built.results.values().map(|result| result.key).collect();
        history.note_build(keys, if good { Ended::Well } else { Ended::Otherwise });
        history.save(self.store.as_ref().expect("it is open"), 0).unwrap();
    }
}

fn options(graph: &Graph, request: &Request) -> Options {
    let find = |names: &[String]| -> Vec<StepId> {
        names.iter().filter_map(|name| graph.find(name)).collect()
    };
    let targets = find(&request.targets);
    Options {
        targets: if targets.is_empty() { default_targets(graph) } else { targets },
        gpus: std::sync::Arc::default(),
        capacity: Capacity { cpus: request.jobs, memory: 1 << 30, gpus: 0 },
        keep_going: request.keep_going,
        again: find(&request.again).into_iter().collect(),
        check: find(&request.check).into_iter().collect(),
        locate_all: false,
    }
}

impl Drop for World {
    fn drop(&mut self) {
        writable(self.root.path());
    }
}

/// What the store holds is read-only, folders too.
pub fn writable(folder: &Path) {
    let Ok(meta) = folder.symlink_metadata() else { return };
    if meta.is_dir() {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            writable(&entry.path());
        }
    }
}
