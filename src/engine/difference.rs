//! How two objects differ, file by file.
//!
//! It reads the store and is unaware of steps and keys. Which bytes of a file are numbers it does not know either: where
//! numbers may lie apart, [`Numbers`] reads them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
};

use kiln_cache::{Kind, Object, Store, Tree};
use serde::Serialize;

use crate::graph::Tolerance;

/// Reads numbers in files, so that they can be compared.
pub trait Numbers: Sync {
    /// Compares two files that are called `name`. Nothing if numbers cannot be told from other bytes in such files; an
    /// error, in words, if one of them is not what its name says.
    fn compare(
        &self,
        name: &str,
        before: &Path,
        after: &Path,
        tolerance: Tolerance,
    ) -> Option<Result<Comparison, String>>;
}

/// Finds no numbers anywhere.
impl Numbers for () {
    fn compare(
        &self,
        _: &str,
        _: &Path,
        _: &Path,
        _: Tolerance,
    ) -> Option<Result<Comparison, String>> {
        None
    }
}

/// What [`Numbers`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum Comparison {
    /// The files differ in numbers at most.
    Alike {
        /// The two that lie farthest apart, measured by the tolerance.
        worst: Option<Deviation>,
        /// How many pairs lie farther apart than allowed.
        beyond: u64,
    },
    /// They differ in something else: what, and where.
    Unlike(String),
}

/// Two numbers that are not the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Deviation {
    /// In which file: an output and the path in it.
    pub file: String,
    /// Where in the file.
    pub place: String,
    /// What it was.
    pub before: f64,
    /// What it is.
    pub after: f64,
    /// How many times the bound fits between them.
    pub excess: f64,
}

impl Deviation {
    /// `/metrics/f1: 0.9 → 0.9005 (0.5 of what is allowed)`.
    fn words(&self) -> String {
        let Self { place, before, after, excess, .. } = self;
        let excess = match *excess {
            excess if excess.is_infinite() => "no bound allows that".to_owned(),
            excess if excess < 0.005 => format!("{excess:.1e} of what is allowed"),
            excess => format!("{excess:.2} of what is allowed"),
        };
        format!("{place}: {before} → {after} ({excess})")
    }
}

impl std::fmt::Display for Deviation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file, self.words())
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// One a line, each beginning with an output's name and the path in it.
    pub differences: Vec<String>,
    /// The two numbers that lie farthest apart, where they may, or did too much.
    pub deviation: Option<Deviation>,
}

/// Collects differences.
pub struct Differences<'a> {
    store: &'a Store,
    tolerance: Option<(Tolerance, &'a dyn Numbers)>,
    found: Findings,
}

