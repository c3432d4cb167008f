//! `kiln status`: what a build would do, and why.

use std::time::Duration;

use kiln_cache::Digest;
use kiln_engine::{
    estimate::{Basis, Estimates},
    event::VerdictWord,
    forecast::{Forecast, Remaining, State, forecast},
    plan::{Outlook, Plan},
    realise::beyond_gpus,
};
use serde::Serialize;

use super::{
    failure::{Exit, Failure, print_json},
    global::Global,
    machine::Machine,
    outlook, progress,
    project::{Evaluation, Project},
    style,
    visible::visible,
};

/// Fewer seconds than this are not worth a word to people.
const SHORT: f64 = 1.0;

/// Tell what a build would run, and why; run nothing.
///
/// ✓ is up to date, ● would run, ○ may run (it depends on what an earlier step makes), ✗ is withheld by a gate.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kiln status\n  kiln status train --set epochs=100")]
pub struct Args {
    /// Steps to look at, with all that they need; by default all.
    #[arg(value_name = "STEP")]
    pub steps: Vec<String>,
    #[command(flatten)]
    pub evaluation: Evaluation,
}

#[derive(Serialize)]
struct Document<'a> {
    recipe: &'a str,
    /// How long a build would take; null if it would run nothing.
    forecast: Option<Forecast>,
    steps: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    step: &'a str,
    state: &'static str,
    action_key: Option<Digest>,
    verdict: Option<VerdictWord>,
    /// How long it is likely to take; null if it would not run or nobody knows.
    estimate_seconds: Option<f64>,
    why: Vec<String>,
    after: Vec<&'a str>,
}

/// Plans, and prints the plan.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let project = Project::open(global, &args.evaluation)?;
    let plan = outlook::plan(&project, &project.steps(&args.steps)?)?;
    let graph = &project.graph;
    let mut estimates = Estimates::new(graph, &project.store, &project.history);
    let machine = Machine::look(graph, None, None)?;
    let forecast = look_ahead(&project, &plan, &machine, &mut estimates);
    let entries = plan.steps.iter().map(|planned| Entry {
        step: &graph.step(planned.step).name,
        state: outlook::word(&planned.outlook),
        action_key: planned.key,
        verdict: match planned.outlook {
            Outlook::UpToDate => {
                planned.result.as_ref().and_then(|result| result.verdict.as_ref()).map(Into::into)
            }
            _ => None,
        },
        estimate_seconds: match planned.outlook {
            Outlook::WouldRun(_) | Outlook::MayRun { .. } => {
                let estimate = estimates.of(planned.step);
                (estimate.basis != Basis::Nothing).then_some(estimate.time.as_secs_f64())
            }
            Outlook::UpToDate | Outlook::Withheld(_) => None,
        },
        why: {
            let mut why = outlook::lines(&project, planned);
            why.extend(outlook::own_changes(&project, &plan, planned));
            let name = &graph.step(planned.step).name;
            let stale = matches!(planned.outlook, Outlook::UpToDate);
            let there = machine.capacity.gpus;
            let asked = graph.step(planned.step).resources.gpus_of(there);
            if asked > there && !stale {
                why.push(format!("it cannot run here: {}", beyond_gpus(asked, there)));
            }
            if let Some(failure) = project.history.failures.get(name).filter(|_| !stale) {
                why.push(format!("its last run failed: {} (kiln log {name})", failure.reason));
            }
            why
        },
        after: match &planned.outlook {
            Outlook::MayRun { after } => {
                after.iter().map(|&step| graph.step(step).name.as_str()).collect()
            }
            _ => Vec::new(),
        },
    });
    let entries: Vec<Entry<'_>> = entries.collect();
    if global.json {
        print_json(&Document { recipe: &graph.name, forecast, steps: entries });
        return Ok(Exit::Done);
    }
    let width = entries.iter().map(|entry| entry.step.len()).max().unwrap_or(0);
    for entry in &entries {
        let (mark, colour) = mark(entry);
        for (number, line) in entry.why.iter().map(|line| visible(line)).enumerate() {
            if number == 0 {
                let name = style::paint(style::NAME, format!("{:width$}", entry.step));
                let time = entry.estimate_seconds.filter(|seconds| *seconds >= SHORT);
                let time = time.map(|seconds| style::time(Duration::from_secs_f64(seconds)));
                let time =
                    time.map(|time| style::paint(style::DIM, format_args!(" (about {time})")));
                let time = time.unwrap_or_default();
                anstream::println!("{} {name}  {line}{time}", style::paint(colour, mark));
            } else {
                anstream::println!("  {:width$}  {line}", "");
            }
        }
    }
    let time = forecast.as_ref().filter(|forecast| forecast.most_seconds >= SHORT);
    let time = time.and_then(progress::time_left);
    let time = time.map(|time| format!("; {time} to build")).unwrap_or_default();
    anstream::println!("{}{time}", summary(&entries));
    Ok(Exit::Done)
}

/// How long a build would take that does what `plan` says.
fn look_ahead(
    project: &Project,
    plan: &Plan,
    machine: &Machine,
    estimates: &mut Estimates<'_>,
) -> Option<Forecast> {
    let remaining = plan.steps.iter().filter_map(|planned| {
        let state = match planned.outlook {
            Outlook::WouldRun(_) => State::Certain,
            Outlook::MayRun { .. } => State::Possible,
            Outlook::UpToDate | Outlook::Withheld(_) => return None,
        };
        Some(Remaining { step: planned.step, state })
    });
    let remaining: Vec<Remaining> = remaining.collect();
    let capacity = machine.capacity;
    (!remaining.is_empty()).then(|| forecast(&project.graph, capacity, estimates, &remaining))
}

fn mark(entry: &Entry<'_>) -> (&'static str, anstyle::Style) {
    match (entry.state, entry.verdict) {
        ("up_to_date", Some(VerdictWord::Rejected)) => ("✓", style::BAD),
        ("up_to_date", _) => ("✓", style::GOOD),
        ("would_run", _) => ("●", style::WARN),
        ("may_run", _) => ("○", style::WARN),
        _ => ("✗", style::BAD),
    }
}

fn summary(entries: &[Entry<'_>]) -> String {
    let count = |state: &str| entries.iter().filter(|entry| entry.state == state).count();
    let parts = [
        (count("would_run"), "would run"),
        (count("may_run"), "may run"),
        (count("withheld"), "withheld"),
        (count("up_to_date"), "up to date"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, words)| format!("{count} {words}"))
        .collect();
    format!(
        "{}: {}",
        style::counted(entries.len(), "step"),
        if parts.is_empty() { "nothing to do".to_owned() } else { parts.join(", ") }
    )
}
