//! One attempt to carry out a derivation, from the lock to the record.
//!
//! This is what a worker does. It sees one step, its key and where its inputs lie; it is unaware of the graph and of
//! what else is being built.

mod check;
pub mod log;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use kiln_cache::{
    Cost, Determinism, Digest, FsError, Ingest, IngestError, Isolation, Object, Output, Precedence,
    Realisation, Recorded, Scratch, Store,
};

use self::{
    check::check,
    log::{Logs, tail},
};
use crate::{
    diagnostic::chain,
    difference::{Findings, Numbers},
    event::AttemptReport,
    executor::{ExecuteError, Executor, Job, JobInput},
    gpu::Lease,
    graph::{self, Availability, Reference, Step, Toolchain},
    obstacle, place,
    sandbox::{Cancel, Exit, SandboxError},
    source::{Disturbance, Reading, Resolved},
    surroundings::Surroundings,
    tools::ToolSet,
};

/// How often a step begins again because somebody touched what it read and left it as it was: made a link to it, say.
const DISTURBANCES: u32 = 2;

/// What a worker is to do.
pub struct Order<'a> {
    /// The recipe's name, for the record.
    pub recipe: &'a str,
    /// The step.
    pub step: &'a Step,
    /// Its action key.
    pub key: Digest,
    /// Its inputs by place.
    pub inputs: Vec<Input<'a>>,
    /// Its `files`: path, where it lies, content.
    pub files: Vec<(String, PathBuf, Object)>,
    /// Values of `pass_env` that are set.
    pub passed: Vec<(String, String)>,
    /// The programs of a step with `tools`.
    pub tools: Option<Arc<ToolSet>>,
    /// What its programs were looked up in.
    pub surroundings: &'a Surroundings,
    /// Processor slots.
    pub cpus: u32,
    /// GPUs that it is lent.
    pub gpus: Option<Lease>,
    /// The key manifest's text.
    pub manifest: String,
    /// Why it runs.
    pub purpose: Purpose,
    /// The weakest isolation of a recorded result that will do.
    pub isolation: Isolation,
}

/// One input of an [`Order`].
pub struct Input<'a> {
    /// What it is in the graph.
    pub reference: Reference,
    /// The extension under which the step sees it.
    pub extension: String,
    /// What it is; `None` if absent.
    pub object: Option<Object>,
    /// Its size.
    pub bytes: u64,
    /// The source, if it is one (perhaps behind an alias).
    pub source: Option<&'a Resolved>,
}

/// Why a step runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Purpose {
    /// There is no result that can be used.
    Missing,
    /// Outputs of this result are lost.
    Lost(Box<Realisation>),
    /// It was asked to be done once more, and counts from now on.
    Again,
    /// To be compared with this result; nothing is recorded.
    Check(Box<Realisation>),
}

/// What came of an attempt.
#[derive(Debug)]
pub enum Outcome {
    /// It ran, and this is on record.
    Made(Box<Realisation>),
    /// Meanwhile somebody else had made it.
    Found(Box<Realisation>),
    /// It ran for a check.
    Checked(Findings),
    /// It did not do what it must. Nothing is recorded.
    Failed(Failed),
    /// It was stopped.
    Interrupted,
}

/// What a worker tells while it is at a step.
#[derive(Debug)]
pub enum News {
    /// Another process is at the same action.
    Waiting,
    /// It begins to run, and prints into this file.
    Printing(PathBuf),
    /// An attempt failed, and another one begins.
    Retrying {
        /// Its number, from 2.
        attempt: u32,
        /// How many there can be.
        of: u32,
        /// Why the one before failed.
        reason: String,
    },
}

/// What a worker did.
#[derive(Debug)]
pub struct Carried {
    /// What came of it in the end.
    pub outcome: Outcome,
    /// What came of each attempt that was begun.
    pub attempts: Vec<AttemptReport>,
}

