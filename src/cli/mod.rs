//! The command line: the only code that prints.
//!
//! One file per command: an argument struct whose doc comment is the help, then one function that asks the
//! libraries and prints. stdout is data, stderr is talk.

mod amount;
mod build;
mod candidate;
mod capture;
mod check;
mod completions;
mod copy;
mod deploy;
mod diagnostics;
mod docs;
mod doctor;
mod failure;
mod gc;
mod generations;
mod global;
mod graph;
mod help;
mod init;
mod lineage;
mod links;
mod locate;
mod log;
pub mod machine;
mod outlook;
mod output;
mod progress;
mod project;
mod remember;
mod repeat;
mod rollback;
mod show;
mod status;
mod store;
mod style;
mod summary;
mod table;
mod usage;
mod visible;
mod why;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, error::ErrorKind};

pub use failure::chain;
use failure::{Exit, Failure};
use global::Global;

/// A declarative build tool for machine-learning pipelines, with a content-addressed cache.
///
/// A pipeline is a recipe, kiln.toml. Its steps are hashed over everything that can change their result, so that only
/// what a change really touches runs again; what they make is kept in a store and never made twice.
#[derive(Debug, Parser)]
#[command(
    name = "kiln",
    bin_name = "kiln",
    version,
    max_term_width = 100,
    propagate_version = false,
    disable_help_subcommand = true
)]
#[command(
    after_help = "Exit codes: 0 done; 1 a step failed, a check found a difference, or a deployment was refused; \
2 wrong usage or recipe; 3 a gate rejected and nothing failed; 130 interrupted."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Build(build::Args),
    Check(check::Args),
    Completions(completions::Args),
    Copy(copy::Args),
    Deploy(deploy::Args),
    /// Print a generated page of the documentation.
    #[command(name = "__docs", hide = true)]
    Docs(docs::Args),
    Doctor(doctor::Args),
    Gc(gc::Args),
    Generations(generations::Args),
    Graph(graph::Args),
    Help(help::Args),
    Init(init::Args),
    Log(log::Args),
    Rollback(rollback::Args),
    Show(show::Args),
    Status(status::Args),
    Store(store::Args),
    Why(why::Args),
}

/// Parses, runs the command, and turns what came of it into an exit code.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    output::end_where_nobody_reads();
    let parsed = Cli::command()
        .try_get_matches_from(&arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && asks_for_json(&arguments) => {
            return usage::failure(&error).report(true).into();
        }
        Err(error) if error.kind() == ErrorKind::MissingSubcommand => {
            return usage::failure(&error).report(false).into();
        }
        Err(error) => {
            // Printing fails only where nobody reads any more.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    let json = cli.global.json;
    let home = project::store_home(&cli.global).ok();
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => match home {
            Some(home) => failure.advised(&home).report(json).into(),
            None => failure.report(json).into(),
        },
    }
}

/// Whether `--json` is among arguments that could not be understood.
fn asks_for_json(arguments: &[OsString]) -> bool {
    arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json")
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Build(args) => build::run(global, &args),
        Command::Check(args) => check::run(global, &args),
        Command::Completions(args) => completions::run(global, &args),
        Command::Copy(args) => copy::run(global, &args),
        Command::Deploy(args) => deploy::run(global, &args),
        Command::Docs(args) => docs::run(global, &args),
        Command::Doctor(args) => doctor::run(global, &args),
        Command::Gc(args) => gc::run(global, &args),
        Command::Generations(args) => generations::run(global, &args),
        Command::Graph(args) => graph::run(global, &args),
        Command::Help(args) => help::run(global, &args),
        Command::Init(args) => init::run(global, &args),
        Command::Log(args) => log::run(global, &args),
        Command::Rollback(args) => rollback::run(global, &args),
        Command::Show(args) => show::run(global, &args),
        Command::Status(args) => status::run(global, &args),
        Command::Store(args) => store::run(global, &args),
        Command::Why(args) => why::run(global, &args),
    }
}
