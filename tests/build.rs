//! What reruns and what does not, what a build says of it, and where its results are found.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
};

use insta::assert_snapshot;

use crate::harness::Project;

const CHAIN: &str = r#"
name = "chain"

[params]
suffix = "one"
unused = 1

[sources]
words = "words.txt"

[steps.sort]
run = "sort ${sources.words} > ${out}"

[steps.count]
run = "wc -l < ${sort} | tr -d ' ' > ${out}"

[steps.label]
run = "{ cat ${count}; echo ${params.suffix}; } > ${out}"
"#;

fn chain() -> Project {
    let project = Project::new(CHAIN);
    project.write("words.txt", "b\na\n");
    project
}

#[test]
fn a_second_build_does_nothing() {
    let project = chain();
    assert_eq!(project.build(&[]).exits(0).ran(), ["count", "label", "sort"]);
    assert_eq!(project.read("result/label"), "2\none\n");
    let again = project.build(&[]).exits(0);
    assert_eq!(again.steps("reused"), ["count", "label", "sort"]);
}

#[test]
fn comments_key_order_names_and_unused_parameters_rerun_nothing() {
    let project = chain();
    project.build(&[]).exits(0);
    project.edit("kiln.toml", "unused = 1", "unused = 2 # and a comment");
    project.edit(
        "kiln.toml",
        "[params]\nsuffix = \"one\"",
        "[params]\n# the suffix\nsuffix = \"one\"",
    );
    project.edit("kiln.toml", "steps.sort]", "steps.ordered]\ndescription = \"sorted\"");
    project.edit("kiln.toml", "${sort}", "${ordered}");
    let build = project.build(&[]).exits(0);
    assert_eq!(build.ran(), Vec::<String>::new(), "{:?}", build.run);
}

#[test]
fn a_changed_parameter_reruns_what_uses_it() {
    let project = chain();
    project.build(&[]).exits(0);
    assert_eq!(project.build(&["--set", "suffix=two"]).exits(0).ran(), ["label"]);
    assert_eq!(project.read("result/label"), "2\ntwo\n");
    assert_eq!(project.build(&[]).exits(0).ran(), Vec::<String>::new());
    assert_eq!(project.read("result/label"), "2\none\n");
}

#[test]
fn the_same_bytes_rerun_nothing_and_an_equal_output_cuts_off_the_rest() {
    let project = chain();
    project.build(&[]).exits(0);
    project.write("words.txt", "b\na\n");
    assert_eq!(project.build(&[]).exits(0).ran(), Vec::<String>::new());
    project.write("words.txt", "a\nb\n");
    assert_eq!(project.build(&[]).exits(0).ran(), ["sort"]);
    project.write("words.txt", "a\nc\n");
    assert_eq!(project.build(&[]).exits(0).ran(), ["count", "sort"]);
}

const NUMBERS: &str = r#"
name = "numbers"

[params]
factor = 2

[sources]
numbers = "numbers.txt"

[steps.check]
run = "grep -c . ${sources.numbers} > ${out}"

[steps.times]
run = "while read n; do echo $((n * ${params.factor})); done < ${sources.numbers} > ${out}"

[steps.sum]
run = "awk '{ s += $1 } END { print s }' ${times} > ${out}"
"#;

#[test]
fn going_back_to_an_old_parameter_or_an_old_source_finds_everything_there() {
    let project = Project::new(NUMBERS);
    project.write("numbers.txt", "1\n2\n3\n");
    let first = project.build(&[]).exits(0).identity();
    project.edit("kiln.toml", "factor = 2", "factor = 3");
    assert_eq!(project.build(&[]).exits(0).ran(), ["sum", "times"]);
    assert_eq!(project.read("result/sum"), "18\n");
    project.write("numbers.txt", "4\n");
    assert_eq!(project.build(&[]).exits(0).ran(), ["check", "sum", "times"]);
    project.edit("kiln.toml", "factor = 3", "factor = 2");
    project.write("numbers.txt", "1\n2\n3\n");
    let back = project.build(&[]).exits(0);
    assert_eq!(back.steps("reused"), ["check", "sum", "times"]);
    assert_eq!(back.identity(), first);
    assert_eq!(project.read("result/sum"), "12\n");
}

