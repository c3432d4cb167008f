//! How long steps take, how often they are tried, and what they are lent of the machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;

use crate::harness::Project;

const SLOW: &str = r#"
name = "slow"

[params]
word = "one"

[steps.slow]
run = "sleep 1.2; echo ${params.word} > ${out}"

[steps.after]
run = "cat ${slow} > ${out}"
"#;

#[test]
fn status_says_how_long_a_build_would_take_as_far_as_anyone_knows() {
    let project = Project::new(SLOW);
    let before = project.kiln(&["status", "--json"]).exits(0).json();
    assert!(before["steps"][0]["estimate_seconds"].is_null(), "nothing ran yet: {before}");
    assert_eq!(before["forecast"]["unknown"], 2);
    let said = project.kiln(&["status"]).exits(0).stdout();
    assert!(!said.contains("to build"), "nobody knows anything: {said}");

    project.build(&[]).exits(0);
    assert!(project.kiln(&["status", "--json"]).exits(0).json()["forecast"].is_null());

    project.edit("kiln.toml", "one", "two");
    let status = project.kiln(&["status", "--json"]).exits(0).json();
    let slow = status["steps"][0]["estimate_seconds"].as_f64().unwrap();
    assert!(slow >= 1.2, "{status}");
    let (least, most) = (&status["forecast"]["least_seconds"], &status["forecast"]["most_seconds"]);
    // Sums of times are rounded to nanoseconds.
    assert!(least.as_f64() >= Some(slow - 1e-6) && most.as_f64() > least.as_f64(), "{status}");
    assert_eq!(status["forecast"]["unknown"], 0);
    let said = project.kiln(&["status"]).exits(0).stdout();
    assert!(said.contains("● slow") && said.contains(" (about 1."), "{said}");
    assert!(said.lines().last().unwrap().ends_with(" s to build"), "{said}");
}

#[test]
fn a_build_shows_how_long_a_step_took_the_last_time_where_that_is_worth_a_word() {
    let project = Project::new(&SLOW.replace("1.2", "2.1"));
    let first = project.kiln(&["build"]).exits(0).stderr();
    assert!(!first.contains("last time"), "{first}");
    project.edit("kiln.toml", "one", "two");
    let second = project.kiln(&["build"]).exits(0).stderr();
    let line = second.lines().find(|line| line.contains("running slow")).unwrap();
    assert!(line.contains(" (last time 2."), "{second}");
}

#[test]
fn a_step_that_asks_for_more_than_the_machine_has_runs_alone() {
    let project = Project::new(
        r#"
name = "large"

[steps.a]
run = "echo a > ${out}"
cpus = 4096

[steps.b]
run = "echo b > ${out}"
memory = "900TiB"

[steps.c]
run = "cat ${a} ${b} > ${out}"
cpus = 65536
"#,
    );
    project.build(&["--jobs", "2"]).exits(0);
    assert_eq!(project.read("result/c"), "a\nb\n");
}

