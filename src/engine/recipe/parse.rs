//! Text → typed recipe: the shape of the file, without what depends on builders or references.
//!
//! Every key of [`language`](super::language) is read here; a builder's arguments are kept as they
//! are, with their places. Unaware of the catalogue.

use std::ops::{Range, RangeInclusive};

use toml::de::{DeTable, DeValue};

use super::{
    command::{self, Command},
    language::{self, COMMAND_NAME},
    names,
    params::{self, Params},
    paths::{self, Spelled},
    problems::{Problems, enumerate},
    quantity,
    read::{
        KeyNode, Node, header, literal, misspelt, no_references, quantity, spelled, text,
        unknown_keys, word, wrong_type,
    },
};
use crate::{
    diagnostic::nearest,
    graph::{Absent, Determinism, Origin, Resources, Tolerance, Value},
};

/// A recipe as it is written.
pub(super) struct Recipe<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) salt: &'a str,
    pub(super) params: Params<'a>,
    /// Sorted by name.
    pub(super) sources: Vec<SourceDecl<'a>>,
    /// Sorted by name.
    pub(super) steps: Vec<StepDecl<'a>>,
    /// Sorted by name.
    pub(super) deployments: Vec<DeployDecl<'a>>,
}

/// A source.
pub(super) struct SourceDecl<'a> {
    pub(super) name: &'a str,
    pub(super) at: Range<usize>,
    /// `None` where it is wrong and has been reported.
    pub(super) origin: Option<Origin>,
    /// Where the name of its deployment stands, if it has one.
    pub(super) deployment_at: Option<Range<usize>>,
}

/// A step.
pub(super) struct StepDecl<'a> {
    pub(super) name: &'a str,
    pub(super) at: Range<usize>,
    pub(super) resources: Resources,
    pub(super) determinism: Determinism,
    pub(super) work: Work<'a>,
}

/// What a step does.
pub(super) enum Work<'a> {
    /// It runs a program.
    Command(Box<Command<'a>>),
    /// A builder that kiln brings does it, with these arguments, in the order of the table.
    Builtin {
        builder: &'a str,
        builder_at: Range<usize>,
        args: Vec<(&'a KeyNode<'a>, &'a Node<'a>)>,
    },
    /// It is wrong and has been reported.
    Broken,
}

/// A deployment.
pub(super) struct DeployDecl<'a> {
    pub(super) name: &'a str,
    pub(super) at: Range<usize>,
    pub(super) release: Option<&'a Node<'a>>,
    pub(super) after: Option<(&'a str, Range<usize>)>,
}

/// Reads the whole document.
pub(super) fn recipe<'a>(table: &'a DeTable<'a>, problems: &mut Problems) -> Recipe<'a> {
    let valid: Vec<&str> = language::names(language::TOP).collect();
    unknown_keys(table, &valid, "a recipe", "a recipe's keys", problems);
    let name = match table.get("name") {
        Some(node) => text(node, "name", problems).inspect(|name| {
            if !names::is_recipe_name(name) {
                let problem = problems.at(
                    node.span(),
                    format!("`{name}` cannot be the name of a recipe"),
                    names::flaw(
                        name,
                        "a name is letters, digits, `_`, `.` and `-`, and begins with a letter or digit",
                    ),
                );
                problems.push(problem);
            }
        }),
        // A key that was probably meant to be it has been reported.
        None if misspelt(table, "name", &valid) => None,
        None => {
            let problem = problems
                .at(0..0, "the recipe has no `name`", "it must be there")
                .help("begin the file with `name = \"…\"`");
            problems.push(problem);
            None
        }
    };
    let optional = |key: &str, problems: &mut Problems| {
        table.get(key).and_then(|node| text(node, key, problems)).unwrap_or_default()
    };
    let description = optional("description", problems);
    let salt = optional("salt", problems);
    let params = section(table, "params", problems)
        .map(|table| params::declared(table, problems))
        .unwrap_or_default();
    let sources = entries(table, "sources", problems, source);
    let steps = entries(table, "steps", problems, step);
    let deployments = entries(table, "deploy", problems, deployment);
    Recipe {
        name: name.unwrap_or_default(),
        description,
        salt,
        params,
        sources,
        steps,
        deployments,
    }
}

