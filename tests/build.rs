//! What reruns, and what does not.

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
    project.edit("kiln.toml", "[params]\nsuffix = \"one\"", "[params]\n# the suffix\nsuffix = \"one\"");
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
