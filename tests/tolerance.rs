//! `determinism = "tolerance"`: what `--check` lets pass, and what not.

use serde_json::Value;

use crate::harness::Project;

/// A step that makes what stands at `$OUTSIDE`. Without a sandbox it can make something else the second time.
fn project(outputs: &str, script: &str) -> Project {
    let project = Project::new(&format!(
        "name = \"near\"\n[params]\noutside = \"\"\n[steps.make]\nrun = \"{script}\"\noutputs = {outputs}\n\
         determinism = \"tolerance\"\ntolerance = {{ absolute = 1e-6, relative = 1e-2 }}\n\
         env = {{ OUTSIDE = \"${{params.outside}}\" }}\n"
    ));
    let outside = project.dir().join("outside");
    project.edit("kiln.toml", "outside = \"\"", &format!("outside = \"{}\"", outside.display()));
    project
}

fn check(project: &Project, code: i32) -> (Value, String) {
    let build = project.build(&["--sandbox=off", "--check"]).exits(code);
    let said = project.kiln(&["build", "--sandbox=off", "--check"]).exits(code).stderr();
    (build.step("make").clone(), said)
}

#[test]
fn numbers_within_the_bound_pass_and_the_worst_is_told_with_its_place() {
    let project = project("{ metrics = \"metrics.json\" }", "cp $OUTSIDE ${out.metrics}");
    project.write("outside", r#"{"f1": 0.9, "loss": [1, 2]}"#);
    project.build(&["--sandbox=off"]).exits(0);
    let (step, said) = check(&project, 0);
    assert!(
        step["deviation"].is_null() && said.contains("checked 1 step: the same bytes again"),
        "{said}"
    );

    project.write("outside", r#"{"loss": [1, 2.01], "f1": 0.9001}"#);
    let (step, said) = check(&project, 0);
    assert_eq!(step["deviation"]["file"], "metrics");
    assert_eq!(step["deviation"]["place"], "/loss/1");
    assert!(step["differences"].is_null(), "{step}");
    assert!(
        said.contains("near make: metrics: /loss/1: 2 → 2.01 (0.50 of what is allowed)"),
        "{said}"
    );
    assert!(said.contains("checked 1 step: the same within what they allow"), "{said}");

    project.write("outside", r#"{"f1": 0.5, "loss": [1, 2.1]}"#);
    let (step, said) = check(&project, 1);
    assert_eq!(step["deviation"]["place"], "/f1");
    let line = step["differences"][0].as_str().unwrap();
    assert!(
        line.starts_with(
            "metrics: 2 numbers lie too far from what they were, at worst /f1: 0.9 → 0.5"
        ),
        "{line}"
    );
    assert!(said.contains("1 not reproducible"), "{said}");

    project.write("outside", r#"{"f1": "0.9", "loss": [1, 2]}"#);
    let (step, _) = check(&project, 1);
    assert_eq!(step["differences"][0], "metrics: /f1: was a number, and is a text");
    // Nothing of it was recorded.
    assert_eq!(project.read("result/make"), r#"{"f1": 0.9, "loss": [1, 2]}"#);
}

#[test]
fn folders_are_compared_file_by_file_and_other_files_byte_for_byte() {
    let project = project("{ all = \"all\" }", "cp -r $OUTSIDE ${out.all}");
    project.write("outside/a/table.csv", "id,x\na,1.0\n");
    project.write("outside/notes.txt", "loss 1.0\n");
    project.build(&["--sandbox=off"]).exits(0);
    project.write("outside/a/table.csv", "id,x\na,1.001\n");
    let (step, said) = check(&project, 0);
    assert_eq!(step["deviation"]["file"], "all/a/table.csv");
    assert!(said.contains("row 2, column `x`: 1 → 1.001"), "{said}");
    project.write("outside/notes.txt", "loss 1.001\n");
    project.write("outside/new.json", "1");
    let (step, _) = check(&project, 1);
    let lines: Vec<&str> =
        step["differences"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(lines[0], "all/new.json: new");
    assert!(lines[1].starts_with("all/notes.txt: 9 → 11 bytes"), "{lines:?}");
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn another_bound_is_no_other_key_and_another_promise_is() {
    let project = project("[\"out\"]", "echo > ${out}");
    let key = project.build(&[]).exits(0).step("make")["action_key"].clone();
    project.edit("kiln.toml", "1e-2", "1e-3");
    let build = project.build(&[]).exits(0);
    assert_eq!((build.steps("reused").len(), &build.step("make")["action_key"]), (1, &key));
    assert_eq!(build.step("make")["determinism"], "tolerance");
    project.edit(
        "kiln.toml",
        "determinism = \"tolerance\"\ntolerance = { absolute = 1e-6, relative = 1e-3 }",
        "",
    );
    let build = project.build(&[]).exits(0);
    assert_eq!((build.steps("ran").len(), build.step("make")["action_key"] == key), (1, false));
}
