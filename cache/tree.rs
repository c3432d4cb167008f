//! A folder's listing as a value. Unaware of bytes and of the disk.

use serde::Serialize;

use crate::digest::Digest;

/// What a stored tree holds, folder by folder; every list is sorted by name, bytewise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Tree {
    /// Files that lie directly in the folder.
    pub files: Vec<TreeFile>,
    /// Folders that lie directly in the folder.
    pub dirs: Vec<TreeDir>,
    /// Symbolic links that lie directly in the folder.
    pub symlinks: Vec<TreeLink>,
}

/// A file in a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TreeFile {
    /// Its name, one component.
    pub name: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub bytes: u64,
    /// Whether it may be executed.
    pub executable: bool,
}

/// A folder in a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TreeDir {
    /// Its name, one component.
    pub name: String,
    /// The digest of its listing.
    pub digest: Digest,
    /// What it holds.
    pub tree: Tree,
}

/// A symbolic link in a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TreeLink {
    /// Its name, one component.
    pub name: String,
    /// Where it points: relative, and inside the whole tree.
    pub target: String,
}

impl Tree {
    /// Bytes of all files, in this folder and below.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let own: u64 = self.files.iter().map(|file| file.bytes).sum();
        own + self.dirs.iter().map(|dir| dir.tree.bytes()).sum::<u64>()
    }

    /// How many files there are, in this folder and below.
    #[must_use]
    pub fn file_count(&self) -> u64 {
        let below: u64 = self.dirs.iter().map(|dir| dir.tree.file_count()).sum();
        self.files.len() as u64 + below
    }
}
