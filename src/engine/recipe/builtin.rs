//! A step of a builder that kiln brings: arguments by its table, outputs by its table.
//!
//! Unaware of programs.

use super::{
    args::Checker,
    language,
    parse::StepDecl,
    read::{KeyNode, Node},
    step::{bare, inputs},
};
use crate::{
    catalogue::{Builder, Outputs, Role},
    graph::{Availability, BuilderId, Output, Step, Toolchain, Value},
};

/// The step; `None` where something is wrong and has been reported.
pub(super) fn step<'a>(
    decl: &StepDecl<'_>,
    builder: &'static Builder,
    args: &[(&'a KeyNode<'a>, &'a Node<'a>)],
    checker: &mut Checker<'_, '_, 'a>,
) -> Option<Step> {
    let owner = format!("builder `{}`", builder.name);
    let advice = |name: &str| {
        language::names(language::COMMAND)
            .any(|key| key == name)
            .then(|| format!("`{name}` is for steps that run a program, without `builder`"))
    };
    let values = checker.fields(args, builder.args, &owner, "", decl.at.clone(), advice)?;
    let mut outputs: Vec<Output> = match builder.outputs {
        Outputs::Fixed(outputs) => outputs
            .iter()
            .map(|output| Output {
                name: output.name.to_owned(),
                file: output.file.to_owned(),
                availability: output.availability,
                alias: output.alias_of.and_then(|arg| match values.get(arg) {
                    Some(Value::Input(reference)) => Some(*reference),
                    _ => None,
                }),
            })
            .collect(),
        Outputs::FromMap { arg, suffix, .. } => match values.get(arg) {
            Some(Value::Table(map)) => map
                .keys()
                .map(|name| Output {
                    name: name.clone(),
                    file: format!("{name}{suffix}"),
                    availability: Availability::Always,
                    alias: None,
                })
                .collect(),
            _ => Vec::new(),
        },
    };
    outputs.sort_by(|a, b| a.name.cmp(&b.name));
    let (args, implementation) = values
        .into_iter()
        .partition(|(name, _)| builder.arg(name).is_none_or(|arg| arg.role == Role::Key));
    let mut step = Step {
        builder: BuilderId { name: builder.name.to_owned(), version: builder.version },
        args,
        implementation,
        toolchain: Toolchain::Builtin,
        outputs,
        platform: builder.platform,
        gate: builder.gate,
        ..bare(decl, checker.problems)
    };
    step.inputs = inputs(&step);
    Some(step)
}
