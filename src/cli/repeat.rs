//! A build that was done before: answered from its memo, with a look at everything that could have changed.
//!
//! Only for builds that go well and are told in text; whatever is unusual is left to the build proper, which also
//! finds the words for what is wrong.

use std::path::{Path, PathBuf};

use kiln_cache::{Digest, FileIdentity, Isolation, RecordsMark, Store};
use kiln_engine::{
    event::{How, VerdictWord},
    graph::{Origin, Reference, StepId},
    memo::{Found, Memo, Question, Slot, Step, Target},
    project::{Ended, History},
    realise::Built,
    source::{Reader, SNAPSHOT_FILES, SNAPSHOT_LIMIT},
};
use rayon::prelude::*;

use super::{
    failure::Failure,
    links::{self, LinkChoice},
    project::{Evaluation, Place, Project, RegistryPointers, SandboxChoice, surroundings},
    remember::{self, unnoted},
    summary,
};

/// What a build asks, if it is one that a memo can answer.
pub struct Asked<'a> {
    program: FileIdentity,
    recipe: Digest,
    evaluation: &'a Evaluation,
    steps: &'a [String],
    link: LinkChoice,
}

impl<'a> Asked<'a> {
    /// The question that is asked by naming these steps; nothing if what it is about cannot be read.
    pub fn of(
        place: &Place,
        evaluation: &'a Evaluation,
        steps: &'a [String],
        link: LinkChoice,
    ) -> Option<Self> {
        let program = std::env::current_exe().and_then(|path| path.metadata()).ok()?;
        let recipe = Digest::of(&std::fs::read(&place.path).ok()?);
        Some(Self { program: FileIdentity::of(&program), recipe, evaluation, steps, link })
    }

