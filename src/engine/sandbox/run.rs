//! Runs a step: from its [`Spec`] to how it [`Ran`].
//!
//! This is the caller's side. It decides all there is to decide, hands a [`Plan`] to a starter, carries what the step
//! writes to its log, and waits until nothing of the step is left.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, PermissionsExt},
    },
    path::{Component, Path, PathBuf},
    sync::LazyLock,
    time::{Duration, Instant},
};

use kiln_cache::Isolation;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    cancel::Cancel,
    census,
    cgroup::Group,
    epoch,
    feature::{Capabilities, Feature},
    layout::Layout,
    plan::{Base, Plan, Report},
    probe::probe,
    relay::Relay,
    spec::{Exit, Ran, SandboxError, Spec, View, Wanted},
    starter::{self, Kind, Pool, Starter},
    view,
    wire::receive,
};

/// The folders of every step.
const FOLDERS: [&str; 4] = ["work", "out", "tmp", "home"];

/// How long a step that was told to end may take to do so. The kernel is busy with nothing else then; beyond this
/// its starter is killed, and with that the rest.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `spec` with a starter of its own: see [`Pool::run`].
///
/// # Errors
/// As there.
pub fn run(spec: &Spec, cancel: &Cancel) -> Result<Ran, SandboxError> {
    Pool::default().run(spec, cancel)
}

impl Pool {
    /// Runs `spec` and waits until its last process is gone, or until `cancel` is tripped and all are killed.
    ///
    /// # Errors
    /// When the step could not be started. A step that ends badly is no error: see [`Exit`].
    pub fn run(&self, spec: &Spec, cancel: &Cancel) -> Result<Ran, SandboxError> {
        run_in(self, spec, cancel)
    }
}

fn run_in(pool: &Pool, spec: &Spec, cancel: &Cancel) -> Result<Ran, SandboxError> {
    if spec.argv.is_empty() {
        return Err(SandboxError::NoProgram);
    }
    let capabilities = match spec.isolation {
        Wanted::Full => probe().without(&spec.deny),
        Wanted::Off => Capabilities { features: Vec::new() },
    };
    let layout = Layout::new(spec.isolation, &capabilities, &spec.scratch);
    let features = view::features(&capabilities);
    furnish(spec, &layout, view::copies_roots(&features))?;
    let processes = spec.limits.processes.unwrap_or_else(|| {
        // To ask for it reads several files.
        static PROCESSORS: LazyLock<usize> = LazyLock::new(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        });
        census::bound(*PROCESSORS)
    });
    let group = if capabilities.works(Feature::Cgroup) {
        Group::new(spec.limits.memory, spec.limits.cpus, processes + census::SLACK).ok()
    } else {
        None
    };
    let plan = plan(pool, spec, features, &layout, processes, group.as_ref().map(Group::door));
    let log = spec.log.try_clone().map_err(io_error("share", "the log"))?;
    let begin = Instant::now();
    let end = carry_out(pool, plan, &log, cancel)?;
    let ran_out = group.as_ref().is_some_and(Group::ran_out);
    let exit = match (end.exit, spec.limits.memory) {
        (Some(Exit::Code(0)) | None, _) | (_, None) => end.exit,
        (_, Some(limit)) if ran_out => Some(Exit::OutOfMemory { limit }),
        (exit, _) => exit,
    };
    let exit = match exit {
        // Whatever was seen last: the caller wanted it to end, and it did.
        Some(Exit::Cancelled) | None if cancel.is_tripped() => Exit::Cancelled,
        Some(exit) => exit,
        None => return Err(SandboxError::Lost { how: end.how }),
    };
    let peak = group.as_ref().and_then(Group::peak);
    Ok(Ran {
        exit,
        isolation: match spec.isolation {
            Wanted::Full => capabilities.isolation(),
            Wanted::Off => Isolation::Off,
        },
        cpu_seconds: end.cpu.as_secs_f64(),
        peak_memory: peak.unwrap_or(0).max(end.watched).max(end.largest),
        wall: end.wall.unwrap_or_else(|| begin.elapsed()),
    })
}

