//! Random recipes and edits with the built binary: what is built is what the programs make of it, and nothing runs
//! twice. The engine's own oracle goes through far more cases without running programs.
//!
//! `KILN_ORACLE_E2E_CASES` says how many cases run, `KILN_ORACLE_E2E_SEED` runs one.

#[path = "../src/engine/tests/oracle/chance.rs"]
mod chance;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use self::chance::Chance;
use crate::harness::{Build, Project};

/// Cases of a plain test run.
const CASES: u64 = 120;

/// A recipe of steps that run programs.
#[derive(Clone)]
struct Draft {
    param: usize,
    words: Vec<String>,
    /// A step reads earlier ones only.
    steps: Vec<Step>,
    order: u64,
}

#[derive(Clone)]
struct Step {
    name: String,
    script: usize,
    number: usize,
    uses_param: bool,
    /// Sources below the number of words, steps above.
    inputs: Vec<usize>,
}

/// What a step does with its inputs `@` and a number `#`: each maps many inputs to one output.
const SCRIPTS: [&str; 5] = [
    "cat @ | sort -u | head -n # > ${out}",
    "cat @ | wc -c | tr -d ' ' > ${out}",
    "cat @ | cksum | cut -c 1-# > ${out}",
    "cat @ | tr a-m A-M > ${out}; test -s ${out} || echo # > ${out}",
    "mkdir ${out}; cat @ | head -c # > ${out}/first; echo # > ${out}/second",
];

fn word(chance: &mut Chance) -> String {
    ["alpha\n", "beta\nalpha\n", "gamma\n", ""][chance.below(4)].to_owned()
}

impl Draft {
    fn random(chance: &mut Chance) -> Self {
        let words = (0..1 + chance.below(2)).map(|_| word(chance)).collect();
        let mut draft = Self { param: 1, words, steps: Vec::new(), order: 0 };
        for _ in 0..3 + chance.below(4) {
            let at = draft.steps.len();
            let name = format!("s{at}");
            let step = draft.random_step(chance, at, name);
            draft.steps.push(step);
        }
        draft
    }

    fn random_step(&self, chance: &mut Chance, at: usize, name: String) -> Step {
        let inputs =
            (0..1 + chance.below(3)).map(|_| chance.below(self.words.len() + at)).collect();
        let script = chance.below(SCRIPTS.len());
        Step { name, script, number: 1 + chance.below(3), uses_param: chance.once_in(2), inputs }
    }

    fn edit(&mut self, chance: &mut Chance) -> String {
        let at = chance.below(self.steps.len());
        match chance.below(8) {
            0..=2 => {
                let source = chance.below(self.words.len());
                self.words[source] = word(chance);
                format!("source {source} says {:?}", self.words[source])
            }
            3 => {
                self.param = 1 + chance.below(3);
                format!("the parameter is {}", self.param)
            }
            4 => {
                let name = format!("{}x", self.steps[at].name);
                format!(
                    "step {} is called {name}",
                    std::mem::replace(&mut self.steps[at].name, name.clone())
                )
            }
            5 => {
                self.order = chance.next();
                "another order and another comment".into()
            }
            6 => {
                let name = self.steps[at].name.clone();
                self.steps[at] = self.random_step(chance, at, name.clone());
                format!("step {name} is another one")
            }
            _ => {
                let at = self.steps.len();
                let name = format!("n{}", chance.next() % 100_000);
                let step = self.random_step(chance, at, name);
                self.steps.push(step);
                "a step is new".into()
            }
        }
    }

    /// The script of a step, its inputs written by `spell`.
    fn script(&self, step: &Step, spell: &dyn Fn(usize) -> String, number: &str) -> String {
        let inputs: Vec<String> = step
            .inputs
            .iter()
            .map(|&input| match self.is_folder(input) {
                true => format!("{0}/first {0}/second", spell(input)),
                false => spell(input),
            })
            .collect();
        SCRIPTS[step.script].replace('@', &inputs.join(" ")).replace('#', number)
    }

    fn is_folder(&self, input: usize) -> bool {
        input.checked_sub(self.words.len()).is_some_and(|step| self.steps[step].script == 4)
    }

    fn toml(&self) -> String {
        let mut chance = Chance::new(self.order);
        let spell = |input: usize| match input.checked_sub(self.words.len()) {
            Some(step) => format!("${{{}}}", self.steps[step].name),
            None => format!("${{sources.w{input}}}"),
        };
        let mut tables =
            vec![format!("[params]\nnumber = {}\nunused = {}", self.param, chance.below(100))];
        let sources = (0..self.words.len()).map(|at| format!("w{at} = \"w{at}.txt\"\n"));
        tables.push(format!("[sources]\n{}", sources.collect::<String>()));
        for step in &self.steps {
            let number = if step.uses_param {
                "${params.number}".to_owned()
            } else {
                step.number.to_string()
            };
            let run = self.script(step, &spell, &number);
            tables.push(format!("[steps.{}]\n# {}\nrun = \"{run}\"", step.name, chance.below(100)));
        }
        tables.sort_by_cached_key(|_| chance.next());
        format!("name = \"oracle\"\n\n{}\n", tables.join("\n\n"))
    }

