//! Typed recipe → graph: types against the catalogue, parameters, references, order.
//!
//! Steps are numbered by name while their references are being resolved, and renumbered once their order
//! is known. Unaware of TOML's syntax.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use super::{
    args::{Checker, Defaults},
    command::{Command, Run},
    language::{self, COMMAND_NAME, COMMAND_VERSION},
    order,
    params::canonical,
    parse::{DeployDecl, Recipe, StepDecl, Work},
    problems::Problems,
    read::Node,
    scope::{Bit, Scope, SourceName, Target, View},
};
use crate::{
    catalogue::{Builder, Catalogue, Outputs},
    graph::{
        Absent, Availability, BuilderId, Deployment, Graph, Origin, Output, Part, Reference,
        Source, SourceId, Step, StepId, Toolchain, Value,
    },
};

/// Where a node names another.
type Edge = (usize, Range<usize>);

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
        let mut view = View { scope: &scope, own, edges: Vec::new() };
        let step = match &decl.work {
            Work::Broken => None,
            Work::Command(command) => command_step(decl, command, number, &mut view, problems),
            Work::Builtin { args, .. } => builder.and_then(|builder| {
                let mut checker = Checker { view: &mut view, defaults: &mut defaults, problems };
                builtin_step(decl, builder, args, &mut checker)
            }),
        };
        steps.push(step.map(|step| Step { salt: recipe.salt.to_owned(), ..step }));
        edges.push(view.edges);
    }
    let names: Vec<&str> = recipe.steps.iter().map(|step| step.name).collect();
    let step_order = ordered(&edges, &names, "step", "reads", problems);
    let deployments = deployments(recipe, &scope, problems);
    if !problems.is_empty() {
        return None;
    }
    let steps = renumbered(steps.into_iter().collect::<Option<Vec<_>>>()?, &step_order?);
    let deployments = deployments?.into_iter().map(|mut deployment| {
        deployment.release = steps.1.of(deployment.release);
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
        steps: steps.0,
    })
}

/// A source that follows a deployment which the recipe does not have would never point anywhere.
fn check_pointers(recipe: &Recipe<'_>, problems: &mut Problems) {
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
) -> crate::diagnostic::Diagnostic {
    let problem = problems.at(
        at,
        format!("unknown deployment `{name}`"),
        format!("the recipe has no `[deploy.{name}]`"),
    );
    problems.suggest(problem, name, known, "its deployments")
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

fn builtin_step<'a>(
    decl: &StepDecl<'_>,
    builder: &'static Builder,
    args: &[(&'a super::read::KeyNode<'a>, &'a Node<'a>)],
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
    let (args, implementation) = values.into_iter().partition(|(name, _)| {
        builder.arg(name).is_none_or(|arg| arg.role == crate::catalogue::Role::Key)
    });
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

fn command_step<'a>(
    decl: &StepDecl<'_>,
    command: &Command<'a>,
    number: usize,
    view: &mut View<'_, 'a>,
    problems: &mut Problems,
) -> Option<Step> {
    let mut texts = Texts { command, number, view, problems };
    let run = match &command.run {
        None => None,
        Some(Run::Shell(node)) => texts.parts(node, Form::Shell),
        Some(Run::Exec(nodes)) => {
            let items: Vec<Option<Value>> =
                nodes.iter().map(|node| texts.parts(node, Form::Plain)).collect();
            items.into_iter().collect::<Option<Vec<_>>>().map(Value::List)
        }
    };
    let env: Vec<Option<(String, Value)>> = command
        .env
        .iter()
        .map(|(name, node)| Some(((*name).to_owned(), texts.variable(name, node)?)))
        .collect();
    let env = env.into_iter().collect::<Option<BTreeMap<_, _>>>();
    let outputs = command.outputs.as_ref()?.iter().map(|output| Output {
        name: output.name.clone(),
        file: output.file.clone(),
        availability: Availability::Always,
        alias: None,
    });
    let files = command.files.iter();
    let mut step = Step {
        builder: BuilderId { name: COMMAND_NAME.to_owned(), version: COMMAND_VERSION },
        args: BTreeMap::from([("run".to_owned(), run?)]),
        files: files.map(|(path, at)| (path.clone(), problems.place(at.clone()))).collect(),
        env: env?,
        pass_env: command.pass_env.clone(),
        toolchain: match &command.tools {
            Some(tools) => Toolchain::Tools(tools.clone()),
            None => Toolchain::Host,
        },
        outputs: outputs.collect(),
        network: command.network,
        platform: true,
        ..bare(decl, problems)
    };
    step.inputs = inputs(&step);
    Some(step)
}