fn io_error(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> SandboxError {
    let path = path.into();
    move |source| SandboxError::Io { action, path, source }
}

/// Makes what has to stand in the scratch folder before the step begins.
fn furnish(spec: &Spec, layout: &Layout, copies_roots: bool) -> Result<(), SandboxError> {
    for name in FOLDERS {
        furnish_folder(&spec.scratch.join(name))?;
    }
    // A step of root may leave a set-user-id program here, which nobody else is to reach.
    let private = fs::set_permissions(&spec.scratch, fs::Permissions::from_mode(0o700));
    private.map_err(io_error("close", &spec.scratch))?;
    for input in &spec.inputs {
        let mut parts = Path::new(&input.place).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(SandboxError::Place { place: input.place.clone() });
        }
        // Here rather than inside, so that the message names the file as the caller knows it.
        fs::metadata(&input.host).map_err(io_error("read", &input.host))?;
    }
    if layout.is_private() {
        if !copies_roots {
            furnish_folder(&spec.scratch.join("root"))?;
        }
        return settle(&spec.scratch.join("request.json"));
    }
    furnish_folder(&layout.inputs())?;
    let link = |target: &Path, at: &Path| {
        std::os::unix::fs::symlink(target, at).map_err(io_error("link", at))
    };
    for input in &spec.inputs {
        link(&input.host, &layout.input(&input.place))?;
    }
    if let View::Tools(tools) = &spec.view {
        furnish_folder(&layout.bin())?;
        for (name, program) in &tools.programs {
            link(program, &layout.bin().join(name))?;
        }
    }
    for path in [layout.inputs(), layout.bin(), layout.request()] {
        settle(&path)?;
    }
    Ok(())
}

