//! `kiln deploy`: a release is realised, and then a deployment runs it.

use std::time::{SystemTime, UNIX_EPOCH};

use kiln_cache::Object;
use kiln_engine::{
    diagnostic::Diagnostic,
    event::BuildReport,
    graph::{Deployment, Graph, StepId},
};
use kiln_registry::{Deployed, DeploymentManifest, Deployments, Generation, NewGeneration};
use serde::Serialize;

use super::{
    build::{self, Flow, Plan},
    candidate::{Candidate, Origin, is_release, origin, stored},
    capture::{self, Built},
    failure::{Exit, Failure, print_json},
    generations::{GenerationEntry, refused, unknown_deployment},
    global::Global,
    lineage,
    project::{Evaluation, Project},
    style, summary,
};

/// Build a deployment's release and make it what runs there.
///
/// If a step fails or a gate rejects, what runs stays. Deploying the model that already runs does nothing, whatever the
/// evidence beside it. Each deployment is a new generation; `kiln rollback` goes back to an earlier one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln deploy staging
  kiln deploy production --reason \"more data from May\"
  kiln deploy staging --set epochs=100
  kiln deploy production --release 4f1c09ab23de")]
pub struct Args {
    /// The deployment: a [deploy.NAME] of the recipe.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Deploy this instead of the recipe's release: a release in the store, by its digest or at least 8 digits of it,
    /// or what another step makes.
    #[arg(long, value_name = "DIGEST|STEP")]
    pub release: Option<String>,
    /// Deploy even if the same model already runs.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub account: Account,
    #[command(flatten)]
    pub evaluation: Evaluation,
    #[command(flatten)]
    pub flow: Flow,
}

/// Who switches, and why.
#[derive(Debug, Clone, clap::Args)]
pub struct Account {
    /// Why, for the record: one line.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Who, for the record; by default $USER.
    #[arg(long, value_name = "WHO", env = "KILN_USER", hide_env_values = true)]
    pub by: Option<String>,
}

impl Account {
    /// Who: as said, else as the environment says, else the number of the user.
    pub fn by(&self) -> String {
        let said = |text: &String| !text.trim().is_empty();
        let variable = |name| std::env::var(name).ok().filter(said);
        (self.by.clone().filter(said))
            .or_else(|| variable("USER"))
            .or_else(|| variable("LOGNAME"))
            .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[derive(Serialize)]
struct Document<'a> {
    recipe: &'a str,
    deployment: &'a str,
    switched: bool,
    generation: Option<GenerationEntry>,
    was: Option<u64>,
    build: Option<&'a BuildReport>,
}

/// Builds, checks and switches.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let mut project = Project::open(global, &args.evaluation)?;
    let deployment = find(&project.graph, &args.name)?.clone();
    let candidate = match origin(&project, &deployment, args.release.as_deref())? {
        Origin::Stored(release) => stored(&project, release)?,
        Origin::Built(step, output) => {
            match built(global, args, &mut project, &deployment, step, output)? {
                Ok(candidate) => candidate,
                Err(exit) => return Ok(exit),
            }
        }
    };
    let store = &project.store;
    let recipe = project.graph.name.as_str();
    let name = deployment.name.as_str();
    let registry = Deployments::new(store);
    let broken = |error: &(dyn std::error::Error + 'static)| {
        Failure::environment(error, "nothing was deployed; kiln store verify tells more")
    };
    let _session = store.session().map_err(|error| broken(&error))?;
    let release = candidate.release;
    let model = registry.model_of(&release).map_err(|error| broken(&error))?;
    let current = registry.current(recipe, name).map_err(|error| refused(&error))?;
    let runs = current.filter(|current| !args.force && current.runs(&release, model.as_ref()));
    let done = match runs {
        Some(current) => Deployed::AlreadyRuns(current),
        None => {
            if let Some(after) = &deployment.after {
                follows(&registry, recipe, name, after, &release, model.as_ref())?;
            }
            let built = if candidate.build.is_some() { Built::Now } else { Built::Earlier };
            capture::sources(&project, &candidate.lineage, built)?;
            let keys = candidate.lineage.keys();
            let manifest = DeploymentManifest {
                recipe: recipe.to_owned(),
                deployment: name.to_owned(),
                release,
                model,
                after: deployment.after.clone(),
                lineage: candidate.lineage,
            };
            let new = NewGeneration {
                release,
                model,
                manifest: manifest.store(store).map_err(|error| broken(&error))?,
                keys,
                by: args.account.by(),
                reason: args.account.reason.clone(),
                at: now(),
                force: args.force,
            };
            registry.deploy(recipe, name, new).map_err(|error| refused(&error))?
        }
    };
    report(global, recipe, &done, candidate.build.as_ref());
    Ok(Exit::Done)
}

