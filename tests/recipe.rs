//! What a user reads when a recipe, what it names, or the command line is wrong.
//!
//! Each kind of mistake once, as the terminal shows it; every message of the language itself is tested in the engine.

use std::{fs, os::unix::fs::symlink};

use insta::assert_snapshot;

use crate::harness::{Project, Run};

/// Builds a recipe that is wrong, beside a file `words.txt`.
#[track_caller]
fn refused(recipe: &str) -> Run {
    let project = Project::new(recipe);
    project.write("words.txt", "b\na\n");
    let run = project.kiln(&["build"]).exits(2);
    assert!(run.stdout().is_empty(), "a mistake is talk, not data: {run:?}");
    assert!(!project.dir().join("result").exists(), "nothing was linked");
    run
}

#[test]
fn all_syntax_errors_are_shown_at_once() {
    let recipe = "name = \"chain\"\ndescription = unquoted\n\n[steps.sort\nrun = \"sort\"\n";
    assert_snapshot!(refused(recipe).redacted(), @r###"
    error: the recipe is not valid TOML
     --> kiln.toml:2:15
      |
    2 | description = unquoted
      |               ^^^^^^^^ string values must be quoted, expected literal string

    error: the recipe is not valid TOML
     --> kiln.toml:4:12
      |
    4 | [steps.sort
      |            ^ unclosed table, expected `]`

    2 problems found
    "###);
}

#[test]
fn unknown_keys_and_references_name_the_nearest() {
    let recipe = r#"
name = "chain"

[sources]
words = "words.txt"

[steps.sort]
run = "sort ${sources.wrods} > ${out}"
output = ["sorted"]

[steps.count]
run = "wc -l < ${srot} > ${out}"
"#;
    assert_snapshot!(refused(recipe).redacted(), @r###"
    error: unknown source `wrods`
     --> kiln.toml:8:13
      |
    8 | run = "sort ${sources.wrods} > ${out}"
      |             ^^^^^^^^^^^^^^^^ the recipe has no source of this name
      |
      = help: did you mean `words`?

    error: unknown key `output`
     --> kiln.toml:9:1
      |
    9 | output = ["sorted"]
      | ^^^^^^ a `command` step has no such key
      |
      = help: did you mean `outputs`?

    error: unknown step `srot`
      --> kiln.toml:12:16
       |
    12 | run = "wc -l < ${srot} > ${out}"
       |                ^^^^^^^ the recipe has no step of this name
       |
       = note: a shell variable is written `$${NAME}` or `$NAME`
       = help: did you mean `sort`?

    3 problems found
    "###);
}

#[test]
fn a_cycle_is_shown_link_by_link() {
    let recipe = r#"
name = "ring"

[steps.egg]
run = "cat ${hen} > ${out}"

[steps.hen]
run = "cat ${egg} > ${out}"
"#;
    assert_snapshot!(refused(recipe).redacted(), @r###"
    error: steps need each other: egg → hen → egg
     --> kiln.toml:5:12
      |
    5 | run = "cat ${hen} > ${out}"
      |            ^^^^^^ `egg` reads `hen`
    ...
    8 | run = "cat ${egg} > ${out}"
      |            ------ `hen` reads `egg`
      |
      = help: none of them could be the first: take one of these out
    "###);
}

#[test]
fn wrong_types_say_what_is_expected_and_what_was_found() {
    let recipe = r#"
name = "types"

[sources]
data = "words.txt"

[steps.split]
builder = "split"
data = "${sources.data}"
label = 3
ratios = { train = "most", test = 0.2 }

[steps.list]
run = "ls > ${out}"
cpus = "two"
timeout = "10 parsecs"
"#;
    assert_snapshot!(refused(recipe).redacted(), @r###"
    error: `label` has the wrong type or value
      --> kiln.toml:10:9
       |
    10 | label = 3
       |         ^ expected a text, found the number 3

    error: `ratios.train` has the wrong type or value
      --> kiln.toml:11:20
       |
    11 | ratios = { train = "most", test = 0.2 }
       |                    ^^^^^^ expected a number from 0 to 1, found the text "most"

    error: `cpus` has the wrong type
      --> kiln.toml:15:8
       |
    15 | cpus = "two"
       |        ^^^^^ expected a whole number from 1, found the text "two"

    error: `timeout` cannot be read
      --> kiln.toml:16:11
       |
    16 | timeout = "10 parsecs"
       |           ^^^^^^^^^^^^ ` parsecs` is not a unit of time
       |
       = help: expected a time such as `"90s"` or `"1h30m"`, or seconds

    4 problems found
    "###);
}

#[test]
fn an_output_that_is_declared_twice_is_shown_at_both_places() {
    let recipe = r#"
name = "twice"

[steps.make]
run = "true"
outputs = ["table", "plot", "table"]

[steps.draw]
run = "true"
outputs = { a = "same.png", b = "same.png" }
"#;
    assert_snapshot!(refused(recipe).redacted(), @r###"
    error: the output `table` is declared twice
     --> kiln.toml:6:29
      |
    6 | outputs = ["table", "plot", "table"]
      |            -------          ^^^^^^^ again here
      |            |
      |            first here

    error: two outputs are the file "same.png"
      --> kiln.toml:10:33
       |
    10 | outputs = { a = "same.png", b = "same.png" }
       |                 ----------      ^^^^^^^^^^ again here
       |                 |
       |                 first here

    2 problems found
    "###);
}

#[test]
fn missing_sources_and_files_are_all_named_with_the_nearest() {
    let recipe = r#"
name = "missing"

[sources]
words = "word.txt"
tables = "tables/*.csv"

[steps.sort]
run = "sort ${sources.words} ${sources.tables} > ${out}"
files = ["sort.py"]
"#;
    assert_snapshot!(refused(recipe).redacted(), @r###"
    error: source `words`: `word.txt` does not exist
     --> kiln.toml:5:1
      |
    5 | words = "word.txt"
      | ^^^^^ no such file or folder beside the recipe
      |
      = help: did you mean `words.txt`?

    error: source `tables`: no file matches `tables/*.csv`
     --> kiln.toml:6:1
      |
    6 | tables = "tables/*.csv"
      | ^^^^^^ nothing matches this pattern
      |
      = help: `*` stays within a folder, `**` does not; hidden files match only a pattern that names the dot

    error: `sort.py` does not exist
      --> kiln.toml:10:10
       |
    10 | files = ["sort.py"]
       |          ^^^^^^^^^ no such file or folder beside the recipe
       |
       = help: paths are relative to the folder that the recipe stands in

    3 problems found
    "###);
}

#[test]
fn paths_that_leave_the_recipe_are_refused() {
    let recipe = r#"
name = "leaves"

[sources]
above = "../words.txt"
absolute = "/etc/hostname"

[steps.sort]
run = "sort ${sources.above} ${sources.absolute} > ${out}"
files = ["../sort.py"]
"#;
    assert_snapshot!(refused(recipe).redacted(), @r###"
    error: the path "../words.txt" cannot be used
     --> kiln.toml:5:9
      |
    5 | above = "../words.txt"
      |         ^^^^^^^^^^^^^^ it leaves the recipe's folder
      |
      = help: paths are relative to the recipe and stay inside its folder

    error: the path "/etc/hostname" cannot be used
     --> kiln.toml:6:12
      |
    6 | absolute = "/etc/hostname"
      |            ^^^^^^^^^^^^^^^ it leaves the recipe's folder
      |
      = help: paths are relative to the recipe and stay inside its folder

    error: the path "../sort.py" cannot be used
      --> kiln.toml:10:10
       |
    10 | files = ["../sort.py"]
       |          ^^^^^^^^^^^^ it leaves the recipe's folder
       |
       = help: paths are relative to the recipe and stay inside its folder

    3 problems found
    "###);
}

#[test]
fn a_link_that_leaves_the_recipe_is_refused() {
    let project = Project::new(
        "name = \"leaves\"\n\n[sources]\nwords = \"words.txt\"\n\n[steps.sort]\nrun = \"sort ${sources.words} > ${out}\"\n",
    );
    let outside = project.user_home().join("words.txt");
    fs::write(&outside, "secret\n").unwrap();
    symlink(&outside, project.dir().join("words.txt")).unwrap();
    assert_snapshot!(project.kiln(&["build"]).exits(2).redacted(), @r###"
    error: source `words`: `words.txt` leaves the recipe's folder
     --> kiln.toml:4:1
      |
    4 | words = "words.txt"
      | ^^^^^ a link leads out of the folder that the recipe stands in
      |
      = help: copy or move it into the recipe's folder, so that a clone of the recipe has it too
    "###);
    fs::remove_file(&outside).unwrap();
    assert_snapshot!(project.kiln(&["build"]).exits(2).redacted(), @r###"
    error: source `words`: `words.txt` is a link that leads nowhere
     --> kiln.toml:4:1
      |
    4 | words = "words.txt"
      | ^^^^^ what it points at does not exist
      |
      = help: restore what it points at, or replace the link by the file
    "###);
}

#[test]
fn a_parameter_that_the_shell_could_misread_is_refused_with_the_ways_out() {
    let recipe = r#"
name = "shell"

[params]
title = "two words; rm -rf /"

[steps.print]
run = "echo ${params.title} > ${out}"
"#;
    assert_snapshot!(refused(recipe).redacted(), @r###"
    error: `params.title` cannot stand in a text for the shell
     --> kiln.toml:8:13
      |
    5 | title = "two words; rm -rf /"
      |         --------------------- it has its value from here
    ...
    8 | run = "echo ${params.title} > ${out}"
      |             ^^^^^^^^^^^^^^^ it has the character ' '
      |
      = note: allowed are letters, digits and `_./:=,+@%-`
      = help: write `run` as a list, `["program", "${params.title}"]`, which no shell reads
      = help: or set a variable, `env = { VALUE = "${params.title}" }`, and use `"$VALUE"`
    "###);
}

#[test]
fn the_list_form_and_env_take_a_parameter_that_the_shell_form_refuses() {
    let project = Project::new(
        r#"
name = "shell"

[params]
title = "two words; exit 1"

[steps.list]
run = ["sh", "-c", "printf %s \"$2\" > \"$1\"", "sh", "${out}", "${params.title}"]

[steps.variable]
run = "printf %s \"$TITLE\" > ${out}"
env = { TITLE = "${params.title}" }
"#,
    );
    project.build(&[]).exits(0);
    assert_eq!(project.read("result/list"), "two words; exit 1");
    assert_eq!(project.read("result/variable"), "two words; exit 1");
}

const ONE: &str = r#"
name = "one"

[params]
count = 3

[steps.print]
run = "echo ${params.count} > ${out}"
"#;

#[test]
fn an_unknown_step_on_the_command_line_is_named_with_the_nearest() {
    let project = Project::new(ONE);
    assert_snapshot!(project.kiln(&["build", "prnt"]).exits(2).redacted(), @r###"
    error: the recipe `one` has no step `prnt`
     |
     = help: did you mean `print`?
    "###);
    assert_snapshot!(project.kiln(&["build", "quality"]).exits(2).redacted(), @r###"
    error: the recipe `one` has no step `quality`
     |
     = help: its steps: print
    "###);
}

#[test]
fn mistakes_with_set_say_what_would_be_right() {
    let project = Project::new(ONE);
    assert_snapshot!(project.kiln(&["build", "--set", "cuont=4"]).exits(2).redacted(), @r###"
    error: --set names the unknown parameter `cuont`
     |
     = help: did you mean `count`?
    "###);
    assert_snapshot!(project.kiln(&["build", "--set", "count=many"]).exits(2).redacted(), @r###"
    error: --set count=many has the wrong type
     --> kiln.toml:5:9
      |
    5 | count = 3
      |         ^ its default, the number 3, gives the type
      |
      = note: expected a whole number, found `many`
      = help: give it a whole number
    "###);
    assert_snapshot!(project.kiln(&["build", "--set", "count"]).exits(2).redacted(), @r###"
    error: invalid value 'count' for '--set <NAME=VALUE>': expected NAME=VALUE, such as epochs=100

    For more information, try '--help'.
    "###);
}

#[test]
fn a_folder_or_recipe_that_is_not_there_is_named() {
    let project = Project::empty();
    assert_snapshot!(project.kiln(&["build"]).exits(2).redacted(), @r###"
    error: there is no kiln.toml in `[ROOT]/project` or above it
     |
     = help: kiln init writes one; -C DIR goes to where one is
    "###);
    assert_snapshot!(project.kiln(&["build", "-C", "nowhere"]).exits(2).redacted(), @r###"
    error: there is no folder `nowhere`
     |
     = help: -C names the folder to go to first
    "###);
    assert_snapshot!(project.kiln(&["build", "-f", "other.toml"]).exits(2).redacted(), @r###"
    error: there is no recipe `other.toml`
     |
     = help: -f names the recipe file
    "###);
    assert_snapshot!(project.kiln(&["build", "-f", "."]).exits(2).redacted(), @r###"
    error: `.` is a folder
     |
     = help: -f names a recipe file; for a folder say -C .
    "###);
}

#[test]
fn the_recipe_of_the_nearest_parent_is_taken_and_c_goes_before_or_after_the_command() {
    let project = Project::new(ONE);
    fs::create_dir_all(project.dir().join("a/b")).unwrap();
    let inside = project
        .command(&["build", "--json"])
        .current_dir(project.dir().join("a/b"))
        .status()
        .unwrap();
    assert!(inside.success());
    assert_eq!(project.read("result/print"), "3\n");
    let dir = project.dir().to_str().unwrap();
    for arguments in [["-C", dir, "build"], ["build", "-C", dir]] {
        let output = project.command(&arguments).current_dir("/").output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn problems_are_told_as_json_with_their_places() {
    let project = Project::new(
        "name = \"one\"\n[steps.print]\nrun = \"echo ${params.cuont} > ${out}\"\nclue = 1\n",
    );
    let run = project.kiln(&["build", "--json"]).exits(2);
    assert!(run.stderr().is_empty(), "{run:?}");
    assert_snapshot!(run.redacted(), @r###"
    {
      "exit": 2,
      "errors": [
        {
          "message": "unknown parameter `cuont`",
          "file": "kiln.toml",
          "line": 3,
          "column": 13,
          "label": "the recipe has no parameter of this name",
          "notes": [],
          "help": []
        },
        {
          "message": "unknown key `clue`",
          "file": "kiln.toml",
          "line": 4,
          "column": 1,
          "label": "a `command` step has no such key",
          "notes": [],
          "help": [
            "its keys: `builder`, `description`, `cpus`, `gpus`, `memory`, `timeout`, `retries`, `determinism`, `tolerance`, `run`, `outputs`, `files`, `tools`, `env`, `pass_env`, `network`"
          ]
        }
      ]
    }
    "###);
}
