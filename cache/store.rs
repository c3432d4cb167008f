//! The store as its users see it.
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::fsio::FsError;
use crate::object::{Ingested, Object};
use crate::realisation::Realisation;
use crate::tree::Tree;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error("the store in {} has format {found}", home.display())]
    Format { home: PathBuf, found: String },
}
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error("{path}: {what}")]
    Refused { path: String, what: &'static str },
}
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error("not in the store")]
    Absent,
}
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error("{} kept changing while it was read", .0.display())]
    Unsteady(PathBuf),
}
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error("cancelled")]
    Cancelled,
}
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error("`{0}` is no name for a root")]
    Name(String),
    #[error("the root file {} is damaged", path.display())]
    Damaged { path: PathBuf },
}
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error(transparent)]
    Root(#[from] RootError),
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingest {
    Move,
    Copy,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    Cached,
    Rehash,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precedence {
    First,
    Again,
}
#[derive(Debug, Clone, PartialEq)]
pub enum Recorded {
    Kept(Realisation),
    Written(Realisation),
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileIdentity {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileDigest {
    pub digest: Digest,
    pub bytes: u64,
    pub executable: bool,
    pub identity: FileIdentity,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub what: String,
    pub path: PathBuf,
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Root {
    pub label: String,
    pub keys: Vec<Digest>,
    pub objects: Vec<Object>,
    pub data: serde_json::Value,
    pub at: i64,
}
#[derive(Debug, Clone, Copy, Default)]
pub struct GcOptions {
    pub dry_run: bool,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "what", content = "name")]
pub enum Item {
    Object(Object),
    Realisation(Digest),
}
#[derive(Debug, Clone, Serialize)]
pub struct Kept {
    pub item: Item,
    pub bytes: u64,
    pub held_by: Vec<String>,
}
#[derive(Debug, Clone, Serialize)]
pub struct Removed {
    pub item: Item,
    pub bytes: u64,
}
#[derive(Debug, Clone, Serialize)]
pub struct GcReport {
    pub kept: Vec<Kept>,
    pub removed: Vec<Removed>,
    pub bytes_kept: u64,
    pub bytes_freed: u64,
}
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    pub path: PathBuf,
    pub what: String,
    pub help: String,
}
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    pub objects: u64,
    pub realisations: u64,
    pub bytes: u64,
    pub problems: Vec<Problem>,
}
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Share {
    pub count: u64,
    pub bytes: u64,
}
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Usage {
    pub files: Share,
    pub trees: Share,
    pub realisations: Share,
    pub index: Share,
    pub trash: Share,
    pub tmp: Share,
}
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}
impl Scratch {
    pub fn path(&self) -> &Path {
        &self.path
    }
}
#[derive(Debug)]
pub struct ActionLock(());
#[derive(Debug)]
pub struct Session<'s>(&'s Store);
impl Session<'_> {
    pub fn hold_object(&self, _: &Object) -> Result<(), FsError> {
        unimplemented!()
    }
    pub fn hold_key(&self, _: &Digest) -> Result<(), FsError> {
        unimplemented!()
    }
    pub fn hold(&self, _keys: &[Digest], _objects: &[Object]) -> Result<(), FsError> {
        unimplemented!()
    }
}
#[derive(Debug)]
pub struct Store {
    home: PathBuf,
}
impl Store {
    pub fn open(home: &Path) -> Result<Self, OpenError> {
        let _ = home;
        unimplemented!()
    }
    pub fn home(&self) -> &Path {
        &self.home
    }
    pub fn take_notices(&self) -> Vec<Notice> {
        unimplemented!()
    }
    pub fn scratch_dir(&self) -> Result<Scratch, FsError> {
        unimplemented!()
    }
    pub fn sweep(&self) -> Result<(), FsError> {
        unimplemented!()
    }
    pub fn contains(&self, _: &Object) -> bool {
        unimplemented!()
    }
    pub fn path(&self, _: &Object) -> PathBuf {
        unimplemented!()
    }
    pub fn ingest(&self, _: &Path, _: Ingest) -> Result<Ingested, IngestError> {
        unimplemented!()
    }
    pub fn put_bytes(&self, _: &[u8]) -> Result<Object, FsError> {
        unimplemented!()
    }
    pub fn tree(&self, _: &Digest) -> Result<Tree, TreeError> {
        unimplemented!()
    }
    pub fn subobject(&self, _: &Digest, _rel: &str) -> Result<Option<Ingested>, TreeError> {
        unimplemented!()
    }
    pub fn copy_out(&self, _: &Object, _dest: &Path) -> Result<u64, FsError> {
        unimplemented!()
    }
    pub fn compose_tree(&self, _: Vec<(String, Object)>) -> Result<Ingested, TreeError> {
        unimplemented!()
    }
    pub fn digest_file(&self, _: &Path, _: Trust) -> Result<FileDigest, SourceError> {
        unimplemented!()
    }
    pub fn snapshot_file(&self, _: &Path, _: Trust) -> Result<(Object, u64), SourceError> {
        unimplemented!()
    }
    /// nanoseconds since 1970
    pub fn fs_now(&self) -> Result<i64, FsError> {
        unimplemented!()
    }
    pub fn realisation(&self, _key: &Digest) -> Result<Option<Realisation>, FsError> {
        unimplemented!()
    }
    pub fn record(&self, _: Realisation, _: Precedence) -> Result<Recorded, FsError> {
        unimplemented!()
    }
    pub fn attempts(&self, _: &Digest) -> Result<Vec<Realisation>, FsError> {
        unimplemented!()
    }
    pub fn all_realisations(&self) -> Result<Vec<Realisation>, FsError> {
        unimplemented!()
    }
    pub fn lock_action(
        &self,
        _: &Digest,
        _cancelled: &dyn Fn() -> bool,
    ) -> Result<ActionLock, LockError> {
        unimplemented!()
    }
    pub fn try_lock_action(&self, _: &Digest) -> Result<Option<ActionLock>, LockError> {
        unimplemented!()
    }
    pub fn session(&self) -> Result<Session<'_>, FsError> {
        unimplemented!()
    }
    pub fn set_root(&self, _name: &str, _: &Root) -> Result<(), RootError> {
        unimplemented!()
    }
    pub fn remove_root(&self, _name: &str) -> Result<bool, RootError> {
        unimplemented!()
    }
    pub fn root(&self, _name: &str) -> Result<Option<Root>, RootError> {
        unimplemented!()
    }
    pub fn roots(&self) -> Result<Vec<(String, Root)>, RootError> {
        unimplemented!()
    }
    pub fn gc(&self, _: GcOptions) -> Result<GcReport, GcError> {
        unimplemented!()
    }
    pub fn verify(&self) -> Result<VerifyReport, FsError> {
        unimplemented!()
    }
    pub fn du(&self) -> Result<Usage, FsError> {
        unimplemented!()
    }
    pub fn flush(&self) -> Result<(), FsError> {
        unimplemented!()
    }
}
