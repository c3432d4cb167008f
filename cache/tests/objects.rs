//! Files and trees: in, out, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use kiln_cache::{
    Digest, Ingest, IngestError, Kind, Object, Refusal, Store, StoreOptions, TreeError, Trust,
};
use proptest::prelude::*;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("home")).unwrap();
    (folder, store)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// A folder with a bit of everything.
fn sample(at: &Path) {
    fs::create_dir_all(at.join("bin/deep")).unwrap();
    fs::create_dir(at.join("empty")).unwrap();
    fs::write(at.join("readme"), "abc").unwrap();
    fs::write(at.join("bin/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(at.join("bin/run"), fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("../readme", at.join("bin/link")).unwrap();
}

#[test]
fn a_moved_file_is_not_copied_and_becomes_read_only() {
    let (folder, store) = store();
    let path = folder.path().join("weights");
    fs::write(&path, "abc").unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    let taken = store.ingest(&path, Ingest::Move).unwrap();
    assert_eq!(taken.object, Object::file(Digest::of(b"abc")));
    assert_eq!((taken.bytes, taken.files), (3, 1));
    let there = fs::metadata(store.path(&taken.object)).unwrap();
    assert_eq!((there.ino(), there.mode() & 0o7777, there.mtime()), (inode, 0o444, 1));
    assert!(!path.exists());
    let hex = taken.object.digest.to_string();
    assert_eq!(store.path(&taken.object), store.home().join("store/f/64").join(hex));
}

#[test]
fn a_tree_is_made_canonical() {
    let (folder, store) = store();
    let path = folder.path().join("out");
    sample(&path);
    let taken = store.ingest(&path, Ingest::Move).unwrap();
    assert_eq!(taken.object.kind, Kind::Tree);
    assert_eq!((taken.bytes, taken.files), (13, 2));
    assert_eq!(
        taken.object.digest.to_string(),
        "0cf2bc6b4c3cc83a52f45ee2e287078d997f59b16c9eecbb647ebf4e412d754c"
    );
    let there = store.path(&taken.object);
    for (rel, wanted) in
        [("", 0o555), ("bin", 0o555), ("empty", 0o555), ("readme", 0o444), ("bin/run", 0o555)]
    {
        let path = there.join(rel);
        assert_eq!(mode(&path), wanted, "{rel}");
        assert_eq!(fs::symlink_metadata(&path).unwrap().mtime(), 1, "{rel}");
    }
    assert_eq!(fs::read_link(there.join("bin/link")).unwrap(), Path::new("../readme"));
    let tree = store.tree(&taken.object.digest).unwrap();
    let files: Vec<_> =
        tree.walk().into_iter().map(|(path, file)| (path, file.executable)).collect();
    assert_eq!(files, [("readme".to_owned(), false), ("bin/run".to_owned(), true)]);
}

#[test]
fn the_digest_of_a_tree_ignores_order_times_and_modes_but_for_the_executable_bit() {
    let (folder, store) = store();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    sample(&one);
    fs::create_dir(&two).unwrap();
    fs::create_dir(two.join("bin")).unwrap();
    symlink("../readme", two.join("bin/link")).unwrap();
    fs::write(two.join("bin/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(two.join("bin/run"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(two.join("empty")).unwrap();
    fs::set_permissions(two.join("empty"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::create_dir(two.join("bin/deep")).unwrap();
    fs::write(two.join("readme"), "abc").unwrap();
    fs::set_permissions(two.join("readme"), fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::File::options().write(true).open(two.join("readme")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let one = store.ingest(&one, Ingest::Copy).unwrap();
    assert_eq!(store.ingest(&two, Ingest::Move).unwrap(), one);
    assert!(!two.exists());
    let three = folder.path().join("three");
    sample(&three);
    fs::set_permissions(three.join("readme"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(store.ingest(&three, Ingest::Move).unwrap().object, one.object);
}

#[test]
fn a_copy_leaves_the_original_as_it_was() {
    let (folder, store) = store();
    let path = folder.path().join("out");
    sample(&path);
    let before = (mode(&path.join("readme")), fs::metadata(path.join("readme")).unwrap().mtime());
    let taken = store.ingest(&path, Ingest::Copy).unwrap();
    assert_eq!(
        before,
        (mode(&path.join("readme")), fs::metadata(path.join("readme")).unwrap().mtime())
    );
    fs::write(path.join("readme"), "xyz").unwrap();
    assert_eq!(fs::read(store.path(&taken.object).join("readme")).unwrap(), b"abc");
}

#[test]
fn an_outside_name_of_a_file_cannot_write_to_the_store() {
    let (folder, store) = store();
    let path = folder.path().join("out");
    sample(&path);
    let outside = folder.path().join("outside");
    fs::hard_link(path.join("readme"), &outside).unwrap();
    let tree = store.ingest(&path, Ingest::Move).unwrap();
    let lone = folder.path().join("lone");
    fs::write(&lone, "lone").unwrap();
    fs::hard_link(&lone, folder.path().join("other")).unwrap();
    let file = store.ingest(&lone, Ingest::Move).unwrap();
    for name in ["outside", "other"] {
        fs::write(folder.path().join(name), "overwritten").unwrap();
    }
    assert_eq!(fs::read(store.path(&tree.object).join("readme")).unwrap(), b"abc");
    assert_eq!(fs::read(store.path(&file.object)).unwrap(), b"lone");
}

#[test]
fn what_no_object_can_have_is_refused_by_name() {
    use std::os::unix::ffi::OsStrExt;
    type Make = fn(&Path);
    type Is = fn(&Refusal) -> bool;
    let cases: [(Make, &str, Is); 7] = [
        (|p| mkfifo(&p.join("bin/pipe")), "bin/pipe", |r| *r == Refusal::Special("FIFO")),
        (
            |p| drop(std::os::unix::net::UnixListener::bind(p.join("s")).unwrap()),
            "s",
            |r| *r == Refusal::Special("socket"),
        ),
        (
            |p| fs::write(p.join(std::ffi::OsStr::from_bytes(b"a\xff")), "").unwrap(),
            "a\u{fffd}",
            |r| *r == Refusal::Name,
        ),
        (|p| symlink("/etc", p.join("l")).unwrap(), "l", |r| *r == Refusal::Escapes("/etc".into())),
        (
            |p| symlink("../../x", p.join("bin/l")).unwrap(),
            "bin/l",
            |r| *r == Refusal::Escapes("../../x".into()),
        ),
        (
            |p| {
                symlink("../..", p.join("bin/deep/up")).unwrap();
                symlink("bin/deep/up/..", p.join("m")).unwrap();
            },
            "m",
            |r| *r == Refusal::Escapes("bin/deep/up/..".into()),
        ),
        (
            |p| symlink(std::ffi::OsStr::from_bytes(b"\xff"), p.join("t")).unwrap(),
            "t",
            |r| *r == Refusal::Target,
        ),
    ];
    for how in [Ingest::Copy, Ingest::Move] {
        for (make, wanted, is) in &cases {
            let (folder, store) = store();
            let path = folder.path().join("out");
            sample(&path);
            make(&path);
            match store.ingest(&path, how).unwrap_err() {
                IngestError::Refused { path, refusal } => {
                    assert_eq!(path, *wanted);
                    assert!(is(&refusal), "{refusal:?}");
                    assert!(!refusal.help().is_empty());
                }
                IngestError::Fs(error) => panic!("{error:?}"),
            }
            assert!(path.exists());
            assert_eq!(store.du().unwrap().trees.count, 0);
        }
    }
}

fn mkfifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn an_output_that_is_itself_a_link_or_a_fifo_is_refused() {
    let (folder, store) = store();
    symlink("/etc/passwd", folder.path().join("link")).unwrap();
    mkfifo(&folder.path().join("pipe"));
    for (name, wanted) in [("link", Refusal::Link), ("pipe", Refusal::Special("FIFO"))] {
        match store.ingest(&folder.path().join(name), Ingest::Copy).unwrap_err() {
            IngestError::Refused { path, refusal } => {
                assert_eq!((path, refusal), (String::new(), wanted))
            }
            IngestError::Fs(error) => panic!("{error:?}"),
        }
    }
}

#[test]
fn a_part_of_a_tree_becomes_an_object_of_its_own_without_copying() {
    let (folder, store) = store();
    let path = folder.path().join("out");
    sample(&path);
    let tree = store.ingest(&path, Ingest::Move).unwrap().object.digest;
    let file = store.subobject(&tree, "readme").unwrap().unwrap();
    assert_eq!(file.object, Object::file(Digest::of(b"abc")));
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(
        inode(store.path(&file.object)),
        inode(store.path(&Object::tree(tree)).join("readme"))
    );
    assert_eq!(store.subobject(&tree, "readme").unwrap().unwrap(), file);
    let program = store.subobject(&tree, "bin/run").unwrap().unwrap().object;
    assert!(program.executable && store.contains(&program));
    assert_eq!(store.subobject(&tree, "bin/nothing").unwrap(), None);
    assert_eq!(store.subobject(&tree, "..").unwrap(), None);
    // The link in it leads to a file that is not part of it.
    assert!(matches!(store.subobject(&tree, "bin"), Err(TreeError::Escapes { .. })));
    let empty = store.subobject(&tree, "empty").unwrap().unwrap();
    assert_eq!(empty.object, Object::tree(Digest::of(b"")));
    assert!(store.verify().unwrap().problems.is_empty());
}

#[test]
fn a_tree_is_composed_of_what_is_there() {
    let (folder, store) = store();
    let path = folder.path().join("out");
    sample(&path);
    let whole = store.ingest(&path, Ingest::Move).unwrap().object;
    let a = store.put_bytes(b"a").unwrap();
    let b = store.put_bytes(b"b").unwrap();
    let entries =
        vec![("d/b".into(), b), ("d/a".into(), a), ("z".into(), a), ("sub".into(), whole)];
    let made = store.compose_tree(entries.clone()).unwrap();
    let by_hand = folder.path().join("hand");
    fs::create_dir_all(by_hand.join("d")).unwrap();
    sample(&by_hand.join("sub"));
    fs::write(by_hand.join("d/a"), "a").unwrap();
    fs::write(by_hand.join("d/b"), "b").unwrap();
    fs::write(by_hand.join("z"), "a").unwrap();
    assert_eq!(store.ingest(&by_hand, Ingest::Move).unwrap(), made);
    assert_eq!(store.compose_tree(entries).unwrap(), made);
    assert!(store.verify().unwrap().problems.is_empty());

    let absent = Object::file(Digest::of(b"absent"));
    for entries in [
        vec![("../x".to_owned(), a)],
        vec![("/x".to_owned(), a)],
        vec![("x//y".to_owned(), a)],
        vec![("x".to_owned(), a), ("x".to_owned(), b)],
        vec![("x".to_owned(), a), ("x/y".to_owned(), b)],
        vec![("x/y".to_owned(), a), ("x".to_owned(), b)],
        vec![("x".to_owned(), whole), ("x/more".to_owned(), b)],
        vec![("x".to_owned(), absent)],
    ] {
        assert!(store.compose_tree(entries.clone()).is_err(), "{entries:?}");
    }
}

#[test]
fn a_copy_is_writable_and_overwrites_nothing() {
    let (folder, store) = store();
    let path = folder.path().join("out");
    sample(&path);
    let tree = store.ingest(&path, Ingest::Move).unwrap();
    let dest = folder.path().join("copy");
    assert_eq!(store.copy_out(&tree.object, &dest).unwrap(), 13);
    fs::write(dest.join("readme"), "changed").unwrap();
    fs::write(dest.join("bin/new"), "").unwrap();
    assert_ne!(mode(&dest.join("bin/run")) & 0o100, 0);
    assert_eq!(fs::read(store.path(&tree.object).join("readme")).unwrap(), b"abc");
    assert!(store.copy_out(&tree.object, &dest).unwrap_err().is_taken());
    assert_eq!(fs::read(dest.join("readme")).unwrap(), b"changed");
    let absent = Object::file(Digest::of(b"absent"));
    assert!(store.copy_out(&absent, &folder.path().join("none")).unwrap_err().is_absent());
}

#[test]
fn a_listing_that_is_lost_or_damaged_is_made_again() {
    let (folder, store) = store();
    let path = folder.path().join("out");
    sample(&path);
    let tree = store.ingest(&path, Ingest::Move).unwrap().object;
    let wanted = store.tree(&tree.digest).unwrap();
    let mut listing = store.path(&tree).into_os_string();
    listing.push(".tree");
    fs::remove_file(&listing).unwrap();
    assert_eq!(store.tree(&tree.digest).unwrap(), wanted);
    fs::remove_file(&listing).unwrap();
    fs::write(&listing, "garbage").unwrap();
    assert_eq!(store.verify().unwrap().problems.len(), 1);
    assert_eq!(store.tree(&tree.digest).unwrap(), wanted);
    assert_eq!(store.take_notices().len(), 1);
    assert!(store.verify().unwrap().problems.is_empty());
    assert!(matches!(store.tree(&Digest::of(b"absent")), Err(TreeError::Absent(_))));
}

#[test]
fn an_edit_within_one_tick_with_times_set_back_is_noticed() {
    let (folder, store) = store();
    let path = folder.path().join("source");
    for round in 0..50u32 {
        fs::write(&path, format!("{round:05}")).unwrap();
        let first = store.digest_file(&path, Trust::Cached).unwrap();
        assert_eq!(first.digest, Digest::of(format!("{round:05}").as_bytes()));
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, format!("{:05}", round + 90_000)).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let second = store.digest_file(&path, Trust::Cached).unwrap();
        assert_eq!(second.digest, Digest::of(format!("{:05}", round + 90_000).as_bytes()));
    }
}

#[test]
fn a_settled_file_is_not_read_again_unless_asked() {
    let (folder, store) = store();
    let path = folder.path().join("source");
    fs::write(&path, "abc").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(60));
    let first = store.digest_file(&path, Trust::Cached).unwrap();
    store.flush().unwrap();
    let again = store.digest_file(&path, Trust::Cached).unwrap();
    assert_eq!(again, first);
    drop(store);
    let plan = kiln_cache::FaultPlan::count();
    let options = StoreOptions { faults: Some(plan.clone()), ..StoreOptions::default() };
    let store = Store::open_with(&folder.path().join("home"), options).unwrap();
    let before = plan.passed();
    assert_eq!(store.digest_file(&path, Trust::Cached).unwrap(), first);
    assert_eq!(plan.passed(), before, "the clock was asked, so the file was read");
    store.digest_file(&path, Trust::Rehash).unwrap();
    assert_ne!(plan.passed(), before);
}

#[test]
fn a_snapshot_is_the_bytes_that_were_copied() {
    let (folder, store) = store();
    let path = folder.path().join("source");
    fs::write(&path, "abc").unwrap();
    let (object, bytes) = store.snapshot_file(&path, Trust::Cached).unwrap();
    assert_eq!((object, bytes), (Object::file(Digest::of(b"abc")), 3));
    fs::write(&path, "abd").unwrap();
    assert_eq!(fs::read(store.path(&object)).unwrap(), b"abc");
    assert_ne!(store.snapshot_file(&path, Trust::Cached).unwrap().0, object);
    assert!(store.snapshot_file(folder.path(), Trust::Cached).is_err());
    mkfifo(&folder.path().join("pipe"));
    assert!(store.digest_file(&folder.path().join("pipe"), Trust::Cached).is_err());
}

#[test]
fn an_unknown_format_is_refused_with_advice() {
    let (_folder, store) = store();
    let home = store.home().to_owned();
    drop(store);
    fs::remove_file(home.join("format")).unwrap();
    assert!(Store::open(&home).unwrap_err().to_string().contains("`none`"));
    fs::write(home.join("format"), "kiln store 9\n").unwrap();
    let message = Store::open(&home).unwrap_err().to_string();
    assert!(message.contains("kiln store 9") && message.contains("another home"), "{message}");
}

#[test]
fn the_home_is_for_the_user_alone() {
    let (_folder, store) = store();
    assert_eq!(mode(store.home()), 0o700);
}

/// A random tree as (path, content) with a marker for programs, links and folders.
fn trees() -> impl Strategy<Value = Vec<(Vec<u8>, u8, Vec<u8>)>> {
    let path = prop::collection::vec(0u8..4, 1..4);
    prop::collection::vec((path, 0u8..4, prop::collection::vec(any::<u8>(), 0..20)), 0..12)
}

fn write(at: &Path, tree: &[(Vec<u8>, u8, Vec<u8>)]) {
    fs::create_dir_all(at).unwrap();
    for (path, kind, content) in tree {
        let rel: PathBuf = path.iter().map(|part| format!("n{part}")).collect();
        let path = at.join(&rel);
        // What collides with something that is there is left out.
        if path.symlink_metadata().is_ok() || fs::create_dir_all(path.parent().unwrap()).is_err() {
            continue;
        }
        match kind {
            0 => fs::create_dir(&path).unwrap(),
            1 => symlink(format!("x{}", content.len()), &path).unwrap(),
            _ => {
                fs::write(&path, content).unwrap();
                let mode = if *kind == 2 { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_goes_in_comes_out(tree in trees()) {
        let (folder, store) = store();
        let (one, two, out) =
            (folder.path().join("one"), folder.path().join("two"), folder.path().join("out"));
        write(&one, &tree);
        write(&two, &tree);
        let taken = store.ingest(&one, Ingest::Move).unwrap();
        prop_assert_eq!(store.copy_out(&taken.object, &out).unwrap(), taken.bytes);
        prop_assert_eq!(store.ingest(&out, Ingest::Copy).unwrap(), taken);
        prop_assert_eq!(store.ingest(&two, Ingest::Move).unwrap(), taken);
        let listing = store.tree(&taken.object.digest).unwrap();
        prop_assert_eq!(listing.digest(), taken.object.digest);
        prop_assert_eq!(listing.bytes(), taken.bytes);
        prop_assert!(store.verify().unwrap().problems.is_empty());
    }
}

#[test]
fn an_output_at_too_long_a_path_or_too_deep_is_refused_and_can_be_removed() {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let (folder, store) = store();
    let cases = [
        (120, "n".repeat(42), Refusal::Path),
        (73, "n".repeat(42), Refusal::Path),
        (1100, "n".to_owned(), Refusal::Depth),
    ];
    for (depth, name, expected) in cases {
        let scratch = store.scratch_dir().unwrap();
        let out = scratch.path().join("out");
        fs::create_dir(&out).unwrap();
        let mut top = openat(CWD, &out, flags, Mode::empty()).unwrap();
        for _ in 0..depth {
            mkdirat(&top, &name, Mode::RWXU).unwrap();
            top = openat(&top, &name, flags, Mode::empty()).unwrap();
        }
        for how in [Ingest::Copy, Ingest::Move] {
            let error = store.ingest(&out, how).unwrap_err();
            let IngestError::Refused { path, refusal } = &error else { panic!("{error:?}") };
            assert_eq!(*refusal, expected);
            assert!(path.starts_with(&name) && path.chars().count() <= 121, "{path}");
            assert!(refusal.help().contains("fewer nested folders"));
        }
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
    }
    // The longest path that is taken can be verified and copied out again.
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let mut top = openat(CWD, &out, flags, Mode::empty()).unwrap();
    for _ in 0..12 {
        let name = "n".repeat(255);
        mkdirat(&top, &name, Mode::RWXU).unwrap();
        top = openat(&top, &name, flags, Mode::empty()).unwrap();
    }
    let taken = store.ingest(&out, Ingest::Move).unwrap();
    assert_eq!(store.verify().unwrap().problems, []);
    store.copy_out(&taken.object, &out).unwrap();
}

#[test]
fn trees_are_composed_as_deep_as_outputs_may_be_and_no_deeper() {
    let (folder, store) = store();
    let file = store.put_bytes(b"abc").unwrap();
    let down = |levels: usize| vec!["d"; levels].join("/");
    let too_deep = |made: Result<_, TreeError>| matches!(made, Err(TreeError::TooDeep(_)));
    let compose = |path: String, object| store.compose_tree(vec![(path, object)]);
    let deepest = compose(down(129), file).unwrap().object;
    assert!(too_deep(compose(down(130), file)));
    assert!(too_deep(compose(down(1_000_000), file)), "it is refused before anything walks down");
    assert!(too_deep(compose(format!("{}/x", "n".repeat(3_100)), file)));
    // What is in a tree counts too.
    assert!(too_deep(compose("above".into(), deepest)));
    let half = compose(down(65), file).unwrap().object;
    assert!(compose(down(64), half).is_ok() && too_deep(compose(down(65), half)));
    let long = compose(vec!["n".repeat(200); 8].join("/"), file).unwrap().object;
    assert!(too_deep(compose(vec!["n".repeat(200); 8].join("/"), long)));
    assert!(store.verify().unwrap().problems.is_empty());
    // What was composed can be taken in again.
    let copy = folder.path().join("copy");
    store.copy_out(&deepest, &copy).unwrap();
    assert_eq!(store.ingest(&copy, Ingest::Copy).unwrap().object, deepest);

    let part = store.subobject(&deepest.digest, &down(128)).unwrap().unwrap();
    assert_eq!(part.files, 1);
    assert!(too_deep(store.subobject(&deepest.digest, &down(1_000_000)).map(drop).map(|()| part)));
    let around = vec!["d/.."; 1_000].join("/");
    assert!(too_deep(store.subobject(&deepest.digest, &around).map(|_| part)));
}
