//! What a build tells while it runs, and its report at the end.
//!
//! Data only; showing it is somebody else's business.

use std::{collections::BTreeMap, path::Path, time::Duration};

use kiln_cache::{Digest, Isolation, Object, Verdict};
use serde::Serialize;

use crate::{difference::Deviation, forecast::Forecast, graph::StepId};

/// Something that happened in a build.
#[derive(Debug)]
pub enum Event<'a> {
    /// The build begins: so many steps are in the closure of what was asked for.
    Begun {
        /// How many.
        steps: usize,
    },
    /// A step runs now.
    Started {
        /// Which.
        step: StepId,
        /// Its name.
        name: &'a str,
        /// Why it runs, the main reason first.
        why: &'a [String],
        /// How long it took the last time, as far as anyone knows.
        estimate: Option<Duration>,
    },
    /// Another process is carrying out the same action; the build waits for it.
    Waiting {
        /// Which step.
        step: StepId,
        /// Its name.
        name: &'a str,
    },
    /// What a step prints goes to a file from now on, which is there until the step ends.
    Printing {
        /// Which step.
        step: StepId,
        /// The file.
        log: &'a Path,
    },
    /// An attempt at a step failed, and it is tried again.
    Retrying {
        /// Which step.
        step: StepId,
        /// Its name.
        name: &'a str,
        /// The number of the attempt that begins now, from 2.
        attempt: u32,
        /// How many there can be.
        of: u32,
        /// Why the attempt before it failed.
        reason: &'a str,
    },
    /// A step is done with: reused, run, failed or skipped.
    Finished {
        /// Which.
        step: StepId,
        /// What came of it.
        report: &'a StepReport,
    },
    /// How long the rest of the build will take, told about once a second while steps run.
    Forecast(&'a Forecast),
    /// Something that the user should know, said once.
    Note(&'a str),
}

/// What came of a build.
#[derive(Debug, Clone, Serialize)]
pub struct BuildReport {
    /// The recipe's name.
    pub recipe: String,
    /// One for each step in the closure of what was asked for, inputs first.
    pub steps: Vec<StepReport>,
    /// How long it took.
    pub seconds: f64,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
}

/// What came of one step.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// Its name.
    pub step: String,
    /// Its action key, if it was reached.
    pub action_key: Option<Digest>,
    /// How its outputs came to be.
    pub how: How,
    /// What the gate said; `None` if it is no gate or was not reached.
    pub verdict: Option<VerdictWord>,
    /// Why it was rejected or accepted, why it failed or was skipped.
    pub reason: Option<String>,
    /// How reproducible it says it is.
    pub determinism: &'static str,
    /// How well it was kept apart.
    pub isolation: Option<Isolation>,
    /// What it made.
    pub outputs: BTreeMap<String, OutputReport>,
    /// How long the run took that made the outputs, now or earlier.
    pub seconds: f64,
    /// Where its log is.
    pub log: Option<std::path::PathBuf>,
    /// Why it ran, or was not reused.
    pub why: Vec<String>,
    /// What came of each attempt, if there was more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptReport>,
    /// Why `--check` could not hold it to its word; `None` if it did, or was not asked to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unchecked: Option<String>,
    /// Differences that `--check` found, file by file; empty if none or if it was not asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// The two numbers that `--check` found to lie farthest apart, where they may; measured by the step's bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation: Option<Deviation>,
    /// How to go on after a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The last lines of a failed step's log.
    #[serde(skip)]
    pub log_tail: Vec<String>,
}

/// One of several attempts at a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttemptReport {
    /// Its number, from 1.
    pub attempt: u32,
    /// Why it failed; `None` if it did not.
    pub reason: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

/// How a step's outputs came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// They were in the store.
    Reused,
    /// They were had from elsewhere.
    Substituted,
    /// The step ran.
    Ran,
    /// The step ran, or should have, and did not do what it must.
    Failed,
    /// It was not reached: something that it needs is not there.
    Skipped,
}

/// A verdict in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictWord {
    /// All that the gate asked for holds.
    Accepted,
    /// Something does not.
    Rejected,
}

impl From<&Verdict> for VerdictWord {
    fn from(verdict: &Verdict) -> Self {
        if verdict.accepted { Self::Accepted } else { Self::Rejected }
    }
}

/// One output of a step.
#[derive(Debug, Clone, Serialize)]
pub struct OutputReport {
    /// `file` or `tree`.
    pub kind: kiln_cache::Kind,
    /// The digest of its content.
    pub digest: Digest,
    /// Whether it is an executable file.
    pub executable: bool,
    /// Where it is; `None` if it is known but not here.
    pub path: Option<std::path::PathBuf>,
    /// How large it is.
    pub bytes: u64,
}

impl OutputReport {
    /// The object.
    pub fn object(&self) -> Object {
        Object { kind: self.kind, digest: self.digest, executable: self.executable }
    }
}

impl BuildReport {
    /// How many steps ended so.
    pub fn count(&self, how: How) -> usize {
        self.steps.iter().filter(|step| step.how == how).count()
    }

    /// Whether some gate rejected.
    pub fn rejected(&self) -> bool {
        self.steps.iter().any(|step| step.verdict == Some(VerdictWord::Rejected))
    }

    /// Whether some step failed.
    pub fn failed(&self) -> bool {
        self.count(How::Failed) > 0
    }

    /// Whether `--check` found a difference.
    pub fn differs(&self) -> bool {
        self.steps.iter().any(|step| !step.differences.is_empty())
    }

    /// Seconds of earlier runs that were not repeated.
    pub fn seconds_saved(&self) -> f64 {
        self.steps
            .iter()
            .filter(|step| matches!(step.how, How::Reused | How::Substituted))
            .map(|step| step.seconds)
            .sum()
    }
}
