//! The real program behind the shims of version managers of pyenv's family.
//!
//! Such a manager has a folder with `shims` (small scripts, one for each program) and `versions` (a prefix for each
//! version). Which version a shim runs is told, in this order, by a variable, by a file in the working folder or
//! above it, and by the manager's own file. The shim is not run: it would answer for its own working folder.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use super::is_program;

/// What a shim stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Real {
    /// This program.
    Program(PathBuf),
    /// Whatever `PATH` has behind the shim.
    System,
    /// Nothing: none of these versions has it.
    Missing(String),
}

/// The folder of the version manager whose shims stand in `folder`, if they do.
pub(super) fn manager(folder: &Path) -> Option<PathBuf> {
    let root = folder.parent()?;
    (folder.file_name() == Some(OsStr::new("shims")) && root.join("versions").is_dir())
        .then(|| root.to_owned())
}

/// The language of a manager: its variable and its file.
fn language(manager: &Path) -> (&'static str, &'static str) {
    match manager.file_name().and_then(OsStr::to_str).unwrap_or("").trim_start_matches('.') {
        "rbenv" => ("RBENV_VERSION", ".ruby-version"),
        "nodenv" => ("NODENV_VERSION", ".node-version"),
        "goenv" => ("GOENV_VERSION", ".go-version"),
        "plenv" => ("PLENV_VERSION", ".perl-version"),
        _ => ("PYENV_VERSION", ".python-version"),
    }
}

/// What the shim `name` of `manager` stands for, for a user with `variables` in `folder`.
pub(super) fn real(
    manager: &Path,
    name: &str,
    variables: &BTreeMap<String, String>,
    folder: Option<&Path>,
) -> Real {
    let (variable, file) = language(manager);
    let said = variables.get(variable).map(|value| value.replace(':', " ")).or_else(|| {
        let near = folder.into_iter().flat_map(Path::ancestors).map(|above| above.join(file));
        near.chain([manager.join("version")]).find_map(|path| fs::read_to_string(path).ok())
    });
    let said = said.unwrap_or_default();
    let wanted: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .collect();
    if wanted.is_empty() {
        return Real::System;
    }
    for version in &wanted {
        if *version == "system" {
            return Real::System;
        }
        let program = installed(manager, version).map(|prefix| prefix.join("bin").join(name));
        if let Some(program) = program.filter(|program| is_program(program)) {
            return Real::Program(program);
        }
    }
    Real::Missing(wanted.join(" or "))
}

/// The prefix of `version`: itself, or the newest that begins with it.
fn installed(manager: &Path, version: &str) -> Option<PathBuf> {
    let versions = manager.join("versions");
    let exact = versions.join(version);
    if exact.is_dir() {
        return Some(exact);
    }
    let begins = format!("{version}.");
    let numbers = |name: &str| -> Vec<u64> {
        name.split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    fs::read_dir(&versions)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&begins) && !name.contains(|c: char| c.is_alphabetic()))
        .max_by_key(|name| numbers(name))
        .map(|name| versions.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn pyenv(versions: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join(".pyenv");
        fs::create_dir_all(root.join("shims")).unwrap();
        for version in versions {
            let bin = root.join("versions").join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            fs::write(bin.join("python3"), "").unwrap();
            fs::set_permissions(bin.join("python3"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        (folder, root)
    }

    #[test]
    fn a_variable_goes_before_a_file_and_a_file_before_the_managers_own() {
        let (folder, root) = pyenv(&["3.9.18", "3.10.2", "3.10.13", "3.12.1"]);
        let manager = manager(&root.join("shims")).unwrap();
        assert_eq!(manager, root);
        let python =
            |version: &str| Real::Program(root.join("versions").join(version).join("bin/python3"));
        let none = BTreeMap::new();
        let project = folder.path().join("project/deep");
        fs::create_dir_all(&project).unwrap();
        let real = |variables: &BTreeMap<String, String>| {
            super::real(&manager, "python3", variables, Some(&project))
        };
        assert_eq!(real(&none), Real::System);
        fs::write(root.join("version"), "3.12.1\n3.9.18\n").unwrap();
        assert_eq!(real(&none), python("3.12.1"));
        fs::write(folder.path().join("project/.python-version"), "# ours\n3.10\n").unwrap();
        assert_eq!(real(&none), python("3.10.13"), "a beginning means the newest");
        let told = |value: &str| BTreeMap::from([("PYENV_VERSION".to_owned(), value.to_owned())]);
        assert_eq!(real(&told("3.9.18")), python("3.9.18"));
        assert_eq!(real(&told("2.7:3.9")), python("3.9.18"));
        assert_eq!(real(&told("system")), Real::System);
        assert_eq!(real(&told("4.0")), Real::Missing("4.0".into()));
    }

    #[test]
    fn a_folder_that_is_merely_called_so_is_no_manager() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("shims")).unwrap();
        assert_eq!(manager(&folder.path().join("shims")), None);
        assert_eq!(manager(Path::new("/usr/bin")), None);
    }
}
