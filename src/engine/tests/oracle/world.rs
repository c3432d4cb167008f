//! A recipe on disk, a store, and builds of it that are held against the expectation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use kiln_cache::{Digest, GcOptions, Object, Realisation, Root, Store, Trust};
use kiln_engine::{
    diagnostic::SourceText,
    event::{How, StepReport, VerdictWord},
    explain::Reason,
    graph::{Graph, Reference, StepId},
    plan::{self, Outlook},
    project::{Ended, History},
    realise::{self, Options},
    recipe,
    resolve::{Context, closure, default_targets},
    sandbox::Cancel,
    schedule::Capacity,
    source::{Pointers, Reader, SNAPSHOT_LIMIT},
    surroundings::Surroundings,
};

use crate::{
    builders::CATALOGUE,
    chance::Chance,
    draft::{Draft, FileDraft, SourceDraft},
    expectation::{Fate, expected},
    fake::{Fake, Ran},
};

/// A recipe's folder and a store.
pub struct World {
    root: tempfile::TempDir,
    store: Store,
    history: History,
    /// The files as they are on disk.
    written: BTreeMap<String, FileDraft>,
    fake: Fake,
    /// Large sources are read where they lie.
    in_place: bool,
    /// What each key that was ever seen stands for, and the other way round.
    readings: BTreeMap<Digest, String>,
    keys: BTreeMap<String, Digest>,
}

/// How a build is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Steps by name; if empty, those that nothing depends on.
    pub targets: Vec<String>,
    pub again: Vec<String>,
    pub check: Vec<String>,
    pub flaky: BTreeSet<String>,
    pub keep_going: bool,
    pub jobs: u32,
    /// Whether the project's root is written afterwards.
    pub remember: bool,
}

/// What came of a build that was as it had to be.
pub struct Outcome {
    pub ran: Vec<Ran>,
    pub reports: BTreeMap<String, StepReport>,
    /// Nothing failed.
    pub whole: bool,
}

struct Live(Option<Object>);

impl Pointers for Live {
    fn current(&self, _: &str, _: &str) -> Result<Option<Object>, String> {
        Ok(self.0)
    }
}

impl Request {
    /// Everything, on one processor.
    pub fn plain() -> Self {
        Self {
            targets: Vec::new(),
            again: Vec::new(),
            check: Vec::new(),
            flaky: BTreeSet::new(),
            keep_going: true,
            jobs: 1,
            remember: true,
        }
    }

    /// Any request for steps of `draft`.
    pub fn random(chance: &mut Chance, draft: &Draft) -> Self {
        let some = |chance: &mut Chance, odds: usize| {
            let names = draft.steps.iter().map(|step| step.name.clone());
            if chance.once_in(odds) {
                names.filter(|_| chance.once_in(4)).collect()
            } else {
                Vec::new()
            }
        };
        Self {
            targets: some(chance, 4),
            again: some(chance, 8),
            check: some(chance, 8),
            flaky: some(chance, 8).into_iter().collect(),
            keep_going: chance.once_in(2),
            jobs: 1 + chance.below(4) as u32,
            remember: !chance.once_in(4),
        }
    }
}

fn memory_folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let usable = tempfile::tempdir_in(&memory).is_ok();
    if usable { memory } else { std::env::temp_dir() }
}

