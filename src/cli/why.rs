//! `kiln why`: the exact change that makes a step run, or made it run last.

mod cause;
mod content;

use kiln_cache::{Digest, Tombstone};
use kiln_engine::{
    explain::Reason,
    graph::StepId,
    moment,
    plan::{Outlook, Plan},
};
use serde::Serialize;

use self::cause::{Cause, Causes};
use super::{
    failure::{Exit, Failure, print_json},
    global::Global,
    outlook,
    project::{Evaluation, Project},
    style,
    visible::visible,
};

/// How many lines of a diff are shown; `--json` has them all.
const DIFF_LINES: usize = 40;

/// Show the exact change because of which a step would run, or last ran.
///
/// Root causes come first: old and new value, for text a diff. What merely follows from them comes after, with the
/// change in the step that it follows from.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kiln why train\n  kiln why train --set epochs=100")]
pub struct Args {
    /// The step.
    #[arg(value_name = "STEP")]
    pub step: String,
    #[command(flatten)]
    pub evaluation: Evaluation,
}

/// The answer for one step.
#[derive(Serialize)]
struct Answer {
    step: String,
    state: &'static str,
    action_key: Option<Digest>,
    /// The key of the build that it is compared with.
    compared_with: Option<Digest>,
    /// In words.
    why: Vec<String>,
    /// When the result was made that is there, in milliseconds since 1970.
    ran_ms: Option<i64>,
    /// What is missing because it was taken away: what, when and why.
    removed: Option<Tombstone>,
    /// What differs from the build that it is compared with.
    causes: Vec<Cause>,
    /// The steps that would run before it, each with its answer.
    after: Vec<Answer>,
    /// Why its last run failed, if it did.
    last_failure: Option<String>,
}

/// Plans, compares, and prints.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let project = Project::open(global, &args.evaluation)?;
    let step = project.step(&args.step)?;
    let plan = outlook::plan(&project, &[step])?;
    let answer = answer(&project, &plan, step);
    if global.json {
        print_json(&answer);
    } else {
        let mut text = String::new();
        write_answer(&mut text, &answer, 0);
        anstream::print!("{text}");
    }
    Ok(Exit::Done)
}

fn answer(project: &Project, plan: &Plan, step: StepId) -> Answer {
    let name = project.graph.step(step).name.clone();
    let planned = plan.step(step).expect("the plan was made for this step and all that it needs");
    let history = &project.history;
    let mut answer = Answer {
        state: outlook::word(&planned.outlook),
        action_key: planned.key,
        compared_with: None,
        why: outlook::lines(project, planned),
        ran_ms: planned.result.as_ref().map(|result| result.cost.started_ms),
        removed: match &planned.outlook {
            Outlook::WouldRun(reason) => reason.removed().copied(),
            _ => None,
        },
        causes: Vec::new(),
        after: Vec::new(),
        last_failure: history
            .failures
            .get(&name)
            .filter(|_| !matches!(planned.outlook, Outlook::UpToDate))
            .map(|failure| failure.reason.clone()),
        step: name,
    };
    let differs =
        matches!(planned.outlook, Outlook::UpToDate | Outlook::WouldRun(Reason::Changed { .. }));
    if let (true, Some(previous)) = (differs, history.previous(&answer.step, planned.key)) {
        answer.compared_with = Some(previous);
        answer.causes = Causes::new(project, plan).of(step, previous);
    }
    if let Outlook::MayRun { after } = &planned.outlook {
        if let Some(previous) = history.latest(&answer.step) {
            answer.causes = Causes::new(project, plan).so_far(step, previous);
            answer.compared_with = Some(previous).filter(|_| !answer.causes.is_empty());
        }
        answer.after = after.iter().map(|&step| self::answer(project, plan, step)).collect();
    }
    answer
}

fn write_answer(text: &mut String, answer: &Answer, indent: usize) {
    let name = style::paint(style::NAME, &answer.step);
    let mut line = |line: String| write_line(text, indent, &line);
    match answer.state {
        "up_to_date" => {
            let reason = visible(answer.why.first().map_or("up to date", String::as_str));
            let ran = answer
                .ran_ms
                .map(|at| format!("; it ran on {}", moment::local(at)))
                .unwrap_or_default();
            line(format!("{name} is {reason}{ran}"));
            match answer.compared_with {
                None => line(
                    "it was built once in this project; there is nothing to compare with".into(),
                ),
                Some(_) if answer.causes.is_empty() => {
                    line(
                        "the record of the build before is gone; there is nothing to compare with"
                            .into(),
                    );
                }
                Some(_) => line("what differs from the build before:".into()),
            }
        }
        "would_run" if answer.causes.is_empty() => {
            line(format!("{name} would run: {}", visible(&answer.why.join("; "))))
        }
        "would_run" => line(format!("{name} would run:")),
        "may_run" => {
            line(format!("{name} may run: {}", visible(&answer.why.join("; "))));
            if !answer.causes.is_empty() {
                line("besides, this differs from its last build:".into());
            }
        }
        _ => line(format!("{name} is withheld: {}", visible(&answer.why.join("; ")))),
    }
    for cause in &answer.causes {
        write_cause(text, cause, indent + 2);
    }
    for before in &answer.after {
        write_answer(text, before, indent + 2);
    }
    if let Some(reason) = &answer.last_failure {
        write_line(
            text,
            indent,
            &format!("its last run failed: {} (kiln log {})", visible(reason), answer.step),
        );
    }
}

fn write_cause(text: &mut String, cause: &Cause, indent: usize) {
    write_line(text, indent, &visible(&cause.line));
    // What follows from another step's change is told by that change; its own bytes only repeat it.
    if cause.because.is_none() {
        for detail in &cause.details {
            write_line(text, indent + 2, &visible(detail));
        }
        for diff in &cause.diffs {
            write_diff(text, diff, indent + 2);
        }
    }
    if let Some(because) = &cause.because {
        let step = style::paint(style::NAME, &because.step);
        write_line(text, indent + 2, &format!("because {step} {}", because.how));
        for cause in &because.causes {
            write_cause(text, cause, indent + 4);
        }
    }
}

fn write_diff(text: &mut String, diff: &str, indent: usize) {
    // Not `lines`, which would take a return at the end of a line away.
    let lines: Vec<&str> = diff.strip_suffix('\n').unwrap_or(diff).split('\n').collect();
    let count = lines.len();
    for line in lines.into_iter().take(DIFF_LINES) {
        let colour = match line.as_bytes().first() {
            Some(b'+') => style::GOOD,
            Some(b'-') => style::BAD,
            Some(b'@') => style::DIM,
            _ => anstyle::Style::new(),
        };
        write_line(text, indent, &style::paint(colour, visible(line)));
    }
    if count > DIFF_LINES {
        write_line(text, indent, &format!("… {} more lines; --json has them", count - DIFF_LINES));
    }
}

fn write_line(text: &mut String, indent: usize, line: &str) {
    text.push_str(&" ".repeat(indent));
    text.push_str(line);
    text.push('\n');
}
