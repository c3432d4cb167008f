//! `kiln check`: whether a recipe is sound.

use serde::Serialize;

use super::{
    failure::{Exit, Failure, print_json},
    global::Global,
    project::{evaluate, find_recipe, parse_override},
    style,
};

/// Check the recipe and nothing else: no source is read, nothing runs.
///
/// All problems are reported at once, each with its place.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kiln check --set epochs=100")]
pub struct Args {
    /// Give a parameter another value for this run.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_override)]
    pub overrides: Vec<(String, String)>,
}

#[derive(Serialize)]
struct Document<'a> {
    file: &'a str,
    recipe: &'a str,
    steps: usize,
    sources: usize,
    deployments: usize,
}

/// Evaluates, and says how much there is.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let (path, shown) = find_recipe(global)?;
    let graph = evaluate(&path, &shown, &args.overrides)?;
    let document = Document {
        file: &shown,
        recipe: &graph.name,
        steps: graph.steps.len(),
        sources: graph.sources.len(),
        deployments: graph.deployments.len(),
    };
    if global.json {
        print_json(&document);
    } else {
        let counts = [
            style::counted(document.steps, "step"),
            style::counted(document.sources, "source"),
            style::counted(document.deployments, "deployment"),
        ];
        anstream::println!("{shown}: ok: {}", counts.join(", "));
    }
    Ok(Exit::Done)
}
