//! Digests of files outside of the store, remembered by what the files look like.
//!
//! A remembered digest counts only if the file still is the one that was read, and if both of its times were older,
//! by a margin, than a time that its file system gave before it was read. Otherwise a change within one tick of the
//! clock would go unnoticed. Unaware of how files are found and read.

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::codec;
use crate::digest::Digest;
use crate::index::StatKey;
use crate::look::{FileIdentity, Look};
use crate::source::{FileDigest, Trust};
use crate::store::Store;

pub(crate) const MAGIC: [u8; 4] = *b"KLNS";
pub(crate) const VERSION: u32 = 1;

/// So many rows wait in memory at most.
const WAITING: usize = 1 << 16;

/// A row of the stat cache.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) identity: FileIdentity,
    pub(crate) taken_ns: i64,
    pub(crate) margin_ns: i64,
    pub(crate) digest: Digest,
}

fn key(identity: &FileIdentity) -> StatKey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&identity.dev.to_be_bytes());
    key[8..].copy_from_slice(&identity.ino.to_be_bytes());
    key
}

pub(crate) fn read(row: &[u8], look: &Look) -> Option<FileDigest> {
    let row: Row = codec::decode(MAGIC, VERSION, row).ok()?;
    let identity = look.identity;
    let good = row.identity == identity && identity.settled_before(row.taken_ns, row.margin_ns);
    good.then_some(FileDigest {
        digest: row.digest,
        bytes: identity.size,
        executable: look.executable,
        identity,
    })
}

impl Store {
    /// What is remembered of files that look like this, all together.
    pub(crate) fn remembered(&self, looks: &[Look], trust: Trust) -> Vec<Option<FileDigest>> {
        let mut found = vec![None; looks.len()];
        let Some(index) = self.index.as_ref().filter(|_| trust == Trust::Cached) else {
            return found;
        };
        // An index that cannot be read, or a row that is damaged, costs one reading of the file.
        let _ = index.stats(looks.iter().map(|look| key(&look.identity)), |nth, row| {
            found[nth] = read(row, &looks[nth]);
        });
        found
    }

    /// Remembers what was read after `moment`, as far as that will ever count.
    pub(crate) fn remember(&self, found: &[(FileDigest, Moment)]) {
        let Some(index) = &self.index else { return };
        let rows = found.iter().filter_map(|(file, moment)| {
            let identity = file.identity;
            let (taken_ns, margin_ns) = (moment.taken_ns, moment.margin_ns(&identity));
            let row = Row { identity, taken_ns, margin_ns, digest: file.digest };
            identity
                .settled_before(taken_ns, margin_ns)
                .then(|| (key(&identity), codec::encode(MAGIC, VERSION, &row)))
        });
        if index.put_stats(rows) > WAITING {
            self.commit_index();
        }
    }
}
