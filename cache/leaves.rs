//! A tree out of its leaves: files and links by path, as a walk over a folder finds them.
//!
//! Unaware of the disk.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::tree::{Tree, TreeDir, TreeFile, TreeLink};

/// What may stand at a path in a tree, apart from a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    /// A file.
    File {
        /// The digest of its bytes.
        digest: Digest,
        /// How many bytes it has.
        bytes: u64,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Where it points.
        target: String,
    },
}

impl Tree {
    /// The tree with these leaves, each by its path (names joined by `/`); in whatever order they come.
    #[must_use]
    pub fn from_leaves<'a>(leaves: impl IntoIterator<Item = (&'a str, Leaf)>) -> Self {
        let mut here = Self::default();
        let mut below: BTreeMap<&str, Vec<(&str, Leaf)>> = BTreeMap::new();
        for (path, leaf) in leaves {
            match (path.split_once('/'), leaf) {
                (Some((dir, rest)), leaf) => below.entry(dir).or_default().push((rest, leaf)),
                (None, Leaf::File { digest, bytes, executable }) => {
                    here.files.push(TreeFile { name: path.to_owned(), digest, bytes, executable });
                }
                (None, Leaf::Link { target }) => {
                    here.symlinks.push(TreeLink { name: path.to_owned(), target });
                }
            }
        }
        here.files.sort_by(|a, b| a.name.cmp(&b.name));
        here.symlinks.sort_by(|a, b| a.name.cmp(&b.name));
        here.dirs = below
            .into_iter()
            .map(|(name, leaves)| TreeDir::new(name.to_owned(), Self::from_leaves(leaves)))
            .collect();
        here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_leaves_does_not_matter() {
        let file =
            |byte: u8| Leaf::File { digest: Digest::of(&[byte]), bytes: 1, executable: false };
        let link = || Leaf::Link { target: "b".into() };
        let one = Tree::from_leaves([
            ("d/x", file(1)),
            ("b", file(2)),
            ("a", link()),
            ("d/e/y", file(3)),
        ]);
        let two = Tree::from_leaves([
            ("d/e/y", file(3)),
            ("a", link()),
            ("b", file(2)),
            ("d/x", file(1)),
        ]);
        assert_eq!(one, two);
        assert_eq!(one.digest(), two.digest());
        assert_eq!(one.file_count(), 3);
    }
}
