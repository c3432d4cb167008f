//! Records, roots, sessions, collection, verification.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sample;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use kiln_cache::{
    Digest, FaultPlan, GcOptions, Ingest, Isolation, Item, Object, Precedence, Realisation,
    Recorded, Root, RootError, Store, StoreOptions, Trust,
};
use sample::{fresh, key, made, open, root};

#[test]
fn the_first_result_stays_unless_the_next_is_better_isolated_or_wanted() {
    let (folder, store) = fresh();
    let (a, b) = (store.put_bytes(b"a").unwrap(), store.put_bytes(b"b").unwrap());
    assert_eq!(store.realisation(&key("k")).unwrap(), None);
    let first = store.record(made("k", a), Precedence::First).unwrap();
    let Recorded::Written(first) = first else { panic!("{first:?}") };
    assert_eq!(first.attempt, 1);
    assert!(!first.boot.is_empty());
    assert_eq!(
        store.record(made("k", b), Precedence::First).unwrap(),
        Recorded::Kept(first.clone())
    );
    assert_eq!(store.realisation(&key("k")).unwrap().unwrap(), first);

    let weaker = Realisation { isolation: Isolation::Off, ..made("k", b) };
    assert!(matches!(store.record(weaker, Precedence::First).unwrap(), Recorded::Kept(_)));
    let stronger = Realisation { isolation: Isolation::Full, ..made("k", b) };
    let second = store.record(stronger, Precedence::First).unwrap().realisation().clone();
    assert_eq!((second.attempt, second.outputs[0].object), (2, b));
    let third = store.record(made("k", a), Precedence::Again).unwrap().realisation().clone();
    assert_eq!(third.attempt, 3);

    // Another process sees the same, with and without what the index remembers.
    let other = open(folder.path());
    assert_eq!(other.realisation(&key("k")).unwrap().unwrap(), third);
    store.flush().unwrap();
    assert_eq!(other.realisation(&key("k")).unwrap().unwrap(), third);
    assert_eq!(other.attempts(&key("k")).unwrap(), [first, second, third.clone()]);
    assert_eq!(other.all_realisations().unwrap(), [third]);
    assert!(other.attempts(&key("other")).unwrap().is_empty());
}

#[test]
fn a_result_that_is_lost_gives_way_to_the_next() {
    let (_folder, store) = fresh();
    let (a, b) = (store.put_bytes(b"a").unwrap(), store.put_bytes(b"b").unwrap());
    store.record(made("k", a), Precedence::First).unwrap();
    fs::remove_file(store.path(&a)).unwrap();
    let next = store.record(made("k", b), Precedence::First).unwrap();
    assert_eq!(next.realisation().outputs[0].object, b);
    assert_eq!(next.realisation().attempt, 2);
}

#[test]
fn an_index_that_lags_never_serves_an_old_result() {
    let (folder, store) = fresh();
    let (a, b) = (store.put_bytes(b"a").unwrap(), store.put_bytes(b"b").unwrap());
    store.record(made("k", a), Precedence::First).unwrap();
    store.flush().unwrap();
    // The other one's row is only in its memory when it is lost with it.
    let other = open(folder.path());
    other.record(made("k", b), Precedence::Again).unwrap();
    std::mem::forget(other);
    assert_eq!(store.realisation(&key("k")).unwrap().unwrap().outputs[0].object, b);
    assert!(store.verify().unwrap().problems.is_empty());
}

#[test]
fn a_damaged_record_counts_as_absent_and_is_told() {
    let (folder, store) = fresh();
    let object = store.put_bytes(b"a").unwrap();
    store.record(made("k", object), Precedence::First).unwrap();
    drop(store);
    let hex = key("k").to_string();
    let path = folder.path().join("home/realisations").join(&hex[..2]).join(&hex);
    let mut frame = fs::read(&path).unwrap();
    let middle = frame.len() / 2;
    frame[middle] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, frame).unwrap();
    let store = open(folder.path());
    assert_eq!(store.verify().unwrap().problems.len(), 1);
    assert_eq!(store.realisation(&key("k")).unwrap(), None);
    let notices = store.take_notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].what.contains("checksum"), "{notices:?}");
    assert!(matches!(store.record(made("k", object), Precedence::First), Ok(Recorded::Written(_))));
}