    /// For each step what it reads, as text, and what it makes, worked out by the shell alone in `folder`.
    fn expected(&self, folder: &Path) -> BTreeMap<String, (String, String)> {
        drop(fs::remove_dir_all(folder));
        fs::create_dir(folder).unwrap();
        for (at, words) in self.words.iter().enumerate() {
            fs::write(folder.join(at.to_string()), words).unwrap();
        }
        let mut whole = String::from("set -eu\n");
        let plain = |input: usize| input.to_string();
        for (at, step) in self.steps.iter().enumerate() {
            let number = if step.uses_param { self.param } else { step.number }.to_string();
            let script = self.script(step, &plain, &number);
            let out = (self.words.len() + at).to_string();
            let _ = writeln!(whole, "{}", script.replace("${out}", &out));
        }
        let done = Command::new("sh")
            .arg("-c")
            .arg(&whole)
            .current_dir(folder)
            .env("LC_ALL", "C")
            .status();
        assert!(done.unwrap().success(), "{whole}");
        let content = |input: usize| content(&folder.join(input.to_string()));
        let steps = self.steps.iter().enumerate().map(|(at, step)| {
            let number = if step.uses_param { self.param } else { step.number }.to_string();
            let mut places: Vec<usize> = Vec::new();
            for &input in &step.inputs {
                if !places.contains(&input) {
                    places.push(input);
                }
            }
            let seen = |input: usize| {
                let place = places.iter().position(|&other| other == input);
                let extension = if input < self.words.len() { "txt" } else { "" };
                format!("<{place:?} {extension} {:?}>", content(input))
            };
            let reads = self.script(step, &seen, &number);
            (step.name.clone(), (reads, content(self.words.len() + at)))
        });
        steps.collect()
    }
}

/// A file's text, or those of a folder's files.
fn content(path: &Path) -> String {
    if !path.is_dir() {
        return fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let text = |name: &str| fs::read_to_string(path.join(name)).unwrap();
    format!("folder {:?} {:?}", text("first"), text("second"))
}

/// The path of a step's output as the report gives it.
fn output<'a>(build: &'a Build, step: &str) -> &'a str {
    build.step(step)["outputs"]["out"]["path"]
        .as_str()
        .unwrap_or_else(|| panic!("{step} is not there"))
}

fn case(seed: u64, story: &mut String) {
    let mut chance = Chance::new(seed);
    let mut draft = Draft::random(&mut chance);
    let project = Project::empty();
    let folder = project.user_home().join("expected");
    // What was ever built, by what it reads; and what of that is still there, with what it made.
    let mut ever: BTreeSet<String> = BTreeSet::new();
    let mut settled: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..4 {
        if round > 0 {
            let _ = writeln!(story, "{}", draft.edit(&mut chance));
        }
        let _ = writeln!(story, "build:\n{}\n{:?}", draft.toml(), draft.words);
        project.write("kiln.toml", draft.toml());
        draft
            .words
            .iter()
            .enumerate()
            .for_each(|(at, words)| project.write(&format!("w{at}.txt"), words));
        let jobs = (1 + chance.below(3)).to_string();
        let build = project.build(&["--link", "all", "--jobs", &jobs]).exits(0);
        let expected = draft.expected(&folder);
        for (step, (_, makes)) in &expected {
            assert_eq!(&content(Path::new(output(&build, step))), makes, "what `{step}` made");
        }
        let mut ran = BTreeSet::new();
        for step in build.ran() {
            let reads = &expected[&step].0;
            assert!(!settled.contains_key(reads), "`{step}` ran again, and reads {reads}");
            assert!(ran.insert(reads.clone()), "`{step}` ran beside its twin");
        }
        for (reads, makes) in expected.into_values() {
            assert!(
                ever.contains(&reads) || ran.contains(&reads),
                "nothing ran that reads {reads}"
            );
            ever.insert(reads.clone());
            settled.insert(reads, makes);
        }
        if chance.once_in(4) {
            let names: Vec<&String> = draft.steps.iter().map(|step| &step.name).collect();
            let name = *chance.pick(&names).unwrap();
            let _ = writeln!(story, "the output of {name} is lost");
            let path = output(&build, name);
            let gone = content(Path::new(path));
            settled.retain(|_, makes| *makes != gone);
            project.lose(path);
        }
    }
    let last = project.build(&["--link", "all"]).exits(0);
    let clean = Project::empty();
    clean.write("kiln.toml", draft.toml());
    draft
        .words
        .iter()
        .enumerate()
        .for_each(|(at, words)| clean.write(&format!("w{at}.txt"), words));
    assert_eq!(
        clean.build(&["--link", "all"]).exits(0).identity(),
        last.identity(),
        "a clean build differs"
    );
    assert_eq!(project.build(&["--link", "all"]).exits(0).ran(), [] as [&str; 0]);
}

