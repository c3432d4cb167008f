//! The engine: recipe → graph → derivation → key → realise.
//!
//! It knows steps, keys, the store and the sandbox. It is unaware of machine learning, of the terminal and of
//! the user's home folder: builders enter through the [`catalogue`], paths through arguments, and what
//! happens leaves as [`event`]s.
//!
//! Data flows one way: a module may use those above it in this list, never those below.

pub mod diagnostic;
pub mod catalogue;
pub mod graph;
pub mod recipe;
pub mod reference;
pub mod place;
pub mod host;
pub mod tools;
#[allow(unsafe_code)]
pub mod sandbox;
pub mod key;
pub mod source;
pub mod surroundings;
pub mod project;
pub mod executor;
pub mod local;
pub mod event;
pub mod schedule;
pub mod difference;
pub mod attempt;
pub mod why;
pub mod resolve;
pub mod explain;
pub mod standing;
pub mod realise;
pub mod plan;
