//! Builds that are interrupted, whatever they are at.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{own_sleep, sleepers, temporary, wait_until};
use crate::harness::Project;

/// Hashing these takes many times as long as the tests allow, wherever they run.
const ENDLESS: u64 = 4 << 40;

/// A build that runs; it is ended with the test.
struct Kiln(Child);

impl Kiln {
    fn start(project: &Project, arguments: &[&str]) -> Self {
        let mut command = project.command(arguments);
        Self(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn open_files(&self) -> impl Iterator<Item = PathBuf> {
        let folder = fs::read_dir(format!("/proc/{}/fd", self.0.id())).into_iter().flatten();
        folder.flatten().filter_map(|entry| fs::read_link(entry.path()).ok())
    }

    fn signal(&self, signal: Signal) {
        // One that has ended already takes no signals.
        let _ = kill_process(Pid::from_child(&self.0), signal);
    }
}

impl Drop for Kiln {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends the signals one after another; kiln has to end soon, and tidily.
#[track_caller]
fn interrupt(project: &Project, mut kiln: Kiln, signals: &[Signal]) -> String {
    let begun = Instant::now();
    for &signal in signals {
        kiln.signal(signal);
        std::thread::sleep(Duration::from_millis(20));
    }
    let stderr = kiln.0.stderr.take().unwrap();
    let lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let said: Vec<String> = lines.collect();
    let said = said.join("\n");
    assert_eq!(kiln.0.wait().unwrap().code(), Some(130), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}: {said}", begun.elapsed());
    assert_eq!(temporary(project.store()), [] as [&str; 0], "{said}");
    said
}

fn endless(path: &Path) {
    let file = fs::File::create(path).unwrap();
    // Some file systems have a limit below that; then what they take has to do.
    let mut length = ENDLESS;
    while file.set_len(length).is_err() {
        length /= 2;
    }
    file.write_all_at(b"x", length / 2).unwrap();
}

#[test]
fn while_a_large_source_is_hashed() {
    for signals in [&[Signal::INT][..], &[Signal::TERM], &[Signal::INT, Signal::INT]] {
        let project = Project::new(
            "name = \"hashing\"\n\n[sources]\ndata = \"data.bin\"\n\n[steps.read]\nrun = \"cp ${sources.data} ${out}\"\n",
        );
        endless(&project.dir().join("data.bin"));
        let kiln = Kiln::start(&project, &["build"]);
        let open = || kiln.open_files().any(|path| path.ends_with("data.bin"));
        wait_until("it reads the source", open);
        let said = interrupt(&project, kiln, signals);
        assert!(said.contains("error: interrupted before the first step"), "{said}");
        project.write("data.bin", "small\n");
        assert_eq!(project.build(&[]).exits(0).ran(), ["read"]);
        project.kiln(&["store", "verify"]).exits(0);
    }
}

#[test]
fn while_a_large_output_is_taken_in() {
    let recipe = |more: &str| {
        format!(
            "name = \"taking\"\n\n[steps.quick]\nrun = \"echo 1 > ${{out}}\"\n\n[steps.big]\n\
             run = \"cat ${{quick}} > /dev/null; {more}\"\n"
        )
    };
    // Holes up to the limit, in many files: what is hashed and not written.
    let many = "mkdir ${out}; for i in $(seq 400); do truncate -s 60G ${out}/$i; done";
    for (sandbox, signals) in [
        ("full", &[Signal::INT][..]),
        ("off", &[Signal::TERM]),
        ("full", &[Signal::HUP, Signal::INT]),
    ] {
        let project = Project::new(&recipe(many));
        let kiln = Kiln::start(&project, &["build", "--sandbox", sandbox]);
        let hashes = || {
            let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
            kiln.open_files().any(|path| number(&path).is_some())
        };
        wait_until("it reads the output", hashes);
        interrupt(&project, kiln, signals);
        project.write("kiln.toml", recipe("echo 2 > ${out}"));
        let build = project.build(&["--sandbox", sandbox]).exits(0);
        assert_eq!(build.steps("reused"), ["quick"], "what was finished is kept");
        assert_eq!(build.ran(), ["big"]);
        project.kiln(&["store", "verify"]).exits(0);
    }
}

#[test]
fn while_steps_run_that_heed_no_signal() {
    let sleep = own_sleep(8);
    let step = |name: &str| {
        format!(
            "[steps.{name}]\nrun = '''\ntrap '' INT TERM HUP\ncat ${{quick}} > ${{out}}; echo {name} > ${{out}}\n\
             setsid sleep {sleep} &\nsleep {sleep} &\nwhile :; do sleep {sleep} || :; done\n'''\n\n"
        )
    };
    for sandbox in super::CHOICES {
        let project = Project::new(&format!(
            "name = \"running\"\n\n[steps.quick]\nrun = \"echo 1 > ${{out}}\"\n\n{}{}",
            step("a"),
            step("b")
        ));
        let kiln = Kiln::start(&project, &["build", "--jobs", "2", "--sandbox", sandbox]);
        wait_until("both steps run", || sleepers(&sleep) == 6);
        interrupt(&project, kiln, &[Signal::INT, Signal::TERM]);
        assert_eq!(sleepers(&sleep), 0, "{sandbox}");
        for name in ["a", "b"] {
            project.edit(
                "kiln.toml",
                &step(name),
                &format!("[steps.{name}]\nrun = \"cat ${{quick}} > ${{out}}; : {name}\"\n\n"),
            );
        }
        let build = project.build(&["--sandbox", sandbox]).exits(0);
        assert_eq!(build.steps("reused"), ["quick"], "{sandbox}");
        project.kiln(&["store", "verify"]).exits(0);
    }
}

/// Whoever asks again and again gets the prompt at once; the next build sweeps up.
#[test]
fn again_and_again() {
    let sleep = own_sleep(9);
    let project = Project::new(&format!(
        "name = \"again\"\n\n[steps.slow]\nrun = \"sleep {sleep}; echo 1 > ${{out}}\"\n"
    ));
    let mut kiln = Kiln::start(&project, &["build"]);
    wait_until("the step runs", || sleepers(&sleep) == 1);
    for _ in 0..10 {
        kiln.signal(Signal::INT);
    }
    assert_eq!(kiln.0.wait().unwrap().code(), Some(130));
    wait_until("the step ends with kiln", || sleepers(&sleep) == 0);
    project.edit("kiln.toml", &format!("sleep {sleep}; "), "");
    project.build(&[]).exits(0);
    assert_eq!(temporary(project.store()), [] as [&str; 0]);
}
