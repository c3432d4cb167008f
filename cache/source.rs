//! Files outside of the store: their digests, remembered, and snapshots of them.
//!
//! The stat cache trusts a remembered digest only if the file still is the one that was read, and
//! if both of its times were older, by a margin, than a time that its file system gave before it
//! was read. Otherwise a change within one tick of the clock would go unnoticed.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::digest::Digest;
use crate::fsio::{FsError, ctime_ns, mtime_ns};
use crate::index::StatKey;
use crate::object::{Kind, Object};
use crate::scan::{FILE_MODE, OPEN_MODE};
use crate::store::Store;

/// How often a file that changes while it is read is read again.
const TRIES: u32 = 3;
const MAGIC: [u8; 4] = *b"KLNS";
const VERSION: u32 = 1;

/// Clocks of local file systems tick at least every 10 ms.
const LOCAL_NS: i64 = 20_000_000;
/// A time without a fraction is from a file system that counts in seconds, or in two.
const COARSE_NS: i64 = 2_500_000_000;
/// The clock of another machine may be off by this much.
const REMOTE_NS: i64 = 120_000_000_000;
/// `f_type` of file systems whose clock is that of another machine: NFS, SMB, CIFS, SMB2, 9P, Ceph, FUSE.
const REMOTE_TYPES: [u32; 7] =
    [0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42, 0x0102_1997, 0x00C3_6400, 0x6573_5546];

/// Whether remembered digests count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// A remembered digest counts if the file looks untouched.
    Cached,
    /// Every byte is read again.
    Rehash,
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Device that the file is on.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of the content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of content or attributes, nanoseconds since 1970.
    pub ctime_ns: i64,
}

impl FileIdentity {
    /// What the system says of a file.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.len(),
            mtime_ns: mtime_ns(metadata),
            ctime_ns: ctime_ns(metadata),
        }
    }

    fn key(&self) -> StatKey {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.dev.to_be_bytes());
        key[8..].copy_from_slice(&self.ino.to_be_bytes());
        key
    }

    /// Whether a change after the time `taken_ns` would have shown in the file's times.
    ///
    /// `margin_ns` is the resolution of the file system's clock, or more.
    #[must_use]
    pub fn settled_before(&self, taken_ns: i64, margin_ns: i64) -> bool {
        let youngest = self.mtime_ns.max(self.ctime_ns);
        youngest.saturating_add(margin_ns) < taken_ns
    }
}

/// A file and the digest of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileDigest {
    /// Digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub bytes: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// What it looked like before and after it was read.
    pub identity: FileIdentity,
}

/// A source that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The disk.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// It is no regular file.
    #[error("{} is not a regular file", .0.display())]
    Kind(PathBuf),
    /// Somebody writes to it.
    #[error("{} changed each time it was read", .0.display())]
    Unsteady(PathBuf),
}

/// A row of the stat cache.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    identity: FileIdentity,
    taken_ns: i64,
    margin_ns: i64,
    digest: Digest,
}

impl Store {
    /// The present time of the store's file system, in nanoseconds since 1970: what the times of
    /// files on it are to be compared with.
    ///
    /// # Errors
    /// If a file cannot be touched there.
    pub fn fs_now(&self) -> Result<i64, FsError> {
        self.clock.now(&self.fs, &self.layout)
    }

    /// The digest of a file's bytes; links are followed. Remembered if the file looks untouched
    /// since it was last read and is old enough for that to be known.
    ///
    /// # Errors
    /// If it cannot be read, is no regular file, or keeps changing.
    pub fn digest_file(&self, path: &Path, trust: Trust) -> Result<FileDigest, SourceError> {
        let metadata = self.regular(path)?;
        if let Some(known) = self.remembered(&metadata, trust) {
            return Ok(known);
        }
        for _ in 0..TRIES {
            let taken_ns = self.fs_now()?;
            let file = self.fs.open(path)?;
            let look = || file.metadata().map_err(|error| FsError::new("look at", path, error));
            let before = look()?;
            let read = Digest::of_file(&file, before.len());
            let (digest, bytes) = read.map_err(|error| FsError::new("read", path, error))?;
            let after = look()?;
            if let Some(found) = steady(&before, &after, digest, bytes) {
                self.remember(path, &found, taken_ns);
                return Ok(found);
            }
        }
        Err(SourceError::Unsteady(path.to_owned()))
    }