/// A step that failed.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub reason: String,
    /// How to go on.
    pub help: Option<String>,
    /// What it printed.
    pub log: Option<Object>,
    /// The last lines of that.
    pub tail: Vec<String>,
}

impl Failed {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), help: None, log: None, tail: Vec::new() }
    }

    /// The same, with a way to go on.
    pub(crate) fn helped(self, help: &str) -> Self {
        Self { help: Some(help.to_owned()), ..self }
    }
}

/// What a worker works with.
pub struct Workshop<'a> {
    /// The store.
    pub store: &'a Store,
    /// Who runs jobs.
    pub executor: &'a dyn Executor,
    /// Who reads numbers in what steps make, for checks.
    pub numbers: &'a dyn Numbers,
    /// Stops everything.
    pub cancel: &'a Cancel,
    /// Folders of steps that are done, for the next ones.
    spare: Mutex<Vec<Scratch>>,
}

impl<'a> Workshop<'a> {
    /// One with these.
    pub fn new(
        store: &'a Store,
        executor: &'a dyn Executor,
        numbers: &'a dyn Numbers,
        cancel: &'a Cancel,
    ) -> Self {
        Self { store, executor, numbers, cancel, spare: Mutex::default() }
    }
}

impl Workshop<'_> {
    /// A folder for a step, in which nothing of another step is.
    fn scratch(&self) -> Result<Scratch, FsError> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.map_or_else(|| self.store.scratch_dir(), Ok)
    }

    /// Keeps the folder of a step that is done for the next one. A step that could reach the folder itself may have set
    /// something on it that cannot be seen.
    fn keep(&self, scratch: Scratch) {
        if self.executor.isolation() == Isolation::Full && scratch.renew().is_ok() {
            self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        }
    }

    /// Carries `order` out, telling `tell` what happens on the way.
    pub fn carry_out(&self, order: &Order<'_>, tell: &dyn Fn(News)) -> Carried {
        let mut attempts = Vec::new();
        let outcome = match self.attempts(order, tell, &mut attempts) {
            Ok(outcome) => outcome,
            Err(failed) if self.cancel.is_tripped() => {
                drop(failed);
                Outcome::Interrupted
            }
            Err(failed) => Outcome::Failed(*failed),
        };
        Carried { outcome, attempts }
    }

    fn attempts(
        &self,
        order: &Order<'_>,
        tell: &dyn Fn(News),
        attempts: &mut Vec<AttemptReport>,
    ) -> Result<Outcome, Box<Failed>> {
        let store = self.store;
        if let Some((reason, help)) = obstacle::cannot_record(store) {
            return Err(Box::new(Failed { help: Some(help), ..Failed::new(reason) }));
        }
        let _lock = match store.try_lock_action(&order.key).map_err(|error| self.ours(&error))? {
            Some(lock) => lock,
            None => {
                tell(News::Waiting);
                match store.lock_action(&order.key, &|| self.cancel.is_tripped()) {
                    Ok(lock) => lock,
                    Err(kiln_cache::LockError::Cancelled) => return Ok(Outcome::Interrupted),
                    Err(error) => return Err(self.ours(&error)),
                }
            }
        };
        if let Some(found) = self.found(order).map_err(|error| self.ours(&error))? {
            return Ok(Outcome::Found(Box::new(found)));
        }
        let of = order.step.resources.retries.saturating_add(1);
        let mut logs = Logs::new(store);
        for attempt in 1.. {
            let began = Instant::now();
            let number = format!("attempt {attempt} of {of}");
            let mut disturbed = 0;
            let (scratch, made) = loop {
                // Another one each time: nothing of a failed attempt is left for the next.
                let scratch = self.scratch().map_err(|error| self.ours(&error))?;
                let keep = |log: &Path| logs.keep(log, &number);
                tell(News::Printing(scratch.path().join("log")));
                let made = self.attempt(order, scratch.path(), disturbed == 0, &keep);
                match &made {
                    Err(miss) if miss.again == Again::AtOnce && disturbed < DISTURBANCES => {
                        disturbed += 1;
                    }
                    _ => break (scratch, made),
                }
                if self.cancel.is_tripped() {
                    return Ok(Outcome::Interrupted);
                }
            };
            let log = scratch.path().join("log");
            let report = |reason: Option<&String>| AttemptReport {
                attempt,
                reason: reason.cloned(),
                seconds: began.elapsed().as_secs_f64(),
            };
            let miss = match made {
                Ok(outcome) => {
                    attempts.push(report(None));
                    self.keep(scratch);
                    return Ok(outcome);
                }
                Err(miss) => miss,
            };
            attempts.push(report(Some(&miss.failed.reason)));
            if self.cancel.is_tripped() {
                return Ok(Outcome::Interrupted);
            }
            let heading = format!("{number}: {}", miss.failed.reason);
            // The step's folder is still there: what it has filled is not free yet.
            let full = obstacle::advice_if_full(store);
            if attempt < of && miss.again == Again::Worthwhile && full.is_none() {
                logs.put_aside(&log, &heading).map_err(|error| self.ours(&error))?;
                let reason = miss.failed.reason;
                tell(News::Retrying { attempt: attempt + 1, of, reason });
                continue;
            }
            let mut failed = miss.failed;
            failed.tail = tail(&log).unwrap_or_default();
            let said = |words: &str| failed.tail.iter().any(|line| line.contains(words));
            if full.is_some() {
                failed.help = full;
            } else if failed.help.is_none() && said("No space left on device") {
                failed.help = Some(obstacle::advice_if_filled(store));
            } else if failed.help.is_none() && said("No such file or directory") {
                failed.help = Some(UNSEEN.to_owned());
            }
            failed.log = logs.keep(&log, &heading);
            if attempt > 1 {
                failed.reason = format!("{} (the last of {attempt} attempts)", failed.reason);
            }
            return Err(failed);
        }
        unreachable!("the last attempt returns")
    }

    /// One attempt, in a folder of its own; `keep` keeps its log.
    fn attempt(
        &self,
        order: &Order<'_>,
        scratch: &Path,
        undisturbed: bool,
        keep: &dyn Fn(&Path) -> Option<Object>,
    ) -> Result<Outcome, Miss> {
        let store = self.store;
        let log = scratch.join("log");
        upgraded(order)?;
        let (job, readings) = self.job(order, scratch, &log, undisturbed)?;
        let started_ms = unix_ms();
        let executed = self.executor.execute(&job).map_err(|error| Miss {
            again: match &error {
                // Somebody else ended it: the system, for lack of memory.
                ExecuteError::Sandbox(SandboxError::Lost { .. }) => Again::Worthwhile,
                _ => Again::Useless,
            },
            failed: failure(
                chain(&error),
                execute_help(&error, order.step)
                    .or_else(|| obstacle::advice_on_room(store, &error)),
            ),
        })?;
        // A step that finished just before the build was stopped is finished, and kept.
        let stopped = self.cancel.is_tripped() && !executed.exit.is_success();
        if executed.exit == Exit::Cancelled || stopped {
            return Ok(Outcome::Interrupted);
        }
        let exit = executed.exit;
        if let Some(disturbance) = readings.iter().find_map(|reading| reading.disturbance(store)) {
            // What it made, or why it failed, says nothing.
            return Err(disturbed(disturbance));
        }
        upgraded(order)?;
        if !exit.is_success() {
            return Err(Miss::of_the_step(exit.to_string(), exit_help(exit, order.step)));
        }
        let accepted = executed.verdict.as_ref().is_none_or(|verdict| verdict.accepted);
        if let Purpose::Check(recorded) = &order.purpose {
            let found = check(store, self.numbers, order.step, recorded, &executed)
                .map_err(|error| Miss::of_the_surroundings(chain(&error), None))?;
            return Ok(Outcome::Checked(found));
        }
        let mut outputs = Vec::new();
        let mut output_bytes = 0;
        for output in &order.step.outputs {
            if output.availability == Availability::IfAccepted && !accepted {
                continue;
            }
            if let Some(reference) = output.alias {
                outputs.extend(alias(order, output, reference));
                continue;
            }
            let path = executed.outputs.join(&output.file);
            if path.symlink_metadata().is_err() {
                return Err(Miss::of_the_step(
                    format!("it left no output `{}`", output.name),
                    Some(format!(
                        "it has to write a file or a folder at {}",
                        shown(order.step, output)
                    )),
                ));
            }
            let made = store.ingest(&path, taken(executed.isolation)).map_err(|error| {
                let (reason, help) = unstored(&output.name, &error);
                match error {
                    IngestError::Refused { .. } => Miss::of_the_step(reason, help),
                    _ => Miss::of_the_surroundings(reason, help),
                }
            })?;
            output_bytes += made.bytes;
            outputs.push(Output {
                name: output.name.clone(),
                object: made.object,
                bytes: made.bytes,
                extension: place::extension(&output.file),
                alias: None,
            });
        }
        let realisation = Realisation {
            key: order.key,
            attempt: 0,
            recipe: order.recipe.to_owned(),
            step: order.step.name.clone(),
            builder: order.step.builder.to_string(),
            outputs,
            verdict: executed.verdict,
            isolation: executed.isolation,
            determinism: match order.step.determinism {
                graph::Determinism::Bitwise => Determinism::Bitwise,
                graph::Determinism::Tolerance(_) => Determinism::Tolerance,
                graph::Determinism::None => Determinism::None,
            },
            manifest: order.manifest.clone(),
            log: keep(&log),
            refs: snapshots(store, order),
            cost: Cost {
                started_ms,
                seconds: executed.wall.as_secs_f64(),
                cpu_seconds: executed.cpu_seconds,
                peak_memory: executed.peak_memory,
                input_bytes: order.inputs.iter().map(|input| input.bytes).sum(),
                output_bytes,
            },
            boot: String::new(),
            group: 0,
        };
        let precedence = match order.purpose {
            Purpose::Missing => Precedence::First,
            // What is lost cannot be served any more, so its successor takes its place.
            Purpose::Lost(_) | Purpose::Again | Purpose::Check(_) => Precedence::Again,
        };
        let recorded = store
            .record(realisation, precedence)
            .map_err(|error| Miss::of_the_surroundings(chain(&error), None))?;
        Ok(match recorded {
            Recorded::Written(realisation) => Outcome::Made(Box::new(realisation)),
            Recorded::Kept(realisation) => Outcome::Found(Box::new(realisation)),
        })
    }

    /// What failed is the store, not the step.
    fn ours(&self, error: &(impl std::error::Error + 'static)) -> Box<Failed> {
        let help = obstacle::advice(self.store.home(), error);
        Box::new(Failed { help, ..Failed::new(chain(error)) })
    }

    /// A usable result that somebody recorded since the owner looked.
    fn found(&self, order: &Order<'_>) -> Result<Option<Realisation>, FsError> {
        if matches!(order.purpose, Purpose::Again | Purpose::Check(_)) {
            return Ok(None);
        }
        let found = self.store.realisation(&order.key)?;
        Ok(found.filter(|found| {
            found.isolation >= order.isolation
                && found
                    .outputs
                    .iter()
                    .all(|output| output.alias.is_some() || self.store.contains(&output.object))
        }))
    }

    fn job<'b>(
        &'b self,
        order: &'b Order<'_>,
        scratch: &'b Path,
        log: &'b Path,
        undisturbed: bool,
    ) -> Result<(Job<'b>, Vec<Reading>), Box<Failed>> {
        let mut inputs = Vec::new();
        let mut readings = Vec::new();
        for (number, input) in order.inputs.iter().enumerate() {
            let content = match (input.object, input.source) {
                (None, _) => None,
                (Some(object), Some(source)) => {
                    let reading =
                        source.begin(self.store, undisturbed).map_err(|error| self.ours(&error))?;
                    let path = reading.path.clone();
                    readings.push(reading);
                    Some((object, path))
                }
                (Some(object), None) => Some((object, self.store.path(&object))),
            };
            let place = place::file_name(number as u32, &input.extension);
            // Without a sandbox nothing but file modes keeps a step from its inputs, and root passes those by.
            let content = match content {
                Some((object, path)) if self.executor.isolation() == Isolation::Off => {
                    Some((object, self.own_copy(object, &path, scratch, &place)?))
                }
                content => content,
            };
            inputs.push(JobInput { reference: input.reference, place, content });
        }
        let mut files = Vec::new();
        for (name, path, object) in &order.files {
            if !self.store.contains(object) {
                let (now, _) = self
                    .store
                    .snapshot_file(path, kiln_cache::Trust::Rehash)
                    .map_err(|error| Box::new(Failed::new(chain(&error))))?;
                if now.digest != object.digest {
                    let reason = format!("`{name}` changed while the build was running");
                    return Err(Box::new(Failed::new(reason)));
                }
            }
            files.push((name.clone(), self.store.path(object)));
        }
        let job = Job {
            step: order.step,
            inputs,
            files,
            passed: order.passed.clone(),
            tools: order.tools.as_deref().cloned(),
            cpus: order.cpus,
            gpus: order.gpus.as_ref(),
            scratch,
            log,
            cancel: self.cancel,
        };
        Ok((job, readings))
    }
}

