//! End-to-end tests: the built binary, in temporary folders, with an empty store.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what is meant")]

mod harness;

mod build;
mod commands;
mod confined;
mod cuda;
mod degrees;
mod failures;
mod faults;
mod gpus;
mod killed;
mod large;
mod memo;
mod mischief;
mod oracle;
mod recipe;
mod recipes;
mod scheduling;
mod steps;
mod structure;
mod tolerance;
mod tumour;
mod usage;
