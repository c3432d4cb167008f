//! What the collector takes when it has limits, what it leaves behind, and what a killed build keeps.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sample;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use kiln_cache::{
    Cause, Digest, GcOptions, GcReport, Item, Object, Precedence, Realisation, Store, Tombstone,
};
use sample::{fresh, key, made, open, root};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn record_path(store: &Store, name: &str) -> PathBuf {
    let hex = key(name).to_string();
    store.home().join("realisations").join(&hex[..2]).join(&hex)
}

/// Says that a record was last used so many days ago.
fn used(store: &Store, name: &str, days: u32) {
    set_age(&record_path(store, name), days);
}

fn set_age(path: &Path, days: u32) {
    // The time of a file that cannot be written to is set through a handle that only reads it.
    File::open(path).unwrap().set_modified(SystemTime::now() - DAY * days).unwrap();
}

fn days_ago(days: u32) -> i64 {
    let then = (SystemTime::now() - DAY * days).duration_since(SystemTime::UNIX_EPOCH);
    then.unwrap().as_secs().try_into().unwrap()
}

/// Realisations of these names, each with one object of its own of 1000 bytes, each used one day
/// before the next.
fn aged(store: &Store, names: &[&str]) -> Vec<Object> {
    let days = (1..=names.len() as u32).rev();
    let objects = names.iter().zip(days).map(|(name, days)| {
        let object = store.put_bytes(format!("{name:1000}").as_bytes()).unwrap();
        store.record(made(name, object), Precedence::First).unwrap();
        used(store, name, days);
        object
    });
    objects.collect()
}

fn gone(report: &GcReport) -> Vec<Digest> {
    let keys = report.removed.iter().filter_map(|removed| match removed.item {
        Item::Realisation(key) => Some(key),
        Item::Object(_) => None,
    });
    keys.collect()
}

fn keys(names: &[&str]) -> Vec<Digest> {
    let mut keys: Vec<Digest> = names.iter().map(|name| key(name)).collect();
    keys.sort();
    keys
}

fn keep(bytes: u64) -> GcOptions {
    GcOptions { keep_bytes: Some(bytes), ..GcOptions::default() }
}

#[test]
fn with_a_budget_what_was_used_least_recently_goes_first_and_no_more_than_has_to() {
    let (folder, store) = fresh();
    let objects = aged(&store, &["a", "b", "c", "d"]);
    drop(store);
    let store = open(folder.path());
    let dry = store.gc(GcOptions { dry_run: true, ..keep(3_000) }).unwrap();
    assert_eq!(gone(&dry), keys(&["a", "b"]), "each record takes some bytes itself");
    assert!(dry.bytes_kept <= 3_000 && dry.bytes_held == 0, "{dry:?}");
    assert!(store.contains(&objects[0]));
    let wet = store.gc(keep(3_000)).unwrap();
    assert_eq!(wet, dry);
    let there: Vec<bool> = objects.iter().map(|object| store.contains(object)).collect();
    assert_eq!(there, [false, false, true, true]);
    for kept in &wet.kept {
        assert!(kept.held_by.is_empty() && kept.last_use.is_some(), "{kept:?}");
    }
    assert_eq!(wet.removed.iter().filter(|one| one.cause != Cause::OverBudget).count(), 0);
    assert!(store.gc(keep(wet.bytes_kept)).unwrap().removed.is_empty());
    assert_eq!(gone(&store.gc(keep(wet.bytes_kept - 1)).unwrap()), keys(&["c"]));
    assert_eq!(gone(&store.gc(keep(0)).unwrap()), keys(&["d"]));
    assert_eq!(store.gc(keep(0)).unwrap().bytes_kept, 0);
}

#[test]
fn neither_roots_nor_what_runs_ever_give_way_to_a_limit() {
    let (folder, store) = fresh();
    let objects = aged(&store, &["rooted", "running", "free"]);
    store.set_root("pin/x", &root("pin x", vec![key("rooted")], vec![])).unwrap();
    drop(store);
    let builder = open(folder.path());
    let session = builder.session().unwrap();
    session.hold_key(&key("running")).unwrap();
    let store = open(folder.path());
    let all = GcOptions { unused_since: Some(i64::MAX), ..keep(0) };
    let report = store.gc(all).unwrap();
    assert_eq!(gone(&report), keys(&["free"]));
    assert!(store.contains(&objects[0]) && store.contains(&objects[1]));
    assert_eq!(report.bytes_kept, report.bytes_held);
    assert!(report.bytes_held > 2_000, "{report:?}");
    assert!(report.kept.iter().all(|kept| !kept.held_by.is_empty() && kept.last_use.is_none()));
}

