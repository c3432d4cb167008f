//! A recipe and everything around it, opened: what most commands begin with.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use kiln_cache::{Object, Store, Trust};
use kiln_engine::{
    diagnostic::{Diagnostic, SourceText},
    graph::{Graph, StepId},
    local::LocalExecutor,
    project::History,
    recipe,
    resolve::{BuildError, Context, missing},
    sandbox::{Cancel, Wanted},
    source::{Pointers, Reader, SNAPSHOT_FILES, SNAPSHOT_LIMIT},
    surroundings::Surroundings,
};
use kiln_registry::Deployments;

use super::{
    failure::{Failure, chain},
    global::Global,
};
use crate::{builders::CATALOGUE, numbers::NumbersInFiles};

/// The recipe's file name.
pub const RECIPE_FILE: &str = "kiln.toml";

/// How a recipe is evaluated and its steps are run.
#[derive(Debug, Clone, clap::Args)]
pub struct Evaluation {
    /// Give a parameter another value for this run.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_override)]
    pub overrides: Vec<(String, String)>,
    /// How well steps are kept apart from the machine: as well as it allows, or not at all.
    #[arg(long, value_name = "DEGREE", value_enum, default_value_t)]
    pub sandbox: SandboxChoice,
    /// Read and hash every source again instead of trusting sizes and times.
    #[arg(long)]
    pub rehash: bool,
}

impl Evaluation {
    /// Whether the stat cache is believed.
    pub fn trust(&self) -> Trust {
        if self.rehash { Trust::Rehash } else { Trust::Cached }
    }
}

/// What `--sandbox` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum SandboxChoice {
    /// The best that this machine allows.
    #[default]
    Full,
    /// None: a fresh folder and a clean environment only.
    Off,
}

/// Reads what `--set` takes.
///
/// # Errors
/// If there is no name or no `=`.
pub fn parse_override(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, such as epochs=100".to_owned()),
    }
}

/// A recipe, evaluated, with the store and all that a build needs.
pub struct Project {
    /// The folder that the recipe stands in.
    pub dir: PathBuf,
    /// The evaluated recipe.
    pub graph: Graph,
    /// The store.
    pub store: Store,
    /// What was built before.
    pub history: History,
    /// Who runs steps.
    pub executor: LocalExecutor,
    /// Stops everything when tripped.
    pub cancel: Cancel,
    surroundings: Surroundings,
    trust: Trust,
}

/// Where a recipe is.
pub struct Place {
    /// Its file, in full.
    pub path: PathBuf,
    /// How messages call it.
    pub shown: String,
}

impl Place {
    /// Finds the recipe that is meant.
    pub fn find(global: &Global) -> Result<Self, Failure> {
        let (path, shown) = find_recipe(global)?;
        Ok(Self { path, shown })
    }

    /// The folder that it stands in.
    pub fn dir(&self) -> PathBuf {
        self.path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
    }
}

impl Project {
    /// Finds, reads and evaluates the recipe, and opens the store.
    pub fn open(global: &Global, evaluation: &Evaluation) -> Result<Self, Failure> {
        let place = Place::find(global)?;
        Self::open_with(&place, open_store(global)?, evaluation)
    }

    /// Reads and evaluates the recipe at `place`.
    pub fn open_with(
        place: &Place,
        store: Store,
        evaluation: &Evaluation,
    ) -> Result<Self, Failure> {
        let source = load(&place.path, &place.shown)?;
        let evaluated = recipe::evaluate(&source, &CATALOGUE, &evaluation.overrides);
        let graph = evaluated.map_err(|mut problems| {
            let dir = place.dir();
            let reader = Reader {
                store: &store,
                root: &dir,
                recipe: "",
                pointers: &RegistryPointers(&store),
                trust: evaluation.trust(),
                snapshot_limit: SNAPSHOT_LIMIT,
                snapshot_files: SNAPSHOT_FILES,
            };
            let surroundings = surroundings(&dir, &store);
            problems.extend(missing(&recipe::named(&source), &reader, &surroundings));
            problems.sort_by_key(|problem| problem.at.as_ref().map(|at| at.span.start));
            Failure::recipe(problems)
        })?;
        Self::with(place, graph, store, evaluation)
    }