#[test]
fn the_store_works_when_its_index_is_lost_damaged_or_out_of_reach() {
    for damage in [
        (|index: &Path| fs::remove_dir_all(index).unwrap()) as fn(&Path),
        |index| fs::write(index.join("v2/table"), vec![0x5a; 40_000]).unwrap(),
        |index| {
            fs::remove_dir_all(index).unwrap();
            fs::create_dir(index).unwrap();
            // Not a folder: neither root nor anybody else can make an index here.
            fs::write(index.join("v2"), "").unwrap();
        },
    ] {
        let (folder, store) = fresh();
        let object = store.put_bytes(b"a").unwrap();
        let recorded = store.record(made("k", object), Precedence::First).unwrap();
        store.flush().unwrap();
        drop(store);
        damage(&folder.path().join("home/index"));
        let store = open(folder.path());
        assert_eq!(&store.realisation(&key("k")).unwrap().unwrap(), recorded.realisation());
        let source = folder.path().join("source");
        fs::write(&source, "abc").unwrap();
        assert_eq!(store.digest_file(&source, Trust::Cached).unwrap().digest, Digest::of(b"abc"));
        store.flush().unwrap();
        assert!(store.verify().unwrap().problems.is_empty());
    }
}

#[test]
fn roots_are_kept_by_name() {
    let (folder, store) = fresh();
    let first = root("last build", vec![key("k")], vec![]);
    store.set_root("project/ab12", &first).unwrap();
    store.set_root("pin/x", &root("pin", vec![], vec![])).unwrap();
    assert_eq!(store.root("project/ab12").unwrap().unwrap(), first);
    // The same said later leaves the time at which it was first said.
    store.set_root("project/ab12", &Root { at: 9, ..first.clone() }).unwrap();
    assert_eq!(store.root("project/ab12").unwrap().unwrap().at, 1);
    let names: Vec<_> = store.roots().unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["pin/x", "project/ab12"]);
    assert!(store.remove_root("pin/x").unwrap());
    assert!(!store.remove_root("pin/x").unwrap());
    assert_eq!(store.root("pin/x").unwrap(), None);
    for name in ["", "/x", "../x", "a/../b", "a//b", ".a", "a b"] {
        assert!(matches!(store.set_root(name, &first), Err(RootError::Name(_))), "{name}");
    }
    let text = fs::read_to_string(folder.path().join("home/roots/project/ab12")).unwrap();
    assert!(text.contains("\"format\": 2"), "{text}");
}

#[test]
fn the_collector_keeps_what_roots_and_sessions_hold_and_nothing_else() {
    let (folder, builder) = fresh();
    let object = |text: &str| builder.put_bytes(text.as_bytes()).unwrap();
    let (kept, log, dropped, pinned) =
        (object("kept"), object("log"), object("gone"), object("pin"));
    builder
        .record(Realisation { log: Some(log), ..made("kept", kept) }, Precedence::First)
        .unwrap();
    builder.record(made("dropped", dropped), Precedence::First).unwrap();
    builder.set_root("project/a", &root("build of a", vec![key("kept")], vec![])).unwrap();
    builder.set_root("pin/p", &root("pin p", vec![], vec![pinned])).unwrap();
    builder.flush().unwrap();
    drop(builder);

    let collector = open(folder.path());
    let session_store = open(folder.path());
    let session = session_store.session().unwrap();
    session.hold_key(&key("dropped")).unwrap();
    let report = collector.gc(GcOptions::default()).unwrap();
    assert!(report.removed.is_empty(), "{report:?}");
    let held = report.kept.iter().find(|kept| kept.item == Item::Object(dropped)).unwrap();
    assert_eq!(held.held_by, ["a build that is running"]);
    let held = report.kept.iter().find(|kept| kept.item == Item::Object(log)).unwrap();
    assert_eq!(held.held_by, ["build of a"]);
    drop(session);

    let dry = collector.gc(GcOptions { dry_run: true, ..GcOptions::default() }).unwrap();
    let removed: Vec<_> = dry.removed.iter().map(|removed| removed.item).collect();
    assert_eq!(removed, [Item::Object(dropped), Item::Realisation(key("dropped"))]);
    assert!(collector.contains(&dropped));
    let wet = collector.gc(GcOptions::default()).unwrap();
    assert_eq!(wet, dry);
    assert!(wet.bytes_freed > 4);
    assert!(!collector.contains(&dropped));
    assert_eq!(collector.realisation(&key("dropped")).unwrap(), None);
    for object in [kept, log, pinned] {
        assert!(collector.contains(&object));
    }
    assert_eq!(collector.du().unwrap().trash.count, 0);
    assert!(collector.gc(GcOptions::default()).unwrap().removed.is_empty());
    assert!(collector.verify().unwrap().problems.is_empty());
}