fn run(seed: u64) {
    let mut story = String::new();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(seed, &mut story)));
    assert!(result.is_ok(), "KILN_ORACLE_E2E_SEED={seed}\n{story}");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn every_build_is_what_the_programs_make_and_nothing_runs_twice() {
    if let Some(seed) = number("KILN_ORACLE_E2E_SEED") {
        return run(seed);
    }
    let cases = number("KILN_ORACLE_E2E_CASES").unwrap_or(CASES);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= cases {
                        break;
                    }
                    run(seed);
                }
            });
        }
    });
}

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

/// Steps that take their time, on several levels; what each makes differs from run to run.
fn slow(steps: usize) -> Project {
    let mut recipe = String::from("name = \"slow\"\n");
    for step in 0..steps {
        let before =
            if step < 2 { String::new() } else { format!("cat ${{s{}}} > ${{out}}; ", step - 2) };
        let _ = write!(
            recipe,
            "\n[steps.s{step}]\ndeterminism = \"none\"\nrun = \"{before}echo {step} >> ${{out}}; sleep 0.05; od -An -N8 -tx1 /dev/urandom >> ${{out}}\"\n"
        );
    }
    Project::new(&recipe)
}

fn start(project: &Project) -> Child {
    let mut command = project.command(&["build", "--json", "--link", "none"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command.spawn().unwrap()
}

#[test]
fn several_kilns_at_once_run_each_step_once_and_agree() {
    let project = slow(6);
    let kilns: Vec<Child> = (0..4).map(|_| start(&project)).collect();
    let documents: Vec<serde_json::Value> = kilns
        .into_iter()
        .map(|kiln| {
            let done = kiln.wait_with_output().unwrap();
            assert!(done.status.success(), "{done:?}");
            serde_json::from_slice(&done.stdout).unwrap()
        })
        .collect();
    let mut ran: BTreeMap<String, usize> = BTreeMap::new();
    let mut digests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for step in documents.iter().flat_map(|document| document["steps"].as_array().unwrap()) {
        let name = step["step"].to_string();
        *ran.entry(name.clone()).or_default() += usize::from(step["how"] == "ran");
        digests.entry(name).or_default().insert(step["outputs"]["out"]["digest"].to_string());
    }
    assert_eq!(ran.len(), 6);
    assert!(ran.values().all(|&times| times == 1), "{ran:?}");
    assert!(digests.values().all(|digests| digests.len() == 1), "{digests:?}");
}

#[test]
fn kiln_killed_at_any_moment_loses_no_finished_step() {
    let mut chance = Chance::new(11);
    for _ in 0..8 {
        let project = slow(5);
        let mut kiln = start(&project);
        std::thread::sleep(Duration::from_millis(10 + chance.next() % 250));
        kiln.kill().unwrap();
        kiln.wait().unwrap();
        let begun = Instant::now();
        while sees(&project) {
            assert!(begun.elapsed() < Duration::from_secs(10), "a step outlives kiln");
            std::thread::sleep(Duration::from_millis(10));
        }
        let finished = records(project.store());
        let build = project.build(&["--link", "none"]).exits(0);
        let reused: BTreeSet<&str> = build.document["steps"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|step| step["how"] == "reused")
            .map(|step| step["action_key"].as_str().unwrap())
            .collect();
        let lost: Vec<&String> =
            finished.iter().filter(|key| !reused.contains(key.as_str())).collect();
        assert_eq!(lost, [] as [&String; 0], "finished steps ran again");
        assert_eq!(build.ran().len() + finished.len(), 5);
        project.kiln(&["store", "verify"]).exits(0);
    }
}

/// Whether a process has its working folder or its program in the project's folder or store.
fn sees(project: &Project) -> bool {
    let root = project.store().parent().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut mounts =
        processes.filter_map(|entry| fs::read_to_string(entry.path().join("mountinfo")).ok());
    mounts.any(|mounts| mounts.contains(&format!("{}/", root.display())))
}

/// The keys that have a record.
fn records(store: &Path) -> Vec<String> {
    let shards = fs::read_dir(store.join("realisations")).into_iter().flatten().flatten();
    let files = shards.flat_map(|shard| fs::read_dir(shard.path()).into_iter().flatten().flatten());
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.len() == 64).collect()
}