    fn with(
        place: &Place,
        graph: Graph,
        store: Store,
        evaluation: &Evaluation,
    ) -> Result<Self, Failure> {
        let dir = place.dir();
        let history = History::load(&store, &graph.name, &dir)
            .map_err(|error| Failure::environment(&error, "kiln store verify tells more"))?;
        let wanted = match evaluation.sandbox {
            SandboxChoice::Full => Wanted::Full,
            SandboxChoice::Off => Wanted::Off,
        };
        let exe = std::env::current_exe()
            .map_err(|error| Failure::environment(&error, "start kiln by its full path"))?;
        let cancel = Cancel::new().map_err(|error| {
            Failure::environment(&error, "raise the limit of open files: ulimit -n")
        })?;
        Ok(Self {
            surroundings: surroundings(&dir, &store),
            executor: LocalExecutor::new(wanted, exe),
            trust: evaluation.trust(),
            dir,
            graph,
            store,
            history,
            cancel,
        })
    }

    /// Closes the store, at the end of the process; the rest is not taken apart.
    pub fn close(self) {
        let Self { store, executor, graph, history, .. } = self;
        drop((store, executor));
        std::mem::forget((graph, history));
    }

    /// Calls `work` with everything that a build or a plan needs.
    pub fn with_context<T>(&self, work: impl FnOnce(&Context<'_>) -> T) -> T {
        let pointers = RegistryPointers(&self.store);
        let reader = Reader {
            store: &self.store,
            root: &self.dir,
            recipe: &self.graph.name,
            pointers: &pointers,
            trust: self.trust,
            snapshot_limit: SNAPSHOT_LIMIT,
            snapshot_files: SNAPSHOT_FILES,
        };
        work(&Context {
            graph: &self.graph,
            store: &self.store,
            reader: &reader,
            surroundings: &self.surroundings,
            executor: &self.executor,
            history: &self.history,
            numbers: &NumbersInFiles,
            cancel: &self.cancel,
        })
    }

    /// The step called `name`.
    pub fn step(&self, name: &str) -> Result<StepId, Failure> {
        find_step(&self.graph, name)
    }

    /// The steps called `names`.
    pub fn steps(&self, names: &[String]) -> Result<Vec<StepId>, Failure> {
        names.iter().map(|name| self.step(name)).collect()
    }
}

/// The step called `name` in `graph`.
///
/// # Errors
/// If there is none: the nearest name, or all.
pub fn find_step(graph: &Graph, name: &str) -> Result<StepId, Failure> {
    graph.find(name).ok_or_else(|| {
        let names = graph.steps.iter().map(|step| step.name.as_str());
        let near = kiln_engine::diagnostic::nearest(name, names.clone());
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its steps: {}", names.collect::<Vec<_>>().join(", ")),
        };
        Failure::usage(format!("the recipe `{}` has no step `{name}`", graph.name), help)
    })
}

/// What steps of a recipe in `dir` take from this machine.
pub fn surroundings(dir: &Path, store: &Store) -> Surroundings {
    Surroundings::new(std::env::vars_os(), dir.to_owned(), store.home().join("facts"))
        .with_libraries(&crate::builders::CATALOGUE)
}

/// What deployments point at, from the registry.
pub struct RegistryPointers<'a>(pub &'a Store);

impl Pointers for RegistryPointers<'_> {
    fn current(&self, recipe: &str, deployment: &str) -> Result<Option<Object>, String> {
        let generation =
            Deployments::new(self.0).current(recipe, deployment).map_err(|error| chain(&error))?;
        Ok(generation.map(|generation| generation.release))
    }
}

