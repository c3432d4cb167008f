//! `kiln show`: everything that is known of a step, an object, or a realisation.

mod object;
mod realisation;
mod step;

use kiln_cache::{Digest, GcOptions, GcReport, Item, Object, Store};

use super::{
    failure::{Exit, Failure},
    global::Global,
    project::{Evaluation, Project, find_recipe, open_store},
};

/// The fewest digits by which something may be named.
const FEWEST_DIGITS: usize = 8;

/// Show all that is known of a step, an object, or a realisation.
///
/// WHAT is a step's name, an object (file:HEX, tree:HEX), a digest of an object or an action key, or at least eight
/// digits of one.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln show train\n  kiln show tree:9f2c…\n  kiln show 9f2c41aa"
)]
pub struct Args {
    /// A step, an object, or an action key.
    #[arg(value_name = "WHAT")]
    pub what: String,
    #[command(flatten)]
    pub evaluation: Evaluation,
}

/// Decides what is meant, and shows it.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let digits = prefix(&args.what);
    // A step may be called like a digest; it comes first, if there is a recipe that says so.
    if digits.is_none() || find_recipe(global).is_ok() {
        match Project::open(global, &args.evaluation) {
            Ok(project) => match project.graph.find(&args.what) {
                Some(id) => return step::show(global, &project, id),
                None if digits.is_none() => drop(project.step(&args.what)?),
                None => {}
            },
            Err(failure) if digits.is_none() => return Err(failure),
            Err(_) => {}
        }
    }
    let Some(wanted) = digits else { return Ok(Exit::Done) };
    let store = open_store(global)?;
    let stock = stock(&store)?;
    let mut found = items(&stock).filter(|&(item, ..)| wanted.names(item));
    let Some((item, bytes, held_by)) = found.next() else {
        return Err(Failure::usage(
            format!("nothing in the store is called `{}`", args.what),
            format!("it may have been collected; the store is {}", store.home().display()),
        ));
    };
    let others: Vec<Item> = found.map(|(item, ..)| item).collect();
    if !others.is_empty() {
        let names: Vec<String> = std::iter::once(item).chain(others).map(name).collect();
        return Err(Failure::usage(
            format!("`{}` names {} things", args.what, names.len()),
            format!("say which: {}", names.join(", ")),
        ));
    }
    match item {
        Item::Object(found) => object::show(global, &store, found, bytes, held_by),
        Item::Realisation(key) => realisation::show(global, &store, key, held_by),
    }
}

/// What a text asks for that is no step's name.
struct Wanted {
    kind: Option<&'static str>,
    executable: bool,
    digits: String,
}

impl Wanted {
    fn names(&self, item: Item) -> bool {
        let matches = |digest: Digest| digest.to_string().starts_with(&self.digits);
        match item {
            Item::Object(object) => {
                let kind = object.kind.to_string();
                matches(object.digest)
                    && self.kind.is_none_or(|wanted| {
                        wanted == kind && (self.executable || !object.executable)
                    })
            }
            Item::Realisation(key) => self.kind.is_none() && matches(key),
        }
    }
}

fn prefix(text: &str) -> Option<Wanted> {
    let (kind, rest) = match text.split_once(':') {
        Some(("file", rest)) => (Some("file"), rest),
        Some(("tree", rest)) => (Some("tree"), rest),
        Some(_) => return None,
        None => (None, text),
    };
    let (digits, executable) = match rest.strip_suffix("+x") {
        Some(digits) => (digits, true),
        None => (rest, false),
    };
    let hex = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let long = (FEWEST_DIGITS..=64).contains(&digits.len());
    (hex && long).then(|| Wanted { kind, executable, digits: digits.to_owned() })
}

/// All that lies in the store, with what holds it.
fn stock(store: &Store) -> Result<GcReport, Failure> {
    store
        .gc(GcOptions { dry_run: true, ..GcOptions::default() })
        .map_err(|error| Failure::environment(&error, "kiln store verify tells more"))
}

fn items(stock: &GcReport) -> impl Iterator<Item = (Item, u64, &[String])> {
    let kept = stock.kept.iter().map(|kept| (kept.item, kept.bytes, kept.held_by.as_slice()));
    kept.chain(stock.removed.iter().map(|removed| (removed.item, removed.bytes, &[][..])))
}

fn name(item: Item) -> String {
    match item {
        Item::Object(object) => object.to_string(),
        Item::Realisation(key) => format!("the realisation {key}"),
    }
}

/// The realisations that made, printed or refer to an object.
fn makers(store: &Store, object: Object) -> Result<Vec<kiln_cache::Realisation>, Failure> {
    let all = store
        .all_realisations()
        .map_err(|error| Failure::environment(&error, "kiln store verify tells more"))?;
    Ok(all.into_iter().filter(|record| record.objects().any(|one| one == object)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_told_from_a_name() {
        assert!(prefix("train").is_none());
        assert!(prefix("deadbee").is_none(), "seven digits are too few");
        assert!(prefix("deadbeef").is_some());
        assert!(prefix("file:deadbeef+x").is_some_and(|wanted| wanted.executable));
        assert!(prefix("dir:deadbeef").is_none());
    }

    #[test]
    fn a_kind_picks_among_things_of_one_digest() {
        let digest = Digest::of(b"x");
        let text = format!("file:{digest}");
        let wanted = prefix(&text).unwrap();
        assert!(wanted.names(Item::Object(Object::file(digest))));
        assert!(!wanted.names(Item::Object(Object::program(digest))));
        assert!(!wanted.names(Item::Object(Object::tree(digest))));
        assert!(!wanted.names(Item::Realisation(digest)));
    }
}