impl<'a> Differences<'a> {
    /// For objects of `store`; without a tolerance any other byte is a difference.
    pub fn new(store: &'a Store, tolerance: Option<(Tolerance, &'a dyn Numbers)>) -> Self {
        Self { store, tolerance, found: Findings::default() }
    }

    /// What was found.
    pub fn findings(self) -> Findings {
        self.found
    }

    /// A difference in something else.
    pub fn say(&mut self, line: String) {
        self.found.differences.push(line);
    }

    /// Looks for differences from `before` to `after`, an output called `name` whose file is called `file`.
    pub fn between(&mut self, name: &str, file: &str, before: Object, after: Object) {
        let store = self.store;
        let (old, new) = (store.path(&before), store.path(&after));
        match (before.kind, after.kind) {
            (Kind::File, Kind::File) => self.leaves(name, file, (&old, before), (&new, after)),
            (Kind::Tree, Kind::Tree) => {
                let trees = store
                    .tree(&before.digest)
                    .and_then(|old| Ok((old, store.tree(&after.digest)?)));
                match trees {
                    Ok((old_tree, new_tree)) => {
                        self.listings(name, (&old, &old_tree), (&new, &new_tree));
                    }
                    Err(error) => self.say(format!("{name}: {before} → {after} ({error})")),
                }
            }
            _ => self.say(format!("{name}: was a {}, is a {}", before.kind, after.kind)),
        }
    }

    fn listings(&mut self, name: &str, old: (&Path, &Tree), new: (&Path, &Tree)) {
        let (before, after) = (flat(old.1), flat(new.1));
        let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for path in paths {
            let what = match (before.get(path), after.get(path)) {
                (Some(one), Some(other)) if one == other => continue,
                (Some(Leaf::File(one)), Some(Leaf::File(other))) => {
                    let (old, new) = (old.0.join(path), new.0.join(path));
                    self.leaves(&format!("{name}/{path}"), path, (&old, *one), (&new, *other));
                    continue;
                }
                (Some(_), None) => "gone",
                (None, Some(_)) => "new",
                _ => "of another kind",
            };
            self.say(format!("{name}/{path}: {what}"));
        }
    }

    /// Two files that are not the same object; `shown` is how a line begins, `name` what they are called.
    fn leaves(&mut self, shown: &str, name: &str, old: (&Path, Object), new: (&Path, Object)) {
        if old.1.executable != new.1.executable {
            let and = if old.1.digest == new.1.digest { "the same bytes, but " } else { "" };
            self.say(format!("{shown}: {and}another executable bit"));
        }
        if old.1.digest == new.1.digest {
            return;
        }
        let compared = self
            .tolerance
            .and_then(|(tolerance, numbers)| numbers.compare(name, old.0, new.0, tolerance));
        let line = match compared {
            None => files(old.0, new.0),
            Some(Err(why)) => format!("{} ({why})", files(old.0, new.0)),
            Some(Ok(Comparison::Unlike(what))) => what,
            Some(Ok(Comparison::Alike { worst, beyond })) => {
                let worst = worst.map(|worst| Deviation { file: shown.to_owned(), ..worst });
                let words = worst.as_ref().map(Deviation::words).unwrap_or_default();
                self.deviates(worst);
                match beyond {
                    0 => return,
                    1 => format!("1 number lies too far from what it was: {words}"),
                    _ => format!(
                        "{beyond} numbers lie too far from what they were, at worst {words}"
                    ),
                }
            }
        };
        self.say(format!("{shown}: {line}"));
    }

    fn deviates(&mut self, worst: Option<Deviation>) {
        let before = self.found.deviation.as_ref().map_or(0.0, |deviation| deviation.excess);
        if let Some(worst) = worst.filter(|worst| worst.excess > before) {
            self.found.deviation = Some(worst);
        }
    }
}

#[derive(PartialEq, Eq)]
enum Leaf {
    File(Object),
    Link(String),
}

/// All leaves of a tree by their path.
fn flat(tree: &Tree) -> BTreeMap<String, Leaf> {
    let mut leaves = BTreeMap::new();
    collect(tree, "", &mut leaves);
    leaves
}

fn collect(tree: &Tree, prefix: &str, leaves: &mut BTreeMap<String, Leaf>) {
    for file in &tree.files {
        let object = Object { executable: file.executable, ..Object::file(file.digest) };
        leaves.insert(format!("{prefix}{}", file.name), Leaf::File(object));
    }
    for link in &tree.symlinks {
        leaves.insert(format!("{prefix}{}", link.name), Leaf::Link(link.target.clone()));
    }
    for dir in &tree.dirs {
        collect(&dir.tree, &format!("{prefix}{}/", dir.name), leaves);
    }
}

/// In which way two files differ: sizes, and the first byte that is not the same.
fn files(before: &Path, after: &Path) -> String {
    match first_difference(before, after) {
        Ok((old, new, at)) => format!("{old} → {new} bytes, first difference at byte {}", at + 1),
        Err(error) => format!("differs ({error})"),
    }
}

fn first_difference(before: &Path, after: &Path) -> io::Result<(u64, u64, u64)> {
    let (old, new) = (File::open(before)?, File::open(after)?);
    let sizes = (old.metadata()?.len(), new.metadata()?.len());
    let (mut old, mut new) = (BufReader::new(old).bytes(), BufReader::new(new).bytes());
    let mut at = 0;
    loop {
        match (old.next().transpose()?, new.next().transpose()?) {
            (Some(one), Some(other)) if one == other => at += 1,
            _ => return Ok((sizes.0, sizes.1, at)),
        }
    }
}