/// A step with what every step says, and nothing else.
fn bare(decl: &StepDecl<'_>, problems: &Problems) -> Step {
    Step {
        name: decl.name.to_owned(),
        builder: BuilderId { name: String::new(), version: 0 },
        args: BTreeMap::new(),
        implementation: BTreeMap::new(),
        files: Vec::new(),
        env: BTreeMap::new(),
        pass_env: Vec::new(),
        toolchain: Toolchain::Builtin,
        outputs: Vec::new(),
        determinism: decl.determinism,
        network: false,
        salt: String::new(),
        platform: false,
        gate: false,
        resources: decl.resources,
        inputs: Vec::new(),
        at: problems.place(decl.at.clone()),
    }
}

/// Whether a shell will read the text.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Shell,
    Plain,
}

/// Texts of one `command` step.
struct Texts<'t, 's, 'a> {
    command: &'t Command<'a>,
    number: usize,
    view: &'t mut View<'s, 'a>,
    problems: &'t mut Problems,
}

impl<'a> Texts<'_, '_, 'a> {
    fn variable(&mut self, name: &str, node: &'a Node<'a>) -> Option<Value> {
        if node.get_ref().is_str() {
            return self.parts(node, Form::Plain);
        }
        // A variable is text: `1` and `"1"` are the same.
        match super::params::scalar(node) {
            Ok(value) => Some(Value::text(canonical(&value))),
            Err(_) => {
                let problem = super::read::wrong_type(
                    node,
                    &format!("env.{name}"),
                    "a text, a number or a bool",
                    self.problems,
                );
                self.problems.push(problem);
                None
            }
        }
    }

    fn parts(&mut self, node: &'a Node<'a>, form: Form) -> Option<Value> {
        let bits = self.view.bits(node, node.get_ref().as_str()?, self.problems)?;
        let mut parts: Vec<Part> = Vec::with_capacity(bits.len());
        let mut sound = true;
        for bit in bits {
            let (target, name, span) = match bit {
                Bit::Text(text) => {
                    push_text(&mut parts, &text);
                    continue;
                }
                Bit::Target { target, name, span } => (target, name, span),
            };
            match target {
                Target::Parameter(parameter) => {
                    let text = canonical(&parameter.value);
                    if form == Form::Shell
                        && let Some(flaw) = shell_flaw(&parameter.value, &text)
                    {
                        self.refuse_parameter(name, parameter, &flaw, span);
                        sound = false;
                    }
                    push_text(&mut parts, &text);
                }
                Target::Source(source) if source.optional => {
                    let problem = self
                        .problems
                        .at(
                            span,
                            format!("`{name}` may be absent, but a program must have its inputs"),
                            "its source says `absent = \"accept\"`",
                        )
                        .help("leave `absent` out of the source to make a missing one an error");
                    self.problems.push(problem);
                    sound = false;
                }
                Target::Source(source) => parts.push(Part::Input(Reference::Source(source.id))),
                Target::Output(step, output) => {
                    if step == self.number {
                        // Reported as a ring of one.
                        sound = false;
                    }
                    parts.push(Part::Input(Reference::Output(StepId(step as u32), output)));
                }
                Target::Own(output) => {
                    if form == Form::Shell {
                        sound &= self.safe_file(output, span);
                    }
                    parts.push(Part::Output(output));
                }
            }
        }
        sound.then_some(Value::Text(parts))
    }

    fn refuse_parameter(
        &mut self,
        name: &str,
        parameter: &super::params::Parameter,
        flaw: &str,
        span: Range<usize>,
    ) {
        let what = match parameter.overridden {
            true => "it is set by --set; its default stands here",
            false => "it has its value from here",
        };
        let problem = self
            .problems
            .at(span, format!("`{name}` cannot stand in a text for the shell"), flaw)
            .related(self.problems.place(parameter.default_at.clone()), what)
            .note("allowed are letters, digits and `_./:=,+@%-`")
            .help(format!(
                "write `run` as a list, `[\"program\", \"${{{name}}}\"]`, which no shell reads"
            ))
            .help(format!(
                "or set a variable, `env = {{ VALUE = \"${{{name}}}\" }}`, and use `\"$VALUE\"`"
            ));
        self.problems.push(problem);
    }

    /// Whether the shell takes the file name of this output as one word; if not, reports it.
    fn safe_file(&mut self, output: u32, span: Range<usize>) -> bool {
        let Some(decl) =
            self.command.outputs.as_ref().and_then(|outputs| outputs.get(output as usize))
        else {
            return false;
        };
        let Some(c) = decl.file.chars().find(|&c| !is_shell_safe(c)) else { return true };
        let problem = self
            .problems
            .at(
                span,
                format!("the file name {:?} cannot stand in a text for the shell", decl.file),
                format!("it has the character {c:?}"),
            )
            .help("choose another file name, or write `run` as a list");
        self.problems.push(problem);
        false
    }
}

fn is_shell_safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_./:=,+@%-".contains(c)
}

