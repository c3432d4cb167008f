//! A store in a temporary folder, and things to put into it.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::path::Path;

use kiln_cache::{
    Cost, Determinism, Digest, Isolation, Object, Output, Realisation, Root, Store, Verdict,
};

pub fn open(folder: &Path) -> Store {
    Store::open(&folder.join("home")).unwrap()
}

pub fn fresh() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    (folder, store)
}

pub fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

pub fn made(name: &str, object: Object) -> Realisation {
    Realisation {
        key: key(name),
        attempt: 0,
        recipe: "tumour".into(),
        step: name.into(),
        builder: "train@1".into(),
        outputs: vec![Output {
            name: "out".into(),
            object,
            bytes: 3,
            extension: "csv".into(),
            alias: None,
        }],
        verdict: Some(Verdict { accepted: true, reason: "f1 0.95 >= 0.92".into() }),
        isolation: Isolation::Partial,
        determinism: Determinism::Bitwise,
        manifest: "builder train@1\n".into(),
        log: None,
        refs: vec![],
        cost: Cost { seconds: 1.5, ..Cost::default() },
        boot: String::new(),
        group: 0,
    }
}

pub fn root(label: &str, keys: Vec<Digest>, objects: Vec<Object>) -> Root {
    Root {
        label: label.into(),
        keys,
        objects,
        data: serde_json::Value::Null,
        bytes: Vec::new(),
        at: 1,
    }
}

/// Removes a folder whose modes may be those of the store: whoever took it in was killed.
pub fn remove(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    for entry in entries {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            remove(&entry.path());
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}
