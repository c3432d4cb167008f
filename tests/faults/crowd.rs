//! Many processes, two users, two containers on one store.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{is_long, is_orderly};
use crate::harness::{Project, Run, binary};

/// Twelve steps in three layers, each of which says outside of the store that it ran.
fn counted(tally: &Path) -> String {
    use std::fmt::Write as _;
    let mut recipe = "name = \"crowd\"\nsalt = \"SALT\"\n".to_owned();
    for step in 0..12 {
        let inputs = match step {
            0..4 => String::new(),
            _ => format!("cat ${{s{}}} ${{s{}}}; ", step - 4, (step - 3) / 4 * 4),
        };
        writeln!(
            recipe,
            "\n[steps.s{step}]\nrun = \"\"\"mktemp {}/s{step}.XXXXXXXX >&2; sleep 0.05; {{ {inputs}echo {step}; }} > ${{out}}\"\"\"",
            tally.display()
        )
        .unwrap();
    }
    recipe
}

/// How often each step ran, by what it left.
fn tallied(tally: &Path) -> Vec<String> {
    let names = fs::read_dir(tally).unwrap().flatten();
    let mut steps: Vec<String> = names
        .map(|entry| entry.file_name().to_string_lossy().split('.').next().unwrap().to_owned())
        .collect();
    steps.sort();
    steps
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn ended_well(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}\n{out}\n{err}", output.status);
    assert!(!err.contains("warning"), "{err}");
    out.into_owned()
}

