//! A bit that flipped, in any file of a store.
//!
//! What a record, a root, the index or a deployment says proves itself whenever it is read. The bytes of an object
//! are read again by `kiln store verify` alone, which takes what is damaged out of use; the next build makes it
//! again.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{is_long, is_orderly, sample};
use crate::harness::Project;

/// Every file below, with its bytes; links are not followed.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                todo.push(entry.path());
            } else if kind.is_file() {
                found.insert(entry.path(), fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

fn built() -> Project {
    let project = sample();
    project.kiln(&["deploy", "production"]).exits(0);
    project.write("words.txt", "kiwi\nfig\n");
    project.kiln(&["deploy", "production"]).exits(0);
    project.kiln(&["build"]).exits(0);
    project.kiln(&["build"]).exits(0);
    project
}

/// Flips a bit behind kiln's back, with mode and folder as they were.
fn flip(path: &Path, bit: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    let folder = path.parent().unwrap();
    let (mode, above) = (fs::metadata(path).unwrap(), fs::metadata(folder).unwrap());
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, mode.permissions()).unwrap();
    fs::set_permissions(folder, above.permissions()).unwrap();
}

/// What the sample's results hold when all is well.
fn is_right(project: &Project, what: &str) {
    assert_eq!(project.read("result/count"), "2\n", "{what}");
    for (file, text) in [("all", "fig\nkiwi\n"), ("d/aa", "fig\n"), ("link", "fig\nkiwi\n")] {
        let copied = project.dir().join("copied");
        if copied.exists() {
            fs::remove_dir_all(&copied).unwrap();
        }
        project.kiln(&["copy", "parts", "copied"]).exits(0);
        assert_eq!(project.read(&format!("copied/{file}")), text, "{what}");
    }
}

fn case(file: impl Fn(&[PathBuf]) -> usize, bit: impl Fn(usize) -> usize) {
    let project = built();
    let all: Vec<PathBuf> = files(project.store())
        .into_iter()
        .filter(|(_, bytes)| !bytes.is_empty())
        .map(|f| f.0)
        .collect();
    let path = &all[file(&all)];
    let bit = bit(fs::metadata(path).unwrap().len() as usize * 8);
    let rel = path.strip_prefix(project.store()).unwrap().to_owned();
    let what = format!("{}, bit {bit}", rel.display());
    flip(path, bit);
    for arguments in [
        ["build"].as_slice(),
        &["status"],
        &["why", "count"],
        &["log", "sort"],
        &["generations", "production"],
        &["store", "du"],
    ] {
        let run = project.kiln(arguments);
        is_orderly(&run);
    }
    let verified = project.kiln(&["store", "verify"]);
    is_orderly(&verified);
    if rel.starts_with("format") {
        assert_eq!(verified.code(), 1, "{what}");
        assert!(verified.stderr().contains("another home"), "{what}: {verified:?}");
        return;
    }
    if rel.starts_with("store") || rel.starts_with("deployments") {
        assert_eq!(verified.code(), 1, "{what}: found");
    }
    if rel.starts_with("deployments") {
        // Nobody else can say what ran; nothing is switched on a guess.
        let lost = path.to_str().unwrap();
        let switched = project.kiln(&["rollback", "production"]);
        is_orderly(&switched);
        let damaged = switched.code() == 1 && switched.stderr().contains(lost);
        assert!(damaged || switched.code() == 0, "{what}: {switched:?}");
        is_orderly(&project.kiln(&["deploy", "production"]));
        return;
    }
    // Once verified it is never served again.
    project.kiln(&["build", "--link", "all"]).exits(0);
    is_right(&project, &what);
    let again = project.kiln(&["store", "verify", "--json"]).json();
    let problems = again["problems"].as_array().unwrap();
    for problem in problems {
        // What only an earlier build made is gone until somebody builds that again; and a generation's root is for
        // a person to decide upon: nothing is collected until somebody has.
        let said = problem["what"].as_str().unwrap();
        let known = said.contains("is missing")
            || said.contains("gone from the store")
            || rel.starts_with("roots/generation");
        assert!(known, "{what}: {again:#}");
    }
    if rel.starts_with("roots/generation") && !problems.is_empty() {
        let refused = project.kiln(&["gc"]).exits(1);
        assert!(refused.stderr().contains(path.to_str().unwrap()), "{what}: {refused:?}");
        fs::remove_file(path).unwrap();
    }
    project.kiln(&["gc"]).exits(0);
    project.kiln(&["build", "--link", "all"]).exits(0);
    is_right(&project, &what);
}

#[test]
fn a_flipped_bit_in_any_file_is_found_or_made_good_and_never_a_crash() {
    if is_long() {
        let count = files(built().store()).len();
        for file in 0..count {
            for bit in [3, 1009, 77_777] {
                case(|all| file % all.len(), |bits| bit % bits);
            }
        }
        return;
    }
    let mut state = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let mut next = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for _ in 0..12 {
        let (file, bit) = (next(), next());
        case(|all| file % all.len(), |bits| bit % bits);
    }
}

/// The folder of a kind is hit for sure, not only by chance.
#[test]
fn a_flipped_bit_in_an_object_is_served_until_it_is_verified_and_never_after() {
    let project = built();
    let sorted = project.kiln(&["store", "path", "sort"]).exits(0).stdout();
    let sorted = Path::new(sorted.trim());
    flip(sorted, 8);
    assert_ne!(fs::read(sorted).unwrap(), b"fig\nkiwi\n");
    let build = project.build(&[]).exits(0);
    assert_eq!(build.ran(), [] as [&str; 0], "objects are not read again for a look-up");
    let found = project.kiln(&["store", "verify", "--dry-run"]).exits(1);
    assert!(found.stdout().contains(sorted.to_str().unwrap()), "{found:?}");
    assert!(sorted.exists(), "it was only told");
    let found = project.kiln(&["store", "verify"]).exits(1);
    assert!(found.stdout().contains("moved out of the way"), "{found:?}");
    assert!(!sorted.exists());
    let build = project.build(&["sort"]).exits(0);
    assert_eq!(build.ran(), ["sort"]);
    assert_eq!(fs::read(sorted).unwrap(), b"fig\nkiwi\n");
    project.kiln(&["store", "verify"]).exits(0);
}

/// One damaged file must neither cost a recipe its releases nor keep others from collecting.
#[test]
fn a_generation_that_cannot_be_read_keeps_what_its_recipe_made_and_nothing_else() {
    let project = built();
    let other = Project::new("name = \"other\"\n[steps.it]\nrun = \"echo 1 > ${out}\"\n")
        .sharing_store_with(&project);
    other.kiln(&["build"]).exits(0);
    let garbage = other.kiln(&["store", "path", "it"]).exits(0).stdout();
    let garbage = Path::new(garbage.trim());
    // Nothing but the deployment holds what the sample has made.
    fs::remove_file(project.dir().join("kiln.toml")).unwrap();
    let deployments = project.store().join("deployments/sample/production");
    let generation = deployments.join("generations/1");
    let text = fs::read(&generation).unwrap();
    flip(&generation, 77);
    let run = project.kiln(&["gc", "--json"]).exits(0);
    let said = run.stderr();
    assert!(said.contains(generation.to_str().unwrap()) && said.contains("damaged"), "{said}");
    assert!(said.contains("held by its root") && said.contains("backup"), "{said}");
    let told = run.json();
    assert_eq!(told["unreadable"][0]["path"], generation.to_str().unwrap(), "{told:#}");

    let roots = files(&project.store().join("roots"));
    let root = roots.iter().find(|(_, bytes)| {
        String::from_utf8_lossy(bytes).contains("generation 1 of production (sample)")
    });
    fs::remove_file(root.unwrap().0).unwrap();
    fs::write(
        other.dir().join("kiln.toml"),
        "name = \"other\"\n[steps.it]\nrun = \"echo 2 > ${out}\"\n",
    )
    .unwrap();
    (0..12).for_each(|round| {
        other.edit("kiln.toml", "echo", &format!(": {round}; echo"));
        other.kiln(&["build"]).exits(0);
    });
    let run = project.kiln(&["gc"]).exits(0);
    assert!(run.stderr().contains("all that `sample` made is kept"), "{run:?}");
    assert!(run.stdout().contains("a generation of `sample` that cannot be read"), "{run:?}");
    assert!(!garbage.exists(), "what others made is collected: {run:?}");
    flip(&generation, 77);
    assert_eq!(fs::read(&generation).unwrap(), text);
    let told = project.kiln(&["gc", "--json"]).exits(0).json();
    assert_eq!(told["unreadable"].as_array().unwrap().len(), 0);
    project.kiln(&["store", "verify"]).exits(0);
    project.kiln(&["rollback", "production", "--recipe", "sample"]);
    std::mem::forget(other);
}
