//! Files and folders outside of the store: what they are found to be, and whether a change is seen.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_cache::{
    Digest, FaultPlan, FolderError, Ingest, Refusal, SnapshotError, SourceFolder, Store,
    StoreOptions, Trust,
};
use proptest::prelude::*;

/// Longer than a local clock's margin.
const SETTLED: Duration = Duration::from_millis(60);

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("home")).unwrap();
    (folder, store)
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Replaces the bytes and puts the time of change back.
fn overwrite(path: &Path, bytes: &str) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

/// Digests by path, one file after the other, with nothing of the store's.
fn reference(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Digest>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            reference(&entry.path(), &format!("{name}/"), found);
        } else if entry.file_type().unwrap().is_file() {
            found.insert(name, Digest::of(&fs::read(entry.path()).unwrap()));
        }
    }
}

fn digests(folder: &SourceFolder) -> BTreeMap<String, Digest> {
    folder.files().into_iter().map(|(name, found)| (name, found.digest)).collect()
}

/// A bit of everything, wide enough to be cut into parts.
fn sample(at: &Path) {
    for number in 0..1_300u32 {
        write(&at.join(format!("wide/{number}")), number.to_le_bytes());
    }
    write(&at.join("large"), vec![5; 3 << 20]);
    write(&at.join("deep/er/run"), "#!/bin/sh\n");
    fs::set_permissions(at.join("deep/er/run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(at.join("deep/nothing/in it")).unwrap();
    symlink("../../large", at.join("deep/er/link")).unwrap();
}

#[derive(Debug, Clone)]
enum Thing {
    File(Vec<u8>, bool),
    Folder(BTreeMap<String, Thing>),
    Link,
}

fn thing() -> impl Strategy<Value = Thing> {
    let file = (prop::collection::vec(any::<u8>(), 0..300), any::<bool>());
    let leaf = prop_oneof![
        4 => file.prop_map(|(bytes, executable)| Thing::File(bytes, executable)),
        1 => Just(Thing::Link),
    ];
    leaf.prop_recursive(4, 60, 8, |inner| {
        prop::collection::btree_map("[a-e.é\n]{1,3}", inner, 0..8).prop_map(Thing::Folder)
    })
}

fn make(thing: &Thing, at: &Path) {
    match thing {
        Thing::File(bytes, executable) => {
            fs::write(at, bytes).unwrap();
            let mode = if *executable { 0o700 } else { 0o640 };
            fs::set_permissions(at, fs::Permissions::from_mode(mode)).unwrap();
        }
        Thing::Folder(inner) => {
            fs::create_dir(at).unwrap();
            for (name, thing) in inner.iter().filter(|(name, _)| *name != "." && *name != "..") {
                make(thing, &at.join(name));
            }
        }
        Thing::Link => symlink("a", at).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_folder_is_what_reading_it_file_by_file_and_taking_it_in_says(
        inner in prop::collection::btree_map("[a-e]{1,2}", thing(), 0..8),
    ) {
        let (home, store) = store();
        let path = home.path().join("folder");
        make(&Thing::Folder(inner), &path);
        let found = store.digest_folder(&path, Trust::Cached).unwrap();
        let mut serial = BTreeMap::new();
        reference(&path, "", &mut serial);
        prop_assert_eq!(digests(&found), serial);
        prop_assert_eq!(found.changed_at(&path), None);
        prop_assert_eq!(&store.digest_folder(&path, Trust::Cached).unwrap(), &found);
        let copied = store.snapshot_folder(&path, &found).unwrap();
        let taken = store.ingest(&path, Ingest::Copy).unwrap();
        prop_assert_eq!(found.object(), taken.object);
        prop_assert_eq!(copied, taken);
        prop_assert_eq!((found.bytes(), found.file_count()), (taken.bytes, taken.files));
        prop_assert_eq!(found.tree(), store.tree(&taken.object.digest).unwrap());
        prop_assert!(store.verify().unwrap().problems.is_empty());
    }
}

#[test]
fn a_wide_folder_is_hashed_once_and_then_only_looked_at() {
    let (home, store) = store();
    let path = home.path().join("folder");
    sample(&path);
    std::thread::sleep(SETTLED);
    let first = store.digest_folder(&path, Trust::Cached).unwrap();
    let mut serial = BTreeMap::new();
    reference(&path, "", &mut serial);
    assert_eq!(digests(&first), serial);
    assert_eq!(first.links(), ["deep/er/link"]);
    drop(store);
    let plan = FaultPlan::count();
    let options = StoreOptions { faults: Some(plan.clone()), ..StoreOptions::default() };
    let store = Store::open_with(&home.path().join("home"), options).unwrap();
    let before = plan.passed();
    assert_eq!(store.digest_folder(&path, Trust::Cached).unwrap(), first);
    assert_eq!(plan.passed(), before, "the clock was asked, so a file was read");
    assert_eq!(store.digest_folder(&path, Trust::Rehash).unwrap(), first);
    assert_ne!(plan.passed(), before);
}

#[test]
fn an_empty_folder_is_part_of_what_a_folder_is() {
    let (home, store) = store();
    let path = home.path().join("folder");
    write(&path.join("a"), "a");
    let without = store.digest_folder(&path, Trust::Cached).unwrap();
    fs::create_dir(path.join("empty")).unwrap();
    assert_eq!(without.changed_at(&path), Some(path.clone()));
    let with = store.digest_folder(&path, Trust::Cached).unwrap();
    assert_ne!(with.object(), without.object());
    let copied = store.snapshot_folder(&path, &with).unwrap();
    assert_eq!(copied.object, with.object());
    assert!(store.path(&copied.object).join("empty").is_dir());
}

#[test]
fn an_edit_in_a_folder_within_one_tick_with_times_set_back_is_noticed() {
    let (home, store) = store();
    // On the store's file system, and on one with a clock of its own where there is one.
    for place in [home.path(), Path::new("/dev/shm")] {
        let Ok(folder) = tempfile::tempdir_in(place) else {
            eprintln!("skipped: nothing can be written to {}", place.display());
            continue;
        };
        let path = folder.path();
        for round in 0..40u32 {
            write(&path.join("d/file"), format!("{round:05}"));
            let first = store.digest_folder(path, Trust::Cached).unwrap();
            overwrite(&path.join("d/file"), &format!("{:05}", round + 90_000));
            let second = store.digest_folder(path, Trust::Cached).unwrap();
            let wanted = |text: String| Digest::of(text.as_bytes());
            assert_eq!(digests(&first)["d/file"], wanted(format!("{round:05}")));
            assert_eq!(digests(&second)["d/file"], wanted(format!("{:05}", round + 90_000)));
        }
    }
}

#[test]
fn every_kind_of_change_in_a_folder_is_told_by_its_path() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 9] = [
        ("wide/77", |at| fs::write(at.join("wide/77"), "other").unwrap()),
        ("wide/77", |at| {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(at.join("wide/77"), mode).unwrap();
        }),
        ("wide", |at| fs::remove_file(at.join("wide/1299")).unwrap()),
        ("deep/er", |at| fs::write(at.join("deep/er/more"), "").unwrap()),
        ("deep/nothing/in it", |at| fs::write(at.join("deep/nothing/in it/x"), "").unwrap()),
        ("deep/nothing", |at| fs::remove_dir(at.join("deep/nothing/in it")).unwrap()),
        ("deep/er", |at| {
            fs::remove_file(at.join("deep/er/link")).unwrap();
            symlink("run", at.join("deep/er/link")).unwrap();
        }),
        ("", |at| {
            fs::remove_file(at.join("large")).unwrap();
            fs::create_dir(at.join("large")).unwrap();
        }),
        ("", |at| fs::rename(at, at.with_extension("gone")).unwrap()),
    ];
    let (home, store) = store();
    for (nth, (told, change)) in changes.into_iter().enumerate() {
        let path = home.path().join(nth.to_string());
        sample(&path);
        let found = store.digest_folder(&path, Trust::Cached).unwrap();
        assert_eq!(found.changed_at(&path), None);
        // A second name for a file is no change of it.
        fs::hard_link(path.join("wide/5"), home.path().join(format!("{nth} link"))).unwrap();
        assert_eq!(found.changed_at(&path), None);
        change(&path);
        let told = if told.is_empty() { path.clone() } else { path.join(told) };
        assert_eq!(found.changed_at(&path), Some(told));
    }
}

#[test]
fn a_folder_that_changed_since_it_was_hashed_is_not_copied() {
    let (home, store) = store();
    let path = home.path().join("folder");
    for name in ["small", "large"] {
        let size = if name == "large" { 1 << 20 } else { 10 };
        for at in ["a", "b"] {
            write(&path.join(at).join(name), vec![1; size]);
        }
        let found = store.digest_folder(&path, Trust::Cached).unwrap();
        let changed = path.join("b").join(name);
        for other in [vec![2; size], vec![1; size - 1], vec![1; size + 1]] {
            fs::write(&changed, other).unwrap();
            match store.snapshot_folder(&path, &found) {
                Err(SnapshotError::Changed(told)) => assert_eq!(told, changed),
                other => panic!("{other:?}"),
            }
        }
        fs::remove_file(&changed).unwrap();
        let gone = store.snapshot_folder(&path, &found);
        assert!(matches!(gone, Err(SnapshotError::Changed(_))), "{gone:?}");
        assert!(!store.contains(&found.object()));
    }
}

#[test]
fn what_has_no_place_in_a_tree_is_refused_by_its_path() {
    let (home, store) = store();
    let refused = |name: &str, make: &dyn Fn(&Path)| {
        let path = home.path().join(name);
        write(&path.join("d/a"), "a");
        make(&path);
        match store.digest_folder(&path, Trust::Cached) {
            Err(FolderError::Refused { path, refusal }) => (path, refusal),
            other => panic!("{name}: {other:?}"),
        }
    };
    let (path, refusal) = refused("fifo", &|at| {
        let mode = rustix::fs::Mode::RUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, at.join("d/pipe"), kind, mode, 0).unwrap();
    });
    assert_eq!((path.as_str(), refusal), ("d/pipe", Refusal::Special("FIFO")));
    let (path, refusal) = refused("link", &|at| symlink("../../x", at.join("d/out")).unwrap());
    assert_eq!((path.as_str(), refusal), ("d/out", Refusal::Escapes("../../x".into())));
    let (path, refusal) = refused("through", &|at| {
        symlink("..", at.join("d/up")).unwrap();
        symlink("up/..", at.join("d/out")).unwrap();
    });
    assert_eq!((path.as_str(), refusal), ("d/out", Refusal::Escapes("up/..".into())));
    let (_, refusal) = refused("name", &|at| {
        use std::os::unix::ffi::OsStrExt as _;
        fs::write(at.join("d").join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
    });
    assert_eq!(refusal, Refusal::Name);
    let (_, refusal) = refused("deep", &|at| {
        let deep: PathBuf = at.join(["d"; 140].join("/"));
        fs::create_dir_all(deep).unwrap();
    });
    assert_eq!(refusal, Refusal::Depth);
}

#[test]
fn files_of_one_folder_are_hashed_together_and_links_are_not_followed() {
    let (home, store) = store();
    let path = home.path().join("folder");
    sample(&path);
    symlink("wide", path.join("to")).unwrap();
    let names: Vec<String> = (0..1_300).map(|number| number.to_string()).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.insert(3, "absent");
    let found = store.digest_files(&path.join("wide"), &names, Trust::Cached).unwrap();
    for (name, found) in names.iter().zip(&found) {
        let wanted = fs::read(path.join("wide").join(name)).ok().map(|bytes| Digest::of(&bytes));
        assert_eq!(found.as_ref().ok().map(|found| found.digest), wanted, "{name}");
    }
    let kinds = store.digest_files(&path, &["large", "wide", "to"], Trust::Cached).unwrap();
    assert_eq!(kinds.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false]);
    assert!(store.digest_files(&path.join("to"), &["1"], Trust::Cached).is_err());
}
