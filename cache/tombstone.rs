//! Tombstones: what was taken away, when and why, so that somebody who misses it can be told.
//!
//! Defines them, their frame on disk, and how many there can be. Unaware of where they are kept and
//! of what is there.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::fsio::mtime_ns;
use crate::item::Item;

/// First bytes of a file of tombstones.
pub(crate) const MAGIC: [u8; 4] = *b"KLNT";
/// Version of the payload; any change of [`Tombstone`]'s fields raises it.
pub(crate) const VERSION: u32 = 1;
/// How many tombstones one file holds; the latest stay. With 256 files that is 32,768 in all.
pub(crate) const PER_FILE: usize = 128;

/// What is known of something that was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// What it was.
    pub item: Item,
    /// Until when it was there, in seconds since 1970.
    pub at: i64,
    /// Why it went.
    pub cause: Cause,
}

/// Why something was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing held it.
    Unheld,
    /// Nothing held it, and of what nothing held it was the least recently used while the store
    /// was larger than it was to be.
    OverBudget,
    /// Nothing held it, and it had not been used for longer than was asked for.
    Unused,
    /// It could not be read.
    Damaged,
    /// It had not reached the disk when the machine went down.
    Torn,
}

/// The tombstones of a file, in the order in which they were written; none if they cannot be read.
pub(crate) fn decode(frame: &[u8]) -> Vec<Tombstone> {
    codec::decode(MAGIC, VERSION, frame).unwrap_or_default()
}

/// A file of these tombstones.
pub(crate) fn encode(tombstones: &[Tombstone]) -> Vec<u8> {
    codec::encode(MAGIC, VERSION, &tombstones)
}

/// The files that were read, by first byte, each with what it looked like then.
#[derive(Debug, Default)]
pub(crate) struct Shards(Mutex<HashMap<u8, Shard>>);

/// What a file looked like when it was read, and what stood in it.
type Shard = (Identity, Arc<Vec<Tombstone>>);

/// Inode, size and time: a file of tombstones is replaced and never written to.
type Identity = (u64, u64, i64);

impl Shards {
    /// What stands in a file that looks like this, as it was read before or as `read` gives it.
    pub(crate) fn get(
        &self,
        shard: u8,
        file: &Metadata,
        read: impl FnOnce() -> Vec<Tombstone>,
    ) -> Arc<Vec<Tombstone>> {
        let identity = (file.ino(), file.len(), mtime_ns(file));
        let mut shards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, tombstones)) = shards.get(&shard)
            && *known == identity
        {
            return Arc::clone(tombstones);
        }
        let tombstones = Arc::new(read());
        shards.insert(shard, (identity, Arc::clone(&tombstones)));
        tombstones
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::object::Object;

    fn sample() -> Vec<Tombstone> {
        let item = Item::Realisation(Digest::of(b"key"));
        let tree = Item::Object(Object::tree(Digest::of(b"tree")));
        let program = Item::Object(Object::program(Digest::of(b"abc")));
        vec![
            Tombstone { item, at: 1_777_777_777, cause: Cause::OverBudget },
            Tombstone { item: tree, at: -1, cause: Cause::Unheld },
            Tombstone { item: program, at: 3, cause: Cause::Torn },
        ]
    }

    #[test]
    fn golden_frame() {
        let frame = encode(&sample());
        assert_eq!(&frame[..8], b"KLNT\x01\0\0\0");
        assert_eq!(frame.len(), 210);
        assert_eq!(
            Digest::of(&frame).to_string(),
            "f63c6a51839e08cf5b18462eb150d2e136d78a2d97501c83460be59ae470d640"
        );
        assert_eq!(decode(&frame), sample());
        assert_eq!(decode(&frame[1..]), []);
    }
}
