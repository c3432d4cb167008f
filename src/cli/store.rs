//! `kiln store`: what lies in the store, and whether it is sound.

use std::path::PathBuf;

use kiln_cache::{Object, Share};
use kiln_engine::diagnostic::Diagnostic;
use kiln_registry::Deployments;
use serde::Serialize;

use super::{
    failure::{Exit, Failure, print_json},
    global::Global,
    locate,
    project::{Evaluation, Project, open_store},
    style,
    table::Table,
};

/// Look into the store: check it, find things in it, measure it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln store verify\n  kiln store path train.model\n  kiln store du"
)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Read everything in the store again and compare it with its digests; see that deployments can be read and have
    /// what they name. What is damaged is taken out of use, so that the next build makes it again.
    Verify(VerifyArgs),
    /// Print where an object or an output lies, and nothing else.
    Path(PathArgs),
    /// Tell how much lies in the store.
    Du,
}

#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Only tell what is damaged; leave it where it is.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub struct PathArgs {
    /// An object (file:HEX, tree:HEX), or the output of a step.
    #[arg(value_name = "OBJECT|STEP[.OUTPUT]")]
    pub what: String,
    #[command(flatten)]
    pub evaluation: Evaluation,
}

#[derive(Serialize)]
struct PathDocument {
    object: Object,
    path: PathBuf,
}

/// Runs one of them.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    match &args.command {
        Command::Verify(args) => verify(global, args),
        Command::Path(args) => path(global, args),
        Command::Du => du(global),
    }
}

fn verify(global: &Global, args: &VerifyArgs) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    let trouble = |error: &(dyn std::error::Error + 'static)| {
        Failure::environment(error, "kiln doctor tells what is wrong")
    };
    let mut report = store.verify().map_err(|error| trouble(&error))?;
    if !args.dry_run {
        store.mend(&mut report).map_err(|error| trouble(&error))?;
    }
    report.problems.extend(Deployments::new(&store).verify());
    report.problems.sort();
    let exit = if report.problems.is_empty() { Exit::Done } else { Exit::Failed };
    if global.json {
        print_json(&report);
        return Ok(exit);
    }
    for problem in &report.problems {
        anstream::println!(
            "{}: {}",
            problem.path.display(),
            style::paint(style::BAD, &problem.what)
        );
        anstream::println!("  help: {}", problem.help);
    }
    let count =
        |count: u64, noun: &str| style::counted(usize::try_from(count).unwrap_or(usize::MAX), noun);
    anstream::println!(
        "read {} and {} ({}): {}",
        count(report.objects, "object"),
        count(report.realisations, "realisation"),
        style::bytes(report.bytes),
        match report.problems.len() {
            0 => style::paint(style::GOOD, "all as they should be"),
            problems => style::paint(style::BAD, style::counted(problems, "problem")),
        },
    );
    Ok(exit)
}

fn path(global: &Global, args: &PathArgs) -> Result<Exit, Failure> {
    let (object, path) = match args.what.parse::<Object>() {
        Ok(object) => {
            let store = open_store(global)?;
            if !store.contains(&object) {
                let problem = Diagnostic::new(format!("{object} is not in the store"));
                return Err(Failure::failed(
                    problem.note(format!("the store is {}", store.home().display())),
                ));
            }
            (object, store.path(&object))
        }
        Err(error) if args.what.contains(':') => {
            return Err(Failure::usage(error.to_string(), "kiln show STEP names a step's objects"));
        }
        Err(_) => {
            let project = Project::open(global, &args.evaluation)?;
            let found = locate::locate(&project, &args.what)?;
            (found.object, found.path)
        }
    };
    if global.json {
        print_json(&PathDocument { object, path });
    } else {
        anstream::println!("{}", path.display());
    }
    Ok(Exit::Done)
}

fn du(global: &Global) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    let usage = store
        .du()
        .map_err(|error| Failure::environment(&error, "kiln doctor tells what is wrong"))?;
    if global.json {
        print_json(&usage);
        return Ok(Exit::Done);
    }
    let rows: [(&str, Share); 6] = [
        ("files", usage.files),
        ("trees", usage.trees),
        ("realisations", usage.realisations),
        ("index", usage.index),
        ("trash", usage.trash),
        ("temporary", usage.tmp),
    ];
    let mut table = Table::new(&["what", ">count", ">size"]);
    for (name, share) in rows {
        table.row([name.to_owned(), share.count.to_string(), style::bytes(share.bytes)]);
    }
    let total = rows.iter().map(|(_, share)| share.bytes).sum();
    table.row(["all together".to_owned(), String::new(), style::bytes(total)]);
    anstream::print!("{table}");
    anstream::eprintln!(
        "in {}; files that several trees share are counted with each",
        store.home().display()
    );
    Ok(Exit::Done)
}