#[test]
fn with_an_age_what_was_used_since_stays_and_the_two_limits_add_up() {
    let (folder, store) = fresh();
    aged(&store, &["a", "b", "c", "d"]);
    drop(store);
    let store = open(folder.path());
    let since = GcOptions { unused_since: Some(days_ago(3) - 1000), ..GcOptions::default() };
    let report = store.gc(GcOptions { dry_run: true, ..since }).unwrap();
    assert_eq!(gone(&report), keys(&["a"]));
    assert!(report.removed.iter().all(|one| one.cause == Cause::Unused));
    // The oldest goes for its age, the next one for the budget.
    let report = store.gc(GcOptions { keep_bytes: Some(3_000), ..since }).unwrap();
    let cause = |name: &str| {
        let mut found = report.removed.iter();
        found.find(|one| one.item == Item::Realisation(key(name))).map(|one| one.cause)
    };
    let causes = ["a", "b", "c", "d"].map(cause);
    assert_eq!(causes, [Some(Cause::Unused), Some(Cause::OverBudget), None, None]);
}

#[test]
fn what_two_realisations_need_goes_with_the_last_of_them_and_weighs_once() {
    let (folder, store) = fresh();
    let shared = store.put_bytes(&[7; 5_000]).unwrap();
    for (name, days) in [("old", 3), ("new", 1)] {
        store.record(made(name, shared), Precedence::First).unwrap();
        used(&store, name, days);
    }
    let orphan = store.put_bytes(&[8; 5_000]).unwrap();
    drop(store);
    let store = open(folder.path());
    let all = store.gc(GcOptions { dry_run: true, ..keep(u64::MAX) }).unwrap().bytes_kept;
    assert!((10_000..12_000).contains(&all), "{all}");
    let report = store.gc(keep(all - 1)).unwrap();
    assert_eq!(gone(&report), keys(&["old"]));
    assert!(store.contains(&shared) && store.contains(&orphan));
    let report = store.gc(keep(report.bytes_kept - 1)).unwrap();
    assert_eq!(gone(&report), keys(&["new"]));
    assert!(!store.contains(&shared));
    assert!(store.contains(&orphan), "nothing names it, and it was placed just now");
    store.gc(keep(0)).unwrap();
    assert!(!store.contains(&orphan));
}

fn age_of_record(store: &Store, name: &str) -> Duration {
    let modified = fs::metadata(record_path(store, name)).unwrap().modified().unwrap();
    modified.elapsed().unwrap_or_default()
}

#[test]
fn what_a_root_lets_go_of_was_of_use_until_then() {
    let (_folder, store) = fresh();
    aged(&store, &["a", "b", "c"]);
    store.set_root("p", &root("p", keys(&["a", "b", "c"]), vec![])).unwrap();
    assert!(age_of_record(&store, "a") > DAY);
    store.set_root("p", &root("p", keys(&["b", "c"]), vec![])).unwrap();
    assert!(age_of_record(&store, "a") < DAY / 2);
    assert!(age_of_record(&store, "b") > DAY, "it is held still");
    // A record whose time was set reads as before, from the index or past it.
    assert_eq!(store.realisation(&key("a")).unwrap().unwrap().step, "a");
    assert_eq!(store.verify().unwrap().problems, []);

    let file = store.home().join("roots/p");
    set_age(&file, 10);
    used(&store, "b", 5);
    used(&store, "c", 20);
    assert!(store.remove_idle_root("p").unwrap());
    let days = |name: &str| age_of_record(&store, name).as_secs() / DAY.as_secs();
    assert_eq!((days("b"), days("c")), (5, 10), "the later of both times");
    store.set_root("p", &root("p", keys(&["c"]), vec![])).unwrap();
    store.remove_root("p").unwrap();
    assert_eq!(days("c"), 0);
}

#[test]
fn a_root_of_use_is_touched_once_a_day() {
    let (_folder, store) = fresh();
    store.set_root("p", &root("p", vec![], vec![])).unwrap();
    let file = store.home().join("roots/p");
    let age = || fs::metadata(&file).unwrap().modified().unwrap().elapsed().unwrap_or_default();
    set_age(&file, 3);
    store.touch_root("p").unwrap();
    assert!(age() < DAY / 2);
    File::open(&file).unwrap().set_modified(SystemTime::now() - DAY / 2).unwrap();
    store.touch_root("p").unwrap();
    assert!(age() > DAY / 3, "it was touched less than a day ago");
    store.touch_root("none").unwrap();
    assert!(!store.home().join("roots/none").exists());
}

