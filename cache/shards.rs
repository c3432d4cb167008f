//! Whether records are the ones that somebody saw, without a look at each.
//!
//! Records lie in 256 folders, and whoever writes, replaces or removes one changes the times of its
//! folder. A folder that was at rest when a mark was taken and looks the same later holds what it
//! held. Unaware of what records say.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::fsio::{FsError, present};
use crate::look::FileIdentity;
use crate::store::Store;

/// How the folders of records looked at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordsMark {
    /// A time of the store's file system before the folders were looked at, in nanoseconds since 1970.
    taken_ns: i64,
    /// By how much a folder's times may lie behind a change in it.
    margin_ns: i64,
    shards: Vec<Shard>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Shard {
    inode: u64,
    mtime_ns: i64,
    ctime_ns: i64,
}

impl Shard {
    /// A folder that is not there has a look too.
    fn of(metadata: Option<&Metadata>) -> Self {
        metadata.map_or_else(Self::default, |metadata| {
            let FileIdentity { mtime_ns, ctime_ns, .. } = FileIdentity::of(metadata);
            Self { inode: metadata.ino(), mtime_ns, ctime_ns }
        })
    }
}

/// Which folders of records hold what they held when a mark was taken.
#[derive(Debug)]
pub struct Untouched(Vec<bool>);

impl Untouched {
    /// Whether the record under this key, or that there is none, is as it was.
    #[must_use]
    pub fn covers(&self, key: &Digest) -> bool {
        self.0[usize::from(key.as_bytes()[0])]
    }

    /// Whether that is so for every key.
    #[must_use]
    pub fn covers_all(&self) -> bool {
        self.0.iter().all(|&untouched| untouched)
    }
}

impl Store {
    /// Notes how the folders of records look. To be taken before the records are read that are to be known again
    /// by it.
    ///
    /// # Errors
    /// If the store's file system does not tell its time, or a folder cannot be looked at.
    pub fn mark_records(&self) -> Result<RecordsMark, FsError> {
        let folder = self.layout.realisations();
        let identity = FileIdentity::of(&self.fs.lstat(&folder)?);
        let moment = self.clocks.of(&self.fs, &self.layout, identity.dev, &folder)?;
        let look = |path: PathBuf| Ok(Shard::of(present(self.fs.lstat(&path))?.as_ref()));
        let shards = self.layout.record_shards().map(look).collect::<Result<_, FsError>>()?;
        let margin_ns = moment.margin_ns(&identity);
        Ok(RecordsMark { taken_ns: moment.taken_ns, margin_ns, shards })
    }

    /// Which records are still those that were there when the mark was taken.
    #[must_use]
    pub fn untouched(&self, mark: &RecordsMark) -> Untouched {
        let same = |(number, path): (usize, PathBuf)| {
            let Some(then) = mark.shards.get(number) else { return false };
            let youngest = then.mtime_ns.max(then.ctime_ns);
            // What changes within a tick of the clock after the look would not show.
            youngest.saturating_add(mark.margin_ns) < mark.taken_ns
                && present(self.fs.lstat(&path)).is_ok_and(|now| Shard::of(now.as_ref()) == *then)
        };
        Untouched(self.layout.record_shards().enumerate().map(same).collect())
    }
}
