//! The builder `cuda`, from the recipe to the folder of compiled kernels. It needs NVRTC, and no GPU.

use std::fs;

use crate::harness::Project;

const RECIPE: &str = "name = \"k\"\n[sources]\nk = \"k\"\n[steps.own]\nbuilder = \"cuda\"\nsources = \"${sources.k}\"\narch = [\"sm_80\"]\n";

/// A project whose kernels are compiled by the machine's NVRTC; nothing, and a word about it, where there is none.
fn project() -> Option<Project> {
    match kiln_ml::cuda::find(&|name| std::env::var_os(name)) {
        Ok(found) => {
            let library = found.library.to_str().unwrap().to_owned();
            let project = Project::new(RECIPE).variable("KILN_NVRTC", &library);
            project.write("k/own.cu", "#include \"sub/two.cuh\"\nextern \"C\" __global__ void twice(float* x) {\n    x[0] = two() * x[0];\n}\n");
            project.write("k/sub/two.cuh", "__device__ float two() { return 2.0f; }\n");
            Some(project)
        }
        Err(missing) => {
            println!("skipped: {missing}");
            None
        }
    }
}

#[test]
fn kernels_are_compiled_once_and_again_only_if_something_of_them_changed() {
    let Some(project) = project() else { return };
    assert_eq!(project.build(&[]).exits(0).ran(), ["own"]);
    project.build(&["--check"]).exits(0);
    assert!(project.build(&[]).exits(0).ran().is_empty());
    let told: serde_json::Value =
        serde_json::from_str(&project.read("result/own/kernels.json")).unwrap();
    let kernel = &told["units"]["own.sm_80"][0];
    assert_eq!((kernel["name"].as_str(), kernel["class"].as_str()), (Some("twice"), Some("exact")));
    assert!(kernel["registers"].as_u64().unwrap() > 0);
    assert!(project.read("result/own/own.sm_80.ptx").contains(".entry twice"));
    let code = fs::read(project.dir().join("result/own/own.sm_80.cubin")).unwrap();
    assert!(code.starts_with(b"\x7fELF"));
    assert!(!project.read("result/own/own.sm_80.ptx").contains("/build"), "a path is in the PTX");
    project.edit("k/sub/two.cuh", "2.0f", "2.5f");
    assert_eq!(project.build(&[]).exits(0).ran(), ["own"]);
    project.edit("kiln.toml", "[\"sm_80\"]", "[\"sm_80\", \"sm_90\"]");
    assert_eq!(project.build(&[]).exits(0).ran(), ["own"]);
    assert!(project.dir().join("result/own/own.sm_90.cubin").exists());
}

#[test]
fn where_nvrtc_lies_is_in_no_key() {
    let Some(project) = project() else { return };
    assert_eq!(project.build(&[]).exits(0).ran(), ["own"]);
    let found = kiln_ml::cuda::find(&|name| std::env::var_os(name)).unwrap();
    let elsewhere = project.root().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for file in found.builtins.iter().chain([&found.library]) {
        fs::copy(file, elsewhere.join(file.file_name().unwrap())).unwrap();
    }
    let elsewhere = elsewhere.to_str().unwrap().to_owned();
    let project = project.variable("KILN_NVRTC", &elsewhere);
    assert!(project.build(&[]).exits(0).ran().is_empty());
}

#[test]
fn a_recipe_brings_an_nvrtc_of_its_own_and_then_the_machines_does_not_matter() {
    let Some(project) = project() else { return };
    project.edit("kiln.toml", "k = \"k\"", "k = \"k\"\nown = \"own\"");
    project.edit("kiln.toml", "arch =", "nvrtc = \"${sources.own}\"\narch =");
    project.write("own/README", "nothing yet\n");
    let told = project.kiln(&["build"]).exits(1).stderr();
    assert!(told.contains("`nvrtc` holds no NVRTC; help: name the folder"), "{told}");
    let found = kiln_ml::cuda::find(&|name| std::env::var_os(name)).unwrap();
    // As the wheel has them.
    project.write("own/nvidia/cuda_nvrtc/lib/README", "");
    let folder = project.dir().join("own/nvidia/cuda_nvrtc/lib");
    for file in found.builtins.iter().chain([&found.library]) {
        fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
    }
    assert_eq!(project.build(&[]).exits(0).ran(), ["own"]);
    assert!(project.read("result/own/own.sm_80.ptx").contains(".entry twice"));
    let project = project.variable("KILN_NVRTC", "/nowhere");
    assert!(project.build(&[]).exits(0).ran().is_empty());
}

#[test]
fn what_is_included_is_read_and_not_compiled_and_no_two_kernels_share_a_file() {
    let Some(project) = project() else { return };
    project.write("h/three.cuh", "__device__ float three() { return 3.0f; }\n");
    project.write("h/other.cu", "this is no kernel of ours\n");
    project.write("k/own.cu", "#include \"three.cuh\"\nextern \"C\" __global__ void thrice(float* x) {\n    x[0] = three() * x[0];\n}\n");
    project.edit("kiln.toml", "k = \"k\"", "k = \"k\"\nh = \"h\"");
    project.edit("kiln.toml", "arch =", "include = [\"${sources.h}\"]\narch =");
    assert_eq!(project.build(&[]).exits(0).ran(), ["own"]);
    assert!(!project.dir().join("result/own/other.sm_80.ptx").exists());
    project.edit("h/three.cuh", "3.0f", "3.5f");
    assert_eq!(project.build(&[]).exits(0).ran(), ["own"]);
    let source = project.read("k/own.cu");
    project.write("k/a.b.cu", &source);
    project.write("k/a/b.cu", &source);
    let told = project.kiln(&["build"]).exits(1).stderr();
    assert!(told.contains("like another; help: rename one"), "{told}");
}

#[test]
fn a_mistake_is_told_with_file_line_and_caret() {
    let Some(project) = project() else { return };
    project.edit("k/own.cu", "two() *", "tow() *");
    let told = project.kiln(&["build"]).exits(1).stderr();
    assert!(told.contains("own.cu(3): error") && told.contains("\"tow\" is undefined"), "{told}");
    let log = project.kiln(&["log", "own"]).stdout();
    assert!(log.lines().any(|line| line.trim() == "^"), "{log}");
}

#[test]
fn without_nvrtc_the_error_lists_where_it_looked_and_three_ways_on() {
    let project = Project::new(RECIPE).variable("KILN_NVRTC", "/nowhere");
    project.write("k/own.cu", "");
    let told = project.kiln(&["build"]).exits(2).stderr();
    for part in [
        "NVRTC, which compiles CUDA kernels, is not on this machine\n",
        "KILN_NVRTC: /nowhere/lib64",
        "pip install nvidia-cuda-nvrtc-cu12",
        "set CUDA_HOME",
        "set KILN_NVRTC",
        "kiln.toml:4:1",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
}

#[test]
fn arguments_that_name_nothing_or_reach_outside_are_mistakes_of_the_recipe() {
    let project = Project::new(
        "name = \"k\"\n[steps.own]\nbuilder = \"cuda\"\narch = [\"hopper\"]\nflags = [\"-I/usr/include\"]\n",
    );
    let told = project.kiln(&["check"]).exits(2).stderr();
    for part in [
        "one of `kernels` and `sources`",
        "`hopper` is no architecture",
        "`-I/usr/include` is not the step's to set",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
}
