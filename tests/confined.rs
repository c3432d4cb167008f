//! What a step cannot do, shown through the binary: each act succeeds where nothing is kept apart.
//!
//! The sandbox itself has its tests in the engine; these show that a build really uses it.

use std::{fs, net::TcpListener};

use crate::harness::Project;

/// What a step says of `act` (a shell condition): `yes` or `no`; first without a sandbox, then in it.
///
/// `None` in the sandbox means that this machine gives none, which `kiln doctor` is there to mend.
fn attempt(project: &Project, act: &str) -> (String, Option<String>) {
    project.write(
        "kiln.toml",
        format!(
            "name = \"confined\"\n\n[sources]\nwords = \"words.txt\"\n\n[steps.attempt]\nrun = '''\nif {{ {act}; }} >&2; then echo yes > ${{out}}; \
             else echo no > ${{out}}; fi\nwc -c ${{sources.words}}\n'''\n"
        ),
    );
    project.write("words.txt", "b\na\n");
    project.build(&["--sandbox", "off"]).exits(0);
    let off = project.read("result/attempt").trim().to_owned();
    let build = project.build(&[]).exits(0);
    let isolation = &build.step("attempt")["isolation"];
    let confined = (isolation == "full").then(|| project.read("result/attempt").trim().to_owned());
    if confined.is_none() {
        eprintln!("skipped: isolation is {isolation} on this machine");
    }
    (off, confined)
}

#[track_caller]
fn is_confined(act: &str) {
    confines(&Project::empty(), act);
}

#[track_caller]
fn confines(project: &Project, act: &str) {
    let (off, confined) = attempt(project, act);
    assert_eq!(off, "yes", "without a sandbox the act succeeds, or it would show nothing: {act}");
    if let Some(confined) = confined {
        assert_eq!(confined, "no", "{act}");
    }
}

#[test]
fn a_step_cannot_read_the_home_folder() {
    let project = Project::empty();
    let secret = project.user_home().join("secret");
    fs::write(&secret, "s").unwrap();
    confines(&project, &format!("cat {}", secret.display()));
}

#[test]
fn a_step_cannot_read_a_file_of_the_recipe_that_it_did_not_declare() {
    let project = Project::empty();
    project.write("undeclared.txt", "u");
    confines(&project, &format!("cat {}", project.dir().join("undeclared.txt").display()));
}

#[test]
fn a_step_cannot_read_the_store() {
    let project = Project::empty();
    confines(&project, &format!("ls {}", project.store().display()));
}

#[test]
fn a_step_cannot_see_a_variable_that_it_did_not_declare() {
    let project = Project::empty().variable("TOKEN", "t");
    // The environment is clean without a sandbox, too; the control is to declare it.
    let (off, confined) = attempt(&project, "printenv TOKEN");
    assert_eq!(off, "no");
    assert!(confined.is_none_or(|confined| confined == "no"));
    project.edit("kiln.toml", "[steps.attempt]", "[steps.attempt]\npass_env = [\"TOKEN\"]");
    project.build(&[]).exits(0);
    assert_eq!(project.read("result/attempt"), "yes\n");
}

#[test]
fn a_step_cannot_reach_the_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    is_confined(&format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'"));
}

#[test]
fn a_step_cannot_see_other_processes() {
    is_confined(&format!("grep -q e2e /proc/{}/comm", std::process::id()));
    is_confined(&format!("kill -0 {}", std::process::id()));
}

#[test]
fn a_step_cannot_write_to_its_inputs() {
    is_confined("chmod u+w ${sources.words} && echo more >> ${sources.words}");
}

#[test]
fn a_step_cannot_write_to_the_host() {
    let project = Project::empty();
    let target = project.dir().join("left-behind");
    let (off, confined) = attempt(
        &project,
        &format!("mkdir -p {} && echo x > {}", project.dir().display(), target.display()),
    );
    assert_eq!(off, "yes");
    assert!(target.exists(), "without a sandbox it is left behind");
    if confined.is_some() {
        fs::remove_file(&target).unwrap();
        project.build(&["--again", "attempt"]).exits(0);
        assert!(!target.exists(), "what a step writes to its own /tmp stays there");
    }
}

#[test]
fn a_step_cannot_leave_a_process_behind() {
    let sleep = format!("2{:07}", std::process::id() % 10_000_000);
    let project = Project::new(&format!(
        "name = \"daemon\"\n\n[steps.start]\nrun = \"setsid sleep {sleep} & sleep 0.2; kill -0 $! && echo it runs > ${{out}}\"\n"
    ));
    project.build(&[]).exits(0);
    assert_eq!(project.read("result/start"), "it runs\n");
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    assert!(
        !lines.any(|line| line == format!("sleep\0{sleep}\0").as_bytes()),
        "it ended with its step"
    );
}
