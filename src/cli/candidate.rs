//! Which release a deployment is to run: the recipe's own, another step's, or one that is in the store.
//!
//! Unaware of how steps are built and of how deployments switch.

use std::collections::BTreeSet;

use kiln_cache::{Digest, Kind, Object, Store};
use kiln_engine::{
    diagnostic::Diagnostic,
    event::BuildReport,
    graph::{Deployment, Reference, StepId},
};
use kiln_registry::{DeploymentManifest, Deployments, Generation, Lineage};
use serde::Deserialize;

use super::{failure::Failure, generations::refused, lineage, project::Project, style, summary};

/// The fewest digits that may stand for a digest.
const SHORTEST_PREFIX: usize = 8;

/// What is to be deployed.
pub struct Candidate {
    /// The release.
    pub release: Object,
    /// Where it came from.
    pub lineage: Lineage,
    /// The build that made it, if one did.
    pub build: Option<BuildReport>,
}

/// How the release is had.
pub enum Origin {
    /// From this output of a step.
    Built(StepId, u32),
    /// It is in the store.
    Stored(Object),
}

/// Which release is meant.
pub fn origin(
    project: &Project,
    deployment: &Deployment,
    asked: Option<&str>,
) -> Result<Origin, Failure> {
    let graph = &project.graph;
    let Some(asked) = asked else {
        return match deployment.release {
            Reference::Output(step, output) => Ok(Origin::Built(step, output)),
            Reference::Source(_) => Err(Failure::recipe(vec![
                Diagnostic::new(format!("`{}` deploys a source", deployment.name))
                    .at(deployment.at.clone(), "its release is not what a step makes")
                    .help("name a step that packages a release: release = \"${release}\""),
            ])),
        };
    };
    if let Some(step) = graph.find(asked) {
        let outputs = &graph.step(step).outputs;
        return match outputs.as_slice() {
            [_] => Ok(Origin::Built(step, 0)),
            _ => Err(Failure::usage(
                format!(
                    "the step `{asked}` has {}, so it makes no release",
                    style::counted(outputs.len(), "output")
                ),
                "name a step that packages a release",
            )),
        };
    }
    let hex = asked.strip_prefix("tree:").unwrap_or(asked);
    let is_prefix = (SHORTEST_PREFIX..=64).contains(&hex.len())
        && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_prefix {
        let steps = graph.steps.iter().map(|step| step.name.as_str());
        let problem = Diagnostic::new(format!("`{asked}` is neither a step nor a digest"))
            .suggest(asked, steps)
            .help(format!("a digest is given by at least {SHORTEST_PREFIX} hexadecimal digits"));
        return Err(Failure::recipe(vec![problem]));
    }
    resolve(&project.store, &graph.name, hex).map(Origin::Stored)
}

/// The release whose digest begins with `hex`.
fn resolve(store: &Store, recipe: &str, hex: &str) -> Result<Object, Failure> {
    if let Ok(digest) = hex.parse::<Digest>() {
        let release = Object::tree(digest);
        if !store.contains(&release) {
            return Err(Failure::failed(
                Diagnostic::new(format!("{release} is not in the store")).help(
                    "kiln generations lists releases that were deployed; kiln build makes one",
                ),
            ));
        }
        if !is_release(store, &release) {
            return Err(Failure::failed(
                Diagnostic::new(format!("{release} is not a release"))
                    .note("it has no manifest.json as the builder `package` makes it")
                    .help("name what a `package` step made"),
            ));
        }
        return Ok(release);
    }
    let unreadable = |error: &(dyn std::error::Error + 'static)| {
        Failure::environment(error, "kiln store verify tells more")
    };
    let mut known = BTreeSet::new();
    for record in store.all_realisations().map_err(|error| unreadable(&error))? {
        known.extend(record.outputs.iter().map(|output| output.object));
    }
    for generation in deployed(store, recipe)? {
        known.insert(generation.release);
    }
    let found: Vec<Object> = known
        .into_iter()
        .filter(|object| object.kind == Kind::Tree && object.digest.to_string().starts_with(hex))
        .filter(|object| is_release(store, object))
        .collect();
    match found.as_slice() {
        [release] => Ok(*release),
        [] => Err(Failure::failed(
            Diagnostic::new(format!("no release in the store begins with `{hex}`"))
                .help("kiln generations lists releases that were deployed; kiln build makes one"),
        )),
        several => {
            let names: Vec<String> =
                several.iter().map(|object| object.digest.to_string()).collect();
            Err(Failure::failed(
                Diagnostic::new(format!("{} releases begin with `{hex}`", several.len()))
                    .help(format!("give more digits; they are {}", names.join(", "))),
            ))
        }
    }
}

/// Whether the object is there and says that it is a release.
pub fn is_release(store: &Store, object: &Object) -> bool {
    #[derive(Deserialize)]
    struct Head {
        format: String,
    }
    let manifest = std::fs::read(store.path(object).join("manifest.json")).unwrap_or_default();
    serde_json::from_slice(&manifest).is_ok_and(|head: Head| head.format == "kiln-release")
}

/// Every generation of every deployment of the recipe, latest first.
fn deployed(store: &Store, recipe: &str) -> Result<Vec<Generation>, Failure> {
    let registry = Deployments::new(store);
    let mut all = Vec::new();
    for name in registry.names(recipe).map_err(|error| refused(&error))? {
        all.extend(registry.generations(recipe, &name).map_err(|error| refused(&error))?);
    }
    all.sort_by_key(|generation| std::cmp::Reverse((generation.at, generation.number)));
    Ok(all)
}

/// A release that is in the store, with the lineage that an earlier deployment or the realisations tell.
pub fn stored(project: &Project, release: Object) -> Result<Candidate, Failure> {
    let (store, recipe) = (&project.store, project.graph.name.as_str());
    for generation in deployed(store, recipe)? {
        if generation.release != release {
            continue;
        }
        let path = store.path(&generation.manifest);
        let bytes = std::fs::read(&path).unwrap_or_default();
        // An earlier manifest that is gone or damaged is told by what it was made from.
        if let Ok(manifest) = DeploymentManifest::from_bytes(&path, &bytes) {
            return Ok(Candidate { release, lineage: manifest.lineage, build: None });
        }
    }
    let traced = lineage::traced(store, recipe, &release)
        .map_err(|error| Failure::environment(&error, "kiln store verify tells more"))?;
    let lineage = traced.unwrap_or_else(|| {
        summary::warn("the store does not tell where this release came from; its deployment manifest has no lineage");
        Lineage::default()
    });
    Ok(Candidate { release, lineage, build: None })
}
