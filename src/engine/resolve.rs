//! What the steps of a build read from outside: sources, files, variables and programs, looked up once.
//!
//! All problems are found before anything runs. This module is unaware of keys and results.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use kiln_cache::{FsError, Object, Store};
use rayon::prelude::*;

use crate::{
    diagnostic::{Diagnostic, Location, chain},
    difference::Numbers,
    executor::Executor,
    graph::{Graph, Reference, Source, SourceId, Step, StepId, Toolchain},
    project::History,
    recipe::Named,
    sandbox::Cancel,
    source::{Reader, Resolved},
    surroundings::{Surroundings, Toolbox},
    tools::ToolError,
};

/// Everything that a build needs and does not own.
pub struct Context<'a> {
    /// The evaluated recipe.
    pub graph: &'a Graph,
    /// The store.
    pub store: &'a Store,
    /// How sources are read.
    pub reader: &'a Reader<'a>,
    /// What steps take from the machine.
    pub surroundings: &'a Surroundings,
    /// Who runs them.
    pub executor: &'a dyn Executor,
    /// What the project built before.
    pub history: &'a History,
    /// Who reads numbers in what steps make, for checks.
    pub numbers: &'a dyn Numbers,
    /// Stops everything.
    pub cancel: &'a Cancel,
}

/// The steps that nothing depends on.
pub fn default_targets(graph: &Graph) -> Vec<StepId> {
    let needed: BTreeSet<StepId> = graph.steps.iter().flat_map(Step::upstream).collect();
    graph.step_ids().filter(|id| !needed.contains(id)).collect()
}

/// The steps that `targets` need, themselves included, inputs first.
pub fn closure(graph: &Graph, targets: impl IntoIterator<Item = StepId>) -> Vec<StepId> {
    let mut wanted = vec![false; graph.steps.len()];
    targets.into_iter().for_each(|id| wanted[id.index()] = true);
    for id in graph.step_ids().rev().filter(|id| id.index() < graph.steps.len()) {
        if wanted[id.index()] {
            graph.step(id).upstream().into_iter().for_each(|id| wanted[id.index()] = true);
        }
    }
    graph.step_ids().filter(|id| wanted[id.index()]).collect()
}

/// Why a build could not begin, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// What the recipe names is not there: one diagnostic each.
    #[error("{} in what the recipe names", counted(.0.len(), "problem"))]
    Recipe(Vec<Diagnostic>),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] FsError),
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// What a step's key is made of, apart from its inputs.
pub struct Ground {
    /// Its `files`: where they lie, and their content.
    pub files: BTreeMap<String, (PathBuf, Object)>,
    /// The same, content only.
    pub objects: BTreeMap<String, Object>,
    /// The values of `pass_env`.
    pub passed: BTreeMap<String, Option<String>>,
    /// What it can run.
    pub toolbox: Arc<Toolbox>,
}

/// Resolved sources and grounds of the steps in a closure.
pub struct Resolution {
    /// The sources that are read.
    pub sources: BTreeMap<SourceId, Resolved>,
    /// The rest, by step.
    pub grounds: BTreeMap<StepId, Ground>,
}

impl Resolution {
    /// What sources and files stand for, once each.
    pub fn objects(&self) -> Vec<Object> {
        let sources = self.sources.values().filter_map(|source| source.object);
        let files = self.grounds.values().flat_map(|ground| ground.objects.values().copied());
        let objects: BTreeSet<Object> = sources.chain(files).collect();
        objects.into_iter().collect()
    }
}

