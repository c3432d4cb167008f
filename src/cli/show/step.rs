//! A step: its derivation as the recipe stands, and the result that it has.

use std::collections::BTreeMap;

use kiln_cache::{Digest, Object, Realisation};
use kiln_engine::{
    graph::{Reference, StepId, Toolchain},
    key::{Manifest, ManifestItem, determinism_word},
    plan::Outlook,
};
use serde::Serialize;

use super::realisation;
use crate::cli::{
    failure::{Exit, Failure, print_json},
    global::Global,
    outlook,
    project::Project,
    style,
    table::Table,
};

#[derive(Serialize)]
struct Document<'a> {
    step: &'a str,
    builder: String,
    state: &'static str,
    why: Vec<String>,
    action_key: Option<Digest>,
    toolchain: &'static str,
    pushed_by_default: bool,
    determinism: &'static str,
    /// What goes into its key; empty while its inputs are not known.
    manifest: Vec<ManifestItem>,
    inputs: BTreeMap<String, Option<Object>>,
    declared_outputs: Vec<&'a str>,
    /// The result under its key, without its manifest, which stands above.
    result: Option<Result<'a>>,
}

#[derive(Serialize)]
struct Result<'a> {
    attempt: u32,
    attempts: usize,
    outputs: &'a [kiln_cache::Output],
    verdict: Option<&'a kiln_cache::Verdict>,
    isolation: kiln_cache::Isolation,
    cost: kiln_cache::Cost,
    log: Option<Object>,
}

/// Shows it.
pub fn show(global: &Global, project: &Project, id: StepId) -> std::result::Result<Exit, Failure> {
    let plan = outlook::plan(project, &[id])?;
    let planned = plan.step(id).expect("the plan was made for this step");
    let step = project.graph.step(id);
    let manifest = project.with_context(|context| plan.manifest(context, id)).unwrap_or_default();
    let attempts = match planned.key {
        Some(key) => project
            .store
            .attempts(&key)
            .map_err(|error| Failure::environment(&error, "kiln store verify tells more"))?
            .len(),
        None => 0,
    };
    let known: BTreeMap<&str, Option<Object>> = manifest.inputs().collect();
    let inputs: BTreeMap<String, Option<Object>> = step
        .inputs
        .iter()
        .map(|&input| project.graph.spell(input))
        .map(|label| (label.clone(), known.get(label.as_str()).copied().flatten()))
        .collect();
    let document = Document {
        step: &step.name,
        builder: step.builder.to_string(),
        state: outlook::word(&planned.outlook),
        why: outlook::lines(project, planned),
        action_key: planned.key,
        toolchain: match step.toolchain {
            Toolchain::Builtin => "builtin",
            Toolchain::Library(_) => "library",
            Toolchain::Host => "host",
            Toolchain::Tools(_) => "tools",
        },
        pushed_by_default: step.toolchain != Toolchain::Host,
        determinism: determinism_word(step.determinism),
        declared_outputs: step.outputs.iter().map(|output| output.name.as_str()).collect(),
        result: planned.result.as_ref().map(|record| Result {
            attempt: record.attempt,
            attempts,
            outputs: &record.outputs,
            verdict: record.verdict.as_ref(),
            isolation: record.isolation,
            cost: record.cost,
            log: record.log,
        }),
        inputs,
        manifest: manifest.items.clone(),
    };
    if global.json {
        print_json(&document);
        return Ok(Exit::Done);
    }
    print(project, id, &document, &manifest, planned.result.as_ref(), attempts);
    if let Outlook::WouldRun(_) = planned.outlook
        && planned.result.is_some()
    {
        anstream::eprintln!("the result above cannot be used as it is: kiln build {}", step.name);
    }
    Ok(Exit::Done)
}

fn print(
    project: &Project,
    id: StepId,
    document: &Document<'_>,
    manifest: &Manifest,
    result: Option<&Realisation>,
    attempts: usize,
) {
    let step = project.graph.step(id);
    let mut facts = Table::new(&["", ""]);
    facts.row(["step", document.step]);
    facts.row(["builder", &document.builder]);
    for line in &document.why {
        facts.row([document.state.replace('_', " "), line.clone()]);
    }
    facts.row([
        "action key",
        &document.action_key.map_or_else(
            || "not known until the steps before it have run".to_owned(),
            |key| key.to_string(),
        ),
    ]);
    facts.row(["runs with", &toolchain(&step.toolchain)]);
    facts.row(["determinism", document.determinism]);
    if let Some(record) = result {
        realisation::write_record(&mut facts, record, attempts);
    }
    anstream::println!("{facts}");
    print_arguments(manifest);
    if !step.inputs.is_empty() {
        let mut table = Table::new(&["input", "is"]);
        for &input in &step.inputs {
            let label = project.graph.spell(input);
            let origin = project.graph.origin(input);
            let alias = match origin == input {
                true => String::new(),
                false => format!(" (= {})", project.graph.spell(origin)),
            };
            let content = match (document.inputs.get(&label).copied().flatten(), input) {
                (Some(object), _) => object.to_string(),
                (None, Reference::Source(_)) if document.action_key.is_some() => {
                    "absent".to_owned()
                }
                (None, _) => "not known yet".to_owned(),
            };
            table.row([format!("{label}{alias}"), content]);
        }
        anstream::println!("{table}");
    }
    match result {
        Some(record) => {
            anstream::print!("{}", realisation::outputs(&project.store, &record.outputs))
        }
        None => {
            anstream::println!("outputs: {} (none made yet)", document.declared_outputs.join(", "))
        }
    }
}

fn print_arguments(manifest: &Manifest) {
    let mut table = Table::new(&["argument", "value"]);
    let none = Manifest::default();
    for change in kiln_engine::why::changes(&none, manifest) {
        if change.part == kiln_engine::why::Part::Recipe
            && !matches!(
                change.subject.as_str(),
                "builder" | "determinism" | "format" | "platform" | "salt" | "network"
            )
        {
            let value = change.after.unwrap_or_default();
            let mut lines = value.lines();
            table.row([change.subject, lines.next().unwrap_or_default().to_owned()]);
            for line in lines {
                table.row([String::new(), line.to_owned()]);
            }
        }
    }
    if !table.is_empty() {
        anstream::println!("{table}");
    }
}

fn toolchain(toolchain: &Toolchain) -> String {
    match toolchain {
        Toolchain::Builtin => "kiln itself".to_owned(),
        Toolchain::Library(name) => format!("kiln itself, with {name}"),
        Toolchain::Host => style::paint(
            style::WARN,
            "the host's programs: it depends on this host, and is not pushed by default",
        ),
        Toolchain::Tools(names) => format!("{}, and the core utilities", names.join(", ")),
    }
}
