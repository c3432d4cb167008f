//! A build that was done before is answered without evaluating anything: the answer has to be what a build would say.
//!
//! Only builds that are told in text are answered so; the harness's own builds ask for a report, and are the judges here.

use std::{collections::BTreeMap, fs, path::Path};

use crate::harness::Project;

const RECIPE: &str = r#"
name = "memo"

[params]
tail = "end"

[sources]
words = "words.txt"
texts = "texts/*.txt"
folder = "folder"

[steps.sort]
run = "sort ${sources.words} > ${out}"

[steps.join]
run = "cat ${sources.texts}/texts/*.txt $(find ${sources.folder} -type f | sort) > ${out}"

[steps.tool]
run = "sh tool.sh ${sort} ${out}"
files = ["tool.sh"]
pass_env = ["FLAVOUR"]

[steps.pair]
run = "cat ${sort} > ${out.a}; { cat ${join}; echo ${params.tail}; } > ${out.b}"
outputs = ["a", "b"]
"#;

fn project() -> Project {
    let project = Project::new(RECIPE).variable("FLAVOUR", "plain");
    project.write("words.txt", "b\na\n");
    project.write("texts/one.txt", "1\n");
    project.write("folder/deep/x", "x\n");
    project.write("tool.sh", "{ cat \"$1\"; echo \"$FLAVOUR\"; } > \"$2\"\n");
    project
}

/// The files behind `result/`, by name.
fn results(project: &Project) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for name in project.linked() {
        let path = project.dir().join("result").join(&name);
        if path.is_dir() {
            for entry in fs::read_dir(&path).unwrap() {
                let part = entry.unwrap().file_name().into_string().unwrap();
                found.insert(
                    format!("{name}/{part}"),
                    project.read(&format!("result/{name}/{part}")),
                );
            }
        } else {
            found.insert(name.clone(), project.read(&format!("result/{name}")));
        }
    }
    found
}

/// Builds in text, and holds the outcome to what a build in an empty store makes and to what the report says.
#[track_caller]
fn agrees(project: &Project, arguments: &[&str], what: &str) {
    let told = project.kiln(&[&["build"], arguments].concat()).exits(0);
    let found = results(project);
    let left = project.build(arguments).exits(0);
    assert_eq!(left.ran(), Vec::<String>::new(), "{what}: the build left work behind\n{told:?}");
    let elsewhere = project.user_home().join("elsewhere");
    let fresh = project
        .command(&[&["build"], arguments].concat())
        .env("KILN_HOME", &elsewhere)
        .output()
        .unwrap();
    assert!(fresh.status.success(), "{what}: {}", String::from_utf8_lossy(&fresh.stderr));
    assert_eq!(found, results(project), "{what}: not what an empty store makes\n{told:?}");
    assert!(found.contains_key("pair/a") || !arguments.is_empty(), "{found:?}");
}

#[test]
fn whatever_changes_between_two_builds_is_seen() {
    let mut project = project();
    let key = |project: &Project, step: &str| {
        let build = project.build(&[]).exits(0);
        build.step(step)["action_key"].as_str().unwrap().to_owned()
    };
    agrees(&project, &[], "first");
    agrees(&project, &[], "nothing");
    project.write("words.txt", "a\nb\n");
    agrees(&project, &[], "a source, as long as before");
    project.write("texts/two.txt", "2\n");
    agrees(&project, &[], "a further file for a pattern");
    fs::remove_file(project.dir().join("texts/one.txt")).unwrap();
    agrees(&project, &[], "a file less");
    project.write("folder/deep/y", "y\n");
    agrees(&project, &[], "a further file in a folder");
    project.edit("tool.sh", "cat", "cat -n");
    agrees(&project, &[], "a script");
    project = project.variable("FLAVOUR", "other");
    agrees(&project, &[], "a variable");
    project.edit("kiln.toml", "\"end\"", "\"END\"");
    agrees(&project, &[], "the recipe");
    agrees(&project, &["--set", "tail=last"], "--set");
    agrees(&project, &[], "no --set");
    agrees(&project, &["join"], "another step");
    agrees(&project, &["--link", "all"], "all links");
    agrees(&project, &["--sandbox", "off"], "less isolation");
    agrees(&project, &[], "the isolation of before");

    fs::remove_dir_all(project.dir().join("result")).unwrap();
    agrees(&project, &[], "deleted links");
    let key = key(&project, "sort");
    fs::remove_file(project.store().join("realisations").join(&key[..2]).join(&key)).unwrap();
    agrees(&project, &[], "a record that was deleted");
    let build = project.build(&["--link", "all"]).exits(0);
    let path = build.step("pair")["outputs"]["b"]["path"].as_str().unwrap().to_owned();
    project.lose(&path);
    agrees(&project, &[], "an object that was deleted");
    project.kiln(&["gc"]).exits(0);
    agrees(&project, &[], "a collection");
}

#[test]
fn a_record_that_gave_way_to_another_is_not_served_any_more() {
    let project = Project::new(
        "name = \"m\"\n[steps.now]\ndeterminism = \"none\"\nrun = \"date +%N > ${out}\"",
    );
    for _ in 0..3 {
        project.kiln(&["build"]).exits(0);
    }
    let before = project.read("result/now");
    let again = project.build(&["--again", "now", "--link", "none"]).exits(0);
    assert_eq!(again.ran(), ["now"]);
    project.kiln(&["build"]).exits(0);
    assert_ne!(project.read("result/now"), before);
}

#[test]
fn a_damaged_memo_is_no_memo() {
    let project = project();
    for _ in 0..2 {
        project.kiln(&["build"]).exits(0);
    }
    let memos = project.store().join("memos");
    let files: Vec<_> = fs::read_dir(&memos).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    for path in files {
        let sound = fs::read(&path).unwrap();
        for at in (0..sound.len()).step_by(sound.len() / 7) {
            let mut bytes = sound.clone();
            bytes[at] ^= 4;
            fs::write(&path, &bytes).unwrap();
            agrees(&project, &[], "a flipped bit");
        }
        fs::write(&path, &sound[..sound.len() / 2]).unwrap();
        agrees(&project, &[], "half of it");
    }
}

#[test]
fn a_second_place_of_a_recipe_keeps_its_results_from_the_collector() {
    let first = project();
    first.kiln(&["build"]).exits(0);
    let second = project().sharing_store_with(&first);
    let told = second.kiln(&["build"]).exits(0);
    assert!(told.stderr().contains("4 reused"), "{told:?}");
    assert_eq!(results(&second), results(&first));
    // The first one is gone, with its root.
    fs::remove_dir_all(first.dir()).unwrap();
    second.kiln(&["gc"]).exits(0);
    assert_eq!(second.build(&[]).exits(0).ran(), Vec::<String>::new());
    assert!(Path::new(&second.dir().join("result/tool")).exists());
}

#[test]
fn a_build_with_a_rejection_is_told_as_before() {
    let project = Project::recipe("tumour");
    project.edit("kiln.toml", "min_f1 = 0.92", "min_f1 = 1.1");
    let first = project.kiln(&["build"]).exits(3);
    let second = project.kiln(&["build"]).exits(3);
    assert!(
        first.stderr().contains("rejected") && second.stderr().contains("rejected"),
        "{second:?}"
    );
}
