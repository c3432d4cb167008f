//! Finds the output that a command line names: `STEP` or `STEP.OUTPUT`, as the recipe stands now.

use std::path::PathBuf;

use kiln_cache::Object;
use kiln_engine::{
    diagnostic::{Diagnostic, nearest},
    graph::{Reference, StepId},
    plan::Outlook,
};

use super::{failure::Failure, outlook, project::Project};

/// An output that is there.
pub struct Located {
    /// How the recipe spells it.
    pub name: String,
    /// Its content.
    pub object: Object,
    /// Where it lies: in the store, or, for an alias of a large source, in the recipe's folder.
    pub path: PathBuf,
    /// Whether that is in the store.
    pub in_store: bool,
}

/// The step and the output's number that `text` names.
pub fn output(project: &Project, text: &str) -> Result<(StepId, u32), Failure> {
    let graph = &project.graph;
    let (name, output) = match text.split_once('.') {
        Some((name, output)) => (name, Some(output)),
        None => (text, None),
    };
    let id = project.step(name)?;
    let outputs = &graph.step(id).outputs;
    let names = || outputs.iter().map(|output| output.name.as_str());
    let list = || names().map(|output| format!("{name}.{output}")).collect::<Vec<_>>().join(", ");
    match output {
        Some(output) => graph.step(id).output(output).map(|number| (id, number)).ok_or_else(|| {
            let help = match nearest(output, names()) {
                Some(near) => format!("did you mean `{name}.{near}`?"),
                None => format!("its outputs are {}", list()),
            };
            Failure::usage(format!("the step `{name}` has no output `{output}`"), help)
        }),
        None if outputs.len() == 1 => Ok((id, 0)),
        None => match graph.step(id).output("out") {
            Some(number) => Ok((id, number)),
            None => Err(Failure::usage(
                format!("the step `{name}` has {} outputs", outputs.len()),
                format!("name one of {}", list()),
            )),
        },
    }
}

/// The output that `text` names, if it is there; nothing is built.
pub fn locate(project: &Project, text: &str) -> Result<Located, Failure> {
    let (id, number) = output(project, text)?;
    let graph = &project.graph;
    let step = &graph.step(id).name;
    let plan = outlook::plan(project, &[id])?;
    let planned = plan.step(id).expect("the plan was made for this step");
    let result = match (&planned.outlook, &planned.result) {
        (Outlook::UpToDate, Some(result)) => result,
        _ => {
            let mut problem =
                Diagnostic::new(format!("`{step}` is not built as the recipe stands"));
            for line in outlook::lines(project, planned) {
                problem = problem.note(line);
            }
            return Err(Failure::failed(problem.help(format!("kiln build {step}"))));
        }
    };
    let name = graph.spell(Reference::Output(id, number));
    let Some(made) = result.output(&graph.step(id).outputs[number as usize].name) else {
        let reason = match &result.verdict {
            Some(verdict) => format!("`{step}` rejected: {}", verdict.reason),
            None => format!("`{step}` did not make it"),
        };
        return Err(Failure::failed(
            Diagnostic::new(format!("`{name}` does not exist")).note(reason),
        ));
    };
    let stored = project.store.path(&made.object);
    if project.store.contains(&made.object) {
        return Ok(Located { name, object: made.object, path: stored, in_store: true });
    }
    if let Reference::Source(source) = graph.origin(Reference::Output(id, number)) {
        let path = plan.resolution.sources[&source]
            .present(&project.store)
            .map_err(|error| Failure::environment(&error, format!("kiln build {step}")))?;
        let in_store = path == stored;
        return Ok(Located { name, object: made.object, path, in_store });
    }
    let problem = Diagnostic::new(format!("`{name}` is lost from the store"));
    Err(Failure::failed(problem.help(format!("kiln build {step} makes it again"))))
}