#[test]
fn what_a_build_says_is_what_ran_why_and_where_the_result_is() {
    let project = chain();
    assert_snapshot!(project.kiln(&["build", "--jobs", "1"]).exits(0).redacted(), @r###"
      running sort: never built
         made sort in [TIME]
      running count: never built
         made count in [TIME]
      running label: never built
         made label in [TIME]
    built 3 steps: 3 ran, 12 B made, in [TIME]
    --- stdout
    result/label
    "###);
    assert_snapshot!(project.kiln(&["build"]).exits(0).redacted(), @r###"
    built 3 steps: 3 reused, in [TIME]
    --- stdout
    result/label
    "###);
    project.edit("kiln.toml", "suffix = \"one\"", "suffix = \"two\"");
    project.write("words.txt", "b\na\nc\n");
    assert_snapshot!(project.kiln(&["build", "--jobs", "1"]).exits(0).redacted(), @r###"
      running sort: input sources.words: file [DIGEST] → file [DIGEST]
         made sort in [TIME]
      running count: input sort: file [DIGEST] → file [DIGEST]
         made count in [TIME]
      running label: run: { cat ${count}; echo one; } > ${out} → { cat ${count}; echo two; } > ${out} (and 1 more)
         made label in [TIME]
    built 3 steps: 3 ran, 14 B made, in [TIME]
    --- stdout
    result/label
    "###);
}

#[test]
fn the_report_has_the_documented_keys() {
    let project = chain();
    let build = project.build(&[]).exits(0);
    assert!(build.run.stderr().is_empty(), "{:?}", build.run);
    let keys =
        |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&build.document), ["interrupted", "recipe", "seconds", "steps"]);
    let sort = build.step("sort");
    assert_eq!(
        keys(sort),
        [
            "action_key",
            "determinism",
            "how",
            "isolation",
            "log",
            "outputs",
            "reason",
            "seconds",
            "step",
            "verdict",
            "why"
        ]
    );
    assert_eq!(keys(&sort["outputs"]["out"]), ["bytes", "digest", "executable", "kind", "path"]);
    assert_eq!(sort["outputs"]["out"]["kind"], "file");
    assert_eq!(sort["outputs"]["out"]["bytes"], 4);
    assert_eq!(sort["determinism"], "bitwise");
    assert_eq!(sort["verdict"], serde_json::Value::Null);
    assert_eq!(sort["why"], serde_json::json!(["never built"]));
    let digest = sort["outputs"]["out"]["digest"].as_str().unwrap();
    // `printf 'a\nb\n' | b3sum`
    assert_eq!(digest, "41153ec5e22e7e1d208eec929ef45dcd31fd71283799b0615bb8753491715e5b");
    assert!(Path::new(sort["outputs"]["out"]["path"].as_str().unwrap()).is_file());
}

#[test]
fn only_what_a_step_that_was_asked_for_needs_is_built() {
    let project = Project::new(NUMBERS);
    project.write("numbers.txt", "1\n");
    let build = project.build(&["times"]).exits(0);
    assert_eq!(build.ran(), ["times"]);
    assert_eq!(project.read("result/times"), "2\n");
    assert!(!project.dir().join("result/sum").exists());
}

#[test]
fn which_steps_are_linked_is_the_users_choice() {
    let project = chain();
    project.build(&["--link", "none"]).exits(0);
    assert!(!project.dir().join("result").exists());
    project.build(&[]).exits(0);
    assert_eq!(project.linked(), ["label"]);
    project.build(&["--link", "all"]).exits(0);
    assert_eq!(project.linked(), ["count", "label", "sort"]);
    project.build(&[]).exits(0);
    assert_eq!(project.linked(), ["label"]);
}

const CHECKED: &str = r#"
name = "checked"

[steps.clock]
run = "mkdir ${out}; date +%s%N > ${out}/when; echo same > ${out}/what; head -c 16 /dev/urandom > ${out}/noise"

[steps.steady]
run = "echo 1 > ${out}"

[steps.honest]
run = "date +%s%N > ${out}"
determinism = "none"
"#;

#[test]
fn check_shows_file_by_file_what_is_not_reproducible() {
    let project = Project::new(CHECKED);
    project.build(&[]).exits(0);
    let before = project.read("result/clock/when");
    // Where two random texts part is chance.
    let check = project.kiln(&["build", "--check", "clock"]).exits(1).redacted();
    let lines: Vec<&str> =
        check.lines().map(|line| line.split(" at byte ").next().expect("a first part")).collect();
    assert_snapshot!(lines.join("\n"), @r###"
      running clock: asked for with --check
      differs clock: out/noise: 16 → 16 bytes, first difference
      differs clock: out/when: 20 → 20 bytes, first difference
    built 1 step: 1 reused, in [TIME]
    checked 1 step: 1 not reproducible
    help: look for times, random numbers and the order of files or threads; a step that cannot do without says determinism = "tolerance" or "none"
    --- stdout
    result/clock
    "###);
    assert_eq!(project.read("result/clock/when"), before, "a check changes nothing");
    assert_snapshot!(project.kiln(&["build", "--check", "steady"]).exits(0).redacted(), @r###"
      running steady: asked for with --check
    built 1 step: 1 reused, in [TIME]
    checked 1 step: the same bytes again
    --- stdout
    result/steady
    "###);
    assert_snapshot!(project.kiln(&["build", "--check", "honest"]).exits(0).redacted(), @r###"
    note: `honest` says determinism = "none": --check does not hold it to anything
    built 1 step: 1 reused, in [TIME]
    --- stdout
    result/honest
    "###);
    let build = project.build(&["--check"]).exits(1);
    assert_eq!(build.step("clock")["differences"].as_array().unwrap().len(), 2);
    assert_eq!(build.step("steady")["differences"], serde_json::Value::Null);
    assert_eq!(build.step("honest")["differences"], serde_json::Value::Null);
}

#[test]
fn again_records_a_further_attempt_which_counts_from_then_on() {
    let project = Project::new(
        "name = \"again\"\n\n[steps.when]\nrun = \"date +%s%N > ${out}\"\n\n[steps.copy]\nrun = \"cat ${when} > ${out}\"\n",
    );
    project.build(&[]).exits(0);
    let first = project.read("result/copy");
    let build = project.build(&["--again", "when"]).exits(0);
    assert_eq!(build.ran(), ["copy", "when"]);
    let second = project.read("result/copy");
    assert_ne!(first, second);
    assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
    assert_eq!(project.read("result/copy"), second);
}

#[test]
fn results_are_served_only_to_who_asks_for_no_more_isolation() {
    let project = chain();
    let off = project.build(&["--sandbox", "off"]).exits(0);
    assert_eq!(off.step("sort")["isolation"], "off");
    let full = project.build(&[]).exits(0);
    if full.step("sort")["isolation"] == "off" {
        eprintln!("skipped: this machine has no isolation at all");
        return;
    }
    assert_eq!(full.ran(), ["count", "label", "sort"]);
    assert_snapshot!(full.step("sort")["why"].to_string(), @r###"
    ["the recorded result was made with weaker isolation (off)"]
    "###);
    assert_eq!(
        full.identity(),
        off.identity(),
        "how well a step is kept apart is no part of what it is"
    );
    assert_eq!(project.build(&["--sandbox", "off"]).exits(0).ran(), [] as [&str; 0]);
    assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
}

#[test]
fn what_is_lost_from_the_store_is_made_again_with_a_line_that_says_so() {
    let project = chain();
    let first = project.build(&[]).exits(0);
    project.lose(first.step("label")["outputs"]["out"]["path"].as_str().unwrap());
    assert_snapshot!(project.kiln(&["build"]).exits(0).redacted(), @r###"
      running label: its output `out` is lost from the store
         made label in [TIME]
    built 3 steps: 1 ran, 2 reused, 6 B made, in [TIME]
    --- stdout
    result/label
    "###);
    assert_eq!(project.read("result/label"), "2\none\n");
    // An output that nothing needs to read is not missed.
    project.lose(first.step("sort")["outputs"]["out"]["path"].as_str().unwrap());
    assert_eq!(project.build(&["--link", "none"]).exits(0).ran(), [] as [&str; 0]);
    assert_eq!(project.kiln(&["build", "--link", "all"]).exits(0).code(), 0);
    assert_eq!(project.read("result/sort"), "a\nb\n");
}

#[test]
fn the_same_recipe_elsewhere_has_the_same_keys_and_the_same_bytes() {
    let here = chain();
    let first = here.build(&["--jobs", "1"]).exits(0).identity();
    let there = Project::at("a path with spaces")
        .variable("TZ", "Asia/Tokyo")
        .variable("LANG", "de_DE.UTF-8")
        .variable("LC_ALL", "de_DE.UTF-8")
        .variable("USER", "somebody");
    there.write("kiln.toml", CHAIN);
    there.write("words.txt", "b\na\n");
    assert_eq!(there.build(&["--jobs", "4"]).exits(0).identity(), first);
    // A second project finds what the first one built.
    let third = Project::at("third").sharing_store_with(&there);
    third.write("kiln.toml", CHAIN);
    third.write("words.txt", "b\na\n");
    assert_eq!(third.build(&[]).exits(0).ran(), [] as [&str; 0]);
}

#[test]
fn two_builds_at_once_run_each_step_once() {
    let project = Project::new(
        "name = \"once\"\n\n[steps.make]\nrun = \"sleep 1; head -c 8 /dev/urandom | od -An -tx1 > ${out}\"\n",
    );
    let builds: Vec<_> = (0..2)
        .map(|_| {
            let mut command = project.command(&["build", "--json", "--link", "none"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let documents: Vec<serde_json::Value> = builds
        .into_iter()
        .map(|child| serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap())
        .collect();
    let of = |document: &serde_json::Value| document["steps"][0].clone();
    let mut hows: Vec<String> = documents.iter().map(|one| of(one)["how"].to_string()).collect();
    hows.sort();
    assert_eq!(hows, ["\"ran\"", "\"reused\""]);
    assert_eq!(of(&documents[0])["outputs"], of(&documents[1])["outputs"]);
}

#[test]
fn what_two_gates_in_a_row_pass_on_is_made_again_when_it_is_lost() {
    let project = Project::new(
        r#"
name = "gates"

[params]
suffix = "one"

[sources]
suite = "suite.toml"

[steps.make]
run = "echo id > ${out.rows}; echo 1 >> ${out.rows}"
outputs = { rows = "rows.csv" }

[steps.first]
builder = "validate"
data = "${make.rows}"
suite = "${sources.suite}"

[steps.second]
builder = "validate"
data = "${first.data}"
suite = "${sources.suite}"

[steps.use]
run = "{ cat ${second.data}; echo ${params.suffix}; } > ${out}"
"#,
    );
    project.write("suite.toml", "[columns.id]\ntype = \"integer\"\n");
    let build = project.build(&["--link", "all"]).exits(0);
    let path = build.step("make")["outputs"]["rows"]["path"].as_str().expect("a path").to_owned();
    project.lose(&path);
    let build = project.build(&["use", "--set", "suffix=two"]).exits(0);
    assert_eq!(build.ran(), ["make", "use"]);
    assert_eq!(project.read("result/use"), "id\n1\ntwo\n");
}

#[test]
fn links_into_another_store_are_replaced() {
    let project = chain();
    project.build(&[]).exits(0);
    let other = project.store().with_file_name("other");
    let home = other.to_str().expect("a path");
    project.edit("kiln.toml", "suffix = \"one\"", "suffix = \"two\"");
    project.build(&["--home", home]).exits(0);
    assert_eq!(project.read("result/label"), "2\ntwo\n");
    let link = std::fs::read_link(project.dir().join("result/label")).expect("a link");
    assert!(link.starts_with(&other), "{}", link.display());
}

#[test]
fn links_among_files_and_globs_are_followed_inside_the_recipe_and_nowhere_else() {
    use std::os::unix::fs::symlink;
    let project = Project::new(
        r#"
name = "links"

[sources]
rows = "rows/*.csv"

[steps.read]
run = "cat ${sources.rows}/rows/*.csv tools/*.txt > ${out}"
files = ["tools"]
"#,
    );
    project.write("rows/a.csv", "a\n");
    project.write("elsewhere/b.csv", "b\n");
    project.write("elsewhere/t.txt", "t\n");
    project.write("tools/.keep", "");
    symlink("../elsewhere/b.csv", project.dir().join("rows/b.csv")).expect("a link");
    symlink("../elsewhere/t.txt", project.dir().join("tools/t.txt"))
        .expect("a link that leaves its folder, and not the recipe");
    let build = project.kiln(&["build"]);
    assert_eq!(build.code(), 2, "{build:?}");
    std::fs::remove_file(project.dir().join("tools/t.txt")).expect("the link");
    project.write("tools/own.txt", "t\n");
    symlink("own.txt", project.dir().join("tools/t.txt")).expect("a link");
    project.build(&[]).exits(0);
    assert_eq!(project.read("result/read"), "a\nb\nt\nt\n");
    project.write("elsewhere/b.csv", "other\n");
    assert_eq!(project.build(&[]).exits(0).ran(), ["read"]);
    // What a pattern does not match may lead where it likes; what it matches may not.
    symlink("/usr/bin/env", project.dir().join("rows/env")).expect("a link");
    assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
    symlink("/etc/passwd", project.dir().join("rows/c.csv")).expect("a link");
    let refused = project.kiln(&["build"]).exits(2);
    assert!(refused.stderr().contains("leaves the recipe's folder"), "{refused:?}");
}

#[test]
fn failed_builds_push_no_good_build_out_of_the_store() {
    let project = Project::new(
        r#"
name = "attempts"

[params]
number = 1

[steps.make]
run = "echo ${params.number} > ${out}"

[steps.judge]
run = "test $(cat ${make}) -lt 5; cat ${make} > ${out}"
"#,
    );
    project.build(&[]).exits(0);
    for number in 10..17 {
        project.build(&["--set", &format!("number={number}")]).exits(1);
    }
    assert_eq!(project.read("result/judge"), "1\n", "a failure leaves the link alone");
    project.kiln(&["gc"]).exits(0);
    assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
}

#[test]
fn a_changed_extension_is_explained_as_one() {
    let project = Project::new(
        "name = \"x\"\n[sources]\ns = \"s.txt\"\n[steps.a]\nrun = \"cat ${sources.s} > ${out}\"\n",
    );
    project.write("s.txt", "same\n");
    project.write("s.dat", "same\n");
    project.build(&[]).exits(0);
    project.edit("kiln.toml", "s.txt", "s.dat");
    let why = project.kiln(&["why", "a"]).exits(0).stdout();
    assert!(why.contains("extension of input sources.s: txt → dat"), "{why}");
}

#[test]
fn a_terminal_shows_what_a_running_step_printed_last() {
    let script = Path::new("/usr/bin/script");
    if !script.exists() {
        println!("skipped: there is no {} to play a terminal", script.display());
        return;
    }
    let project = Project::empty();
    project.write(
        "kiln.toml",
        "name = \"curve\"\n[steps.train]\nrun = \"printf 'epoch 1: loss 0.7\\nepoch 2: loss 0.5\\n'; sleep 3; touch ${out}\"\n",
    );
    let kiln = project.command(&["build"]);
    let words = [kiln.get_program(), OsStr::new("build")].map(|word| word.to_string_lossy());
    let mut terminal = Command::new(script);
    // A terminal without columns has no room for anything.
    let line = format!("stty cols 100 rows 30; {}", words.join(" "));
    terminal.args(["--quiet", "--command", &line, "/dev/null"]);
    terminal.current_dir(project.dir()).env_clear().stdin(Stdio::null());
    terminal.envs(kiln.get_envs().filter_map(|(name, value)| Some((name, value?))));
    terminal.env("TERM", "xterm");
    let run = project.run(terminal);
    assert!(run.stdout().contains("epoch 2: loss 0.5"), "{run:?}");
}
