//! Mistakes that people make, and what they are told: what, where, why, and how to go on.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use crate::harness::Project;

#[test]
fn wrong_usage_with_json_is_one_document_on_stdout() {
    let project = Project::empty();
    for (arguments, message, advice) in [
        (&["buidl", "--json"][..], "unrecognized subcommand 'buidl'", "'build'"),
        (&["--json", "build", "--jbos", "3"], "unexpected argument '--jbos' found", "'--jobs'"),
        (&["why", "--json"], "required arguments were not provided: <STEP>", "try '--help'"),
        (&["build", "--jobs", "many", "--json"], "invalid value 'many'", "try '--help'"),
        (&["--json"], "a command is missing", "kiln --help"),
    ] {
        let run = project.kiln(arguments).exits(2);
        let document = run.json();
        assert_eq!(document["exit"], 2);
        let error = &document["errors"][0];
        assert!(error["message"].as_str().unwrap().contains(message), "{error:#}");
        assert!(error["help"].to_string().contains(advice), "{error:#}");
        assert_eq!(run.stderr(), "");
    }
    let run = project.kiln(&["buidl"]).exits(2);
    assert!(run.stdout().is_empty() && run.stderr().contains("similar subcommand exists: 'build'"));
}

#[test]
fn a_variable_that_is_no_text_is_refused_and_one_that_nobody_takes_is_not() {
    let recipe =
        "name = \"t\"\n[steps.a]\npass_env = [\"WHO\"]\nrun = \"echo $${WHO:-nobody} > ${out}\"\n";
    let project = Project::new(recipe);
    project.build(&[]).exits(0);
    let strange = OsStr::from_bytes(b"\xff");
    for command in ["build", "status"] {
        let output = project.command(&[command]).env("WHO", strange).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("the value of the variable `WHO` is not UTF-8"), "{told}");
        assert!(
            told.contains("kiln.toml:2:1") && told.contains("help: set it to a text"),
            "{told}"
        );
    }
    let output = project.command(&["build"]).env("OTHER", strange).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_changed_of_a_step_itself_is_told_before_the_steps_in_front_of_it_have_run() {
    let project = Project::new(
        "name = \"t\"\n[sources]\nd = \"data\"\n[steps.a]\nrun = \"cat ${sources.d} > ${out}\"\n\
         [steps.b]\nenv = { X = \"1\" }\nrun = \"cat ${a} > ${out}\"\n",
    );
    project.write("data", "1");
    project.build(&[]).exits(0);
    project.write("data", "2");
    let told = project.kiln(&["why", "b"]).exits(0).stdout();
    assert!(!told.contains("besides"), "{told}");
    project.edit("kiln.toml", "X = \"1\"", "X = \"\"");
    let told = project.kiln(&["why", "b"]).exits(0).stdout();
    let place = |text: &str| told.find(text).unwrap_or_else(|| panic!("no {text:?} in\n{told}"));
    assert!(place("besides, this differs from its last build:") < place("variable X: 1 → \"\""));
    assert!(place("variable X") < place("input sources.d"), "{told}");
    assert!(!told.contains("input a"), "what is not known is not told: {told}");
    let told = project.kiln(&["status"]).exits(0).stdout();
    let (_, b) = told.split_once("b  depends on what `a` will make").unwrap();
    assert!(b.contains("variable X: 1 → \"\""), "{told}");
}

#[test]
fn what_is_missing_is_told_together_with_what_is_wrong_with_the_recipe() {
    let project = Project::new(
        "name = \"t\"\n[sources]\nd = \"data\"\ng = \"*.csv\"\nunused = \"nowhere\"\n\
         [steps.a]\nfiles = [\"a.py\"]\ntools = [\"no-such-tool\"]\n\
         run = \"cat ${sources.d} ${sources.g} ${b} > ${out}\"\n",
    );
    for command in ["build", "status"] {
        let said = project.kiln(&[command]).exits(2).stderr();
        let parts = [
            "`b`",
            "`data` does not exist",
            "no file matches `*.csv`",
            "`a.py` does not exist",
            "no-such-tool",
        ];
        for part in parts {
            assert!(said.contains(part), "nothing of {part}: {said}");
        }
        assert!(said.contains("5 problems found") && !said.contains("nowhere"), "{said}");
    }
    // Alone they are told in the same words.
    project.edit("kiln.toml", " ${b}", "");
    let said = project.kiln(&["build"]).exits(2).stderr();
    assert!(said.contains("4 problems found") && said.contains("`data` does not exist"), "{said}");
}

