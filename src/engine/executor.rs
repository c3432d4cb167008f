//! Where a builder runs: the seam between the engine and machines.
//!
//! An executor is handed a [`Job`] whose inputs are there, carries it out, and says where the outputs lie. It
//! is unaware of keys, records and other steps.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use kiln_cache::{Isolation, Object, Verdict};

use crate::{
    gpu::Lease,
    graph::{Reference, Step},
    sandbox::{Cancel, Exit, SandboxError},
    tools::ToolSet,
};

/// A derivation that is to be carried out.
pub struct Job<'a> {
    /// The step.
    pub step: &'a Step,
    /// Its inputs by place; absent ones have neither object nor path.
    pub inputs: Vec<JobInput>,
    /// Its `files`: recipe-relative path, and a host path to copy from.
    pub files: Vec<(String, PathBuf)>,
    /// The values of `pass_env` that are set.
    pub passed: Vec<(String, String)>,
    /// The programs of a step with `tools`.
    pub tools: Option<ToolSet>,
    /// Processor slots that it was given.
    pub cpus: u32,
    /// GPUs that it is lent.
    pub gpus: Option<&'a Lease>,
    /// A folder of its own, in which there is nothing but, perhaps, empty folders of a step before it.
    pub scratch: &'a Path,
    /// Where what it prints is to be written.
    pub log: &'a Path,
    /// Tells it to stop.
    pub cancel: &'a Cancel,
}

/// One input of a [`Job`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobInput {
    /// What it is in the graph.
    pub reference: Reference,
    /// Its name in the folder of inputs.
    pub place: String,
    /// Its content, and where that lies on the host.
    pub content: Option<(Object, PathBuf)>,
}

/// A job that was carried out, well or not.
#[derive(Clone, Debug)]
pub struct Executed {
    /// How it ended.
    pub exit: Exit,
    /// What the gate said.
    pub verdict: Option<Verdict>,
    /// How well it was kept apart.
    pub isolation: Isolation,
    /// Seconds of processor time.
    pub cpu_seconds: f64,
    /// Bytes of memory at its peak.
    pub peak_memory: u64,
    /// How long it took.
    pub wall: Duration,
    /// The folder in which each output lies under its file name.
    pub outputs: PathBuf,
}

/// Why a job could not be carried out at all.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The sandbox could not be made, or not started.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The job's folders could not be laid out.
    #[error("failed to {action} `{}`", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The program that carries out built-in builders was replaced since the build began, by an upgrade for instance.
    #[error("`{}` was replaced while the build was running; build again with the new one", .0.display())]
    Replaced(PathBuf),
    /// A built-in builder's answer makes no sense: a defect of kiln's.
    #[error("the builder's answer cannot be read (this is a defect of kiln)")]
    Response(#[source] serde_json::Error),
}

/// Somewhere a builder can run.
pub trait Executor: Sync {
    /// How well it keeps steps apart.
    fn isolation(&self) -> Isolation;

    /// Carries `job` out.
    ///
    /// # Errors
    /// If the job could not be started. A job that started and went wrong is no error: its exit says so.
    fn execute(&self, job: &Job<'_>) -> Result<Executed, ExecuteError>;
}
