//! The starter, and the init of a step.
//!
//! All of it runs in a fresh copy of the executable that went straight into [`init_main`]: one thread, and the socket to
//! the caller. It is unaware of specs and layouts: it carries out [`Plan`]s.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use super::{
    census,
    feature::Feature,
    ground::Ground,
    kernel::{self, Side},
    line::Line,
    namespaces,
    network::Network,
    plan::{Base, Plan, Report},
    root::{self, Failure, attempt},
    spec::Exit,
    step,
    supervise::{self, Watch},
    trial, view,
    wire::receive_with,
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
        // There is nobody to tell: the line is what failed.
        Err(_) => ExitCode::FAILURE,
    }
}

fn start() -> io::Result<()> {
    let line = Line { socket: rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?.into() };
    let null = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    // A starter that already leads a session has one of its own, which is what this is for.
    let _ = rustix::process::setsid();
    kernel::set_umask(0o022);
    let mut nursery = None;
    while let Some((frame, log)) = receive_with(&line.socket)? {
        if frame.is_empty() {
            return trial::run(|feature, result| line.say(&Report::Probed { feature, result }));
        }
        let plan = Plan::decode(&frame)?;
        let log = log.ok_or(io::ErrorKind::InvalidData)?;
        match carry_out(&mut nursery, &plan, &line, log) {
            Ok(true) => {}
            Ok(false) => break,
            Err(failure) => return line.complain(failure),
        }
    }
    Ok(())
}

/// What a starter has made for all of its steps.
#[derive(Default)]
struct Nursery {
    ground: Option<Ground>,
    network: Option<Network>,
    /// Bases to make roots from where they are not copied.
    bases: Vec<Base>,
}

impl Nursery {
    /// Leaves this process's namespaces for those that its steps share.
    fn new(plan: &Plan) -> Result<Self, Failure> {
        let copies_roots = view::copies_roots(&plan.features);
        namespaces::enter_shared(plan, copies_roots)?;
        if plan.uses(Feature::UtsNamespace) {
            attempt(|| "set the host's name".into(), rustix::system::sethostname(b"kiln"))?;
        }
        let mut nursery = Self::default();
        if plan.uses(Feature::NetNamespace) && !plan.network {
            nursery.network = Some(Network::new()?);
        }
        if copies_roots {
            nursery.ground = Some(Ground::new(plan.uses(Feature::DetachedMounts))?);
        }
        Ok(nursery)
    }

    /// Learns what is new in `plan`.
    fn learn(&mut self, plan: &Plan) -> Result<(), Failure> {
        match &mut self.ground {
            Some(ground) => ground.learn(&plan.base),
            None => {
                self.bases.extend(plan.base.entries.is_some().then(|| plan.base.clone()));
                Ok(())
            }
        }
    }

    /// Moves init into the step's root. What comes back, if anything, is to be kept open.
    fn enter_root(&self, plan: &Plan) -> Result<Option<OwnedFd>, Failure> {
        if let Some(ground) = &self.ground {
            return ground.enter(&plan.base, &plan.entries).map(Some);
        }
        let base = self.bases.iter().find(|base| base.id == plan.base.id);
        let entries = base.and_then(|base| base.entries.as_deref());
        root::enter(plan, entries.map_or(&[], Vec::as_slice))
    }

    /// Makes what the step of `plan` has used as if it had not.
    fn restore(&mut self, plan: &Plan) -> Result<(), Failure> {
        if let Some(ground) = &mut self.ground {
            ground.restore(&plan.base, &plan.entries)?;
        }
        self.network.as_mut().map_or(Ok(()), Network::restore)
    }
}

/// Carries one plan out; whether this process can carry out another.
fn carry_out(
    nursery: &mut Option<Nursery>,
    plan: &Plan,
    line: &Line,
    log: OwnedFd,
) -> Result<bool, Failure> {
    let begin = Instant::now();
    let nursery = match nursery {
        Some(nursery) => nursery,
        None => nursery.insert(Nursery::new(plan)?),
    };
    nursery.learn(plan)?;
    if !plan.uses(Feature::PidNamespace) {
        attempt(|| "adopt orphans".into(), kernel::adopt_orphans())?;
        let watched = watch(nursery, plan, line, log);
        attempt(|| "end the step's processes".into(), supervise::end_all())?;
        let (exit, watched) = watched?;
        let (cpu, largest) = kernel::usage_of_children();
        let gone = Report::Gone { cpu, largest, wall: begin.elapsed(), waits: false };
        let said = line.say(&Report::Ended { exit, watched }).and_then(|()| line.say(&gone));
        return attempt(|| "report".into(), said).map(|()| false);
    }
    match attempt(
        || "start the sandbox's init".into(),
        namespaces::fork_init(plan, nursery.ground.is_some()),
    )? {
        Side::Child => {
            // Everything else ends with init, so the starter need not stay to end it.
            let ended = attempt(|| "bind init to its parent".into(), kernel::die_with_parent())
                .and_then(|()| watch(nursery, plan, line, log))
                .and_then(|(exit, watched)| {
                    let said = line.say(&Report::Ended { exit, watched });
                    attempt(|| "report".into(), said)
                });
            if let Err(failure) = ended {
                let _ = line.complain(failure);
            }
            // With the init of its namespace every other process of the step ends.
            kernel::leave(0);
        }
        Side::Parent(init) => {
            drop(log);
            let ended = attempt(|| "wait for the sandbox's init".into(), kernel::wait(init, true))?;
            let wall = begin.elapsed();
            let (cpu, largest) =
                ended.map_or((Duration::ZERO, 0), |ended| (ended.cpu, ended.largest));
            let waits = nursery.restore(plan).is_ok();
            let gone = line.say(&Report::Gone { cpu, largest, wall, waits });
            attempt(|| "report".into(), gone).map(|()| waits)
        }
    }
}

/// Builds the step's surroundings, starts it, and waits for its end.
fn watch(
    nursery: &Nursery,
    plan: &Plan,
    line: &Line,
    log: OwnedFd,
) -> Result<(Exit, u64), Failure> {
    attempt(|| "hide init from the step".into(), kernel::forbid_inspection())?;
    // While `/proc/sys` can still be written to.
    let walled = plan.uses(Feature::PidNamespace) && census::wall(plan.processes);
    if let Some(group) = &plan.cgroup {
        attempt(|| format!("enter the control group {}", group.display()), fs::write(group, "0"))?;
    }
    if !plan.features.is_empty() {
        // It hides only the name of the caller's own control group, and older kernels lack it.
        let _ = kernel::unshare(libc::CLONE_NEWCGROUP);
    }
    let mut file_systems = Vec::new();
    // The step's root lives as long as this.
    let mut _root = None;
    if plan.uses(Feature::MountNamespace) {
        _root = nursery.enter_root(plan)?;
        file_systems.push(PathBuf::from("/dev/shm"));
    }
    let events = attempt(|| "listen for children".into(), kernel::child_events())?;
    match attempt(|| "start the step".into(), kernel::fork())? {
        Side::Child => {
            if let Err(failure) = step::become_step(plan, line, log) {
                let _ = line.complain(failure);
            }
            kernel::leave(127);
        }
        Side::Parent(child) => {
            drop(log);
            let watch = Watch {
                child,
                life: line.socket.as_fd(),
                events,
                timeout: plan.timeout,
                memory: plan.memory.filter(|_| plan.cgroup.is_none()),
                processes: plan.processes,
                is_walled: walled || plan.cgroup.is_some(),
                file_systems,
            };
            attempt(|| "watch the step".into(), watch.until_the_end())
        }
    }
}
