//! What end-to-end tests are made of: a recipe in a temporary folder, an empty store, and the built binary.
//!
//! The environment is cleared: only `PATH`, an empty `HOME` and what a test adds reach the binary.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

use tempfile::TempDir;

/// The built binary.
pub fn binary() -> &'static Path {
    static PLACE: LazyLock<PathBuf> =
        LazyLock::new(|| now_or_built("NEXTEST_BIN_EXE_kiln", env!("CARGO_BIN_EXE_kiln")));
    &PLACE
}

/// The folder of the repository.
pub fn repository() -> &'static Path {
    static PLACE: LazyLock<PathBuf> =
        LazyLock::new(|| now_or_built("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR")));
    &PLACE
}

/// Tests may run from an archive, in another place than where they were built: the runner says where.
fn now_or_built(variable: &str, built: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| PathBuf::from(built), PathBuf::from)
}

/// A recipe, a store and a home folder of their own.
pub struct Project {
    root: TempDir,
    dir: PathBuf,
    home: PathBuf,
    variables: BTreeMap<String, String>,
}

impl Project {
    /// A project with this recipe.
    pub fn new(recipe: &str) -> Self {
        let project = Self::empty();
        project.write("kiln.toml", recipe);
        project
    }

    /// A project without a recipe.
    pub fn empty() -> Self {
        Self::at("project")
    }

    /// A project without a recipe, in a folder of this name.
    pub fn at(name: &str) -> Self {
        let root =
            tempfile::Builder::new().prefix("kiln-test-").tempdir().expect("a temporary folder");
        let dir = root.path().join(name);
        let home = root.path().join("store");
        fs::create_dir_all(&dir).expect("the project's folder");
        fs::create_dir_all(root.path().join("home")).expect("a home folder");
        Self { root, dir, home, variables: BTreeMap::new() }
    }

    /// A copy of one of the repository's recipes.
    pub fn recipe(name: &str) -> Self {
        let project = Self::empty();
        copy(&repository().join("recipes").join(name), &project.dir);
        project
    }

    /// Uses the store of `other`.
    pub fn sharing_store_with(mut self, other: &Self) -> Self {
        self.home.clone_from(&other.home);
        self
    }

    /// Sets a variable for every run.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The folder of the recipe.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of the store.
    pub fn store(&self) -> &Path {
        &self.home
    }

    /// The user's home folder.
    pub fn user_home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Writes a file of the project.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().expect("a path in the project")).expect("its folder");
        fs::write(path, text).expect("a file of the project");
    }

    /// Replaces text in a file of the project, which must be there.
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "`{path}` has no `{from}`:\n{text}");
        self.write(path, text.replace(from, to));
    }

    /// Sets the permissions of a file of the project.
    pub fn set_mode(&self, path: &str, mode: u32) {
        let path = self.dir.join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its permissions");
    }

    /// The names under `result/`, sorted.
    pub fn linked(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.join("result")).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Takes an object out of the store behind kiln's back.
    pub fn lose(&self, path: &str) {
        assert!(Path::new(path).starts_with(&self.home), "{path} is in the store");
        make_writable(Path::new(path).parent().expect("a path in the store"));
        let gone =
            if Path::new(path).is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        gone.expect("an object of the store");
    }

    /// Reads a file of the project, through links.
    pub fn read(&self, path: &str) -> String {
        let full = self.dir.join(path);
        fs::read_to_string(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()))
    }

    /// The command, ready to run; for tests that need more than [`Project::kiln`].
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.user_home())
            .env("KILN_HOME", &self.home)
            .envs(&self.variables)
            .stdin(Stdio::null());
        command
    }

    /// Runs the binary.
    pub fn kiln(&self, arguments: &[&str]) -> Run {
        let output = self.command(arguments).output().expect("the binary starts");
        Run { output, hidden: vec![self.root.path().to_owned()] }
    }

    /// Runs a command, which came from [`Project::command`] or starts one that did.
    pub fn run(&self, mut command: Command) -> Run {
        let output = command.output().expect("it starts");
        Run { output, hidden: vec![self.root.path().to_owned()] }
    }

    /// The folder that everything of this project is in.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Runs `kiln build --json`, whatever its exit code.
    pub fn build(&self, arguments: &[&str]) -> Build {
        let run = self.kiln(&[&["build", "--json"], arguments].concat());
        let document = serde_json::from_slice(&run.output.stdout)
            .unwrap_or_else(|error| panic!("no JSON document ({error}):\n{run:?}"));
        Build { run, document }
    }
}

impl Drop for Project {
    /// What the store holds is read-only, folders too.
    fn drop(&mut self) {
        make_writable(self.root.path());
    }
}

/// Lets a folder of read-only files be removed.
pub fn make_writable(folder: &Path) {
    let Ok(meta) = folder.symlink_metadata() else { return };
    if !meta.is_dir() {
        return;
    }
    drop(fs::set_permissions(folder, fs::Permissions::from_mode(0o755)));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        make_writable(&entry.path());
    }
}

