//! What a `command` step says beyond what every step says.
//!
//! Shape and names only: texts that can have references are kept as they are written.

use std::{collections::HashMap, ops::Range};

use toml::de::{DeTable, DeValue};

use super::{
    names,
    paths::Spelled,
    problems::Problems,
    read::{Node, misspelt, no_references, spelled, text, wrong_type},
};

/// A step that runs a program.
pub(super) struct Command<'a> {
    /// `None` where it is wrong and has been reported.
    pub(super) run: Option<Run<'a>>,
    /// Sorted by name; `None` where they are wrong and have been reported.
    pub(super) outputs: Option<Vec<OutputDecl>>,
    /// In the author's order.
    pub(super) files: Vec<(String, Range<usize>)>,
    /// Sorted; `None` where nothing is said.
    pub(super) tools: Option<Vec<String>>,
    /// Names and values.
    pub(super) env: Vec<(&'a str, &'a Node<'a>)>,
    /// Sorted.
    pub(super) pass_env: Vec<String>,
    pub(super) network: bool,
}

/// The two forms of `run`.
pub(super) enum Run<'a> {
    /// For `sh -eu`.
    Shell(&'a Node<'a>),
    /// A program and its arguments.
    Exec(Vec<&'a Node<'a>>),
}

/// An output that a step declares.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutputDecl {
    pub(super) name: String,
    pub(super) file: String,
}

/// Reads the keys of the `command` step called `step` whose header is `at`; unknown ones, which are not among `valid`, have
/// been reported.
pub(super) fn read<'a>(
    step: &str,
    at: Range<usize>,
    table: &'a DeTable<'a>,
    valid: &[&str],
    problems: &mut Problems,
) -> Command<'a> {
    let run = match table.get("run") {
        Some(node) => run(node, problems),
        None if misspelt(table, "run", valid) => None,
        None => {
            let problem = problems
                .at(
                    at,
                    format!("step `{step}` has no `run`"),
                    "a `command` step must say what to run",
                )
                .help(
                    "`run = \"…\"` for the shell, `run = [\"program\", \"argument\"]` without one",
                );
            problems.push(problem);
            None
        }
    };
    let outputs = match table.get("outputs") {
        None => Some(vec![OutputDecl { name: "out".to_owned(), file: "out".to_owned() }]),
        Some(node) => outputs(node, problems),
    };
    let files = table.get("files").map(|node| files(node, problems)).unwrap_or_default();
    let tools = table.get("tools").map(|node| {
        let mut tools = distinct(node, "tools", "a tool", names::program_flaw, problems);
        tools.sort_unstable();
        tools
    });
    let env = table.get("env").map(|node| env(node, problems)).unwrap_or_default();
    let variable_flaw = |name: &str| (!names::is_variable(name)).then(|| VARIABLE.to_owned());
    let mut pass_env = table
        .get("pass_env")
        .map(|node| distinct(node, "pass_env", "a variable", variable_flaw, problems))
        .unwrap_or_default();
    pass_env.sort_unstable();
    for (name, node) in &env {
        if pass_env.iter().any(|passed| passed == name) {
            let problem = problems
                .at(node.span(), format!("`{name}` is set and passed on"), "it has a value here")
                .help("leave it out of `env` or out of `pass_env`");
            problems.push(problem);
        }
    }
    let network = match table.get("network") {
        None => false,
        Some(node) => node.get_ref().as_bool().unwrap_or_else(|| {
            problems.push(wrong_type(node, "network", "`true` or `false`", problems));
            false
        }),
    };
    Command { run, outputs, files, tools, env, pass_env, network }
}

const VARIABLE: &str = "is no variable's name: letters, digits and `_`, not beginning with a digit";

fn run<'a>(node: &'a Node<'a>, problems: &mut Problems) -> Option<Run<'a>> {
    match node.get_ref() {
        DeValue::String(text) if text.trim().is_empty() => {
            let problem = problems.at(node.span(), "`run` is empty", "there is nothing to run");
            problems.push(problem);
            None
        }
        DeValue::String(_) => Some(Run::Shell(node)),
        DeValue::Array(items) if items.is_empty() => {
            let problem = problems.at(
                node.span(),
                "`run` is empty",
                "a list holds a program and its arguments",
            );
            problems.push(problem);
            None
        }
        DeValue::Array(items) => {
            let texts: Vec<&Node<'_>> = items.iter().collect();
            let sound = texts.iter().filter(|node| text(node, "run", problems).is_some()).count();
            (sound == texts.len()).then_some(Run::Exec(texts))
        }
        _ => {
            problems.push(wrong_type(node, "run", "a text or a list of texts", problems));
            None
        }
    }
}

