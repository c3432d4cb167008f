//! What holds of the repository as a whole: which crate may know which, modules without rings, `unsafe` behind its
//! doors, and documents that say what is so.
//!
//! The compiler enforces the edges between crates only as long as nobody writes a new one down, and nothing of the rest.

mod modules;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::harness::{Project, repository};
use modules::Modules;

/// A crate of the workspace: where it stands, which of ours it may import, and what it may not know.
struct Crate {
    name: &'static str,
    folder: &'static str,
    root: &'static str,
    may_import: &'static [&'static str],
    unaware_of: &'static [&'static str],
}

const TERMINAL: &[&str] =
    &["anstream", "anstyle", "annotate-snippets", "clap", "indicatif", "signal-hook", "tokio"];
const ANYTHING_OUTSIDE: &[&str] = &["serde", "rustix", "libc", "tokio", "clap"];

const CRATES: &[Crate] = &[
    Crate {
        name: "kiln-cache",
        folder: "cache",
        root: "lib.rs",
        may_import: &[],
        unaware_of: TERMINAL,
    },
    Crate {
        name: "kiln-kernels",
        folder: "kernels",
        root: "lib.rs",
        may_import: &[],
        unaware_of: ANYTHING_OUTSIDE,
    },
    Crate {
        name: "kiln-engine",
        folder: "src/engine",
        root: "lib.rs",
        may_import: &["kiln-cache"],
        unaware_of: TERMINAL,
    },
    Crate {
        name: "kiln-ml",
        folder: "src/ml",
        root: "lib.rs",
        may_import: &["kiln-kernels"],
        unaware_of: TERMINAL,
    },
    Crate {
        name: "kiln-registry",
        folder: "src/registry",
        root: "lib.rs",
        may_import: &["kiln-cache"],
        unaware_of: TERMINAL,
    },
    Crate {
        name: "kiln",
        folder: ".",
        root: "src/main.rs",
        may_import: &["kiln-cache", "kiln-engine", "kiln-ml", "kiln-registry"],
        unaware_of: &["tokio"],
    },
    Crate {
        name: FUZZING,
        folder: "tests/fuzzing",
        root: "lib.rs",
        may_import: &[],
        unaware_of: TERMINAL,
    },
];

/// Drives fuzz tests: for the tests of any crate, and for nothing else.
const FUZZING: &str = "kiln-fuzzing";

/// The only places where `unsafe` may stand.
const DOORS: &[&str] = &["src/engine/sandbox/", "kernels/", "cache/mapped.rs"];

fn manifest(folder: &str) -> toml::Table {
    let path = repository().join(folder).join("Cargo.toml");
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dependencies(folder: &str, tables: &[&str]) -> BTreeSet<String> {
    let manifest = manifest(folder);
    let tables = tables.iter().filter_map(|table| manifest.get(*table)?.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

/// Every Rust file of the repository, relative to it.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["cache", "kernels", "src", "tests"] {
        collect(&repository().join(folder), &mut found);
    }
    found.sort();
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
    {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|own| own == "rs") {
            found.push(
                path.strip_prefix(repository()).expect("it stands in the repository").to_owned(),
            );
        }
    }
}

#[test]
fn every_crate_has_its_row_here() {
    let members = manifest(".")["workspace"]["members"].clone();
    let members: BTreeSet<&str> =
        members.as_array().expect("a list").iter().filter_map(|own| own.as_str()).collect();
    assert_eq!(members, CRATES.iter().map(|own| own.folder).collect());
    for own in CRATES {
        assert_eq!(manifest(own.folder)["package"]["name"].as_str(), Some(own.name));
    }
}

#[test]
fn crates_know_only_those_that_they_may() {
    for own in CRATES {
        let ours: BTreeSet<String> =
            dependencies(own.folder, &["dependencies", "build-dependencies", "dev-dependencies"])
                .into_iter()
                // A crate may ask itself for what its tests need.
                .filter(|name| name.starts_with("kiln") && name != FUZZING && name != own.name)
                .collect();
        let may: BTreeSet<String> = own.may_import.iter().map(|name| (*name).to_owned()).collect();
        assert!(ours.is_subset(&may), "{} imports {ours:?}; it may import {may:?}", own.name);
        let all = dependencies(own.folder, &["dependencies", "build-dependencies"]);
        assert!(!all.contains(FUZZING), "{} needs {FUZZING} beyond its tests", own.name);
        let known: Vec<&&str> = own.unaware_of.iter().filter(|name| all.contains(**name)).collect();
        assert!(known.is_empty(), "{} is to be unaware of {known:?}", own.name);
    }
}

