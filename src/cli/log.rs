//! `kiln log`: what a step printed when it last ran.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, IsTerminal as _, Write},
    path::PathBuf,
};

use kiln_cache::Object;
use kiln_engine::{diagnostic::Diagnostic, moment};
use serde::Serialize;

use super::{
    failure::{Exit, Failure, print_json},
    global::Global,
    project::{Evaluation, Project},
    table::Table,
    visible::{log_line, visible},
};

/// Print what a step printed when it last ran.
///
/// If its last run failed, that is the log of the failure; otherwise that of the run that made its result. Without a
/// step: which logs there are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kiln log train\n  kiln log train --failed")]
pub struct Args {
    /// The step.
    #[arg(value_name = "STEP")]
    pub step: Option<String>,
    /// Only a run that failed.
    #[arg(long)]
    pub failed: bool,
    #[command(flatten)]
    pub evaluation: Evaluation,
}

#[derive(Serialize)]
struct Run {
    step: String,
    outcome: &'static str,
    reason: Option<String>,
    at_ms: i64,
    log: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip)]
    object: Option<Object>,
}

#[derive(Serialize)]
struct Document<'a> {
    recipe: &'a str,
    runs: Vec<Run>,
}

/// Finds the log and prints it; on a terminal without what would steer it.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let project = Project::open(global, &args.evaluation)?;
    let Some(step) = &args.step else { return list(global, args, &project) };
    project.step(step)?;
    let Some(mut run) = last_run(&project, step, args.failed)? else {
        let message = if args.failed {
            format!("the last run of `{step}` did not fail")
        } else {
            format!("`{step}` has not run yet")
        };
        let help =
            if args.failed { format!("kiln log {step}") } else { format!("kiln build {step}") };
        return Err(Failure::failed(Diagnostic::new(message).help(help)));
    };
    let present = run.object.filter(|object| project.store.contains(object));
    let Some(object) = present else {
        let message = match run.object {
            None => format!("the last run of `{step}` printed nothing that was kept"),
            Some(_) => format!("the log of `{step}` is no longer in the store"),
        };
        let help = format!("kiln build --again {step} runs it once more");
        return Err(Failure::failed(Diagnostic::new(message).help(help)));
    };
    let path = project.store.path(&object);
    let unread = |error: io::Error| {
        Failure::environment(
            &error,
            format!("the log is {}; kiln store verify tells more", path.display()),
        )
    };
    if global.json {
        let bytes = std::fs::read(&path).map_err(unread)?;
        run.text = Some(String::from_utf8_lossy(&bytes).into_owned());
        print_json(&run);
        return Ok(Exit::Done);
    }
    match &run.reason {
        Some(reason) => {
            let (at, reason) = (moment::local(run.at_ms), visible(reason));
            anstream::eprintln!("{step} failed on {at}: {reason}");
        }
        None => anstream::eprintln!("{step} ran on {}", moment::local(run.at_ms)),
    }
    let file = File::open(&path).map_err(unread)?;
    let out = io::stdout();
    let printed =
        if out.is_terminal() { show(file, out.lock()) } else { pass_on(file, out.lock()) };
    match printed {
        // Who reads no further has seen enough: `kiln log train | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        printed => printed.map(|()| Exit::Done).map_err(unread),
    }
}

/// The log as it is, for files and other programs.
fn pass_on(mut log: File, mut out: impl Write) -> io::Result<()> {
    io::copy(&mut log, &mut out).map(drop)
}

/// The log line by line as it may stand on a terminal.
fn show(log: File, mut out: impl Write) -> io::Result<()> {
    for line in BufReader::new(log).split(b'\n') {
        writeln!(out, "{}", log_line(&String::from_utf8_lossy(&line?)))?;
    }
    Ok(())
}

fn list(global: &Global, args: &Args, project: &Project) -> Result<Exit, Failure> {
    let mut runs = Vec::new();
    for step in &project.graph.steps {
        runs.extend(last_run(project, &step.name, args.failed)?);
    }
    if global.json {
        print_json(&Document { recipe: &project.graph.name, runs });
        return Ok(Exit::Done);
    }
    if runs.is_empty() {
        anstream::eprintln!(
            "{}",
            if args.failed { "no step's last run failed" } else { "no step has run yet" }
        );
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["step", "outcome", "when", "log"]);
    for run in runs {
        let log = run.log.map_or_else(|| "none kept".to_owned(), |path| path.display().to_string());
        table.row([run.step, run.outcome.to_owned(), moment::local(run.at_ms), log]);
    }
    anstream::print!("{table}");
    Ok(Exit::Done)
}

/// The last run of a step: the one that failed, or else the one that made its latest result.
fn last_run(project: &Project, step: &str, only_failed: bool) -> Result<Option<Run>, Failure> {
    if let Some(failure) = project.history.failures.get(step) {
        return Ok(Some(Run {
            step: step.to_owned(),
            outcome: "failed",
            reason: Some(failure.reason.clone()),
            at_ms: failure.at_ms,
            log: failure.log.map(|log| project.store.path(&log)),
            text: None,
            object: failure.log,
        }));
    }
    let Some(key) = project.history.latest(step).filter(|_| !only_failed) else { return Ok(None) };
    let record = project
        .store
        .realisation(&key)
        .map_err(|error| Failure::environment(&error, "kiln store verify tells more"))?;
    Ok(record.map(|record| Run {
        step: step.to_owned(),
        outcome: "done",
        reason: None,
        at_ms: record.cost.started_ms,
        log: record.log.map(|log| project.store.path(&log)),
        text: None,
        object: record.log,
    }))
}
