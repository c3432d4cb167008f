//! `kiln build`, and the driver that every command uses that builds something.

use std::{collections::BTreeSet, num::NonZeroUsize};

use kiln_cache::Isolation;
use kiln_engine::{
    event::{BuildReport, Event},
    executor::Executor as _,
    explain::isolation_word,
    graph::StepId,
    realise::{self, Built, Options},
    resolve::{closure, default_targets},
    sandbox::{self, Cancel},
};

use super::{
    failure::{Exit, Failure, print_json},
    global::Global,
    links::{self, LinkChoice},
    machine::{GpuChoice, Machine, parse_gpus},
    progress::Progress,
    project::{Evaluation, Place, Project, SandboxChoice, build_failure, open_store},
    remember::remember,
    repeat::Asked,
    summary,
};

/// Build steps: run what has no result yet, reuse the rest, and link the outputs under result/.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln build                      everything that nothing else depends on
  kiln build train --set epochs=100
  kiln build --check train        run it again and compare byte for byte")]
pub struct Args {
    /// The steps to build; by default those that nothing depends on.
    #[arg(value_name = "STEP")]
    pub steps: Vec<String>,
    #[command(flatten)]
    pub evaluation: Evaluation,
    #[command(flatten)]
    pub flow: Flow,
    /// Run steps a second time and compare what they make, byte for byte: the named ones, or all.
    #[arg(long)]
    pub check: bool,
    /// Run this step once more even though it has a result; the new result counts from now on.
    #[arg(long, value_name = "STEP")]
    pub again: Vec<String>,
    /// Which steps to link under result/.
    #[arg(long, value_name = "WHICH", value_enum, default_value_t)]
    pub link: LinkChoice,
}

/// How a build goes on.
#[derive(Debug, Clone, clap::Args)]
pub struct Flow {
    /// How many processors steps may use together; by default all.
    #[arg(short, long, value_name = "N", value_parser = parse_jobs, allow_negative_numbers = true)]
    pub jobs: Option<NonZeroUsize>,
    /// How many GPUs steps may use together, or which: `2`, or ids as in `0,3` (a single one as `3,`); by default all.
    #[arg(long, value_name = "N|IDS", value_parser = parse_gpus)]
    pub gpus: Option<GpuChoice>,
    /// After a failure, go on with whatever does not depend on it.
    #[arg(short, long)]
    pub keep_going: bool,
}

fn parse_jobs(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "expected a whole number of at least 1".to_owned())
}

/// What is to be built, and how.
pub struct Plan {
    /// The steps whose outputs have to be there.
    pub targets: Vec<StepId>,
    /// To be run once more, and compared.
    pub check: BTreeSet<StepId>,
    /// To be run once more, and to count from now on.
    pub again: BTreeSet<StepId>,
    /// Whether the report says where every output is.
    pub locate_all: bool,
}

impl Plan {
    /// Builds these steps and nothing more.
    pub fn of(targets: Vec<StepId>) -> Self {
        Self { targets, check: BTreeSet::new(), again: BTreeSet::new(), locate_all: true }
    }
}

/// Runs the command.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let place = Place::find(global)?;
    let store = open_store(global)?;
    let unusual = global.json || args.check || !args.again.is_empty();
    let question =
        if unusual { None } else { Asked::of(&place, &args.evaluation, &args.steps, args.link) };
    if let Some(question) = &question
        && question.answer(&place, &store)?
    {
        return Ok(Exit::Done);
    }
    if args.evaluation.sandbox == SandboxChoice::Full {
        // What the machine allows takes some milliseconds to find out, which pass while the recipe is read.
        std::thread::spawn(sandbox::probe);
    }
    // Whatever is recorded from now on is not what was seen.
    let mark = question.as_ref().and_then(|_| store.mark_records().ok());
    let mut project = Project::open_with(&place, store, &args.evaluation)?;
    if project.graph.steps.is_empty() {
        return Err(Failure::usage(
            format!("the recipe `{}` has no steps", project.graph.name),
            "[steps.NAME] defines one; kiln init shows how",
        ));
    }
    let targets = if args.steps.is_empty() {
        default_targets(&project.graph)
    } else {
        project.steps(&args.steps)?
    };
    let check = match (args.check, args.steps.is_empty()) {
        (false, _) => BTreeSet::new(),
        (true, true) => closure(&project.graph, targets.iter().copied()).into_iter().collect(),
        (true, false) => targets.iter().copied().collect(),
    };
    let plan = Plan {
        check,
        again: project.steps(&args.again)?.into_iter().collect(),
        locate_all: global.json || args.link == LinkChoice::All,
        targets: match args.link {
            // What is linked has to be there.
            LinkChoice::All => closure(&project.graph, targets),
            LinkChoice::Asked | LinkChoice::None => targets,
        },
    };
    let built = realise(&mut project, &plan, &args.flow, global.json, args.evaluation.sandbox)?;
    if let (Some(question), Some(mark)) = (&question, mark) {
        question.keep(&project, &built, &plan.targets, mark);
    }
    let linked = match args.link {
        LinkChoice::None => links::store_paths(&project, &built, &plan.targets),
        LinkChoice::Asked | LinkChoice::All => {
            links::update(&project, &built, &plan.targets, args.steps.is_empty())?
        }
    };
    if global.json {
        print_json(&built.report);
    } else {
        summary::print(&project, &built);
        summary::print_checks(&project, &built, &plan.check);
        for path in linked {
            anstream::println!("{}", path.display());
        }
    }
    let exit = exit(&built.report);
    project.close();
    // The process ends here: taking thousands of results apart piece by piece would be for nothing.
    std::mem::forget(built);
    Ok(exit)
}

