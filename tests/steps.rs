//! What a step can say and make: programs, files, variables, resources, sources.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use insta::assert_snapshot;

use crate::harness::Project;

#[test]
fn a_step_makes_files_folders_programs_and_links() {
    let project = Project::new(
        r#"
name = "shapes"

[steps.make]
run = '''
mkdir -p ${out.tree}/sub/empty
echo data > ${out.tree}/sub/data
printf '#!/bin/sh\necho hello\n' > ${out.tree}/hello
chmod 755 ${out.tree}/hello
ln -s sub/data ${out.tree}/link
cp ${out.tree}/hello ${out.program}
echo a,b > ${out.table}
'''
outputs = { tree = "tree", program = "hello", table = "numbers.csv.gz" }

[steps.use]
run = '''
{ ${make.program}; ${make.tree}/hello; cat ${make.tree}/link; readlink ${make.tree}/link; } > ${out}
ls ${make.tree}/sub >> ${out}
echo ${make.table} ${out} >> ${out}
'''
"#,
    );
    project.build(&["--link", "all"]).exits(0);
    let seen = project.read("result/use");
    let (inside, places) = seen.split_at(seen.find("data\nempty\n").unwrap());
    assert_eq!(inside, "hello\nhello\ndata\nsub/data\n");
    assert!(
        places.contains("/in/") && places.contains(".csv.gz ") && places.ends_with("/out/out\n"),
        "{places}"
    );
    assert_eq!(
        fs::read_link(project.dir().join("result/make/tree/link")).unwrap(),
        Path::new("sub/data")
    );
    assert!(project.dir().join("result/make/tree/sub/empty").is_dir());
    let mode =
        |path: &str| fs::metadata(project.dir().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("result/make/program"), 0o555);
    assert_eq!(mode("result/make/tree/hello"), 0o555);
    assert_eq!(mode("result/make/table"), 0o444);
}

#[test]
fn files_stand_at_their_paths_and_a_change_of_one_or_of_its_bit_reruns() {
    let project = Project::new(
        r#"
name = "files"

[steps.run]
run = "./bin/count.sh *.txt > ${out}"
files = ["bin/count.sh", "texts.txt", "more/*.txt"]
"#,
    );
    project.write(
        "bin/count.sh",
        "#!/bin/sh\npwd; cat \"$@\" | wc -l | tr -d ' '; find . -type f | sort\n",
    );
    project.write("texts.txt", "1\n");
    project.write("undeclared.txt", "no step sees this\n");
    project.write("more/a.txt", "1\n");
    project.set_mode("bin/count.sh", 0o644);
    project.build(&[]).exits(1);
    project.set_mode("bin/count.sh", 0o755);
    project.build(&[]).exits(0);
    let seen = project.read("result/run");
    assert_eq!(seen, "/build/work\n1\n./bin/count.sh\n./more/a.txt\n./texts.txt\n");
    project.write("more/b.txt", "1\n");
    assert_eq!(project.build(&[]).exits(0).ran(), ["run"]);
    project.write("undeclared.txt", "nor this\n");
    assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
}

#[test]
fn a_list_runs_as_it_is_written_without_a_shell() {
    let project = Project::new(
        "name = \"list\"\n\n[steps.make]\nrun = [\"cp\", \"$HOME; echo\", \"${out}\"]\nfiles = [\"$HOME; echo\"]\n",
    );
    project.write("$HOME; echo", "as it is\n");
    project.build(&[]).exits(0);
    assert_eq!(project.read("result/make"), "as it is\n");
}

