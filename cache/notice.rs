//! What the store has to say to a person, since it prints nothing itself.

use std::path::PathBuf;

/// Something that the store found and dealt with, and that a person may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Where.
    pub path: PathBuf,
    /// What was found and done, a fragment without a full stop.
    pub what: String,
}
