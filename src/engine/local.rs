//! The executor that runs steps on this machine, in the sandbox.
//!
//! It turns a job into a program, its arguments and its folders. It is unaware of keys and records.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use kiln_cache::{FileIdentity, Isolation, Verdict};
use serde::{Deserialize, Serialize};

use crate::{
    executor::{ExecuteError, Executed, Executor, Job, JobInput},
    gpu::{self, Lease, Sight},
    graph::{Part, Reference, Toolchain, Value},
    sandbox::{self, Bind, Capabilities, Layout, Limits, Spec, View, Wanted},
};

/// The hidden word by which kiln is told to carry out a built-in builder: `kiln __builder REQUEST RESPONSE`.
pub const BUILDER_WORD: &str = "__builder";

/// What a built-in builder is asked to do, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The builder's name.
    pub builder: String,
    /// Its arguments; inputs as `{path, kind, digest, executable}`, absent ones as null.
    pub args: serde_json::Value,
    /// Where to write each output.
    pub outputs: BTreeMap<String, PathBuf>,
    /// How many threads it may use. The result does not depend on it.
    pub threads: usize,
    /// The library that the builder works with, file by file in the order of opening.
    pub library: Vec<PathBuf>,
}

/// What a built-in builder answers, as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Response {
    /// What the gate said.
    pub verdict: Option<ResponseVerdict>,
}

/// A verdict on its way from a builder to the engine.
#[derive(Debug, Serialize, Deserialize)]
pub struct ResponseVerdict {
    /// Whether all that the gate asked for holds.
    pub accepted: bool,
    /// Why.
    pub reason: String,
}

/// Runs steps in the sandbox of this machine.
pub struct LocalExecutor {
    wanted: Wanted,
    pool: sandbox::Pool,
    exe: PathBuf,
    /// What `exe` was when the build began: another program under its name must not answer for this one's version.
    identity: Option<FileIdentity>,
}

impl LocalExecutor {
    /// An executor with `wanted` isolation; `exe` is the kiln program that carries out built-in builders.
    pub fn new(wanted: Wanted, exe: PathBuf) -> Self {
        let identity = identity(&exe);
        Self { wanted, pool: sandbox::Pool::default(), exe, identity }
    }

    /// What this machine allows. Found out by whoever asks first.
    pub fn capabilities(&self) -> &'static Capabilities {
        sandbox::probe()
    }

    fn spec(&self, job: &Job<'_>, layout: &Layout) -> Result<Spec, ExecuteError> {
        let lower = Lowering { job, layout };
        let step = job.step;
        let (argv, view) = match (&step.toolchain, step.builder.is_command()) {
            (Toolchain::Builtin | Toolchain::Library(_), _) | (_, false) => {
                let request = job.scratch.join("work").join(REQUEST);
                let work = job.scratch.join("work");
                fs::create_dir_all(&work).map_err(|source| ExecuteError::Io {
                    action: "create",
                    path: work,
                    source,
                })?;
                write(&request, &lower.request())?;
                let argv = vec![
                    OsString::from("kiln"),
                    OsString::from(BUILDER_WORD),
                    layout.work().join(REQUEST).into(),
                    layout.work().join(RESPONSE).into(),
                ];
                (argv, View::Builtin { exe: self.exe.clone(), libraries: lower.library() })
            }
            (Toolchain::Host, true) => (lower.command(), View::Host),
            (Toolchain::Tools(_), true) => {
                (lower.command(), View::Tools(job.tools.clone().unwrap_or_default()))
            }
        };
        let env = step.env.iter().map(|(name, value)| (name.clone(), lower.text(value)));
        let gpus = gpu_variables(job, layout).into_iter();
        let gpus = gpus
            .filter(|(name, _)| is_lent(name) || !step.env.contains_key(*name))
            .map(|(name, value)| (name.to_owned(), value));
        let inputs = job.inputs.iter().filter_map(|input| {
            let (_, path) = input.content.as_ref()?;
            Some(Bind { host: path.clone(), place: input.place.clone() })
        });
        let log = fs::File::create(job.log).map_err(|source| ExecuteError::Io {
            action: "create",
            path: job.log.to_owned(),
            source,
        })?;
        Ok(Spec {
            argv,
            env: job
                .passed
                .iter()
                .filter(|(name, _)| !step.env.contains_key(name))
                .cloned()
                .chain(env)
                .chain(gpus)
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            scratch: job.scratch.to_owned(),
            inputs: inputs.collect(),
            view,
            devices: job.gpus.map(Lease::devices).unwrap_or_default(),
            network: step.network,
            limits: Limits {
                memory: step.resources.memory,
                processes: None,
                timeout: step.resources.timeout,
                cpus: job.cpus,
            },
            isolation: self.wanted,
            deny: Vec::new(),
            log,
        })
    }
}

/// What tells a step's programs of GPUs. With a root of its own a step that was lent none finds none anyway.
fn gpu_variables(job: &Job<'_>, layout: &Layout) -> Vec<(&'static str, String)> {
    match (job.gpus, layout.is_private()) {
        (Some(lease), true) => lease.variables(Sight::Leased),
        (Some(lease), false) => lease.variables(Sight::All),
        (None, true) => Vec::new(),
        (None, false) => gpu::none_visible().to_vec(),
    }
}

/// Whether a variable says which GPUs are the step's: that is not the step's to say.
fn is_lent(name: &str) -> bool {
    name.ends_with("_VISIBLE_DEVICES")
}

const REQUEST: &str = ".request.json";
const RESPONSE: &str = ".response.json";

