//! `kiln generations`: what ran where, and when.

use std::collections::BTreeMap;

use kiln_cache::Digest;
use kiln_engine::{diagnostic::nearest, moment};
use kiln_registry::{Deployments, Generation, RegistryError, Switch, SwitchKind};
use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use super::{
    failure::{Exit, Failure, chain, print_json},
    global::Global,
    project::{evaluate, find_recipe, open_store},
    style,
    table::Table,
};

/// List the generations of a deployment, or of all of the recipe's.
///
/// For each: which release and model, when it was first deployed, and the last time that it was switched to: when, by whom,
/// how and why.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kiln generations\n  kiln generations production --json")]
pub struct Args {
    /// The deployment; by default all to which something was deployed.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Serialize)]
struct Document {
    recipe: String,
    deployments: Vec<DeploymentEntry>,
}

#[derive(Serialize)]
struct DeploymentEntry {
    deployment: String,
    current: Option<u64>,
    generations: Vec<GenerationEntry>,
    switches: Vec<Switch>,
}

/// A generation, as JSON shows it.
#[derive(Serialize)]
pub struct GenerationEntry {
    number: u64,
    release: Digest,
    model: Option<Digest>,
    manifest: Digest,
    replaced: Option<u64>,
    by: String,
    reason: Option<String>,
    at: i64,
}

impl From<&Generation> for GenerationEntry {
    fn from(generation: &Generation) -> Self {
        Self {
            number: generation.number,
            release: generation.release.digest,
            model: generation.model.map(|model| model.digest),
            manifest: generation.manifest.digest,
            replaced: generation.replaced,
            by: generation.by.clone(),
            reason: generation.reason.clone(),
            at: generation.at,
        }
    }
}

/// Lists them.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let head = Head::read(global)?;
    let store = open_store(global)?;
    let registry = Deployments::new(&store);
    let deployed = registry.names(&head.name).map_err(|error| refused(&error))?;
    let names = match &args.name {
        Some(name) => {
            head.known(name, &deployed)?;
            vec![name.clone()]
        }
        None => deployed,
    };
    let mut document = Document { recipe: head.name, deployments: Vec::new() };
    let mut table = Table::new(&[
        "deployment",
        ">generation",
        "",
        "release",
        "model",
        "first deployed",
        "last switched to",
        "by",
        "how",
        "reason",
    ]);
    for name in names {
        let generations =
            registry.generations(&document.recipe, &name).map_err(|error| refused(&error))?;
        let switches =
            registry.history(&document.recipe, &name).map_err(|error| refused(&error))?;
        let current = switches.last().map(|switch| switch.to);
        for generation in &generations {
            table.row(row(&name, generation, &switches, current));
        }
        document.deployments.push(DeploymentEntry {
            deployment: name,
            current,
            generations: generations.iter().map(GenerationEntry::from).collect(),
            switches,
        });
    }
    if global.json {
        print_json(&document);
    } else if table.is_empty() {
        match &args.name {
            Some(name) => anstream::eprintln!("nothing has been deployed to {name} yet"),
            None => anstream::eprintln!("nothing of {} has been deployed yet", document.recipe),
        }
    } else {
        anstream::print!("{table}");
    }
    Ok(Exit::Done)
}

/// One line of the table; when, by whom, how and why are those of the last switch to the generation.
fn row(
    name: &str,
    generation: &Generation,
    switches: &[Switch],
    current: Option<u64>,
) -> [String; 10] {
    let last = switches.iter().rev().find(|switch| switch.to == generation.number);
    let (at, by, kind, reason) = match last {
        Some(last) => (last.at, &last.by, last.kind, &last.reason),
        None => (generation.at, &generation.by, SwitchKind::Deploy, &generation.reason),
    };
    let mark = if current == Some(generation.number) { "current" } else { "" };
    [
        name.to_owned(),
        generation.number.to_string(),
        mark.to_owned(),
        style::short(&generation.release.digest),
        generation.model.map_or_else(|| "-".to_owned(), |model| style::short(&model.digest)),
        moment::local(generation.at.saturating_mul(1000)),
        moment::local(at.saturating_mul(1000)),
        by.clone(),
        match kind {
            SwitchKind::Deploy => "deploy".to_owned(),
            SwitchKind::Rollback => "rollback".to_owned(),
        },
        reason.clone().unwrap_or_default(),
    ]
}

/// What must be known of a recipe to look at its deployments and to go back: its name. The rest of it may be in
/// any state, since a rollback is wanted most when something is broken.
#[derive(Debug, Deserialize)]
pub struct Head {
    /// The recipe's name.
    pub name: String,
    #[serde(default)]
    deploy: BTreeMap<String, toml::Value>,
}

impl Head {
    /// Reads it from the recipe.
    pub fn read(global: &Global) -> Result<Self, Failure> {
        let (path, shown) = find_recipe(global)?;
        let text = std::fs::read_to_string(&path).ok();
        let head =
            text.and_then(|text| toml::from_str(&text).ok().or_else(|| Self::salvage(&text)));
        match head {
            Some(head) => Ok(head),
            // The recipe's own messages say it best.
            None => {
                evaluate(&path, &shown, &[])?;
                Err(Failure::usage(
                    format!("`{shown}` has no name"),
                    "write `name = \"…\"` at its top",
                ))
            }
        }
    }

    /// Reads it from a text that is not even TOML any more.
    fn salvage(text: &str) -> Option<Self> {
        let (document, _) = DeTable::parse_recoverable(text);
        let entry = |key: &str| {
            let (_, value) = document.get_ref().iter().find(|(name, _)| name.get_ref() == key)?;
            Some(value.get_ref())
        };
        let name = entry("name")?.as_str()?.to_owned();
        let deploy = match entry("deploy") {
            Some(DeValue::Table(table)) => {
                let names = table.keys().map(|name| name.get_ref().to_string());
                names.map(|name| (name, toml::Value::Boolean(true))).collect()
            }
            _ => BTreeMap::new(),
        };
        Some(Self { name, deploy })
    }

    /// Refuses a deployment that neither the recipe nor the registry knows.
    pub fn known(&self, name: &str, deployed: &[String]) -> Result<(), Failure> {
        let mut known: Vec<&str> = self.deploy.keys().chain(deployed).map(String::as_str).collect();
        known.sort_unstable();
        known.dedup();
        if known.contains(&name) {
            return Ok(());
        }
        Err(unknown_deployment(&self.name, name, &known))
    }
}

/// The failure to find a deployment, with the nearest name or all of them.
pub fn unknown_deployment(recipe: &str, name: &str, known: &[&str]) -> Failure {
    let help = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("a recipe defines one with [deploy.{name}]"),
        None => format!("its deployments are {}", known.join(", ")),
    };
    Failure::usage(format!("the recipe `{recipe}` has no deployment `{name}`"), help)
}

/// What the registry refused, as a failure.
pub fn refused(error: &RegistryError) -> Failure {
    match error {
        RegistryError::Name(_) | RegistryError::Line(_) => {
            Failure::usage(chain(error), error.help())
        }
        _ => Failure::environment(error, error.help()),
    }
}
