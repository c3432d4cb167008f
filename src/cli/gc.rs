//! `kiln gc`: what is kept, what holds it, and what goes.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kiln_cache::{
    Digest, GcError, GcOptions, GcReport, Item, Kept, Kind, Problem, Removed, RootChanges, Spared,
    Store,
};
use kiln_engine::{
    moment,
    project::{self, Abandoned},
};
use kiln_registry::{Audit, Deployments, Unreadable};
use serde::Serialize;

use super::{
    amount,
    failure::{Exit, Failure, print_json},
    global::Global,
    project::open_store,
    style, summary,
    table::Table,
};

/// How many rows of a list are shown where not all were asked for.
const ROWS: usize = 20;

/// Remove from the store what nothing holds any more.
///
/// Held is what a project's last builds made, what deployments run or could go back to, what a build that runs now
/// needs, and what a build that was killed had finished, until its project is built again. A project whose folder is
/// gone holds nothing any more. With limits, only what is beyond one of them goes, what was used least recently first;
/// what is held never goes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln gc --dry-run                  what would go, and what holds the rest
  kiln gc --keep-bytes 20G           shrink the store to 20 GiB, if what is held allows it
  kiln gc --older-than 30d           what was not used for a month
  kiln gc --older-than 2w --keep-bytes 500GiB")]
pub struct Args {
    /// Remove only as much as it takes for the store to fit into SIZE, such as 20G or 500MiB.
    #[arg(long, value_name = "SIZE", value_parser = amount::size)]
    pub keep_bytes: Option<u64>,
    /// Remove only what was not used for this long, such as 30d, 2w or 12h.
    #[arg(long, value_name = "DURATION", value_parser = amount::duration)]
    pub older_than: Option<Duration>,
    /// Say what would go and what holds the rest; remove nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Show every row of long lists.
    #[arg(long)]
    pub all: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    dry_run: bool,
    keep_bytes: Option<u64>,
    unused_since: Option<i64>,
    over_budget: bool,
    abandoned: &'a [Abandoned],
    /// Files of deployments that cannot be read: all that their recipes made stays, unless roots tell what has to.
    unreadable: Vec<&'a Problem>,
    #[serde(flatten)]
    report: &'a GcReport,
}

/// Collects, or says what would be collected.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    if !args.dry_run {
        store.permit_change().map_err(|error| {
            Failure::environment(
                &error,
                "name a store that can be written to: --home DIR, or KILN_HOME=DIR",
            )
        })?;
    }
    let options = GcOptions {
        dry_run: args.dry_run,
        keep_bytes: args.keep_bytes,
        unused_since: args.older_than.map(ago),
    };
    let Collected { abandoned, unreadable, report } = collect(&store, options)?;
    let over_budget = args.keep_bytes.is_some_and(|most| report.bytes_kept > most);
    for notice in store.take_notices() {
        summary::warn(&format!("{}: {}", notice.path.display(), notice.what));
    }
    if global.json {
        print_json(&Document {
            dry_run: options.dry_run,
            keep_bytes: options.keep_bytes,
            unused_since: options.unused_since,
            over_budget,
            abandoned: &abandoned,
            unreadable: unreadable.iter().map(|one| &one.problem).collect(),
            report: &report,
        });
        return Ok(Exit::Done);
    }
    print_abandoned(&abandoned, args.dry_run);
    print_holders(&report);
    if args.dry_run {
        print_kept(&report.kept, args.all);
        print_removed(&report.removed, args.all);
    }
    let (objects, realisations) = counts(report.removed.iter().map(|removed| removed.item));
    anstream::println!(
        "{} {} and {}: {}; {} {}",
        if args.dry_run { "would remove" } else { "removed" },
        style::counted(objects, "object"),
        style::counted(realisations, "realisation"),
        style::bytes(report.bytes_freed),
        style::bytes(report.bytes_kept),
        if args.dry_run { "would stay" } else { "stay" },
    );
    if let (true, Some(most)) = (over_budget, args.keep_bytes) {
        summary::warn(&format!(
            "the store is larger than the {} that it was to keep: what is held takes {}, and never goes; \
             the table tells what holds it",
            style::bytes(most),
            style::bytes(report.bytes_held),
        ));
    }
    Ok(Exit::Done)
}

/// The moment that lies so far back, in seconds since 1970; what was used in this very second is old enough for 0 s.
fn ago(time: Duration) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    seconds(now).saturating_add(1).saturating_sub(seconds(time))
}

/// What came of a collection.
struct Collected {
    abandoned: Vec<Abandoned>,
    unreadable: Vec<Unreadable>,
    report: GcReport,
}