#[test]
fn a_tree_goes_with_its_listing_and_what_a_living_store_placed_stays() {
    let (folder, builder) = fresh();
    let path = folder.path().join("out");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a"), "abc").unwrap();
    let tree = builder.ingest(&path, Ingest::Move).unwrap().object;
    builder.subobject(&tree.digest, "a").unwrap();
    let collector = open(folder.path());
    assert!(collector.gc(GcOptions::default()).unwrap().removed.is_empty());
    drop(builder);
    let report = collector.gc(GcOptions::default()).unwrap();
    assert_eq!(report.removed.len(), 2);
    // One file under two names, and the listing.
    let listing = 2 + 2 + 1 + 2 + 2 + 64 + 2;
    assert_eq!(report.bytes_freed, 3 + 2 + listing);
    assert_eq!(collector.du().unwrap().trees.bytes, 0);
}

#[test]
fn nothing_is_collected_while_a_root_cannot_be_read() {
    let (folder, store) = fresh();
    let object = store.put_bytes(b"a").unwrap();
    drop(store);
    fs::create_dir_all(folder.path().join("home/roots/pin")).unwrap();
    fs::write(folder.path().join("home/roots/pin/x"), "{").unwrap();
    let store = open(folder.path());
    assert!(store.gc(GcOptions::default()).is_err());
    assert!(store.contains(&object));
    assert_eq!(store.verify().unwrap().problems.len(), 1);
}