/// A step that leaves a line at `$COUNT` for each attempt. Only without a sandbox does anything last from one to the next.
fn counting(script: &str, more: &str) -> (Project, PathBuf) {
    let project = Project::new(&format!(
        "name = \"flaky\"\n[steps.flaky]\nrun = \"\"\"\necho attempt >> $COUNT\n{script}\n\"\"\"\n\
         env = {{ COUNT = \"${{params.count}}\" }}\n{more}\n[params]\ncount = \"\"\n"
    ));
    let count = project.dir().join("count");
    project.edit("kiln.toml", "count = \"\"", &format!("count = \"{}\"", count.display()));
    (project, count)
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn a_step_that_failed_is_tried_again_until_it_succeeds() {
    let (project, count) = counting(
        "echo this is number $(wc -l < $COUNT)\ntest $(wc -l < $COUNT) -ge 3\necho done > ${out}",
        "retries = 4",
    );
    let run = project.kiln(&["build", "--sandbox=off"]).exits(0);
    let said = run.stderr();
    assert!(said.contains(" retrying flaky: attempt 2 of 5 (exited with code 1)"), "{said}");
    assert!(said.contains(" retrying flaky: attempt 3 of 5"), "{said}");
    assert!(!said.contains("attempt 4"), "{said}");
    assert_eq!(lines(&count), 3);
    let log = project.kiln(&["log", "flaky"]).exits(0).stdout();
    assert_eq!(
        log,
        "--- kiln: attempt 1 of 5: exited with code 1 ---\nthis is number 1\n\
         --- kiln: attempt 2 of 5: exited with code 1 ---\nthis is number 2\n\
         --- kiln: attempt 3 of 5 ---\nthis is number 3\n"
    );
    project.edit("kiln.toml", "retries = 4", "retries = 2");
    assert_eq!(project.build(&["--sandbox=off"]).exits(0).steps("reused"), ["flaky"]);
}

#[test]
fn each_attempt_has_a_sandbox_of_its_own_and_the_report_tells_of_all() {
    let project = Project::new(
        r#"
name = "broken"
[steps.broken]
run = "mkdir here; echo part > ${out}; echo tried; printf partly; exit 7"
retries = 2
"#,
    );
    let build = project.build(&[]).exits(1);
    let step = build.step("broken");
    assert_eq!(step["how"], "failed");
    assert_eq!(step["reason"], "exited with code 7 (the last of 3 attempts)");
    let attempts = step["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3, "{step}");
    for (number, attempt) in attempts.iter().enumerate() {
        assert_eq!(attempt["attempt"], number + 1);
        assert_eq!(attempt["reason"], "exited with code 7");
        assert!(attempt["seconds"].as_f64() > Some(0.0));
    }
    let log = fs::read_to_string(step["log"].as_str().unwrap()).unwrap();
    assert_eq!(log.matches("tried\npartly\n---").count(), 2, "{log}");
    assert!(!log.contains("exists"), "something of the first attempt was left: {log}");
    let said = project.kiln(&["build"]).exits(1).stderr();
    assert!(said.contains("failed: exited with code 7 (the last of 3 attempts)"), "{said}");
    assert!(!said.contains("  | --- kiln"), "the tail is the last attempt's: {said}");
}

#[test]
fn too_long_and_without_output_are_tried_again_and_lost_causes_are_not() {
    let attempts = |recipe: &str, arguments: &[&str], code| {
        let project = Project::new(&format!("name = \"t\"\n[steps.a]\n{recipe}\nretries = 1\n"));
        let build = project.build(arguments).exits(code);
        build.step("a")["attempts"].as_array().map_or(1, Vec::len)
    };
    assert_eq!(attempts("run = \"sleep 60\"\ntimeout = 1", &[], 1), 2);
    assert_eq!(attempts("run = \"true\"", &[], 1), 2);
    assert_eq!(attempts("run = \"mkfifo ${out}\"", &[], 1), 2);
    assert_eq!(attempts("run = \"kill -9 $$\"", &[], 1), 2);
    assert_eq!(attempts("run = \"echo > ${out}\"", &[], 0), 1);
    assert_eq!(attempts("run = [\"no-such-program\"]", &[], 1), 1);
}

#[test]
fn a_rejection_is_a_result_and_no_reason_to_try_again() {
    let project = Project::new(
        r#"
name = "gate"
[sources]
data = "data.csv"
suite = "suite.toml"
[steps.check]
builder = "validate"
data = "${sources.data}"
suite = "${sources.suite}"
retries = 3
"#,
    );
    project.write("data.csv", "a\n1\n");
    project.write("suite.toml", "[table]\nmin_rows = 2\n");
    let build = project.build(&[]).exits(3);
    let step = build.step("check");
    assert_eq!((&step["verdict"], &step["attempts"]), (&"rejected".into(), &Value::Null));
}

#[test]
fn an_interrupted_build_tries_nothing_again() {
    let (project, count) =
        counting("test $(wc -l < $COUNT) -ge 2 && exec sleep 600\nfalse", "retries = 9");
    let mut child = project
        .command(&["build", "--json", "--sandbox=off"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while lines(&count) < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["steps"][0]["how"], "skipped", "{report}");
    assert_eq!(lines(&count), 2);
}
