//! What is left when the disk fails: full at each operation, failing at each operation, read-only, and with a bit
//! flipped in each file.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is meant")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln_cache::{
    Cost, Determinism, Digest, FaultPlan, GcOptions, Ingest, Isolation, Notice, Object, Output,
    Precedence, ReadOnly, Realisation, Root, Store, StoreOptions, Trust,
};
use proptest::prelude::*;

fn open(folder: &Path) -> Store {
    Store::open(&folder.join("home")).unwrap()
}

fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn made(name: &str, object: Object, log: Option<Object>) -> Realisation {
    Realisation {
        key: key(name),
        attempt: 0,
        recipe: "r".into(),
        step: name.into(),
        builder: "command@1".into(),
        outputs: vec![Output {
            name: "out".into(),
            object,
            bytes: 3,
            extension: String::new(),
            alias: None,
        }],
        verdict: None,
        isolation: Isolation::Full,
        determinism: Determinism::Bitwise,
        manifest: "{}".into(),
        log,
        refs: Vec::new(),
        cost: Cost::default(),
        boot: String::new(),
        group: 0,
    }
}

fn root(label: &str, keys: Vec<Digest>) -> Root {
    let data = serde_json::Value::Null;
    Root { label: label.into(), keys, objects: Vec::new(), data, bytes: Vec::new(), at: 1 }
}

/// A bit of everything that a build does, and a collection.
fn build(
    folder: &Path,
    name: &str,
    faults: Option<FaultPlan>,
) -> Result<(), Box<dyn std::error::Error>> {
    let store =
        Store::open_with(&folder.join("home"), StoreOptions { faults, ..StoreOptions::default() })?;
    let session = store.session()?;
    session.hold_key(&key(name))?;
    let source = folder.join("source");
    fs::write(&source, name)?;
    store.snapshot_file(&source, Trust::Cached)?;
    let lock = store.try_lock_action(&key(name))?;
    let scratch = store.scratch_dir()?;
    let out = scratch.path().join("out");
    fs::create_dir_all(out.join("d"))?;
    fs::write(out.join("d/a"), name)?;
    fs::hard_link(out.join("d/a"), out.join("b"))?;
    let tree = store.ingest(&out, Ingest::Move)?.object;
    let log = store.put_bytes(b"log")?;
    store.record(made(name, tree, Some(log)), Precedence::Again)?;
    drop(lock);
    store.set_root("project/x", &root("x", vec![key("before"), key(name)]))?;
    store.gc(GcOptions::default())?;
    store.flush()?;
    Ok(())
}

/// Fails the build at each of its operations in turn, and looks at what is left.
fn fail_at_each(fault: fn(u64) -> FaultPlan) -> u64 {
    let count = FaultPlan::count();
    let folder = tempfile::tempdir().unwrap();
    build(folder.path(), "before", None).unwrap();
    build(folder.path(), "now", Some(count.clone())).unwrap();
    let mut failed = 0;
    for at in 1..=count.passed() {
        let folder = tempfile::tempdir().unwrap();
        build(folder.path(), "before", None).unwrap();
        let outcome = build(folder.path(), "now", Some(fault(at)));
        failed += u64::from(outcome.is_err());
        let store = open(folder.path());
        assert_eq!(store.take_notices(), [] as [Notice; 0], "at {at}: {outcome:?}");
        let report = store.verify().unwrap();
        assert!(report.problems.is_empty(), "at {at}: {outcome:?}: {report:#?}");
        // Nothing is lost, and nothing is half recorded.
        let whole = |name: &str| {
            let record = store.realisation(&key(name)).unwrap();
            record.map(|record| record.objects().all(|object| store.contains(&object)))
        };
        assert_eq!(whole("before"), Some(true), "at {at}");
        assert!(whole("now").is_none_or(|whole| whole), "at {at}");
        drop(store);
        build(folder.path(), "now", None).unwrap();
        let store = open(folder.path());
        store.sweep();
        assert!(store.verify().unwrap().problems.is_empty(), "at {at}, built again");
        let left = fs::read_dir(folder.path().join("home/tmp")).unwrap().flatten();
        let left: Vec<_> =
            left.map(|entry| entry.file_name()).filter(|name| name != "locks").collect();
        assert!(left.is_empty(), "at {at}: {left:?}");
        assert_eq!(store.du().unwrap().trash.count, 0, "at {at}");
    }
    failed
}

