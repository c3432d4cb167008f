//! Deployments: what they release, in which order, and sources that follow them.
//!
//! Unaware of what a deployment does.

use std::{collections::HashMap, ops::Range};

use super::{
    params::describe_node,
    parse::{DeployDecl, Recipe},
    problems::Problems,
    rings::{Edge, ordered},
    scope::{Bit, Scope, Target, View},
};
use crate::{
    diagnostic::Diagnostic,
    graph::{Deployment, Origin, Reference, StepId},
};

/// A source that follows a deployment which the recipe does not have would never point anywhere.
pub(super) fn check_pointers(recipe: &Recipe<'_>, problems: &mut Problems) {
    for source in &recipe.sources {
        let (Some(Origin::Deployment { deployment, .. }), Some(at)) =
            (&source.origin, &source.deployment_at)
        else {
            continue;
        };
        let known: Vec<&str> = recipe.deployments.iter().map(|deploy| deploy.name).collect();
        if known.binary_search(&deployment.as_str()).is_err() {
            problems.push(unknown_deployment(deployment, at.clone(), &known, problems));
        }
    }
}

fn unknown_deployment(
    name: &str,
    at: Range<usize>,
    known: &[&str],
    problems: &Problems,
) -> Diagnostic {
    let problem = problems.at(
        at,
        format!("unknown deployment `{name}`"),
        format!("the recipe has no `[deploy.{name}]`"),
    );
    problems.suggest(problem, name, known, "its deployments")
}

/// The deployments, each after the one that it names; `None` after a report.
pub(super) fn deployments(
    recipe: &Recipe<'_>,
    scope: &Scope<'_>,
    problems: &mut Problems,
) -> Option<Vec<Deployment>> {
    let numbers: HashMap<&str, usize> =
        recipe.deployments.iter().enumerate().map(|(at, deploy)| (deploy.name, at)).collect();
    let mut known: Vec<&str> = numbers.keys().copied().collect();
    known.sort_unstable();
    let mut edges: Vec<Vec<Edge>> = Vec::with_capacity(recipe.deployments.len());
    let mut releases = Vec::with_capacity(recipe.deployments.len());
    for deploy in &recipe.deployments {
        releases.push(release(deploy, scope, problems));
        let mut after = Vec::new();
        if let Some((name, span)) = &deploy.after {
            match numbers.get(name) {
                Some(&number) => after.push((number, span.clone())),
                None => {
                    let others: Vec<&str> =
                        known.iter().copied().filter(|other| *other != deploy.name).collect();
                    problems.push(unknown_deployment(name, span.clone(), &others, problems));
                }
            }
        }
        edges.push(after);
    }
    let order = ordered(&edges, &known, "deployment", "comes after", problems)?;
    order
        .into_iter()
        .map(|number| {
            let decl = &recipe.deployments[number];
            Some(Deployment {
                name: decl.name.to_owned(),
                release: releases[number]?,
                after: decl.after.as_ref().map(|(after, _)| (*after).to_owned()),
                at: problems.place(decl.at.clone()),
            })
        })
        .collect()
}

fn release(
    deploy: &DeployDecl<'_>,
    scope: &Scope<'_>,
    problems: &mut Problems,
) -> Option<Reference> {
    let node = deploy.release?;
    let wrong = |found: &str, problems: &Problems| {
        problems
            .at(
                node.span(),
                "`release` has the wrong type",
                format!("expected a reference to a step's output, found {found}"),
            )
            .help("write `release = \"${STEP}\"` or `release = \"${STEP.OUTPUT}\"`")
    };
    let Some(text) = node.get_ref().as_str() else {
        problems.push(wrong(&describe_node(node), problems));
        return None;
    };
    let mut view = View::new(scope, None);
    let bits = view.bits(node, text, problems)?;
    let found = match bits.as_slice() {
        [Bit::Target { target: Target::Output(step, output), .. }] => {
            return Some(Reference::Output(StepId(*step as u32), *output));
        }
        [Bit::Target { target: Target::Source(_), .. }] => "a source",
        [Bit::Target { target: Target::Parameter(_), .. }] => "a parameter",
        _ => "a text",
    };
    problems.push(wrong(found, problems));
    None
}