/// The table called `name`, if it is there.
fn section<'a>(
    table: &'a DeTable<'a>,
    name: &str,
    problems: &mut Problems,
) -> Option<&'a DeTable<'a>> {
    let node = table.get(name)?;
    let found = node.get_ref().as_table();
    if found.is_none() {
        problems.push(wrong_type(node, name, "a table", problems));
    }
    found
}

/// What `read` makes of each entry of the table called `name`, sorted by the entries' names.
fn entries<'a, T>(
    table: &'a DeTable<'a>,
    name: &str,
    problems: &mut Problems,
    read: impl Fn(&'a KeyNode<'a>, &'a Node<'a>, &mut Problems) -> T,
) -> Vec<T> {
    let Some(section) = section(table, name, problems) else { return Vec::new() };
    let mut nodes: Vec<(&KeyNode<'_>, &Node<'_>)> = section.iter().collect();
    nodes.sort_by_key(|(key, _)| key.get_ref().as_ref());
    nodes.into_iter().map(|(key, node)| read(key, node, problems)).collect()
}

fn source<'a>(key: &'a KeyNode<'a>, node: &'a Node<'a>, problems: &mut Problems) -> SourceDecl<'a> {
    let name = key.get_ref().as_ref();
    if !names::is_name(name) {
        problems.push(names::bad_name(problems, key, "source"));
    }
    let mut deployment_at = None;
    let origin = match node.get_ref() {
        DeValue::String(text) => local(text, node, problems),
        DeValue::Table(table) => source_table(name, node, table, &mut deployment_at, problems),
        _ => {
            problems.push(wrong_type(node, name, "a path, a pattern or a table", problems));
            None
        }
    };
    SourceDecl { name, at: key.span(), origin, deployment_at }
}

/// A path or, by its look, a pattern.
fn local(text: &str, node: &Node<'_>, problems: &mut Problems) -> Option<Origin> {
    match spelled(text, node, problems)? {
        Spelled::Path(path) => Some(Origin::Path(path)),
        Spelled::Glob(glob) => Some(Origin::Glob(glob)),
    }
}

fn source_table<'a>(
    name: &str,
    node: &Node<'a>,
    table: &'a DeTable<'a>,
    deployment_at: &mut Option<Range<usize>>,
    problems: &mut Problems,
) -> Option<Origin> {
    let valid: Vec<&str> = language::names(language::SOURCE).collect();
    let sound = unknown_keys(table, &valid, "a source", "a source's keys", problems);
    let kinds: Vec<(&KeyNode<'_>, &Node<'_>)> = table
        .iter()
        .filter(|(key, _)| matches!(key.get_ref().as_ref(), "path" | "glob" | "deployment"))
        .collect();
    let &[(kind, value)] = kinds.as_slice() else {
        if sound || kinds.len() > 1 {
            let problem = problems.at(
                node.span(),
                format!("source `{name}` must have one of `path`, `glob` and `deployment`"),
                format!("it has {}", if kinds.is_empty() { "none" } else { "more than one" }),
            );
            problems.push(problem);
        }
        return None;
    };
    let kind = kind.get_ref().as_ref();
    let chosen = text(value, kind, problems);
    if kind != "deployment" {
        for key in ["output", "absent"] {
            if let Some((key, _)) = table.get_key_value(key) {
                let problem = problems.at(
                    key.span(),
                    format!("`{}` is only for sources with `deployment`", key.get_ref()),
                    format!("this one has `{kind}`"),
                );
                problems.push(problem);
            }
        }
        if kind == "path" {
            return literal(chosen?, value, problems).map(Origin::Path);
        }
        // A pattern without wildcards names one file.
        let (Spelled::Path(pattern) | Spelled::Glob(pattern)) = spelled(chosen?, value, problems)?;
        return Some(Origin::Glob(pattern));
    }
    *deployment_at = Some(value.span());
    let output = match table.get("output") {
        None => Some(String::new()),
        Some(node) => match text(node, "output", problems) {
            None => None,
            Some(path) if path.contains("${") => {
                problems.push(no_references(path, node, problems));
                None
            }
            Some(path) => paths::path(path)
                .map_err(|why| {
                    let why = why.replace("the recipe's folder", "the release");
                    let problem = problems.at(
                        node.span(),
                        format!("the path {path:?} cannot be used"),
                        format!("it {why}"),
                    );
                    problems.push(problem);
                })
                .ok(),
        },
    };
    let absent = match table.get("absent") {
        None => Some(Absent::Error),
        Some(node) => word(node, "absent", &["error", "accept"], problems).map(|word| match word {
            "accept" => Absent::Accept,
            _ => Absent::Error,
        }),
    };
    Some(Origin::Deployment { deployment: chosen?.to_owned(), output: output?, absent: absent? })
}