impl Workshop<'_> {
    /// A copy of an input in the step's own folder. What is not in the store is read where it lies.
    fn own_copy(
        &self,
        object: Object,
        path: &Path,
        scratch: &Path,
        place: &str,
    ) -> Result<PathBuf, Box<Failed>> {
        if !self.store.contains(&object) {
            return Ok(path.to_owned());
        }
        let folder = scratch.join("inputs");
        let copy = folder.join(place);
        fs::create_dir_all(&folder).map_err(|error| self.ours(&error))?;
        self.store.copy_out(&object, &copy).map_err(|error| self.ours(&error))?;
        Ok(copy)
    }
}

/// An attempt that came to nothing.
struct Miss {
    failed: Box<Failed>,
    again: Again,
}

/// Whether it makes sense to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// The step itself went wrong: another time it may go well.
    Worthwhile,
    /// Somebody touched what it read, which is again as it was.
    AtOnce,
    /// What is around it is not as it has to be, and will not be so the next moment.
    Useless,
}

impl Miss {
    fn of_the_step(reason: String, help: Option<String>) -> Self {
        Self { failed: failure(reason, help), again: Again::Worthwhile }
    }

    fn of_the_surroundings(reason: String, help: Option<String>) -> Self {
        Self { failed: failure(reason, help), again: Again::Useless }
    }
}

