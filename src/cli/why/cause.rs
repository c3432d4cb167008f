//! Changes, each with what it follows from.

use std::{cell::RefCell, collections::BTreeSet, path::PathBuf};

use kiln_cache::{Digest, Object};
use kiln_engine::{
    explain::{self, Reason},
    graph::{Reference, StepId},
    plan::Plan,
    why::{Change, Part},
};
use serde::Serialize;

use super::content;
use crate::cli::{outlook, project::Project};

/// Something that differs between two builds of a step.
#[derive(Serialize)]
pub struct Cause {
    #[serde(flatten)]
    pub change: Change,
    /// The change in one line.
    pub line: String,
    /// What can be said of contents beyond that: sizes, files.
    pub details: Vec<String>,
    /// Unified diffs, one for each text that differs.
    pub diffs: Vec<String>,
    /// The change of another step that this one follows from.
    pub because: Option<Because>,
}

/// Another step's change.
#[derive(Serialize)]
pub struct Because {
    /// The step.
    pub step: String,
    /// What happened to it.
    pub how: &'static str,
    /// What differs between the two builds of it.
    pub causes: Vec<Cause>,
}

/// Finds causes; tells each step's only once.
pub struct Causes<'a> {
    project: &'a Project,
    plan: &'a Plan,
    told: RefCell<BTreeSet<StepId>>,
}

impl<'a> Causes<'a> {
    pub fn new(project: &'a Project, plan: &'a Plan) -> Self {
        Self { project, plan, told: RefCell::default() }
    }

    /// What differs between the build of `step` under the key `previous` and the recipe as it stands. None if the
    /// record of that build is gone.
    pub fn of(&self, step: StepId, previous: Digest) -> Vec<Cause> {
        self.told.borrow_mut().insert(step);
        let reason = self.project.with_context(|context| {
            let manifest = self.plan.manifest(context, step)?;
            Some(explain::since(context, previous, &manifest))
        });
        match reason {
            Some(Reason::Changed { changes }) => {
                changes.into_iter().map(|change| self.cause(step, change)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What is known already to differ, while other steps have to run before the rest is known.
    pub fn so_far(&self, step: StepId, previous: Digest) -> Vec<Cause> {
        let changes = outlook::changes_so_far(self.project, self.plan, step, previous);
        changes.into_iter().map(|change| self.cause(step, change)).collect()
    }

    fn cause(&self, step: StepId, change: Change) -> Cause {
        let found = match (change.objects, change.part) {
            (Some((before, after)), _) => {
                content::compare(&self.project.store, before, after, self.place(step, &change))
            }
            (None, Part::Recipe | Part::Variable) => content::texts(&change),
            (None, _) => content::Found::default(),
        };
        let because = change.objects.and_then(|(before, _)| self.because(step, &change, before));
        Cause { line: change.line(), details: found.details, diffs: found.diffs, because, change }
    }

    /// Where the content of a source or file lies that no step has read yet, so that it need not be in the store.
    fn place(&self, step: StepId, change: &Change) -> Option<PathBuf> {
        let resolution = &self.plan.resolution;
        match change.part {
            Part::File => {
                let name = change.subject.strip_prefix("file ")?;
                resolution.grounds.get(&step)?.files.get(name).map(|(path, _)| path.clone())
            }
            Part::Input => match self.project.graph.origin(self.input(step, change)?) {
                Reference::Source(id) => {
                    resolution.sources.get(&id)?.present(&self.project.store).ok()
                }
                Reference::Output(..) => None,
            },
            _ => None,
        }
    }

    fn input(&self, step: StepId, change: &Change) -> Option<Reference> {
        let graph = &self.project.graph;
        let label = change.subject.strip_prefix("input ")?;
        graph.step(step).inputs.iter().copied().find(|&input| graph.spell(input) == label)
    }

    /// Why the step that made an input made it anew, where another step did.
    fn because(&self, step: StepId, change: &Change, before: Object) -> Option<Because> {
        let graph = &self.project.graph;
        let input = self.input(step, change).filter(|_| change.part == Part::Input)?;
        let Reference::Output(maker, number) = graph.origin(input) else { return None };
        let name = graph.step(maker).name.clone();
        let output = &graph.step(maker).outputs[number as usize].name;
        let answer = |how, causes| Some(Because { step: name.clone(), how, causes });
        if self.told.borrow().contains(&maker) {
            return answer("was made anew, as told above", Vec::new());
        }
        let store = &self.project.store;
        let keys = self.project.history.steps.get(&name).map_or(&[][..], Vec::as_slice);
        let made_it = |key: &&Digest| {
            let record = store.realisation(key).ok().flatten();
            record.and_then(|record| record.output(output).map(|made| made.object)) == Some(before)
        };
        let Some(&earlier) = keys.iter().find(made_it) else {
            return answer("was made anew; the record of the run before is gone", Vec::new());
        };
        if self.plan.step(maker)?.key == Some(earlier) {
            return answer("ran again with the same inputs and made something else", Vec::new());
        }
        answer("was made anew:", self.of(maker, earlier))
    }
}
