//! The machine goes down, and what had not been flushed is not what it was.
//!
//! The model: names come to disk in the order in which they were made, as journaling file systems bring them; so a
//! process that is killed at some operation stands for a machine that went down then or later. Of the content of files
//! that were written since the last flush that was completed, anything may be there: all, a part, zeros, something
//! else. Even names that were made since may be gone, and modes may be what they were, though a journal would not do
//! that. Then the machine comes up again.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use kiln_cache::{
    Digest, FaultPlan, GcOptions, Ingest, Kind, Object, Precedence, Realisation, Store,
    StoreOptions,
};

use crate::sample::{key, made, remove, root};

const SEED: &str = "KILN_CACHE_TEST_SEED";
const FAULT: &str = "KILN_CACHE_TEST_FAULT";
const HOME: &str = "KILN_CACHE_TEST_HOME";
/// How many times the machine goes down; more of them in a long run.
const CASES: &str = "KILN_TEST_POWER_CASES";
const FEW: u64 = 40;

/// Chance that can be repeated (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

fn open(folder: &Path, boot: &str, faults: Option<FaultPlan>) -> Store {
    let options = StoreOptions { faults, boot: Some(boot.to_owned()) };
    Store::open_with(&folder.join("home"), options).unwrap()
}

const STEPS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// What a step makes: always the same.
fn output_of(step: &str, folder: &Path, store: &Store) -> (Object, Object) {
    let seed = u64::from(step.as_bytes()[0]);
    let content = |size: usize| step.as_bytes().repeat(size);
    let log = store.put_bytes(&content(100)).unwrap();
    if seed % 2 == 0 {
        return (store.put_bytes(&content(9_000)).unwrap(), log);
    }
    let out = folder.join(format!("out-{step}"));
    remove(&out);
    fs::create_dir_all(out.join("below")).unwrap();
    fs::write(out.join("own"), content(5_000)).unwrap();
    fs::write(out.join("below/program"), content(3)).unwrap();
    fs::set_permissions(out.join("below/program"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(out.join("below/shared"), "shared").unwrap();
    (store.ingest(&out, Ingest::Move).unwrap().object, log)
}

fn make(step: &str, folder: &Path, store: &Store, precedence: Precedence) {
    let (output, log) = output_of(step, folder, store);
    let made = Realisation { log: Some(log), ..made(step, output) };
    store.record(made, precedence).unwrap();
}

/// A life of a store, of which a crash sees a part. After each flush it writes down what is on disk for good.
fn live(folder: &Path, seed: u64, faults: Option<FaultPlan>) {
    let mut chance = Chance(seed);
    for _ in 0..2 {
        let store = open(folder, "first", faults.clone());
        let session = store.session().unwrap();
        for _ in 0..8 {
            let step = STEPS[chance.below(6) as usize];
            match chance.below(10) {
                0..4 => make(step, folder, &store, Precedence::First),
                4 => make(step, folder, &store, Precedence::Again),
                5 => {
                    if let Some(found) = store.realisation(&key(step)).unwrap()
                        && found.outputs[0].object.kind == Kind::Tree
                    {
                        let tree = found.outputs[0].object;
                        store.subobject(&tree.digest, "below").unwrap();
                        store.compose_tree(vec![("x/y".into(), tree)]).unwrap();
                    }
                }
                6 => {
                    let keys = vec![key(step), key("a")];
                    store.set_root("project/x", &root("x", keys, vec![])).unwrap();
                }
                _ => {
                    store.flush().unwrap();
                    note_what_is_on_disk(folder);
                }
            }
        }
        drop(session);
        drop(store);
        let store = open(folder, "first", faults.clone());
        let keep_bytes = Some(20_000);
        store.gc(GcOptions { keep_bytes, ..GcOptions::default() }).unwrap();
    }
}

/// What the process does that goes down with the machine; only does it when it is asked to.
#[test]
fn a_process_that_goes_down() {
    let variable = |name| std::env::var(name).ok();
    let (Some(seed), Some(fault), Some(folder)) = (variable(SEED), variable(FAULT), variable(HOME))
    else {
        return;
    };
    live(Path::new(&folder), seed.parse().unwrap(), Some(fault.parse().unwrap()));
}

/// Every name in the store's folders that hold what it knows, with its file.
fn names(folder: &Path) -> Vec<(PathBuf, fs::Metadata)> {
    let home = folder.join("home");
    let mut todo: Vec<PathBuf> = ["store", "realisations", "index", "tombstones"]
        .iter()
        .map(|name| home.join(name))
        .collect();
    let mut found = Vec::new();
    while let Some(path) = todo.pop() {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            todo.extend(entries.map(|entry| entry.unwrap().path()));
        }
        found.push((path, metadata));
    }
    found
}

fn note_what_is_on_disk(folder: &Path) {
    let mut text = String::new();
    for (path, metadata) in names(folder) {
        // Nothing is written in place but the index, which may be torn at any time.
        if !path.starts_with(folder.join("home/index")) {
            text.push_str(&format!("{} {}\n", metadata.ino(), path.display()));
        }
    }
    // Written aside: the process may be killed meanwhile, though by nobody but itself.
    fs::write(folder.join("on-disk.new"), text).unwrap();
    fs::rename(folder.join("on-disk.new"), folder.join("on-disk")).unwrap();
}

/// What was on disk for good when the machine went down: names and files, some of which are the same file under
/// more than one name.
struct OnDisk {
    names: BTreeSet<String>,
    inodes: BTreeSet<String>,
}

impl OnDisk {
    fn read(folder: &Path) -> Self {
        let text = fs::read_to_string(folder.join("on-disk")).unwrap_or_default();
        let lines = || text.lines();
        Self {
            names: lines().map(str::to_owned).collect(),
            inodes: lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect(),
        }
    }

    fn has_name(&self, path: &Path, metadata: &fs::Metadata) -> bool {
        self.names.contains(&format!("{} {}", metadata.ino(), path.display()))
    }

    fn has_content(&self, metadata: &fs::Metadata) -> bool {
        self.inodes.contains(&metadata.ino().to_string())
    }
}

/// Damages what was not on disk; gives how much of it.
fn lose_power(folder: &Path, on_disk: &OnDisk, chance: &mut Chance) -> usize {
    let marks = fs::read_dir(folder.join("home/unflushed"));
    let is_marked = marks.is_ok_and(|mut marks| marks.next().is_some());
    let mut damaged = 0;
    for (path, metadata) in names(folder) {
        // A row that was written when everything else was flushed is as good as none if it is torn, but verify tells
        // of it.
        if !is_marked && path.starts_with(folder.join("home/index")) {
            continue;
        }
        // What was in a folder that is gone is gone.
        if on_disk.has_name(&path, &metadata) || path.symlink_metadata().is_err() {
            continue;
        }
        let open_folder = |path: &Path| {
            let folder = path.parent().unwrap();
            let before = folder.metadata().unwrap().permissions();
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
            (folder.to_owned(), before)
        };
        let depth = path.strip_prefix(folder).unwrap().components().count();
        // The folders themselves and their shards are there whatever is in them.
        let is_shard = metadata.is_dir() && depth <= 4 && path.file_name().unwrap().len() < 64;
        match chance.below(8) {
            _ if is_shard => continue,
            0 => {
                let (above, mode) = open_folder(&path);
                make_writable(&path);
                if metadata.is_dir() {
                    fs::remove_dir_all(&path).unwrap();
                } else {
                    fs::remove_file(&path).unwrap();
                }
                fs::set_permissions(above, mode).unwrap();
            }
            1 => {
                let lost = if metadata.is_dir() { 0o755 } else { 0o600 | metadata.mode() & 0o100 };
                fs::set_permissions(&path, fs::Permissions::from_mode(lost)).unwrap();
            }
            2..6 if metadata.is_file() && !on_disk.has_content(&metadata) => {
                tear(&path, &metadata, chance);
            }
            _ => continue,
        }
        damaged += 1;
    }
    damaged
}

fn make_writable(path: &Path) {
    let Ok(metadata) = path.symlink_metadata() else { return };
    if metadata.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        for entry in fs::read_dir(path).unwrap() {
            make_writable(&entry.unwrap().path());
        }
    }
}