/// What all worlds share: looking the host up is slow.
fn surroundings() -> &'static Surroundings {
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
    /// An empty one.
    pub fn new(in_place: bool) -> Self {
        let root =
            tempfile::Builder::new().prefix("kiln-oracle-").tempdir_in(memory_folder()).unwrap();
        let folder = root.path().join("recipe");
        fs::create_dir(&folder).unwrap();
        let store = Store::open(&root.path().join("store")).unwrap();
        let history = History::load(&store, "oracle", &folder).unwrap();
        Self {
            root,
            store,
            history,
            written: BTreeMap::new(),
            fake: Fake::default(),
            in_place,
            readings: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    /// Brings the files of the recipe to what `draft` says, and touches no other.
    pub fn write(&mut self, draft: &Draft) {
        let wanted: BTreeMap<String, FileDraft> = draft
            .sources
            .iter()
            .flat_map(SourceDraft::paths)
            .map(|(path, file)| (path, file.clone()))
            .collect();
        for (path, file) in &wanted {
            if self.written.get(path) != Some(file) {
                write(&self.root.path().join("recipe").join(path), file);
            }
        }
        for gone in self.written.keys().filter(|path| !wanted.contains_key(*path)) {
            fs::remove_file(self.root.path().join("recipe").join(gone)).unwrap();
        }
        self.written = wanted;
    }

    /// Writes a file again as it is.
    pub fn touch(&self, chance: &mut Chance) {
        let files: Vec<_> = self.written.iter().collect();
        if let Some((path, file)) = chance.pick(&files) {
            write(&self.root.path().join("recipe").join(path), file);
        }
    }

    fn present_records(&self) -> Vec<Realisation> {
        let all = self.store.all_realisations().unwrap();
        let delivers = |record: &Realisation| {
            let mut own = record.outputs.iter().filter(|output| output.alias.is_none());
            own.all(|output| self.store.contains(&output.object))
        };
        all.into_iter().filter(delivers).collect()
    }

    /// What does not have to run, whatever asks for it.
    fn settled(&self) -> BTreeSet<String> {
        let records = self.present_records();
        records.iter().filter_map(|record| self.readings.get(&record.key).cloned()).collect()
    }

    /// Deletes an object that a step made.
    pub fn lose_object(&self, chance: &mut Chance) {
        let records = self.store.all_realisations().unwrap();
        let objects: Vec<Object> = records.iter().flat_map(Realisation::objects).collect();
        if let Some(object) = chance.pick(&objects) {
            remove(&self.store.path(object));
        }
    }

    /// Deletes a record.
    pub fn lose_record(&self, chance: &mut Chance) {
        let records = self.store.all_realisations().unwrap();
        if let Some(record) = chance.pick(&records) {
            let hex = record.key.to_string();
            remove(&self.store.home().join("realisations").join(&hex[..2]).join(hex));
        }
    }

    /// Collects. What the last build made must stay, if it was remembered.
    pub fn collect(&self, last: Option<&Outcome>) {
        let keys = |records: Vec<Realisation>| -> BTreeSet<Digest> {
            records.into_iter().map(|record| record.key).collect()
        };
        let before = keys(self.present_records());
        self.store.gc(GcOptions::default()).unwrap();
        let after = keys(self.present_records());
        for report in last.into_iter().flat_map(|last| last.reports.values()) {
            let Some(key) = report.action_key else { continue };
            let kept = !before.contains(&key) || after.contains(&key) || report.outputs.is_empty();
            assert!(kept, "the collector took what `{}` of the last build made", report.step);
        }
    }

    /// Closes the store and opens it again.
    pub fn reopen(&mut self) {
        let home = self.store.home().to_owned();
        let aside = self.root.path().join("aside");
        drop(std::mem::replace(&mut self.store, Store::open(&aside).unwrap()));
        self.store = Store::open(&home).unwrap();
        self.history =
            History::load(&self.store, "oracle", &self.root.path().join("recipe")).unwrap();
    }

    /// Builds, and holds everything that came of it against the expectation.
    pub fn build(&mut self, draft: &Draft, request: &Request) -> Outcome {
        let text = SourceText { name: "kiln.toml".into(), text: draft.toml() };
        let graph = recipe::evaluate(&Arc::new(text), &CATALOGUE, &[])
            .unwrap_or_else(|problems| panic!("a sound recipe is refused: {problems:?}"));
        let options = options(&graph, request);
        let pointer =
            draft.pointer.as_ref().map(|text| self.store.put_bytes(text.as_bytes()).unwrap());
        if let Some(object) = pointer {
            let root = Root {
                label: "the deployment".into(),
                keys: Vec::new(),
                objects: vec![object],
                data: serde_json::Value::Null,
                at: 0,
            };
            self.store.set_root("production", &root).unwrap();
        }
        self.fake.flaky.clone_from(&request.flaky);
        let settled = self.settled();
        let folder = self.root.path().join("recipe");
        let pointers = Live(pointer);
        let reader = Reader {
            store: &self.store,
            root: &folder,
            recipe: "oracle",
            pointers: &pointers,
            trust: Trust::Cached,
            snapshot_limit: if self.in_place { 4 } else { SNAPSHOT_LIMIT },
        };
        let cancel = Cancel::new().unwrap();
        let context = Context {
            graph: &graph,
            store: &self.store,
            reader: &reader,
            surroundings: surroundings(),
            executor: &self.fake,
            history: &self.history,
            cancel: &cancel,
        };
        let planned = plan::plan(&context, &options).unwrap();
        assert!(self.fake.take().is_empty(), "a plan ran something");
        let built = realise::build(&context, &options, &mut |_| {}).unwrap();
        let ran = self.fake.take();
        let steps = closure(
            &graph,
            options.targets.iter().chain(&options.again).chain(&options.check).copied(),
        );
        let reports: BTreeMap<String, StepReport> =
            built.report.steps.iter().map(|report| (report.step.clone(), report.clone())).collect();
        let fates = expected(draft, &graph, &steps, &reports);
        let whole = !built.report.failed();
        let judged =
            Judged { draft, graph: &graph, request, fates: &fates, reports: &reports, ran: &ran };
        judged.results();
        judged.runs(settled);
        if !draft.steps.iter().any(|step| step.wobbles) && whole && request.flaky.is_empty() {
            judged.plan(&planned);
        }
        for &target in &options.targets {
            for (number, output) in graph.step(target).outputs.iter().enumerate() {
                let report = &reports[&graph.step(target).name];
                if !matches!(report.how, How::Reused | How::Ran) {
                    continue;
                }
                let Some(report) = report.outputs.get(&output.name) else { continue };
                let reference = Reference::Output(target, number as u32);
                let Some(path) = built.paths.get(&reference) else {
                    let Reference::Output(maker, _) = graph.origin(reference) else {
                        panic!("a source is there")
                    };
                    let report = &reports[&graph.step(maker).name];
                    let gone = matches!(report.how, How::Failed | How::Skipped);
                    assert!(gone, "output `{}` of a target is not there: {report:?}", output.name);
                    continue;
                };
                if report.object().kind == kiln_cache::Kind::File {
                    assert_eq!(Digest::of(&fs::read(path).unwrap()), report.digest);
                }
            }
        }
        for (&id, fate) in &fates {
            let (Fate::Made { readings, .. }, Some(key)) =
                (fate, reports[&graph.step(id).name].action_key)
            else {
                continue;
            };
            let known = self.readings.entry(key).or_insert_with(|| readings.clone());
            assert_eq!(known, readings, "one key for two sets of inputs");
            let known = *self.keys.entry(readings.clone()).or_insert(key);
            assert_eq!(known, key, "two keys for the same inputs: {readings}");
        }
        if request.remember {
            self.remember(&graph, &built);
        }
        Outcome { ran, reports, whole }
    }

    fn remember(&mut self, graph: &Graph, built: &realise::Built) {
        for (&step, result) in &built.results {
            self.history.note(&graph.step(step).name, result.key);
        }
        self.history
            .note_build(built.results.values().map(|result| result.key).collect(), Ended::Well);
        self.history.save(&self.store, 0).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        writable(self.root.path());
    }
}

/// One build beside what it must have come to.
struct Judged<'a> {
    draft: &'a Draft,
    graph: &'a Graph,
    request: &'a Request,
    fates: &'a BTreeMap<StepId, Fate>,
    reports: &'a BTreeMap<String, StepReport>,
    ran: &'a [Ran],
}