#[test]
fn what_was_collected_leaves_a_tombstone_until_it_is_made_again() {
    let (folder, store) = fresh();
    let object = aged(&store, &["a"])[0];
    drop(store);
    let store = open(folder.path());
    let (record, output) = (Item::Realisation(key("a")), Item::Object(object));
    store.gc(GcOptions { dry_run: true, ..GcOptions::default() }).unwrap();
    assert_eq!((store.tombstone(&record), store.tombstone(&output)), (None, None));
    store.gc(GcOptions::default()).unwrap();
    let Some(Tombstone { item, at, cause }) = store.tombstone(&record) else { panic!("none") };
    assert_eq!((item, cause), (record, Cause::Unheld));
    assert!((at - days_ago(0)).abs() < 1_000, "{at}");
    assert_eq!(store.tombstone(&output).unwrap().cause, Cause::Unheld);
    // Another process knows it, and one that makes the thing again takes it away.
    let other = open(folder.path());
    assert!(other.tombstone(&record).is_some());
    aged(&other, &["a"]);
    assert_eq!((store.tombstone(&record), store.tombstone(&output)), (None, None));
    drop(other);
    fs::remove_file(record_path(&store, "a")).unwrap();
    fs::remove_file(store.path(&object)).unwrap();
    assert_eq!(store.tombstone(&record), None, "this time it was not the collector");
    assert_eq!(store.tombstone(&output), None);
    assert_eq!(store.verify().unwrap().problems, []);
}

#[test]
fn a_damaged_record_that_was_collected_is_remembered_as_damaged() {
    let (folder, store) = fresh();
    aged(&store, &["a"]);
    let path = record_path(&store, "a");
    drop(store);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "torn").unwrap();
    let store = open(folder.path());
    store.gc(GcOptions::default()).unwrap();
    let tombstone = store.tombstone(&Item::Realisation(key("a"))).unwrap();
    assert_eq!(tombstone.cause, Cause::Damaged);
}

const KILLED: &str = "KILN_CACHE_TEST_KILLED";

/// What the killed process does; only does it when it is asked to.
#[test]
fn a_session_to_be_killed() {
    let Ok(folder) = std::env::var(KILLED) else { return };
    let store = open(Path::new(&folder));
    let owner = Digest::of(b"owner");
    let _session = store.session_of(&owner).unwrap();
    let output = store.put_bytes(b"of many hours").unwrap();
    let log = store.put_bytes(b"its log").unwrap();
    let made = Realisation { log: Some(log), ..made("long", output) };
    store.record(made, Precedence::First).unwrap();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
        .unwrap();
    std::thread::park();
}

#[test]
fn what_a_killed_build_had_finished_is_kept_until_its_owner_has_built_again() {
    let (folder, store) = fresh();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_session_to_be_killed", "--test-threads=1"])
        .env(KILLED, folder.path())
        .output()
        .unwrap()
        .status;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    let all = GcOptions { unused_since: Some(i64::MAX), ..keep(0) };
    let is_there = || {
        let record = store.realisation(&key("long")).unwrap();
        record.is_some_and(|record| record.objects().all(|object| store.contains(&object)))
    };
    for _ in 0..2 {
        let report = store.gc(all).unwrap();
        assert!(report.removed.is_empty(), "{report:?}");
        let [label] = &report.kept[0].held_by[..] else { panic!("{report:?}") };
        assert!(label.contains("killed"), "{label}");
        // Others may build and sweep meanwhile.
        store.sweep();
        store.forget_killed(&Digest::of(b"somebody else")).unwrap();
        assert!(is_there());
    }
    store.forget_killed(&Digest::of(b"owner")).unwrap();
    assert_eq!(store.gc(all).unwrap().removed.len(), 3);
    assert!(!is_there());
}

#[test]
fn an_owner_who_does_not_come_back_is_not_waited_for_for_ever() {
    let (folder, store) = fresh();
    aged(&store, &["a", "b"]);
    drop(store);
    let hold = |name: &str, days: u32| {
        let path = folder.path().join(format!("home/tmp/hold-{}-1-1-{days}", key("owner")));
        fs::write(&path, format!("key {}\nkey garbage\nobj", key(name))).unwrap();
        set_age(&path, days);
        path
    };
    let (stale, fresh) = (hold("a", 31), hold("b", 29));
    let store = open(folder.path());
    assert_eq!(gone(&store.gc(GcOptions::default()).unwrap()), keys(&["a"]));
    store.sweep();
    assert!(!stale.exists() && fresh.exists());
}
