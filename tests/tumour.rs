//! The pipeline that the README shows, from the data to production and back.

use std::{fs, path::Path};

use insta::assert_snapshot;

use crate::harness::{Build, Project, Run};

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
     rejected quality (as before): 1 of 2 gates failed: f1 0.984127 is not at least 0.999
    help: see why `quality` rejected: [ROOT]/store/store/t/[DIGEST]/report.html
      skipped release: `quality` rejected
    built 5 steps: 4 reused, 1 skipped, 1 rejected, in [TIME]
    "###);
}

#[test]
fn a_model_goes_to_staging_then_to_production_and_back() {
    let (project, _) = built();
    assert_snapshot!(project.kiln(&["deploy", "production"]).exits(1).redacted(), @r###"
    built 5 steps: 5 reused, in [TIME]
    error: production comes after staging, which does not run model [DIGEST]
     |
     = note: nothing has been deployed to staging yet
     = help: kiln deploy staging
    "###);
    assert_snapshot!(deploy(&project, "staging").redacted(), @r###"
    built 5 steps: 5 reused, in [TIME]
    --- stdout
    deployed release [DIGEST] to staging as generation 1
    "###);
    assert_snapshot!(deploy(&project, "production").redacted(), @r###"
    built 5 steps: 5 reused, in [TIME]
    --- stdout
    deployed release [DIGEST] to production as generation 1
    "###);

    // The candidate is now what production runs: being no better than itself must not fail.
    let build = project.build(&[]).exits(0);
    let report = build.step("quality")["outputs"]["report"]["path"].as_str().unwrap();
    let report = fs::read_to_string(Path::new(report).join("report.json")).unwrap();
    assert!(report.contains("is_baseline"), "{report}");
    assert_snapshot!(deploy(&project, "production").redacted(), @r###"
    built 5 steps: 5 reused, in [TIME]
    --- stdout
    production already runs model [DIGEST], as generation 1
    "###);

    project.edit("kiln.toml", "epochs = 60", OTHER);
    project.build(&[]).exits(0);
    assert_snapshot!(project.kiln(&["deploy", "production"]).exits(1).redacted(), @r###"
    built 5 steps: 5 reused, in [TIME]
    error: production comes after staging, which does not run model [DIGEST]
     |
     = note: staging runs model [DIGEST] (generation 1)
     = help: kiln deploy staging
    "###);
    deploy(&project, "staging");
    deploy(&project, "production");
    let document = project.kiln(&["generations", "production", "--json"]).exits(0).json();
    assert_eq!(current(&document), 2, "{document}");

    let run = project.kiln(&["rollback", "production", "--by", "ann", "--reason", "slow"]).exits(0);
    assert_snapshot!(run.redacted(), @r###"
    rolled production back to generation 1, release [DIGEST] (was 2)
    "###);
    let document = project.kiln(&["generations", "production", "--json"]).exits(0).json();
    assert_eq!(current(&document), 1, "{document}");
    assert!(document.to_string().contains("slow"), "{document}");
    assert_snapshot!(project.kiln(&["rollback", "production"]).exits(1).redacted(), @r###"
    error: nothing ran in production before generation 1
     |
     = help: kiln generations production lists what there is; --to N names one
    "###);
    project.kiln(&["rollback", "production", "--to", "2"]).exits(0);
    assert_snapshot!(project.kiln(&["rollback", "production", "--to", "7"]).exits(1).redacted(), @r###"
    error: production has no generation 7
     |
     = help: those that it has: 1, 2
    "###);
    assert_snapshot!(project.kiln(&["deploy", "prodction"]).exits(2).redacted(), @r###"
    error: the recipe `tumour` has no deployment `prodction`
     |
     = help: did you mean `production`?
    "###);

    // What runs, and what could be gone back to, survives the collector.
    project.kiln(&["gc"]).exits(0);
    project.kiln(&["rollback", "production"]).exits(0);
    project.kiln(&["store", "verify"]).exits(0);
}

/// Deploys, as somebody, for a reason.
fn deploy(project: &Project, name: &str) -> Run {
    project.kiln(&["deploy", name, "--by", "ann", "--reason", "test"]).exits(0)
}

/// The number of the generation that runs.
fn current(document: &serde_json::Value) -> u64 {
    document["deployments"][0]["current"]
        .as_u64()
        .unwrap_or_else(|| panic!("no current generation: {document}"))
}

#[test]
fn a_candidate_that_is_worse_than_production_is_rejected_and_changes_nothing_there() {
    let (project, _) = built();
    deploy(&project, "staging");
    deploy(&project, "production");
    project.edit("kiln.toml", "min_f1 = 0.92", "min_f1 = 0.1");
    project.edit("kiln.toml", "epochs = 60", "epochs = 1");
    let build = project.build(&[]).exits(3);
    assert_eq!(build.step("quality")["verdict"], "rejected");
    assert_eq!(build.steps("skipped"), ["release"]);
    assert_eq!(project.linked(), [] as [&str; 0]);
    assert_snapshot!(project.kiln(&["build"]).exits(3).redacted(), @r###"
     rejected quality (as before): 1 of 2 gates failed: f1 0.875 is not at least 0.964444, a drop of at most 2% from the baseline's 0.984127
    help: see why `quality` rejected: [ROOT]/store/store/t/[DIGEST]/report.html
      skipped release: `quality` rejected
    built 5 steps: 4 reused, 1 skipped, 1 rejected, in [TIME]
    "###);
    assert_eq!(project.build(&[]).exits(3).step("quality")["how"], "reused");
    assert_snapshot!(project.kiln(&["deploy", "staging"]).exits(3).redacted(), @r###"
     rejected quality (as before): 1 of 2 gates failed: f1 0.875 is not at least 0.964444, a drop of at most 2% from the baseline's 0.984127
    help: see why `quality` rejected: [ROOT]/store/store/t/[DIGEST]/report.html
      skipped release: `quality` rejected
    built 5 steps: 4 reused, 1 skipped, 1 rejected, in [TIME]
    nothing was deployed to staging
    "###);
    let document = project.kiln(&["generations", "staging", "--json"]).exits(0).json();
    assert_eq!(current(&document), 1);
}

#[test]
fn a_recipe_that_is_no_toml_any_more_stops_no_rollback() {
    let (project, _) = built();
    project.kiln(&["deploy", "staging"]).exits(0);
    project.kiln(&["deploy", "staging", "--set", "epochs=80"]).exits(0);
    let broken = project.read("kiln.toml") + "\n[steps.x\n";
    project.write("kiln.toml", broken);
    project.kiln(&["build"]).exits(2);
    let rolled = project.kiln(&["rollback", "staging"]).exits(0);
    assert!(rolled.stdout().contains("back to generation 1"), "{rolled:?}");
}

#[test]
fn the_collector_keeps_what_deployments_name_even_without_its_root() {
    let (project, _) = built();
    deploy(&project, "staging");
    project.kiln(&["store", "verify"]).exits(0);
    for folder in ["roots/project", "roots/generation"] {
        fs::remove_dir_all(project.store().join(folder)).unwrap();
    }
    let dry = project.kiln(&["gc", "--dry-run", "--json"]).exits(0).json();
    let held = dry["kept"].as_array().unwrap();
    assert!(!held.is_empty(), "{dry}");
    assert!(held.iter().all(|kept| kept["held_by"][0] == "generation 1 of staging (tumour)"));
    assert!(!project.store().join("roots/generation").exists(), "it only says what it would do");
    let run = project.kiln(&["gc"]).exits(0);
    assert!(run.stderr().contains("generation 1 of staging (tumour) was no root"), "{run:?}");
    assert!(project.store().join("roots/generation").exists());
    project.kiln(&["store", "verify"]).exits(0);

    let generation = project.store().join("deployments/tumour/staging/generations/1");
    fs::write(&generation, "{").unwrap();
    let run = project.kiln(&["store", "verify"]).exits(1);
    assert!(run.stdout().contains("generations/1"), "{run:?}");
    // What it names is told by its root; and where that is gone, too, all that the recipe made may be it.
    for kept in ["held by its root", "all that `tumour` made is kept"] {
        let run = project.kiln(&["gc"]).exits(0);
        assert!(run.stderr().contains("generations/1 is damaged"), "{run:?}");
        assert!(run.stderr().contains(kept), "{run:?}");
        assert!(run.stdout().contains("removed 0 objects and 0 realisations"), "{run:?}");
        fs::remove_dir_all(project.store().join("roots/generation")).unwrap();
        fs::create_dir(project.store().join("roots/generation")).unwrap();
    }
}

#[test]
fn a_perceptron_of_every_option_is_trained_and_written_as_onnx() {
    let project = Project::recipe("tumour");
    let options = "optimizer = { kind = \"sgd\" }\nschedule = \"cosine\"\nbalance = true\nlearning_rate = 0.05\n";
    project.edit("kiln.toml", "epochs   = ", &format!("{options}epochs   = "));
    let options = "kind = \"mlp\", activation = \"gelu\", dropout = 0.1";
    project.edit("kiln.toml", "kind = \"mlp\"", options);
    project.edit(
        "kiln.toml",
        "[steps.release]",
        "[steps.onnx]\nbuilder = \"onnx\"\nmodel = \"${quality.model}\"\n\n[steps.release]",
    );
    let build = project.build(&[]).exits(0);
    assert_eq!(build.step("quality")["verdict"], "accepted", "{}", build.step("quality"));
    let file = fs::read(project.dir().join("result/onnx")).unwrap();
    for part in ["perimeter", "malignant", "Gemm", "probabilities"] {
        assert!(file.windows(part.len()).any(|bytes| bytes == part.as_bytes()), "{part}");
    }
    let card = fs::read_to_string(project.dir().join("result/release/model/README.md")).unwrap();
    assert!(card.contains("gelu") && card.contains("momentum 0.9") && card.contains("balanced"));
    project.edit("kiln.toml", "dropout = 0.1", "dropout = 1.5");
    let told = project.kiln(&["build"]).exits(2).stderr();
    assert!(told.contains("from 0 to 0.99") && told.contains("^"), "{told}");
}
