//! Every recipe that the repository brings works, and gives the same model everywhere.

use std::fs;

use kiln_cache::Digest;

use crate::harness::{Project, repository};

/// Each recipe, what is set for a quick build, and the digest of the trained model: the same on every machine, and changed only
/// together with a builder's version.
const MODELS: [(&str, &[&str], &str); 3] = [
    ("digits", &[], "58d05c31128c5f00182492b0c4f3edcd8d105cdc64041c12c4c4d2531685a223"),
    (
        "fraud",
        &["--set", "rows=20000", "--set", "min_auc=0.8"],
        "a756f89d1495480039f3c77afe3f54e9504bdde3940835db1715fee0bca58354",
    ),
    ("tumour", &[], "07c15dabb1ecc1635c059fb2d343814d8589433cf3f5d5804c38bf2fb1a80a98"),
];

#[test]
fn every_recipe_of_the_repository_is_built_to_its_golden_model_and_then_runs_nothing() {
    let mut found: Vec<String> = fs::read_dir(repository().join("recipes"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, MODELS.map(|(name, ..)| name), "each recipe has its row here");
    for (name, settings, model) in MODELS {
        let project = Project::recipe(name);
        let build = project.build(settings).exits(0);
        for step in build.ran() {
            assert_ne!(build.step(&step)["verdict"], "rejected", "{name}: {step}");
        }
        assert_eq!(build.step("train")["outputs"]["model"]["digest"], model, "{name}");
        assert_eq!(project.build(settings).exits(0).ran(), [] as [&str; 0], "{name}");
    }
}

#[test]
fn a_release_of_digits_holds_its_onnx_file() {
    let project = Project::recipe("digits");
    let build = project.build(&[]).exits(0);
    let kept = fs::read(project.dir().join("result/release/evidence/evidence.onnx"));
    let digest = Digest::of(&kept.expect("the release's ONNX file")).to_string();
    assert_eq!(build.step("onnx")["outputs"]["out"]["digest"], digest);
}
