//! `kiln init`: a recipe that builds at once.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    failure::{Exit, Failure, print_json},
    global::Global,
    project::RECIPE_FILE,
    style,
};

const RECIPE: &str = include_str!("init/kiln.toml");

/// The other files of the first recipe.
const FILES: [(&str, &str); 2] = [
    ("checks.toml", include_str!("init/checks.toml")),
    ("data/points.csv", include_str!("init/points.csv")),
];

/// What git is to leave alone: the links to results.
const IGNORED: &str = "/result/";

/// Write a recipe that builds at once, to begin from.
///
/// It checks a small table, splits it, trains a model, evaluates it, and packages it. Nothing is overwritten.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kiln init first && kiln build -C first")]
pub struct Args {
    /// The folder to write it to; it is made if it is not there.
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// The recipe's name; by default the folder's.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Serialize)]
struct Document {
    name: String,
    dir: PathBuf,
    written: Vec<&'static str>,
}

/// Writes the files.
pub fn run(global: &Global, args: &Args) -> Result<Exit, Failure> {
    let dir = global.directory.clone().unwrap_or_default().join(&args.dir);
    let name = match &args.name {
        Some(name) if is_name(name) => name.clone(),
        Some(name) => {
            return Err(Failure::usage(
                format!("`{name}` cannot name a recipe"),
                "a name consists of letters, digits, `_`, `.` and `-`",
            ));
        }
        None => name_of(&dir),
    };
    let there = std::iter::once(RECIPE_FILE).chain(FILES.map(|(file, _)| file));
    if let Some(file) =
        there.map(|file| dir.join(file)).find(|file| file.symlink_metadata().is_ok())
    {
        return Err(Failure::usage(
            format!("`{}` is there already", file.strip_prefix(".").unwrap_or(&file).display()),
            "kiln init overwrites nothing: name another folder, as in `kiln init first`",
        ));
    }
    let mut written = write(&dir, &name).map_err(|(path, error)| {
        Failure::environment(&error, format!("`{}` cannot be written", path.display()))
    })?;
    let ignore = dir.join(".gitignore");
    if ignore_results(&ignore).map_err(|error| {
        Failure::environment(&error, format!("`{}` cannot be written", ignore.display()))
    })? {
        written.push(".gitignore");
    }
    if global.json {
        print_json(&Document { name, dir, written });
        return Ok(Exit::Done);
    }
    for file in &written {
        let path = dir.join(file);
        anstream::eprintln!("wrote {}", path.strip_prefix(".").unwrap_or(&path).display());
    }
    let flag = match dir.as_os_str().is_empty() || dir == Path::new(".") {
        true => String::new(),
        false => format!(" -C {}", dir.display()),
    };
    anstream::eprintln!("\nnext:");
    let hints = [
        ("build", "runs every step, and links what they make under result/"),
        ("status", "tells what a change would run"),
        ("why train", "tells why a step ran"),
        ("graph", "draws what needs what"),
    ]
    .map(|(command, what)| (format!("kiln {command}{flag}"), what));
    let width = hints.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    for (command, what) in hints {
        anstream::eprintln!("  {}  {what}", style::paint(style::NAME, format!("{command:width$}")));
    }
    Ok(Exit::Done)
}

fn write(dir: &Path, name: &str) -> Result<Vec<&'static str>, (PathBuf, io::Error)> {
    let recipe = RECIPE.replacen("NAME", name, 1);
    let mut written = Vec::new();
    // The recipe comes last: where it is, the rest is too.
    for (file, text) in FILES.into_iter().chain([(RECIPE_FILE, recipe.as_str())]) {
        let path = dir.join(file);
        let put = || {
            fs::create_dir_all(path.parent().unwrap_or(dir))?;
            OpenOptions::new().write(true).create_new(true).open(&path)?.write_all(text.as_bytes())
        };
        put().map_err(|error| (path.clone(), error))?;
        written.push(
            FILES.iter().map(|(file, _)| *file).find(|known| *known == file).unwrap_or(RECIPE_FILE),
        );
    }
    Ok(written)
}

/// Adds a line to what git ignores, unless it is there. Whether it was added.
fn ignore_results(path: &Path) -> io::Result<bool> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    if text.lines().any(|line| matches!(line.trim(), "/result/" | "/result" | "result/" | "result"))
    {
        return Ok(false);
    }
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    file.write_all(format!("{newline}{IGNORED}\n").as_bytes())?;
    Ok(true)
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !name.is_empty()
        && name.bytes().all(plain)
        && name.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

/// The folder's name, with what cannot be in a recipe's name replaced.
fn name_of(dir: &Path) -> String {
    let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let name =
        whole.components().next_back().and_then(|last| last.as_os_str().to_str()).unwrap_or("");
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii() && is_name(&c.to_string()) || "_.-".contains(c) { c } else { '-' })
        .collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "pipeline".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_recipe_has_no_problem() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            write(dir.path(), "first").unwrap(),
            ["checks.toml", "data/points.csv", "kiln.toml"]
        );
        let path = dir.path().join(RECIPE_FILE);
        let graph = super::super::project::evaluate(&path, "kiln.toml", &[]);
        assert_eq!(graph.map(|graph| graph.name).map_err(|_| ()), Ok("first".to_owned()));
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("checks.toml"), "mine").unwrap();
        assert!(write(dir.path(), "first").is_err());
        assert_eq!(fs::read_to_string(dir.path().join("checks.toml")).unwrap(), "mine");
    }

    #[test]
    fn git_is_told_once_to_ignore_results_and_keeps_what_it_was_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".gitignore");
        fs::write(&path, "*.tmp").unwrap();
        assert!(ignore_results(&path).unwrap());
        assert!(!ignore_results(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "*.tmp\n/result/\n");
    }

    #[test]
    fn any_folder_gives_a_name_that_a_recipe_can_have() {
        assert_eq!(name_of(Path::new("/tmp/My project é")), "My-project");
        assert_eq!(name_of(Path::new("/")), "pipeline");
    }
}
