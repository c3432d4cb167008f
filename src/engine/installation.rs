//! Whether the programs of this machine stayed what they were since they went into a step's key.
//!
//! What a step can run is looked up when a build begins, and a build may take days. An upgrade in the meantime would have
//! a result recorded under programs that did not make it. So the files and folders that every installation changes are
//! looked at once more before a result is recorded: a few dozen calls. Unaware of keys and steps.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use walkdir::WalkDir;

use crate::{
    host::{self, Stamp},
    tools::ToolSet,
};

/// The folders in which programs and libraries come and go, and what package managers write.
const SYSTEM: [&str; 24] = [
    "/bin",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/os-release",
    "/lib",
    "/lib64",
    "/opt",
    "/sbin",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/sbin",
    "/usr/sbin",
    "/lib/apk/db/installed",
    "/var/lib/dpkg/info",
    "/var/lib/dpkg/updates",
    "/var/lib/pacman/local",
    host::DPKG_STATUS,
];

/// Databases of packages that are one file.
const DATABASES: [&str; 4] = [
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite-wal",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/rpmdb.sqlite-wal",
];

/// What a step can run, as it was when it was looked up.
#[derive(Debug)]
pub struct Installation {
    /// Whoever changes one of these has changed a program.
    stamps: Vec<Stamp>,
    /// In these folders files come and go that mean nothing.
    loose: Vec<Stamp>,
}

/// What has changed of an [`Installation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// A program, or what programs are installed by.
    Program(PathBuf),
    /// A folder that belongs to a program: what is in it has to tell.
    Folder(PathBuf),
}

impl Installation {
    /// The programs of the host's system folders. To be called before their facts are looked up.
    pub fn of_host() -> Self {
        let paths = SYSTEM.iter().chain(&DATABASES).map(Path::new);
        Self { stamps: paths.map(Stamp::of).collect(), loose: Vec::new() }
    }

    /// Some tools.
    pub fn of_tools(set: &ToolSet) -> Self {
        let system = |path: &Path| {
            ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"]
                .iter()
                .any(|top| path.starts_with(top))
        };
        let mut strict: BTreeSet<&Path> =
            set.programs.iter().map(|(_, program)| program.as_path()).collect();
        let mut loose = Vec::new();
        for bind in &set.binds {
            if system(bind) || !bind.is_dir() {
                strict.insert(bind);
            } else {
                loose.extend(folders_of(bind));
            }
        }
        if strict.iter().any(|path| system(path)) {
            strict.extend(
                [host::DPKG_STATUS, "/var/lib/dpkg/info", "/etc/ld.so.cache"].map(Path::new),
            );
        }
        Self { stamps: strict.into_iter().map(Stamp::of).collect(), loose }
    }

    /// What is not any more as it was, if anything is.
    pub fn moved(&self) -> Option<Moved> {
        let moved = |stamps: &[Stamp]| stamps.iter().find_map(Stamp::moved).map(Path::to_owned);
        moved(&self.stamps).map(Moved::Program).or_else(|| moved(&self.loose).map(Moved::Folder))
    }
}

/// The folders below one; byte code that Python keeps aside is left out, as it is in a tool's fingerprint.
fn folders_of(top: &Path) -> Vec<Stamp> {
    let entries = WalkDir::new(top).into_iter();
    let entries = entries.filter_entry(|entry| entry.file_name() != "__pycache__");
    let folders = entries.flatten().filter(|entry| entry.file_type().is_dir());
    folders.map(|entry| Stamp::of(entry.path())).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_host_on_which_nothing_is_installed_has_not_moved() {
        assert_eq!(Installation::of_host().moved(), None);
    }

    #[test]
    fn a_program_that_is_replaced_has_moved_and_a_module_makes_its_folder_suspicious() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        fs::create_dir_all(path("prefix/bin")).unwrap();
        fs::create_dir_all(path("prefix/lib/modules/__pycache__")).unwrap();
        fs::write(path("prefix/bin/tool"), "1").unwrap();
        let set = ToolSet {
            programs: vec![("tool".into(), path("prefix/bin/tool"))],
            binds: vec![path("prefix")],
            ..ToolSet::default()
        };
        let before = Installation::of_tools(&set);
        fs::write(path("prefix/lib/modules/__pycache__/a.pyc"), "1").unwrap();
        assert_eq!(before.moved(), None);
        fs::write(path("prefix/lib/modules/b.py"), "1").unwrap();
        assert_eq!(before.moved(), Some(Moved::Folder(path("prefix/lib/modules"))));
        fs::write(path("new"), "2").unwrap();
        fs::rename(path("new"), path("prefix/bin/tool")).unwrap();
        assert_eq!(before.moved(), Some(Moved::Program(path("prefix/bin/tool"))));
    }
}
