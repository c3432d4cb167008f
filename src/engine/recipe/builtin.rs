//! A step of a builder that kiln brings: arguments by its table, outputs by its table.
//!
//! Unaware of programs.

use std::{collections::BTreeMap, ops::Range};

use toml::de::DeValue;

use super::{
    args::Checker,
    language,
    parse::StepDecl,
    read::{KeyNode, Node},
    step::{bare, inputs},
};
use crate::{
    catalogue::{Builder, Gpu, Inward, Outputs, Role},
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
    check(builder, &values, args, &decl.at, checker)?;
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
    let library = builder.libraries.iter().find(|library| (library.when)(&values));
    let (args, implementation) = values
        .into_iter()
        .partition(|(name, _)| builder.arg(name).is_none_or(|arg| arg.role == Role::Key));
    let mut step = Step {
        builder: BuilderId { name: builder.name.to_owned(), version: builder.version },
        args,
        implementation,
        toolchain: library
            .map_or(Toolchain::Builtin, |library| Toolchain::Library(library.name.to_owned())),
        outputs,
        platform: builder.platform,
        gate: builder.gate,
        ..bare(decl, checker.problems)
    };
    match library.map_or(Gpu::Unneeded, |library| library.gpu) {
        Gpu::Unneeded => {}
        Gpu::Needed => step.resources.gpus = step.resources.gpus.max(1),
        Gpu::IfThere => {
            step.resources.gpus = step.resources.gpus.max(1);
            step.resources.spares_gpus = true;
        }
    }
    step.inputs = inputs(&step);
    Some(step)
}

/// Reports what the builder finds wrong with arguments of the right types; `None` if it finds something.
fn check(
    builder: &Builder,
    values: &BTreeMap<String, Value>,
    args: &[(&KeyNode<'_>, &Node<'_>)],
    step_at: &Range<usize>,
    checker: &mut Checker<'_, '_, '_>,
) -> Option<()> {
    let complaints = builder.check.map(|check| check(values)).unwrap_or_default();
    let sound = complaints.is_empty();
    for complaint in complaints {
        let at = place(args, &complaint.path).unwrap_or_else(|| step_at.clone());
        let problem = checker.problems.at(at, complaint.message, complaint.why);
        checker.problems.push(problem.help(complaint.help));
    }
    sound.then_some(())
}

/// Where `path` stands: the key or the list item that it leads to, as far in as the text shows it.
fn place(args: &[(&KeyNode<'_>, &Node<'_>)], path: &[Inward]) -> Option<Range<usize>> {
    let (Inward::Key(name), inner) = path.split_first()? else { return None };
    let (key, mut node) = *args.iter().find(|(key, _)| key.get_ref() == name)?;
    let mut span = key.span();
    for inward in inner {
        let found = match (inward, node.get_ref()) {
            (Inward::Key(name), DeValue::Table(table)) => {
                table.get_key_value(name.as_str()).map(|(key, value)| (key.span(), value))
            }
            (Inward::Item(index), DeValue::Array(items)) => {
                items.get(*index).map(|item| (item.span(), item))
            }
            _ => None,
        };
        let Some((inside, value)) = found else { break };
        (span, node) = (inside, value);
    }
    Some(span)
}
