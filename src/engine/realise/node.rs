//! The state of one step in a build. Data only; the owner changes it.

use std::time::Instant;

use kiln_cache::{Digest, Realisation};

use crate::{
    attempt::{Failed, Purpose},
    difference::Findings,
    event::{AttemptReport, How},
    explain::Reason,
    key::Places,
};

/// Where a step stands. Changed in the owner's methods only.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nobody has asked for it.
    Idle,
    /// Asked for; some input is not known yet.
    Resolving,
    /// It has a result, and nothing more is to be done unless bytes are asked for that are not there.
    Known,
    /// It has to run; the bytes of some input are not there yet.
    Gathering(Purpose),
    /// It has to run, and waits for a slot.
    Queued(Purpose),
    /// It runs.
    Running(Purpose),
    /// It failed.
    Failed,
    /// It cannot be reached, for this reason.
    Skipped(String),
    /// It was stopped.
    Stopped,
}

/// What is asked of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Demand {
    /// It is not needed.
    Nothing,
    /// What its outputs are.
    Known,
    /// The outputs themselves.
    Present,
}

/// A step's state.
pub(super) struct Node {
    pub(super) phase: Phase,
    pub(super) demand: Demand,
    pub(super) key: Option<Digest>,
    pub(super) places: Places,
    pub(super) result: Option<Realisation>,
    pub(super) how: How,
    /// Under which key it ran last in this build.
    pub(super) made: Option<Digest>,
    pub(super) why: Vec<String>,
    pub(super) checked: bool,
    /// Whether a second run came to its end, whatever came afterwards.
    pub(super) ran_for_check: bool,
    /// Why it could not be checked, though that was asked for.
    pub(super) unchecked: Option<String>,
    pub(super) findings: Findings,
    pub(super) failure: Option<Failed>,
    pub(super) attempts: Vec<AttemptReport>,
    /// While it ran, something that it read was made anew and came out differently.
    pub(super) stale: bool,
    /// When its last run began.
    pub(super) started: Option<Instant>,
    /// Whether its end was told already.
    pub(super) announced: bool,
}

impl Node {
    /// A step that nobody has asked for.
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Idle,
            demand: Demand::Nothing,
            key: None,
            places: Places::default(),
            result: None,
            how: How::Skipped,
            made: None,
            why: Vec::new(),
            checked: false,
            ran_for_check: false,
            unchecked: None,
            findings: Findings::default(),
            failure: None,
            attempts: Vec::new(),
            stale: false,
            started: None,
            announced: false,
        }
    }

    /// Takes back why it was to run, once its result was found instead. What ran for a check ran for that.
    pub(super) fn keep_why_of_runs(&mut self) {
        if self.how != How::Ran {
            self.why = if self.ran_for_check { Reason::Check.lines() } else { Vec::new() };
        }
    }

    /// Whether it will never have a result in this build.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.phase, Phase::Failed | Phase::Skipped(_) | Phase::Stopped)
    }
}
