//! Typed recipe → graph: types against the catalogue, parameters, references, order.
//!
//! Steps are numbered by name while their references are being resolved, and renumbered once their order
//! is known. Unaware of TOML's syntax.

use super::{
    args::{Checker, Defaults},
    builtin,
    deployments::{check_pointers, deployments},
    language::COMMAND_NAME,
    params::canonical,
    parse::{Recipe, StepDecl, Work},
    problems::Problems,
    program,
    renumber::renumbered,
    rings::{Edge, ordered},
    scope::{Scope, SourceName, View},
};
use crate::{
    catalogue::{Builder, Catalogue, Outputs},
    graph::{Absent, Graph, Origin, Source, SourceId, Step},
};

/// The graph of `recipe`; `None` where a part of it is wrong and has been reported.
pub(super) fn graph(
    recipe: &Recipe<'_>,
    catalogue: &Catalogue,
    problems: &mut Problems,
) -> Option<Graph> {
    check_pointers(recipe, problems);
    let builders: Vec<Option<&'static Builder>> =
        recipe.steps.iter().map(|step| builder(step, catalogue, problems)).collect();
    let scope = scope(recipe, &builders);
    let mut defaults = Defaults::default();
    let mut steps = Vec::with_capacity(recipe.steps.len());
    let mut edges: Vec<Vec<Edge>> = Vec::with_capacity(recipe.steps.len());
    for (number, (decl, builder)) in recipe.steps.iter().zip(&builders).enumerate() {
        let own = matches!(decl.work, Work::Command(_)).then_some(number);
        let mut view = View::new(&scope, own);
        let step = match &decl.work {
            Work::Broken => None,
            Work::Command(command) => program::step(decl, command, number, &mut view, problems),
            Work::Builtin { args, .. } => builder.and_then(|builder| {
                let mut checker = Checker { view: &mut view, defaults: &mut defaults, problems };
                builtin::step(decl, builder, args, &mut checker)
            }),
        };
        let params = view.params.into_iter().map(str::to_owned).collect();
        steps.push(step.map(|step| Step { salt: recipe.salt.to_owned(), params, ..step }));
        edges.push(view.edges);
    }
    let names: Vec<&str> = recipe.steps.iter().map(|step| step.name).collect();
    let step_order = ordered(&edges, &names, "step", "reads", problems);
    let deployments = deployments(recipe, &scope, problems);
    if !problems.is_empty() {
        return None;
    }
    let (steps, numbering) =
        renumbered(steps.into_iter().collect::<Option<Vec<_>>>()?, &step_order?);
    let deployments = deployments?.into_iter().map(|mut deployment| {
        deployment.release = numbering.of(deployment.release);
        deployment
    });
    Some(Graph {
        name: recipe.name.to_owned(),
        description: recipe.description.to_owned(),
        params: recipe
            .params
            .iter()
            .filter_map(|(name, parameter)| {
                Some(((*name).to_owned(), canonical(&parameter.as_ref()?.value)))
            })
            .collect(),
        sources: recipe
            .sources
            .iter()
            .map(|source| {
                Some(Source {
                    name: source.name.to_owned(),
                    origin: source.origin.clone()?,
                    at: problems.place(source.at.clone()),
                })
            })
            .collect::<Option<Vec<_>>>()?,
        deployments: deployments.collect(),
        steps,
    })
}

fn builder(
    step: &StepDecl<'_>,
    catalogue: &Catalogue,
    problems: &mut Problems,
) -> Option<&'static Builder> {
    let Work::Builtin { builder, builder_at, .. } = &step.work else { return None };
    let found = catalogue.get(builder);
    if found.is_none() {
        let mut known: Vec<&str> = catalogue.names().collect();
        known.push(COMMAND_NAME);
        let problem = problems.at(
            builder_at.clone(),
            format!("unknown builder `{builder}`"),
            "kiln has no builder of this name",
        );
        problems.push(problems.suggest(problem, builder, &known, "builders"));
    }
    found
}

fn scope<'a>(recipe: &'a Recipe<'a>, builders: &[Option<&'static Builder>]) -> Scope<'a> {
    let outputs = recipe.steps.iter().zip(builders).map(|(step, builder)| match &step.work {
        Work::Broken => None,
        Work::Command(command) => {
            let outputs = command.outputs.as_ref()?;
            Some(outputs.iter().map(|output| output.name.as_str()).collect())
        }
        Work::Builtin { args, .. } => {
            let mut names: Vec<&str> = match builder.as_ref()?.outputs {
                Outputs::Fixed(outputs) => outputs.iter().map(|output| output.name).collect(),
                Outputs::FromMap { arg, .. } => {
                    let (_, map) = args.iter().find(|(key, _)| key.get_ref() == arg)?;
                    map.get_ref().as_table()?.keys().map(|key| key.get_ref().as_ref()).collect()
                }
            };
            names.sort_unstable();
            Some(names)
        }
    });
    Scope {
        params: &recipe.params,
        outputs: outputs.collect(),
        steps: recipe.steps.iter().enumerate().map(|(at, step)| (step.name, at)).collect(),
        sources: recipe
            .sources
            .iter()
            .enumerate()
            .map(|(at, source)| {
                let optional = matches!(
                    source.origin,
                    Some(Origin::Deployment { absent: Absent::Accept, .. })
                );
                (source.name, SourceName { id: SourceId(at as u32), optional })
            })
            .collect(),
    }
}