/// Gives a file another content, under its old mode.
fn tear(path: &Path, metadata: &fs::Metadata, chance: &mut Chance) {
    let mut bytes = fs::read(path).unwrap();
    let cut = chance.below(bytes.len() as u64 + 1) as usize;
    match chance.below(4) {
        0 => bytes.truncate(cut),
        1 => bytes.clear(),
        2 => bytes[cut..].fill(0),
        _ => bytes[cut..].iter_mut().for_each(|byte| *byte = chance.next() as u8),
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap();
    file.write_all(&bytes).unwrap();
    file.set_permissions(metadata.permissions()).unwrap();
    // A size or a time may tell nothing.
    file.set_modified(metadata.modified().unwrap()).unwrap();
}

/// The mark's name is on disk, since it was there before everything else; that its time moved on may be lost.
fn age_marks(folder: &Path, chance: &mut Chance) {
    // A store that was hardly begun has no place for marks yet.
    for entry in fs::read_dir(folder.join("home/unflushed")).into_iter().flatten() {
        let path = entry.unwrap().path();
        if chance.below(3) == 0 {
            let past = SystemTime::now() - Duration::from_secs(chance.below(1_000));
            fs::File::open(path).unwrap().set_modified(past).unwrap();
        }
    }
}

/// Kills a life at its operation `at`, takes the power, and comes up again. Gives how much was damaged, or `None`
/// if the life ended before.
fn go_down(seed: u64, at: u64) -> Option<usize> {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "power::a_process_that_goes_down", "--test-threads=1"])
        .envs([(SEED, seed.to_string()), (FAULT, format!("kill@{at}"))])
        .env(HOME, folder)
        .output()
        .unwrap();
    if output.status.signal() != Some(9) {
        assert!(output.status.success(), "{output:?}");
        return None;
    }
    let mut chance = Chance(seed ^ at.rotate_left(32));
    let on_disk = OnDisk::read(folder);
    let before: Vec<PathBuf> = names(folder)
        .into_iter()
        .filter(|(path, metadata)| {
            on_disk.has_name(path, metadata) && path.starts_with(folder.join("home/store"))
        })
        .map(|(path, _)| path)
        .collect();
    let damaged = lose_power(folder, &on_disk, &mut chance);
    age_marks(folder, &mut chance);

    let case = format!("seed {seed}, operation {at}");
    let store = open(folder, "second", None);
    // Nothing is served that is not what it says; only bytes may be missing.
    let mut problems = store.verify().unwrap().problems;
    problems.retain(|problem| !problem.what.starts_with("its output `"));
    assert!(problems.is_empty(), "{case}: {problems:#?}");
    // Nothing that had been flushed is lost.
    for path in before {
        let depth = path.strip_prefix(folder).unwrap().components().count();
        assert!(depth > 5 || path.exists(), "{case}: {} is lost", path.display());
    }
    for step in STEPS {
        let Some(record) = store.realisation(&key(step)).unwrap() else { continue };
        assert_eq!(record.step, step, "{case}");
        for object in record.objects().filter(|object| store.contains(object)) {
            if object.kind == Kind::File {
                let bytes = fs::read(store.path(&object)).unwrap();
                assert_eq!(Digest::of(&bytes), object.digest, "{case}");
            }
        }
    }
    // All of it can be made again, and nothing remains of what was.
    for step in STEPS {
        make(step, folder, &store, Precedence::First);
    }
    store.flush().unwrap();
    store.sweep();
    assert_eq!(store.verify().unwrap().problems, [], "{case}");
    for step in STEPS {
        let record = store.realisation(&key(step)).unwrap().unwrap();
        assert!(record.objects().all(|object| store.contains(&object)), "{case}: {step}");
        assert_eq!(record.outputs[0].object, output_of(step, folder, &store).0, "{case}: {step}");
    }
    drop(store);
    let store = open(folder, "third", None);
    assert_eq!(store.verify().unwrap().problems, [], "{case}");
    make_writable(folder);
    Some(damaged)
}

#[test]
fn what_had_not_reached_the_disk_is_never_served_and_what_had_is_never_lost() {
    let cases = std::env::var(CASES).ok().and_then(|text| text.parse().ok()).unwrap_or(FEW);
    let mut damaged = 0;
    let mut down = 0;
    let mut seed = 0;
    while down < cases {
        seed += 1;
        let mut chance = Chance(seed);
        // A life has some hundred operations; one that ended earlier did not go down.
        if let Some(more) = go_down(seed, 1 + chance.below(500)) {
            damaged += more as u64;
            down += 1;
        }
    }
    println!("went down {down} times, with {damaged} things damaged");
    assert!(damaged > cases, "only {damaged} things were damaged in {down} cases");
}