/// Lets go of what abandoned projects hold, sees that deployments hold what they name, then collects.
fn collect(store: &Store, options: GcOptions) -> Result<Collected, Failure> {
    let nothing = "nothing was removed; mend or remove that file";
    let abandoned =
        project::abandoned(store).map_err(|error| Failure::environment(&error, nothing))?;
    let registry = Deployments::new(store);
    let Audit { unrooted, unreadable } = registry.audit().map_err(|error| {
        Failure::environment(&error, format!("nothing was removed; {}", error.help()))
    })?;
    for one in &unreadable {
        let kept = match one.is_held {
            true => "what it names is held by its root all the same".to_owned(),
            false => format!("so that all that `{}` made is kept", one.recipe),
        };
        summary::warn(&format!("{}; {kept}; to go on: {}", one.problem.what, one.problem.help));
    }
    if !options.dry_run {
        for generation in &unrooted {
            summary::warn(&format!("{} was no root, and is one again", generation.root.label));
            registry
                .root_again(generation)
                .map_err(|error| Failure::environment(&error, error.help()))?;
        }
        registry.let_go_of_cut_off().map_err(|error| Failure::environment(&error, error.help()))?;
        for project in &abandoned {
            store
                .remove_idle_root(&project.root)
                .map_err(|error| Failure::environment(&error, nothing))?;
            store
                .forget_killed(&Digest::of(project.root.as_bytes()))
                .map_err(|error| Failure::environment(&error, "kiln doctor tells more"))?;
        }
    }
    let changes = RootChanges {
        added: unrooted.into_iter().map(|generation| generation.root).collect(),
        ignored: abandoned.iter().map(|project| project.root.clone()).collect(),
        spared: unreadable.iter().filter(|one| !one.is_held).map(spared).collect(),
    };
    let report = store.gc_with(options, &changes).map_err(|error| match &error {
        GcError::Root(_) => Failure::environment(&error, nothing),
        GcError::Fs(_) => Failure::environment(&error, "kiln doctor tells more"),
    })?;
    Ok(Collected { abandoned, unreadable, report })
}

fn spared(unreadable: &Unreadable) -> Spared {
    let recipe = unreadable.recipe.clone();
    let label = format!("a generation of `{recipe}` that cannot be read");
    Spared { recipe, label }
}

fn print_abandoned(abandoned: &[Abandoned], dry_run: bool) {
    for project in abandoned {
        let label = &project.label;
        if dry_run {
            anstream::println!("would let go of {label}: the folder is gone");
        } else {
            anstream::println!("let go of {label}: the folder is gone");
        }
    }
    if !abandoned.is_empty() {
        anstream::println!();
    }
}

fn when(seconds: i64) -> String {
    moment::local(seconds.saturating_mul(1000))
}

fn counts(items: impl Iterator<Item = Item>) -> (usize, usize) {
    items.fold((0, 0), |(objects, realisations), item| match item {
        Item::Object(_) => (objects + 1, realisations),
        Item::Realisation(_) => (objects, realisations + 1),
    })
}

/// What each root holds. Something that several hold counts with each.
fn print_holders(report: &GcReport) {
    if report.kept.iter().all(|kept| kept.held_by.is_empty()) {
        anstream::println!("nothing is held");
    }
    if report.kept.is_empty() {
        return;
    }
    let mut holders: BTreeMap<&str, (Vec<Item>, u64)> = BTreeMap::new();
    for kept in &report.kept {
        let nobody = kept.held_by.is_empty().then_some("nothing, within the limits");
        for holder in kept.held_by.iter().map(String::as_str).chain(nobody) {
            let entry = holders.entry(holder).or_default();
            entry.0.push(kept.item);
            entry.1 += kept.bytes;
        }
    }
    let mut table = Table::new(&["held by", ">objects", ">realisations", ">size"]);
    for (holder, (items, bytes)) in holders {
        let (objects, realisations) = counts(items.into_iter());
        table.row([
            holder.to_owned(),
            objects.to_string(),
            realisations.to_string(),
            style::bytes(bytes),
        ]);
    }
    let (objects, realisations) = counts(report.kept.iter().map(|kept| kept.item));
    table.row([
        "all together".to_owned(),
        objects.to_string(),
        realisations.to_string(),
        style::bytes(report.bytes_kept),
    ]);
    anstream::println!("{table}");
}

fn print_kept(kept: &[Kept], all: bool) {
    let mut table = Table::new(&["kept", "name", ">size", "held by"]);
    for kept in shown(kept, all) {
        let (what, name) = names(kept.item, all);
        let held_by = match kept.last_use {
            Some(used) if kept.held_by.is_empty() => format!("nothing; last used {}", when(used)),
            _ => kept.held_by.join("; "),
        };
        table.row([what, name, style::bytes(kept.bytes), held_by]);
    }
    print(&table, kept.len(), all);
}

fn print_removed(removed: &[Removed], all: bool) {
    let mut table = Table::new(&["would go", "name", ">size", "last used"]);
    for removed in shown(removed, all) {
        let (what, name) = names(removed.item, all);
        table.row([what, name, style::bytes(removed.bytes), when(removed.last_use)]);
    }
    print(&table, removed.len(), all);
}

fn print(table: &Table, rows: usize, all: bool) {
    if table.is_empty() {
        return;
    }
    anstream::print!("{table}");
    if !all && rows > ROWS {
        anstream::println!("… and {} more; --all shows them", rows - ROWS);
    }
    anstream::println!();
}

fn shown<T>(rows: &[T], all: bool) -> &[T] {
    if all { rows } else { &rows[..rows.len().min(ROWS)] }
}

fn names(item: Item, whole: bool) -> (String, String) {
    let (what, digest) = match item {
        Item::Object(object) => match object.kind {
            Kind::Tree => ("tree", object.digest),
            Kind::File if object.executable => ("program", object.digest),
            Kind::File => ("file", object.digest),
        },
        Item::Realisation(key) => ("realisation", key),
    };
    (what.to_owned(), if whole { digest.to_string() } else { style::short(&digest) })
}
