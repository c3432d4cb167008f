//! One recipe on machines that differ in everything that must not matter.

use std::process::{Command, Stdio};

use crate::harness::Project;

/// A recipe whose steps would tell where, when and by whom they are run, if they could see it.
const TELLTALE: &str = r#"
name = "telltale"

[sources]
words = "words.txt"
all = { glob = "*.txt" }

[steps.look]
run = "pwd > ${out}; id -u >> ${out}; umask >> ${out}; date -r ${sources.words} >> ${out}; env | sort >> ${out}; ls -lnR ${sources.all} >> ${out}"

[steps.sort]
run = "printf 'ä\nz\nA\n' | sort > ${out}; cat ${look} ${sources.words} >> ${out}"
"#;

#[test]
fn path_user_zone_locale_umask_and_jobs_are_seen_by_no_step_and_by_no_key() {
    let built = |project: &Project, umask: u32, jobs: &str| {
        project.write("kiln.toml", TELLTALE);
        project.write("words.txt", "b\na\n");
        let command = project.command(&["build", "--json", "--link", "all", "--jobs", jobs]);
        // The shell sets the mask, so that this process keeps its own.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("umask {umask:03o}; exec \"$0\" \"$@\"")])
            .arg(command.get_program());
        shell.args(command.get_args()).current_dir(project.dir()).env_clear();
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(Stdio::null());
        let done = shell.output().unwrap();
        let document = serde_json::from_slice::<serde_json::Value>(&done.stdout).unwrap();
        let steps = document["steps"].as_array().unwrap().iter();
        let identity = steps.map(|step| {
            let digest = step["outputs"]["out"]["digest"].to_string();
            (
                step["step"].to_string(),
                step["action_key"].to_string(),
                digest,
                step["isolation"].to_string(),
            )
        });
        identity.collect::<Vec<_>>()
    };
    let here = built(&Project::at("here"), 0o022, "1");
    if here[0].3 != "\"full\"" {
        return eprintln!("skipped: isolation is {} on this machine", here[0].3);
    }
    let there = Project::at("Überall und nirgends/ein 'Ort' für $alle")
        .variable("USER", "someone")
        .variable("LOGNAME", "someone")
        .variable("TZ", "Asia/Kathmandu")
        .variable("LC_ALL", "de_DE.UTF-8")
        .variable("LANG", "ja_JP.UTF-8")
        .variable("TMPDIR", "/tmp");
    assert_eq!(built(&there, 0o077, "7"), here);
}
