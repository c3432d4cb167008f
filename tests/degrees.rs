//! The degrees of isolation, on machines that allow less: what is missing is told once and recorded, and a result is made
//! again for whoever asks for more than its degree.
//!
//! A container's rules are put on by this test's own executable, which then becomes kiln.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    process::{Command, Output},
};

use kiln_engine::sandbox::without_calls;

use crate::harness::Project;

/// The variable that holds what is refused: `unshare,mount:1`.
const REFUSED: &str = "KILN_TEST_REFUSED";

/// The variable that holds the program to become, and its arguments, each behind a line feed.
const BECOME: &str = "KILN_TEST_BECOME";

const CALLS: &[(&str, i64)] = &[
    ("clone3", libc::SYS_clone3),
    ("unshare", libc::SYS_unshare),
    ("setns", libc::SYS_setns),
    ("mount", libc::SYS_mount),
    ("open_tree", libc::SYS_open_tree),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("openat2", libc::SYS_openat2),
    ("close_range", libc::SYS_close_range),
    ("copy_file_range", libc::SYS_copy_file_range),
    ("renameat2", libc::SYS_renameat2),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("memfd_create", libc::SYS_memfd_create),
    ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset),
];

/// What a container without further rights refuses, and an old kernel does not know.
const CONTAINER: &str = "clone3,unshare,setns,mount,open_tree,mount_setattr";

/// No test by itself: the way of this executable to become kiln on such a machine.
#[test]
fn on_a_machine_that_refuses_calls() {
    let (Some(refused), Some(words)) = (std::env::var(REFUSED).ok(), std::env::var_os(BECOME))
    else {
        return;
    };
    let (names, errno) = refused.split_once(':').unwrap();
    let number = |name: &str| CALLS.iter().find(|(call, _)| *call == name).unwrap().1;
    let errno = errno.parse().unwrap();
    let calls: Vec<_> = names.split(',').map(|name| (number(name), errno)).collect();
    without_calls(&calls).unwrap();
    let words = words.into_string().unwrap();
    let mut words = words.split('\n');
    let error = Command::new(words.next().unwrap())
        .args(words)
        .env_remove(REFUSED)
        .env_remove(BECOME)
        .exec();
    panic!("{error}");
}

/// Runs kiln where these calls fail with this error.
fn kiln_without(project: &Project, names: &str, errno: i32, arguments: &[&str]) -> Output {
    let kiln = project.command(arguments);
    let words: Vec<OsString> =
        std::iter::once(kiln.get_program()).chain(kiln.get_args()).map(ToOwned::to_owned).collect();
    let mut command = Command::new("timeout");
    command
        .arg("60")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "degrees::on_a_machine_that_refuses_calls", "--nocapture"])
        .current_dir(project.dir())
        .env_clear();
    for (name, value) in kiln.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command
        .env(REFUSED, format!("{names}:{errno}"))
        .env(BECOME, words.join(OsString::from("\n").as_os_str()))
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The JSON document behind what the test executable has printed before it became kiln.
fn document(output: &Output) -> serde_json::Value {
    let out = text(&output.stdout);
    let start = out.find('{').unwrap_or_else(|| panic!("{out} {}", text(&output.stderr)));
    serde_json::from_str(&out[start..]).unwrap()
}

fn isolation(document: &serde_json::Value, step: &str) -> (String, String) {
    let steps = document["steps"].as_array().unwrap();
    let found = steps.iter().find(|one| one["step"] == step).unwrap();
    let word = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (word("how"), word("isolation"))
}

const RECIPE: &str = "name = \"degrees\"\n\n[sources]\nwords = \"words.txt\"\n\n\
    [steps.one]\nrun = \"sort ${sources.words} > ${out}\"\n\n\
    [steps.two]\nrun = \"wc -l < ${one} > ${out}\"\n";

fn project() -> Project {
    let project = Project::new(RECIPE);
    project.write("words.txt", "b\na\n");
    project
}

#[test]
fn in_a_container_the_degree_is_told_once_recorded_and_made_up_for_later() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let project = project();
        let built = kiln_without(&project, CONTAINER, errno, &["build"]);
        let said = text(&built.stderr);
        assert_eq!(built.status.code(), Some(0), "{said}");
        assert_eq!(said.matches("without user namespace").count(), 1, "{said}");
        assert_eq!(project.read("result/two").trim(), "2");
        // Who asks for no more is served.
        let again = kiln_without(&project, CONTAINER, errno, &["build", "--json"]);
        let (how, degree) = isolation(&document(&again), "two");
        assert_eq!(how, "reused");
        assert!(["partial", "off"].contains(&&*degree), "{degree}");
        let better = project.build(&[]).exits(0);
        let full = better.step("two")["isolation"].as_str().unwrap();
        if full == degree {
            println!("skipped: this machine itself gives {full}");
        } else {
            assert_eq!(better.ran(), ["one", "two"]);
            let last = kiln_without(&project, CONTAINER, errno, &["build", "--json"]);
            assert_eq!(isolation(&document(&last), "two"), ("reused".into(), full.to_owned()));
        }
        let doctor = kiln_without(&project, CONTAINER, errno, &["doctor"]);
        let said = text(&doctor.stdout);
        assert_eq!(doctor.status.code(), Some(0), "{said}");
        assert!(said.contains(&format!("isolation of steps: {degree}")), "{said}");
        assert!(said.contains("○ user namespace") && said.contains("help: "), "{said}");
    }
}

#[test]
fn a_build_goes_on_without_any_one_of_the_newer_calls() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        for (call, _) in CALLS {
            let project = project();
            let built = kiln_without(&project, call, errno, &["build", "--json"]);
            assert_eq!(built.status.code(), Some(0), "{call} {errno}: {}", text(&built.stderr));
            assert_eq!(isolation(&document(&built), "two").0, "ran", "{call}");
            assert_eq!(project.read("result/two").trim(), "2");
        }
    }
}
