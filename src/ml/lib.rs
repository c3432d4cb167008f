//! The machine-learning builders that kiln brings: files in, files out.
//!
//! Unaware of recipes, the store, the sandbox and networks. What a builder writes depends on its
//! arguments and on the bytes of its inputs alone: never on paths, clocks, threads or the machine.

#[cfg(test)]
mod fixture;
pub mod html;
pub mod nearest;
pub mod output;
pub mod request;
pub mod split;
pub mod table;
pub mod validate;
