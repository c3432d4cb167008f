//! GPUs that steps are lent. Their nodes are links to `/dev/null` in a folder that stands for the machine: what is tested
//! is who sees which, not what a GPU does.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::harness::Project;

/// A machine with so many GPUs, in a folder beside the project.
fn machine(project: Project, gpus: usize) -> (Project, PathBuf) {
    let folder = project.dir().parent().unwrap().join("machine");
    furnish(&folder, gpus);
    let project = project.variable("KILN_GPU_FOLDER", folder.to_str().unwrap());
    (project, folder)
}

fn furnish(folder: &Path, gpus: usize) {
    fs::create_dir_all(folder.join("nvidia-caps")).unwrap();
    for name in ["nvidiactl", "nvidia-uvm", "nvidia-caps/nvidia-cap1"] {
        symlink("/dev/null", folder.join(name)).unwrap();
    }
    for gpu in 0..gpus {
        symlink("/dev/null", folder.join(format!("nvidia{gpu}"))).unwrap();
    }
    fs::create_dir(folder.join("lib")).unwrap();
    fs::write(folder.join("lib/libcuda.so.1.2"), "driver\n").unwrap();
    symlink("libcuda.so.1.2", folder.join("lib/libcuda.so.1")).unwrap();
}

/// Whether steps have a root of their own here, with a word about it if not.
fn steps_have_a_root_of_their_own(project: &Project) -> bool {
    let document = project.kiln(&["doctor", "--json"]).json();
    let full = document["isolation"] == "full";
    if !full {
        println!("skipped in part: steps have no root of their own here");
    }
    full
}

const LOOK: &str = r#"
name = "look"

[steps.none]
run = "find /dev -name 'nvidia*' | sort > ${out}; env | grep -E 'CUDA|NVIDIA|CUBLAS' >> ${out} || true"

[steps.one]
run = "find /dev -name 'nvidia*' | sort > ${out}; env | grep -E 'CUDA|NVIDIA|CUBLAS' | sort >> ${out}"
gpus = 1

[steps.bare]
run = "cat $LD_LIBRARY_PATH/libcuda.so.1 > ${out}; ls $LD_LIBRARY_PATH >> ${out}"
tools = []
gpus = 1
"#;

#[test]
fn a_step_sees_the_gpus_that_it_is_lent_and_no_other() {
    let (project, _) = machine(Project::new(LOOK), 3);
    if !steps_have_a_root_of_their_own(&project) {
        return;
    }
    project.build(&["--gpus", "2,", "none", "one"]).exits(0);
    assert_eq!(project.read("result/none"), "");
    assert_eq!(
        project.read("result/one"),
        "/dev/nvidia-caps\n/dev/nvidia-caps/nvidia-cap1\n/dev/nvidia-uvm\n/dev/nvidia2\n/dev/nvidiactl\n\
         CUBLAS_WORKSPACE_CONFIG=:4096:8\nCUDA_DEVICE_ORDER=PCI_BUS_ID\nCUDA_VISIBLE_DEVICES=0\n\
         NVIDIA_VISIBLE_DEVICES=0\n"
    );
}

#[test]
fn the_drivers_libraries_are_visible_also_where_a_step_sees_its_tools_only() {
    // A step has a `/tmp` of its own, in which nothing of the host is to be seen.
    let Ok(folder) = tempfile::tempdir_in("/var/tmp") else {
        println!("skipped: there is no /var/tmp to write to");
        return;
    };
    let project = Project::new(LOOK);
    furnish(folder.path(), 1);
    let project = project.variable("KILN_GPU_FOLDER", folder.path().to_str().unwrap());
    if !steps_have_a_root_of_their_own(&project) {
        return;
    }
    project.build(&["bare"]).exits(0);
    assert_eq!(project.read("result/bare"), "driver\nlibcuda.so.1\nlibcuda.so.1.2\n");
}

#[test]
fn without_a_sandbox_variables_say_which_gpus_are_the_steps_own() {
    let (project, _) = machine(Project::new(LOOK), 3);
    project.build(&["--gpus", "2,", "--sandbox=off", "none", "one"]).exits(0);
    assert!(project.read("result/one").contains("CUDA_VISIBLE_DEVICES=2\n"));
    let none = project.read("result/none");
    assert!(none.contains("CUDA_VISIBLE_DEVICES=\n"), "{none}");
}

const TWO: &str = r#"
name = "two"

[params]
word = "one"

[steps.before]
run = "echo ${params.word} > ${out}"

[steps.train]
run = "echo ${before} > ${out}"
gpus = 2
"#;

