//! The starter, the init of a step, and the step's process until its program begins.
//!
//! All of it runs in a fresh copy of the executable that went straight into [`init_main`]: one thread, three
//! descriptors (the plan and then the life line, the reports, the pipe to the log). It is unaware of specs and layouts: it
//! carries out a [`Plan`].

use std::{
    ffi::{CString, OsStr, OsString},
    fs::{self, File},
    io,
    os::fd::{AsFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    io::dup,
};

use super::{
    feature::Feature,
    filter,
    kernel::{self, Side},
    landlock, namespaces,
    plan::{Plan, Report},
    root::{self, Failure, attempt},
    spec::Exit,
    supervise::{self, Watch},
    trial,
    wire::receive,
};

/// The first argument by which `main` recognises that it is to be the sandbox's starter.
pub const INIT_WORD: &str = "__sandbox";

/// Carries out what the calling kiln sends through stdin. `main` calls this, before anything else and above all
/// before it starts a thread, if its first argument is [`INIT_WORD`]; `arguments` are those after it, of which there
/// are none unless a person has typed the word.
pub fn init_main(arguments: &[OsString]) -> ExitCode {
    if !arguments.is_empty() {
        return ExitCode::from(2);
    }
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        // There is nobody to tell: the pipes are what failed.
        Err(_) => ExitCode::FAILURE,
    }
}

/// The pipes to the caller.
struct Line {
    life: OwnedFd,
    reports: File,
}

impl Line {
    fn say(&self, report: &Report) -> io::Result<()> {
        report.encode().send(&self.reports)
    }
}

fn start() -> io::Result<()> {
    let line = Line {
        life: rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?,
        reports: File::from(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?),
    };
    let Some(frame) = receive(File::from(dup(&line.life)?))? else {
        return Ok(());
    };
    if frame.is_empty() {
        return trial::run(|feature, result| line.say(&Report::Probed { feature, result }));
    }
    let plan = Plan::decode(&frame)?;
    if let Err(Failure { action, source }) = carry_out(&plan, &line) {
        let errno = source.raw_os_error().unwrap_or(libc::EIO);
        line.say(&Report::Failed { action, errno })?;
    }
    Ok(())
}

fn carry_out(plan: &Plan, line: &Line) -> Result<(), Failure> {
    let begin = Instant::now();
    // A starter that already leads a session has one of its own, which is what this is for.
    let _ = rustix::process::setsid();
    kernel::set_umask(0o022);
    if let Some(group) = &plan.cgroup {
        attempt(|| format!("enter the control group {}", group.display()), fs::write(group, "0"))?;
    }
    namespaces::enter(plan)?;
    if !plan.uses(Feature::PidNamespace) {
        attempt(|| "adopt orphans".into(), kernel::adopt_orphans())?;
        let watched = watch(plan, line);
        attempt(|| "end the step's processes".into(), supervise::end_all())?;
        let (exit, watched) = watched?;
        let (cpu, largest) = kernel::usage_of_children();
        let gone = Report::Gone { cpu, largest, wall: begin.elapsed() };
        let said = line.say(&Report::Ended { exit, watched }).and_then(|()| line.say(&gone));
        return attempt(|| "report".into(), said);
    }
    // Everything else ends with init, so the starter need not stay to end it.
    attempt(|| "bind the starter to its parent".into(), kernel::die_with_parent())?;
    match attempt(|| "start the sandbox's init".into(), kernel::fork())? {
        Side::Child => {
            let ended = attempt(|| "bind init to its parent".into(), kernel::die_with_parent())
                .and_then(|()| watch(plan, line))
                .and_then(|(exit, watched)| {
                    let said = line.say(&Report::Ended { exit, watched });
                    attempt(|| "report".into(), said)
                });
            if let Err(Failure { action, source }) = ended {
                let errno = source.raw_os_error().unwrap_or(libc::EIO);
                let _ = line.say(&Report::Failed { action, errno });
            }
            // With the init of its namespace every other process of the step ends.
            std::process::exit(0);
        }
        Side::Parent(init) => {
            let ended = attempt(|| "wait for the sandbox's init".into(), kernel::wait(init, true))?;
            let (cpu, largest) =
                ended.map_or((Duration::ZERO, 0), |ended| (ended.cpu, ended.largest));
            let gone = line.say(&Report::Gone { cpu, largest, wall: begin.elapsed() });
            attempt(|| "report".into(), gone)
        }
    }
}