fn report(global: &Global, recipe: &str, done: &Deployed, build: Option<&BuildReport>) {
    let (switched, generation) = match done {
        Deployed::Switched(generation) => (true, generation),
        Deployed::AlreadyRuns(generation) => (false, generation),
    };
    let Generation { deployment, number, release, replaced, .. } = generation;
    if global.json {
        print_json(&Document {
            recipe,
            deployment,
            switched,
            generation: Some(generation.into()),
            was: if switched { *replaced } else { Some(*number) },
            build,
        });
        return;
    }
    let place = style::paint(style::NAME, deployment);
    if switched {
        let was = replaced.map(|was| format!(" (was {was})")).unwrap_or_default();
        let release = style::short(&release.digest);
        anstream::println!("deployed release {release} to {place} as generation {number}{was}");
    } else {
        let what = match generation.model {
            Some(model) => format!("model {}", style::short(&model.digest)),
            None => format!("release {}", style::short(&release.digest)),
        };
        anstream::println!("{place} already runs {what}, as generation {number}");
    }
}

fn find<'a>(graph: &'a Graph, name: &str) -> Result<&'a Deployment, Failure> {
    graph.deployments.iter().find(|deployment| deployment.name == name).ok_or_else(|| {
        let mut known: Vec<&str> =
            graph.deployments.iter().map(|deployment| deployment.name.as_str()).collect();
        known.sort_unstable();
        unknown_deployment(&graph.name, name, &known)
    })
}

/// Builds the release; the inner error is the exit code of a build that did not make it.
fn built(
    global: &Global,
    args: &Args,
    project: &mut Project,
    deployment: &Deployment,
    step: StepId,
    output: u32,
) -> Result<Result<Candidate, Exit>, Failure> {
    let plan = Plan::of(vec![step]);
    let built = build::realise(project, &plan, &args.flow, global.json, args.evaluation.sandbox)?;
    let exit = build::exit(&built.report);
    if !global.json {
        summary::print(project, &built);
    }
    if exit != Exit::Done {
        if global.json {
            print_json(&Document {
                recipe: &project.graph.name,
                deployment: &deployment.name,
                switched: false,
                generation: None,
                was: None,
                build: Some(&built.report),
            });
        } else {
            anstream::eprintln!("nothing was deployed to {}", deployment.name);
        }
        return Ok(Err(exit));
    }
    let result = built.results.get(&step);
    let step = project.graph.step(step);
    let made = &step.outputs[output as usize].name;
    let Some(release) = result.and_then(|result| result.output(made)).map(|made| made.object)
    else {
        return Err(Failure::failed(
            Diagnostic::new(format!("the step `{}` made no `{made}`", step.name))
                .help("nothing was deployed"),
        ));
    };
    if args.release.is_some() && !is_release(&project.store, &release) {
        return Err(Failure::failed(
            Diagnostic::new(format!("what the step `{}` makes is not a release", step.name))
                .note("it has no manifest.json as the builder `package` makes it")
                .help("name a step that packages a release"),
        ));
    }
    let lineage = lineage::of_build(&project.graph, &built.results);
    Ok(Ok(Candidate { release, lineage, build: Some(built.report) }))
}

/// Refuses unless the deployment that comes first runs the same model.
fn follows(
    registry: &Deployments<'_>,
    recipe: &str,
    name: &str,
    after: &str,
    release: &Object,
    model: Option<&Object>,
) -> Result<(), Failure> {
    let first = registry.current(recipe, after).map_err(|error| refused(&error))?;
    let describe = |release: &Object, model: Option<&Object>| match model {
        Some(model) => format!("model {}", style::short(&model.digest)),
        None => format!("release {}", style::short(&release.digest)),
    };
    let wanted = describe(release, model);
    let runs = match first {
        Some(first) if first.runs(release, model) => return Ok(()),
        Some(first) => format!(
            "{after} runs {} (generation {})",
            describe(&first.release, first.model.as_ref()),
            first.number
        ),
        None => format!("nothing has been deployed to {after} yet"),
    };
    Err(Failure::failed(
        Diagnostic::new(format!("{name} comes after {after}, which does not run {wanted}"))
            .note(runs)
            .help(format!("kiln deploy {after}")),
    ))
}