/// Opens the store.
pub fn open_store(global: &Global) -> Result<Store, Failure> {
    let home = store_home(global)?;
    if home.exists() && !home.is_dir() {
        let what = format!(
            "there can be no store at `{}`: that is a file, and a store is a folder",
            home.display()
        );
        let help = "name a folder, which is made if it is not there: --home DIR, or KILN_HOME=DIR";
        return Err(Failure::failed(Diagnostic::new(what).help(help)));
    }
    Store::open(&home).map_err(|error| {
        Failure::environment(
            &error,
            "kiln doctor tells what is wrong; --home DIR names another place",
        )
    })
}

/// Where the store is, or is to be.
pub fn store_home(global: &Global) -> Result<PathBuf, Failure> {
    // An empty variable says as little as none.
    let given = global.home.clone().filter(|home| !home.as_os_str().is_empty());
    given.or_else(default_home).ok_or_else(|| {
        Failure::usage(
            "there is no place for the store: neither HOME nor XDG_DATA_HOME is set",
            "say where it is: KILN_HOME=DIR, or --home DIR",
        )
    })
}

fn default_home() -> Option<PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("kiln"))
}

/// The recipe's path, and how messages call it.
pub fn find_recipe(global: &Global) -> Result<(PathBuf, String), Failure> {
    let start = global.directory.clone().unwrap_or_default();
    if !start.as_os_str().is_empty() && !start.is_dir() {
        return Err(Failure::usage(
            format!("there is no folder `{}`", start.display()),
            "-C names the folder to go to first",
        ));
    }
    if let Some(file) = &global.file {
        let path = start.join(file);
        if path.is_dir() {
            return Err(Failure::usage(
                format!("`{}` is a folder", path.display()),
                format!("-f names a recipe file; for a folder say -C {}", path.display()),
            ));
        }
        if !path.is_file() {
            return Err(Failure::usage(
                format!("there is no recipe `{}`", path.display()),
                "-f names the recipe file",
            ));
        }
        let shown = path.display().to_string();
        return Ok((absolute(&path)?, shown));
    }
    let from = absolute(if start.as_os_str().is_empty() { Path::new(".") } else { &start })?;
    let found = from.ancestors().map(|dir| dir.join(RECIPE_FILE)).find(|path| path.is_file());
    match found {
        Some(path) => {
            let here = from.join(RECIPE_FILE);
            let shown = if path == here {
                start.join(RECIPE_FILE).display().to_string()
            } else {
                path.display().to_string()
            };
            Ok((path, shown))
        }
        None => {
            let failure = Failure::usage(
                format!("there is no {RECIPE_FILE} in `{}` or above it", from.display()),
                "kiln init writes one; -C DIR goes to where one is",
            );
            Err(match from.join(RECIPE_FILE).is_dir() {
                true => {
                    failure.note(format!("`{RECIPE_FILE}` is a folder there; a recipe is a file"))
                }
                false => failure,
            })
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| {
        Failure::environment(&error, format!("`{}` cannot be reached", path.display()))
    })
}

/// Reads and evaluates a recipe.
pub fn evaluate(
    path: &Path,
    shown: &str,
    overrides: &[(String, String)],
) -> Result<Graph, Failure> {
    let source = load(path, shown)?;
    recipe::evaluate(&source, &CATALOGUE, overrides).map_err(Failure::recipe)
}

fn load(path: &Path, shown: &str) -> Result<Arc<SourceText>, Failure> {
    recipe::load(path, shown).map_err(|error| {
        let help = match &error {
            recipe::LoadError::Read { .. } => {
                "it has to be readable for you: chmod u+r, or run kiln as its owner"
            }
            recipe::LoadError::NotUtf8 { .. } => "a recipe is a TOML file in UTF-8",
        };
        Failure::usage(chain(&error), help)
    })
}

/// A build that could not begin, as a failure.
pub fn build_failure(error: BuildError) -> Failure {
    match error {
        BuildError::Recipe(problems) => Failure::recipe(problems),
        BuildError::Store(error) => {
            Failure::environment(&error, "kiln doctor and kiln store verify tell more")
        }
    }
}