fn outputs(node: &Node<'_>, problems: &mut Problems) -> Option<Vec<OutputDecl>> {
    let mut written: Vec<(&str, Range<usize>, &str, Range<usize>)> = Vec::new();
    let mut sound = true;
    match node.get_ref() {
        DeValue::Array(items) => {
            for item in items.iter() {
                match text(item, "outputs", problems) {
                    Some(name) => written.push((name, item.span(), name, item.span())),
                    None => sound = false,
                }
            }
        }
        DeValue::Table(table) => {
            for (key, value) in table.iter() {
                match text(value, key.get_ref(), problems) {
                    Some(file) => written.push((key.get_ref(), key.span(), file, value.span())),
                    None => sound = false,
                }
            }
        }
        _ => {
            let expected = "a list of names or a table from names to file names";
            problems.push(wrong_type(node, "outputs", expected, problems));
            return None;
        }
    }
    if written.is_empty() && sound {
        let problem = problems
            .at(node.span(), "`outputs` is empty", "a step makes something")
            .help("leave `outputs` out for one output, called `out`");
        problems.push(problem);
        return None;
    }
    // Of two equal ones the later in the file is the wrong one.
    written.sort_by_key(|(_, at, ..)| at.start);
    let mut names: HashMap<&str, Range<usize>> = HashMap::new();
    let mut files: HashMap<&str, Range<usize>> = HashMap::new();
    let mut outputs = Vec::with_capacity(written.len());
    for (name, name_at, file, file_at) in written {
        if let Some(first) = names.get(name) {
            let problem = problems
                .at(name_at, format!("the output `{name}` is declared twice"), "again here")
                .related(problems.place(first.clone()), "first here");
            problems.push(problem);
            continue;
        }
        if !names::is_output_name(name) {
            let problem = problems.at(
                name_at.clone(),
                format!("{name:?} cannot be the name of an output"),
                names::flaw(name, "a name is letters, digits, `_` and `-`"),
            );
            problems.push(problem);
            sound = false;
        } else if let Some(why) = names::file_name_flaw(file) {
            let problem = problems.at(
                file_at.clone(),
                format!("{file:?} cannot be the name of an output's file"),
                format!("it {why}"),
            );
            problems.push(problem);
            sound = false;
        } else if let Some(first) = files.get(file) {
            let problem = problems
                .at(file_at.clone(), format!("two outputs are the file {file:?}"), "again here")
                .related(problems.place(first.clone()), "first here");
            problems.push(problem);
        }
        names.insert(name, name_at);
        files.insert(file, file_at);
        outputs.push(OutputDecl { name: name.to_owned(), file: file.to_owned() });
    }
    outputs.sort_by(|a, b| a.name.cmp(&b.name));
    sound.then_some(outputs)
}

fn files(node: &Node<'_>, problems: &mut Problems) -> Vec<(String, Range<usize>)> {
    let Some(items) = node.get_ref().as_array() else {
        problems.push(wrong_type(node, "files", "a list of paths and patterns", problems));
        return Vec::new();
    };
    let mut seen: HashMap<String, Range<usize>> = HashMap::new();
    let mut files = Vec::new();
    for item in items.iter() {
        let Some(written) = text(item, "files", problems) else { continue };
        let Some(Spelled::Path(path) | Spelled::Glob(path)) = spelled(written, item, problems)
        else {
            continue;
        };
        if let Some(first) = seen.get(&path) {
            let problem = problems
                .at(item.span(), format!("`files` names {path:?} twice"), "again here")
                .related(problems.place(first.clone()), "first here");
            problems.push(problem);
            continue;
        }
        seen.insert(path.clone(), item.span());
        files.push((path, item.span()));
    }
    files
}

fn env<'a>(node: &'a Node<'a>, problems: &mut Problems) -> Vec<(&'a str, &'a Node<'a>)> {
    let Some(table) = node.get_ref().as_table() else {
        problems.push(wrong_type(node, "env", "a table from variable names to text", problems));
        return Vec::new();
    };
    for (key, _) in table.iter() {
        if !names::is_variable(key.get_ref()) {
            let problem = problems.at(
                key.span(),
                format!("{:?} cannot be the name of a variable", key.get_ref()),
                format!("it {VARIABLE}"),
            );
            problems.push(problem);
        }
    }
    table.iter().map(|(key, node)| (key.get_ref().as_ref(), node)).collect()
}

/// A list of distinct names, each without a flaw.
fn distinct(
    node: &Node<'_>,
    key: &str,
    what: &str,
    flaw: impl Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Vec<String> {
    let Some(items) = node.get_ref().as_array() else {
        problems.push(wrong_type(node, key, "a list of names", problems));
        return Vec::new();
    };
    let mut seen: HashMap<&str, Range<usize>> = HashMap::new();
    for item in items.iter() {
        let Some(name) = text(item, key, problems) else { continue };
        if name.contains("${") {
            problems.push(no_references(name, item, problems));
        } else if let Some(why) = flaw(name) {
            let problem = problems.at(
                item.span(),
                format!("{name:?} cannot be the name of {what}"),
                format!("it {why}"),
            );
            problems.push(problem);
        } else if let Some(first) = seen.get(name) {
            let problem = problems
                .at(item.span(), format!("`{key}` names `{name}` twice"), "again here")
                .related(problems.place(first.clone()), "first here");
            problems.push(problem);
        } else {
            seen.insert(name, item.span());
        }
    }
    seen.into_keys().map(str::to_owned).collect()
}
