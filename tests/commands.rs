//! Every command beside `build` and those of deployments: what it says to people, and the keys of its JSON document.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use insta::assert_snapshot;
use serde_json::Value;

use crate::harness::Project;

const RECIPE: &str = r#"
name = "words"

[params]
suffix = "one"

[sources]
words = "words.txt"

[steps.sort]
run = "sort ${sources.words} > ${out}; echo sorted"

[steps.count]
run = "wc -l < ${sort} | tr -d ' ' > ${out}"

[steps.label]
run = "{ cat ${count}; echo ${params.suffix}; } > ${out.text}; mkdir ${out.tree}; cp ${sort} ${out.tree}/sorted"
outputs = ["text", "tree"]
"#;

fn words() -> Project {
    let project = Project::new(RECIPE);
    project.write("words.txt", "b\na\n");
    project
}

fn built() -> Project {
    let project = words();
    project.build(&["--jobs", "1"]).exits(0);
    project
}

/// The keys of an object.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn status_tells_beforehand_what_would_run_and_why() {
    let project = words();
    assert_snapshot!(project.kiln(&["status"]).exits(0).redacted(), @r###"
    ● sort   never built
    ○ count  never built; `sort` would run first
    ○ label  never built; `sort` would run first
    3 steps: 1 would run, 2 may run
    "###);
    project.build(&[]).exits(0);
    assert_snapshot!(project.kiln(&["status"]).exits(0).redacted(), @r###"
    ✓ sort   up to date
    ✓ count  up to date
    ✓ label  up to date
    3 steps: 3 up to date
    "###);
    project.write("words.txt", "b\na\nc\n");
    project.edit("kiln.toml", "suffix = \"one\"", "suffix = \"two\"");
    assert_snapshot!(project.kiln(&["status"]).exits(0).redacted(), @r###"
    ● sort   input sources.words: file [DIGEST] → file [DIGEST]
    ○ count  depends on what `sort` will make
    ○ label  depends on what `sort` will make
             run: { cat ${count}; echo one; } > ${out.text}; mkdir ${out.tree}… → { cat ${count}; echo two; } > ${out.text}; mkdir ${out.tree}…
    3 steps: 1 would run, 2 may run
    "###);
    assert_eq!(project.read("result/label/text"), "2\none\n", "status runs nothing");
    let document = project.kiln(&["status", "--json"]).exits(0).json();
    assert_eq!(keys(&document), ["forecast", "recipe", "steps"]);
    assert_eq!(keys(&document["forecast"]), ["late", "least_seconds", "most_seconds", "unknown"]);
    assert_eq!(
        keys(&document["steps"][0]),
        ["action_key", "after", "estimate_seconds", "state", "step", "verdict", "why"]
    );
    let states: Vec<&Value> =
        document["steps"].as_array().unwrap().iter().map(|step| &step["state"]).collect();
    assert_eq!(states, ["would_run", "may_run", "may_run"]);
}

#[test]
fn why_shows_the_exact_change_root_causes_first() {
    let project = words();
    assert_snapshot!(project.kiln(&["why", "sort"]).exits(0).redacted(), @r###"
    sort would run: never built
    "###);
    project.build(&[]).exits(0);
    assert_snapshot!(project.kiln(&["why", "sort"]).exits(0).redacted(), @r###"
    sort is up to date; it ran on [MOMENT]
    it was built once in this project; there is nothing to compare with
    "###);
    project.write("words.txt", "b\na\nc\n");
    project.edit("kiln.toml", "suffix = \"one\"", "suffix = \"two\"");
    assert_snapshot!(project.kiln(&["why", "sort"]).exits(0).redacted(), @r###"
    sort would run:
      input sources.words: file [DIGEST] → file [DIGEST]
        --- before
        +++ now
        @@ -1,2 +1,3 @@
         b
         a
        +c
    "###);
    assert_snapshot!(project.kiln(&["why", "label"]).exits(0).redacted(), @r###"
    label may run: depends on what `sort` will make
    besides, this differs from its last build:
      run: { cat ${count}; echo one; } > ${out.text}; mkdir ${out.tree}… → { cat ${count}; echo two; } > ${out.text}; mkdir ${out.tree}…
        --- before
        +++ now
        @@ -1 +1 @@
        -{ cat ${count}; echo one; } > ${out.text}; mkdir ${out.tree}; cp ${sort} ${out.tree}/sorted
        +{ cat ${count}; echo two; } > ${out.text}; mkdir ${out.tree}; cp ${sort} ${out.tree}/sorted
      sort would run:
        input sources.words: file [DIGEST] → file [DIGEST]
          --- before
          +++ now
          @@ -1,2 +1,3 @@
           b
           a
          +c
    "###);
    let document = project.kiln(&["why", "label", "--json"]).exits(0).json();
    assert_snapshot!(keys(&document).join(" "), @r###"
    action_key after causes compared_with last_failure ran_ms removed state step why
    "###);
    project.build(&[]).exits(0);
    assert_snapshot!(project.kiln(&["why", "label"]).exits(0).redacted(), @r###"
    label is up to date; it ran on [MOMENT]
    what differs from the build before:
      run: { cat ${count}; echo one; } > ${out.text}; mkdir ${out.tree}… → { cat ${count}; echo two; } > ${out.text}; mkdir ${out.tree}…
        --- before
        +++ now
        @@ -1 +1 @@
        -{ cat ${count}; echo one; } > ${out.text}; mkdir ${out.tree}; cp ${sort} ${out.tree}/sorted
        +{ cat ${count}; echo two; } > ${out.text}; mkdir ${out.tree}; cp ${sort} ${out.tree}/sorted
      input count: file [DIGEST] → file [DIGEST]
        because count was made anew:
          input sort: file [DIGEST] → file [DIGEST]
            because sort was made anew:
              input sources.words: file [DIGEST] → file [DIGEST]
                --- before
                +++ now
                @@ -1,2 +1,3 @@
                 b
                 a
                +c
      input sort: file [DIGEST] → file [DIGEST]
        because sort was made anew, as told above
    "###);
}

#[test]
fn why_tells_of_an_output_that_is_lost() {
    let project = words();
    let build = project.build(&[]).exits(0);
    project.lose(build.step("label")["outputs"]["text"]["path"].as_str().unwrap());
    assert_snapshot!(project.kiln(&["why", "label"]).exits(0).redacted(), @r###"
    label would run: its output `text` is lost from the store
    "###);
}

#[test]
fn log_prints_what_a_step_printed() {
    let project = words();
    assert_snapshot!(project.kiln(&["log", "sort"]).exits(1).redacted(), @r###"
    error: `sort` has not run yet
     |
     = help: kiln build sort
    "###);
    project.build(&[]).exits(0);
    assert_eq!(project.kiln(&["log", "sort"]).exits(0).stdout(), "sorted\n");
    let document = project.kiln(&["log", "sort", "--json"]).exits(0).json();
    assert_eq!(keys(&document), ["at_ms", "log", "outcome", "reason", "step", "text"]);
    assert_eq!(document["text"], "sorted\n");
    project.edit("kiln.toml", "echo sorted", "echo broken; exit 4");
    project.build(&[]).exits(1);
    let run = project.kiln(&["log", "sort"]).exits(0);
    assert_eq!(run.stdout(), "broken\n");
    assert!(run.stderr().ends_with(": exited with code 4\n"), "{run:?}");
    let document = project.kiln(&["log", "--failed", "--json"]).exits(0).json();
    assert_eq!(keys(&document), ["recipe", "runs"]);
    assert_eq!(document["runs"][0]["reason"], "exited with code 4");
    project.edit("kiln.toml", "echo broken; exit 4", "echo sorted");
    project.build(&[]).exits(0);
    assert_eq!(
        project.kiln(&["log", "sort"]).exits(0).stdout(),
        "sorted\n",
        "what succeeds has not failed"
    );
}

#[test]
fn show_tells_what_is_known_of_a_step_an_object_and_a_realisation() {
    let project = words();
    let build = project.build(&["--jobs", "1"]).exits(0);
    let step = project.kiln(&["show", "label", "--json"]).exits(0).json();
    let key = build.step("label")["action_key"].as_str().unwrap();
    let digest = build.step("label")["outputs"]["tree"]["digest"].as_str().unwrap();
    let realisation = project.kiln(&["show", key, "--json"]).exits(0).json();
    let object = project.kiln(&["show", &format!("tree:{digest}"), "--json"]).exits(0).json();
    assert_snapshot!(keys(&step).join(" "), @r###"
    action_key builder declared_outputs determinism inputs manifest pushed_by_default result state step toolchain why
    "###);
    assert_snapshot!(keys(&realisation).join(" "), @r###"
    action_key attempt attempts builder cost determinism held_by isolation log manifest outputs recipe refs step verdict
    "###);
    assert_snapshot!(keys(&object).join(" "), @r###"
    bytes held_by listing made_by object path
    "###);
    for what in ["label", key, &format!("tree:{digest}"), &digest[..8]] {
        let text = project.kiln(&["show", what]).exits(0).stdout();
        assert!(text.contains(&digest[..12]), "`kiln show {what}` tells which tree it is:\n{text}");
    }
    let tree = project.kiln(&["show", &format!("tree:{digest}")]).exits(0).stdout();
    assert!(tree.contains("sorted"), "a tree's files are listed:\n{tree}");
    assert_snapshot!(project.kiln(&["show", "lable"]).exits(2).redacted(), @r###"
    error: the recipe `words` has no step `lable`
     |
     = help: did you mean `label`?
    "###);
    assert_snapshot!(project.kiln(&["show", "0123456789ab"]).exits(2).redacted(), @r###"
    error: nothing in the store is called `[DIGEST]`
     |
     = help: it may have been collected; the store is [ROOT]/store
    "###);
}

#[test]
fn graph_draws_what_needs_what() {
    let project = words();
    assert_snapshot!(project.kiln(&["graph"]).exits(0).redacted(), @r###"
    words
    └─ label (command)
       ├─ sort (command)
       │  └─ sources.words: words.txt
       └─ count (command)
          └─ sort (command), as above
    "###);
    assert_snapshot!(project.kiln(&["graph", "--format", "dot"]).exits(0).redacted(), @r###"
    digraph "words" {
      rankdir=LR;
      node [fontname="sans-serif"];
      "sources.words" [shape=folder, label="words\nwords.txt"];
      "sort" [shape=box, label="sort\ncommand@1"];
      "count" [shape=box, label="count\ncommand@1"];
      "label" [shape=box, label="label\ncommand@1"];
      "sources.words" -> "sort" [label=""];
      "sort" -> "count" [label="out"];
      "sort" -> "label" [label="out"];
      "count" -> "label" [label="out"];
    }
    "###);
    let document = project.kiln(&["graph", "--json"]).exits(0).json();
    assert_snapshot!(keys(&document).join(" "), @r###"
    deployments recipe sources steps
    "###);
    assert_eq!(document, project.kiln(&["graph", "--format", "json"]).exits(0).json());
    assert!(!project.store().join("realisations").exists(), "a drawing needs no store");
}

#[test]
fn the_collector_names_what_holds_each_object_and_takes_the_rest() {
    let project = built();
    project.edit("kiln.toml", "suffix = \"one\"", "suffix = \"two\"");
    project.build(&["--jobs", "1"]).exits(0);
    let document = project.kiln(&["gc", "--dry-run", "--json"]).exits(0).json();
    assert_snapshot!(keys(&document).join(" "), @r###"
    abandoned bytes_freed bytes_held bytes_kept dry_run keep_bytes kept over_budget removed unreadable unused_since
    "###);
    let held = document["kept"].as_array().unwrap();
    assert!(held.iter().all(|kept| !kept["held_by"].as_array().unwrap().is_empty()), "{document}");
    project.kiln(&["gc"]).exits(0);
    assert_eq!(
        project.build(&[]).exits(0).ran(),
        [] as [&str; 0],
        "what the last build made is kept"
    );
    project.kiln(&["store", "verify"]).exits(0);
}

#[test]
fn an_abandoned_project_is_collected_and_builds_again() {
    let project = built();
    let other = words().sharing_store_with(&project);
    other.build(&[]).exits(0);
    fs::remove_dir_all(project.store().join("roots")).unwrap();
    fs::create_dir(project.store().join("roots")).unwrap();
    assert_snapshot!(project.kiln(&["gc", "--dry-run"]).exits(0).redacted(), @r###"
    nothing is held
    would go     name             size  last used
    file         [DIGEST]      6 B  [MOMENT]
    file         [DIGEST]      4 B  [MOMENT]
    file         [DIGEST]      4 B  [MOMENT]
    file         [DIGEST]      7 B  [MOMENT]
    file         [DIGEST]      0 B  [MOMENT]
    file         [DIGEST]      2 B  [MOMENT]
    tree         [DIGEST]     86 B  [MOMENT]
    realisation  [DIGEST]  [SIZE]  [MOMENT]
    realisation  [DIGEST]  [SIZE]  [MOMENT]
    realisation  [DIGEST]  [SIZE]  [MOMENT]

    would remove 7 objects and 3 realisations: [SIZE]; 0 B would stay
    "###);
    assert_snapshot!(project.kiln(&["gc"]).exits(0).redacted(), @r###"
    nothing is held
    removed 7 objects and 3 realisations: [SIZE]; 0 B stay
    "###);
    assert_snapshot!(project.kiln(&["why", "sort"]).exits(0).redacted(), @r###"
    sort would run: its result was here until [MOMENT], then collected: nothing held it
    "###);
    let document = project.kiln(&["why", "sort", "--json"]).exits(0).json();
    assert_eq!(document["removed"]["cause"], "unheld", "{document}");
    let status = project.kiln(&["status"]).exits(0).stdout();
    assert!(status.contains("then collected"), "{status}");
    let build = project.build(&[]).exits(0);
    assert_eq!(build.ran(), ["count", "label", "sort"]);
    let why = build.step("sort")["why"][0].as_str().unwrap();
    assert!(why.contains("was here until") && why.contains("then collected"), "{why}");
    // Made again, and then lost by another hand.
    fs::remove_dir_all(project.store().join("realisations")).unwrap();
    assert_snapshot!(project.kiln(&["why", "sort"]).exits(0).redacted(), @r###"
    sort would run: its result is lost from the store
    "###);
}

#[test]
fn a_store_shrinks_to_its_budget_and_says_when_what_is_held_is_larger() {
    let project = built();
    project.edit("kiln.toml", "suffix = \"one\"", "suffix = \"two\"");
    project.build(&["--jobs", "1"]).exits(0);
    let gc = |more: &[&str]| {
        let command = [&["gc", "--json"], more].concat();
        project.kiln(&command).exits(0).json()
    };
    // Everything is held by the last builds of a project that is there.
    let held = gc(&["--keep-bytes", "1K"]);
    assert_eq!(held["removed"], serde_json::json!([]), "{held}");
    assert_eq!((&held["over_budget"], &held["keep_bytes"]), (&true.into(), &1024.into()));
    let run = project.kiln(&["gc", "--keep-bytes", "1K", "--older-than", "0s"]).exits(0);
    assert!(run.stderr().contains("larger than the 1.0 KiB"), "{run:?}");
    assert!(run.stdout().contains("held by"), "{run:?}");
    fs::remove_dir_all(project.store().join("roots")).unwrap();
    fs::create_dir(project.store().join("roots")).unwrap();
    let within = gc(&["--keep-bytes", "1M", "--older-than", "1h", "--dry-run"]);
    assert_eq!(within["removed"], serde_json::json!([]), "{within}");
    let kept = &within["kept"][0];
    assert_eq!(kept["held_by"], serde_json::json!([]));
    assert!(kept["last_use"].is_i64(), "{kept}");
    let text = project.kiln(&["gc", "--keep-bytes", "1M", "--dry-run"]).exits(0).redacted();
    assert!(text.contains("nothing; last used [MOMENT]"), "{text}");
    let all = within["bytes_kept"].as_u64().unwrap();
    let less = gc(&["--keep-bytes", &(all - 1).to_string()]);
    assert_eq!(less["over_budget"], false);
    assert!(!less["removed"].as_array().unwrap().is_empty(), "{less}");
    assert!(less["removed"].as_array().unwrap().iter().all(|one| one["cause"] == "over_budget"));
    let rest = gc(&["--older-than", "0s"]);
    assert_eq!(rest["bytes_kept"], 0, "{rest}");
    project.kiln(&["store", "verify"]).exits(0);
}

#[test]
fn limits_that_say_nothing_are_refused_with_advice() {
    let project = built();
    for (option, value, advice) in [
        ("--keep-bytes", "plenty", "20G"),
        ("--keep-bytes", "20X", "20G"),
        ("--keep-bytes", "", "20G"),
        ("--older-than", "30", "30d"),
        ("--older-than", "3 fortnights", "30d"),
    ] {
        let run = project.kiln(&["gc", option, value]).exits(2);
        assert!(run.stderr().contains(advice), "{run:?}");
    }
}

#[test]
fn a_project_whose_folder_is_gone_holds_nothing_any_more() {
    let project = built();
    let gone = words().sharing_store_with(&project);
    gone.edit("kiln.toml", "suffix = \"one\"", "suffix = \"two\"");
    gone.build(&[]).exits(0);
    let folder = gone.dir().canonicalize().unwrap();
    let said = |command: &[&str]| project.kiln(command).exits(0).stdout();
    assert!(!said(&["gc", "--dry-run"]).contains("let go of"));
    fs::remove_dir_all(gone.dir()).unwrap();

    let document = project.kiln(&["gc", "--dry-run", "--json"]).exits(0).json();
    assert_eq!(document["abandoned"][0]["folder"].as_str(), folder.to_str());
    let text = said(&["gc", "--dry-run"]);
    let place = format!("the last builds of `words` in {}", folder.display());
    assert!(text.starts_with(&format!("would let go of {place}: the folder is gone")), "{text}");
    assert!(text.contains("would remove 1 object and 1 realisation:"), "{text}");

    let text = said(&["gc"]);
    assert!(text.starts_with(&format!("let go of {place}: the folder is gone\n")), "{text}");
    assert!(text.contains("and 1 realisation:"), "{text}");
    assert!(!said(&["gc"]).contains("let go of"));
    assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
}

#[test]
fn verify_finds_a_byte_that_changed() {
    let project = words();
    let build = project.build(&[]).exits(0);
    assert_snapshot!(project.kiln(&["store", "verify"]).exits(0).redacted(), @r###"
    read 7 objects and 3 realisations ([SIZE]): all as they should be
    "###);
    let path = build.step("sort")["outputs"]["out"]["path"].as_str().unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, "c\nb\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
    assert_snapshot!(project.kiln(&["store", "verify"]).exits(1).redacted(), @r###"
    [ROOT]/store/store/f/[DIGEST]: its content has changed: its digest now is [DIGEST]
      help: it was moved out of the way: the next build that needs it makes it again
    read 7 objects and 3 realisations ([SIZE]): 1 problem
    "###);
    let document = project.kiln(&["store", "verify", "--json"]).exits(1).json();
    assert_eq!(keys(&document["problems"][0]), ["help", "path", "what"]);
}

#[test]
fn store_path_and_du_tell_where_and_how_much() {
    let project = built();
    let run = project.kiln(&["store", "path", "label.text"]).exits(0);
    assert_eq!(fs::read_to_string(run.stdout().trim()).unwrap(), "2\none\n");
    let document = project.kiln(&["store", "path", "label.text", "--json"]).exits(0).json();
    assert_eq!(keys(&document), ["object", "path"]);
    assert_snapshot!(project.kiln(&["store", "path", "label"]).exits(2).redacted(), @r###"
    error: the step `label` has 2 outputs
     |
     = help: name one of label.text, label.tree
    "###);
    let document = project.kiln(&["store", "du", "--json"]).exits(0).json();
    assert_eq!(keys(&document), ["files", "index", "realisations", "tmp", "trash", "trees"]);
    assert_eq!(document["realisations"]["count"], 3);
}

#[test]
fn copies_are_writable_and_overwrite_nothing() {
    let project = built();
    project.kiln(&["copy", "label.tree", "mine"]).exits(0);
    project.write("mine/sorted", "changed\n");
    let document = project.kiln(&["copy", "label.text", "text", "--json"]).exits(0).json();
    assert_snapshot!(keys(&document).join(" "), @r###"
    bytes object output path
    "###);
    project.write("text", "changed\n");
    assert_eq!(project.read("result/label/text"), "2\none\n", "the store keeps its own");
    assert_snapshot!(project.kiln(&["copy", "label.text", "text"]).exits(2).redacted(), @r###"
    error: `text` is there already
     |
     = help: kiln copy overwrites nothing: name another place, or remove it first
    "###);
    assert_snapshot!(words().kiln(&["copy", "label.text", "text"]).exits(1).redacted(), @r###"
    error: `label` is not built as the recipe stands
     |
     = note: never built; `sort` would run first
     = help: kiln build label
    "###);
}

#[test]
fn check_reads_the_recipe_and_nothing_else() {
    let project = words();
    fs::remove_file(project.dir().join("words.txt")).unwrap();
    assert_snapshot!(project.kiln(&["check"]).exits(0).redacted(), @r###"
    kiln.toml: ok: 3 steps, 1 source, 0 deployments
    "###);
    let document = project.kiln(&["check", "--json"]).exits(0).json();
    assert_snapshot!(keys(&document).join(" "), @r###"
    deployments file recipe sources steps
    "###);
    project.edit("kiln.toml", "${count}", "${cuont}");
    project.kiln(&["check"]).exits(2);
    assert!(!project.store().exists(), "no store is made for it");
}

#[test]
fn doctor_says_of_each_thing_whether_it_works_and_what_to_do() {
    let run = Project::empty().kiln(&["doctor", "--json"]);
    assert!(matches!(run.code(), 0 | 1), "{run:?}");
    let document = run.json();
    let checks = document.as_object().unwrap().values().find_map(Value::as_array).unwrap();
    for area in ["sandbox", "store", "programs"] {
        assert!(checks.iter().any(|check| check["area"] == area), "{area}: {document}");
    }
    for check in checks {
        assert_eq!(keys(check), ["area", "health", "help", "name", "what"]);
        assert!(
            check["health"] == "works" || check["help"].is_string(),
            "what does not work has advice: {check}"
        );
    }
    let text = Project::empty().kiln(&["doctor"]).stdout();
    assert!(text.contains("user namespace") && text.contains("Landlock"), "{text}");
}

#[test]
fn init_writes_a_recipe_that_builds_at_once_and_overwrites_nothing() {
    let project = Project::empty();
    assert_snapshot!(project.kiln(&["init"]).exits(0).redacted(), @r###"
    wrote checks.toml
    wrote data/points.csv
    wrote kiln.toml
    wrote .gitignore

    next:
      kiln build      runs every step, and links what they make under result/
      kiln status     tells what a change would run
      kiln why train  tells why a step ran
      kiln graph      draws what needs what
    "###);
    project.build(&[]).exits(0);
    assert!(!project.linked().is_empty());
    let recipe = project.read("kiln.toml");
    assert_snapshot!(project.kiln(&["init"]).exits(2).redacted(), @r###"
    error: `kiln.toml` is there already
     |
     = help: kiln init overwrites nothing: name another folder, as in `kiln init first`
    "###);
    assert_eq!(project.read("kiln.toml"), recipe);
    let document = project.kiln(&["init", "there", "--json"]).exits(0).json();
    assert_snapshot!(keys(&document).join(" "), @r###"
    dir name written
    "###);
    assert!(project.dir().join("there/kiln.toml").is_file());
}

#[test]
fn help_explains_every_builder() {
    let project = Project::empty();
    for builder in ["command", "validate", "split", "train", "evaluate", "package"] {
        let text = project.kiln(&["help", "builder", builder]).exits(0).stdout();
        assert!(text.contains(builder) && text.lines().count() > 10, "{text}");
        project.kiln(&["help", "builder", builder, "--json"]).exits(0).json();
    }
    assert_snapshot!(project.kiln(&["help", "builder", "trian"]).exits(2).redacted(), @r###"
    error: there is no builder `trian`
     |
     = help: did you mean `train`?
    "###);
    assert_snapshot!(project.kiln(&["help", "biuld"]).exits(2).redacted(), @r###"
    error: kiln has no command `biuld`
     |
     = help: did you mean `build`?
    "###);
    assert_eq!(
        project.kiln(&["help", "build"]).exits(0).stdout(),
        project.kiln(&["build", "--help"]).exits(0).stdout()
    );
}

#[test]
fn every_command_is_listed_and_its_help_begins_with_a_sentence() {
    let project = Project::empty();
    let text = project.kiln(&["--help"]).exits(0).stdout();
    for command in [
        "build",
        "check",
        "completions",
        "copy",
        "deploy",
        "doctor",
        "gc",
        "generations",
        "graph",
        "help",
        "init",
        "log",
        "rollback",
        "show",
        "status",
        "store",
        "why",
    ] {
        assert!(
            text.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))),
            "{command}:\n{text}"
        );
        let help = project.kiln(&[command, "--help"]).exits(0).stdout();
        assert!(help.lines().next().unwrap().chars().next().unwrap().is_uppercase(), "{help}");
    }
    assert_snapshot!(project.kiln(&["biuld"]).exits(2).redacted(), @r###"
    error: unrecognized subcommand 'biuld'

      tip: a similar subcommand exists: 'build'

    Usage: kiln [OPTIONS] <COMMAND>

    For more information, try '--help'.
    "###);
}

#[test]
fn completions_are_written_for_every_shell() {
    let project = Project::empty();
    for shell in ["bash", "zsh", "fish"] {
        let script = project.kiln(&["completions", shell]).exits(0).stdout();
        assert!(script.contains("kiln") && script.contains("generations"), "{shell}");
    }
    let path = project.dir().join("kiln.bash");
    fs::write(&path, project.kiln(&["completions", "bash"]).stdout()).unwrap();
    let checked =
        std::process::Command::new("bash").arg("-n").arg(Path::new(&path)).status().unwrap();
    assert!(checked.success(), "bash can read it");
}

#[test]
fn a_reader_that_has_seen_enough_and_a_full_disk_end_the_output_without_a_panic() {
    let project = Project::recipe("tumour");
    for (target, code) in [("| true", 0), ("> /dev/full", 1)] {
        let script = format!(
            "set -o pipefail; sleep 0; {} graph {target}; exit ${{PIPESTATUS[0]}}",
            crate::harness::binary().display()
        );
        let output = std::process::Command::new("bash")
            .args(["-c", &script])
            .current_dir(project.dir())
            .env("KILN_HOME", project.store())
            .output()
            .expect("bash");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{target}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}
