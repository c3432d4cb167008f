//! What differs between two contents: diffs of text, sizes of the rest, files of folders.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use kiln_cache::{Kind, Object, Store, TreeFile};
use kiln_engine::why::Change;
use similar::TextDiff;

use crate::cli::style;

/// Texts beyond this size are not compared line by line.
const TEXT_BYTES: u64 = 1 << 20;

/// How many files of a folder are told one by one.
const FILES: usize = 20;

/// What was found out about two contents.
#[derive(Default)]
pub struct Found {
    /// One fact a line.
    pub details: Vec<String>,
    /// Unified diffs.
    pub diffs: Vec<String>,
}

/// What differs between two objects, of which the later one lies at `now`, or in the store.
pub fn compare(store: &Store, before: Object, after: Object, now: Option<PathBuf>) -> Found {
    let now = now.unwrap_or_else(|| store.path(&after));
    let mut found = Found::default();
    match (before.kind, after.kind) {
        (Kind::File, Kind::File) if before.digest == after.digest => {
            found.details.push("the same bytes, but another executable bit".to_owned());
        }
        (Kind::File, Kind::File) => {
            files(&mut found, "", &store.path(&before), &now);
        }
        (Kind::Tree, Kind::Tree) => trees(store, &mut found, before, (after, &now)),
        (old, new) => found.details.push(format!("was a {old}, is a {new}")),
    }
    found
}

/// A diff of two values that are text, where one line does not tell the difference.
pub fn texts(change: &Change) -> Found {
    let mut found = Found::default();
    if let (Some(before), Some(after)) = (&change.before, &change.after) {
        let is_long = |text: &str| text.trim_end().contains('\n') || text.chars().count() > 60;
        // A line end that came or went shows in a diff only.
        if is_long(before) || is_long(after) || before.trim_end() == after.trim_end() {
            // The end of a value is remarkable only where one has a line end there and the other has not.
            let same = before.ends_with('\n') == after.ends_with('\n');
            let end = if same && !before.ends_with('\n') { "\n" } else { "" };
            found.diffs.push(diff("", &format!("{before}{end}"), &format!("{after}{end}")));
        }
    }
    found
}

fn diff(name: &str, before: &str, after: &str) -> String {
    let prefix = if name.is_empty() { String::new() } else { format!("{name} ") };
    TextDiff::from_lines(before, after)
        .unified_diff()
        .context_radius(3)
        .header(&format!("{prefix}before"), &format!("{prefix}now"))
        .to_string()
}

fn files(found: &mut Found, name: &str, before: &Path, after: &Path) {
    let (old, new) = (size(before), size(after));
    let prefix = if name.is_empty() { String::new() } else { format!("{name}: ") };
    let (Some(old), Some(new)) = (old, new) else {
        let which = if old.is_none() { "before" } else { "now" };
        found.details.push(format!("{prefix}its bytes {which} are not in the store"));
        return;
    };
    match text(before, old).zip(text(after, new)) {
        Some((old, new)) => found.diffs.push(diff(name, &old, &new)),
        None => {
            found.details.push(format!("{prefix}{} → {}", style::bytes(old), style::bytes(new)))
        }
    }
}

fn size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.len())
}

fn text(path: &Path, bytes: u64) -> Option<String> {
    if bytes > TEXT_BYTES {
        return None;
    }
    String::from_utf8(fs::read(path).ok()?).ok().filter(|text| !text.contains('\0'))
}

fn trees(store: &Store, found: &mut Found, before: Object, (after, now): (Object, &Path)) {
    let (Ok(old), Ok(new)) = (store.tree(&before.digest), store.tree(&after.digest)) else {
        found.details.push("the listing of one of them is not in the store".to_owned());
        return;
    };
    let old: BTreeMap<String, &TreeFile> = old.walk().into_iter().collect();
    let new: BTreeMap<String, &TreeFile> = new.walk().into_iter().collect();
    let paths: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut differing = 0;
    for path in paths {
        let (before_file, after_file) = (old.get(path), new.get(path));
        if before_file
            .zip(after_file)
            .is_some_and(|(old, new)| old.digest == new.digest && old.executable == new.executable)
        {
            continue;
        }
        differing += 1;
        if differing > FILES {
            continue;
        }
        match (before_file, after_file) {
            (None, Some(file)) => {
                found.details.push(format!("{path}: new, {}", style::bytes(file.bytes)))
            }
            (Some(_), None) => found.details.push(format!("{path}: gone")),
            (Some(old), Some(new)) if old.digest == new.digest => {
                found.details.push(format!("{path}: the same bytes, but another executable bit"));
            }
            _ => files(found, path, &store.path(&before).join(path), &now.join(path)),
        }
    }
    if differing == 0 {
        found.details.push("only links or empty folders differ".to_owned());
    } else if differing > FILES {
        found.details.push(format!("… and {} more files", differing - FILES));
    }
}

#[cfg(test)]
mod tests {
    use kiln_engine::why::Part;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        (home, store)
    }

    #[test]
    fn texts_are_shown_as_a_unified_diff() {
        let (_home, store) = store();
        let old = store.put_bytes(b"a\nb\n").unwrap();
        let new = store.put_bytes(b"a\nc\n").unwrap();
        let found = compare(&store, old, new, None);
        assert_eq!(found.diffs, ["--- before\n+++ now\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"]);
        assert!(found.details.is_empty());
    }

    #[test]
    fn a_line_end_that_goes_and_one_that_is_missing_are_seen() {
        let (_home, store) = store();
        let diff = |old: &[u8], new: &[u8]| {
            let (old, new) = (store.put_bytes(old).unwrap(), store.put_bytes(new).unwrap());
            compare(&store, old, new, None).diffs.remove(0)
        };
        let missing = diff(b"a\n", b"a");
        assert!(missing.ends_with("-a\n+a\n\\ No newline at end of file\n"), "{missing}");
        assert!(diff(b"a\r\n", b"a\n").ends_with("-a\r\n+a\n"));
    }

    #[test]
    fn bytes_that_are_no_text_are_told_by_size() {
        let (_home, store) = store();
        let old = store.put_bytes(b"\0").unwrap();
        let new = store.put_bytes(b"\0\0").unwrap();
        assert_eq!(compare(&store, old, new, None).details, ["1 B → 2 B"]);
    }

    #[test]
    fn a_content_that_is_gone_is_said_to_be_gone() {
        let (_home, store) = store();
        let old = Object::file(kiln_cache::Digest::of(b"x"));
        let new = store.put_bytes(b"y").unwrap();
        assert_eq!(
            compare(&store, old, new, None).details,
            ["its bytes before are not in the store"]
        );
    }

    #[test]
    fn a_short_value_needs_no_diff_and_a_script_does() {
        let change = |before: &str, after: &str| Change {
            subject: "run".into(),
            part: Part::Recipe,
            before: Some(before.into()),
            after: Some(after.into()),
            objects: None,
        };
        assert!(texts(&change("60", "100")).diffs.is_empty());
        let found = texts(&change("set -e\ncat x", "set -e\ntac x"));
        assert_eq!(
            found.diffs,
            ["--- before\n+++ now\n@@ -1,2 +1,2 @@\n set -e\n-cat x\n+tac x\n"]
        );
    }
}