#[test]
fn more_gpus_than_there_are_is_an_error_before_anything_runs() {
    let recipe =
        TWO.replace("[steps.train]", "[steps.train]\n#").replace("echo ${before}", "echo x");
    let (project, _) = machine(Project::new(&recipe), 1);
    let build = project.build(&["before", "train"]).exits(1);
    assert_eq!(build.step("train")["how"], "failed");
    assert_eq!(
        build.step("train")["reason"],
        "it asks for 2 GPUs, and there is 1 that this build may use"
    );
    assert_eq!(build.step("before")["how"], "skipped", "nothing ran: {:?}", build.run);
    let said = project.kiln(&["build", "train"]).exits(1).stderr();
    assert!(said.contains("lower its `gpus`"), "{said}");
    let status = project.kiln(&["status"]).exits(0).stdout();
    assert!(status.contains("it cannot run here: it asks for 2 GPUs"), "{status}");
}

#[test]
fn a_step_that_perhaps_cannot_run_is_told_at_the_beginning_and_a_result_needs_no_gpu() {
    let (project, folder) = machine(Project::new(TWO), 2);
    let build = project.build(&[]).exits(0);
    let key = build.step("train")["action_key"].clone();
    fs::remove_file(folder.join("nvidia1")).unwrap();
    // Nothing has to run, so nothing is missing.
    assert_eq!(project.build(&[]).exits(0).steps("reused"), ["before", "train"]);
    project.edit("kiln.toml", "\"one\"", "\"two\"");
    let run = project.kiln(&["build"]).exits(1);
    let said = run.stderr();
    let note = said.find("note: if `train` has to run, it will fail: it asks for 2 GPUs").unwrap();
    assert!(note < said.find("running before").unwrap(), "{said}");
    // How many there are is in no key.
    project.edit("kiln.toml", "\"two\"", "\"one\"");
    project.edit("kiln.toml", "gpus = 2", "gpus = 1");
    let build = project.build(&[]).exits(0);
    assert_eq!((build.steps("ran"), &build.step("train")["action_key"]), (vec![], &key));
}

#[test]
fn a_choice_of_gpus_that_are_not_there_is_refused() {
    let (project, _) = machine(Project::new(TWO), 2);
    for (choice, said) in [("3", "there are no 3 GPUs here"), ("0,7", "there is no GPU 7 here")] {
        let error = project.kiln(&["build", "--gpus", choice]).exits(2).stderr();
        assert!(error.contains(said) && error.contains("its GPUs: 0, 1"), "{error}");
    }
    project.kiln(&["build", "--gpus", "some"]).exits(2);
    let build = project.build(&["--gpus", "0"]).exits(1);
    assert!(build.step("train")["reason"].as_str().unwrap().contains("there is none"));
}

#[test]
fn doctor_tells_of_gpus_where_there_are_any() {
    let findings = |project: &Project| {
        let document = project.kiln(&["doctor", "--json"]).json();
        let all = document["findings"].as_array().unwrap().clone();
        all.into_iter().filter(|finding| finding["area"] == "gpus").collect::<Vec<_>>()
    };
    let (project, folder) = machine(Project::empty(), 2);
    let found = findings(&project);
    assert_eq!((found.len(), &found[0]["health"]), (1, &"works".into()));
    fs::remove_dir_all(folder.join("lib")).unwrap();
    assert_eq!(findings(&project)[0]["health"], "missing");
    fs::remove_dir_all(&folder).unwrap();
    assert!(findings(&project).is_empty());
}

/// Each step makes files by the names of its GPUs, which must not be there, and takes them away at its end.
const SHARE: &str = r#"
name = "share"

[params]
project = "a"
used = ""

[steps]
"#;