#[test]
fn no_modules_form_a_ring() {
    let mut told = String::new();
    for own in CRATES {
        let modules = Modules::read(&repository().join(own.folder).join(own.root));
        assert!(modules.len() > 1, "{}: the reader found no modules", own.name);
        for ring in modules::rings(&modules.edges()) {
            let names: Vec<String> =
                ring.iter().map(|name| format!("crate::{}", name.join("::"))).collect();
            told.push_str(&format!("{}: {}\n", own.name, names.join(", ")));
        }
    }
    assert!(told.is_empty(), "modules that reach each other:\n{told}");
}

#[test]
fn no_module_is_a_drawer() {
    let drawers = ["util", "utils", "helper", "helpers", "common", "misc", "manager", "glue"];
    for path in sources() {
        let stem = path.file_stem().and_then(|own| own.to_str()).unwrap_or_default();
        assert!(!drawers.contains(&stem), "{} says nothing by its name", path.display());
    }
}

#[test]
fn unsafe_stands_only_behind_its_doors_and_says_why_it_is_sound() {
    let mut behind: BTreeMap<&str, usize> = BTreeMap::new();
    for path in sources() {
        let text = fs::read_to_string(repository().join(&path)).expect("a file of the repository");
        let name = path.to_str().expect("a name in UTF-8");
        if !tokens::of_all(&text).iter().any(|token| token.is("unsafe")) {
            continue;
        }
        let Some(door) = DOORS.iter().find(|door| name.starts_with(**door)) else {
            panic!("{name} holds unsafe code; it may stand in {DOORS:?}");
        };
        *behind.entry(door).or_default() += 1;
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            if line.contains("unsafe {") || line.contains("unsafe impl") {
                let said = lines[number.saturating_sub(12)..=number]
                    .iter()
                    .any(|line| line.contains("SAFETY"));
                assert!(said, "{name}:{}: no SAFETY sentence stands above:\n{line}", number + 1);
            }
        }
    }
    assert_eq!(behind.len(), DOORS.len(), "a door without unsafe code can be closed: {behind:?}");
}

#[test]
fn only_the_codec_names_bincode() {
    let naming: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|path| {
            let text =
                fs::read_to_string(repository().join(path)).expect("a file of the repository");
            tokens::of_all(&text).iter().any(|token| token.is("bincode"))
        })
        .collect();
    assert_eq!(naming, [Path::new("cache/codec.rs")]);
    for own in CRATES.iter().filter(|own| own.name != "kiln-cache") {
        let all =
            dependencies(own.folder, &["dependencies", "build-dependencies", "dev-dependencies"]);
        assert!(!all.contains("bincode"), "{} depends on bincode", own.name);
    }
}

#[test]
fn generated_pages_are_what_the_binary_says() {
    for page in ["recipe", "cli"] {
        let path = repository().join("docs").join(format!("{page}.md"));
        let kept =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let made = Project::empty().kiln(&["__docs", page]).exits(0).stdout();
        assert!(kept == made, "docs/{page}.md is stale: kiln __docs {page} > docs/{page}.md");
    }
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut pages = vec![
        PathBuf::from("README.md"),
        PathBuf::from("CHANGELOG.md"),
        PathBuf::from("cache/README.md"),
    ];
    for entry in fs::read_dir(repository().join("docs")).expect("the documents") {
        pages.push(Path::new("docs").join(entry.expect("an entry").file_name()));
    }
    for page in pages.iter().filter(|page| page.extension().is_some_and(|own| own == "md")) {
        let text = fs::read_to_string(repository().join(page)).expect("a page");
        let folder = page.parent().expect("a page stands in a folder");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || target.contains("://") {
                continue;
            }
            let there = repository().join(folder).join(file).exists();
            assert!(there, "{}: the link to `{target}` leads nowhere", page.display());
        }
    }
}

/// The map of the code is of use only while it is the code's.
#[test]
fn files_on_the_map_exist() {
    let text = fs::read_to_string(repository().join("docs/architecture.md")).expect("the map");
    let mut seen = 0;
    for word in text.split('`').skip(1).step_by(2) {
        let path = word.trim_end_matches('/');
        if !path.contains(' ')
            && (path.ends_with(".rs") || word.ends_with('/'))
            && !path.contains('…')
        {
            seen += 1;
            assert!(repository().join(path).exists(), "docs/architecture.md: there is no `{word}`");
        }
    }
    assert!(seen > 20, "the map names {seen} files only");
}
