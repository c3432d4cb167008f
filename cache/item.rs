//! What the collector decides upon: objects and realisations, by name.
//!
//! Unaware of where they lie and of who needs them.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::object::Object;

/// Something that the collector decides upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Item {
    /// A file or tree.
    Object(Object),
    /// All attempts recorded under a key.
    Realisation(Digest),
}

impl Item {
    /// The digest that names it: an object's content, or a realisation's key.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        match self {
            Self::Object(object) => &object.digest,
            Self::Realisation(key) => key,
        }
    }
}
