//! `kiln copy`: a writable copy of an output.

use std::path::{Path, PathBuf};

use kiln_cache::Object;
use serde::Serialize;

use super::{
    failure::{Exit, Failure, print_json},
    global::Global,
    locate,
    project::{Evaluation, Project},
    style,
};

/// Make a writable copy of what a step made.
///
/// Builds nothing and overwrites nothing. The store's own files stay as they are, whatever happens to the copy.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln copy release ./release\n  kiln copy split.train /tmp/train.csv"
)]
pub struct Args {
    /// The output: STEP, or STEP.OUTPUT where it has several.
    #[arg(value_name = "STEP[.OUTPUT]")]
    pub output: String,
    /// Where to: a path that does not exist yet.
    #[arg(value_name = "DEST")]
    pub dest: PathBuf,
    #[command(flatten)]
    pub evaluation: Evaluation,
}

#[derive(Serialize)]
struct Document<'a> {
    output: &'a str,
    object: Object,
    path: &'a Path,
    bytes: u64,
}

/// Finds the output and copies it.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let project = Project::open(global, &args.evaluation)?;
    let (step, number) = locate::output(&project, &args.output)?;
    let dest = &args.dest;
    if dest.symlink_metadata().is_ok() {
        let file = &project.graph.step(step).outputs[number as usize].file;
        let help = match dest.is_dir() {
            true => format!(
                "kiln copy overwrites nothing: name a place in it, such as {}",
                dest.join(file).display()
            ),
            false => {
                "kiln copy overwrites nothing: name another place, or remove it first".to_owned()
            }
        };
        return Err(Failure::usage(format!("`{}` is there already", dest.display()), help));
    }
    let found = locate::locate(&project, &args.output)?;
    if !found.in_store {
        return Err(Failure::usage(
            format!("`{}` is a source that lies at {}", found.name, found.path.display()),
            "copy it from there",
        ));
    }
    let bytes = project.store.copy_out(&found.object, dest).map_err(|error| {
        Failure::environment(&error, "the folder that it goes to has to exist and be writable")
    })?;
    if global.json {
        print_json(&Document { output: &found.name, object: found.object, path: dest, bytes });
    } else {
        anstream::eprintln!(
            "copied {} to {} ({})",
            found.name,
            dest.display(),
            style::bytes(bytes)
        );
    }
    Ok(Exit::Done)
}
