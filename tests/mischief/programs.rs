//! Programs that are replaced while a build runs.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use super::{temporary, wait_until};
use crate::harness::Project;

/// A prefix with a program of its own.
fn install(bin: &Path, says: &str) {
    let aside = bin.join("aside");
    fs::create_dir_all(bin.parent().unwrap().join("lib")).unwrap();
    fs::create_dir_all(bin).unwrap();
    fs::write(&aside, format!("#!/bin/sh\necho {says}\n")).unwrap();
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(aside, bin.join("greet")).unwrap();
}

#[test]
fn a_tool_that_is_upgraded_while_a_step_runs_has_nothing_recorded_and_is_named() {
    let project = Project::new(
        r#"
name = "upgrade"

[steps.first]
run = "touch begun; while [ ! -e go ]; do sleep 0.01; done; greet > ${out}"
tools = ["greet"]

[steps.second]
run = "cat ${first} > ${out}; greet >> ${out}"
tools = ["greet"]

[steps.other]
run = "echo none of its business > ${out}"
tools = ["cat"]
"#,
    );
    let bin = project.user_home().join("prefix/bin");
    install(&bin, "hello");
    let path = std::env::var("PATH").unwrap();
    let project = project.variable("PATH", &format!("{}:{path}", bin.display()));
    let work = || -> Option<PathBuf> {
        let scratch = fs::read_dir(project.store().join("tmp")).ok()?.flatten();
        scratch.map(|entry| entry.path().join("work")).find(|work| work.join("begun").exists())
    };
    let kiln = project
        .command(&["build", "--keep-going", "--jobs", "2", "--sandbox", "off"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the step begins", || work().is_some());
    install(&bin, "good day");
    fs::write(work().unwrap().join("go"), "").unwrap();
    let ended = kiln.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let name = bin.canonicalize().unwrap().join("greet");
    let wanted = format!(
        "step `first` failed: the programs of this machine changed while the build was running: `{}`",
        name.display()
    );
    assert!(said.contains(&wanted), "{said}");
    assert!(said.contains("help: nothing was recorded; build again"), "{said}");
    assert_eq!(temporary(project.store()), [] as [&str; 0]);
    // Only now is it said to be what it is.
    project.edit("kiln.toml", "touch begun; while [ ! -e go ]; do sleep 0.01; done; ", "");
    let build = project.build(&["--link", "all", "--sandbox", "off"]).exits(0);
    assert_eq!(build.ran(), ["first", "second"]);
    assert_eq!(build.steps("reused"), ["other"]);
    assert_eq!(project.read("result/second"), "good day\ngood day\n");
}
