//! The fewest paths that show a set of files and nothing else.
//!
//! A folder is shown as a whole if everything in it belongs to the set; otherwise its entries are shown one by one.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
};

/// A set of files, by folder.
#[derive(Debug, Default)]
pub(super) struct Files {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<OsString, Node>,
}

impl Files {
    /// Adds a path; its folders must be free of links.
    fn add(&mut self, path: &Path) {
        let mut node = &mut self.root;
        for part in path.components() {
            if let Component::Normal(name) = part {
                node = node.children.entry(name.to_owned()).or_default();
            }
        }
    }

    /// Adds paths.
    pub(super) fn extend(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        for path in paths {
            self.add(&path);
        }
    }

    /// Folders, files and links that show exactly these files, and what byte code Python has put beside them.
    pub(super) fn cover(&self) -> Vec<PathBuf> {
        let mut shown = Vec::new();
        for (name, node) in &self.root.children {
            shown.extend(node.cover(&Path::new("/").join(name)).1);
        }
        shown
    }
}

impl Node {
    /// Whether all that stands at `path` belongs to the set, and what shows the part that does.
    fn cover(&self, path: &Path) -> (bool, Vec<PathBuf>) {
        let Ok(meta) = fs::symlink_metadata(path) else { return (true, Vec::new()) };
        if !meta.is_dir() {
            return (true, vec![path.to_owned()]);
        }
        let Ok(entries) = fs::read_dir(path) else { return (false, Vec::new()) };
        let mut complete = true;
        for entry in entries {
            let known = entry.is_ok_and(|entry| {
                let name = entry.file_name();
                name == "__pycache__" || self.children.contains_key(&name)
            });
            complete &= known;
        }
        let mut shown = Vec::new();
        for (name, node) in &self.children {
            let (whole, parts) = node.cover(&path.join(name));
            complete &= whole;
            shown.extend(parts);
        }
        if complete && !shown.is_empty() {
            (true, vec![path.to_owned()])
        } else {
            (complete, shown)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_folders_are_shown_as_such_and_others_file_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for path in ["all/a", "all/deep/b", "all/deep/__pycache__/b.pyc", "some/c", "some/other"] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let mut files = Files::default();
        for path in ["all", "all/a", "all/deep/b", "some/c", "some/gone"] {
            files.add(&root.join(path));
        }
        assert_eq!(files.cover(), [root.join("all"), root.join("some/c")]);
    }
}
