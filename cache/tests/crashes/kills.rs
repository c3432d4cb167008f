//! `kill -9` at every operation of the store that changes the disk.
//!
//! A scenario prepares a store, then does its work in a process of its own that is killed at the first point,
//! then again from the start at the second, and so on until it comes through.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use kiln_cache::{
    Digest, FaultPlan, GcOptions, Ingest, Item, Object, Precedence, Realisation, Store,
    StoreOptions, Trust,
};

use crate::sample::{key, made, open, remove, root};

const SCENARIO: &str = "KILN_CACHE_TEST_SCENARIO";
const FAULT: &str = "KILN_CACHE_TEST_FAULT";
const HOME: &str = "KILN_CACHE_TEST_HOME";

/// Something that a process does with a store.
struct Scenario {
    name: &'static str,
    /// What was done before.
    prepare: fn(&Path),
    /// What is done, in a process that may be killed at any point.
    act: fn(&Path, &Store),
    /// What holds then, whatever was done of it.
    holds: fn(&Path, &Store, at: u64),
    /// Whether results may be known whose bytes are gone.
    misses: bool,
    /// How many points there are at least.
    points: u64,
}

const SCENARIOS: [Scenario; 7] = [BUILD, COLLECT, SHRINK, INDEX, REBOOT, SWEEP, ROOTS];

/// What the killed process does; only does it when it is asked to.
#[test]
fn a_process_to_be_killed() {
    let variable = |name| std::env::var(name).ok();
    let (Some(name), Some(fault), Some(folder)) =
        (variable(SCENARIO), variable(FAULT), variable(HOME))
    else {
        return;
    };
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap();
    run(scenario, Path::new(&folder), Some(fault.parse().unwrap()));
}

fn run(scenario: &Scenario, folder: &Path, faults: Option<FaultPlan>) {
    let options = StoreOptions { faults, ..StoreOptions::default() };
    let store = Store::open_with(&folder.join("home"), options).unwrap();
    (scenario.act)(folder, &store);
}

/// Kills it everywhere.
fn everywhere(scenario: &Scenario) {
    let own = std::env::current_exe().unwrap();
    for at in 1.. {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        (scenario.prepare)(folder);
        let output = Command::new(&own)
            .args(["--exact", "kills::a_process_to_be_killed", "--test-threads=1"])
            .envs([(SCENARIO, scenario.name), (FAULT, &format!("kill@{at}"))])
            .env(HOME, folder)
            .output()
            .unwrap();
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{at}: {output:?}");
        let store = open(folder);
        assert_sound(&store, scenario.misses, at);
        (scenario.holds)(folder, &store, at);
        drop(store);
        let store = open(folder);
        store.sweep();
        assert_swept(folder, &store, at);
        assert_sound(&store, scenario.misses, at);
        (scenario.holds)(folder, &store, at);
        drop(store);
        // Whoever comes next does it all.
        run(scenario, folder, None);
        let store = open(folder);
        assert_sound(&store, false, at);
        (scenario.holds)(folder, &store, at);
        store.sweep();
        assert_swept(folder, &store, at);
        if !killed {
            assert!(at > scenario.points, "only {} points", at - 1);
            break;
        }
    }
}

fn assert_sound(store: &Store, misses: bool, at: u64) {
    let mut problems = store.verify().unwrap().problems;
    problems.retain(|problem| !(misses && problem.what.starts_with("its output `")));
    assert!(problems.is_empty(), "killed at {at}: {problems:#?}");
}

