//! What the engine plans, for the commands that look ahead or look something up.

use std::{collections::BTreeSet, sync::Arc};

use kiln_cache::Digest;
use kiln_engine::{
    graph::StepId,
    key::Manifest,
    plan::{self, Outlook, Plan, Planned},
    realise::Options,
    resolve::default_targets,
    schedule::Capacity,
    why::{self, Change},
};

use super::{
    failure::Failure,
    project::{Project, build_failure},
};

/// The plan for `steps`, or for the whole recipe if there are none.
pub fn plan(project: &Project, steps: &[StepId]) -> Result<Plan, Failure> {
    let targets = if steps.is_empty() { default_targets(&project.graph) } else { steps.to_vec() };
    let options = Options {
        targets,
        gpus: Arc::default(),
        capacity: Capacity { cpus: 1, memory: u64::MAX, gpus: 0 },
        keep_going: true,
        again: BTreeSet::new(),
        check: BTreeSet::new(),
        locate_all: false,
    };
    project.with_context(|context| plan::plan(context, &options)).map_err(build_failure)
}

/// The word for an outlook in JSON documents.
pub fn word(outlook: &Outlook) -> &'static str {
    match outlook {
        Outlook::UpToDate => "up_to_date",
        Outlook::WouldRun(_) => "would_run",
        Outlook::MayRun { .. } => "may_run",
        Outlook::Withheld(_) => "withheld",
    }
}

/// Why, one reason a line.
pub fn lines(project: &Project, planned: &Planned) -> Vec<String> {
    let name = |&step: &StepId| format!("`{}`", project.graph.step(step).name);
    match &planned.outlook {
        Outlook::UpToDate => {
            match planned.result.as_ref().and_then(|result| result.verdict.as_ref()) {
                Some(verdict) if verdict.accepted => {
                    vec![format!("up to date, accepted: {}", verdict.reason)]
                }
                Some(verdict) => vec![format!("up to date, rejected: {}", verdict.reason)],
                None => vec!["up to date".to_owned()],
            }
        }
        Outlook::WouldRun(reason) => reason.lines(),
        Outlook::MayRun { after } if after.is_empty() => {
            vec![
                "its output is lost from the store, and a step that may run would read it"
                    .to_owned(),
            ]
        }
        Outlook::MayRun { after } => {
            let names: Vec<String> = after.iter().map(name).collect();
            let names = names.join(" and ");
            vec![match project.history.latest(&project.graph.step(planned.step).name) {
                None => format!("never built; {names} would run first"),
                Some(_) => format!("depends on what {names} will make"),
            }]
        }
        Outlook::Withheld(reason) => vec![reason.clone()],
    }
}

/// What is known already to differ of a step from its build under the key `previous`, while other steps have to run before
/// the rest is known.
pub fn changes_so_far(
    project: &Project,
    plan: &Plan,
    step: StepId,
    previous: Digest,
) -> Vec<Change> {
    let record = project.store.realisation(&previous).ok().flatten();
    let before = record.and_then(|record| Manifest::from_text(&record.manifest).ok());
    let Some(before) = before else { return Vec::new() };
    let now = project.with_context(|context| plan.manifest_so_far(context, step, &before));
    now.map(|now| why::changes(&before, &now)).unwrap_or_default()
}

/// The same in words, for a step that may run; none for others.
pub fn own_changes(project: &Project, plan: &Plan, planned: &Planned) -> Vec<String> {
    let name = &project.graph.step(planned.step).name;
    match (&planned.outlook, project.history.latest(name)) {
        (Outlook::MayRun { .. }, Some(previous)) => {
            let changes = changes_so_far(project, plan, planned.step, previous);
            changes.iter().map(Change::line).collect()
        }
        _ => Vec::new(),
    }
}
