//! A content-addressed store for files and trees, and for the records of what made them.
//!
//! What lies where, and in which bytes, is defined in `FORMAT.md`. The crate knows nothing of
//! recipes, of networks, or of what is stored; it reads neither the environment nor the user's
//! home, and prints nothing.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let home = tempfile::tempdir()?;
//! use kiln_cache::{Digest, Object, Store};
//!
//! let store = Store::open(home.path())?;
//! let object = store.put_bytes(b"abc")?;
//! assert_eq!(object, Object::file(Digest::of(b"abc")));
//! assert!(store.contains(&object));
//! # Ok(())
//! # }
//! ```

mod access;
mod boot;
mod burial;
mod clock;
pub mod codec;
mod copy_out;
mod digest;
mod directory;
mod fault;
mod folder_snapshot;
mod fsio;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gc;
mod holds;
mod holes;
mod index;
mod ingest;
mod interrupt;
mod inventory;
mod item;
mod layout;
mod leaves;
mod lock;
mod look;
mod mapped;
mod mark;
mod mend;
mod notice;
mod object;
mod realisation;
mod records;
mod recover;
mod rehash;
mod removal;
mod roots;
mod scan;
mod scratch;
mod session;
mod shards;
mod size;
mod source;
mod source_folder;
mod staging;
mod stat_cache;
mod store;
mod tombstone;
mod trash;
mod tree;
mod trees;
mod usage;
mod verify;

pub use access::ReadOnly;
pub use digest::{Digest, DigestError};
pub use directory::DirectoryError;
pub use fault::{FaultPlan, FaultPlanError};
pub use folder_snapshot::SnapshotError;
pub use fsio::FsError;
pub use gc::{GcError, GcOptions, GcReport, Kept, Removed, RootChanges, Spared};
pub use ingest::{Ingest, IngestError};
pub use interrupt::interrupt;
pub use item::Item;
pub use leaves::Leaf;
pub use lock::{ActionLock, LockError};
pub use look::FileIdentity;
pub use notice::Notice;
pub use object::{Ingested, Kind, Object, ObjectError};
pub use realisation::{Cost, Determinism, Isolation, Output, Realisation, Verdict};
pub use records::{Precedence, Recorded};
pub use roots::{Root, RootError};
pub use scan::Refusal;
pub use scratch::Scratch;
pub use session::Session;
pub use shards::{RecordsMark, Untouched};
pub use source::{FileDigest, SourceError, Trust};
pub use source_folder::{FolderError, SourceFolder};
pub use store::{OpenError, Store, StoreOptions};
pub use tombstone::{Cause, Tombstone};
pub use tree::{Tree, TreeDir, TreeFile, TreeLink};
pub use trees::TreeError;
pub use usage::{Share, Usage};
pub use verify::{Problem, VerifyReport};
