//! An evaluated recipe: steps, sources and edges, as flat vectors with dense ids.
//!
//! Everything that depends only on the recipe's text, the builder catalogue and `--set` has been decided
//! here: types are checked, parameters substituted, references resolved, defaults filled in. What the
//! references stand for on disk has not: this module is unaware of files and of the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::diagnostic::Location;

/// An evaluated recipe.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The recipe's name: `[A-Za-z0-9_.-]+`.
    pub name: String,
    /// What it says it is for.
    pub description: String,
    /// The parameters in force, as canonical text, for display.
    pub params: BTreeMap<String, String>,
    /// The sources that the recipe declares, used or not, sorted by name.
    pub sources: Vec<Source>,
    /// The steps, sorted topologically (and by name where the order is free): a step's inputs come before it.
    pub steps: Vec<Step>,
    /// The deployments, sorted so that what `after` names comes first.
    pub deployments: Vec<Deployment>,
}

/// Index of a source in [`Graph::sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// Index of a step in [`Graph::steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub u32);

impl SourceId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl StepId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Graph {
    /// The source with this id.
    pub fn source(&self, id: SourceId) -> &Source {
        &self.sources[id.index()]
    }

    /// The step with this id.
    pub fn step(&self, id: StepId) -> &Step {
        &self.steps[id.index()]
    }

    /// All step ids, inputs before what needs them.
    pub fn step_ids(&self) -> impl DoubleEndedIterator<Item = StepId> + ExactSizeIterator + use<> {
        (0..self.steps.len() as u32).map(StepId)
    }

    /// The step called `name`.
    pub fn find(&self, name: &str) -> Option<StepId> {
        self.step_ids().find(|&id| self.step(id).name == name)
    }

    /// What `reference` is in the end, behind aliases.
    pub fn origin(&self, mut reference: Reference) -> Reference {
        while let Reference::Output(step, number) = reference {
            match self.step(step).outputs[number as usize].alias {
                Some(target) => reference = target,
                None => break,
            }
        }
        reference
    }

    /// How the recipe would write `reference`: `sources.data`, `split.train`, or `release` for a lone `out`.
    pub fn spell(&self, reference: Reference) -> String {
        match reference {
            Reference::Source(id) => format!("sources.{}", self.source(id).name),
            Reference::Output(id, output) => {
                let step = self.step(id);
                match step.outputs[output as usize].name.as_str() {
                    "out" if step.outputs.len() == 1 => step.name.clone(),
                    name => format!("{}.{name}", step.name),
                }
            }
        }
    }
}

/// Something that a step reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A source.
    Source(SourceId),
    /// Output number n of a step.
    Output(StepId, u32),
}

/// An input from outside.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name in `[sources]`.
    pub name: String,
    /// What it is.
    pub origin: Origin,
    /// Where the recipe says so.
    pub at: Location,
}

/// Where a source comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A file or a folder, relative to the recipe, inside it; `/` between names, no `.` or `..`.
    Path(String),
    /// Files by pattern, relative to the recipe, inside it.
    Glob(String),
    /// What a deployment points at now.
    Deployment {
        /// The deployment's name.
        deployment: String,
        /// Which part of the release: a path inside it, such as `model`. Empty: the release itself.
        output: String,
        /// Whether pointing nowhere is accepted.
        absent: Absent,
    },
}

/// What a moving source means that points nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Absent {
    /// An error.
    Error,
    /// The input is absent, and the builder is told so.
    Accept,
}

/// A derivation: a step, evaluated.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name in the recipe. Not in the key.
    pub name: String,
    /// Who carries it out. In the key.
    pub builder: BuilderId,
    /// Arguments after substitution and with defaults, by name. In the key. For `command` this is `run`: a
    /// [`Value::Text`] for the shell or a [`Value::List`] of texts.
    pub args: BTreeMap<String, Value>,
    /// Arguments that say how, not what. Not in the key.
    pub implementation: BTreeMap<String, Value>,
    /// `files`: recipe-relative paths, folders or globs, each with its place. Their contents are in the key.
    pub files: Vec<(String, Location)>,
    /// `env`: declared variables. In the key.
    pub env: BTreeMap<String, Value>,
    /// `pass_env`: variables taken from the caller's environment, by name and value in the key; sorted.
    pub pass_env: Vec<String>,
    /// What it can run.
    pub toolchain: Toolchain,
    /// What it makes, sorted by name. Names and file names are in the key.
    pub outputs: Vec<Output>,
    /// How reproducible it says it is. In the key.
    pub determinism: Determinism,
    /// Whether it may use the network. In the key.
    pub network: bool,
    /// The recipe's salt. In the key.
    pub salt: String,
    /// Whether architecture and operating system are in the key.
    pub platform: bool,
    /// Whether it gives a verdict.
    pub gate: bool,
    /// How much it needs. Not in the key.
    pub resources: Resources,
    /// The parameters that it names. Their values are in the key where they stand.
    pub params: BTreeSet<String>,
    /// Every reference in `args`, `implementation` and `env`, once each, sorted: the edges of the graph.
    pub inputs: Vec<Reference>,
    /// Where the recipe defines it (its header).
    pub at: Location,
}

