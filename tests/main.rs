//! End-to-end tests: the built binary, in temporary folders, with an empty store.

mod harness;

mod build;
mod confined;
mod failures;
mod recipe;
mod steps;
mod structure;
mod tumour;