/// Why a shell could misread the parameter, if it could.
fn shell_flaw(value: &Value, text: &str) -> Option<String> {
    match value {
        Value::List(_) => Some(format!("it is the list {text}")),
        _ if text.is_empty() => Some("it is empty, and would vanish".to_owned()),
        _ => {
            text.chars().find(|&c| !is_shell_safe(c)).map(|c| format!("it has the character {c:?}"))
        }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(before)) => before.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

/// Every reference in the step, once each, sorted.
fn inputs(step: &Step) -> Vec<Reference> {
    fn visit(value: &Value, found: &mut BTreeSet<Reference>) {
        match value {
            Value::Text(parts) => found.extend(parts.iter().filter_map(|part| match part {
                Part::Input(reference) => Some(*reference),
                Part::Text(_) | Part::Output(_) => None,
            })),
            Value::List(items) => items.iter().for_each(|item| visit(item, found)),
            Value::Table(fields) => fields.values().for_each(|field| visit(field, found)),
            Value::Input(reference) => {
                found.insert(*reference);
            }
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
        }
    }
    let mut found = BTreeSet::new();
    for value in step.args.values().chain(step.implementation.values()).chain(step.env.values()) {
        visit(value, &mut found);
    }
    found.into_iter().collect()
}

/// The order of nodes by what they need, or `None` after reporting each ring.
fn ordered(
    edges: &[Vec<Edge>],
    names: &[&str],
    what: &str,
    verb: &str,
    problems: &mut Problems,
) -> Option<Vec<usize>> {
    /// A longer ring is not shown whole.
    const SHOWN: usize = 12;
    let needs: Vec<Vec<usize>> =
        edges.iter().map(|edges| edges.iter().map(|(to, _)| *to).collect()).collect();
    let rings = match order::sorted(&needs) {
        Ok(order) => return Some(order),
        Err(rings) => rings,
    };
    for ring in rings {
        let links: Vec<(Range<usize>, String)> = ring
            .iter()
            .enumerate()
            .filter_map(|(position, &from)| {
                let to = ring[(position + 1) % ring.len()];
                let (_, span) = edges[from].iter().find(|(target, _)| *target == to)?;
                Some((span.clone(), format!("`{}` {verb} `{}`", names[from], names[to])))
            })
            .collect();
        let Some(((first, label), rest)) = links.split_first() else { continue };
        let mut path: Vec<&str> = ring.iter().take(SHOWN).map(|&node| names[node]).collect();
        if ring.len() > SHOWN {
            path.push("…");
        }
        path.push(names[ring[0]]);
        let message = match ring.len() {
            1 => format!("{what} `{}` needs itself", names[ring[0]]),
            _ => format!("{what}s need each other: {}", path.join(" → ")),
        };
        let mut problem = problems.at(first.clone(), message, label.clone());
        for (span, label) in rest.iter().take(SHOWN) {
            problem = problem.related(problems.place(span.clone()), label.clone());
        }
        if what == "step" && ring.len() == 1 {
            problem = problem.help("`${out}` is where a step writes its own output");
        }
        problems.push(problem);
    }
    None
}

fn deployments(
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
                None => problems.push(unknown_deployment(name, span.clone(), &known, problems)),
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
        problems.push(wrong(&super::params::describe_node(node), problems));
        return None;
    };
    let mut view = View { scope, own: None, edges: Vec::new() };
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

/// New numbers for steps.
struct Renumbering(Vec<u32>);

impl Renumbering {
    fn of(&self, reference: Reference) -> Reference {
        match reference {
            Reference::Source(_) => reference,
            Reference::Output(step, output) => {
                Reference::Output(StepId(self.0[step.index()]), output)
            }
        }
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::Text(parts) => {
                for part in parts {
                    if let Part::Input(reference) = part {
                        *reference = self.of(*reference);
                    }
                }
            }
            Value::List(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Table(fields) => fields.values_mut().for_each(|field| self.value(field)),
            Value::Input(reference) => *reference = self.of(*reference),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
        }
    }
}

/// The steps in `order`, each reference following its step.
fn renumbered(steps: Vec<Step>, order: &[usize]) -> (Vec<Step>, Renumbering) {
    let mut numbers = vec![0; order.len()];
    for (new, &old) in order.iter().enumerate() {
        numbers[old] = new as u32;
    }
    let numbering = Renumbering(numbers);
    let mut slots: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    let steps = order
        .iter()
        .filter_map(|&old| {
            let mut step = slots[old].take()?;
            let values = step
                .args
                .values_mut()
                .chain(step.implementation.values_mut())
                .chain(step.env.values_mut());
            for value in values {
                numbering.value(value);
            }
            for output in &mut step.outputs {
                output.alias = output.alias.map(|alias| numbering.of(alias));
            }
            step.inputs.iter_mut().for_each(|input| *input = numbering.of(*input));
            step.inputs.sort_unstable();
            Some(step)
        })
        .collect();
    (steps, numbering)
}