#[test]
fn mistakes_are_told_with_a_way_to_go_on() {
    let step = "[steps.a]\nrun = \"echo > ${out}\"\n";
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("", &["build"], &["the recipe `t` has no steps", "help: [steps.NAME] defines one"]),
        (
            "[steps]\na = \"x\"\n",
            &["build"],
            &["expected a step, which is a table", "help: write `[steps.a]`"],
        ),
        (
            "[steps.out]\nrun = \"x\"\n",
            &["build"],
            &["`out` cannot be the name", "help: choose another name"],
        ),
        (
            "[steps.a]\nrun = \"${b} ${out}\"\n[steps.b]\nrun = \"${a} ${out}\"\n",
            &["build"],
            &["a → b → a", "help: none of them could be the first"],
        ),
        (
            "[steps.a]\nrun = \"x\"\n[steps.a]\nrun = \"y\"\n",
            &["build"],
            &["`a` is defined twice", "help: rename one of the two"],
        ),
        (
            "[sources]\nd = \"da[ta\"\n[steps.a]\nrun = \"cat ${sources.d} > ${out}\"\n",
            &["build"],
            &["unclosed character class", "help: in a pattern"],
        ),
        (
            "[params]\nx = 1\n[steps.a]\nrun = \"echo ${params.x} > ${out}\"\n",
            &["build", "--set", "x=three"],
            &["--set x=three has the wrong type", "kiln.toml:3:5", "help: give it a whole number"],
        ),
        (step, &["build", "--jobs", "0"], &["expected a whole number of at least 1"]),
        (step, &["build", "-j", "-1"], &["expected a whole number of at least 1"]),
        (step, &["-C", "nowhere", "build"], &["there is no folder `nowhere`"]),
        (step, &["build", "aa"], &["no step `aa`", "help: its steps: a"]),
        (step, &["build", "--again", "zz"], &["no step `zz`"]),
    ];
    for (recipe, arguments, wanted) in cases {
        let project = Project::new(&format!("name = \"t\"\n{recipe}"));
        let told = project.kiln(arguments).exits(2).stderr();
        for text in *wanted {
            assert!(told.contains(text), "{arguments:?}: no {text:?} in\n{told}");
        }
    }
    let project = Project::empty();
    std::fs::create_dir(project.dir().join("kiln.toml")).unwrap();
    let told = project.kiln(&["build"]).exits(2).stderr();
    assert!(told.contains("note: `kiln.toml` is a folder there"), "{told}");
}

#[test]
fn a_step_that_reads_what_it_does_not_name_is_told_what_it_sees() {
    let project = Project::new("name = \"t\"\n[steps.a]\nrun = \"cat data > ${out}\"\n");
    project.write("data", "1");
    let told = project.kiln(&["build"]).exits(1).stderr();
    assert!(told.contains("help: a step sees what its references stand for"), "{told}");
}

#[test]
fn a_store_that_would_lie_in_a_file_is_refused_with_what_to_say_instead() {
    let project = Project::new("name = \"t\"\n[steps.a]\nrun = \"echo > ${out}\"\n");
    project.write("file", "mine");
    for arguments in [&["build", "--home", "file"][..], &["gc", "--home", "file"]] {
        let said = project.kiln(arguments).exits(1).stderr();
        assert!(
            said.contains("no store at `file`") && said.contains("a store is a folder"),
            "{said}"
        );
        assert!(said.contains("help: name a folder") && said.contains("KILN_HOME"), "{said}");
    }
    assert_eq!(project.read("file"), "mine");
}
