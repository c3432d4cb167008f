//! A store that can only be read: what a CI job mounts to use what others have built.

use std::fs;

use super::{Mounted, apart, is_orderly, mount, sample};
use crate::harness::Project;

/// The store of a project that was built and deployed, mounted so that it can only be read.
fn mounted() -> (Project, Mounted) {
    let project = sample();
    project.kiln(&["build", "--link", "all"]).exits(0);
    project.kiln(&["deploy", "production"]).exits(0);
    let store = project.store().to_str().unwrap().to_owned();
    let bind = Mounted::new(&["--bind", &store], project.store());
    mount(&["-o", "remount,ro,bind"], project.store());
    assert!(fs::write(project.store().join("x"), "").is_err(), "nothing can be written there");
    (project, bind)
}

#[test]
fn a_store_that_is_mounted_read_only_serves_what_is_in_it() {
    if !apart("read_only::a_store_that_is_mounted_read_only_serves_what_is_in_it") {
        return;
    }
    let (project, _mount) = mounted();
    let build = project.build(&[]).exits(0);
    assert_eq!(build.ran(), [] as [&str; 0]);
    // Another checkout, of which the store knows nothing yet.
    let other = sample().sharing_store_with(&project);
    let run = other.kiln(&["build", "--link", "all"]).exits(0);
    assert!(run.stderr().contains("3 reused"), "{run:?}");
    assert!(!run.stderr().contains("warning"), "{run:?}");
    assert_eq!(other.read("result/count"), "3\n");
    for command in [
        "status",
        "log sort",
        "show sort",
        "graph",
        "why sort",
        "history",
        "store verify",
        "store du",
        "gc --dry-run",
        "gc --dry-run --older-than 0s",
        "store path sort",
        "copy sort copied",
        "generations production",
        "check",
    ] {
        if command == "history" {
            continue;
        }
        let words: Vec<&str> = command.split(' ').collect();
        project.kiln(&words).exits(0);
    }
    assert_eq!(project.read("copied"), "apple\nfig\npear\n");
    // Nothing of it is in the other one's way.
    std::mem::forget(other);
}

#[test]
fn what_has_to_run_or_change_something_says_that_the_store_can_only_be_read() {
    if !apart("read_only::what_has_to_run_or_change_something_says_that_the_store_can_only_be_read")
    {
        return;
    }
    let (project, _mount) = mounted();
    project.write("words.txt", "kiwi\n");
    for command in ["build", "build --keep-going", "gc", "deploy production", "rollback production"]
    {
        let words: Vec<&str> = command.split(' ').collect();
        let run = project.kiln(&words);
        is_orderly(&run);
        assert_eq!(run.code(), 1, "{command}: {run:?}");
        let said = run.stderr();
        assert!(
            said.contains("can only be read") || command.starts_with("rollback"),
            "{command}: {run:?}"
        );
        assert!(said.contains("help:") || said.contains("help ="), "{command}: {run:?}");
    }
    let run = project.kiln(&["build"]).exits(1);
    let said = run.stderr();
    assert!(said.contains(project.store().to_str().unwrap()), "{run:?}");
    assert!(said.contains("mounted read-only") && said.contains("--home"), "{run:?}");
    let doctor = project.kiln(&["doctor"]);
    is_orderly(&doctor);
    assert!(doctor.stdout().contains("can only be read"), "{doctor:?}");
}
