//! What the store takes on disk, by category.

use serde::Serialize;

use crate::fsio::FsError;
use crate::inventory::{self, Entry};
use crate::object::Kind;
use crate::size;
use crate::store::Store;

/// Number and size of the things in one category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Share {
    /// How many things.
    pub count: u64,
    /// Bytes of their content. A file that several trees share by links counts in each.
    pub bytes: u64,
}

/// What the store takes, by category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Usage {
    /// Files.
    pub files: Share,
    /// Trees, with their listings.
    pub trees: Share,
    /// Records, earlier attempts included.
    pub realisations: Share,
    /// The index.
    pub index: Share,
    /// What is removed and not deleted yet.
    pub trash: Share,
    /// Scratch folders, temporary roots, locks.
    pub tmp: Share,
}

impl Share {
    fn add(&mut self, count: u64, bytes: u64) {
        self.count += count;
        self.bytes += bytes;
    }
}

impl Store {
    /// What the store takes on disk. Reads names and sizes, no content.
    ///
    /// # Errors
    /// If a folder of the store cannot be read.
    pub fn du(&self) -> Result<Usage, FsError> {
        let mut usage = Usage::default();
        for item in inventory::all(&self.fs, &self.layout)? {
            let bytes = size::of(&self.fs, &item.path)?;
            match item.entry {
                Entry::Object(object) if object.kind == Kind::File => usage.files.add(1, bytes),
                Entry::Object(_) => usage.trees.add(1, bytes),
                Entry::Listing(_) => usage.trees.add(0, bytes),
                Entry::Record(_) => usage.realisations.add(1, bytes),
                Entry::Stranger => {}
            }
        }
        for (share, folder) in [
            (&mut usage.index, self.layout.index()),
            (&mut usage.trash, self.layout.trash()),
            (&mut usage.tmp, self.layout.tmp()),
        ] {
            share.add(self.fs.list(&folder)?.len() as u64, size::of(&self.fs, &folder)?);
        }
        Ok(usage)
    }
}
