//! What is left when a process is killed, or the machine goes down.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kills;
mod power;
#[path = "../sample/mod.rs"]
mod sample;
