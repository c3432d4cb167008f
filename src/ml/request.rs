//! What a builder is asked and what it answers: plain values that cross a process boundary as JSON.
//!
//! Unaware of where inputs come from and where outputs go: both are just paths.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One input of a builder: a file or a folder that exists for as long as the builder runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Where its bytes are. Differs between machines, so it must not reach an output.
    pub path: PathBuf,
    /// `"file"` or `"tree"`.
    pub kind: String,
    /// BLAKE3 of its content, 64 lower-case hexadecimal digits. A file's is the digest of its
    /// bytes; a tree's that of its canonical encoding.
    pub digest: String,
    /// Whether a file's executable bit is set; always false for trees.
    pub executable: bool,
}

/// A builder's complete work order.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The builder's name, one of [`BUILDERS`](crate::BUILDERS).
    pub builder: String,
    /// Its arguments, complete: defaults are filled in, an optional argument that is absent is
    /// `null`, and an input stands as an [`Input`].
    pub args: serde_json::Value,
    /// Where to write each output, by name. The parent folder exists, the place itself does not.
    pub outputs: BTreeMap<String, PathBuf>,
    /// How many threads the builder may use. Never changes a byte of any output.
    pub threads: usize,
    /// The library that the builder works with, file by file in the order of opening.
    #[serde(default)]
    pub library: Vec<PathBuf>,
}

/// What a gate said.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Whether the gate lets its subject pass.
    pub accepted: bool,
    /// Why, in one line: on a rejection it names what failed first, with numbers.
    pub reason: String,
}

/// A builder's answer; what it made is at the places that the request named.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// The verdict, for the builders that are gates (`validate`, `evaluate`).
    pub verdict: Option<Verdict>,
}

/// An input is a file where a folder is needed, or the reverse.
#[derive(Debug, thiserror::Error)]
#[error("`{role}` is a {found} where a {needed} is needed; help: {help}")]
pub struct KindError {
    role: &'static str,
    found: String,
    needed: &'static str,
    help: &'static str,
}

impl Input {
    /// The path, if the input is a file; `role` is the argument's name, for the message.
    ///
    /// # Errors
    /// [`KindError`].
    pub fn file(&self, role: &'static str) -> Result<&Path, KindError> {
        let help = "name one file, for instance a single output of a step";
        self.of_kind("file", role, help)
    }

    /// The path, if the input is a folder; `role` is the argument's name, for the message.
    ///
    /// # Errors
    /// [`KindError`].
    pub fn tree(&self, role: &'static str) -> Result<&Path, KindError> {
        let help = "name the folder that a step made, for instance `${train.model}`";
        self.of_kind("tree", role, help)
    }

    fn of_kind(
        &self,
        needed: &'static str,
        role: &'static str,
        help: &'static str,
    ) -> Result<&Path, KindError> {
        if self.kind == needed {
            return Ok(&self.path);
        }
        Err(KindError { role, found: self.kind.clone(), needed, help })
    }
}