#[test]
fn a_disk_that_is_full_at_any_operation_costs_nothing_that_was_there() {
    let failed = fail_at_each(FaultPlan::full_at);
    assert!(failed > 25, "only {failed} failed");
}

#[test]
fn an_operation_that_fails_costs_nothing_that_was_there() {
    let failed = fail_at_each(FaultPlan::fail_at);
    assert!(failed > 25, "only {failed} failed");
}

#[test]
fn the_collector_works_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    build(folder.path(), "before", None).unwrap();
    let store = open(folder.path());
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "in a tree").unwrap();
    let tree = store.ingest(&tree, Ingest::Copy).unwrap().object;
    let garbage: Vec<Object> =
        (0..20u8).map(|number| store.put_bytes(&[number; 40]).unwrap()).chain([tree]).collect();
    store.record(made("garbage", garbage[0], None), Precedence::First).unwrap();
    store.remove_root("project/x").unwrap();
    drop(store);

    let full = StoreOptions { faults: Some(FaultPlan::full_at(1)), ..StoreOptions::default() };
    let store = Store::open_with(&folder.path().join("home"), full).unwrap();
    // A tree cannot go in one step, so that it needs a name in the trash; what can, goes.
    let gone = || garbage[..20].iter().filter(|object| !store.contains(object)).count();
    drop(store.gc(GcOptions::default()));
    assert_eq!(store.realisation(&key("garbage")).unwrap(), None);
    assert!(gone() > 0);
    drop(store);
    let store = open(folder.path());
    store.gc(GcOptions::default()).unwrap();
    assert!(garbage.iter().all(|object| !store.contains(object)));
    assert!(store.verify().unwrap().problems.is_empty());
}