fn step<'a>(key: &'a KeyNode<'a>, node: &'a Node<'a>, problems: &mut Problems) -> StepDecl<'a> {
    let name = key.get_ref().as_ref();
    if language::RESERVED.contains(&name) {
        let problem = problems
            .at(
                key.span(),
                format!("`{name}` cannot be the name of a step"),
                "the name is reserved",
            )
            .note(format!("reserved are {}", enumerate(&language::RESERVED)))
            .help("choose another name");
        problems.push(problem);
    } else if !names::is_name(name) {
        problems.push(names::bad_name(problems, key, "step"));
    }
    let at = header(key, node, problems);
    let resources = Resources::default();
    let broken = StepDecl {
        name,
        at: at.clone(),
        resources,
        determinism: Determinism::Bitwise,
        work: Work::Broken,
    };
    let Some(table) = node.get_ref().as_table() else {
        let problem = wrong_type(node, name, "a step, which is a table", problems);
        problems.push(problem.help(format!("write `[steps.{name}]`, and `run = \"…\"` below it")));
        return broken;
    };
    let builder = table.get("builder");
    if builder.is_none() && !table.contains_key("run") {
        if report_misspelt_work(table, problems) {
            return broken;
        }
        let problem = problems
            .at(at, format!("step `{name}` has neither `builder` nor `run`"), "it would do nothing")
            .help(
                "`run = \"…\"` runs a program; `builder = \"…\"` names a builder that kiln brings",
            );
        problems.push(problem);
        return broken;
    }
    if let Some(node) = table.get("description") {
        text(node, "description", problems);
    }
    let resources = read_resources(table, problems);
    let stated = table.get("determinism").and_then(|node| {
        let word = word(node, "determinism", &["bitwise", "tolerance", "none"], problems)?;
        Some((word, node.span()))
    });
    let mut determinism = determinism(name, stated.as_ref(), table, problems);
    let builder = match builder {
        None => Some((COMMAND_NAME, at.clone())),
        Some(node) => text(node, "builder", problems).map(|name| (name, node.span())),
    };
    let work = match builder {
        None => Work::Broken,
        Some((COMMAND_NAME, _)) => {
            let mut valid: Vec<&str> = language::names(language::STEP).collect();
            valid.extend(language::names(language::COMMAND));
            unknown_keys(table, &valid, "a `command` step", "its keys", problems);
            let command = command::read(name, at.clone(), table, &valid, problems);
            if command.network {
                if let Some((word @ ("bitwise" | "tolerance"), span)) = stated {
                    let claim = if word == "bitwise" { word } else { "near to itself" };
                    let problem = problems
                        .at(
                            span,
                            format!("step `{name}` uses the network and claims to be {claim}"),
                            "what the network answers can change from run to run",
                        )
                        .help("write `determinism = \"none\"`, or leave it out");
                    problems.push(problem);
                }
                determinism = Determinism::None;
            }
            Work::Command(Box::new(command))
        }
        Some((builder, builder_at)) => {
            let args = table
                .iter()
                .filter(|(key, _)| {
                    !language::names(language::STEP).any(|name| name == key.get_ref().as_ref())
                })
                .collect();
            Work::Builtin { builder, builder_at, args }
        }
    };
    StepDecl { name, at, resources, determinism, work }
}

