//! How two objects differ, file by file.
//!
//! It reads the store and is unaware of steps and keys.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
};

use kiln_cache::{Kind, Object, Store, Tree};

/// Differences from `before` to `after`, one a line, each beginning with `name` and the path in it.
pub fn between(store: &Store, name: &str, before: Object, after: Object) -> Vec<String> {
    let (old, new) = (store.path(&before), store.path(&after));
    match (before.kind, after.kind) {
        (Kind::File, Kind::File) if before.digest == after.digest => {
            vec![format!("{name}: the same bytes, but another executable bit")]
        }
        (Kind::File, Kind::File) => vec![format!("{name}: {}", files(&old, &new))],
        (Kind::Tree, Kind::Tree) => {
            let trees =
                store.tree(&before.digest).and_then(|old| Ok((old, store.tree(&after.digest)?)));
            match trees {
                Ok((old_tree, new_tree)) => listings(name, (&old, &old_tree), (&new, &new_tree)),
                Err(error) => vec![format!("{name}: {before} → {after} ({error})")],
            }
        }
        _ => vec![format!("{name}: was a {}, is a {}", before.kind, after.kind)],
    }
}

fn listings(name: &str, old: (&Path, &Tree), new: (&Path, &Tree)) -> Vec<String> {
    let (before, after) = (flat(old.1), flat(new.1));
    let paths: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut lines = Vec::new();
    for path in paths {
        let line = match (before.get(path), after.get(path)) {
            (Some(one), Some(other)) if one == other => continue,
            (Some(Leaf::File(one)), Some(Leaf::File(other))) if one.digest == other.digest => {
                "the same bytes, but another executable bit".to_owned()
            }
            (Some(Leaf::File(_)), Some(Leaf::File(_))) => {
                files(&old.0.join(path), &new.0.join(path))
            }
            (Some(_), None) => "gone".to_owned(),
            (None, Some(_)) => "new".to_owned(),
            _ => "of another kind".to_owned(),
        };
        lines.push(format!("{name}/{path}: {line}"));
    }
    lines
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
