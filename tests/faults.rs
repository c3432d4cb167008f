//! What the machine may do to a store: a disk that is full, that cannot be written to, or that forgets a bit; files of
//! other versions; many processes, two users, two containers.
//!
//! Tests that need a mount of their own run a second time in a namespace where they may make one.

mod crowd;
mod damage;
mod disk;
mod permission;
mod read_only;
mod versions;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{Project, Run};

const INSIDE: &str = "KILN_TEST_INSIDE";

/// Whether sweeps are to leave nothing out.
fn is_long() -> bool {
    std::env::var_os("KILN_TEST_LONG").is_some()
}

/// Runs the test of this name again in namespaces where it may mount. `true`: this is that run, and the test goes on.
fn apart(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let place = tempfile::tempdir().unwrap();
    let probe = Command::new("unshare")
        .args(["-Urm", "mount", "-t", "tmpfs", "none"])
        .arg(place.path())
        .output();
    let refused = match probe {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(refused) = refused {
        eprintln!("skipped: nothing can be mounted here: {refused}");
        return false;
    }
    let output = Command::new("unshare")
        .arg("-Urm")
        .arg(std::env::current_exe().unwrap())
        .args([&format!("faults::{name}"), "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
    eprint!("{err}");
    false
}

/// Something that is mounted, until this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(arguments: &[&str], at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        mount(arguments, at);
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What is still in use goes with the namespace.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

fn mount(arguments: &[&str], at: &Path) {
    let output = Command::new("mount").args(arguments).arg(at).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Nothing that kiln does on purpose looks like this.
#[track_caller]
fn is_orderly(run: &Run) {
    assert!((0..=3).contains(&run.code()), "{run:?}");
    for word in ["panicked", "RUST_BACKTRACE", "internal error"] {
        assert!(!run.stderr().contains(word), "{run:?}");
    }
}

/// A source, a file, a tree and what becomes of them.
const SAMPLE: &str = r#"
name = "sample"

[sources]
words = "words.txt"

[steps.sort]
run = "sort ${sources.words} > ${out}; echo sorted"

[steps.parts]
run = "mkdir -p ${out}/d; split -l 1 ${sort} ${out}/d/; cp ${sort} ${out}/all; ln -s all ${out}/link"

[steps.count]
run = "cat ${parts}/d/* | wc -l | tr -d ' ' > ${out}"

[deploy.production]
release = "${parts}"
"#;

fn sample() -> Project {
    let project = Project::new(SAMPLE);
    project.write("words.txt", "pear\napple\nfig\n");
    project
}
