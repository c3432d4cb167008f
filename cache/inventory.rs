//! Everything that lies in the store, by name. Reads folders, no content.

use std::path::{Path, PathBuf};

use std::ffi::OsStr;

use crate::digest::Digest;
use crate::fsio::{Fs, FsError, present};
use crate::layout::{self, Layout, RecordName};
use crate::object::Object;

/// What a name in the store stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Object(Object),
    /// The listing of the tree with this digest.
    Listing(Digest),
    Record(RecordName),
    /// Nothing that the store has put there.
    Stranger,
}

/// A name in the store and what it stands for.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) path: PathBuf,
    pub(crate) entry: Entry,
}

/// All files and trees.
pub(crate) fn objects(fs: &Fs, layout: &Layout) -> Result<Vec<Item>, FsError> {
    let mut found =
        shards(fs, &layout.files(), |shard, name| layout::file_of(shard, name).map(Entry::Object))?;
    found.extend(shards(fs, &layout.trees(), |shard, name| {
        let tree = layout::tree_of(shard, name).map(Entry::Object);
        tree.or_else(|| layout::listing_of(shard, name).map(Entry::Listing))
    })?);
    Ok(found)
}

/// All records, earlier attempts included.
pub(crate) fn records(fs: &Fs, layout: &Layout) -> Result<Vec<Item>, FsError> {
    shards(fs, &layout.realisations(), |shard, name| {
        layout::record_of(shard, name).map(Entry::Record)
    })
}

/// All of both; records last.
pub(crate) fn all(fs: &Fs, layout: &Layout) -> Result<Vec<Item>, FsError> {
    let mut found = objects(fs, layout)?;
    found.extend(records(fs, layout)?);
    Ok(found)
}

fn shards(
    fs: &Fs,
    folder: &Path,
    entry: impl Fn(&OsStr, &OsStr) -> Option<Entry>,
) -> Result<Vec<Item>, FsError> {
    let mut found = Vec::new();
    for shard in fs.list(folder)? {
        let path = folder.join(&shard);
        let Some(names) = present(fs.list(&path))? else {
            found.push(Item { path, entry: Entry::Stranger });
            continue;
        };
        found.extend(names.iter().map(|name| Item {
            path: path.join(name),
            entry: entry(&shard, name).unwrap_or(Entry::Stranger),
        }));
    }
    Ok(found)
}
