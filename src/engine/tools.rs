//! The programs that a step names in `tools`, and what they consist of.
//!
//! It finds the real program behind shims, the package or prefix that it belongs to, and facts about it that are the
//! same on every machine where the program is the same. It runs nothing, and is unaware of sandboxes and keys.

use std::path::PathBuf;

/// One tool, found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The name under which a step calls it.
    pub name: String,
    /// The real program.
    pub program: PathBuf,
    /// What identifies it: label and value, in a fixed order.
    pub fingerprint: Vec<(String, String)>,
}

/// What a step with `tools` can see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolSet {
    /// The tools that were asked for, sorted by name, then the core utilities as one.
    pub entries: Vec<Tool>,
    /// What stands in the step's `PATH`: name and program.
    pub programs: Vec<(String, PathBuf)>,
    /// Host paths that have to be visible at their own place, read-only: files, folders, and links that are to be
    /// made again.
    pub binds: Vec<PathBuf>,
    /// Whether some part could not be told apart from the host, whose identity then belongs in the key.
    pub host_fallback: bool,
}