#[test]
fn two_kilns_never_use_a_gpu_at_once() {
    let mut recipe = SHARE.to_owned();
    for step in 0..6 {
        let gpus = 1 + step % 2;
        recipe.push_str(&format!(
            "[steps.s{step}]\nrun = '''\nfor gpu in $(echo $CUDA_VISIBLE_DEVICES | tr , ' '); do mkdir $USED/$gpu; \
             echo {step} >> $USED/log-$gpu; done\nsleep 0.05\n\
             for gpu in $(echo $CUDA_VISIBLE_DEVICES | tr , ' '); do rmdir $USED/$gpu; done\n\
             echo ${{params.project}} $CUDA_VISIBLE_DEVICES > ${{out}}\n'''\ngpus = {gpus}\n\
             env = {{ USED = \"${{params.used}}\" }}\n"
        ));
    }
    let (one, folder) = machine(Project::new(&recipe.replace("[steps]\n", "")), 2);
    let used = folder.join("used");
    fs::create_dir(&used).unwrap();
    one.edit("kiln.toml", "used = \"\"", &format!("used = \"{}\"", used.display()));
    // Without a sandbox, so that the steps can meet.
    let arguments = ["build", "--sandbox=off", "--jobs", "4"];
    let start = |project: &str| {
        let set = format!("project={project}");
        let mut command = one.command(&arguments);
        command.args(["--set", &set, "--link", "none"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children = ["a", "b", "c"].map(start);
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let left: BTreeSet<_> = names(&used).filter(|name| !name.starts_with("log-")).collect();
    assert!(left.is_empty(), "{left:?}");
    let ran: usize = ["log-0", "log-1"]
        .map(|log| fs::read_to_string(used.join(log)).unwrap().lines().count())
        .iter()
        .sum();
    assert_eq!(ran, 3 * (3 + 3 * 2), "each step of each build had its GPUs");
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap())
}

#[test]
fn a_killed_kiln_leaves_no_gpu_leased() {
    let recipe = "name = \"t\"\n[params]\nfor = \"600\"\n[steps.a]\nrun = \"echo ready; sleep ${params.for}; echo > ${out}\"\ngpus = 1\n";
    let (project, folder) = machine(Project::new(recipe), 1);
    let mut child = project.command(&["build"]).stderr(Stdio::null()).spawn().unwrap();
    let lease = folder.join("leases/gpu-0");
    let is_leased = || {
        let file = fs::File::open(&lease);
        file.is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
    };
    while !is_leased() {
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    project.build(&["--set", "for=0"]).exits(0);
}

const TRAIN: &str = "name = \"t\"\n[sources]\nd = \"d.csv\"\n[steps.train]\nbuilder = \"train\"\ntrain = \"${sources.d}\"\nlabel = \"y\"\n\
    model = { kind = \"mlp\", hidden = [4] }\nepochs = 2\n";

fn trainer() -> Project {
    let project = Project::new(TRAIN);
    let rows: String = (0..40).map(|i| format!("{},{},{}\n", i % 7, i % 5, i % 2)).collect();
    project.write("d.csv", format!("a,b,y\n{rows}"));
    project
}

#[test]
fn where_there_is_no_gpu_auto_takes_the_cpu_says_so_once_and_shares_its_results() {
    let (project, _) = machine(trainer(), 0);
    project.edit("kiln.toml", "epochs = 2", "epochs = 2\nbackend = \"auto\"");
    let told = project.kiln(&["build"]).exits(0).stderr();
    assert_eq!(
        told.matches("`train` is computed on the CPU: there is no GPU").count(),
        1,
        "{told}"
    );
    let log = project.kiln(&["log", "train"]).exits(0).stdout();
    assert_eq!(log.matches("backend: cpu, since ").count(), 1, "{log}");
    for backend in ["\nbackend = \"cpu\"", ""] {
        project.write("kiln.toml", TRAIN.replace("epochs = 2", &format!("epochs = 2{backend}")));
        assert!(project.build(&[]).exits(0).ran().is_empty(), "{backend}");
    }
    project.edit("kiln.toml", "epochs = 2", "epochs = 2\nbackend = \"cuda\"");
    let told = project.kiln(&["build"]).stderr();
    // Without NVRTC that is what is missing first.
    assert!(
        told.contains("it asks for 1 GPU, and there is none") || told.contains("NVRTC"),
        "{told}"
    );
}

#[test]
fn what_a_gpu_was_to_train_is_never_trained_by_a_cpu() {
    let found = match kiln_ml::cuda::find(&|name| std::env::var_os(name)) {
        Ok(found) => found,
        Err(missing) => return println!("skipped: {missing}"),
    };
    if Path::new("/dev/nvidiactl").exists() {
        return println!("skipped: this machine has a driver of its own, which a step may see");
    }
    // A node that is no GPU, and a driver that is none.
    let (project, _) = machine(trainer(), 1);
    let project = project.variable("KILN_NVRTC", found.library.to_str().unwrap());
    assert_eq!(project.build(&[]).exits(0).ran(), ["train"]);
    for (backend, said) in
        [("auto", "a GPU was found when the build began"), ("cuda", "`backend` is \"cuda\"")]
    {
        let line = format!("epochs = 2\nbackend = \"{backend}\"");
        project.write("kiln.toml", TRAIN.replace("epochs = 2", &line));
        let told = project.kiln(&["build"]).exits(1).stderr();
        let log = project.kiln(&["log", "train"]).stdout();
        assert!(told.contains(said) || log.contains(said), "{told}\n{log}");
    }
}