impl From<Box<Failed>> for Miss {
    fn from(failed: Box<Failed>) -> Self {
        Self { failed, again: Again::Useless }
    }
}

fn failure(reason: String, help: Option<String>) -> Box<Failed> {
    Box::new(Failed { help, ..Failed::new(reason) })
}

/// Refuses to go on where the programs that a step runs are not those that stand in its key.
fn upgraded(order: &Order<'_>) -> Result<(), Miss> {
    let Some(path) = order.surroundings.moved(&order.step.toolchain) else { return Ok(()) };
    let reason = format!(
        "the programs of this machine changed while the build was running: `{}` is not what it was",
        path.display()
    );
    let help = "nothing was recorded; build again once the installation has ended".to_owned();
    Err(Miss::of_the_surroundings(reason, Some(help)))
}

/// A source did not keep still while the step read it.
fn disturbed(disturbance: Disturbance) -> Miss {
    let (path, again) = match disturbance {
        Disturbance::Touched(path) => (path, Again::AtOnce),
        Disturbance::Changed(path) => (path, Again::Useless),
    };
    let reason = format!("`{}` changed while the step was reading it", path.display());
    let help = "nothing was recorded; build again once it is still".to_owned();
    Miss { failed: failure(reason, Some(help)), again }
}

fn alias(order: &Order<'_>, output: &graph::Output, reference: Reference) -> Option<Output> {
    let place = order.inputs.iter().position(|input| input.reference == reference)?;
    let input = &order.inputs[place];
    Some(Output {
        name: output.name.clone(),
        object: input.object?,
        bytes: input.bytes,
        extension: input.extension.clone(),
        alias: Some(place as u32),
    })
}

