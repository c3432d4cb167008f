//! The pipeline that the README shows, from the data to production and back.

use insta::assert_snapshot;

use crate::harness::{Build, Project};

/// A parameter that changes the model and leaves it good enough.
const OTHER: &str = "epochs = 80";

fn built() -> (Project, Build) {
    let project = Project::recipe("tumour");
    let build = project.build(&[]).exits(0);
    (project, build)
}

#[test]
fn the_first_build_runs_five_steps_and_the_second_none() {
    let (project, build) = built();
    assert_eq!(build.ran(), ["check", "quality", "release", "split", "train"]);
    assert_eq!(build.step("check")["verdict"], "accepted");
    assert_eq!(build.step("quality")["verdict"], "accepted");
    assert_eq!(project.linked(), ["release"]);
    assert_snapshot!(project.kiln(&["build"]).exits(0).redacted(), @r###"
    built 5 steps: 5 reused, in [TIME]
    --- stdout
    result/release
    "###);
    assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
}

#[test]
fn a_changed_parameter_reruns_what_depends_on_it_and_going_back_reruns_nothing() {
    let (project, first) = built();
    project.edit("kiln.toml", "epochs = 60", "epochs = 60 # as before");
    project.edit("kiln.toml", "[steps.quality]", "[steps.rating]");
    project.edit("kiln.toml", "${quality.", "${rating.");
    assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
    project.edit("kiln.toml", "epochs = 60", OTHER);
    let build = project.build(&[]).exits(0);
    assert_eq!(build.ran(), ["rating", "release", "train"]);
    assert_eq!(build.steps("reused"), ["check", "split"]);
    project.edit("kiln.toml", OTHER, "epochs = 60");
    let back = project.build(&[]).exits(0);
    assert_eq!(back.ran(), [] as [&str; 0]);
    let digest = |build: &Build| build.step("train")["outputs"]["model"]["digest"].clone();
    assert_eq!(digest(&back), digest(&first));
    assert_ne!(digest(&back), digest(&build));
}

#[test]
fn data_that_is_rewritten_with_the_same_bytes_reruns_nothing() {
    let (project, _) = built();
    let data = project.read("data/wdbc.csv");
    project.write("data/wdbc.csv", data);
    assert_eq!(project.build(&["--rehash"]).exits(0).ran(), [] as [&str; 0]);
}

#[test]
fn bad_data_stops_the_line_before_anything_is_trained() {
    let project = Project::recipe("tumour");
    project.edit("data/wdbc.csv", "benign", "beningn");
    assert_snapshot!(project.kiln(&["build"]).exits(3).redacted(), @r###"
      running check: never built
     rejected check: 1 check failed: diagnosis: expected one of "malignant", "benign", found 357 of 569 not allowed, first on line 21
    help: see why `check` rejected: [ROOT]/store/store/t/[DIGEST]/report.html
      skipped split: `check` rejected
      skipped train: `split` was skipped
      skipped quality: `split` was skipped
      skipped release: `quality` was skipped
    built 5 steps: 1 ran, 4 skipped, 1 rejected, [SIZE] made, in [TIME]
    "###);
}

#[test]
fn a_model_below_the_gate_is_not_released() {
    let (project, _) = built();
    let build = project.build(&["--set", "min_f1=0.999"]).exits(3);
    assert_eq!(build.ran(), ["quality"]);
    assert_eq!(build.step("quality")["verdict"], "rejected");
    assert_eq!(build.steps("skipped"), ["release"]);
    assert_eq!(project.linked(), [] as [&str; 0], "no release is linked that was not made");
    assert_snapshot!(project.kiln(&["build", "--set", "min_f1=0.999"]).exits(3).redacted(), @r###"
     rejected quality (as before): 1 of 2 gates failed: f1 0.967742 is not at least 0.999
    help: see why `quality` rejected: [ROOT]/store/store/t/[DIGEST]/report.html
      skipped release: `quality` rejected
    built 5 steps: 4 reused, 1 skipped, 1 rejected, in [TIME]
    "###);
}
