//! A folder's listing as a value, and where links in it lead. Unaware of bytes and of the disk.

use std::collections::VecDeque;

use serde::Serialize;

use crate::digest::Digest;

/// How many links one path may go through: as many as the kernel allows.
const MAX_LINKS: usize = 40;

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
    /// How many bytes its listing has.
    pub listing_bytes: u64,
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

/// Where a path inside a tree leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place<'t> {
    /// To a file.
    File(&'t TreeFile),
    /// To a folder.
    Dir(&'t Tree),
    /// To nothing that exists, but inside.
    Nothing,
    /// Out of the tree.
    Outside,
}

impl Tree {
    /// Bytes of all files, in this folder and below; a listing may claim more than can be counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let own = self.files.iter().map(|file| file.bytes);
        own.chain(self.dirs.iter().map(|dir| dir.tree.bytes())).fold(0, u64::saturating_add)
    }

    /// How many files, folders and links there are, in this folder and below.
    pub(crate) fn entry_count(&self) -> u64 {
        let own = self.files.len() + self.dirs.len() + self.symlinks.len();
        own as u64 + self.dirs.iter().map(|dir| dir.tree.entry_count()).sum::<u64>()
    }

    /// How many files there are, in this folder and below.
    #[must_use]
    pub fn file_count(&self) -> u64 {
        let below: u64 = self.dirs.iter().map(|dir| dir.tree.file_count()).sum();
        self.files.len() as u64 + below
    }

    /// Every file below, with its path relative to the tree.
    #[must_use]
    pub fn walk(&self) -> Vec<(String, &TreeFile)> {
        let mut found = Vec::new();
        self.walk_into("", &mut found);
        found
    }

    fn walk_into<'t>(&'t self, prefix: &str, found: &mut Vec<(String, &'t TreeFile)>) {
        found.extend(self.files.iter().map(|file| (format!("{prefix}{}", file.name), file)));
        for dir in &self.dirs {
            dir.tree.walk_into(&format!("{prefix}{}/", dir.name), found);
        }
    }

    /// Follows a path from the top, through links, as the kernel would.
    pub(crate) fn resolve(&self, path: &str) -> Place<'_> {
        let mut todo: VecDeque<&str> = path.split('/').collect();
        let mut stack: Vec<&Tree> = vec![self];
        // Folders that do not exist, entered on the way: only their number matters.
        let mut beyond = 0usize;
        let mut links = 0usize;
        while let Some(part) = todo.pop_front() {
            let here = stack.last().copied().expect("the top is never popped");
            match part {
                "" | "." => {}
                ".." if beyond > 0 => beyond -= 1,
                ".." if stack.len() == 1 => return Place::Outside,
                ".." => drop(stack.pop()),
                _ if beyond > 0 => beyond += 1,
                name => {
                    if let Some(dir) = named(&here.dirs, name, |dir| &dir.name) {
                        stack.push(&dir.tree);
                    } else if let Some(link) = named(&here.symlinks, name, |link| &link.name) {
                        links += 1;
                        if links > MAX_LINKS {
                            return Place::Nothing;
                        }
                        if link.target.starts_with('/') {
                            return Place::Outside;
                        }
                        for part in link.target.rsplit('/') {
                            todo.push_front(part);
                        }
                    } else if let Some(file) = named(&here.files, name, |file| &file.name) {
                        if todo.is_empty() {
                            return Place::File(file);
                        }
                        beyond += 1;
                    } else {
                        beyond += 1;
                    }
                }
            }
        }
        match beyond {
            0 => Place::Dir(stack.last().copied().expect("the top is never popped")),
            _ => Place::Nothing,
        }
    }

    /// The first link, by path, that is absolute or leads out of the tree; path and target.
    pub(crate) fn escaping_link(&self) -> Option<(String, &str)> {
        self.links_below("").into_iter().find_map(|(folder, link)| {
            let path = format!("{folder}{}", link.name);
            let outside = link.target.starts_with('/') || self.resolve(&path) == Place::Outside;
            outside.then_some((path, link.target.as_str()))
        })
    }

    fn links_below(&self, prefix: &str) -> Vec<(String, &TreeLink)> {
        let mut found: Vec<_> =
            self.symlinks.iter().map(|link| (prefix.to_owned(), link)).collect();
        for dir in &self.dirs {
            found.extend(dir.tree.links_below(&format!("{prefix}{}/", dir.name)));
        }
        found
    }
}

/// The entry of this name in a list that is sorted by name.
fn named<'e, T>(entries: &'e [T], name: &str, of: impl Fn(&T) -> &str) -> Option<&'e T> {
    let at = entries.binary_search_by(|entry| of(entry).cmp(name)).ok()?;
    Some(&entries[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, target: &str) -> TreeLink {
        TreeLink { name: name.into(), target: target.into() }
    }

    fn with_links(inner: Vec<TreeLink>, outer: Vec<TreeLink>) -> Tree {
        let deep = Tree { symlinks: inner, ..Tree::default() };
        let middle = Tree { dirs: vec![TreeDir::new("e".into(), deep)], ..Tree::default() };
        Tree { dirs: vec![TreeDir::new("d".into(), middle)], symlinks: outer, ..Tree::default() }
    }

    #[test]
    fn links_that_stay_inside_are_told_from_those_that_leave() {
        let inside = with_links(
            vec![link("up", "../.."), link("dangling", "../nothing/../x")],
            vec![link("self", "."), link("loop", "loop"), link("through", "d/e/up/d")],
        );
        assert_eq!(inside.escaping_link(), None);
        for target in ["..", "../x", "/etc/passwd", "d/../../x", "nothing/../../x", "d/e/up/.."] {
            let tree = with_links(vec![link("up", "../..")], vec![link("x", target)]);
            assert_eq!(tree.escaping_link(), Some(("x".into(), target)), "{target}");
        }
    }
}