impl Executor for LocalExecutor {
    fn isolation(&self) -> Isolation {
        match self.wanted {
            Wanted::Full => self.capabilities().isolation(),
            Wanted::Off => Isolation::Off,
        }
    }

    fn execute(&self, job: &Job<'_>) -> Result<Executed, ExecuteError> {
        let work = job.scratch.join("work");
        for (name, from) in &job.files {
            copy(from, &work.join(name))?;
        }
        let layout = Layout::new(self.wanted, self.capabilities(), job.scratch);
        let ran = self.pool.run(&self.spec(job, &layout)?, job.cancel)?;
        if !job.step.builder.is_command() && identity(&self.exe) != self.identity {
            return Err(ExecuteError::Replaced(self.exe.clone()));
        }
        let verdict = if job.step.gate && ran.exit.is_success() {
            let path = work.join(RESPONSE);
            let text = fs::read(&path).map_err(|source| ExecuteError::Io {
                action: "read",
                path,
                source,
            })?;
            let response: Response =
                serde_json::from_slice(&text).map_err(ExecuteError::Response)?;
            response
                .verdict
                .map(|verdict| Verdict { accepted: verdict.accepted, reason: verdict.reason })
        } else {
            None
        };
        Ok(Executed {
            exit: ran.exit,
            verdict,
            isolation: ran.isolation,
            cpu_seconds: ran.cpu_seconds,
            peak_memory: ran.peak_memory,
            wall: ran.wall,
            outputs: job.scratch.join("out"),
        })
    }
}

fn identity(file: &Path) -> Option<FileIdentity> {
    fs::metadata(file).ok().map(|metadata| FileIdentity::of(&metadata))
}

/// Puts paths where references stand.
struct Lowering<'a> {
    job: &'a Job<'a>,
    layout: &'a Layout,
}

impl Lowering<'_> {
    fn command(&self) -> Vec<OsString> {
        match self.job.step.args.get("run") {
            Some(Value::List(words)) => words.iter().map(|word| self.text(word).into()).collect(),
            Some(script) => vec!["sh".into(), "-eu".into(), "-c".into(), self.text(script).into()],
            None => Vec::new(),
        }
    }

    fn request(&self) -> Vec<u8> {
        let step = self.job.step;
        let outputs = step
            .outputs
            .iter()
            .filter(|output| output.alias.is_none())
            .map(|output| (output.name.clone(), self.layout.output(&output.file)))
            .collect();
        let args = step.args.iter().chain(&step.implementation);
        let request = Request {
            builder: step.builder.name.clone(),
            args: args.map(|(name, value)| (name.clone(), self.json(value))).collect(),
            outputs,
            threads: self.job.cpus as usize,
            library: self.library().iter().map(|path| self.layout.library(path)).collect(),
        };
        serde_json::to_vec_pretty(&request).expect("a request's maps have text keys")
    }

    /// The files of the library that the step's builder works with.
    fn library(&self) -> Vec<PathBuf> {
        match self.job.step.toolchain {
            Toolchain::Library(_) => {
                self.job.tools.as_ref().map(|tools| tools.binds.clone()).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    fn input(&self, reference: Reference) -> Option<&JobInput> {
        self.job.inputs.iter().find(|input| input.reference == reference)
    }

    fn path(&self, reference: Reference) -> String {
        self.input(reference)
            .map(|input| self.seen(input).display().to_string())
            .unwrap_or_default()
    }

    fn seen(&self, input: &JobInput) -> PathBuf {
        self.layout.input(&input.place)
    }

    fn json(&self, value: &Value) -> serde_json::Value {
        match value {
            Value::Bool(flag) => (*flag).into(),
            Value::Int(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Text(_) => self.text(value).into(),
            Value::List(values) => values.iter().map(|value| self.json(value)).collect(),
            Value::Table(values) => {
                values.iter().map(|(name, value)| (name.clone(), self.json(value))).collect()
            }
            Value::Input(reference) => match self.input(*reference).and_then(|input| {
                let (object, _) = input.content.as_ref()?;
                Some((input, object))
            }) {
                Some((input, object)) => serde_json::json!({
                    "path": self.seen(input),
                    "kind": object.kind,
                    "digest": object.digest,
                    "executable": object.executable,
                }),
                None => serde_json::Value::Null,
            },
        }
    }

    fn text(&self, value: &Value) -> String {
        match value {
            Value::Text(parts) => parts
                .iter()
                .map(|part| match part {
                    Part::Text(text) => text.clone(),
                    Part::Input(reference) => self.path(*reference),
                    Part::Output(number) => {
                        let file = &self.job.step.outputs[*number as usize].file;
                        self.layout.output(file).display().to_string()
                    }
                })
                .collect(),
            Value::Bool(flag) => flag.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Float(number) => format!("{number:?}"),
            Value::Input(reference) => self.path(*reference),
            Value::List(_) | Value::Table(_) => self.json(value).to_string(),
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ExecuteError> {
    fs::write(path, bytes).map_err(|source| ExecuteError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

/// Copies one of a step's `files` to where the step may change it.
fn copy(from: &Path, to: &Path) -> Result<(), ExecuteError> {
    use std::os::unix::fs::PermissionsExt as _;
    let fail =
        |source: io::Error| ExecuteError::Io { action: "copy", path: from.to_owned(), source };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(fail)?;
    }
    reflink_copy::reflink_or_copy(from, to).map_err(fail)?;
    let mode = fs::metadata(from).map_err(fail)?.permissions().mode();
    fs::set_permissions(to, fs::Permissions::from_mode((mode & 0o111) | 0o644)).map_err(fail)
}
