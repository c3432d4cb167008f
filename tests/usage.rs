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