/// Makes a folder, or takes the clock out of the one that the caller has made.
fn furnish_folder(path: &Path) -> Result<(), SandboxError> {
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => epoch::set(path).map_err(io_error("set the times of", path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => settle(path),
        Err(error) => Err(io_error("make", path)(error)),
    }
}

/// Takes the clock out of what the step will find at `path`, if anything is there. The scratch folder itself keeps its
/// time: by that its owner can tell how old it is.
fn settle(path: &Path) -> Result<(), SandboxError> {
    match epoch::set_below(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        settled => settled.map_err(io_error("set the times of", path)),
    }
}

fn plan(
    pool: &Pool,
    spec: &Spec,
    features: Vec<Feature>,
    layout: &Layout,
    processes: u64,
    cgroup: Option<PathBuf>,
) -> Plan {
    let program = match &spec.view {
        View::Builtin { .. } if layout.is_private() => Some(PathBuf::from(view::BUILTIN)),
        View::Builtin { exe, .. } => Some(exe.clone()),
        View::Host | View::Tools(_) => None,
    };
    let mut base = Base::default();
    let (mut entries, mut grants) = (Vec::new(), Vec::new());
    if layout.is_private() {
        base = pool.base(spec, || view::common(spec, layout));
        entries = view::own(spec, layout);
    } else if spec.isolation == Wanted::Full {
        grants = view::grants(spec);
    }
    Plan {
        argv: spec.argv.clone(),
        env: environment(spec, layout),
        program,
        work: layout.work(),
        features,
        network: spec.network,
        memory: spec.limits.memory,
        timeout: spec.limits.timeout,
        processes,
        cgroup,
        root: spec.scratch.join("root"),
        base,
        entries,
        grants,
    }
}

/// The fixed variables and, over them, the step's own; sorted, so that a step that prints them is reproducible.
fn environment(spec: &Spec, layout: &Layout) -> Vec<(OsString, OsString)> {
    let path = match &spec.view {
        View::Host => OsString::from(view::HOST_PATH),
        View::Tools(_) => layout.bin().into(),
        View::Builtin { .. } => OsString::new(),
    };
    let mut all: std::collections::BTreeMap<OsString, OsString> = [
        ("HOME", layout.home().into()),
        ("LANG", "C.UTF-8".into()),
        ("PATH", path),
        ("SOURCE_DATE_EPOCH", epoch::EPOCH.to_string().into()),
        ("TMPDIR", layout.tmp().into()),
        ("TZ", "UTC".into()),
    ]
    .map(|(name, value)| (OsString::from(name), value))
    .into();
    all.extend(spec.env.iter().cloned());
    all.into_iter().collect()
}

/// What was heard of a step.
#[derive(Debug, Default)]
struct End {
    begun: bool,
    exit: Option<Exit>,
    watched: u64,
    cpu: Duration,
    largest: u64,
    wall: Option<Duration>,
    how: String,
}

/// Finds a starter for `plan`, and follows the step to its end.
fn carry_out(
    pool: &Pool,
    mut plan: Plan,
    log: &fs::File,
    cancel: &Cancel,
) -> Result<End, SandboxError> {
    let kind = Kind { features: plan.features.clone(), network: plan.network };
    let base = plan.base.clone();
    loop {
        let waiting = pool.take(&kind);
        let is_fresh = waiting.is_none();
        let mut starter = match waiting {
            Some(starter) => starter,
            None => starter::start(kind.clone()).map_err(io_error("start", "/proc/self/exe"))?,
        };
        plan.base = starter.introduce(&base);
        let (from, to_log) = io::pipe().map_err(io_error("write", "the log"))?;
        let sent = plan.encode().send_with(&starter.line, to_log.as_fd());
        drop(to_log);
        if sent.is_err() && !is_fresh {
            // It was ended from outside while it waited.
            let _ = starter.end();
            continue;
        }
        // If a fresh one is gone already, its exit says more than the broken pipe.
        let log = log.try_clone().map_err(io_error("share", "the log"))?;
        let mut relay = Relay::new(from, log);
        let end = follow(starter, pool, &mut relay, cancel);
        let relayed = relay.finish();
        let end = end?;
        relayed.map_err(io_error("write", "the log"))?;
        if !is_fresh && !end.begun && end.exit.is_none() && !cancel.is_tripped() {
            // Ended from outside, too, just when it had got the plan.
            continue;
        }
        return Ok(end);
    }
}

/// Listens until all of the step is gone, or there is nobody left to hear.
fn follow(
    mut starter: Starter,
    pool: &Pool,
    relay: &mut Relay,
    cancel: &Cancel,
) -> Result<End, SandboxError> {
    let mut end = End::default();
    let mut failure = None;
    let mut is_told = false;
    let mut deadline = None;
    let gone = loop {
        if cancel.is_tripped() && !is_told {
            is_told = true;
            deadline = Some(Instant::now() + PATIENCE);
            // One that cannot be told has ended.
            let _ = starter.line.shutdown(std::net::Shutdown::Write);
        }
        let heard = heard(&starter, relay, (!is_told).then_some(cancel), deadline);
        match heard.map_err(io_error("hear of", "the sandbox"))? {
            Heard::Report => {}
            Heard::Writing => {
                relay.carry();
                continue;
            }
            Heard::Cancel => continue,
            Heard::Nothing => {
                // A starter that cannot be killed is one that has ended.
                let _ = starter.child.kill();
                deadline = None;
                continue;
            }
        }
        let frame = match receive(&starter.line) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            frame => frame.map_err(io_error("hear of", "the sandbox"))?,
        };
        let Some(frame) = frame else { break None };
        match Report::decode(&frame).map_err(io_error("hear of", "the sandbox"))? {
            Report::Ended { exit, watched } => {
                end.exit = Some(exit);
                end.watched = watched;
            }
            Report::Gone { cpu, largest, wall, waits } => {
                end.cpu = cpu;
                end.largest = largest;
                end.wall = Some(wall);
                break Some(waits);
            }
            Report::Failed { action, errno } => {
                let source = io::Error::from_raw_os_error(errno);
                failure = Some(SandboxError::Setup { action, source });
            }
            Report::NoProgram { program, path } => {
                failure = Some(SandboxError::ProgramNotFound { program, path });
            }
            Report::Begins => end.begun = true,
            Report::Probed { .. } => {}
        }
    };
    if gone == Some(true) && !is_told {
        pool.put(starter);
        "the starter waits".clone_into(&mut end.how);
    } else {
        let status = starter.end().map_err(io_error("wait for", "the sandbox"))?;
        end.how = status.to_string();
    }
    match failure {
        Some(failure) if end.exit != Some(Exit::Cancelled) => Err(failure),
        _ => Ok(end),
    }
}

enum Heard {
    /// There is a report to read, or the end of all.
    Report,
    /// The step has written something.
    Writing,
    /// The flag was tripped.
    Cancel,
    /// The deadline has passed.
    Nothing,
}

fn heard(
    starter: &Starter,
    relay: &Relay,
    cancel: Option<&Cancel>,
    deadline: Option<Instant>,
) -> io::Result<Heard> {
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    let line = || PollFd::new(&starter.line, PollFlags::IN);
    let wakeup = cancel.map(Cancel::wakeup);
    // What is absent is replaced by the line, whose answer is looked at first.
    let mut watched = [
        line(),
        relay.source().map_or_else(line, |source| PollFd::new(source, PollFlags::IN)),
        wakeup.as_ref().map_or_else(line, |wakeup| PollFd::new(wakeup, PollFlags::IN)),
    ];
    loop {
        match poll(&mut watched, left.as_ref()) {
            Ok(0) => return Ok(Heard::Nothing),
            Ok(_) if !watched[0].revents().is_empty() => return Ok(Heard::Report),
            Ok(_) if !watched[2].revents().is_empty() => return Ok(Heard::Cancel),
            Ok(_) => return Ok(Heard::Writing),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
