//! A recipe's folder, and what is remembered of its builds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use kiln_cache::Store;
use kiln_engine::project::History;

use crate::{
    chance::Chance,
    draft::{Draft, FileDraft, SourceDraft},
    memory::Memory,
};

/// A recipe at a place.
pub struct Site {
    pub folder: PathBuf,
    pub draft: Draft,
    pub history: History,
    pub memory: Memory,
    /// The files as they are on disk.
    written: BTreeMap<String, FileDraft>,
}

impl Site {
    /// A recipe in the new folder `folder`.
    pub fn new(store: &Store, folder: PathBuf, draft: Draft) -> Self {
        fs::create_dir(&folder).unwrap();
        let history = History::load(store, "oracle", &folder).unwrap();
        Self { folder, draft, history, memory: Memory::default(), written: BTreeMap::new() }
    }

    /// Brings the files to what the draft says, and touches no other. Those that are changed keep their times if
    /// `stealthy`.
    pub fn write(&mut self, stealthy: bool) {
        let there = self.draft.sources.iter().filter(|source| !source.gone);
        let wanted: BTreeMap<String, FileDraft> =
            there.flat_map(SourceDraft::paths).map(|(path, file)| (path, file.clone())).collect();
        for gone in self.written.keys().filter(|path| !wanted.contains_key(*path)) {
            fs::remove_file(self.folder.join(gone)).unwrap();
        }
        self.prune(&wanted);
        for (path, file) in &wanted {
            let full = self.folder.join(path);
            match self.written.get(path) {
                Some(before) if before == file => {}
                Some(_) if stealthy => {
                    let before = fs::metadata(&full).unwrap().modified().unwrap();
                    write(&full, file, Some(before));
                }
                _ => write(&full, file, None),
            }
        }
        self.written = wanted;
    }

    /// Removes folders that would stand in the way of files, or that nothing is in any more.
    fn prune(&self, wanted: &BTreeMap<String, FileDraft>) {
        let mut folders: BTreeSet<&str> = BTreeSet::new();
        for path in self.written.keys().filter(|path| !wanted.contains_key(*path)) {
            folders.extend(path.match_indices('/').map(|(end, _)| &path[..end]));
        }
        for folder in folders.iter().rev() {
            let prefix = format!("{folder}/");
            if !wanted.keys().any(|path| path.starts_with(&prefix)) {
                // Another file that stayed keeps it.
                drop(fs::remove_dir(self.folder.join(folder)));
            }
        }
    }

    /// Writes a file again as it is.
    pub fn touch(&self, chance: &mut Chance) {
        let files: Vec<_> = self.written.iter().collect();
        if let Some((path, file)) = chance.pick(&files) {
            write(&self.folder.join(path), file, None);
        }
    }
}

fn write(path: &Path, file: &FileDraft, modified: Option<SystemTime>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, &file.text).unwrap();
    let mode = if file.executable { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if let Some(modified) = modified {
        fs::File::options().append(true).open(path).unwrap().set_modified(modified).unwrap();
    }
}
