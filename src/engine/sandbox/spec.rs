//! What a caller asks of the sandbox, and what it is told afterwards.
//!
//! Plain data. It is unaware of how any of it is enforced.

use std::{ffi::OsString, fs::File, io, path::PathBuf, time::Duration};

use kiln_cache::Isolation;

use crate::tools::ToolSet;

use super::{device::Devices, feature::Feature};

/// What isolation a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The best that this machine allows.
    Full,
    /// None: for finding out why a step behaves differently in the sandbox.
    Off,
}

/// One thing of the host that the step may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The file or folder on the host.
    pub host: PathBuf,
    /// Its name in the folder of inputs: one path component, such as `0.csv`.
    pub place: String,
}

/// Which programs the step sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// The host's system folders, read-only.
    Host,
    /// These tools and what they need, nothing else.
    Tools(ToolSet),
    /// One program that kiln brings: it is bound at `/build/kiln`, with the host's shared libraries.
    /// `argv[0]` is then only the name that the program is told.
    Builtin {
        /// The program on the host.
        exe: PathBuf,
        /// Further libraries that it opens, at [`Layout::library`](super::layout::Layout::library).
        libraries: Vec<PathBuf>,
    },
}

/// Amounts that a step may not pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory that all its processes together may hold.
    pub memory: Option<u64>,
    /// How many processes and threads it may have at a time; `None` for what suits the machine.
    pub processes: Option<u64>,
    /// Wall-clock time.
    pub timeout: Option<Duration>,
    /// Processors that it was promised. The scheduler counts with it; the sandbox leaves it out of
    /// what the step can see, since amounts are in no key. Where a cgroup is delegated it becomes
    /// the step's weight.
    pub cpus: u32,
}

/// A step to run.
#[derive(Debug)]
pub struct Spec {
    /// Program and arguments. A program without a slash is looked up in the step's own `PATH`.
    pub argv: Vec<OsString>,
    /// Variables, over the fixed ones (`HOME`, `LANG`, `PATH`, `SOURCE_DATE_EPOCH`, `TMPDIR`, `TZ`).
    pub env: Vec<(OsString, OsString)>,
    /// A folder of this step alone, on the store's file system. The sandbox makes `work`, `in`, `out`,
    /// `tmp` and `home` in it where they are missing; the caller may have put the recipe's files in
    /// `work`, and a `request.json` beside it. The caller removes it.
    pub scratch: PathBuf,
    /// What it reads.
    pub inputs: Vec<Bind>,
    /// Which programs it sees.
    pub view: View,
    /// Devices that it is lent.
    pub devices: Devices,
    /// Whether it may use the host's network.
    pub network: bool,
    /// Amounts.
    pub limits: Limits,
    /// Isolation.
    pub isolation: Wanted,
    /// Features to do without, as if this machine lacked them. For tests, and for finding out which of
    /// them a program cannot live with.
    pub deny: Vec<Feature>,
    /// Receives what the step writes to stdout and stderr. Its stdin is `/dev/null`.
    pub log: File,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Its first process exited with this code.
    Code(i32),
    /// Its first process was ended by this signal.
    Signal(i32),
    /// It was killed after this limit of wall-clock time.
    TimedOut(Duration),
    /// It was killed because it passed its limit of memory.
    OutOfMemory {
        /// Bytes that it was allowed.
        limit: u64,
    },
    /// It was killed because it had more processes and threads than a step may have.
    TooManyProcesses {
        /// How many that are.
        limit: u64,
    },
    /// It was killed because all of its processes were stopped, or waited for one that was: there is nobody inside who
    /// could continue them.
    Stopped,
    /// It was killed because the build was cancelled.
    Cancelled,
}

impl Exit {
    /// Whether the step did what it was asked to do.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl std::fmt::Display for Exit {
    /// A fragment that fits after the step's name: "exited with code 2".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => match signal_name(signal) {
                Some(name) => write!(f, "was ended by signal {signal} ({name})"),
                None => write!(f, "was ended by signal {signal}"),
            },
            Self::TimedOut(limit) => {
                write!(f, "was killed: it passed its `timeout` of {} s", limit.as_secs_f64())
            }
            Self::OutOfMemory { limit } => {
                write!(f, "was killed: it passed its `memory` limit of {}", Bytes(limit))
            }
            Self::TooManyProcesses { limit } => {
                write!(f, "was killed: it had more than {limit} processes and threads at a time")
            }
            Self::Stopped => f.write_str(
                "was killed: its processes were stopped (SIGSTOP), and nobody was left to continue them",
            ),
            Self::Cancelled => f.write_str("was cancelled"),
        }
    }
}

/// Bytes in the largest binary unit that expresses them without a fraction.
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size)) {
            Some((name, size)) => write!(f, "{} {name}", self.0 / size),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        _ => return None,
    })
}

/// A step that ran, well or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// How it ended.
    pub exit: Exit,
    /// How well it was kept apart.
    pub isolation: Isolation,
    /// Seconds of processor time, user and system, of all its processes.
    pub cpu_seconds: f64,
    /// Bytes of memory at its peak: of all its processes together where that was watched (a `memory`
    /// limit, a cgroup), otherwise of its largest process.
    pub peak_memory: u64,
    /// From the start of its first process until the last was gone.
    pub wall: Duration,
}

/// Why a step could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The step names no program.
    #[error("the step has no program to run")]
    NoProgram,
    /// The program is not among what the step can see.
    #[error("program `{program}` was not found in the sandbox (its PATH is `{path}`)")]
    ProgramNotFound {
        /// As it was asked for.
        program: String,
        /// Where it was looked for.
        path: String,
    },
    /// An input's place is not one path component.
    #[error("an input cannot stand at `{place}`: that is not a plain file name")]
    Place {
        /// As it was asked for.
        place: String,
    },
    /// Something on the caller's side of the sandbox failed.
    #[error("failed to {action} `{}`", path.display())]
    Io {
        /// What was attempted: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Something inside of the sandbox failed, before the step began.
    #[error("failed to set up the sandbox: {action}")]
    Setup {
        /// What was attempted, with its path.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The sandbox's own process ended without saying how the step went.
    #[error("the sandbox of the step was ended from outside ({how})")]
    Lost {
        /// How it ended.
        how: String,
    },
}
