//! Steps that fail, gates that reject, builds that are stopped, stores that cannot be used: what is said, what is kept.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use insta::assert_snapshot;

use crate::harness::Project;

/// A recipe of one step, `make`, with these keys.
fn making(keys: &str) -> Project {
    Project::new(&format!("name = \"one\"\n\n[steps.make]\n{keys}\n"))
}

#[test]
fn a_failed_step_shows_the_tail_of_its_log_and_the_way_to_the_rest() {
    let project = making("run = \"seq 1 30; echo out of luck >&2; exit 7\"");
    assert_snapshot!(project.kiln(&["build"]).exits(1).redacted(), @r###"
      running make: never built
       failed make: exited with code 7
    error: step `make` failed: exited with code 7
      | 12
      | 13
      | 14
      | 15
      | 16
      | 17
      | 18
      | 19
      | 20
      | 21
      | 22
      | 23
      | 24
      | 25
      | 26
      | 27
      | 28
      | 29
      | 30
      | out of luck
    help: see its whole log: kiln log make
    built 1 step: 1 failed, in [TIME]
    "###);
    let log = project.kiln(&["log", "make"]).exits(0).stdout();
    assert!(log.starts_with("1\n2\n") && log.ends_with("30\nout of luck\n"), "{log}");
}

#[test]
fn a_step_without_its_output_is_told_where_to_write_it() {
    assert_snapshot!(making("run = \"true\"").kiln(&["build"]).exits(1).redacted(), @r###"
      running make: never built
       failed make: it left no output `out`
    error: step `make` failed: it left no output `out`
    help: it has to write a file or a folder at ${out}
    built 1 step: 1 failed, in [TIME]
    "###);
    let several = making("run = \"echo > ${out.table}\"\noutputs = [\"plot\", \"table\"]");
    assert_snapshot!(several.kiln(&["build"]).exits(1).redacted(), @r###"
      running make: never built
       failed make: it left no output `plot`
    error: step `make` failed: it left no output `plot`
    help: it has to write a file or a folder at ${out.plot}
    built 1 step: 1 failed, in [TIME]
    "###);
}

#[test]
fn a_killed_step_names_the_signal() {
    assert_snapshot!(making("run = \"kill -9 $$\"").kiln(&["build"]).exits(1).redacted(), @r###"
      running make: never built
       failed make: was ended by signal 9 (SIGKILL)
    error: step `make` failed: was ended by signal 9 (SIGKILL)
    built 1 step: 1 failed, in [TIME]
    "###);
}

#[test]
fn a_program_that_is_not_there_is_named_with_the_ways_to_have_it() {
    assert_snapshot!(making("run = \"no-such-program\"").kiln(&["build"]).exits(1).redacted(), @r###"
      running make: never built
       failed make: exited with code 127
    error: step `make` failed: exited with code 127
      | sh: 1: no-such-program: not found
    help: a program was not found: install it on this machine, or bring it along in `files`
    help: see its whole log: kiln log make
    built 1 step: 1 failed, in [TIME]
    "###);
    assert_snapshot!(making("run = [\"no-such-program\"]").kiln(&["build"]).exits(1).redacted(), @r###"
      running make: never built
       failed make: program `no-such-program` was not found in the sandbox (its PATH is `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`)
    error: step `make` failed: program `no-such-program` was not found in the sandbox (its PATH is `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`)
    help: a program was not found: install it on this machine, or bring it along in `files`
    built 1 step: 1 failed, in [TIME]
    "###);
}

#[test]
fn a_step_that_takes_too_long_is_killed_and_its_timeout_named() {
    let project = making("run = \"echo begun; sleep 60\"\ntimeout = \"1s\"");
    let begun = Instant::now();
    assert_snapshot!(project.kiln(&["build"]).exits(1).redacted(), @r###"
      running make: never built
       failed make: was killed: it passed its `timeout` of [TIME]
    error: step `make` failed: was killed: it passed its `timeout` of [TIME]
      | begun
    help: raise the step's `timeout`, or find out why it takes so long
    help: see its whole log: kiln log make
    built 1 step: 1 failed, in [TIME]
    "###);
    assert!(begun.elapsed() < Duration::from_secs(30), "it was waited for");
    assert!(project.kiln(&["build"]).stderr().contains("its `timeout` of 1"));
}

#[test]
fn a_step_that_takes_too_much_memory_is_killed_and_its_limit_named() {
    let project =
        making("run = \"head -c 1000000000 /dev/zero | tail > ${out}\"\nmemory = \"64MiB\"");
    assert_snapshot!(project.kiln(&["build"]).exits(1).redacted(), @r###"
      running make: never built
       failed make: was killed: it passed its `memory` limit of [SIZE]
    error: step `make` failed: was killed: it passed its `memory` limit of [SIZE]
    help: raise the step's `memory`, or let it use less
    built 1 step: 1 failed, in [TIME]
    "###);
    assert!(project.kiln(&["build"]).stderr().contains("its `memory` limit of 64 MiB"));
}

#[test]
fn an_output_that_cannot_be_stored_says_what_is_wrong_with_it() {
    assert_snapshot!(making("run = \"mkfifo ${out}\"").kiln(&["build"]).exits(1).redacted(), @r###"
      running make: never built
       failed make: its output `out` cannot be stored: it is a FIFO; an output consists of files, folders and links
    error: step `make` failed: its output `out` cannot be stored: it is a FIFO; an output consists of files, folders and links
    help: remove it before the step ends, or write it outside the output
    built 1 step: 1 failed, in [TIME]
    "###);
    let inside = making("run = \"mkdir ${out}; mkfifo ${out}/queue\"");
    assert_snapshot!(inside.kiln(&["build"]).exits(1).redacted(), @r###"
      running make: never built
       failed make: `queue` in its output `out` cannot be stored: it is a FIFO; an output consists of files, folders and links
    error: step `make` failed: `queue` in its output `out` cannot be stored: it is a FIFO; an output consists of files, folders and links
    help: remove it before the step ends, or write it outside the output
    built 1 step: 1 failed, in [TIME]
    "###);
    let link = making("run = \"mkdir ${out}; ln -s ../../etc/passwd ${out}/users\"");
    assert_snapshot!(link.kiln(&["build"]).exits(1).redacted(), @r###"
      running make: never built
       failed make: `users` in its output `out` cannot be stored: it is a link to `../../etc/passwd`, which leaves the output
    error: step `make` failed: `users` in its output `out` cannot be stored: it is a link to `../../etc/passwd`, which leaves the output
    help: copy what it points to into the output, or make the link relative and inside
    built 1 step: 1 failed, in [TIME]
    "###);
    let absolute = making("run = \"mkdir ${out}; ln -s /etc/passwd ${out}/users\"");
    assert_snapshot!(absolute.kiln(&["build"]).exits(1).redacted(), @r###"
      running make: never built
       failed make: `users` in its output `out` cannot be stored: it is a link to `/etc/passwd`, which leaves the output
    error: step `make` failed: `users` in its output `out` cannot be stored: it is a link to `/etc/passwd`, which leaves the output
    help: copy what it points to into the output, or make the link relative and inside
    built 1 step: 1 failed, in [TIME]
    "###);
}

/// The time-out is no part of the key: both builds are at the same action.
#[test]
fn a_failure_is_not_recorded_and_the_next_build_runs_the_step_again() {
    let project = making("run = \"sleep 2; echo done > ${out}\"\ntimeout = \"1s\"");
    let failed = project.build(&[]).exits(1);
    assert_eq!(failed.steps("failed"), ["make"]);
    project.edit("kiln.toml", "1s", "60s");
    let made = project.build(&[]).exits(0);
    assert_eq!(made.ran(), ["make"]);
    assert_eq!(made.step("make")["action_key"], failed.step("make")["action_key"]);
}

#[test]
fn a_mended_step_builds_on_from_what_is_there() {
    let project = Project::new(
        r#"
name = "mended"

[steps.first]
run = "echo 1 > ${out}"

[steps.second]
run = "cat ${first} > ${out}; exti 0"

[steps.third]
run = "cat ${second} > ${out}"
"#,
    );
    let build = project.build(&[]).exits(1);
    assert_eq!(
        (build.ran(), build.steps("failed"), build.steps("skipped")),
        (vec!["first".to_owned()], vec!["second".to_owned()], vec!["third".to_owned()],)
    );
    assert_eq!(build.step("third")["reason"], "`second` failed");
    project.edit("kiln.toml", "exti", "exit");
    let build = project.build(&[]).exits(0);
    assert_eq!(build.steps("reused"), ["first"]);
    assert_eq!(build.ran(), ["second", "third"]);
}

const TWO_BRANCHES: &str = r#"
name = "branches"

[steps.a]
run = "exit 1"

[steps.below]
run = "cat ${a} > ${out}"

[steps.z]
run = "sleep 0.5; echo z > ${out}"

[steps.end]
run = "cat ${z} > ${out}"
"#;

#[test]
fn keep_going_builds_what_does_not_depend_on_the_failure() {
    let project = Project::new(TWO_BRANCHES);
    let build = project.build(&["--keep-going"]).exits(1);
    assert_eq!(build.ran(), ["end", "z"]);
    assert_eq!(build.steps("failed"), ["a"]);
    assert_eq!(build.steps("skipped"), ["below"]);
    assert_eq!(project.read("result/end"), "z\n");
    assert!(!project.dir().join("result/below").exists());
}

#[test]
fn without_keep_going_nothing_new_begins_after_a_failure_and_each_step_says_so() {
    let project = Project::new(TWO_BRANCHES);
    assert_snapshot!(project.kiln(&["build", "--jobs", "1"]).exits(1).redacted(), @r###"
      running a: never built
       failed a: exited with code 1
    error: step `a` failed: exited with code 1
      skipped below: `a` failed
      skipped z: not started: `a` failed
      skipped end: not started: `a` failed
    built 4 steps: 1 failed, 3 skipped, in [TIME]
    "###);
}

#[test]
fn after_a_failure_the_link_shows_the_last_good_result() {
    let project = making("run = \"echo 1 > ${out}\"");
    project.build(&[]).exits(0);
    assert_eq!(project.read("result/make"), "1\n");
    project.edit("kiln.toml", "echo 1", "false");
    project.build(&[]).exits(1);
    assert_eq!(project.read("result/make"), "1\n");
}

const GATE: &str = r#"
name = "gate"

[sources]
table = "table.csv"
suite = "suite.toml"

[steps.check]
builder = "validate"
data = "${sources.table}"
suite = "${sources.suite}"

[steps.count]
run = "wc -l < ${check.data} | tr -d ' ' > ${out}"

[steps.total]
run = "cat ${count} > ${out}"
"#;

#[test]
fn a_rejection_ends_with_3_keeps_its_report_and_is_not_decided_again() {
    let project = Project::new(GATE);
    project.write("table.csv", "id,size\n1,4\n2,700\n2,5\n");
    project.write(
        "suite.toml",
        "[columns.id]\ntype = \"integer\"\nunique = true\n[columns.size]\ntype = \"number\"\nmax = 100\n",
    );
    assert_snapshot!(project.kiln(&["build"]).exits(3).redacted(), @r###"
      running check: never built
     rejected check: 2 checks failed: id: expected every value once, found 1 of 3 repeated, first on line 4; size: expected at most 100, found 1 of 3 out of range, first on line 3
    help: see why `check` rejected: [ROOT]/store/store/t/[DIGEST]/report.html
      skipped count: `check` rejected
      skipped total: `count` was skipped
    built 3 steps: 1 ran, 2 skipped, 1 rejected, [SIZE] made, in [TIME]
    "###);
    assert_snapshot!(project.kiln(&["build"]).exits(3).redacted(), @r###"
     rejected check (as before): 2 checks failed: id: expected every value once, found 1 of 3 repeated, first on line 4; size: expected at most 100, found 1 of 3 out of range, first on line 3
    help: see why `check` rejected: [ROOT]/store/store/t/[DIGEST]/report.html
      skipped count: `check` rejected
      skipped total: `count` was skipped
    built 3 steps: 1 reused, 2 skipped, 1 rejected, in [TIME]
    "###);
    let build = project.build(&["--link", "all"]).exits(3);
    let check = build.step("check");
    assert_eq!((&check["how"], &check["verdict"]), (&"reused".into(), &"rejected".into()));
    assert_eq!(build.steps("skipped"), ["count", "total"]);
    assert!(project.read("result/check/report/report.json").contains("unique"));
    assert!(
        !project.dir().join("result/check/data").exists(),
        "what was rejected is not handed on"
    );

    project.write("table.csv", "id,size\n1,4\n2,70\n3,5\n");
    let build = project.build(&[]).exits(0);
    assert_eq!(build.ran(), ["check", "count", "total"]);
    assert_eq!(project.read("result/total"), "4\n");
}

#[test]
fn a_failure_outweighs_a_rejection() {
    let project = Project::new(&format!("{GATE}\n[steps.other]\nrun = \"exit 1\"\n"));
    project.write("table.csv", "id\n1\n1\n");
    project.write("suite.toml", "[columns.id]\nunique = true\n");
    let build = project.build(&["--keep-going"]).exits(1);
    assert_eq!(build.step("check")["verdict"], "rejected");
    assert_eq!(build.steps("failed"), ["other"]);
}

#[test]
fn a_store_that_cannot_be_written_is_named_with_advice() {
    let project = making("run = \"echo 1 > ${out}\"");
    let home = project.dir().join("taken");
    fs::write(&home, "a file").unwrap();
    let home = home.to_str().unwrap();
    assert_snapshot!(project.kiln(&["build", "--home", home]).exits(1).redacted(), @r###"
    error: there can be no store at `[ROOT]/project/taken`: that is a file, and a store is a folder
     |
     = help: name a folder, which is made if it is not there: --home DIR, or KILN_HOME=DIR
    "###);
    // No one can write there, root neither.
    assert_snapshot!(project.kiln(&["build", "--home", "/proc/kiln"]).exits(1).redacted(), @r###"
    error: failed to create the folder /proc/kiln: No such file or directory (os error 2)
     |
     = help: kiln doctor tells what is wrong; --home DIR names another place
    "###);
}

#[test]
fn a_store_of_an_unknown_format_is_left_alone() {
    let project = making("run = \"echo 1 > ${out}\"");
    project.build(&[]).exits(0);
    let format = project.store().join("format");
    fs::set_permissions(&format, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&format, "kiln store 99\n").unwrap();
    assert_snapshot!(project.kiln(&["build"]).exits(1).redacted(), @r###"
    error: the store in [ROOT]/store has the format `kiln store 99`, and this program knows only `kiln store 1`; use the version of the program that made it, or another home
     |
     = help: kiln doctor tells what is wrong; --home DIR names another place
    "###);
    assert_eq!(fs::read_to_string(&format).unwrap(), "kiln store 99\n");
}

#[test]
fn a_users_file_among_the_links_is_never_touched() {
    let project = making("run = \"echo 1 > ${out}\"");
    project.write("result", "mine\n");
    assert_snapshot!(project.kiln(&["build"]).exits(1).redacted(), @r###"
      running make: never built
         made make in [TIME]
    error: `[ROOT]/project/result` is in the way: kiln puts its links into a folder of this name
     |
     = help: the steps are built and kept; --link none leaves result/ alone
    "###);
    assert_eq!(project.read("result"), "mine\n");
    project.build(&["--link", "none"]).exits(0);

    fs::remove_file(project.dir().join("result")).unwrap();
    project.write("result/make", "mine\n");
    assert_snapshot!(project.kiln(&["build"]).exits(1).redacted(), @r###"
    error: `[ROOT]/project/result/make` is in the way: it is not a link that kiln made
     |
     = help: the steps are built and kept; --link none leaves result/ alone
    "###);
    assert_eq!(project.read("result/make"), "mine\n");
}

/// Two quick steps, then one that sleeps for a time that no other process sleeps for.
struct Slow {
    project: Project,
    sleep: String,
    kiln: Child,
}

impl Slow {
    /// Starts a build, and returns when the slow step's program runs.
    fn start() -> Self {
        let sleep = format!("1{:07}", std::process::id() % 10_000_000);
        let project = Project::new(&format!(
            r#"
name = "slow"

[steps.quick]
run = "echo 1 > ${{out}}"

[steps.slow]
run = "cat ${{quick}} > ${{out}}; sleep {sleep} & wait"
"#
        ));
        let mut kiln = project
            .command(&["build"])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(kiln.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(
            lines.any(|line| line.contains("running") && line.contains("slow")),
            "the slow step begins"
        );
        // Whoever writes to a pipe that nobody reads any more is killed for it.
        std::thread::spawn(move || lines.for_each(drop));
        let slow = Self { project, sleep, kiln };
        slow.wait_until(|slow| slow.sleepers() > 0, "the step's program runs");
        slow
    }

    /// How many processes of this machine are at it.
    fn sleepers(&self) -> usize {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        let wanted = format!("sleep\0{}\0", self.sleep);
        lines.filter(|line| line == wanted.as_bytes()).count()
    }

    fn wait_until(&self, holds: impl Fn(&Self) -> bool, what: &str) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to kiln, and returns its exit code.
    fn signal(&mut self, signal: rustix::process::Signal) -> Option<i32> {
        let id = rustix::process::Pid::from_child(&self.kiln);
        rustix::process::kill_process(id, signal).unwrap();
        self.kiln.wait().unwrap().code()
    }
}

/// What temporary folders a store holds; the folder of locks is there for good.
fn temporary(store: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(store.join("tmp")).unwrap().flatten();
    entries.map(|entry| entry.file_name()).filter(|name| name != "locks").collect()
}

#[test]
fn ctrl_c_ends_every_child_leaves_nothing_behind_and_loses_no_finished_step() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let mut slow = Slow::start();
        assert_eq!(slow.signal(signal), Some(130));
        assert_eq!(slow.sleepers(), 0, "the step's processes are gone when kiln is");
        assert_eq!(temporary(slow.project.store()), [] as [&str; 0]);
        slow.project.edit("kiln.toml", &slow.sleep, "0");
        let build = slow.project.build(&[]).exits(0);
        assert_eq!(build.steps("reused"), ["quick"]);
        assert_eq!(build.ran(), ["slow"]);
    }
}

#[test]
fn a_killed_kiln_takes_its_steps_with_it_and_the_next_build_sweeps_up() {
    let mut slow = Slow::start();
    assert_eq!(slow.signal(rustix::process::Signal::KILL), None);
    slow.wait_until(|slow| slow.sleepers() == 0, "the step dies with kiln");
    slow.project.edit("kiln.toml", &slow.sleep, "0");
    let build = slow.project.build(&[]).exits(0);
    assert_eq!(build.steps("reused"), ["quick"]);
    assert_eq!(build.ran(), ["slow"]);
    assert_eq!(temporary(slow.project.store()), [] as [&str; 0]);
    slow.project.kiln(&["store", "verify"]).exits(0);
}

#[test]
fn a_check_that_a_failure_keeps_from_being_made_leaves_its_step_reused_and_says_so() {
    let project = Project::new(
        "name = \"t\"\n[steps.first]\nrun = \"echo 1 > ${out}\"\n[steps.second]\nrun = \"echo 2 > ${out}\"\n",
    );
    project.build(&[]).exits(0);
    // One slot: whichever is first in the queue, the other one waits for it.
    let broken = "\n[steps.broken]\nrun = \"sleep 0.2; exit 4\"\n";
    let recipe = project.read("kiln.toml") + broken;
    project.write("kiln.toml", recipe);
    let mut unchecked = 0;
    for _ in 0..4 {
        let build = project.build(&["--check", "--jobs", "1"]).exits(1);
        for name in ["first", "second"] {
            let step = build.step(name);
            assert_eq!(step["how"], "reused", "{step:#}");
            assert!(step["outputs"]["out"]["digest"].is_string(), "{step:#}");
            if let Some(reason) = step["unchecked"].as_str() {
                assert_eq!(reason, "not started: `broken` failed");
                unchecked += 1;
            }
        }
        project.edit("kiln.toml", "sleep 0.2;", "sleep 0.2; :;");
    }
    let said = project.kiln(&["build", "--check", "--jobs", "1"]).exits(1).stderr();
    assert_eq!(said.contains("unchecked"), unchecked > 0, "{said}");
}

#[test]
fn what_is_done_once_more_counts_for_its_twin_too() {
    let project = Project::new(
        "name = \"t\"\n[steps.a]\ndeterminism = \"none\"\nrun = \"date +%s%N > ${out}\"\n\
         [steps.b]\ndeterminism = \"none\"\nrun = \"date +%s%N > ${out}\"\n\
         [steps.of_a]\nrun = \"cat ${a} > ${out}\"\n[steps.of_b]\nrun = \"cat ${b} > ${out}\"\n",
    );
    project.build(&["--link", "all"]).exits(0);
    let before = project.read("result/a");
    assert_eq!(project.read("result/b"), before, "one key, one result");
    let build = project.build(&["--again", "a", "--link", "all"]).exits(0);
    assert_ne!(project.read("result/a"), before);
    assert_eq!(build.step("a")["how"], "ran");
    assert_eq!(build.step("b")["how"], "reused");
    assert_eq!(build.step("a")["outputs"], build.step("b")["outputs"]);
    for name in ["b", "of_a", "of_b"] {
        assert_eq!(project.read(&format!("result/{name}")), project.read("result/a"), "{name}");
    }
    assert_eq!(project.build(&["--link", "all"]).exits(0).ran(), [] as [&str; 0]);
}

/// `late` reads what `early` reads, by way of a step that makes it from what `early` made.
#[test]
fn twins_one_behind_the_other_that_are_both_done_once_more_come_to_an_end() {
    let clock = |input: &str| {
        format!(
            "determinism = \"none\"\nrun = \"cat ${{{input}}} > /dev/null; date +%s%N > ${{out}}\"\n"
        )
    };
    let project = Project::new(&format!(
        "name = \"t\"\n[sources]\ns = \"s\"\n[steps.early]\n{}[steps.same]\n\
         run = \"cat ${{early}} > /dev/null; echo same > ${{out}}\"\n[steps.late]\n{}",
        clock("sources.s"),
        clock("same")
    ));
    project.write("s", "same\n");
    let first = project.build(&[]).exits(0);
    assert_eq!(first.step("early")["action_key"], first.step("late")["action_key"]);
    let build = project.build(&["--again", "early", "--again", "late", "--link", "all"]).exits(0);
    assert_eq!(build.ran(), ["early", "late", "same"]);
    assert_eq!(project.read("result/early"), project.read("result/late"));
    assert_eq!(project.build(&["--link", "all"]).exits(0).ran(), [] as [&str; 0]);
}
