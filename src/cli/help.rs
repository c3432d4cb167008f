//! `kiln help`: commands, and builders.

use clap::CommandFactory as _;
use kiln_engine::{diagnostic::nearest, reference};
use serde::Serialize;

use super::{
    Cli,
    failure::{Exit, Failure, print_json},
    global::Global,
    table::Table,
};
use crate::builders::CATALOGUE;

/// Tell more about a command, or about a builder.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln help build\n  kiln help builder\n  kiln help builder train"
)]
pub struct Args {
    /// A command, or `builder` and a builder's name.
    #[arg(value_name = "COMMAND")]
    pub words: Vec<String>,
}

#[derive(Serialize)]
struct Page<'a> {
    about: &'a str,
    help: String,
}

#[derive(Serialize)]
struct Builders {
    builders: Vec<BuilderEntry>,
}

#[derive(Serialize)]
struct BuilderEntry {
    name: &'static str,
    version: u32,
    summary: &'static str,
}

/// The engine's own builder, which is not in the catalogue.
const COMMAND: BuilderEntry = BuilderEntry {
    name: "command",
    version: 1,
    summary: "Runs any program. The builder of steps that name none.",
};

/// Finds the page and prints it.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    match args.words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["builder"] => {
            list(global);
            Ok(Exit::Done)
        }
        ["builder", name] => page(global, name, builder(name)?),
        words => page(global, &words.join(" "), command(words)?),
    }
}

fn page(global: &Global, about: &str, help: String) -> Result<Exit, Failure> {
    if global.json {
        print_json(&Page { about, help });
    } else {
        anstream::print!("{help}");
    }
    Ok(Exit::Done)
}

fn builder(name: &str) -> Result<String, Failure> {
    if name == COMMAND.name {
        return Ok(reference::command_help());
    }
    match CATALOGUE.get(name) {
        Some(row) => Ok(reference::builder_help(row)),
        None => {
            let names = || std::iter::once(COMMAND.name).chain(CATALOGUE.names());
            let help = match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the builders are {}", names().collect::<Vec<_>>().join(", ")),
            };
            Err(Failure::usage(format!("there is no builder `{name}`"), help))
        }
    }
}

fn list(global: &Global) {
    let rows = CATALOGUE.builders.iter().map(|row| BuilderEntry {
        name: row.name,
        version: row.version,
        summary: row.summary,
    });
    let builders: Vec<BuilderEntry> = std::iter::once(COMMAND).chain(rows).collect();
    if global.json {
        print_json(&Builders { builders });
        return;
    }
    let mut table = Table::new(&["builder", ">version", "what it does"]);
    for row in builders {
        table.row([row.name.to_owned(), row.version.to_string(), row.summary.to_owned()]);
    }
    anstream::print!("{table}");
    anstream::eprintln!("kiln help builder NAME tells more");
}

fn command(words: &[&str]) -> Result<String, Failure> {
    let mut root = Cli::command();
    // Fills in global options and the full names of commands.
    root.build();
    let mut found = &mut root;
    for (depth, word) in words.iter().enumerate() {
        let known: Vec<String> = visible(found);
        let path = std::iter::once("kiln")
            .chain(words[..depth].iter().copied())
            .collect::<Vec<_>>()
            .join(" ");
        found = match found.find_subcommand_mut(word) {
            Some(next) => next,
            None => {
                let extra = (depth == 0).then_some("builder");
                let names = || known.iter().map(String::as_str).chain(extra);
                let help = match nearest(word, names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => format!("{path} has no commands of its own"),
                    None => format!("its commands are {}", names().collect::<Vec<_>>().join(", ")),
                };
                return Err(Failure::usage(format!("{path} has no command `{word}`"), help));
            }
        };
    }
    Ok(found.render_long_help().ansi().to_string())
}

fn visible(command: &clap::Command) -> Vec<String> {
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.map(|command| command.get_name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_so_has_every_builder() {
        for name in visible(&Cli::command()) {
            assert!(command(&[&name]).unwrap().contains(&format!("kiln {name}")), "{name}");
        }
        for name in CATALOGUE.names().chain(["command"]) {
            assert!(builder(name).unwrap().starts_with(name), "{name}");
        }
    }

    #[test]
    fn commands_of_commands_have_pages() {
        assert!(command(&["store", "verify"]).unwrap().contains("kiln store verify"));
        assert!(command(&["biuld"]).is_err());
        assert!(builder("trian").is_err());
    }
}
