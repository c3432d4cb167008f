//! Programs that no package owns: the folder that holds all of one, and its content.

use std::{
    collections::HashMap,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use rayon::prelude::*;

use crate::host::{Detail, feed, is_settled, remember, sorted_names, state};

/// The prefix of `program`: the folder above its `bin`, if that holds libraries too, and nothing but one installation.
/// The system's own folders and a home folder's hold much else.
pub(super) fn of(program: &Path) -> Option<PathBuf> {
    let bin = program.parent()?;
    let prefix = bin.parent()?;
    let is_own = bin.file_name().is_some_and(|name| name == "bin")
        && (prefix.join("lib").is_dir() || prefix.join("lib64").is_dir())
        && !["/", "/usr", "/usr/local", "/opt"].iter().any(|shared| prefix == Path::new(shared))
        && prefix.file_name().is_some_and(|name| name != ".local")
        && ![".profile", ".bashrc", ".ssh"].iter().any(|name| prefix.join(name).exists());
    is_own.then(|| prefix.to_owned())
}

/// Python's folders of locally installed modules below `parent`.
pub(super) fn modules(parent: &Path) -> Vec<PathBuf> {
    let names = sorted_names(parent).unwrap_or_default();
    let pythons = names.iter().filter(|name| name.as_bytes().starts_with(b"python3"));
    let folders = pythons.map(|name| parent.join(name).join("dist-packages"));
    folders.filter(|folder| sorted_names(folder).is_ok_and(|names| !names.is_empty())).collect()
}

/// The states of installations, each looked at once. Clones share what they know.
#[derive(Clone, Debug, Default)]
pub struct States(Arc<Mutex<HashMap<PathBuf, Arc<OnceLock<Seen>>>>>);

/// The state of an installation, as it was when somebody first asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) state: blake3::Hash,
    /// Whether a change after the look would have another state, so that what is found then may be remembered under it.
    pub(super) is_settled: bool,
}

impl States {
    /// The state of a folder.
    pub(super) fn of(&self, folder: &Path) -> Seen {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = Arc::clone(known.entry(folder.to_owned()).or_default());
        drop(known);
        *seen.get_or_init(|| {
            let found = state(folder, Detail::Identity);
            Seen { state: found.digest, is_settled: is_settled(found.changed_ns) }
        })
    }
}

/// BLAKE3 over the content of `folder`: paths, kinds, executable bits, bytes, targets of links. Times do not count, so
/// that two machines agree; nor does the byte code that Python keeps aside. It is remembered in `cache` against
/// the state of every file.
pub(super) fn digest(folder: &Path, cache: Option<&Path>, states: &States) -> blake3::Hash {
    let Some(cache) = cache else { return content(folder) };
    let mut key = blake3::Hasher::new_derive_key("kiln prefix 1");
    feed(&mut key, folder.as_os_str().as_bytes());
    let seen = states.of(folder);
    key.update(seen.state.as_bytes());
    let name = format!("prefix-1-{}.json", key.finalize().to_hex());
    let known: Option<String> =
        fs::read(cache.join(&name)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(known) = known.and_then(|text| blake3::Hash::from_hex(text).ok()) {
        return known;
    }
    let digest = content(folder);
    if seen.is_settled {
        remember(cache, &name, &digest.to_hex().as_str());
    }
    digest
}

fn content(folder: &Path) -> blake3::Hash {
    let names = sorted_names(folder).unwrap_or_default();
    let parts: Vec<_> = names
        .par_iter()
        .filter(|name| name.as_os_str() != "__pycache__")
        .filter_map(|name| {
            let path = folder.join(name);
            let meta = fs::symlink_metadata(&path).ok()?;
            let mut hasher = blake3::Hasher::new_derive_key("kiln folder content 1");
            feed(&mut hasher, name.as_bytes());
            if meta.is_dir() {
                hasher.update(b"d").update(content(&path).as_bytes());
            } else if meta.is_symlink() {
                hasher.update(b"l");
                feed(&mut hasher, fs::read_link(&path).ok()?.as_os_str().as_bytes());
            } else {
                hasher.update(if meta.permissions().mode() & 0o100 == 0 { b"f" } else { b"x" });
                hasher.update(file_digest(&path).as_bytes());
            }
            Some(hasher.finalize())
        })
        .collect();
    let mut hasher = blake3::Hasher::new_derive_key("kiln folder content 1");
    for part in parts {
        hasher.update(part.as_bytes());
    }
    hasher.finalize()
}

/// BLAKE3 of a file; of nothing if it cannot be read, since a step could not read it either.
pub(super) fn file_digest(path: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    match hasher.update_mmap(path) {
        Ok(hasher) => hasher.finalize(),
        Err(_) => blake3::Hasher::new().finalize(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_an_installation_and_no_shared_folder() {
        let folder = tempfile::tempdir().unwrap();
        let prefix = folder.path().join("python");
        fs::create_dir_all(prefix.join("bin")).unwrap();
        let program = prefix.join("bin/python3");
        assert_eq!(of(&program), None, "no libraries");
        fs::create_dir(prefix.join("lib")).unwrap();
        assert_eq!(of(&program), Some(prefix.clone()));
        fs::write(prefix.join(".profile"), "").unwrap();
        assert_eq!(of(&program), None, "a home folder");
        assert_eq!(of(Path::new("/usr/bin/true")), None);
        assert_eq!(of(Path::new("/usr/local/bin/x")), None);
    }

    #[test]
    fn content_counts_and_times_do_not() {
        let make = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("lib/__pycache__")).unwrap();
            fs::write(folder.path().join("lib/m.py"), text).unwrap();
            folder
        };
        let (one, same, other) = (make("1"), make("1"), make("2"));
        fs::write(same.path().join("lib/__pycache__/m.pyc"), "code").unwrap();
        let cache = tempfile::tempdir().unwrap();
        let first = digest(one.path(), Some(cache.path()), &States::default());
        assert_eq!(first, digest(one.path(), Some(cache.path()), &States::default()), "remembered");
        assert_eq!(first, digest(same.path(), None, &States::default()));
        assert_ne!(first, digest(other.path(), None, &States::default()));
        fs::set_permissions(one.path().join("lib/m.py"), fs::Permissions::from_mode(0o755))
            .unwrap();
        assert_ne!(
            first,
            digest(one.path(), Some(cache.path()), &States::default()),
            "an executable bit counts"
        );
    }
}
