//! The engine: recipe → graph → derivation → key → realise.
//!
//! It knows steps, keys, the store and the sandbox. It is unaware of machine learning, of the terminal and of
//! the user's home folder: builders enter through the [`catalogue`], paths through arguments, and what
//! happens leaves as [`event`]s.
//!
//! Data flows one way: a module may use those above it in this list, never those below.

pub mod catalogue;
pub mod diagnostic;
pub mod graph;
pub mod host;
pub mod recipe;
pub mod reference;
#[allow(unsafe_code)]
pub mod sandbox;
pub mod tools;
