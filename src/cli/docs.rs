//! `kiln __docs`: the generated pages of the documentation, from what the program itself is made of.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};
use kiln_engine::reference;

use super::{
    Cli,
    failure::{Exit, Failure},
    global::Global,
};
use crate::builders::CATALOGUE;

/// Print a generated page of the documentation.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which.
    #[arg(value_enum)]
    pub page: Page,
}

/// The generated pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Page {
    /// docs/recipe.md
    Recipe,
    /// docs/cli.md
    Cli,
}

/// Prints the page.
pub fn run(_global: &Global, args: &Args) -> Result<Exit, Failure> {
    let text = match args.page {
        Page::Recipe => reference::markdown(&CATALOGUE),
        Page::Cli => reference_cli(),
    };
    anstream::print!("{text}");
    Ok(Exit::Done)
}

const OPENING: &str = "# Command line

This page is generated from the program (`kiln help COMMAND` tells the same).

stdout carries what was asked for, stderr everything else. Colour follows the terminal, `NO_COLOR` and `CI`, and is never
needed to understand anything. Every command takes `--json`: it then prints one JSON document on stdout.

| exit code | means |
|---|---|
| 0 | done |
| 1 | a step failed, a check found a difference, or a deployment was refused |
| 2 | wrong usage or recipe |
| 3 | a gate rejected, and nothing failed |
| 130 | interrupted |

With `--json` a command that cannot do what was asked prints `{\"exit\", \"errors\": [{\"message\", \"file\", \"line\", \"column\",
\"label\", \"notes\", \"help\"}]}`; `file`, `line` and `column` are null where the problem has no place. In all documents digests are
64 lower-case hexadecimal digits, an object is `{\"kind\": \"file\" | \"tree\", \"digest\", \"executable\"}`, times that end in `_ms` are
milliseconds since 1970, sizes are bytes. Fields may be added; none changes its meaning.
";