/// Builds the step's surroundings, starts it, and waits for its end.
fn watch(plan: &Plan, line: &Line) -> Result<(Exit, u64), Failure> {
    attempt(|| "hide init from the step".into(), kernel::forbid_inspection())?;
    if plan.uses(Feature::UtsNamespace) {
        attempt(|| "set the host's name".into(), rustix::system::sethostname(b"kiln"))?;
    }
    if plan.uses(Feature::NetNamespace) && !plan.network {
        let raised = loopback_socket().and_then(|socket| kernel::raise_loopback(socket.as_fd()));
        attempt(|| "raise the loopback device".into(), raised)?;
    }
    let mut file_systems = Vec::new();
    // The step's root lives as long as this.
    let mut _root = None;
    if plan.uses(Feature::MountNamespace) {
        _root = root::enter(plan)?;
        file_systems.push(PathBuf::from("/dev/shm"));
    }
    let events = attempt(|| "listen for children".into(), kernel::child_events())?;
    match attempt(|| "start the step".into(), kernel::fork())? {
        Side::Child => {
            if let Err(Failure { action, source }) = become_step(plan, line) {
                let errno = source.raw_os_error().unwrap_or(libc::EIO);
                let _ = line.say(&Report::Failed { action, errno });
            }
            std::process::exit(127);
        }
        Side::Parent(child) => {
            let watch = Watch {
                child,
                life: line.life.as_fd(),
                events,
                timeout: plan.timeout,
                memory: plan.memory.filter(|_| plan.cgroup.is_none()),
                file_systems,
            };
            attempt(|| "watch the step".into(), watch.until_the_end())
        }
    }
}

/// A socket to ask the kernel about network devices through; it listens to nothing.
fn loopback_socket() -> io::Result<OwnedFd> {
    Ok(OwnedFd::from(std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?))
}

/// Gives up everything that the step is not to have, and becomes its program. Returns only on failure, or (after
/// a report of its own) if there is no such program.
fn become_step(plan: &Plan, line: &Line) -> Result<(), Failure> {
    kernel::reset_signals();
    attempt(|| "bind the step to its init".into(), kernel::die_with_parent())?;
    attempt(|| "make a session".into(), rustix::process::setsid())?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let null = attempt(|| "open /dev/null".into(), null)?;
    attempt(|| "connect stdin".into(), rustix::stdio::dup2_stdin(&null))?;
    attempt(|| "connect stdout".into(), rustix::stdio::dup2_stdout(io::stderr()))?;
    attempt(|| "close descriptors".into(), kernel::close_on_exec_from(3))?;
    let work = || format!("enter {}", plan.work.display());
    attempt(work, rustix::process::chdir(&plan.work))?;
    attempt(|| "forbid core files".into(), kernel::no_core_files())?;
    let strings = |texts: Vec<OsString>| -> io::Result<Vec<CString>> {
        texts.iter().map(|text| kernel::c_string(text)).collect()
    };
    let argv = attempt(|| "pass the arguments".into(), strings(plan.argv.clone()))?;
    let env = plan.env.iter().map(|(name, value)| {
        let mut text = name.clone();
        text.push("=");
        text.push(value);
        text
    });
    let env = attempt(|| "pass the variables".into(), strings(env.collect()))?;
    if !plan.features.is_empty() {
        give_up_rights(plan)?;
    }
    let Some(program) = find_program(plan) else {
        return attempt(|| "report".into(), no_program(plan, line));
    };
    if plan.uses(Feature::Seccomp) {
        let policy = filter::Policy {
            own_pids: plan.uses(Feature::PidNamespace),
            network_settled: plan.network || plan.uses(Feature::NetNamespace),
        };
        let installed = kernel::install_filter(&filter::program(policy));
        attempt(|| "install the filter of system calls".into(), installed)?;
    }
    let path = attempt(|| "pass the program".into(), kernel::c_string(program.as_os_str()))?;
    let argv: Vec<_> = argv.iter().map(CString::as_c_str).collect();
    let env: Vec<_> = env.iter().map(CString::as_c_str).collect();
    let error = kernel::execute(&path, &argv, &env);
    attempt(|| format!("execute {}", program.display()), Err(error))
}

fn give_up_rights(plan: &Plan) -> Result<(), Failure> {
    let privileges = rustix::thread::set_no_new_privs(true);
    attempt(|| "give up new privileges".into(), privileges)?;
    attempt(|| "give up capabilities".into(), kernel::drop_capabilities())?;
    if !plan.uses(Feature::MountNamespace) && plan.uses(Feature::Landlock) {
        let confined = landlock::confine(&plan.grants, plan.network);
        attempt(|| "confine the step with Landlock".into(), confined)?;
    }
    Ok(())
}

fn search_path(plan: &Plan) -> &OsStr {
    plan.env.iter().find(|(name, _)| name == "PATH").map_or(OsStr::new(""), |(_, value)| value)
}

/// The program's path: as planned, as given if it contains a slash, otherwise the first on `PATH`.
fn find_program(plan: &Plan) -> Option<PathBuf> {
    let runs = |path: &Path| {
        path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
    };
    if let Some(program) = &plan.program {
        return Some(program.clone()).filter(|path| runs(path));
    }
    let name = Path::new(plan.argv.first()?);
    if name.as_os_str().as_bytes().contains(&b'/') {
        return Some(name.to_owned()).filter(|path| runs(path));
    }
    std::env::split_paths(search_path(plan)).map(|dir| dir.join(name)).find(|path| runs(path))
}

fn no_program(plan: &Plan, line: &Line) -> io::Result<()> {
    let program = plan.program.as_deref().map(Path::as_os_str).or(plan.argv.first().map(|s| &**s));
    line.say(&Report::NoProgram {
        program: program.unwrap_or_default().to_string_lossy().into_owned(),
        path: search_path(plan).to_string_lossy().into_owned(),
    })
}
