use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use kiln_cache::{Isolation, Object, Store, Trust, Verdict};

use super::*;
use crate::{
    catalogue::{Availability, Catalogue},
    diagnostic::SourceText,
    event::How,
    executor::{ExecuteError, Executed, Executor, Job},
    graph::{Graph, Toolchain},
    project::History,
    realise, recipe,
    resolve::default_targets,
    sandbox::{Cancel, Exit},
    schedule::Capacity,
    source::{Pointers, Reader, SNAPSHOT_FILES},
    surroundings::Surroundings,
};

/// Each output holds the step's arguments and its inputs' first lines; `constant` steps always make the same.
struct Fake {
    isolation: Isolation,
    runs: AtomicUsize,
}

impl Executor for Fake {
    fn isolation(&self) -> Isolation {
        self.isolation
    }

    fn execute(&self, job: &Job<'_>) -> Result<Executed, ExecuteError> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let outputs = job.scratch.join("out");
        fs::create_dir_all(&outputs).unwrap();
        fs::write(job.log, "").unwrap();
        let mut text = format!("{:?}", job.step.args);
        for input in &job.inputs {
            let path = &input.content.as_ref().unwrap().1;
            text.push_str(&fs::read_to_string(path).unwrap());
        }
        let rejects = text.contains("reject");
        if text.contains("constant") {
            text = "the same".into();
        }
        for output in job.step.outputs.iter().filter(|output| output.alias.is_none()) {
            fs::write(outputs.join(&output.file), &text).unwrap();
        }
        Ok(Executed {
            exit: Exit::Code(0),
            verdict: job
                .step
                .gate
                .then(|| Verdict { accepted: !rejects, reason: "so it says".into() }),
            isolation: self.isolation,
            cpu_seconds: 0.0,
            peak_memory: 0,
            wall: std::time::Duration::ZERO,
            outputs,
        })
    }
}

struct Nowhere;

impl Pointers for Nowhere {
    fn current(&self, _: &str, _: &str) -> Result<Option<Object>, String> {
        Ok(None)
    }
}

struct World {
    dir: tempfile::TempDir,
    store: Store,
    history: History,
    fake: Fake,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("data.txt"), "data\n").unwrap();
        let store = Store::open(&dir.path().join("home")).unwrap();
        let history = History::load(&store, "r", dir.path()).unwrap();
        let fake = Fake { isolation: Isolation::Full, runs: AtomicUsize::new(0) };
        Self { dir, store, history, fake }
    }

    fn with<T>(&self, graph: &Graph, work: impl FnOnce(&Context<'_>) -> T) -> T {
        let root: &Path = self.dir.path();
        let reader = Reader {
            store: &self.store,
            root,
            recipe: "r",
            pointers: &Nowhere,
            trust: Trust::Rehash,
            snapshot_limit: 1 << 20,
            snapshot_files: SNAPSHOT_FILES,
        };
        work(&Context {
            graph,
            store: &self.store,
            reader: &reader,
            surroundings: &Surroundings::new(BTreeMap::new(), root.to_owned(), root.join("facts")),
            executor: &self.fake,
            history: &self.history,
            numbers: &(),
            cancel: &Cancel::new().unwrap(),
        })
    }

    fn plan(&self, graph: &Graph) -> BTreeMap<String, Outlook> {
        let plan = self.with(graph, |context| plan(context, &options(graph)).unwrap());
        let named = plan
            .steps
            .into_iter()
            .map(|planned| (graph.step(planned.step).name.clone(), planned.outlook));
        named.collect()
    }

    /// Builds, and tells which steps ran.
    fn build(&mut self, graph: &Graph) -> BTreeSet<String> {
        let built = self
            .with(graph, |context| realise::build(context, &options(graph), &mut |_| {}).unwrap());
        for step in &built.report.steps {
            if let Some(key) = step.action_key {
                self.history.note(&step.step, key);
            }
        }
        let ran = built.report.steps.into_iter().filter(|step| step.how == How::Ran);
        ran.map(|step| step.step).collect()
    }
}

fn options(graph: &Graph) -> Options {
    Options {
        targets: default_targets(graph),
        gpus: std::sync::Arc::default(),
        capacity: Capacity { cpus: 1, memory: u64::MAX, gpus: 0 },
        keep_going: true,
        again: BTreeSet::new(),
        check: BTreeSet::new(),
        locate_all: false,
    }
}