/// What each command prints with `--json`.
const DOCUMENTS: &[(&str, &str)] = &[
    (
        "build",
        r#"`{"recipe", "steps": [{"step", "action_key", "how": "reused" | "substituted" | "ran" | "failed" | "skipped", "verdict", "reason", "determinism", "isolation", "outputs": {NAME: {"kind", "digest", "executable", "path", "bytes"}}, "seconds", "log", "why"}], "seconds", "interrupted"}`. `differences` stands with a step in which `--check` found some, `deviation` (`{"file", "place", "before", "after", "excess"}`) where numbers may lie apart and do, `attempts` (`[{"attempt", "reason", "seconds"}]`) where there were several, `help` with one that failed and can be helped."#,
    ),
    (
        "check",
        r#"`{"file", "recipe", "steps", "sources", "deployments"}`, the last three as counts."#,
    ),
    ("completions", r#"`{"shell", "script"}`."#),
    ("copy", r#"`{"output", "object", "path", "bytes"}`."#),
    (
        "deploy",
        r#"`{"recipe", "deployment", "switched", "generation": GENERATION or null, "was", "build": as `kiln build`, or null}`."#,
    ),
    (
        "doctor",
        r#"`{"version", "home", "isolation": "full" | "partial" | "off", "findings": [{"area", "name", "health": "works" | "missing" | "broken", "what", "help"}], "host": [[NAME, FACT]]}`."#,
    ),
    (
        "gc",
        r#"`{"dry_run", "abandoned": [{"label", "folder"}], "kept": [{"item": {"object": …} or {"realisation": KEY}, "bytes", "held_by"}], "removed": [{"item", "bytes"}], "bytes_kept", "bytes_freed"}`."#,
    ),
    (
        "generations",
        r#"`{"recipe", "deployments": [{"deployment", "current", "generations": [GENERATION], "switches"}]}`. A GENERATION is `{"number", "release", "model", "manifest", "replaced", "by", "reason", "at"}`, `at` in seconds since 1970."#,
    ),
    (
        "graph",
        r#"`{"recipe", "sources": [{"name", "origin"}], "steps": [{"name", "builder", "gate", "inputs", "outputs": [{"name", "alias"}]}], "deployments": [{"name", "release", "after"}]}`."#,
    ),
    (
        "help",
        r#"`{"about", "help"}`; `kiln help builder`: `{"builders": [{"name", "version", "summary"}]}`."#,
    ),
    ("init", r#"`{"name", "dir", "written"}`."#),
    (
        "log",
        r#"with a step `{"step", "outcome": "done" | "failed", "reason", "at_ms", "log", "text"}`; without, `{"recipe", "runs": [the same without "text"]}`."#,
    ),
    ("rollback", r#"`{"recipe", "deployment", "switched", "generation": GENERATION, "was"}`."#),
    (
        "show",
        r#"a step: `{"step", "builder", "state", "why", "action_key", "toolchain", "pushed_by_default", "determinism", "manifest", "inputs": {NAME: OBJECT}, "declared_outputs", "result": {"attempt", "attempts", "outputs", "verdict", "isolation", "cost", "log"}}`. An object: `{"object", "bytes", "path", "held_by", "made_by": [{"recipe", "step", "action_key", "role"}], "listing"}`. A realisation: `{"action_key", "attempt", "attempts", "recipe", "step", "builder", "outputs", "verdict", "isolation", "determinism", "log", "refs", "cost", "held_by", "manifest"}`."#,
    ),
    (
        "status",
        r#"`{"recipe", "forecast": {"least_seconds", "most_seconds", "unknown", "late"} (null if nothing would run), "steps": [{"step", "state": "up_to_date" | "would_run" | "may_run" | "withheld", "action_key", "verdict", "estimate_seconds" (null where it is not known), "why", "after"}]}`."#,
    ),
    (
        "store",
        r#"`verify`: `{"objects", "realisations", "bytes", "problems": [{"path", "what", "help"}]}`. `path`: `{"object", "path"}`. `du`: `{"files", "trees", "realisations", "index", "trash", "tmp"}`, each `{"count", "bytes"}`."#,
    ),
    (
        "why",
        r#"`{"step", "state", "action_key", "compared_with", "why", "ran_ms", "causes": [{"subject", "part", "before", "after", "objects", "line", "details", "diffs", "because": {"step", "how", "causes"}}], "after": [the same for each step that would run before], "last_failure"}`."#,
    ),
];

/// The whole reference, in Markdown.
pub fn reference_cli() -> String {
    let mut root = Cli::command();
    root.build();
    let mut text = OPENING.to_owned();
    text.push_str("\n## Global options\n\n");
    for arg in root.get_arguments().filter(|arg| is_global(arg)) {
        write_arg(&mut text, arg);
    }
    let mut commands: Vec<&Command> =
        root.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    commands.sort_by_key(|command| command.get_name());
    for command in commands {
        write_command(&mut text, command, 2);
        let document = DOCUMENTS.iter().find(|(name, _)| *name == command.get_name());
        if let Some((_, document)) = document {
            let _ = writeln!(text, "\nWith `--json`: {document}");
        }
    }
    text
}

fn is_global(arg: &Arg) -> bool {
    arg.is_global_set() && !matches!(arg.get_id().as_str(), "help" | "version")
}

fn write_command(text: &mut String, command: &Command, level: usize) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let _ = write!(text, "\n{} `{name}`\n\n", "#".repeat(level));
    let about = command
        .get_long_about()
        .or(command.get_about())
        .map(ToString::to_string)
        .unwrap_or_default();
    let _ = writeln!(text, "{}\n", escape(&ended(&about)));
    let usage = command.clone().render_usage().to_string();
    let _ = writeln!(text, "```text\n{}\n```", usage.trim().trim_start_matches("Usage: "));
    let own = || {
        command.get_arguments().filter(|arg| {
            !arg.is_global_set()
                && !arg.is_hide_set()
                && !matches!(arg.get_id().as_str(), "help" | "version")
        })
    };
    if own().next().is_some() {
        text.push('\n');
        own().for_each(|arg| write_arg(text, arg));
    }
    if let Some(examples) = command.get_after_help() {
        let examples = examples.to_string();
        match examples.split_once('\n') {
            Some((title, lines)) if title.starts_with("Example") => {
                let lines: Vec<&str> =
                    lines.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
                let _ = write!(text, "\n```sh\n{}\n```\n", lines.join("\n").trim_end());
            }
            _ => {
                let _ = write!(text, "\n{}\n", escape(examples.trim()));
            }
        }
    }
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        write_command(text, command, level + 1);
    }
}

fn write_arg(text: &mut String, arg: &Arg) {
    let values: Vec<String> = arg
        .get_value_names()
        .filter(|_| arg.get_action().takes_values())
        .map(|names| names.iter().map(ToString::to_string).collect())
        .unwrap_or_default();
    let value = values.join(" ");
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let flags: Vec<String> = short.into_iter().chain(long).collect();
    let name = match (flags.is_empty(), value.is_empty()) {
        (true, _) => value,
        (false, true) => flags.join(", "),
        (false, false) => format!("{} {value}", flags.join(", ")),
    };
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let _ = write!(text, "- `{name}`: {}", escape(&ended(&help.replace('\n', " "))));
    let choices: Vec<_> =
        arg.get_possible_values().into_iter().filter(|choice| !choice.is_hide_set()).collect();
    if arg.get_action().takes_values() && !choices.is_empty() {
        let choices: Vec<String> = choices
            .iter()
            .map(|choice| match choice.get_help() {
                Some(help) => format!(
                    "`{}` ({})",
                    choice.get_name(),
                    escape(help.to_string().trim_end_matches('.'))
                ),
                None => format!("`{}`", choice.get_name()),
            })
            .collect();
        let _ = write!(text, " One of {}.", choices.join(", "));
    }
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    if arg.get_action().takes_values() && !defaults.is_empty() {
        let _ = write!(text, " By default {}.", defaults.join(", "));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(text, " Taken from `{}` where it is set.", variable.to_string_lossy());
    }
    text.push('\n');
}

/// A text with the full stop that clap takes from the end of a doc comment.
fn ended(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || text.ends_with(['.', ':', '?', '!']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

/// Text that Markdown does not take for markup.
fn escape(text: &str) -> String {
    text.replace('<', "&lt;").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_says_what_it_prints_as_json() {
        let root = Cli::command();
        for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            assert!(DOCUMENTS.iter().any(|(known, _)| *known == name), "{name}");
        }
    }

    #[test]
    fn the_page_names_every_command_and_option() {
        let page = reference_cli();
        for part in [
            "## `kiln build`",
            "### `kiln store verify`",
            "`-C, --directory DIR`",
            "`--set NAME=VALUE`",
        ] {
            assert!(page.contains(part), "{part}");
        }
    }
}
