//! Options that every command takes, before or after its name.

use std::path::PathBuf;

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Go to this folder first.
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,
    /// The recipe; by default kiln.toml here or in the nearest parent folder.
    #[arg(short = 'f', long = "file", value_name = "FILE", global = true)]
    pub file: Option<PathBuf>,
    /// Print one JSON document on stdout instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// Where the store is; by default $XDG_DATA_HOME/kiln.
    #[arg(long, value_name = "DIR", env = "KILN_HOME", hide_env_values = true, global = true)]
    pub home: Option<PathBuf>,
}