fn assert_swept(folder: &Path, store: &Store, at: u64) {
    let left: Vec<_> = fs::read_dir(folder.join("home/tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "locks")
        .collect();
    assert!(left.is_empty(), "killed at {at}: {left:?}");
    assert_eq!(store.du().unwrap().trash.count, 0, "killed at {at}");
}

/// Whether a key has a result all of which is there.
fn is_whole(store: &Store, name: &str) -> bool {
    let record = store.realisation(&key(name)).unwrap();
    record.is_some_and(|record| record.objects().all(|object| store.contains(&object)))
}

const BUILD: Scenario = Scenario {
    name: "build",
    prepare: |folder| build(folder, &open(folder)),
    act: build,
    holds: |_, store, at| assert!(is_whole(store, "k"), "killed at {at}: the build before is lost"),
    misses: false,
    points: 30,
};

fn build(folder: &Path, store: &Store) {
    let session = store.session().unwrap();
    session.hold_key(&key("k")).unwrap();
    let scratch = store.scratch_dir().unwrap();
    let out = scratch.path().join("out");
    fs::create_dir_all(out.join("d")).unwrap();
    fs::write(out.join("d/a"), "abc").unwrap();
    fs::hard_link(out.join("d/a"), out.join("b")).unwrap();
    let tree = store.ingest(&out, Ingest::Move).unwrap().object;
    let log = store.put_bytes(b"log").unwrap();
    let made = Realisation { log: Some(log), ..made("k", tree) };
    store.record(made, Precedence::Again).unwrap();
    store.subobject(&tree.digest, "d").unwrap();
    store.compose_tree(vec![("x/y".into(), tree), ("log".into(), log)]).unwrap();
    let copy = folder.join("copy");
    let _ = fs::set_permissions(&copy, fs::Permissions::from_mode(0o755));
    drop(fs::remove_dir_all(&copy));
    store.copy_out(&tree, &copy).unwrap();
    fs::write(folder.join("source"), "source").unwrap();
    store.snapshot_file(&folder.join("source"), Trust::Cached).unwrap();
    store.set_root("project/x", &root("x", vec![key("k")], vec![])).unwrap();
    store.gc(GcOptions::default()).unwrap();
    store.flush().unwrap();
}

#[test]
fn a_build_killed_anywhere_leaves_a_valid_store_and_nothing_that_is_not_swept() {
    everywhere(&BUILD);
}

/// Results of these names, a file and a tree each; `a` is held.
fn results(folder: &Path, store: &Store) {
    for name in ["a", "b", "c"] {
        let out = folder.join("out");
        fs::create_dir(&out).unwrap();
        fs::write(out.join("own"), name.repeat(500)).unwrap();
        fs::write(out.join("shared"), "shared").unwrap();
        let tree = store.ingest(&out, Ingest::Move).unwrap().object;
        let log = store.subobject(&tree.digest, "shared").unwrap().unwrap().object;
        let made = Realisation { log: Some(log), ..made(name, tree) };
        store.record(made, Precedence::First).unwrap();
    }
    store.set_root("project/a", &root("a", vec![key("a")], vec![])).unwrap();
    store.flush().unwrap();
}

/// What is held is whole; of the rest each is whole or gone, and what has a tombstone is gone.
fn held_or_all_or_nothing(_: &Path, store: &Store, at: u64) {
    assert!(is_whole(store, "a"), "killed at {at}");
    for name in ["b", "c"] {
        let there = store.realisation(&key(name)).unwrap().is_some();
        assert_eq!(there, is_whole(store, name), "killed at {at}: {name}");
        let tombstone = store.tombstone(&Item::Realisation(key(name)));
        assert!(!there || tombstone.is_none(), "killed at {at}: {tombstone:?}");
    }
}

const COLLECT: Scenario = Scenario {
    name: "collect",
    prepare: |folder| results(folder, &open(folder)),
    act: |_, store| {
        store.gc(GcOptions::default()).unwrap();
        assert!(!is_whole(store, "b"));
    },
    holds: held_or_all_or_nothing,
    misses: false,
    points: 30,
};

#[test]
fn a_collector_killed_anywhere_takes_nothing_that_is_held_and_no_half_of_anything() {
    everywhere(&COLLECT);
}

const SHRINK: Scenario = Scenario {
    name: "shrink",
    prepare: |folder| results(folder, &open(folder)),
    act: |_, store| {
        let limits = GcOptions { keep_bytes: Some(3_000), ..GcOptions::default() };
        store.gc(limits).unwrap();
        let limits = GcOptions { unused_since: Some(i64::MAX), ..GcOptions::default() };
        store.gc(limits).unwrap();
        assert!(!is_whole(store, "b") && !is_whole(store, "c"));
        // What comes again loses its tombstone.
        let object = store.put_bytes(b"again").unwrap();
        store.record(made("b", object), Precedence::First).unwrap();
        store.flush().unwrap();
    },
    holds: held_or_all_or_nothing,
    misses: false,
    points: 40,
};

#[test]
fn a_collector_with_limits_killed_anywhere_does_neither() {
    everywhere(&SHRINK);
}

fn damage_index(folder: &Path) {
    let mut damaged = 0;
    for entry in fs::read_dir(folder.join("home/index")).unwrap() {
        for file in fs::read_dir(entry.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            if !bytes.is_empty() {
                fs::write(&path, vec![0x5a; bytes.len()]).unwrap();
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0);
}

const INDEX: Scenario = Scenario {
    name: "index",
    prepare: |folder| {
        results(folder, &open(folder));
        fs::write(folder.join("source"), "source").unwrap();
        damage_index(folder);
    },
    act: |folder, store| {
        assert!(is_whole(store, "b"));
        store.digest_file(&folder.join("source"), Trust::Cached).unwrap();
        store.flush().unwrap();
    },
    holds: |folder, store, at| {
        for name in ["a", "b", "c"] {
            assert!(is_whole(store, name), "killed at {at}");
        }
        let source = store.digest_file(&folder.join("source"), Trust::Cached).unwrap();
        assert_eq!(source.digest, Digest::of(b"source"), "killed at {at}");
    },
    misses: false,
    points: 3,
};

#[test]
fn an_index_that_is_being_made_again_may_be_cut_off_anywhere() {
    everywhere(&INDEX);
}

/// Where an object of the store is, made writable.
fn writable(store: &Store, object: &Object) -> std::path::PathBuf {
    let path = store.path(object);
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

const REBOOT: Scenario = Scenario {
    name: "reboot",
    prepare: |folder| {
        let store = open(folder);
        results(folder, &store);
        // Written and not flushed: one file torn, one tree torn, one record torn, modes lost.
        let torn = store.put_bytes(b"torn").unwrap();
        let whole = store.put_bytes(b"whole").unwrap();
        store.record(made("whole", whole), Precedence::First).unwrap();
        store.record(made("torn", whole), Precedence::First).unwrap();
        let tree = store.realisation(&key("b")).unwrap().unwrap().outputs[0].object;
        fs::write(writable(&store, &torn), "").unwrap();
        writable(&store, &whole);
        fs::write(writable(&store, &tree).join("more"), "").unwrap();
        let hex = key("torn").to_string();
        let record = folder.join("home/realisations").join(&hex[..2]).join(&hex);
        fs::remove_file(&record).unwrap();
        fs::write(&record, "half a record").unwrap();
        drop(store);
        let marks = folder.join("home/unflushed");
        let mark = fs::read_dir(&marks).unwrap().next().unwrap().unwrap().path();
        fs::rename(&mark, marks.join("another-boot.1")).unwrap();
        // So old that everything is in doubt.
        fs::File::open(marks.join("another-boot.1"))
            .unwrap()
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
    },
    act: |folder, store| {
        let out = folder.join("out");
        remove(&out);
        fs::create_dir_all(&out).unwrap();
        fs::write(out.join("own"), "b".repeat(500)).unwrap();
        fs::write(out.join("shared"), "shared").unwrap();
        // What is lost is made again.
        let tree = store.ingest(&out, Ingest::Move).unwrap().object;
        assert_eq!(store.realisation(&key("b")).unwrap().unwrap().outputs[0].object, tree);
        store.flush().unwrap();
    },
    holds: |_, store, at| {
        let torn = Object::file(Digest::of(b"torn"));
        assert!(!store.contains(&torn), "killed at {at}");
        assert_eq!(store.realisation(&key("torn")).unwrap(), None, "killed at {at}");
        for name in ["a", "c", "whole"] {
            assert!(is_whole(store, name), "killed at {at}: {name}");
        }
    },
    misses: true,
    points: 15,
};

#[test]
fn looking_at_what_a_power_failure_left_may_be_cut_off_anywhere() {
    everywhere(&REBOOT);
}

const SWEEP: Scenario = Scenario {
    name: "sweep",
    prepare: |folder| {
        let store = open(folder);
        results(folder, &store);
        let out = folder.join("out");
        fs::create_dir(&out).unwrap();
        fs::write(out.join("own"), "half placed").unwrap();
        let tree = store.ingest(&out, Ingest::Move).unwrap().object;
        drop(store);
        let tmp = folder.join("home/tmp");
        let placed = folder.join(format!("home/store/t/{}", &tree.digest.to_string()[..2]));
        let placed = placed.join(tree.digest.to_string());
        fs::set_permissions(placed, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(tmp.join(format!("p-{}-1-1-1", tree.digest)), "").unwrap();
        for name in ["s-1", "s-2"] {
            fs::create_dir_all(tmp.join(name).join("deep/deeper")).unwrap();
            fs::write(tmp.join(name).join("deep/file"), "").unwrap();
            fs::write(tmp.join(format!("{name}.lock")), "").unwrap();
        }
        fs::write(tmp.join("hold-1-1-1"), format!("key {}\n", key("b"))).unwrap();
        fs::create_dir_all(folder.join("home/trash/old/below")).unwrap();
        fs::write(folder.join("home/trash/file"), "").unwrap();
    },
    act: |_, store| store.sweep(),
    holds: |_, store, at| assert!(is_whole(store, "b"), "killed at {at}"),
    misses: false,
    points: 15,
};

#[test]
fn a_sweep_may_be_cut_off_anywhere() {
    everywhere(&SWEEP);
}

const ROOTS: Scenario = Scenario {
    name: "roots",
    prepare: |folder| {
        let store = open(folder);
        results(folder, &store);
        store.set_root("pin/b", &root("b", vec![key("b")], vec![])).unwrap();
        store.set_root("pin/c", &root("c", vec![key("c")], vec![])).unwrap();
    },
    act: |folder, store| {
        let session = store.session_of(&Digest::of(b"owner")).unwrap();
        session.hold(&[key("a"), key("b")], &[]).unwrap();
        let file = fs::File::open(folder.join("home/roots/project/a")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        store.touch_root("project/a").unwrap();
        store.set_root("project/a", &root("more", vec![key("b"), key("a")], vec![])).unwrap();
        store.set_root("project/a", &root("a", vec![key("a")], vec![])).unwrap();
        store.remove_root("pin/b").unwrap();
        store.remove_idle_root("pin/c").unwrap();
        store.forget_killed(&Digest::of(b"owner")).unwrap();
        drop(session);
        // Whatever a killed process before held for the owner is let go too.
        store.forget_killed(&Digest::of(b"owner")).unwrap();
    },
    holds: |_, store, at| {
        let kept = store.root("project/a").unwrap().unwrap();
        assert!(kept.keys.contains(&key("a")), "killed at {at}");
        store.forget_killed(&Digest::of(b"owner")).unwrap();
    },
    misses: false,
    points: 20,
};

#[test]
fn whoever_sets_roots_may_be_killed_anywhere() {
    everywhere(&ROOTS);
}
