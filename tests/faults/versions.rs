//! Files that another version wrote, or that are no files of kiln's at all.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{is_long, is_orderly, sample};
use crate::harness::Project;

fn built() -> Project {
    let project = sample();
    project.kiln(&["deploy", "production"]).exits(0);
    project.kiln(&["build"]).exits(0);
    project
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn replace(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_index_that_is_cut_short_garbage_or_of_another_version_is_made_again() {
    type Damage = fn(&Path, &[u8]);
    let damages: [(&str, Damage); 7] = [
        ("cut short", |path, bytes| replace(path, &bytes[..bytes.len() / 2])),
        ("a few bytes", |path, bytes| replace(path, &bytes[..bytes.len().min(7)])),
        ("empty", |path, _| replace(path, b"")),
        ("garbage", |path, bytes| replace(path, &vec![0xA5; bytes.len()])),
        ("longer", |path, bytes| replace(path, &[bytes, &[0xA5; 5000][..]].concat())),
        ("gone", |path, _| fs::remove_file(path).unwrap()),
        ("a folder", |path, _| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    for (number, (what, damage)) in damages.into_iter().enumerate() {
        for which in 0..3 {
            if which != number % 3 && !is_long() {
                continue;
            }
            let project = built();
            let files = below(&project.store().join("index"));
            assert_eq!(files.len(), 3, "a lock, rows and a table: {files:?}");
            let file = &files[which];
            damage(file, &fs::read(file).unwrap());
            let build = project.build(&["--link", "all"]).exits(0);
            assert_eq!(build.ran(), [] as [&str; 0], "{what}: {}", file.display());
            project.write("words.txt", "kiwi\n");
            let run = project.kiln(&["build"]).exits(0);
            is_orderly(&run);
            assert_eq!(project.read("result/count"), "1\n");
            assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
            let verified = project.kiln(&["store", "verify"]);
            is_orderly(&verified);
        }
    }
    // Other versions' folders are theirs.
    let project = built();
    let index = project.store().join("index");
    for version in ["v1", "v3"] {
        fs::create_dir(index.join(version)).unwrap();
        fs::write(index.join(version).join("data.mdb"), [0xA5; 9000]).unwrap();
    }
    assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
    assert!(index.join("v1/data.mdb").exists() && index.join("v3/data.mdb").exists());
    project.kiln(&["store", "verify"]).exits(0);
}

#[test]
fn a_store_of_another_version_is_refused_with_advice_and_left_alone() {
    for text in ["kiln store 0\n", "kiln store 2\n", "", "\0\0\0"] {
        let project = built();
        let format = project.store().join("format");
        replace(&format, text.as_bytes());
        let before = below(project.store());
        for command in ["build", "gc", "store verify", "deploy production", "status", "doctor"] {
            let words: Vec<&str> = command.split(' ').collect();
            let run = project.kiln(&words);
            is_orderly(&run);
            assert_eq!(run.code(), 1, "{text:?}, {command}: {run:?}");
            let said = run.stderr() + &run.stdout();
            assert!(said.contains(project.store().to_str().unwrap()), "{command}: {said}");
            assert!(
                said.contains("kiln store 1") && said.contains("another home"),
                "{command}: {said}"
            );
        }
        assert_eq!(below(project.store()), before);
        replace(&format, b"kiln store 1\n");
        assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
    }
}

#[test]
fn a_record_of_another_version_is_made_again() {
    for version in [0u32, 2] {
        let project = built();
        let records = below(&project.store().join("realisations"));
        assert_eq!(records.len(), 3);
        for record in &records {
            let mut frame = fs::read(record).unwrap();
            frame[4..8].copy_from_slice(&version.to_le_bytes());
            replace(record, &frame);
        }
        let run = project.kiln(&["build", "--json"]).exits(0);
        is_orderly(&run);
        let steps = run.json()["steps"].as_array().unwrap().len();
        assert_eq!(steps, 3);
        assert!(run.stderr().contains("version"), "it says why: {run:?}");
        project.kiln(&["store", "verify"]).exits(0);
        assert_eq!(project.build(&[]).exits(0).ran(), [] as [&str; 0]);
    }
}

#[test]
fn a_root_of_another_version_is_refused_with_advice_and_a_damaged_one_begun_anew() {
    let project = built();
    let roots = below(&project.store().join("roots/project"));
    let [root] = roots.as_slice() else { panic!("{roots:?}") };
    // A document, and behind it bytes.
    let sound = fs::read(root).unwrap();
    let with = |from: &str, to: &str| {
        let at = sound.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        [&sound[..at], to.as_bytes(), &sound[at + from.len()..]].concat()
    };
    let newer = with("\"format\": 2", "\"format\": 3");
    replace(root, &newer);
    for command in ["build", "gc"] {
        let run = project.kiln(&[command]).exits(1);
        is_orderly(&run);
        let said = run.stderr();
        assert!(said.contains(root.to_str().unwrap()) && said.contains("format 3"), "{said}");
        assert!(said.contains("the version of the program that wrote it"), "{said}");
    }
    assert_eq!(fs::read(root).unwrap(), newer, "it is left alone");
    let (misspelt, short) = (with("\"objects\"", "\"objekts\""), &sound[..sound.len() - 20]);
    for damaged in [b"", &b"{"[..], &misspelt, short] {
        replace(root, damaged);
        // While it cannot be read nothing is collected; the next build of the project begins it anew.
        let refused = project.kiln(&["gc"]).exits(1);
        assert!(refused.stderr().contains(root.to_str().unwrap()), "{refused:?}");
        let run = project.kiln(&["build"]).exits(0);
        is_orderly(&run);
        assert!(run.stderr().contains("3 reused"), "{run:?}");
        assert!(run.stderr().contains("last builds"), "{run:?}");
        project.kiln(&["gc"]).exits(0);
        let run = project.kiln(&["build"]).exits(0);
        assert!(run.stderr().contains("3 reused"), "nothing in use was collected: {run:?}");
    }
}
