//! The content-addressed store.
#![allow(missing_docs)]
pub mod codec;
mod digest;
mod fsio;
mod object;
mod realisation;
mod store;
mod tree;

pub use digest::{Digest, DigestError};
pub use fsio::FsError;
pub use object::{Ingested, Kind, Object, ObjectError};
pub use realisation::{Cost, Determinism, Isolation, Output, Realisation, Verdict};
pub use store::*;
pub use tree::{Tree, TreeDir, TreeFile, TreeLink};