#[test]
fn builders_that_come_and_go_never_lose_anything_to_a_collector() {
    let (folder, _store) = fresh();
    let done = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for builder in 0..3u32 {
            let (folder, done) = (&folder, &done);
            scope.spawn(move || {
                for round in 0..15u32 {
                    let store = open(folder.path());
                    let session = store.session().unwrap();
                    // Few contents, so that one is often placed while it is being removed.
                    let text = format!("{}", (builder + round) % 4);
                    session.hold_object(&Object::file(Digest::of(text.as_bytes()))).unwrap();
                    let object = store.put_bytes(text.as_bytes()).unwrap();
                    store.record(made(&text, object), Precedence::First).unwrap();
                    std::thread::yield_now();
                    assert!(store.contains(&object));
                    assert_eq!(fs::read(store.path(&object)).unwrap(), text.as_bytes());
                    assert!(store.realisation(&key(&text)).unwrap().is_some());
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        let collector = open(folder.path());
        while done.load(Ordering::SeqCst) < 3 {
            collector.gc(GcOptions::default()).unwrap();
        }
    });
}

#[test]
fn verify_finds_a_flipped_bit_a_wrong_mode_and_a_missing_file() {
    let (folder, store) = fresh();
    let path = folder.path().join("out");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a"), "abc").unwrap();
    fs::write(path.join("b"), "abc").unwrap();
    let tree = store.ingest(&path, Ingest::Move).unwrap().object;
    let file = store.put_bytes(b"content").unwrap();
    let lost = store.put_bytes(b"lost").unwrap();
    store.record(made("k", lost), Precedence::First).unwrap();
    let clean = store.verify().unwrap();
    assert_eq!((clean.objects, clean.realisations), (3, 1));
    assert!(clean.problems.is_empty(), "{clean:?}");

    let set =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let flipped = store.path(&file);
    set(&flipped, 0o644);
    fs::write(&flipped, "contend").unwrap();
    set(&flipped, 0o444);
    let inside = store.path(&tree);
    set(&inside.join("a"), 0o644);
    set(&inside, 0o755);
    fs::remove_file(inside.join("b")).unwrap();
    set(&inside, 0o555);
    fs::remove_file(store.path(&lost)).unwrap();
    let problems = store.verify().unwrap().problems;
    let found: Vec<_> = problems.iter().map(|p| (p.path.clone(), p.what.as_str())).collect();
    let has = |path: &Path, text: &str| found.iter().any(|(p, w)| p == path && w.contains(text));
    assert!(has(&flipped, "content has changed"), "{found:#?}");
    assert!(has(&inside, "content has changed"), "{found:#?}");
    assert!(has(&inside.join("a"), "mode is 0644"), "{found:#?}");
    assert!(found.iter().any(|(_, what)| what.contains("`out`") && what.contains("missing")));
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(problems.iter().all(|problem| !problem.help.is_empty()));
    fs::write(folder.path().join("home/store/f/stranger"), "").unwrap();
    assert_eq!(store.verify().unwrap().problems.len(), 5);
}

#[test]
fn a_flush_that_has_nothing_to_do_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let plan = FaultPlan::count();
    let options = StoreOptions { faults: Some(plan.clone()), ..StoreOptions::default() };
    let store = Store::open_with(&folder.path().join("home"), options).unwrap();
    let before = plan.passed();
    store.flush().unwrap();
    assert_eq!(plan.passed(), before);
    store.put_bytes(b"a").unwrap();
    store.flush().unwrap();
    let unflushed = folder.path().join("home/unflushed");
    assert_eq!(fs::read_dir(&unflushed).unwrap().count(), 1);
    drop(store);
    assert_eq!(fs::read_dir(&unflushed).unwrap().count(), 0);
}

#[test]
fn what_was_not_flushed_before_a_reboot_is_rehashed() {
    let (folder, store) = fresh();
    let (torn, whole) = (store.put_bytes(b"torn").unwrap(), store.put_bytes(b"whole").unwrap());
    store.record(made("torn", torn), Precedence::First).unwrap();
    drop(store);
    let home = folder.path().join("home");
    let hex = torn.digest.to_string();
    let path = home.join("store/f").join(&hex[..2]).join(&hex);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    // The process of another boot left this; the store's own mark is of this boot and says nothing.
    let marks: Vec<_> = fs::read_dir(home.join("unflushed")).unwrap().collect();
    assert_eq!(marks.len(), 1);
    let mark = marks[0].as_ref().unwrap().path();
    assert!(open(folder.path()).contains(&torn));
    fs::rename(&mark, mark.with_file_name("another-boot.1")).unwrap();
    let store = open(folder.path());
    assert!(!store.contains(&torn));
    assert!(store.contains(&whole));
    assert_eq!(store.take_notices().len(), 1);
    assert_eq!(fs::read_dir(home.join("unflushed")).unwrap().count(), 0);
}

const HOME: &str = "KILN_CACHE_TEST_HOME";

#[test]
fn damaged_records_that_were_met_or_collected_trouble_nobody_any_more() {
    let (folder, store) = fresh();
    let (a, b) = (store.put_bytes(b"a").unwrap(), store.put_bytes(b"b").unwrap());
    for name in ["met", "kept", "odd"] {
        store.record(made(name, a), Precedence::First).unwrap();
        store.record(made(name, b), Precedence::Again).unwrap();
    }
    store.set_root("x", &root("x", vec![key("kept"), key("met")], vec![])).unwrap();
    drop(store);
    let path = |name: &str, suffix: &str| {
        let hex = key(name).to_string();
        folder.path().join("home/realisations").join(&hex[..2]).join(format!("{hex}{suffix}"))
    };
    let damage = |path: &Path| {
        fs::remove_file(path).unwrap();
        fs::write(path, "torn").unwrap();
    };
    for (name, suffix) in [("met", ""), ("met", ".1"), ("kept", ".1")] {
        damage(&path(name, suffix));
    }
    fs::remove_file(path("odd", "")).unwrap();
    fs::create_dir(path("odd", "")).unwrap();

    let store = open(folder.path());
    let problems = store.verify().unwrap().problems;
    assert_eq!(problems.len(), 4, "{problems:#?}");
    assert!(problems.iter().all(|problem| problem.help.contains("gc")), "{problems:#?}");
    // A build meets two of them, one of which is no file at all.
    for name in ["met", "odd"] {
        assert_eq!(store.realisation(&key(name)).unwrap(), None);
        store.record(made(name, b), Precedence::First).unwrap();
    }
    let left: Vec<_> = store.verify().unwrap().problems.into_iter().map(|p| p.path).collect();
    assert_eq!(left, [path("kept", ".1")]);
    drop(store.take_notices());

    store.gc(GcOptions::default()).unwrap();
    let notices = store.take_notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(notices[0].path, path("kept", ".1"));
    assert_eq!(store.verify().unwrap().problems, []);
    assert_eq!(store.attempts(&key("kept")).unwrap().len(), 1);
}

#[test]
fn a_collection_drops_a_record_that_nobody_met() {
    let (folder, store) = fresh();
    let object = store.put_bytes(b"a").unwrap();
    store.record(made("k", object), Precedence::First).unwrap();
    store.set_root("x", &root("x", vec![key("k")], vec![])).unwrap();
    drop(store);
    let hex = key("k").to_string();
    let path = folder.path().join("home/realisations").join(&hex[..2]).join(&hex);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    let store = open(folder.path());
    store.gc(GcOptions::default()).unwrap();
    assert_eq!(store.take_notices().len(), 1);
    assert!(!path.exists());
    assert_eq!(store.realisation(&key("k")).unwrap(), None);
    assert_eq!(store.verify().unwrap().problems, []);
}

#[test]
fn a_scratch_folder_is_renewed_and_only_folders_that_are_as_new_stay() {
    let (_folder, store) = fresh();
    let scratch = store.scratch_dir().unwrap();
    let make = |name: &str| {
        let path = scratch.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let untouched = make("untouched");
    let number = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = number(&untouched);
    fs::write(make("full").join("file"), "x").unwrap();
    fs::set_permissions(make("open"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(make("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let marked = make("marked");
    let is_marked =
        rustix::fs::setxattr(&marked, "user.mark", b"x", rustix::fs::XattrFlags::empty());
    // A folder of many names stays large on most file systems, where it does.
    let (grown, size) = (make("grown"), fs::metadata(&untouched).unwrap().len());
    let names = (0..3000).map(|number| grown.join(format!("{number:0100}")));
    names.clone().for_each(|name| fs::write(name, "").unwrap());
    names.for_each(|name| fs::remove_file(name).unwrap());
    let has_grown = fs::metadata(&grown).unwrap().len() != size;
    fs::write(scratch.path().join("log"), "").unwrap();
    std::os::unix::fs::symlink("untouched", scratch.path().join("link")).unwrap();
    scratch.renew().unwrap();
    let mut left: Vec<_> = fs::read_dir(scratch.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.retain(|name| !(name == "marked" && is_marked.is_err() || name == "grown" && !has_grown));
    assert_eq!(left, ["untouched"]);
    assert_eq!(number(&untouched), before);
    let path = scratch.path().to_owned();
    drop(scratch);
    assert!(!path.exists());
}

#[test]
fn what_a_killed_process_left_is_swept_however_deep_it_is() {
    let (folder, store) = fresh();
    let scratch = store.scratch_dir().unwrap();
    nest(scratch.path(), 150, &"n".repeat(42));
    let path = scratch.path().to_owned();
    // As after a kill: the mark stays, and nobody owns it.
    let mark = path.with_extension("lock");
    let aside = folder.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    drop(scratch);
    fs::rename(&aside, &path).unwrap();
    fs::write(&mark, "").unwrap();
    drop(store);
    let store = open(folder.path());
    store.du().unwrap();
    store.sweep();
    assert_eq!(store.take_notices(), []);
    assert!(!path.exists() && !mark.exists());
}

#[test]
fn what_cannot_be_swept_is_told_and_stops_nobody() {
    let (folder, store) = fresh();
    drop(store);
    let tmp = folder.path().join("home/tmp");
    let left = || fs::read_dir(&tmp).unwrap().count() - 1;
    let mut told = 0;
    for at in 1.. {
        for name in ["s-0", "s-1"] {
            fs::create_dir_all(tmp.join(name).join("below")).unwrap();
            fs::write(tmp.join(format!("{name}.lock")), "").unwrap();
        }
        fs::write(folder.path().join("home/trash/old"), "").unwrap();
        let plan = FaultPlan::fail_at(at);
        let options = StoreOptions { faults: Some(plan.clone()), ..StoreOptions::default() };
        let Ok(store) = Store::open_with(&folder.path().join("home"), options) else { continue };
        let opened = plan.passed();
        drop(store.take_notices());
        store.sweep();
        let notices = store.take_notices();
        // Where a shortcut fails the long way is gone, and nothing is left to be told.
        let harmless = notices.is_empty() && left() == 0;
        if opened < at && at <= plan.passed() && !harmless {
            assert_eq!(notices.len(), 1, "failed at {at}: {notices:?}");
            assert!(notices[0].what.contains("on purpose"), "{notices:?}");
            assert!(left() <= 2, "the other one is swept all the same");
            told += 1;
            store.sweep();
        }
        assert_eq!(
            (left(), store.du().unwrap().trash.count),
            (0, 0),
            "what is left is swept later"
        );
        if plan.passed() < at {
            break;
        }
    }
    assert!(told >= 5, "only {told} points");
}

/// Makes folders in folders, deeper than a path can name.
fn nest(top: &Path, depth: usize, name: &str) {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut folder = openat(CWD, top, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&folder, name, Mode::RWXU).unwrap();
        folder = openat(&folder, name, flags, Mode::empty()).unwrap();
    }
}

#[test]
fn two_processes_never_hold_one_action() {
    let (folder, store) = fresh();
    let lock = store.lock_action(&key("k"), &|| false).unwrap();
    let own = std::env::current_exe().unwrap();
    let holds = |expected: &str| {
        let status = Command::new(&own)
            .args(["--exact", "a_lock_to_be_tried", "--test-threads=1"])
            .env("KILN_CACHE_TEST_LOCK", expected)
            .env(HOME, folder.path())
            .output()
            .unwrap()
            .status;
        assert!(status.success(), "expected the lock to be {expected}");
    };
    holds("held");
    drop(lock);
    holds("free");
}

/// What the other process does; only does it when it is asked to.
#[test]
fn a_lock_to_be_tried() {
    let Ok(expected) = std::env::var("KILN_CACHE_TEST_LOCK") else { return };
    let store = open(Path::new(&std::env::var(HOME).unwrap()));
    let lock = store.try_lock_action(&key("k")).unwrap();
    assert_eq!(lock.is_some(), expected == "free");
}

#[test]
fn a_root_with_many_keys_and_bytes_is_read_as_it_was_set_and_no_bit_of_it_changes_unnoticed() {
    let (folder, store) = fresh();
    let keys: Vec<Digest> = (0..300u32).map(|number| Digest::of(&number.to_le_bytes())).collect();
    let many = Root { bytes: b"\n\0of its owner's".to_vec(), ..root("many", keys, vec![]) };
    store.set_root("many", &many).unwrap();
    assert_eq!(store.root("many").unwrap(), Some(many));
    let path = folder.path().join("home/roots/many");
    let sound = fs::read(&path).unwrap();
    assert!(sound.len() < 300 * 32 + 400, "keys stand there as bytes: {}", sound.len());
    for at in (sound.len() - 300 * 32 - 15..sound.len()).step_by(97).chain([sound.len() - 1]) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(store.root("many"), Err(RootError::Changed(_))), "byte {at}");
    }
    for length in [sound.len() - 1, sound.len() - 40] {
        fs::write(&path, &sound[..length]).unwrap();
        assert!(matches!(store.root("many"), Err(RootError::Changed(_))), "{length} bytes");
    }
    fs::write(&path, [&sound[..], b"x"].concat()).unwrap();
    assert!(matches!(store.root("many"), Err(RootError::Changed(_))));
}

#[test]
fn a_root_of_the_first_format_is_read() {
    let (folder, store) = fresh();
    store.set_root("old", &root("old", vec![key("k")], vec![])).unwrap();
    let text = format!(
        r#"{{"format": 1, "root": {{"label": "old", "keys": ["{}"], "objects": [], "data": null, "at": 1}}}}"#,
        key("k")
    );
    fs::write(folder.path().join("home/roots/old"), text).unwrap();
    assert_eq!(store.root("old").unwrap(), Some(root("old", vec![key("k")], vec![])));
}