impl Judged<'_> {
    /// Each step came out as it had to.
    fn results(&self) {
        let failed = self.reports.values().any(|report| report.how == How::Failed);
        let stopped = failed && (!self.request.keep_going || !self.request.flaky.is_empty());
        for (&id, fate) in self.fates {
            let name = &self.graph.step(id).name;
            let report = &self.reports[name];
            match (fate, report.how) {
                (Fate::Made { outputs, accepted, .. }, How::Reused | How::Ran) => {
                    let found: BTreeMap<String, Object> = report
                        .outputs
                        .iter()
                        .map(|(name, output)| (name.clone(), output.object()))
                        .collect();
                    assert_eq!(&found, outputs, "outputs of `{name}`");
                    let verdict = report.verdict.map(|verdict| verdict == VerdictWord::Accepted);
                    assert_eq!(verdict, *accepted, "verdict of `{name}`");
                    let steady = report.differences.is_empty() || self.request.flaky.contains(name);
                    assert!(steady, "`{name}` under --check: {:?}", report.differences);
                }
                (Fate::Made { .. }, How::Failed) => {
                    assert!(self.request.flaky.contains(name), "`{name}` failed: {report:?}");
                }
                (Fate::Fails, How::Failed) | (Fate::Unreachable, How::Skipped) => {}
                (_, How::Skipped) if stopped => {}
                (fate, how) => panic!("`{name}` is {how:?}, and should be {fate:?}: {report:?}"),
            }
            let succeeded = self.ran.iter().any(|ran| ran.step == *name && ran.succeeded);
            let checked = self.request.check.contains(name);
            assert!(report.how != How::Ran || succeeded, "`{name}` is said to have run");
            assert!(
                !succeeded || report.how != How::Reused || checked,
                "`{name}` is said to be reused"
            );
        }
    }

    /// Nothing ran whose inputs had been built before, unless its result was lost or a second run was asked for.
    fn runs(&self, mut settled: BTreeSet<String>) {
        for ran in self.ran {
            let asked =
                self.request.again.contains(&ran.step) || self.request.check.contains(&ran.step);
            assert!(
                asked || !settled.contains(&ran.readings),
                "`{}` ran, and had been built before from {}",
                ran.step,
                ran.readings
            );
            if ran.succeeded {
                settled.insert(ran.readings.clone());
            }
        }
    }

    /// What was planned happened.
    fn plan(&self, plan: &plan::Plan) {
        for planned in &plan.steps {
            let name = &self.graph.step(planned.step).name;
            let how = self.reports[name].how;
            let twin = |name: &str| {
                let readings =
                    |name: &str| match self.graph.find(name).and_then(|id| self.fates.get(&id)) {
                        Some(Fate::Made { readings, .. }) => Some(readings),
                        _ => None,
                    };
                let own = readings(name);
                self.draft
                    .steps
                    .iter()
                    .any(|step| step.name != *name && readings(&step.name) == own)
            };
            let asked = self.request.again.contains(name) || self.request.check.contains(name);
            let sound = match &planned.outlook {
                Outlook::UpToDate => how == How::Reused || asked,
                // Another step that ran may have made the same bytes.
                Outlook::WouldRun(Reason::OutputLost { .. }) => {
                    how == How::Ran || self.ran.iter().any(|ran| ran.step != *name)
                }
                Outlook::WouldRun(_) => {
                    how == How::Ran || twin(name) || self.request.check.contains(name)
                }
                Outlook::MayRun { .. } => true,
                Outlook::Withheld(_) => how == How::Skipped,
            };
            assert!(
                sound,
                "`{name}` was planned to be {:?} and is {how:?}; {:?}",
                planned.outlook, self.ran
            );
        }
    }
}

fn options(graph: &Graph, request: &Request) -> Options {
    let find = |names: &[String]| -> Vec<StepId> {
        names.iter().filter_map(|name| graph.find(name)).collect()
    };
    let targets = find(&request.targets);
    Options {
        targets: if targets.is_empty() { default_targets(graph) } else { targets },
        capacity: Capacity { cpus: request.jobs, memory: 1 << 30, gpus: 0 },
        keep_going: request.keep_going,
        again: find(&request.again).into_iter().collect(),
        check: find(&request.check).into_iter().collect(),
        locate_all: false,
    }
}

fn write(path: &Path, file: &FileDraft) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, &file.text).unwrap();
    fs::set_permissions(
        path,
        fs::Permissions::from_mode(if file.executable { 0o755 } else { 0o644 }),
    )
    .unwrap();
}

fn remove(path: &Path) {
    let Ok(meta) = path.symlink_metadata() else { return };
    if meta.is_dir() {
        writable(path);
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

/// What the store holds is read-only, folders too.
fn writable(folder: &Path) {
    let Ok(meta) = folder.symlink_metadata() else { return };
    if meta.is_dir() {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            writable(&entry.path());
        }
    }
}