#[test]
fn declared_variables_reach_the_step_and_are_part_of_what_it_is() {
    let recipe = r#"
name = "variables"

[steps.make]
run = "env | grep -e ^SET -e ^PASSED -e ^TZ= -e ^LANG= -e ^SOURCE_DATE_EPOCH= | sort > ${out}"
env = { SET = "here" }
pass_env = ["PASSED", "PASSED_NOT"]
"#;
    let project = Project::new(recipe).variable("PASSED", "along").variable("SET", "outside");
    assert_eq!(project.build(&[]).exits(0).ran(), ["make"]);
    assert_eq!(
        project.read("result/make"),
        "LANG=C.UTF-8\nPASSED=along\nSET=here\nSOURCE_DATE_EPOCH=315532800\nTZ=UTC\n"
    );
    let project = project.variable("PASSED", "otherwise").variable("UNDECLARED", "x");
    let build = project.build(&[]).exits(0);
    assert_eq!(build.ran(), ["make"]);
    assert_snapshot!(build.step("make")["why"].to_string(), @r###"
    ["variable PASSED: along → otherwise"]
    "###);
    let project = project.variable("UNDECLARED", "y");
    assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
}

#[test]
fn amounts_of_resources_are_no_part_of_what_a_step_is() {
    let project = Project::new(
        "name = \"amounts\"\n\n[steps.make]\nrun = \"echo 1 > ${out}\"\ncpus = 1\nmemory = \"256MiB\"\ntimeout = \"1m\"\n",
    );
    project.build(&[]).exits(0);
    project.edit("kiln.toml", "cpus = 1\nmemory = \"256MiB\"\ntimeout = \"1m\"", "cpus = 2");
    assert_eq!(project.build(&["--jobs", "1"]).exits(0).ran(), [] as [&str; 0]);
    project.edit("kiln.toml", "cpus = 2", "determinism = \"none\"");
    assert_eq!(project.build(&[]).exits(0).ran(), ["make"]);
}

#[test]
fn jobs_are_how_many_processors_steps_use_together() {
    let project = Project::new(&timed(4, "0.1"));
    project.build(&["--jobs", "1"]).exits(0);
    let times = spans(&project, 4);
    assert!(
        times.windows(2).all(|two| two[0].1 <= two[1].0),
        "with one processor none overlap: {times:?}"
    );
}

#[test]
fn steps_that_are_the_same_action_run_once() {
    let step = "run = \"head -c 16 /dev/urandom | od -An -tx1 > ${out}\"";
    let project =
        Project::new(&format!("name = \"same\"\n\n[steps.a]\n{step}\n\n[steps.b]\n{step}\n"));
    let build = project.build(&["--jobs", "2"]).exits(0);
    assert_eq!((build.ran().len(), build.steps("reused").len()), (1, 1));
    assert_eq!(project.read("result/a"), project.read("result/b"));
}

#[test]
fn independent_steps_run_side_by_side() {
    let project = Project::new(&timed(2, "2"));
    project.build(&["--jobs", "2"]).exits(0);
    let times = spans(&project, 2);
    assert!(times[1].0 < times[0].1, "the second begins before the first has ended: {times:?}");
}

/// A recipe of steps that note when they begin, sleep, and note when they end.
fn timed(count: usize, sleep: &str) -> String {
    let step = |n| {
        format!(
            "[steps.s{n}]\nrun = \"date +%s%N > ${{out}}; sleep {sleep}; date +%s%N >> ${{out}}; : {n}\"\n"
        )
    };
    format!("name = \"timed\"\n\n{}", (0..count).map(step).collect::<String>())
}

/// When these steps began and ended, in order.
fn spans(project: &Project, count: usize) -> Vec<(u64, u64)> {
    let span = |n| {
        let text = project.read(&format!("result/s{n}"));
        let times: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
        (times[0], times[1])
    };
    let mut spans: Vec<_> = (0..count).map(span).collect();
    spans.sort_unstable();
    spans
}

#[test]
fn a_folder_source_is_what_lies_in_it_and_a_glob_is_what_matches() {
    let recipe = r#"
name = "sources"

[sources]
folder = "data"
texts = "**/*.txt"

[steps.folder]
run = "cd ${sources.folder}; find . ! -type d | sort > ${out}"

[steps.texts]
run = "cd ${sources.texts}; find . ! -type d | sort > ${out}"
"#;
    let project = Project::new(recipe);
    project.write("data/a.txt", "a");
    project.write("data/sub/b.csv", "b");
    project.write("data/.hidden", "h");
    project.write("other/c.txt", "c");
    project.write(".cache/d.txt", "d");
    project.build(&[]).exits(0);
    assert_eq!(project.read("result/folder"), "./.hidden\n./a.txt\n./sub/b.csv\n");
    assert_eq!(project.read("result/texts"), "./data/a.txt\n./other/c.txt\n");
    // What kiln links under result/ is no source, whatever its name.
    project.write("result/mine.txt", "m");
    assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
    project.write("other/e.csv", "e");
    assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
    project.write("other/f.txt", "f");
    assert_eq!(project.build(&[]).exits(0).ran(), ["texts"]);
    fs::remove_file(project.dir().join("data/a.txt")).unwrap();
    assert_eq!(project.build(&[]).exits(0).ran(), ["folder", "texts"]);
}

#[test]
fn a_step_with_tools_finds_these_and_the_core_utilities_and_nothing_else() {
    let project = Project::new(
        r#"
name = "tools"

[steps.make]
run = "{ command -v awk && echo awk; command -v cat && echo cat; command -v perl || echo no perl; } > ${out}"
tools = ["awk"]
"#,
    );
    let build = project.build(&[]).exits(0);
    assert_eq!(build.ran(), ["make"]);
    let seen = project.read("result/make");
    assert!(
        seen.contains("awk\n") && seen.contains("cat\n") && seen.ends_with("no perl\n"),
        "{seen}"
    );
}

#[test]
fn a_deployment_that_runs_nothing_is_an_error_unless_its_absence_is_accepted() {
    let recipe = r#"
name = "pointer"

[sources]
base = { deployment = "production", output = "model", absent = "accept" }

[steps.make]
run = "cat ${sources.base} > ${out}"

[deploy.production]
release = "${make}"
"#;
    let project = Project::new(recipe);
    assert_snapshot!(project.kiln(&["build"]).exits(2).redacted(), @r###"
    error: `sources.base` may be absent, but a program must have its inputs
     --> kiln.toml:8:12
      |
    8 | run = "cat ${sources.base} > ${out}"
      |            ^^^^^^^^^^^^^^^ its source says `absent = "accept"`
      |
      = help: leave `absent` out of the source to make a missing one an error
    "###);
    project.edit("kiln.toml", ", absent = \"accept\"", "");
    assert_snapshot!(project.kiln(&["build"]).exits(2).redacted(), @r###"
    error: source `base` cannot be resolved
     --> kiln.toml:5:1
      |
    5 | base = { deployment = "production", output = "model" }
      | ^^^^ deployment `production` runs nothing yet
      |
      = help: add `absent = "accept"` for the first build
    "###);
}
