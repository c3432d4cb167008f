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

/// Everything that can go, with its paths.
pub(super) type Stock = BTreeMap<Item, Vec<PathBuf>>;

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

/// What each item of a stock weighed when it was looked at.
#[derive(Debug, Default)]
pub(super) struct Weights(HashMap<Item, (Vec<PathBuf>, Files)>);

/// The files of an item.
type Files = Vec<(Inode, File)>;

impl Weights {
    /// Weighs everything in a stock. Others may go on with the store meanwhile; what goes meanwhile weighs nothing.
    pub(super) fn of(fs: &Fs, stock: &Stock) -> Result<Self, FsError> {
        let weighed = stock.par_iter().map(|(item, paths)| {
            let found = weigh(fs, paths)?;
            Ok((*item, (paths.clone(), found)))
        });
        Ok(Self(weighed.collect::<Result<_, FsError>>()?))
    }
}

fn weigh(fs: &Fs, paths: &[PathBuf]) -> Result<Files, FsError> {
    let mut found = Vec::new();
    paths.iter().try_for_each(|path| walk(fs, path, &mut found))?;
    Ok(found)
}

impl Scales {
    /// Puts a stock on the scales. What is in `before` is not weighed again: what has a name in the store does not change.
    pub(super) fn load(fs: &Fs, stock: &Stock, mut before: Weights) -> Result<Self, FsError> {
        let mut known: Vec<(Item, Files)> = Vec::with_capacity(stock.len());
        let mut news = Vec::new();
        for (item, paths) in stock {
            match before.0.remove(item) {
                Some((then, found)) if then == *paths => known.push((*item, found)),
                _ => news.push((*item, paths)),
            }
        }
        let news = news.into_par_iter().map(|(item, paths)| Ok((item, weigh(fs, paths)?)));
        let news: Vec<(Item, Files)> = news.collect::<Result<_, FsError>>()?;
        let weighed: Vec<_> = known.into_iter().chain(news).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::object::Object;

    fn file(folder: &Path, name: &str, bytes: usize) -> (Item, Vec<PathBuf>) {
        let path = folder.join(name);
        std::fs::write(&path, vec![b'x'; bytes]).unwrap();
        (Item::Object(Object::file(Digest::of(name.as_bytes()))), vec![path])
    }

    #[test]
    fn what_came_and_went_after_the_weighing_is_weighed_as_it_is_now() {
        let home = tempfile::tempdir().unwrap();
        let fs = Fs::default();
        let [stays, goes, comes] = [("a", 10), ("b", 200), ("c", 3000)]
            .map(|(name, bytes)| file(home.path(), name, bytes));
        let before: Stock = [stays.clone(), goes].into();
        let weights = Weights::of(&fs, &before).unwrap();
        // It is not looked at again, or it would be missed.
        std::fs::remove_file(&stays.1[0]).unwrap();
        let now: Stock = [stays.clone(), comes.clone()].into();
        let scales = Scales::load(&fs, &now, weights).unwrap();
        assert_eq!((scales.bytes_of(&stays.0), scales.bytes_of(&comes.0)), (10, 3000));
        assert_eq!(scales.bytes_kept(), 3010);
    }
}
