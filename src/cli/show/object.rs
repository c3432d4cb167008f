//! An object: what it is, where, who made it, what holds it.

use std::path::PathBuf;

use kiln_cache::{Digest, Kind, Object, Store, Tree};
use serde::Serialize;

use crate::cli::{
    failure::{Exit, Failure, print_json},
    global::Global,
    style,
    table::Table,
};

#[derive(Serialize)]
struct Document<'a> {
    object: Object,
    bytes: u64,
    path: PathBuf,
    held_by: &'a [String],
    made_by: Vec<Maker>,
    /// What a tree holds.
    listing: Option<Tree>,
}

#[derive(Serialize)]
struct Maker {
    recipe: String,
    step: String,
    action_key: Digest,
    /// `output NAME`, `log`, or `source`.
    role: String,
}

/// Shows it.
pub fn show(
    global: &Global,
    store: &Store,
    object: Object,
    bytes: u64,
    held_by: &[String],
) -> Result<Exit, Failure> {
    let listing = match object.kind {
        Kind::File => None,
        Kind::Tree => Some(
            store
                .tree(&object.digest)
                .map_err(|error| Failure::environment(&error, "kiln store verify tells more"))?,
        ),
    };
    let made_by = super::makers(store, object)?.into_iter().map(|record| {
        let output = record.outputs.iter().find(|output| output.object == object);
        let role = match output {
            Some(output) => format!("output {}", output.name),
            None if record.log == Some(object) => "log".to_owned(),
            None => "source".to_owned(),
        };
        Maker { recipe: record.recipe, step: record.step, action_key: record.key, role }
    });
    let document = Document {
        object,
        bytes,
        path: store.path(&object),
        held_by,
        made_by: made_by.collect(),
        listing,
    };
    if global.json {
        print_json(&document);
        return Ok(Exit::Done);
    }
    let mut facts = Table::new(&["", ""]);
    facts.row(["object", &object.to_string()]);
    let files = document.listing.as_ref().map(Tree::file_count);
    let files = files.map_or_else(String::new, |count| {
        format!(" in {}", style::counted(usize::try_from(count).unwrap_or(usize::MAX), "file"))
    });
    facts.row(["size", &format!("{}{files}", style::bytes(bytes))]);
    facts.row(["path", &document.path.display().to_string()]);
    for maker in &document.made_by {
        let Maker { recipe, step, role, action_key } = maker;
        let verb = if role == "source" { "read by" } else { "made by" };
        facts.row([verb, &format!("{recipe}/{step}, {role} ({})", style::short(action_key))]);
    }
    match held_by {
        [] => {
            facts.row(["held by", "nothing: kiln gc would remove it"]);
        }
        held_by => {
            for holder in held_by {
                facts.row(["held by", holder]);
            }
        }
    }
    anstream::print!("{facts}");
    if let Some(tree) = &document.listing {
        let mut table = Table::new(&["file", ">size", "digest"]);
        for (path, file) in tree.walk() {
            let name = if file.executable { format!("{path} (executable)") } else { path };
            table.row([name, style::bytes(file.bytes), style::short(&file.digest)]);
        }
        for (path, target) in links(tree, "") {
            table.row([format!("{path} → {target}"), String::new(), "link".to_owned()]);
        }
        anstream::print!("\n{table}");
    }
    Ok(Exit::Done)
}

fn links(tree: &Tree, prefix: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = tree
        .symlinks
        .iter()
        .map(|link| (format!("{prefix}{}", link.name), link.target.clone()))
        .collect();
    for dir in &tree.dirs {
        found.extend(links(&dir.tree, &format!("{prefix}{}/", dir.name)));
    }
    found
}
