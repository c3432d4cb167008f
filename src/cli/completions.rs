//! `kiln completions`: what a shell needs to complete kiln's command lines.

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};
use serde::Serialize;

use super::{
    Cli,
    failure::{Exit, Failure, print_json},
    global::Global,
};

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  source <(kiln completions bash)\n  kiln completions fish > ~/.config/fish/completions/kiln.fish"
)]
pub struct Args {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

#[derive(Serialize)]
struct Document {
    shell: String,
    script: String,
}

/// Prints the script.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "kiln", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    if global.json {
        print_json(&Document { shell: args.shell.to_string(), script });
    } else {
        anstream::print!("{script}");
    }
    Ok(Exit::Done)
}