impl Step {
    /// The steps that it reads from, once each, sorted.
    pub fn upstream(&self) -> Vec<StepId> {
        let mut steps: Vec<StepId> = self
            .inputs
            .iter()
            .filter_map(|input| match input {
                Reference::Output(step, _) => Some(*step),
                Reference::Source(_) => None,
            })
            .collect();
        steps.dedup();
        steps
    }

    /// Number of the output called `name`.
    pub fn output(&self, name: &str) -> Option<u32> {
        self.outputs.iter().position(|output| output.name == name).map(|index| index as u32)
    }
}

/// A builder's name and semantic version: `validate@1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuilderId {
    /// The name; `command` for programs.
    pub name: String,
    /// The version.
    pub version: u32,
}

impl BuilderId {
    /// Whether this is the engine's own builder that runs any program.
    pub fn is_command(&self) -> bool {
        self.name == "command"
    }
}

impl fmt::Display for BuilderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// When an output of a gate exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Availability {
    /// Whatever the verdict.
    Always,
    /// Only where the gate accepted.
    IfAccepted,
}

/// An argument, after substitution.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number; finite or infinite, never NaN.
    Float(f64),
    /// Text, perhaps with references in it. Never two [`Part::Text`] in a row; the empty text is no parts.
    Text(Vec<Part>),
    /// Values in the author's order.
    List(Vec<Value>),
    /// Values by name.
    Table(BTreeMap<String, Value>),
    /// A file or folder, for a builder argument of type input.
    Input(Reference),
}

impl Value {
    /// A text without references.
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::Text(if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] })
    }
}

/// A piece of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Text(String),
    /// The path at which the step sees this input.
    Input(Reference),
    /// The path at which the step writes its output number n.
    Output(u32),
}

/// What a step can run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Toolchain {
    /// Nothing beyond kiln itself.
    Builtin,
    /// The host's system folders; the host's identity is in the key.
    Host,
    /// These programs and the core utilities; their fingerprints are in the key. Sorted, none twice.
    Tools(Vec<String>),
    /// kiln itself, with this library of the machine's; the digests of its files are in the key.
    Library(String),
}

/// One output of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name: `[A-Za-z0-9_-]+`.
    pub name: String,
    /// The name under `/build/out`.
    pub file: String,
    /// When it exists.
    pub availability: Availability,
    /// The input that it is, if it has no bytes of its own.
    pub alias: Option<Reference>,
}

/// How reproducible a step says it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Determinism {
    /// A second run gives the same bytes.
    Bitwise,
    /// A second run gives the same numbers within this bound, and all else as it was.
    Tolerance(Tolerance),
    /// Nothing is promised.
    None,
}

/// How far two numbers may lie apart that count as equal: by at most `absolute`, or by at most `relative` of the larger one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tolerance {
    /// The difference. Finite, at least 0.
    pub absolute: f64,
    /// The difference, divided by the larger magnitude. Finite, at least 0.
    pub relative: f64,
}

/// What a step needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Processor slots.
    pub cpus: u32,
    /// The most memory that it may use, in bytes.
    pub memory: Option<u64>,
    /// GPUs that it is lent.
    pub gpus: u32,
    /// It runs without GPUs, too, where there are none.
    pub spares_gpus: bool,
    /// The longest that it may take.
    pub timeout: Option<Duration>,
    /// How often it is tried again after it failed.
    pub retries: u32,
}

impl Resources {
    /// How many GPUs it is lent where there are so many.
    pub fn gpus_of(&self, there: u32) -> u32 {
        if self.spares_gpus { self.gpus.min(there) } else { self.gpus }
    }
}

impl Default for Resources {
    /// One processor, and no limits.
    fn default() -> Self {
        Self { cpus: 1, memory: None, gpus: 0, spares_gpus: false, timeout: None, retries: 0 }
    }
}

/// A named place that a release goes to.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// The release.
    pub release: Reference,
    /// The deployment that must run the same model first.
    pub after: Option<String>,
    /// Where the recipe defines it.
    pub at: Location,
}
