//! The machine-learning builders that kiln brings: files in, files out.
//!
//! Unaware of recipes, the store, the sandbox and networks. What a builder writes depends on its
//! arguments and on the bytes of its inputs alone: never on paths, clocks, threads or the machine.

pub mod nearest;
pub mod request;
pub mod table;
