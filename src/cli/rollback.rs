//! `kiln rollback`: an earlier generation runs again.

use kiln_registry::{Deployments, RegistryError};
use serde::Serialize;

use super::{
    deploy::Account,
    failure::{Exit, Failure, print_json},
    generations::{GenerationEntry, Head, refused},
    global::Global,
    project::open_store,
    style,
};

/// Go back to an earlier generation of a deployment. Nothing is built.
///
/// Without a number, to the one that ran when the current one was deployed: a second rollback goes one further
/// back, and what was abandoned by a rollback is passed over. Only the recipe's name is read, so that a recipe that is
/// broken stops no rollback.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln rollback production --reason \"error rate doubled\"
  kiln rollback production --to 3")]
pub struct Args {
    /// The deployment.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The generation to switch to; see `kiln generations NAME`.
    #[arg(long, value_name = "N")]
    pub to: Option<u64>,
    #[command(flatten)]
    pub account: Account,
}

#[derive(Serialize)]
struct Document<'a> {
    recipe: &'a str,
    deployment: &'a str,
    switched: bool,
    generation: GenerationEntry,
    was: u64,
}

/// Switches, and says what runs.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let head = Head::read(global)?;
    let store = open_store(global)?;
    let registry = Deployments::new(&store);
    let recipe = head.name.as_str();
    let name = args.name.as_str();
    head.known(name, &registry.names(recipe).map_err(|error| refused(&error))?)?;
    let by = args.account.by();
    let reason = args.account.reason.as_deref();
    let (switched, generation, was) =
        match registry.rollback(recipe, name, args.to, &by, reason, super::deploy::now()) {
            Ok(done) => (true, done.to, done.from.number),
            Err(RegistryError::AlreadyCurrent { current, .. }) => {
                let running = registry.current(recipe, name).map_err(|error| refused(&error))?;
                let running = running
                    .ok_or_else(|| refused(&RegistryError::NothingDeployed(name.to_owned())))?;
                (false, running, current)
            }
            Err(error) => return Err(refused(&error)),
        };
    if global.json {
        print_json(&Document {
            recipe,
            deployment: name,
            switched,
            generation: (&generation).into(),
            was,
        });
    } else if switched {
        let place = style::paint(style::NAME, name);
        let number = generation.number;
        let release = style::short(&generation.release.digest);
        let moved = if number < was {
            format!("rolled {place} back to")
        } else {
            format!("switched {place} forward to")
        };
        anstream::println!("{moved} generation {number}, release {release} (was {was})");
    } else {
        anstream::println!("{name} already runs generation {}", generation.number);
    }
    Ok(Exit::Done)
}
