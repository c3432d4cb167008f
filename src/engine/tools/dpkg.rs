//! Debian's database of packages, as far as tools need it: who owns a file, what a package needs, what it holds.
//!
//! The files are read as they stand; no program is asked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use rayon::prelude::*;

use crate::host::{self, DPKG_STATUS, feed};

const INFO: &str = "/var/lib/dpkg/info";
const ALTERNATIVES: &str = "/var/lib/dpkg/alternatives";

/// Where `pip` puts what an administrator installs, by version of Python.
pub(super) const LOCAL_MODULES: [&str; 1] = ["/usr/local/lib"];

/// What of a package programs do not read.
const SILENT: [&str; 22] = [
    "/usr/share/doc",
    "/usr/share/man",
    "/usr/share/info",
    "/usr/share/locale",
    "/usr/share/lintian",
    "/usr/share/bug",
    "/usr/share/menu",
    "/usr/share/doc-base",
    "/usr/share/applications",
    "/usr/share/pixmaps",
    "/usr/share/icons",
    "/usr/share/bash-completion",
    "/usr/share/apport",
    "/usr/lib/systemd",
    "/var",
    "/run",
    "/etc/init.d",
    "/etc/cron.daily",
    "/etc/default",
    "/etc/logrotate.d",
    "/etc/pam.d",
    "/etc/security",
];

