//! `kiln status`: what a build would do, and why.

use kiln_cache::Digest;
use kiln_engine::{event::VerdictWord, plan::Outlook};
use serde::Serialize;

use super::{
    failure::{Exit, Failure, print_json},
    global::Global,
    outlook,
    project::{Evaluation, Project},
    style,
    visible::visible,
};

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
    steps: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    step: &'a str,
    state: &'static str,
    action_key: Option<Digest>,
    verdict: Option<VerdictWord>,
    why: Vec<String>,
    after: Vec<&'a str>,
}

/// Plans, and prints the plan.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let project = Project::open(global, &args.evaluation)?;
    let plan = outlook::plan(&project, &project.steps(&args.steps)?)?;
    let graph = &project.graph;
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
        why: {
            let mut why = outlook::lines(&project, planned);
            let name = &graph.step(planned.step).name;
            let stale = matches!(planned.outlook, Outlook::UpToDate);
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
        print_json(&Document { recipe: &graph.name, steps: entries });
        return Ok(Exit::Done);
    }
    let width = entries.iter().map(|entry| entry.step.len()).max().unwrap_or(0);
    for entry in &entries {
        let (mark, colour) = mark(entry);
        for (number, line) in entry.why.iter().map(|line| visible(line)).enumerate() {
            if number == 0 {
                let name = style::paint(style::NAME, format!("{:width$}", entry.step));
                anstream::println!("{} {name}  {line}", style::paint(colour, mark));
            } else {
                anstream::println!("  {:width$}  {line}", "");
            }
        }
    }
    anstream::println!("{}", summary(&entries));
    Ok(Exit::Done)
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
