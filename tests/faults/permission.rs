//! What the user may not read or write.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use super::{is_orderly, sample};
use crate::harness::{Project, Run, binary};

/// A user whom modes keep from something, unlike root.
const ORDINARY: &str = "54321";

/// Runs kiln as an ordinary user, to whom all of the project then belongs.
fn ordinary(project: &Project, arguments: &[&str]) -> Run {
    let own = project.command(arguments);
    if !rustix::process::geteuid().is_root() {
        return project.run(own);
    }
    let kiln = project.root().join("kiln");
    if !kiln.exists() {
        fs::copy(binary(), &kiln).unwrap();
    }
    let owner = Command::new("chown").args(["-R", "54321:54321"]).arg(project.root()).status();
    assert!(owner.unwrap().success());
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups"])
        .arg(kiln)
        .args(own.get_args())
        .current_dir(project.dir())
        .env_clear()
        .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    project.run(command)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Every folder of the store, the store first.
fn folders(project: &Project) -> Vec<std::path::PathBuf> {
    let mut found = vec![project.store().to_owned()];
    let mut at = 0;
    while at < found.len() {
        let entries = fs::read_dir(&found[at]).unwrap().flatten();
        found.extend(entries.filter(|entry| entry.file_type().unwrap().is_dir()).map(|e| e.path()));
        at += 1;
    }
    found
}

#[test]
fn a_home_that_cannot_be_made_is_named_with_advice() {
    let project = sample();
    let locked = project.root().join("locked");
    fs::create_dir(&locked).unwrap();
    set_mode(&locked, 0o555);
    let home = locked.join("store");
    let run = ordinary(&project, &["build", "--home", home.to_str().unwrap()]);
    is_orderly(&run);
    assert_eq!(run.code(), 1, "{run:?}");
    let said = run.stderr();
    assert!(said.contains(home.to_str().unwrap()) && said.contains("Permission denied"), "{said}");
    assert!(said.contains("KILN_HOME"), "{said}");
}

#[test]
fn a_store_without_permission_to_write_serves_what_is_in_it() {
    let project = sample();
    ordinary(&project, &["build"]).exits(0);
    let folders: Vec<_> = folders(&project)
        .into_iter()
        .map(|folder| (fs::metadata(&folder).unwrap().permissions(), folder))
        .collect();
    folders.iter().for_each(|(_, folder)| set_mode(folder, 0o555));
    let run = ordinary(&project, &["build"]).exits(0);
    assert!(run.stderr().contains("3 reused"), "{run:?}");
    ordinary(&project, &["store", "verify"]).exits(0);
    project.write("words.txt", "kiwi\n");
    let run = ordinary(&project, &["build"]);
    is_orderly(&run);
    assert_eq!(run.code(), 1, "{run:?}");
    let said = run.stderr();
    assert!(said.contains("can only be read") && said.contains("may not write"), "{said}");
    for (mode, folder) in folders {
        fs::set_permissions(folder, mode).unwrap();
    }
    ordinary(&project, &["build"]).exits(0);
    ordinary(&project, &["store", "verify"]).exits(0);
}

#[test]
fn a_recipe_that_cannot_be_read_is_named_with_advice() {
    let project = sample();
    project.set_mode("kiln.toml", 0o000);
    let run = ordinary(&project, &["build"]);
    is_orderly(&run);
    assert_eq!(run.code(), 2, "{run:?}");
    let said = run.stderr();
    assert!(said.contains("kiln.toml") && said.contains("Permission denied"), "{said}");
    assert!(said.contains("chmod"), "{said}");
}

#[test]
fn a_source_that_cannot_be_read_is_shown_at_its_place_with_advice() {
    let project = sample();
    project.set_mode("words.txt", 0o000);
    let run = ordinary(&project, &["build"]);
    is_orderly(&run);
    assert_eq!(run.code(), 2, "{run:?}");
    let said = run.stderr();
    assert!(said.contains("`words.txt` cannot be read") && said.contains("kiln.toml:5"), "{said}");
    assert!(said.contains("check its permissions"), "{said}");
}

#[test]
fn an_object_that_cannot_be_read_is_found_and_mended() {
    let project = sample();
    ordinary(&project, &["build"]).exits(0);
    let sorted = ordinary(&project, &["store", "path", "sort"]).exits(0).stdout();
    let sorted = Path::new(sorted.trim());
    set_mode(sorted, 0o000);
    // Whoever has to read it is told; nobody takes it for something else.
    project.edit("kiln.toml", "wc -l", "wc  -l");
    let run = ordinary(&project, &["build"]);
    is_orderly(&run);
    let found = ordinary(&project, &["store", "verify"]).exits(1);
    assert!(found.stdout().contains(sorted.to_str().unwrap()), "{found:?}");
    ordinary(&project, &["store", "verify"]).exits(0);
    ordinary(&project, &["build"]).exits(0);
    assert_eq!(project.read("result/count"), "3\n");
}