/// What other tools call what is `run` or `builder` here.
const CALLED_ELSEWHERE: [(&str, &str); 8] = [
    ("cmd", "run"),
    ("cmds", "run"),
    ("command", "run"),
    ("exec", "run"),
    ("script", "run"),
    ("shell", "run"),
    ("type", "builder"),
    ("uses", "builder"),
];

/// Reports a key that was probably meant to say what a step does, and with it every other unknown one; says whether
/// there is one. `table` has neither `run` nor `builder`.
fn report_misspelt_work(table: &DeTable<'_>, problems: &mut Problems) -> bool {
    let valid: Vec<&str> =
        language::names(language::STEP).chain(language::names(language::COMMAND)).collect();
    let meant = |name: &str| {
        let elsewhere = CALLED_ELSEWHERE.iter().find(|(other, _)| *other == name);
        elsewhere.map(|(_, here)| *here).or_else(|| nearest(name, valid.iter().copied()))
    };
    let found = table
        .keys()
        .filter(|key| !valid.contains(&key.get_ref().as_ref()))
        .filter_map(|key| Some((key, meant(key.get_ref())?)))
        .find(|(_, here)| matches!(*here, "run" | "builder"));
    let Some((misspelt, here)) = found else { return false };
    let problem = problems
        .at(
            misspelt.span(),
            format!("unknown key `{}`", misspelt.get_ref()),
            "a step has no such key, and nothing else says what it does",
        )
        .help(format!("did you mean `{here}`?"));
    problems.push(problem);
    // Without its builder's name nothing is known of a builder's arguments.
    if here == "run" {
        for key in table.keys().filter(|key| key.span() != misspelt.span()) {
            let name = key.get_ref().as_ref();
            if !valid.contains(&name) {
                let problem = problems.at(
                    key.span(),
                    format!("unknown key `{name}`"),
                    "a `command` step has no such key",
                );
                problems.push(problems.suggest(problem, name, &valid, "its keys"));
            }
        }
    }
    true
}

/// What a step says of a second run, with its bound.
fn determinism(
    name: &str,
    stated: Option<&(&str, Range<usize>)>,
    table: &DeTable<'_>,
    problems: &mut Problems,
) -> Determinism {
    const EXAMPLE: &str = "`tolerance = { absolute = 1e-6, relative = 1e-4 }`, one or both";
    let bound = table.get_key_value("tolerance");
    match (stated, bound) {
        (Some(("tolerance", span)), None) => {
            let problem = problems
                .at(
                    span.clone(),
                    format!("step `{name}` does not say its tolerance"),
                    "how far may numbers lie apart?",
                )
                .help(format!("write {EXAMPLE}"));
            problems.push(problem);
            Determinism::Bitwise
        }
        (Some(("tolerance", _)), Some((_, node))) => {
            Determinism::Tolerance(tolerance(node, problems).unwrap_or_default())
        }
        (stated, Some((key, node))) => {
            tolerance(node, problems);
            let problem = problems
                .at(
                    key.span(),
                    format!("step `{name}` has a tolerance that means nothing"),
                    "it promises the same bytes, or nothing",
                )
                .help("write `determinism = \"tolerance\"`, or leave the bound out");
            problems.push(problem);
            if matches!(stated, Some(("none", _))) {
                Determinism::None
            } else {
                Determinism::Bitwise
            }
        }
        (Some(("none", _)), None) => Determinism::None,
        (_, None) => Determinism::Bitwise,
    }
}