/// Everything below, folders and files.
fn everything(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// What can be told of a file without reading it.
fn looks(home: &Path) -> Vec<(PathBuf, u32, u64, i64)> {
    use std::os::unix::fs::MetadataExt;
    everything(home)
        .into_iter()
        .map(|path| {
            let look = path.symlink_metadata().unwrap();
            (path, look.mode(), look.len(), look.mtime_nsec() + look.mtime() * 1_000_000_000)
        })
        .collect()
}

#[test]
fn a_store_without_permission_to_write_is_served_and_stays_as_it_is() {
    if rustix_is_root() {
        eprintln!("skipped: modes do not keep root from writing");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    build(folder.path(), "before", None).unwrap();
    let home = folder.path().join("home");
    let folders: Vec<PathBuf> =
        everything(&home).into_iter().filter(|path| path.is_dir()).chain([home.clone()]).collect();
    let set = |mode| {
        for folder in &folders {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set(0o555);
    let before = looks(&home);
    let store = open(folder.path());
    assert!(matches!(store.read_only(), Some(ReadOnly::Denied(_))), "{:?}", store.read_only());
    let session = store.session().unwrap();
    session.hold_key(&key("before")).unwrap();
    let record = store.realisation(&key("before")).unwrap().unwrap();
    assert!(record.objects().all(|object| store.contains(&object)));
    let source = folder.path().join("source");
    assert_eq!(store.digest_file(&source, Trust::Cached).unwrap().digest, Digest::of(b"before"));
    store.copy_out(&record.outputs[0].object, &folder.path().join("copy")).unwrap();
    assert_eq!(fs::read(folder.path().join("copy/b")).unwrap(), b"before");
    let refused = |error: &dyn std::error::Error| {
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        assert!(cause.contains("can only be read") && cause.contains("may not write"), "{cause}");
    };
    refused(&store.put_bytes(b"new").unwrap_err());
    refused(&store.scratch_dir().unwrap_err());
    refused(
        &store.record(made("new", record.outputs[0].object, None), Precedence::First).unwrap_err(),
    );
    assert!(store.set_root("x", &root("x", vec![])).is_err());
    assert!(store.gc(GcOptions::default()).is_err());
    store.sweep();
    store.flush().unwrap();
    assert!(store.verify().unwrap().problems.is_empty());
    drop(session);
    assert_eq!(store.take_notices(), [] as [Notice; 0]);
    drop(store);
    assert_eq!(looks(&home), before);
    set(0o755);
}

fn rustix_is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A store with two records under one key, objects of all kinds, a root, and an index.
fn sample(folder: &Path) -> Vec<(&'static str, Vec<Object>)> {
    build(folder, "before", None).unwrap();
    build(folder, "now", None).unwrap();
    let store = open(folder);
    let program = folder.join("program");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let program = store.ingest(&program, Ingest::Copy).unwrap().object;
    store.record(made("now", program, None), Precedence::Again).unwrap();
    let objects = |name| {
        let attempts = store.attempts(&key(name)).unwrap();
        attempts.iter().map(|attempt| attempt.outputs[0].object).collect()
    };
    ["before", "now"].map(|name| (name, objects(name))).into()
}

/// What a flipped bit in this file may do to the store is seen, mended or made again, and a result that is served
/// is the one that was made.
fn flip(path: &Path, home: &Path, bit: usize, truth: &[(&str, Vec<Object>)]) {
    let mut bytes = fs::read(path).unwrap();
    if bytes.is_empty() {
        return;
    }
    let bit = bit % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    let mode = fs::metadata(path).unwrap().permissions();
    let folder = path.parent().unwrap();
    let above = fs::metadata(folder).unwrap().permissions();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, mode).unwrap();
    fs::set_permissions(folder, above).unwrap();
    let what = path.strip_prefix(home).unwrap();
    let store = match Store::open(home) {
        Ok(store) => store,
        Err(error) => {
            assert!(what.starts_with("format"), "{}: {error}", what.display());
            return;
        }
    };
    let report = store.verify().unwrap();
    let content = ["store", "realisations", "roots"].iter().any(|part| what.starts_with(part));
    assert!(!report.problems.is_empty() || !content, "{}, bit {bit}: not found", what.display());
    for (name, made) in truth {
        if let Some(record) = store.realisation(&key(name)).unwrap() {
            let served = (record.key, record.outputs[0].object);
            assert!(made.iter().any(|object| served == (key(name), *object)), "{}", what.display());
        }
    }
    // Either the collector is sure of what must be kept, or it removes nothing.
    match store.gc(GcOptions::default()) {
        Ok(_) => {
            let record = store.realisation(&key("before")).unwrap();
            assert!(record.is_some() || what.starts_with("realisations"), "{}", what.display());
        }
        Err(error) => assert!(what.starts_with("roots"), "{}: {error}", what.display()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("KILN_TEST_CASES").map_or(48, |cases| cases.parse().unwrap()),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_flipped_bit_in_any_file_of_the_store_is_found_or_harmless(
        which in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()
    ) {
        let folder = tempfile::tempdir().unwrap();
        let truth = sample(folder.path());
        let home = folder.path().join("home");
        let files: Vec<PathBuf> =
            everything(&home).into_iter().filter(|path| path.symlink_metadata().unwrap().is_file()).collect();
        flip(&files[which.index(files.len())], &home, bit.index(1 << 40), &truth);
    }
}

#[test]
fn what_a_living_process_of_another_kernel_has_written_is_not_in_doubt() {
    let folder = tempfile::tempdir().unwrap();
    let of = |boot: &str| {
        let options = StoreOptions { boot: Some(boot.to_owned()), ..StoreOptions::default() };
        Store::open_with(&folder.path().join("home"), options).unwrap()
    };
    let marks = || fs::read_dir(folder.path().join("home/unflushed")).unwrap().count();
    let living = of("one");
    living.put_bytes(b"abc").unwrap();
    drop(of("two"));
    assert_eq!(marks(), 1, "its mark is its own");
    // Gone without a flush: now nobody vouches for what it wrote.
    drop(living);
    assert_eq!(marks(), 1);
    drop(of("three"));
    assert_eq!(marks(), 0, "all of it was looked at");
}
