//! What things weigh on disk, one by one and together: a file under several names counts once.
//!
//! Unaware of why something is kept and why something goes.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::fsio::{Fs, FsError, present};
use crate::item::Item;

/// A file, however many names it has: device and inode.
type Inode = (u64, u64);

/// What is on the scales.
#[derive(Debug)]
pub(super) struct Scales {
    items: HashMap<Item, Vec<Inode>>,
    files: HashMap<Inode, File>,
    all: u64,
    held: u64,
    freed: u64,
}

#[derive(Debug)]
struct File {
    bytes: u64,
    /// How many names it has, wherever they are.
    names: u64,
    /// How many of them have been taken off.
    gone: u64,
    held: bool,
}

impl Scales {
    /// Weighs everything in a stock.
    pub(super) fn weigh(fs: &Fs, stock: &BTreeMap<Item, Vec<PathBuf>>) -> Result<Self, FsError> {
        let weighed = stock.par_iter().map(|(item, paths)| {
            let mut found = Vec::new();
            paths.iter().try_for_each(|path| walk(fs, path, &mut found))?;
            Ok((*item, found))
        });
        let weighed: Vec<(Item, Vec<(Inode, File)>)> = weighed.collect::<Result<_, FsError>>()?;
        let mut scales = Self {
            items: HashMap::with_capacity(weighed.len()),
            files: HashMap::new(),
            all: 0,
            held: 0,
            freed: 0,
        };
        for (item, found) in weighed {
            let inodes = found.iter().map(|(inode, _)| *inode).collect();
            scales.items.insert(item, inodes);
            for (inode, file) in found {
                let bytes = file.bytes;
                if scales.files.insert(inode, file).is_none() {
                    scales.all += bytes;
                }
            }
        }
        Ok(scales)
    }

    fn inodes(&self, item: &Item) -> Vec<Inode> {
        self.items.get(item).cloned().unwrap_or_default()
    }

    /// Bytes of an item alone.
    pub(super) fn bytes_of(&self, item: &Item) -> u64 {
        self.inodes(item).iter().map(|inode| self.files[inode].bytes).sum()
    }

    /// Says that an item is held.
    pub(super) fn hold(&mut self, item: &Item) {
        for inode in self.inodes(item) {
            if let Some(file) = self.files.get_mut(&inode)
                && !std::mem::replace(&mut file.held, true)
            {
                self.held += file.bytes;
            }
        }
    }

    /// Takes an item off.
    pub(super) fn take_off(&mut self, item: &Item) {
        for inode in self.inodes(item) {
            if let Some(file) = self.files.get_mut(&inode) {
                file.gone += 1;
                if file.gone == file.names {
                    self.freed += file.bytes;
                }
            }
        }
    }

    /// Bytes that are still on the scales.
    pub(super) fn bytes_kept(&self) -> u64 {
        self.all - self.freed
    }

    /// Bytes of what is held.
    pub(super) fn bytes_held(&self) -> u64 {
        self.held
    }

    /// Bytes of the files all of whose names were taken off.
    pub(super) fn bytes_freed(&self) -> u64 {
        self.freed
    }
}

/// Every file at a path or below it, once for each name. Stored trees are not nested without end.
fn walk(fs: &Fs, path: &Path, found: &mut Vec<(Inode, File)>) -> Result<(), FsError> {
    let Some(metadata) = present(fs.lstat(path))? else { return Ok(()) };
    if metadata.is_dir() {
        let names = present(fs.list(path))?.unwrap_or_default();
        return names.iter().try_for_each(|name| walk(fs, &path.join(name), found));
    }
    let inode = (metadata.dev(), metadata.ino());
    let file = File { bytes: metadata.len(), names: metadata.nlink(), gone: 0, held: false };
    found.push((inode, file));
    Ok(())
}