/// Copies a folder; `result` folders are left out.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the copy's folder");
    for entry in fs::read_dir(from).expect("a folder to copy") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_name() == "result" {
            continue;
        }
        if entry.file_type().expect("its type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// A run of the binary that has ended.
pub struct Run {
    output: Output,
    hidden: Vec<PathBuf>,
}

impl Run {
    /// The exit code.
    pub fn code(&self) -> i32 {
        self.output.status.code().unwrap_or(-1)
    }

    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{self:?}");
        self
    }

    /// What it printed on stdout.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// What it printed on stderr.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Both streams with paths, digests, times and sizes made the same on every machine.
    pub fn redacted(&self) -> String {
        let (out, err) = (self.stdout(), self.stderr());
        let text = match (out.is_empty(), err.is_empty()) {
            (true, _) => err,
            (false, true) => out,
            (false, false) => format!("{err}--- stdout\n{out}"),
        };
        redact(&text, &self.hidden)
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "exit code {}", self.code())?;
        writeln!(f, "--- stdout\n{}--- stderr\n{}", self.stdout(), self.stderr())
    }
}

/// Replaces what differs between machines and runs.
pub fn redact(text: &str, hidden: &[PathBuf]) -> String {
    let mut text = text.to_owned();
    for path in hidden {
        text = text.replace(&path.display().to_string(), "[ROOT]");
    }
    // Whether there is time saved or to be spent that is worth a word, and how well steps can be kept apart, is the machine's.
    let lines = text.lines().filter(|line| !line.starts_with("note: isolation is "));
    let lines: Vec<String> = lines
        .map(|line| {
            let line = redact_amounts(&redact_moments(&redact_digests(line)));
            let line = line.replace(" ([TIME] saved)", "").replace(" (about [TIME])", "");
            line.split("; ")
                .filter(|part| !part.ends_with(" to build"))
                .collect::<Vec<_>>()
                .join("; ")
        })
        .collect();
    lines.join("\n")
}

/// Runs of twelve or more hex digits that hold both letters and digits, or are 64 long.
fn redact_digests(line: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for character in line.chars().chain(['\0']) {
        if character.is_ascii_digit() || ('a'..='f').contains(&character) {
            run.push(character);
            continue;
        }
        if run.len() >= 12 {
            // In the store the first two digits are a folder.
            if out.ends_with(&format!("/{}/", &run[..2])) {
                out.truncate(out.len() - 3);
            }
            out.push_str("[DIGEST]");
        } else {
            out.push_str(&run);
        }
        run.clear();
        if character != '\0' {
            out.push(character);
        }
    }
    out
}

/// `2026-11-24 07:28:01` → `[MOMENT]`.
fn redact_moments(line: &str) -> String {
    const SHAPE: &str = "0000-00-00 00:00:00";
    let shape: String = line
        .chars()
        .map(|character| if character.is_ascii_digit() { '0' } else { character })
        .collect();
    let mut out = line.to_owned();
    // A digit is one byte as its stand-in is, so that both texts have the same offsets.
    for (start, found) in shape.rmatch_indices(SHAPE) {
        out.replace_range(start..start + found.len(), "[MOMENT]");
    }
    out
}

/// `0.4 s`, `12 ms`, `3 min 20 s` → `[TIME]`; `8.0 KiB` → `[SIZE]`. Sizes in bytes stay: they are small and exact.
fn redact_amounts(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let mut out: Vec<String> = Vec::new();
    let mut index = 0;
    while index < words.len() {
        let (word, next) = (words[index], words.get(index + 1).copied().unwrap_or_default());
        let number = word.trim_start_matches('(');
        let unit = next.trim_end_matches([')', ',', '.', ';', ':']);
        let sort = match unit {
            "s" | "ms" | "min" | "h" => "[TIME]",
            "KiB" | "MiB" | "GiB" => "[SIZE]",
            _ => "",
        };
        let is_number =
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if is_number && !sort.is_empty() {
            let open = &word[..word.len() - number.len()];
            if out.last().is_some_and(|last| last.ends_with("[TIME]")) {
                out.pop();
            }
            out.push(format!("{open}{sort}{}", &next[unit.len()..]));
            index += 2;
        } else {
            out.push(word.to_owned());
            index += 1;
        }
    }
    out.join(" ")
}

/// A build that was asked for its report.
pub struct Build {
    /// The run.
    pub run: Run,
    /// The report.
    pub document: serde_json::Value,
}

impl Build {
    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.run.code(), code, "{:?}", self.run);
        self
    }

    /// The names of the steps that ended so (`ran`, `reused`, `failed`, `skipped`), sorted.
    pub fn steps(&self, how: &str) -> Vec<String> {
        let mut names: Vec<String> = self.document["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .filter(|step| step["how"] == how)
            .map(|step| step["step"].as_str().expect("a name").to_owned())
            .collect();
        names.sort();
        names
    }

    /// The steps that ran.
    pub fn ran(&self) -> Vec<String> {
        self.steps("ran")
    }

    /// The entry of one step.
    #[track_caller]
    pub fn step(&self, name: &str) -> &serde_json::Value {
        let steps = self.document["steps"].as_array().expect("steps");
        steps
            .iter()
            .find(|step| step["step"] == name)
            .unwrap_or_else(|| panic!("no step {name}: {:?}", self.run))
    }

    /// Action key and outputs' digests of every step, for comparing builds.
    pub fn identity(&self) -> BTreeMap<String, (String, BTreeMap<String, String>)> {
        let steps = self.document["steps"].as_array().expect("steps");
        let outputs = |step: &serde_json::Value| {
            let outputs = step["outputs"].as_object().expect("outputs").iter();
            outputs.map(|(name, output)| (name.clone(), output["digest"].to_string())).collect()
        };
        steps
            .iter()
            .map(|step| (step["step"].to_string(), (step["action_key"].to_string(), outputs(step))))
            .collect()
    }
}