/// The bound of a step, or `None` after a report.
fn tolerance(node: &Node<'_>, problems: &mut Problems) -> Option<Tolerance> {
    const KEYS: [&str; 2] = ["absolute", "relative"];
    let expected = "a table such as `{ absolute = 1e-6, relative = 1e-4 }`";
    let Some(table) = node.get_ref().as_table() else {
        problems.push(wrong_type(node, "tolerance", expected, problems));
        return None;
    };
    let mut sound = unknown_keys(table, &KEYS, "a tolerance", "its keys", problems);
    if table.is_empty() {
        let why = format!("expected {expected}, with one of them or both");
        problems.push(problems.at(node.span(), "`tolerance` is empty", why));
        return None;
    }
    let [absolute, relative] = KEYS.map(|key| {
        let Some(node) = table.get(key) else { return 0.0 };
        let number = match params::scalar(node) {
            Ok(Value::Int(number)) => Some(number as f64),
            Ok(Value::Float(number)) => Some(number),
            _ => None,
        };
        match number {
            Some(number) if number.is_finite() && number >= 0.0 => number,
            Some(number) => {
                sound = false;
                let why = format!("expected a finite number from 0, found {number}");
                problems.push(problems.at(node.span(), format!("`{key}` is out of range"), why));
                0.0
            }
            None => {
                sound = false;
                problems.push(wrong_type(node, key, "a number from 0", problems));
                0.0
            }
        }
    });
    sound.then_some(Tolerance { absolute, relative })
}

fn read_resources(table: &DeTable<'_>, problems: &mut Problems) -> Resources {
    let mut resources = Resources::default();
    if let Some(cpus) = count(table, "cpus", 1..=65_536, problems) {
        resources.cpus = cpus;
    }
    if let Some(gpus) = count(table, "gpus", 0..=1024, problems) {
        resources.gpus = gpus;
    }
    if let Some(retries) = count(table, "retries", 0..=100, problems) {
        resources.retries = retries;
    }
    if let Some(node) = table.get("memory") {
        let expected = "a size such as `\"512MiB\"` or `\"2GB\"`, or bytes";
        resources.memory =
            quantity(node, "memory", expected, quantity::memory, quantity::memory_bytes, problems);
    }
    if let Some(node) = table.get("timeout") {
        let expected = "a time such as `\"90s\"` or `\"1h30m\"`, or seconds";
        resources.timeout =
            quantity(node, "timeout", expected, quantity::time, quantity::time_seconds, problems);
    }
    resources
}

/// The whole number under `key`, if there is one in `range`; another value is reported.
fn count(
    table: &DeTable<'_>,
    key: &str,
    range: RangeInclusive<u32>,
    problems: &mut Problems,
) -> Option<u32> {
    let node = table.get(key)?;
    let (least, most) = (range.start(), range.end());
    match params::scalar(node) {
        Ok(Value::Int(number)) => {
            let count = u32::try_from(number).ok().filter(|count| range.contains(count));
            if count.is_none() {
                let why = format!("expected a whole number from {least} to {most}, found {number}");
                problems.push(problems.at(node.span(), format!("`{key}` is out of range"), why));
            }
            count
        }
        _ => {
            let expected = format!("a whole number from {least}");
            problems.push(wrong_type(node, key, &expected, problems));
            None
        }
    }
}

fn deployment<'a>(
    key: &'a KeyNode<'a>,
    node: &'a Node<'a>,
    problems: &mut Problems,
) -> DeployDecl<'a> {
    let name = key.get_ref().as_ref();
    if !names::is_name(name) {
        problems.push(names::bad_name(problems, key, "deployment"));
    }
    let at = header(key, node, problems);
    let Some(table) = node.get_ref().as_table() else {
        problems.push(wrong_type(node, name, "a deployment, which is a table", problems));
        return DeployDecl { name, at, release: None, after: None };
    };
    let valid: Vec<&str> = language::names(language::DEPLOY).collect();
    unknown_keys(table, &valid, "a deployment", "a deployment's keys", problems);
    let release = table.get("release");
    if release.is_none() && !misspelt(table, "release", &valid) {
        let problem = problems
            .at(at.clone(), format!("deployment `{name}` has no `release`"), "it must be there")
            .help("name the step output to deploy: `release = \"${…}\"`");
        problems.push(problem);
    }
    let after = table
        .get("after")
        .and_then(|node| text(node, "after", problems).map(|after| (after, node.span())));
    DeployDecl { name, at, release, after }
}
