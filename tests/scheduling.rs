//! How long steps take, how often they are tried, and what they are lent of the machine.

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
    assert!(least.as_f64() >= Some(slow) && most.as_f64() > least.as_f64(), "{status}");
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
