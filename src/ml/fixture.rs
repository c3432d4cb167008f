//! Inputs for the tests of the builders, and digests of what they make.

use std::path::Path;

use crate::request::Input;

/// A file of a test as an input.
pub(crate) fn file(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> Input {
    let path = folder.join(name);
    std::fs::write(&path, &bytes).unwrap();
    let digest = blake3::hash(bytes.as_ref()).to_hex().to_string();
    Input { path, kind: "file".to_owned(), digest, executable: false }
}

/// A folder of a test as an input.
pub(crate) fn tree(path: &Path) -> Input {
    let digest = digest(path);
    Input { path: path.to_owned(), kind: "tree".to_owned(), digest, executable: false }
}

/// A digest over a file, or over all names and files below a folder.
pub(crate) fn digest(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    add(path, &mut hasher);
    hasher.finalize().to_hex().to_string()
}

fn add(path: &Path, hasher: &mut blake3::Hasher) {
    if path.is_dir() {
        let mut names: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            let text = name.to_str().unwrap();
            hasher.update(format!("{}:{text}", text.len()).as_bytes());
            add(&path.join(&name), hasher);
        }
        hasher.update(b".");
    } else {
        let bytes = std::fs::read(path).unwrap();
        hasher.update(format!("{}:", bytes.len()).as_bytes());
        hasher.update(&bytes);
    }
}