/// Resolves what the steps of a closure read from outside.
///
/// # Errors
/// All problems, in the order of the recipe.
pub fn resolve(context: &Context<'_>, steps: &[StepId]) -> Result<Resolution, BuildError> {
    let graph = context.graph;
    let used: BTreeSet<SourceId> = steps
        .iter()
        .flat_map(|&id| &graph.step(id).inputs)
        .filter_map(|input| match input {
            Reference::Source(id) => Some(*id),
            Reference::Output(..) => None,
        })
        .collect();
    let used: Vec<SourceId> = used.into_iter().collect();
    let origins: Vec<&Source> = used.iter().map(|&id| graph.source(id)).collect();
    let sources = used.into_iter().zip(context.reader.resolve_all(&origins));
    // One after the other and first: each looks at whole installations on all cores, and a thread that waits for the
    // others in the midst of that must not turn to a step which waits for it.
    let toolchains: BTreeSet<&Toolchain> =
        steps.iter().map(|&id| &graph.step(id).toolchain).collect();
    let toolboxes: Toolboxes<'_> = toolchains
        .into_iter()
        .map(|toolchain| (toolchain, context.surroundings.toolbox(toolchain).map(Arc::new)))
        .collect();
    let grounds: Vec<(StepId, Result<Ground, Vec<Diagnostic>>)> =
        steps.par_iter().map(|&id| (id, ground(context, graph.step(id), &toolboxes))).collect();
    let mut problems = Vec::new();
    let mut resolution = Resolution { sources: BTreeMap::new(), grounds: BTreeMap::new() };
    for (id, source) in sources {
        match source {
            Ok(source) => drop(resolution.sources.insert(id, source)),
            Err(problem) => problems.push(problem),
        }
    }
    for (id, ground) in grounds {
        match ground {
            Ok(ground) => drop(resolution.grounds.insert(id, ground)),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() {
        return Ok(resolution);
    }
    problems.sort_by_key(|problem| problem.at.as_ref().map(|at| at.span.start));
    problems.dedup();
    Err(BuildError::Recipe(problems))
}

/// What can be run, by what steps say of it.
type Toolboxes<'a> = BTreeMap<&'a Toolchain, Result<Arc<Toolbox>, ToolError>>;

fn ground(
    context: &Context<'_>,
    step: &Step,
    toolboxes: &Toolboxes<'_>,
) -> Result<Ground, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let mut files = BTreeMap::new();
    for (pattern, at) in &step.files {
        match context.reader.files(pattern) {
            Ok(found) if found.is_empty() => problems.push(
                Diagnostic::new(format!("no file matches `{pattern}`"))
                    .at(at.clone(), "nothing matches this pattern"),
            ),
            Ok(found) => files.extend(found),
            Err(problem) => problems.push(
                Diagnostic::new(problem.message).at(at.clone(), problem.label).help(problem.help),
            ),
        }
    }
    let toolbox = match &toolboxes[&step.toolchain] {
        Ok(toolbox) => Arc::clone(toolbox),
        Err(error) => {
            problems.push(missing_tool(error, step.at.clone()));
            Arc::default()
        }
    };
    let mut passed = BTreeMap::new();
    for name in &step.pass_env {
        match context.surroundings.variable(name) {
            Ok(value) => drop(passed.insert(name.clone(), value.map(str::to_owned))),
            Err(error) => problems.push(
                Diagnostic::new(error.to_string())
                    .at(step.at.clone(), "this step takes it from the caller, by `pass_env`")
                    .help("set it to a text in UTF-8, or leave it out of `pass_env`"),
            ),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let objects = files.iter().map(|(name, (_, object))| (name.clone(), *object)).collect();
    Ok(Ground { objects, passed, toolbox, files })
}

/// What is missing of that which a recipe names that cannot be evaluated: so far as that can be told without its graph, in the
/// words of [`resolve`].
pub fn missing(named: &Named, reader: &Reader<'_>, surroundings: &Surroundings) -> Vec<Diagnostic> {
    let sources = named.sources.iter().filter_map(|source| reader.look(source));
    let files = named.files.iter().filter_map(|(pattern, at)| {
        let problem = reader.look_for_files(pattern).err()?;
        Some(Diagnostic::new(problem.message).at(at.clone(), problem.label).help(problem.help))
    });
    let tools = named.tools.iter().filter_map(|(tools, at)| {
        let error = surroundings.toolbox(&Toolchain::Tools(tools.clone())).err()?;
        Some(missing_tool(&error, at.clone()))
    });
    sources.chain(files).chain(tools).collect()
}

fn missing_tool(error: &ToolError, at: Location) -> Diagnostic {
    if let ToolError::Library(told) = error {
        let (told, help) = told.split_once("\nhelp: ").unwrap_or((told, "install it"));
        let (what, looked) = told.split_once('\n').unwrap_or((told, ""));
        let problem = Diagnostic::new(what)
            .at(at, "this step's builder works with a library that is not on this machine");
        let problem = if looked.is_empty() { problem } else { problem.help(looked) };
        return problem.help(help);
    }
    Diagnostic::new(chain(error))
        .at(at, "a tool of this step is not on this machine")
        .help("install it, or correct the name in `tools`")
}
