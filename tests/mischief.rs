//! Steps that misbehave and sources that do not keep still: what is said, what is kept, and that nothing is believed
//! that is not so.

mod logs;
mod outputs;
mod outside;
mod processes;
mod programs;
mod sources;
mod stopped;

use std::{
    ffi::OsString,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::harness::Project;

/// With a sandbox and without: what is said and kept is the same unless a test says otherwise.
const CHOICES: [&str; 2] = ["full", "off"];

/// A recipe of one step, `make`, with this script and these further keys.
fn making(keys: &str, script: &str) -> Project {
    Project::new(&format!("name = \"one\"\n\n[steps.make]\n{keys}\nrun = '''\n{script}\n'''\n"))
}

/// What temporary folders a store holds; the folder of locks is there for good.
fn temporary(store: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(store.join("tmp")).unwrap().flatten();
    entries.map(|entry| entry.file_name()).filter(|name| name != "locks").collect()
}

/// How many processes of this machine sleep for `seconds`, which no other test sleeps for.
fn sleepers(seconds: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let wanted = format!("sleep\0{seconds}\0");
    lines.filter(|line| line == wanted.as_bytes()).count()
}

/// A time to sleep for that is nobody else's; `place` tells those of one test apart.
fn own_sleep(place: u32) -> String {
    format!("3{place}{:07}", std::process::id() % 10_000_000)
}

/// Waits until something holds.
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Bytes on disk below a folder.
fn disk_usage(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(folder).unwrap().flatten();
    let sizes = entries.map(|entry| {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() { disk_usage(&entry.path()) } else { metadata.blocks() * 512 }
    });
    sizes.sum()
}
