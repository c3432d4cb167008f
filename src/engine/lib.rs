//! The engine: recipe → graph → derivation → key → realise.
//!
//! It knows steps, keys, the store and the sandbox. It is unaware of machine learning, of the terminal and of
//! the user's home folder: builders enter through the [`catalogue`], paths through arguments, and what
//! happens leaves as [`event`]s.
//!
//! Data flows one way, from the recipe's text to records in the store; a test holds the modules to it: none of
//! them form a ring.

pub mod attempt;
mod blob;
pub mod catalogue;
pub mod diagnostic;
pub mod difference;
pub mod estimate;
pub mod event;
pub mod executor;
pub mod explain;
pub mod forecast;
pub mod gpu;
pub mod graph;
pub mod host;
pub mod installation;
pub mod key;
pub mod local;
pub mod memo;
pub mod moment;
pub mod obstacle;
pub mod outside;
pub mod place;
pub mod plan;
pub mod project;
pub mod realise;
pub mod recipe;
pub mod reference;
pub mod resolve;
#[allow(unsafe_code)]
pub mod sandbox;
pub mod schedule;
pub mod source;
pub mod standing;
pub mod surroundings;
pub mod tools;
pub mod why;