/// How an output comes into the store. Where a step was not kept apart, somebody else may hold the file open and write
/// to it later, so that it is a copy that is hashed and kept.
fn taken(isolation: Isolation) -> Ingest {
    if isolation == Isolation::Off { Ingest::Afresh } else { Ingest::Move }
}

/// How the recipe writes the output's place.
fn shown(step: &Step, output: &graph::Output) -> String {
    if step.outputs.len() == 1 && output.name == "out" {
        "${out}".to_owned()
    } else {
        format!("${{out.{}}}", output.name)
    }
}

/// Why an output cannot be stored, and how to go on.
fn unstored(output: &str, error: &IngestError) -> (String, Option<String>) {
    match error {
        IngestError::Refused { path, refusal } => {
            let what = match path.as_str() {
                "" => format!("its output `{output}`"),
                path => format!("`{path}` in its output `{output}`"),
            };
            (format!("{what} cannot be stored: {refusal}"), Some(refusal.help().to_owned()))
        }
        error => (format!("its output `{output}` cannot be stored: {}", chain(error)), None),
    }
}

fn execute_help(error: &ExecuteError, step: &Step) -> Option<String> {
    matches!(error, ExecuteError::Sandbox(SandboxError::ProgramNotFound { .. }))
        .then(|| missing_program(step).into())
}