    fn slot<'s>(&self, store: &'s Store) -> Slot<'s> {
        let question = Question {
            program: self.program,
            recipe: self.recipe,
            overrides: &self.evaluation.overrides,
            steps: self.steps,
            everything: self.link == LinkChoice::All,
        };
        Slot::new(store, &question)
    }

    /// Answers the build, if it was done before and nothing has changed. Whether it did.
    pub fn answer(&self, place: &Place, store: &Store) -> Result<bool, Failure> {
        let started = std::time::Instant::now();
        if store.read_only().is_some() {
            return Ok(false);
        }
        let slot = self.slot(store);
        let Some(mut found) = slot.find() else { return Ok(false) };
        let needed = match self.evaluation.sandbox {
            SandboxChoice::Full => Isolation::Full,
            SandboxChoice::Off => Isolation::Off,
        };
        if found.memo.isolation < needed {
            return Ok(false);
        }
        let dir = place.dir();
        let root = History::root_name(&found.memo.recipe, &dir);
        let told = store.root_digest(&root).map_err(|error| unreadable(&error))?;
        let noted = slot.is_noted(&found, &root, told);
        // What the project's root names stays; of anything else the collector has to be told before somebody looks.
        let owner = History::owner(&root);
        let session = store.session_of(&owner).map_err(|error| unreadable(&error))?;
        if !noted {
            let keys: Vec<Digest> = found.memo.steps().map(|step| step.key).collect();
            session.hold(&keys, &[]).map_err(|error| unreadable(&error))?;
        }
        let pointers = RegistryPointers(store);
        let reader = Reader {
            store,
            root: &dir,
            recipe: &found.memo.recipe,
            pointers: &pointers,
            trust: self.evaluation.trust(),
            snapshot_limit: SNAPSHOT_LIMIT,
            snapshot_files: SNAPSHOT_FILES,
        };
        let outputs = || found.memo.targets.iter().flat_map(|target| &target.outputs);
        let same = outputs().all(|(_, object)| store.contains(object))
            && found.memo.outside.is_found_again(&reader, &surroundings(&dir, store));
        if !same || !slot.is_in_force(&mut found).map_err(|error| unreadable(&error))? {
            return Ok(false);
        }
        store.sweep();
        if noted {
            store.touch_root(&root).map_err(|error| unnoted(&error))?;
        } else {
            note(&slot, &mut found, store, &root, &dir)?;
        }
        if found.memo.is_whole() {
            store.forget_killed(&owner).map_err(|error| unnoted(&error))?;
        }
        let memo = &found.memo;
        let shown = if self.link == LinkChoice::None {
            let outputs = memo.targets.iter().flat_map(|target| &target.outputs);
            outputs.map(|(_, object)| store.path(object)).collect()
        } else {
            self.links(memo, &dir, store)?
        };
        drop(session);
        for notice in store.take_notices() {
            summary::warn(&format!("{}: {}", notice.path.display(), notice.what));
        }
        summary::print_reused(memo.len(), memo.seconds, started.elapsed());
        for path in shown {
            anstream::println!("{}", path.display());
        }
        Ok(true)
    }

    fn links(&self, memo: &Memo, dir: &Path, store: &Store) -> Result<Vec<PathBuf>, Failure> {
        let whole = self.steps.is_empty();
        let steps = memo.targets.iter().map(|target| {
            let outputs = target.outputs.iter();
            let outputs =
                outputs.map(|(name, object)| (name.as_str(), store.path(object))).collect();
            links::Linked { name: &target.step, declared: target.declared as usize, outputs }
        });
        let known = if whole {
            memo.names().collect()
        } else {
            memo.targets.iter().map(|target| target.step.as_str()).collect()
        };
        links::link(&links::Wanted {
            dir,
            store: store.home(),
            sources: memo.paths.iter().map(|path| dir.join(path)).collect(),
            steps: steps.collect(),
            known: Some(known),
            whole,
        })
    }

    /// Keeps what a build came to, if the next one can be answered by it. `mark` was taken before the build.
    pub fn keep(&self, project: &Project, built: &Built, targets: &[StepId], mark: RecordsMark) {
        let report = &built.report;
        let good = |how: How| matches!(how, How::Ran | How::Reused | How::Substituted);
        let well = !report.interrupted
            && report
                .steps
                .iter()
                .all(|step| good(step.how) && step.verdict != Some(VerdictWord::Rejected));
        if !well || built.results.len() != report.steps.len() {
            return;
        }
        let Some(targets) = self::targets(project, built, targets) else { return };
        let root = History::root_name(&project.graph.name, &project.dir);
        let Ok(Some(digest)) = project.store.root_digest(&root) else { return };
        let graph = &project.graph;
        let mut memo = Memo::new(&graph.name, built.outside.clone());
        memo.targets = targets;
        memo.isolation =
            built.results.values().map(|result| result.isolation).min().unwrap_or(Isolation::Full);
        memo.seconds = built.results.values().map(|result| result.cost.seconds).sum();
        memo.paths = graph
            .sources
            .iter()
            .filter_map(|source| match &source.origin {
                Origin::Path(path) => Some(path.clone()),
                Origin::Glob(_) | Origin::Deployment { .. } => None,
            })
            .collect();
        let results: Vec<_> = built.results.iter().collect();
        let checksums: Vec<Digest> =
            results.par_iter().map(|(_, result)| result.checksum()).collect();
        let steps = results.iter().zip(checksums).map(|((id, result), checksum)| Step {
            name: &graph.step(**id).name,
            key: result.key,
            checksum,
        });
        let others = graph.step_ids().filter(|id| !built.results.contains_key(id));
        let memo = memo.with_steps(steps, others.map(|id| graph.step(id).name.as_str()));
        self.slot(&project.store).keep(&memo, mark, &root, digest);
    }
}

/// Notes the build as its project's last one.
fn note(
    slot: &Slot<'_>,
    found: &mut Found,
    store: &Store,
    root: &str,
    dir: &Path,
) -> Result<(), Failure> {
    let mut history =
        History::load(store, &found.memo.recipe, dir).map_err(|error| unnoted(&error))?;
    remember::note(store, &mut history, |history| {
        let mut news = false;
        let mut keys = Vec::with_capacity(found.memo.len());
        for step in found.memo.steps() {
            keys.push(step.key);
            news |= history.note(step.name, step.key);
        }
        history.note_build(keys, Ended::Well) || news
    })?;
    if let Some(digest) = store.root_digest(root).map_err(|error| unnoted(&error))? {
        slot.note(found, root, digest);
    }
    Ok(())
}

/// What the targets stand for; nothing if that includes a source, which lies outside of the store.
fn targets(project: &Project, built: &Built, targets: &[StepId]) -> Option<Vec<Target>> {
    let graph = &project.graph;
    let target = |&id: &StepId| {
        let step = graph.step(id);
        let mut outputs = Vec::new();
        for (number, output) in step.outputs.iter().enumerate() {
            let reference = Reference::Output(id, number as u32);
            if matches!(graph.origin(reference), Reference::Source(_)) {
                return None;
            }
            if let Some(made) = built.results.get(&id)?.output(&output.name) {
                outputs.push((output.name.clone(), made.object));
            }
        }
        Some(Target {
            step: step.name.clone(),
            declared: u32::try_from(step.outputs.len()).ok()?,
            outputs,
        })
    };
    targets.iter().map(target).collect()
}

fn unreadable(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::environment(error, "kiln doctor and kiln store verify tell more")
}
