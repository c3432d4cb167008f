//! `kiln graph`: sources, steps and deployments, and what needs what.

mod drawing;

use std::fmt::Write as _;

use kiln_engine::{
    graph::{Graph, Origin, Reference, StepId},
    resolve::{closure, default_targets},
};
use serde::Serialize;

use super::{
    failure::{Exit, Failure, print_json},
    global::Global,
    project::{evaluate, find_recipe, find_step, parse_override},
};

/// Draw the recipe: what needs what.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln graph\n  kiln graph release --format dot | dot -Tsvg > graph.svg"
)]
pub struct Args {
    /// Steps to draw, with all that they need; by default all.
    #[arg(value_name = "STEP")]
    pub steps: Vec<String>,
    /// How to write it.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: Format,
    /// Give a parameter another value for this run.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_override)]
    pub overrides: Vec<(String, String)>,
}

/// What `--format` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A drawing for people.
    #[default]
    Text,
    /// A graph for graphviz.
    Dot,
    /// A JSON document, as --json.
    Json,
}

/// Evaluates and draws.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let (path, shown) = find_recipe(global)?;
    let graph = evaluate(&path, &shown, &args.overrides)?;
    let asked =
        args.steps.iter().map(|name| find_step(&graph, name)).collect::<Result<Vec<_>, _>>()?;
    let all = asked.is_empty();
    let targets = if all { default_targets(&graph) } else { asked };
    let steps = closure(&graph, targets.iter().copied());
    let format = if global.json { Format::Json } else { args.format };
    match format {
        Format::Text => anstream::print!("{}", drawing::draw(&graph, &targets, all)),
        Format::Dot => anstream::print!("{}", dot(&graph, &steps, all)),
        Format::Json => print_json(&document(&graph, &steps, all)),
    }
    Ok(Exit::Done)
}

/// What a source is, in a few words.
fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Path(path) => path.clone(),
        Origin::Glob(pattern) => pattern.clone(),
        Origin::Deployment { deployment, output, .. } if output.is_empty() => {
            format!("what {deployment} runs")
        }
        Origin::Deployment { deployment, output, .. } => {
            format!("{output} of what {deployment} runs")
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    recipe: &'a str,
    sources: Vec<SourceEntry<'a>>,
    steps: Vec<StepEntry<'a>>,
    deployments: Vec<DeploymentEntry<'a>>,
}

#[derive(Serialize)]
struct SourceEntry<'a> {
    name: &'a str,
    origin: String,
}

#[derive(Serialize)]
struct StepEntry<'a> {
    name: &'a str,
    builder: String,
    gate: bool,
    inputs: Vec<String>,
    outputs: Vec<OutputEntry<'a>>,
}

#[derive(Serialize)]
struct OutputEntry<'a> {
    name: &'a str,
    alias: Option<String>,
}

#[derive(Serialize)]
struct DeploymentEntry<'a> {
    name: &'a str,
    release: String,
    after: Option<&'a str>,
}

fn used(graph: &Graph, steps: &[StepId], all: bool, reference: Reference) -> bool {
    all || steps.iter().any(|&step| graph.step(step).inputs.contains(&reference))
}

fn document<'a>(graph: &'a Graph, steps: &[StepId], all: bool) -> Document<'a> {
    let source_ids = (0..graph.sources.len() as u32).map(kiln_engine::graph::SourceId);
    let sources =
        source_ids.filter(|&id| used(graph, steps, all, Reference::Source(id))).map(|id| {
            let source = graph.source(id);
            SourceEntry { name: &source.name, origin: origin(&source.origin) }
        });
    let entries = steps.iter().map(|&id| {
        let step = graph.step(id);
        StepEntry {
            name: &step.name,
            builder: step.builder.to_string(),
            gate: step.gate,
            inputs: step.inputs.iter().map(|&input| graph.spell(input)).collect(),
            outputs: step
                .outputs
                .iter()
                .map(|output| OutputEntry {
                    name: &output.name,
                    alias: output.alias.map(|alias| graph.spell(alias)),
                })
                .collect(),
        }
    });
    let deployments =
        graph.deployments.iter().filter(|deployment| releases(steps, deployment.release));
    let deployments = deployments.map(|deployment| DeploymentEntry {
        name: &deployment.name,
        release: graph.spell(deployment.release),
        after: deployment.after.as_deref(),
    });
    Document {
        recipe: &graph.name,
        sources: sources.collect(),
        steps: entries.collect(),
        deployments: deployments.collect(),
    }
}

fn releases(steps: &[StepId], release: Reference) -> bool {
    match release {
        Reference::Output(step, _) => steps.contains(&step),
        Reference::Source(_) => true,
    }
}

fn dot(graph: &Graph, steps: &[StepId], all: bool) -> String {
    // Names consist of letters, digits and `_.-`; what a source is may hold quotes.
    let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let node = |reference: Reference| match reference {
        Reference::Source(id) => quote(&format!("sources.{}", graph.source(id).name)),
        Reference::Output(step, _) => quote(&graph.step(step).name),
    };
    let document = document(graph, steps, all);
    let mut text = format!(
        "digraph {} {{\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n",
        quote(&graph.name)
    );
    for source in &document.sources {
        let (name, label) =
            (format!("sources.{}", source.name), format!("{}\n{}", source.name, source.origin));
        let label = quote(&label).replace('\n', "\\n");
        let _ = writeln!(text, "  {} [shape=folder, label={label}];", quote(&name));
    }
    for step in &document.steps {
        let shape = if step.gate { "diamond" } else { "box" };
        let label = quote(&format!("{}\n{}", step.name, step.builder)).replace('\n', "\\n");
        let _ = writeln!(text, "  {} [shape={shape}, label={label}];", quote(step.name));
    }
    for &id in steps {
        for &input in &graph.step(id).inputs {
            let label = match input {
                Reference::Source(_) => String::new(),
                Reference::Output(step, number) => {
                    graph.step(step).outputs[number as usize].name.clone()
                }
            };
            let to = quote(&graph.step(id).name);
            let _ = writeln!(text, "  {} -> {to} [label={}];", node(input), quote(&label));
        }
    }
    for deployment in
        graph.deployments.iter().filter(|deployment| releases(steps, deployment.release))
    {
        let name = quote(&format!("deploy.{}", deployment.name));
        let _ = writeln!(text, "  {name} [shape=cds, label={}];", quote(&deployment.name));
        let _ = writeln!(text, "  {} -> {name};", node(deployment.release));
        if let Some(after) = &deployment.after {
            let _ = writeln!(
                text,
                "  {} -> {name} [style=dashed, label=\"after\"];",
                quote(&format!("deploy.{after}"))
            );
        }
    }
    text.push_str("}\n");
    text
}