/// Without a sandbox, so that a step can leave its mark outside.
#[test]
fn eight_processes_that_build_and_collect_on_one_store_run_each_step_once() {
    for round in 0..if is_long() { 20 } else { 2 } {
        let tally = tempfile::tempdir().unwrap();
        let recipe = counted(tally.path()).replace("SALT", &round.to_string());
        let first = Project::new(&recipe);
        let others: Vec<Project> =
            (0..5).map(|_| Project::new(&recipe).sharing_store_with(&first)).collect();
        let builders: Vec<Child> = others
            .iter()
            .chain([&first])
            .map(|project| spawn(&mut project.command(&["build", "--json", "--sandbox", "off"])))
            .collect();
        let keepers = std::thread::scope(|scope| {
            let keepers = [["gc"].as_slice(), &["store", "verify"]].map(|arguments| {
                let first = &first;
                scope.spawn(move || {
                    for _ in 0..10 {
                        ended_well(spawn(&mut first.command(arguments)));
                    }
                })
            });
            let reports: Vec<String> = builders.into_iter().map(ended_well).collect();
            for keeper in keepers {
                keeper.join().unwrap();
            }
            reports
        });
        let outputs: BTreeSet<String> = keepers
            .iter()
            .map(|report| {
                let report: serde_json::Value = serde_json::from_str(report).unwrap();
                let steps = report["steps"].as_array().unwrap();
                steps.iter().map(|step| step["outputs"]["out"]["digest"].to_string()).collect()
            })
            .collect();
        assert_eq!(outputs.len(), 1, "everybody has the same");
        let mut once: Vec<String> = (0..12).map(|step| format!("s{step}")).collect();
        once.sort();
        assert_eq!(tallied(tally.path()), once, "each step ran once, whoever ran it");
        first.kiln(&["store", "verify"]).exits(0);
        assert_eq!(first.build(&["--sandbox", "off"]).exits(0).ran(), [] as [&str; 0]);
        let left = fs::read_dir(first.store().join("tmp")).unwrap().flatten();
        let left: Vec<_> =
            left.map(|entry| entry.file_name()).filter(|name| name != "locks").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Both have the same process ids, all of them: nothing may tell processes apart by those.
#[test]
fn two_containers_with_the_same_process_ids_do_not_get_in_each_others_way() {
    let container = |project: &Project, script: &str| {
        let kiln = project.command(&[]);
        let mut command = Command::new("unshare");
        command.args(["-Urpf", "--mount-proc", "sh", "-eu", "-c", script, "sh"]).arg(binary());
        command.env_clear();
        for (name, value) in kiln.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.current_dir(project.dir());
        command
    };
    let tally = tempfile::tempdir().unwrap();
    let first = Project::new(&counted(tally.path()));
    let probe = container(&first, "exec \"$1\" --version").output();
    if !probe.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no namespace of processes can be made here: {probe:?}");
        return;
    }
    let second = Project::new(&counted(tally.path())).sharing_store_with(&first);
    for round in 0..if is_long() { 10 } else { 1 } {
        for name in fs::read_dir(tally.path()).unwrap().flatten() {
            fs::remove_file(name.path()).unwrap();
        }
        for project in [&first, &second] {
            let salt = project.read("kiln.toml");
            let line = salt.lines().find(|line| line.starts_with("salt")).unwrap().to_owned();
            project.edit("kiln.toml", &line, &format!("salt = \"{round}\""));
        }
        // kiln is process 2 in both, then 2 plus the same for everything that it starts.
        let script = "for i in 1 2 3; do \"$1\" build --sandbox off --link none; \"$1\" gc >&2; done; \"$1\" store verify";
        let children = [&first, &second].map(|project| spawn(&mut container(project, script)));
        for child in children {
            let told = ended_well(child);
            assert!(told.contains("all as they should be"), "{told}");
        }
        let mut once: Vec<String> = (0..12).map(|step| format!("s{step}")).collect();
        once.sort();
        assert_eq!(tallied(tally.path()), once, "each step ran once, whoever ran it");
    }
    first.kiln(&["store", "verify"]).exits(0);
}

/// An ordinary user who is not the one that runs the tests.
const STRANGER: u32 = 54_322;

/// Runs kiln as another user, with the home folder of the tests.
fn as_stranger(project: &Project, kiln: &Path, arguments: &[&str]) -> Run {
    let own = project.command(arguments);
    let id = STRANGER.to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
        .arg(kiln)
        .args(own.get_args())
        .current_dir(project.dir())
        .env_clear()
        .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    project.run(command)
}

/// Lets everybody into a folder, to read or to write.
fn open_up(folder: &Path, mode: u32) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let look = entry.metadata().unwrap();
        if look.is_dir() {
            open_up(&entry.path(), mode);
        } else if look.is_file() {
            let mode = look.permissions().mode() | mode & 0o666;
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    let look = fs::metadata(folder).unwrap();
    let mode = look.permissions().mode() | mode;
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn another_users_store_is_served_if_modes_let_one_in_and_refused_clearly_if_not() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be two users");
        return;
    }
    let project = super::sample();
    let kiln = project.root().join("kiln");
    fs::copy(binary(), &kiln).unwrap();
    // The store is that of user 54321, the project anybody's.
    project.kiln(&["build"]).exits(0);
    let owner = Command::new("chown").args(["-R", "54321:54321"]).arg(project.store()).status();
    assert!(owner.unwrap().success());
    fs::set_permissions(project.root(), fs::Permissions::from_mode(0o755)).unwrap();
    open_up(project.dir(), 0o777);
    open_up(&project.user_home(), 0o777);

    let refused = as_stranger(&project, &kiln, &["build"]);
    is_orderly(&refused);
    assert_eq!(refused.code(), 1, "{refused:?}");
    let said = refused.stderr();
    assert!(said.contains(project.store().to_str().unwrap()), "{said}");
    assert!(said.contains("Permission denied") && said.contains("--home"), "{said}");

    // Readable for all, then even writable for all: served, and never half written.
    for mode in [0o555, 0o777] {
        open_up(project.store(), mode);
        let served = as_stranger(&project, &kiln, &["build", "--link", "none"]).exits(0);
        assert!(served.stderr().contains("3 reused"), "{served:?}");
        let before = project.read("words.txt");
        project.write("words.txt", "kiwi\n");
        let refused = as_stranger(&project, &kiln, &["build"]).exits(1);
        is_orderly(&refused);
        let said = refused.stderr();
        assert!(said.contains("can only be read") && said.contains("belongs to"), "{said}");
        as_stranger(&project, &kiln, &["gc"]).exits(1);
        project.write("words.txt", before);
    }
}
