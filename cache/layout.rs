//! Where everything lies under the store's home. Knows names only; touches no disk.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::object::{Kind, Object};

/// Version of the layout, in the file `format`.
pub(crate) const FORMAT: &str = "kiln store 1\n";

/// The home, and the paths below it.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    home: PathBuf,
}

/// Whose file a name in `realisations/ab/` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordName {
    /// The result in use.
    Current(Digest),
    /// An earlier attempt, by its number.
    Earlier(Digest, u32),
}

impl Layout {
    pub(crate) fn new(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn format(&self) -> PathBuf {
        self.home.join("format")
    }

    pub(crate) fn gc_lock(&self) -> PathBuf {
        self.home.join("lock")
    }

    pub(crate) fn files(&self) -> PathBuf {
        self.home.join("store/f")
    }

    pub(crate) fn trees(&self) -> PathBuf {
        self.home.join("store/t")
    }

    pub(crate) fn realisations(&self) -> PathBuf {
        self.home.join("realisations")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.home.join("index")
    }

    pub(crate) fn roots(&self) -> PathBuf {
        self.home.join("roots")
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.home.join("trash")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.home.join("tmp")
    }

    pub(crate) fn locks(&self) -> PathBuf {
        self.home.join("tmp/locks")
    }

    /// One empty file for each process that has written what may not be on disk yet.
    pub(crate) fn unflushed(&self) -> PathBuf {
        self.home.join("unflushed")
    }

    /// What is known of things that went, by the first byte of their digests.
    pub(crate) fn tombstones(&self, shard: u8) -> PathBuf {
        self.home.join("tombstones").join(format!("{shard:02x}"))
    }

    pub(crate) fn folders(&self) -> [PathBuf; 8] {
        [
            self.files(),
            self.trees(),
            self.realisations(),
            self.index(),
            self.roots(),
            self.trash(),
            self.locks(),
            self.unflushed(),
        ]
    }

    pub(crate) fn object(&self, object: &Object) -> PathBuf {
        match object.kind {
            Kind::File => {
                let suffix = if object.executable { ".x" } else { "" };
                sharded(&self.files(), &object.digest, suffix)
            }
            Kind::Tree => sharded(&self.trees(), &object.digest, ""),
        }
    }

    /// The stored listing of a tree, beside its folder.
    pub(crate) fn listing(&self, tree: &Digest) -> PathBuf {
        sharded(&self.trees(), tree, ".tree")
    }

    pub(crate) fn realisation(&self, key: &Digest) -> PathBuf {
        sharded(&self.realisations(), key, "")
    }

    /// The folders in which records lie, by the first byte of their keys.
    pub(crate) fn record_shards(&self) -> impl Iterator<Item = PathBuf> {
        let folder = self.realisations();
        (0..=u8::MAX).map(move |byte| folder.join(format!("{byte:02x}")))
    }

    pub(crate) fn attempt(&self, key: &Digest, attempt: u32) -> PathBuf {
        sharded(&self.realisations(), key, &format!(".{attempt}"))
    }
}

fn sharded(folder: &Path, digest: &Digest, suffix: &str) -> PathBuf {
    let hex = digest.to_string();
    folder.join(&hex[..2]).join(format!("{hex}{suffix}"))
}

/// The file that a name in `store/f/SHARD/` stands for.
pub(crate) fn file_of(shard: &OsStr, name: &OsStr) -> Option<Object> {
    let name = in_shard(shard, name)?;
    match name.strip_suffix(".x") {
        Some(hex) => Some(Object::program(hex.parse().ok()?)),
        None => Some(Object::file(name.parse().ok()?)),
    }
}

/// The tree that a folder's name in `store/t/SHARD/` stands for.
pub(crate) fn tree_of(shard: &OsStr, name: &OsStr) -> Option<Object> {
    Some(Object::tree(in_shard(shard, name)?.parse().ok()?))
}

/// The tree that a path in the store is that of, if it is one.
pub(crate) fn tree_at(path: &Path) -> Option<Digest> {
    let shard = path.parent()?.file_name()?;
    tree_of(shard, path.file_name()?).map(|tree| tree.digest)
}

/// The tree whose listing a name in `store/t/SHARD/` is.
pub(crate) fn listing_of(shard: &OsStr, name: &OsStr) -> Option<Digest> {
    in_shard(shard, name)?.strip_suffix(".tree")?.parse().ok()
}

/// What a name in `realisations/SHARD/` stands for.
pub(crate) fn record_of(shard: &OsStr, name: &OsStr) -> Option<RecordName> {
    let name = in_shard(shard, name)?;
    match name.split_once('.') {
        None => Some(RecordName::Current(name.parse().ok()?)),
        Some((hex, number)) => {
            let attempt: u32 = number.parse().ok()?;
            // One name for one attempt: no `+1`, no `01`.
            (attempt.to_string() == number).then_some(())?;
            Some(RecordName::Earlier(hex.parse().ok()?, attempt))
        }
    }
}

fn in_shard<'n>(shard: &OsStr, name: &'n OsStr) -> Option<&'n str> {
    let name = name.to_str()?;
    (name.get(..2) == shard.to_str()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_what_they_were_made_from() {
        let layout = Layout::new(Path::new("/home"));
        let digest = Digest::of(b"abc");
        let parts = |path: PathBuf| {
            let name = path.file_name().unwrap().to_owned();
            (path.parent().unwrap().file_name().unwrap().to_owned(), name)
        };
        for object in [Object::file(digest), Object::program(digest)] {
            let (shard, name) = parts(layout.object(&object));
            assert_eq!(file_of(&shard, &name), Some(object));
        }
        let (shard, name) = parts(layout.object(&Object::tree(digest)));
        assert_eq!(tree_of(&shard, &name), Some(Object::tree(digest)));
        let (shard, name) = parts(layout.listing(&digest));
        assert_eq!(listing_of(&shard, &name), Some(digest));
        let (shard, name) = parts(layout.attempt(&digest, 3));
        assert_eq!(record_of(&shard, &name), Some(RecordName::Earlier(digest, 3)));
        assert_eq!(record_of(OsStr::new("00"), &name), None);
    }
}
