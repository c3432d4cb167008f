//! Knowing that records are the ones that were seen.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::time::{Duration, Instant};

use kiln_cache::{
    Cost, Determinism, Digest, Isolation, Object, Output, Precedence, Realisation, RecordsMark,
    Store,
};

fn fresh() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("home")).unwrap();
    (folder, store)
}

fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn made(name: &str, object: Object) -> Realisation {
    let output =
        Output { name: "out".into(), object, bytes: 3, extension: String::new(), alias: None };
    Realisation {
        key: key(name),
        attempt: 0,
        recipe: "r".into(),
        step: name.into(),
        builder: "command@1".into(),
        outputs: vec![output],
        verdict: None,
        isolation: Isolation::Full,
        determinism: Determinism::Bitwise,
        manifest: String::new(),
        log: None,
        refs: vec![],
        cost: Cost::default(),
        boot: String::new(),
        group: 0,
    }
}

/// A mark that is taken once the folders of records are at rest.
fn settled(store: &Store) -> RecordsMark {
    let began = Instant::now();
    loop {
        let mark = store.mark_records().unwrap();
        if store.untouched(&mark).covers_all() {
            return mark;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "the folders never come to rest");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn writing_replacing_and_removing_a_record_shows_and_nothing_else_does() {
    let (folder, store) = fresh();
    let object = store.put_bytes(b"abc").unwrap();
    let key = key("k");
    let mark = settled(&store);
    store.record(made("k", object), Precedence::First).unwrap();
    assert!(!store.untouched(&mark).covers(&key), "a new record shows");
    assert!(!store.untouched(&mark).covers_all());

    let mark = settled(&store);
    store.realisation(&key).unwrap().unwrap();
    store.put_bytes(b"another object").unwrap();
    assert!(store.untouched(&mark).covers_all(), "reading shows nothing");
    store.record(made("k", object), Precedence::Again).unwrap();
    assert!(!store.untouched(&mark).covers(&key), "a further attempt shows");

    let mark = settled(&store);
    let hex = key.to_string();
    fs::remove_file(folder.path().join("home/realisations").join(&hex[..2]).join(&hex)).unwrap();
    assert!(!store.untouched(&mark).covers(&key), "a record that somebody removed shows");
}

#[test]
fn a_folder_of_records_that_was_not_at_rest_is_not_believed() {
    let (_folder, store) = fresh();
    let object = store.put_bytes(b"abc").unwrap();
    store.record(made("k", object), Precedence::First).unwrap();
    let mark = store.mark_records().unwrap();
    assert!(!store.untouched(&mark).covers(&key("k")));
}

#[test]
fn a_records_checksum_is_that_of_what_is_read_with_the_index_and_without() {
    let (_folder, store) = fresh();
    let object = store.put_bytes(b"abc").unwrap();
    assert_eq!(store.record_checksum(&key("k")).unwrap(), None);
    let first =
        store.record(made("k", object), Precedence::First).unwrap().realisation().checksum();
    assert_eq!(store.record_checksum(&key("k")).unwrap(), Some(first));
    store.flush().unwrap();
    assert_eq!(store.record_checksum(&key("k")).unwrap(), Some(first));
    let second =
        store.record(made("k", object), Precedence::Again).unwrap().realisation().checksum();
    assert_ne!(first, second, "a further attempt is another record");
    assert_eq!(store.record_checksum(&key("k")).unwrap(), Some(second));
}