/// The exit code that a build's outcome calls for.
pub fn exit(report: &BuildReport) -> Exit {
    if report.interrupted {
        Exit::Interrupted
    } else if report.failed() || report.differs() {
        Exit::Failed
    } else if report.rejected() {
        Exit::Rejected
    } else {
        Exit::Done
    }
}

/// Builds, shows progress, and remembers what was built.
pub fn realise(
    project: &mut Project,
    plan: &Plan,
    flow: &Flow,
    quiet: bool,
    sandbox: SandboxChoice,
) -> Result<Built, Failure> {
    let machine = Machine::look(&project.graph, flow.jobs, flow.gpus.as_ref())?;
    let options = Options {
        targets: plan.targets.clone(),
        capacity: machine.capacity,
        gpus: machine.gpus,
        keep_going: flow.keep_going,
        again: plan.again.clone(),
        check: plan.check.clone(),
        locate_all: plan.locate_all,
    };
    let store = |error: &(dyn std::error::Error + 'static)| {
        Failure::environment(error, "kiln doctor and kiln store verify tell more")
    };
    // Until the project's root says what is kept, the collector has to wait.
    let owner = project.history.digest();
    let session = project.store.session_of(&owner).map_err(|error| store(&error))?;
    project.store.sweep();
    // What a step finds in its folders must not depend on who runs it.
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o022));
    let _signals = Signals::watch(&project.cancel)?;
    let mut progress = Progress::new(quiet);
    if let Some(note) = weak_isolation(project, sandbox) {
        progress.before_first_run(note);
    }
    let built = project
        .with_context(|context| {
            realise::build(context, &options, &mut |event: Event<'_>| progress.show(&event))
        })
        .map_err(|error| {
            // Reading sources was cut short, which is then all that is wrong with them.
            if project.cancel.is_tripped() { Failure::interrupted() } else { build_failure(error) }
        });
    progress.finish();
    let built = built?;
    if let Err(failure) = remember(&project.graph, &project.store, &mut project.history, &built) {
        session.outlive();
        // What the steps had to say comes first.
        if !built.report.failed() {
            return Err(failure);
        }
        summary::warn(&failure.told());
    }
    for notice in project.store.take_notices() {
        summary::warn(&format!("{}: {}", notice.path.display(), notice.what));
    }
    drop(session);
    Ok(built)
}

/// What to say once if steps are kept apart less well than they could be.
fn weak_isolation(project: &Project, sandbox: SandboxChoice) -> Option<String> {
    let degree = project.executor.isolation();
    match (sandbox, degree) {
        (_, Isolation::Full) => None,
        (SandboxChoice::Off, _) => Some(
            "steps are not kept apart from this machine (--sandbox=off); results are recorded so"
                .into(),
        ),
        (SandboxChoice::Full, _) => {
            let missing = project.executor.capabilities().missing();
            let missing: Vec<&str> = missing.map(|one| one.feature.name()).collect();
            Some(format!(
                "isolation is {} here, without {}; kiln doctor tells what to do",
                isolation_word(degree),
                missing.join(", ")
            ))
        }
    }
}

/// So many signals end the program at once, tidy or not.
const PATIENCE: usize = 4;

/// Trips the build's flag on Ctrl-C and its like, for as long as it lives.
struct Signals {
    handle: signal_hook::iterator::Handle,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Signals {
    fn watch(cancel: &Cancel) -> Result<Self, Failure> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|error| Failure::environment(&error, "the system refuses signal handlers"))?;
        let handle = signals.handle();
        let cancel = cancel.clone();
        let thread = std::thread::spawn(move || {
            for (number, _) in signals.forever().enumerate() {
                cancel.trip();
                kiln_cache::interrupt();
                // Who asks again and again does not want to wait for what can be swept up later: steps end with
                // this process, and the next build removes what they leave.
                if number + 1 >= PATIENCE {
                    std::process::exit(Exit::Interrupted.code().into());
                }
            }
        });
        Ok(Self { handle, thread: Some(thread) })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A handler that panicked has nothing left to say.
            drop(thread.join());
        }
    }
}