    /// Copies a file into the store (by reflink where the file system has them) and gives the
    /// object and its size. The digest is that of the bytes that were copied, whatever happens to
    /// the file meanwhile.
    ///
    /// # Errors
    /// If it cannot be read, is no regular file, or keeps changing.
    pub fn snapshot_file(&self, path: &Path, trust: Trust) -> Result<(Object, u64), SourceError> {
        let metadata = self.regular(path)?;
        if let Some(known) = self.remembered(&metadata, trust) {
            let object = object_of(&known);
            self.hold([crate::holds::Held::Object(object)])?;
            if self.contains(&object) {
                return Ok((object, known.bytes));
            }
        }
        for _ in 0..TRIES {
            if let Some(taken) = self.try_snapshot(path)? {
                return Ok(taken);
            }
        }
        Err(SourceError::Unsteady(path.to_owned()))
    }

    fn try_snapshot(&self, path: &Path) -> Result<Option<(Object, u64)>, SourceError> {
        let taken_ns = self.fs_now()?;
        let file = self.fs.open(path)?;
        let look = || file.metadata().map_err(|error| FsError::new("look at", path, error));
        let before = look()?;
        let staged = self.staging.fresh(&self.fs, &self.layout)?;
        let mut copy = self.fs.create_file(&staged, 0o600)?;
        self.fs.copy_bytes(&file, &copy, &staged)?;
        let hashed =
            std::io::Seek::rewind(&mut copy).and_then(|()| Digest::of_file(&copy, before.len()));
        let (digest, bytes) = hashed.map_err(|error| FsError::new("read", &staged, error))?;
        let Some(found) = steady(&before, &look()?, digest, bytes) else {
            self.fs.remove_file(&staged)?;
            return Ok(None);
        };
        let object = object_of(&found);
        self.fs.chmod(&staged, if found.executable { OPEN_MODE } else { FILE_MODE })?;
        self.fs.fix_times(&staged)?;
        self.place_file(&staged, object, bytes)?;
        self.remember(path, &found, taken_ns);
        Ok(Some((object, bytes)))
    }

    fn regular(&self, path: &Path) -> Result<Metadata, SourceError> {
        let metadata = self.fs.stat(path)?;
        if metadata.is_file() { Ok(metadata) } else { Err(SourceError::Kind(path.to_owned())) }
    }

    fn remembered(&self, metadata: &Metadata, trust: Trust) -> Option<FileDigest> {
        if trust == Trust::Rehash {
            return None;
        }
        let identity = FileIdentity::of(metadata);
        // An index that cannot be read, or a row that is damaged, costs one reading of the file.
        let bytes = self.index.as_ref()?.stat(&identity.key()).ok()??;
        let row: Row = codec::decode(MAGIC, VERSION, &bytes).ok()?;
        let good = row.identity == identity && identity.settled_before(row.taken_ns, row.margin_ns);
        good.then(|| FileDigest {
            digest: row.digest,
            bytes: identity.size,
            executable: executable(metadata),
            identity,
        })
    }

    fn remember(&self, path: &Path, found: &FileDigest, taken_ns: i64) {
        let Some(index) = &self.index else { return };
        let FileDigest { digest, identity, .. } = *found;
        let row = Row { identity, taken_ns, margin_ns: margin_ns(path, &identity), digest };
        index.put_stat(identity.key(), codec::encode(MAGIC, VERSION, &row));
    }
}

fn object_of(found: &FileDigest) -> Object {
    Object { kind: Kind::File, digest: found.digest, executable: found.executable }
}

fn executable(metadata: &Metadata) -> bool {
    metadata.mode() & 0o100 != 0
}

/// What was read, if nobody wrote meanwhile.
fn steady(before: &Metadata, after: &Metadata, digest: Digest, bytes: u64) -> Option<FileDigest> {
    let identity = FileIdentity::of(after);
    let still = FileIdentity::of(before) == identity && bytes == identity.size;
    still.then(|| FileDigest { digest, bytes, executable: executable(after), identity })
}

/// How far a file's times may lie behind the time at which it was changed.
fn margin_ns(path: &Path, identity: &FileIdentity) -> i64 {
    let remote = rustix::fs::statfs(path)
        // The field's width differs between platforms; the types have 32 bits on all of them.
        .is_ok_and(|fs| REMOTE_TYPES.contains(&(fs.f_type as u32)));
    if remote {
        REMOTE_NS
    } else if identity.ctime_ns % 1_000_000_000 == 0 {
        COARSE_NS
    } else {
        LOCAL_NS
    }
}
