//! Several kilns at once, and kilns that are killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use super::chance::Chance;
use crate::harness::Project;

/// Steps that take their time, on several levels; what each makes differs from run to run.
fn slow(steps: usize) -> Project {
    let mut recipe = String::from("name = \"slow\"\n");
    for step in 0..steps {
        let before =
            if step < 2 { String::new() } else { format!("cat ${{s{}}} > ${{out}}; ", step - 2) };
        let _ = write!(
            recipe,
            "\n[steps.s{step}]\ndeterminism = \"none\"\nrun = \"{before}echo {step} >> ${{out}}; sleep 0.05; od -An -N8 -tx1 /dev/urandom >> ${{out}}\"\n"
        );
    }
    Project::new(&recipe)
}

fn start(project: &Project) -> Child {
    let mut command = project.command(&["build", "--json", "--link", "none"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command.spawn().unwrap()
}

#[test]
fn several_kilns_at_once_run_each_step_once_and_agree() {
    let project = slow(6);
    let kilns: Vec<Child> = (0..4).map(|_| start(&project)).collect();
    let documents: Vec<serde_json::Value> = kilns
        .into_iter()
        .map(|kiln| {
            let done = kiln.wait_with_output().unwrap();
            assert!(done.status.success(), "{done:?}");
            serde_json::from_slice(&done.stdout).unwrap()
        })
        .collect();
    let mut ran: BTreeMap<String, usize> = BTreeMap::new();
    let mut digests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for step in documents.iter().flat_map(|document| document["steps"].as_array().unwrap()) {
        let name = step["step"].to_string();
        *ran.entry(name.clone()).or_default() += usize::from(step["how"] == "ran");
        digests.entry(name).or_default().insert(step["outputs"]["out"]["digest"].to_string());
    }
    assert_eq!(ran.len(), 6);
    assert!(ran.values().all(|&times| times == 1), "{ran:?}");
    assert!(digests.values().all(|digests| digests.len() == 1), "{digests:?}");
}

#[test]
fn kiln_killed_at_any_moment_loses_no_finished_step() {
    let mut chance = Chance::new(11);
    for _ in 0..8 {
        let project = slow(5);
        let mut kiln = start(&project);
        std::thread::sleep(Duration::from_millis(10 + chance.next() % 250));
        kiln.kill().unwrap();
        kiln.wait().unwrap();
        let begun = Instant::now();
        while sees(&project) {
            assert!(begun.elapsed() < Duration::from_secs(10), "a step outlives kiln");
            std::thread::sleep(Duration::from_millis(10));
        }
        let finished = records(project.store());
        let build = project.build(&["--link", "none"]).exits(0);
        let reused: BTreeSet<&str> = build.document["steps"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|step| step["how"] == "reused")
            .map(|step| step["action_key"].as_str().unwrap())
            .collect();
        let lost: Vec<&String> =
            finished.iter().filter(|key| !reused.contains(key.as_str())).collect();
        assert_eq!(lost, [] as [&String; 0], "finished steps ran again");
        assert_eq!(build.ran().len() + finished.len(), 5);
        project.kiln(&["store", "verify"]).exits(0);
    }
}

/// Whether a process has its working folder or its program in the project's folder or store.
fn sees(project: &Project) -> bool {
    let root = project.store().parent().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut mounts =
        processes.filter_map(|entry| fs::read_to_string(entry.path().join("mountinfo")).ok());
    mounts.any(|mounts| mounts.contains(&format!("{}/", root.display())))
}

/// The keys that have a record.
fn records(store: &Path) -> Vec<String> {
    let shards = fs::read_dir(store.join("realisations")).into_iter().flatten().flatten();
    let files = shards.flat_map(|shard| fs::read_dir(shard.path()).into_iter().flatten().flatten());
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.len() == 64).collect()
}
