//! What is said of a build at its end: failures with the tail of their logs, and one line with counts.

use std::{collections::BTreeSet, time::Duration};

use kiln_engine::{
    difference::Deviation,
    event::{BuildReport, How, StepReport, VerdictWord},
    graph::{Determinism, StepId},
    realise::Built,
};

use super::{
    project::Project,
    style,
    visible::{log_line, visible},
};

/// Prints it on stderr.
pub fn print(project: &Project, built: &Built) {
    let report = &built.report;
    for step in &report.steps {
        match step.how {
            How::Failed => failure(step),
            _ if step.verdict == Some(VerdictWord::Rejected) => rejection(project, step),
            _ => {}
        }
    }
    for step in report.steps.iter().filter(|step| step.how == How::Skipped) {
        let reason = visible(reason_not_said_yet(report, step));
        anstream::eprintln!("{:>9} {}: {reason}", "skipped", style::paint(style::NAME, &step.step));
    }
    anstream::eprintln!("{}", line(project, built));
}

/// A line that warns.
pub fn warn(text: &str) {
    anstream::eprintln!("{}: {}", style::paint(style::WARN, "warning"), visible(text));
}

/// A line that tells.
pub fn note(text: &str) -> String {
    format!("{}: {text}", style::paint(style::WARN, "note"))
}

/// What came of `--check`: how many of `steps` made the same bytes again.
pub fn print_checks(project: &Project, built: &Built, steps: &BTreeSet<StepId>) {
    let held = |step: &&StepId| {
        project.graph.step(**step).determinism != Determinism::None
            && built.results.contains_key(step)
    };
    let unchecked: Vec<(&str, &str)> = built
        .report
        .steps
        .iter()
        .filter_map(|step| Some((step.step.as_str(), step.unchecked.as_deref()?)))
        .collect();
    for (step, reason) in &unchecked {
        let name = style::paint(style::NAME, step);
        anstream::eprintln!("{:>9} {name}: {}", "unchecked", visible(reason));
    }
    let mut checked: BTreeSet<&str> =
        steps.iter().filter(held).map(|&step| project.graph.step(step).name.as_str()).collect();
    checked.retain(|name| unchecked.iter().all(|(step, _)| step != name));
    if checked.is_empty() {
        return;
    }
    let differ = built.report.steps.iter().filter(|step| !step.differences.is_empty()).count();
    let near: Vec<(&str, &Deviation)> = built
        .report
        .steps
        .iter()
        .filter(|step| step.differences.is_empty())
        .filter_map(|step| Some((step.step.as_str(), step.deviation.as_ref()?)))
        .collect();
    for (step, deviation) in &near {
        let name = style::paint(style::NAME, step);
        anstream::eprintln!("{:>9} {name}: {}", "near", visible(&deviation.to_string()));
    }
    let count = style::counted(checked.len(), "step");
    if differ == 0 {
        let verdict = match near.len() {
            0 => "the same bytes again".to_owned(),
            some if some == checked.len() => "the same within what they allow".to_owned(),
            some => format!("the same bytes again, or ({some}) the same within what they allow"),
        };
        anstream::eprintln!("checked {count}: {}", style::paint(style::GOOD, verdict));
        return;
    }
    anstream::eprintln!(
        "checked {count}: {}",
        style::paint(style::BAD, format_args!("{differ} not reproducible"))
    );
    anstream::eprintln!(
        "help: look for times, random numbers and the order of files or threads; a step that cannot do without says \
         determinism = \"tolerance\" or \"none\""
    );
}

/// Why a step was skipped, without the words of a verdict that stand above.
fn reason_not_said_yet<'a>(report: &BuildReport, step: &'a StepReport) -> &'a str {
    let reason = step.reason.as_deref().unwrap_or("not reached");
    let rejected = report.steps.iter().filter(|step| step.verdict == Some(VerdictWord::Rejected));
    let verdicts = rejected.filter_map(|gate| gate.reason.as_deref());
    verdicts
        .filter_map(|verdict| reason.strip_suffix(verdict)?.strip_suffix(": "))
        .next()
        .unwrap_or(reason)
}

fn failure(step: &StepReport) {
    let reason = visible(step.reason.as_deref().unwrap_or("unknown"));
    anstream::eprintln!(
        "{}: step `{}` failed: {reason}",
        style::paint(style::BAD, "error"),
        step.step
    );
    for line in &step.log_tail {
        anstream::eprintln!("  {} {}", style::paint(style::DIM, "|"), log_line(line));
    }
    if let Some(help) = &step.help {
        anstream::eprintln!("help: {help}");
    }
    if step.log.is_some() && !step.log_tail.is_empty() {
        anstream::eprintln!("help: see its whole log: kiln log {}", step.step);
    }
}

fn rejection(project: &Project, step: &StepReport) {
    let report = step.outputs.get("report").map(|output| project.store.path(&output.object()));
    if let Some(path) = report.filter(|path| path.exists()) {
        let page = path.join("report.html");
        let shown = if page.is_file() { page } else { path };
        anstream::eprintln!("help: see why `{}` rejected: {}", step.step, shown.display());
    }
}

/// Says that nothing had to run: `built 5 steps: 5 reused (4.2 s saved), in 0.0 s`.
pub fn print_reused(steps: usize, saved: f64, took: Duration) {
    anstream::eprintln!(
        "built {}: {}, in {}",
        style::counted(steps, "step"),
        reused_part(steps, saved),
        style::time(took)
    );
}

fn reused_part(steps: usize, saved: f64) -> String {
    let saved = if saved >= 0.05 {
        format!(" ({} saved)", style::time(Duration::from_secs_f64(saved)))
    } else {
        String::new()
    };
    format!("{steps} reused{saved}")
}

/// `built 5 steps: 2 ran, 3 reused (4.2 s saved), 1.2 MiB made, in 3.4 s`.
fn line(project: &Project, built: &Built) -> String {
    let report = &built.report;
    let mut parts = Vec::new();
    let ran = report.count(How::Ran);
    let reused = report.count(How::Reused) + report.count(How::Substituted);
    if ran > 0 {
        parts.push(format!("{ran} ran"));
    }
    if reused > 0 {
        parts.push(reused_part(reused, report.seconds_saved()));
    }
    for (how, word) in [(How::Failed, "failed"), (How::Skipped, "skipped")] {
        let count = report.count(how);
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    let rejected =
        report.steps.iter().filter(|step| step.verdict == Some(VerdictWord::Rejected)).count();
    if rejected > 0 {
        parts.push(format!("{rejected} rejected"));
    }
    let ran: BTreeSet<&str> = report
        .steps
        .iter()
        .filter(|step| step.how == How::Ran)
        .map(|step| step.step.as_str())
        .collect();
    let made: u64 = built
        .results
        .iter()
        .filter(|(id, _)| ran.contains(project.graph.step(**id).name.as_str()))
        .map(|(_, result)| result.cost.output_bytes)
        .sum();
    if made > 0 {
        parts.push(format!("{} made", style::bytes(made)));
    }
    let verb = if report.interrupted { "interrupted after" } else { "built" };
    format!(
        "{verb} {}: {}, in {}",
        style::counted(report.steps.len(), "step"),
        parts.join(", "),
        style::time(Duration::from_secs_f64(report.seconds))
    )
}