/// How a step comes by a program that it did not find.
fn missing_program(step: &Step) -> &'static str {
    match step.toolchain {
        Toolchain::Tools(_) => {
            "a program was not found: name it in `tools`, or bring it along in `files`"
        }
        Toolchain::Host | Toolchain::Builtin | Toolchain::Library(_) => {
            "a program was not found: install it on this machine, or bring it along in `files`"
        }
    }
}

/// What people who come from other tools run into first.
const UNSEEN: &str = "a step sees what its references stand for and what `files` names, and nothing else of the recipe's folder";

fn exit_help(exit: Exit, step: &Step) -> Option<String> {
    match exit {
        Exit::TimedOut(_) => {
            Some("raise the step's `timeout`, or find out why it takes so long".into())
        }
        Exit::OutOfMemory { .. } => Some("raise the step's `memory`, or let it use less".into()),
        Exit::TooManyProcesses { .. } => {
            Some("let it start fewer at a time: what is started without end takes the machine from others".into())
        }
        Exit::Stopped => Some("a step cannot wait to be continued by hand: leave the SIGSTOP out".into()),
        Exit::Code(127) => Some(missing_program(step).into()),
        Exit::Code(_) | Exit::Signal(_) | Exit::Cancelled => None,
    }
}

/// Small sources and files that the step read, so that an explanation can show how they differed.
fn snapshots(store: &Store, order: &Order<'_>) -> Vec<Object> {
    let sources =
        order.inputs.iter().filter(|input| input.source.is_some()).filter_map(|input| input.object);
    let files = order.files.iter().map(|(_, _, object)| *object);
    let mut refs: Vec<Object> =
        sources.chain(files).filter(|object| store.contains(object)).collect();
    refs.sort_unstable();
    refs.dedup();
    refs
}

fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
