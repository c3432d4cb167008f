//! `kiln gc`: what is kept, what holds it, and what goes.

use std::collections::BTreeMap;

use kiln_cache::{GcError, GcOptions, GcReport, Item, Kept, Kind, Removed, Store};
use kiln_engine::project::{self, Abandoned};
use serde::Serialize;

use super::{
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
/// Held is what a project's last builds made, what deployments run or could go back to, and what a build that runs
/// now needs. A project whose folder is gone holds nothing any more.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kiln gc --dry-run\n  kiln gc --dry-run --all")]
pub struct Args {
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
    abandoned: &'a [Abandoned],
    #[serde(flatten)]
    report: &'a GcReport,
}

/// Collects, or says what would be collected.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    let (abandoned, report) = collect(&store, args.dry_run).map_err(|error| match &error {
        GcError::Root(_) => {
            Failure::environment(&error, "nothing was removed; mend or remove that file")
        }
        GcError::Fs(_) => Failure::environment(&error, "kiln doctor tells more"),
    })?;
    for notice in store.take_notices() {
        summary::warn(&format!("{}: {}", notice.path.display(), notice.what));
    }
    if global.json {
        let dry_run = args.dry_run;
        print_json(&Document { dry_run, abandoned: &abandoned, report: &report });
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
        "{} {} and {}: {}",
        if args.dry_run { "would remove" } else { "removed" },
        style::counted(objects, "object"),
        style::counted(realisations, "realisation"),
        style::bytes(report.bytes_freed),
    );
    Ok(Exit::Done)
}

/// Lets go of what abandoned projects hold, then collects.
fn collect(store: &Store, dry_run: bool) -> Result<(Vec<Abandoned>, GcReport), GcError> {
    let abandoned = project::abandoned(store)?;
    if !dry_run {
        for project in &abandoned {
            store.remove_root(&project.root)?;
        }
    }
    Ok((abandoned, store.gc(GcOptions { dry_run })?))
}

fn print_abandoned(abandoned: &[Abandoned], dry_run: bool) {
    for project in abandoned {
        let label = &project.label;
        if dry_run {
            anstream::println!(
                "would let go of {label}: the folder is gone, and what only they hold would go too"
            );
        } else {
            anstream::println!("let go of {label}: the folder is gone");
        }
    }
    if !abandoned.is_empty() {
        anstream::println!();
    }
}

fn counts(items: impl Iterator<Item = Item>) -> (usize, usize) {
    items.fold((0, 0), |(objects, realisations), item| match item {
        Item::Object(_) => (objects + 1, realisations),
        Item::Realisation(_) => (objects, realisations + 1),
    })
}

/// What each root holds. Something that several hold counts with each.
fn print_holders(report: &GcReport) {
    if report.kept.is_empty() {
        anstream::println!("nothing is held");
        return;
    }
    let mut holders: BTreeMap<&str, (Vec<Item>, u64)> = BTreeMap::new();
    for kept in &report.kept {
        for holder in &kept.held_by {
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
        table.row([what, name, style::bytes(kept.bytes), kept.held_by.join("; ")]);
    }
    print(&table, kept.len(), all);
}

fn print_removed(removed: &[Removed], all: bool) {
    let mut table = Table::new(&["would go", "name", ">size"]);
    for removed in shown(removed, all) {
        let (what, name) = names(removed.item, all);
        table.row([what, name, style::bytes(removed.bytes)]);
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
