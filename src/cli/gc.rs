//! `kiln gc`: what is kept, what holds it, and what goes.

use std::collections::BTreeMap;

use kiln_cache::{GcError, GcOptions, GcReport, Item, Kept, Kind, Removed};
use serde::Serialize;

use super::{
    failure::{Exit, Failure, print_json},
    global::Global,
    project::open_store,
    style,
    table::Table,
};

/// How many rows of a list are shown where not all were asked for.
const ROWS: usize = 20;

/// Remove from the store what nothing holds any more.
///
/// Held is what a project's last builds made, what deployments run or could go back to, and what a build that runs
/// now needs.
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
    #[serde(flatten)]
    report: &'a GcReport,
}

/// Collects, or says what would be collected.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let store = open_store(global)?;
    let report = store.gc(GcOptions { dry_run: args.dry_run }).map_err(|error| match &error {
        GcError::Root(_) => {
            Failure::environment(&error, "nothing was removed; mend or remove that file")
        }
        GcError::Fs(_) => Failure::environment(&error, "kiln doctor tells more"),
    })?;
    if global.json {
        print_json(&Document { dry_run: args.dry_run, report: &report });
        return Ok(Exit::Done);
    }
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