/// Folders on which most of a system's programs stand side by side.
const PROGRAMS: [&str; 2] = ["/usr/bin", "/usr/sbin"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Package {
    version: String,
    architecture: String,
    /// Names, any of which will do, for each need.
    needs: Vec<Vec<String>>,
    recommends: Vec<Vec<String>>,
}

/// The installed packages.
#[derive(Debug, Default)]
pub(super) struct Database {
    packages: BTreeMap<String, Package>,
    /// Who provides a name that is no package's own.
    provided: HashMap<String, Vec<String>>,
    /// Names in the root folder that are links into `/usr`.
    merged: Vec<String>,
}

impl Database {
    /// The host's, if it is of Debian's kind.
    pub(super) fn read() -> Option<Self> {
        let mut database = Self::parse(&fs::read_to_string(DPKG_STATUS).ok()?);
        database.merged = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"]
            .into_iter()
            .filter(|name| fs::read_link(Path::new("/").join(name)).is_ok())
            .map(str::to_owned)
            .collect();
        Some(database)
    }

    fn parse(status: &str) -> Self {
        let mut database = Self::default();
        for stanza in status.split("\n\n") {
            let fields: HashMap<&str, &str> = stanza
                .lines()
                .filter(|line| !line.starts_with(' '))
                .filter_map(|line| line.split_once(": "))
                .collect();
            let field = |name: &str| fields.get(name).copied().unwrap_or("");
            if field("Status") != "install ok installed" {
                continue;
            }
            let name = field("Package").to_owned();
            let mut needs = relations(field("Depends"));
            needs.extend(relations(field("Pre-Depends")));
            for provided in relations(field("Provides")).into_iter().flatten() {
                database.provided.entry(provided).or_default().push(name.clone());
            }
            let package = Package {
                version: field("Version").to_owned(),
                architecture: field("Architecture").to_owned(),
                needs,
                recommends: relations(field("Recommends")),
            };
            database.packages.insert(name, package);
        }
        database
    }

    /// Where a path of a package's list really is, if `/bin` and the like are links.
    fn placed(&self, path: &str) -> PathBuf {
        let first = path.trim_start_matches('/').split('/').next().unwrap_or("");
        if self.merged.iter().any(|name| name == first) && path.len() > first.len() + 1 {
            PathBuf::from(format!("/usr{path}"))
        } else {
            PathBuf::from(path)
        }
    }

    fn lists() -> Vec<(String, PathBuf)> {
        let names = host::sorted_names(Path::new(INFO)).unwrap_or_default();
        names
            .iter()
            .filter_map(|name| {
                let package = name.to_str()?.strip_suffix(".list")?;
                let package = package.split(':').next()?.to_owned();
                Some((package, Path::new(INFO).join(name)))
            })
            .collect()
    }

    /// The package of each of `files` that has one.
    pub(super) fn owners(&self, files: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, String> {
        Self::lists()
            .par_iter()
            .filter(|(package, _)| self.packages.contains_key(package))
            .flat_map_iter(|(package, list)| {
                let text = fs::read_to_string(list).unwrap_or_default();
                let owned: Vec<_> = text
                    .lines()
                    .map(|line| self.placed(line))
                    .filter(|path| files.contains(path))
                    .map(|path| (path, package.clone()))
                    .collect();
                owned
            })
            .collect::<Vec<_>>()
            .into_iter()
            .collect()
    }

    /// The packages that make up the tool `name`: the owners of what it leads through, the package that is called like
    /// it, and what these recommend.
    pub(super) fn roots(
        &self,
        name: &str,
        chain: &[PathBuf],
        owners: &BTreeMap<PathBuf, String>,
    ) -> BTreeSet<String> {
        let mut roots: BTreeSet<String> =
            chain.iter().filter_map(|path| owners.get(path).cloned()).collect();
        let program = chain.last().and_then(|path| path.file_name()).and_then(OsStr::to_str);
        for name in [Some(name), program].into_iter().flatten() {
            if self.packages.contains_key(name) {
                roots.insert(name.to_owned());
            }
        }
        for root in roots.clone() {
            if let Some(package) = self.packages.get(&root) {
                roots.extend(self.installed(&package.recommends));
            }
        }
        roots
    }

    /// The packages that bring modules of Python 3.
    pub(super) fn python_modules(&self) -> BTreeSet<String> {
        let lists = Self::lists().into_iter().filter(|(package, _)| {
            package.starts_with("python3-") && self.packages.contains_key(package)
        });
        lists
            .filter(|(_, list)| {
                fs::read_to_string(list)
                    .is_ok_and(|text| text.contains("/usr/lib/python3/dist-packages/"))
            })
            .map(|(package, _)| package)
            .collect()
    }

    /// `roots`, and all that any of these needs.
    pub(super) fn closure(&self, roots: &BTreeSet<String>) -> BTreeSet<String> {
        let mut next: Vec<String> = roots.iter().cloned().collect();
        let mut closure = BTreeSet::new();
        while let Some(name) = next.pop() {
            if let Some(package) = self.packages.get(&name)
                && closure.insert(name)
            {
                next.extend(self.installed(&package.needs));
            }
        }
        closure
    }

    fn installed(&self, needs: &[Vec<String>]) -> Vec<String> {
        let mut all = Vec::new();
        for name in needs.iter().flatten() {
            if self.packages.contains_key(name) {
                all.push(name.clone());
            }
            all.extend(self.provided.get(name).into_iter().flatten().cloned());
        }
        all
    }

    /// Facts for a key: the version of each root, and one digest over the closure.
    pub(super) fn facts(
        &self,
        roots: &BTreeSet<String>,
        closure: &BTreeSet<String>,
    ) -> Vec<(String, String)> {
        let told = |name: &String| {
            let package = self.packages.get(name)?;
            Some((
                format!("package {name}"),
                format!("{} {}", package.version, package.architecture),
            ))
        };
        let mut facts: Vec<_> = roots.iter().filter_map(told).collect();
        let mut hasher = blake3::Hasher::new_derive_key("kiln package closure 1");
        for (label, fact) in closure.iter().filter_map(told) {
            feed(&mut hasher, label.as_bytes());
            feed(&mut hasher, fact.as_bytes());
        }
        facts.push(("closure".into(), hasher.finalize().to_hex().to_string()));
        facts
    }

    /// What the packages of `closure` hold, without folders and without what programs do not read.
    pub(super) fn files(&self, closure: &BTreeSet<String>) -> BTreeSet<PathBuf> {
        let mut held = BTreeSet::new();
        for (package, list) in Self::lists() {
            if !closure.contains(&package) {
                continue;
            }
            for line in fs::read_to_string(list).unwrap_or_default().lines() {
                let path = self.placed(line);
                if !SILENT.iter().any(|silent| path.starts_with(silent)) {
                    held.insert(path);
                }
            }
        }
        held.extend(alternatives(&held).into_iter().map(|path| self.placed(&path)));
        // A folder that a list names says nothing about what is in it.
        held.retain(|path| fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_dir()));
        held
    }

    /// The programs of `roots` and of what they need themselves: a compiler calls its assembler by name.
    pub(super) fn programs(&self, roots: &BTreeSet<String>) -> BTreeSet<PathBuf> {
        let needs = roots.iter().filter_map(|root| self.packages.get(root));
        let mut near = roots.clone();
        near.extend(needs.flat_map(|package| self.installed(&package.needs)));
        self.files(&near).into_iter().filter(|path| is_program_of_the_system(path)).collect()
    }
}

/// Whether a path stands among the system's programs.
pub(super) fn is_program_of_the_system(path: &Path) -> bool {
    path.parent().is_some_and(|folder| PROGRAMS.iter().any(|known| folder == Path::new(known)))
}

/// The links that the alternatives system keeps to members of `held`: no package lists them.
fn alternatives(held: &BTreeSet<PathBuf>) -> Vec<String> {
    let names = host::sorted_names(Path::new(ALTERNATIVES)).unwrap_or_default();
    let mut links = Vec::new();
    for name in names {
        let text = fs::read_to_string(Path::new(ALTERNATIVES).join(&name)).unwrap_or_default();
        let Some(name) = name.to_str() else { continue };
        for (name, link) in alternative_links(name, &text) {
            let target = fs::canonicalize(Path::new("/etc/alternatives").join(name));
            if target.is_ok_and(|target| held.contains(&target)) {
                links.push(link);
            }
        }
    }
    links
}

/// Names and links of one alternative: the master on the second line, then pairs of lines up to an empty one.
fn alternative_links(name: &str, text: &str) -> Vec<(String, String)> {
    let mut lines = text.lines().skip(1);
    let mut links = Vec::new();
    if let Some(link) = lines.next() {
        links.push((name.to_owned(), link.to_owned()));
    }
    while let (Some(name), Some(link)) =
        (lines.next().filter(|line| !line.is_empty()), lines.next())
    {
        links.push((name.to_owned(), link.to_owned()));
    }
    links
}

/// A field such as `a (>= 1), b | c:any` as names, any of which will do, for each need.
fn relations(field: &str) -> Vec<Vec<String>> {
    let name = |text: &str| {
        let text = text.split_whitespace().next()?;
        Some(text.split([':', '(']).next()?.to_owned())
    };
    let needs = field.split(',').map(|need| need.split('|').filter_map(name).collect());
    needs.filter(|names: &Vec<String>| !names.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: tool\nStatus: install ok installed\nArchitecture: amd64\n\
        Version: 1\nDepends: lib (>= 2), virtual | absent\nRecommends: headers:any\n\n\
        Package: lib\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2\nRecommends: far\n\n\
        Package: real\nStatus: install ok installed\nVersion: 3\nProvides: virtual (= 1)\n\n\
        Package: headers\nStatus: install ok installed\nVersion: 4\nPre-Depends: lib\n\n\
        Package: far\nStatus: install ok installed\nVersion: 5\n\n\
        Package: gone\nStatus: deinstall ok config-files\nVersion: 6\n";

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn no_database_makes_its_readers_break_their_word() {
        kiln_fuzzing::Fuzz::new("packages")
            .samples([STATUS, &STATUS.replace('\n', "\r\n")])
            .words([
                "\n\n",
                ": ",
                " | ",
                ", ",
                "(",
                ")",
                ":any",
                " ",
                "Provides: ",
                "Depends: tool",
                "é",
            ])
            .texts(|text| {
                let database = Database::parse(text);
                let all = database.packages.keys().cloned().collect();
                assert_eq!(database.closure(&all), all, "a closure stays among the installed");
                let _ = database.placed(text);
                let _ = host::release(text);
            });
    }

    #[test]
    fn a_closure_follows_needs_and_what_the_roots_recommend() {
        let database = Database::parse(STATUS);
        let roots = database.roots("tool", &[], &BTreeMap::new());
        assert_eq!(roots, set(&["tool", "headers"]));
        assert_eq!(database.closure(&roots), set(&["tool", "lib", "real", "headers"]));
        assert!(database.closure(&set(&["gone"])).is_empty());
    }

    #[test]
    fn a_new_version_anywhere_in_the_closure_changes_the_facts() {
        let facts = |status: &str| {
            let database = Database::parse(status);
            let roots = database.roots("tool", &[], &BTreeMap::new());
            database.facts(&roots, &database.closure(&roots))
        };
        let first = facts(STATUS);
        assert_eq!(first[1], ("package tool".into(), "1 amd64".into()));
        assert_ne!(facts(&STATUS.replace("Version: 4", "Version: 4.1")), first);
        assert_eq!(facts(&STATUS.replace("Version: 5", "Version: 5.1")), first, "not of it");
    }

    #[test]
    fn lists_are_read_as_if_bin_were_in_usr_where_it_is() {
        let database = Database { merged: vec!["bin".into()], ..Database::default() };
        assert_eq!(database.placed("/bin/sh"), Path::new("/usr/bin/sh"));
        assert_eq!(database.placed("/bin"), Path::new("/bin"));
        assert_eq!(database.placed("/lib/x"), Path::new("/lib/x"));
    }

    #[test]
    fn an_alternative_names_its_master_and_its_slaves() {
        let text =
            "auto\n/usr/bin/awk\nawk.1.gz\n/usr/share/man/man1/awk.1.gz\n\n/usr/bin/mawk\n5\n";
        let links = alternative_links("awk", text);
        assert_eq!(links[0], ("awk".into(), "/usr/bin/awk".into()));
        assert_eq!(links.len(), 2);
    }
}