/// `first` reads a source, `gate` lets it pass, `last` reads what passed.
fn graph(first: &str, gate: &str) -> Graph {
    let text = format!(
        "name = \"r\"\n[sources]\ndata = \"data.txt\"\n\
         [steps.first]\nrun = \"{first} ${{sources.data}} ${{out}}\"\n\
         [steps.gate]\nrun = \"{gate} ${{first}} ${{out}}\"\n\
         [steps.last]\nrun = \"last ${{gate}} ${{out}}\"\n"
    );
    let source = Arc::new(SourceText { name: "kiln.toml".into(), text });
    let mut graph = recipe::evaluate(&source, &Catalogue { builders: &[] }, &[]).unwrap();
    for step in &mut graph.steps {
        // Nothing of this machine is to be looked at.
        step.toolchain = Toolchain::Builtin;
    }
    let id = graph.find("gate").unwrap();
    let gate = &mut graph.steps[id.index()];
    gate.gate = true;
    gate.outputs[0].availability = Availability::IfAccepted;
    graph
}

fn would_run(outlook: &Outlook) -> Vec<String> {
    match outlook {
        Outlook::WouldRun(reason) => reason.lines(),
        other => panic!("it would not run: {other:?}"),
    }
}

#[test]
fn a_plan_of_something_new_runs_nothing() {
    let world = World::new();
    let graph = graph("one", "gate");
    let plan = world.plan(&graph);
    assert_eq!(would_run(&plan["first"]), ["never built"]);
    let after = vec![graph.find("first").unwrap()];
    assert_eq!(plan["gate"], Outlook::MayRun { after: after.clone() });
    assert_eq!(plan["last"], Outlook::MayRun { after });
    assert_eq!(world.fake.runs.load(Ordering::Relaxed), 0);
    assert!(world.store.all_realisations().unwrap().is_empty());
}

#[test]
fn after_a_build_all_is_up_to_date_and_a_build_agrees() {
    let mut world = World::new();
    let graph = graph("one", "gate");
    assert_eq!(world.build(&graph).len(), 3);
    assert!(world.plan(&graph).values().all(|outlook| *outlook == Outlook::UpToDate));
    assert!(world.build(&graph).is_empty());
}

#[test]
fn a_change_is_named_and_what_is_below_may_be_cut_off() {
    let mut world = World::new();
    world.build(&graph("constant-one", "gate"));
    let changed = graph("constant-two", "gate");
    let plan = world.plan(&changed);
    let why = would_run(&plan["first"]);
    assert_eq!(why.len(), 1);
    assert!(why[0].starts_with("run: constant-one"), "{why:?}");
    assert!(matches!(plan["last"], Outlook::MayRun { .. }));
    assert_eq!(world.build(&changed), BTreeSet::from(["first".to_owned()]));
    assert!(world.plan(&changed).values().all(|outlook| *outlook == Outlook::UpToDate));
}

#[test]
fn what_a_gate_rejected_is_withheld() {
    let mut world = World::new();
    let graph = graph("one", "reject");
    world.build(&graph);
    let plan = world.plan(&graph);
    assert_eq!(plan["gate"], Outlook::UpToDate);
    assert_eq!(plan["last"], Outlook::Withheld("`gate` rejected: so it says".into()));
}

#[test]
fn a_lost_target_runs_again_and_a_lost_input_that_nobody_reads_does_not() {
    let mut world = World::new();
    let graph = graph("one", "gate");
    world.build(&graph);
    let lose = |name: &str| {
        let record =
            world.store.realisation(&world.history.latest(name).unwrap()).unwrap().unwrap();
        fs::remove_file(world.store.path(&record.outputs[0].object)).unwrap();
    };
    lose("first");
    assert!(world.plan(&graph).values().all(|outlook| *outlook == Outlook::UpToDate));
    lose("last");
    let plan = world.plan(&graph);
    assert_eq!(would_run(&plan["last"]), ["its output `out` is lost from the store"]);
    assert_eq!(plan["gate"], Outlook::UpToDate);
    assert_eq!(plan["first"], Outlook::UpToDate);
    lose("gate");
    let plan = world.plan(&graph);
    for name in ["first", "gate", "last"] {
        assert_eq!(would_run(&plan[name]), ["its output `out` is lost from the store"], "{name}");
    }
    assert_eq!(world.build(&graph).len(), 3);
}

#[test]
fn a_result_of_weaker_isolation_does_not_count() {
    let mut world = World::new();
    world.fake.isolation = Isolation::Off;
    let graph = graph("one", "gate");
    world.build(&graph);
    world.fake.isolation = Isolation::Full;
    let plan = world.plan(&graph);
    assert_eq!(
        would_run(&plan["first"]),
        ["the recorded result was made with weaker isolation (off)"]
    );
    world.fake.isolation = Isolation::Off;
    assert!(world.plan(&graph).values().all(|outlook| *outlook == Outlook::UpToDate));
}

#[test]
fn a_result_that_is_gone_is_told_from_one_that_never_was() {
    let mut world = World::new();
    let graph = graph("one", "gate");
    world.build(&graph);
    fs::remove_dir_all(world.store.home().join("realisations")).unwrap();
    let plan = world.plan(&graph);
    assert_eq!(would_run(&plan["first"]), ["its result is lost from the store"]);
}
