//! What the store holds: immutable files and trees, each named by kind and digest.
//!
//! Unaware of where an object lies on disk.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};

/// Whether an object is a file or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One regular file; its digest is that of its bytes.
    File,
    /// A folder; its digest is that of its canonical listing.
    Tree,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::File => "file",
            Self::Tree => "tree",
        })
    }
}

/// The name of an object: `file:HEX`, `file:HEX+x` or `tree:HEX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct Object {
    /// File or tree; the same digest of the other kind is another object.
    pub kind: Kind,
    /// The digest of the content.
    pub digest: Digest,
    /// Whether the file may be executed; always false for a tree.
    pub executable: bool,
}

/// An object as it is read, before it is one.
#[derive(Deserialize)]
#[serde(rename = "Object")]
struct Fields {
    kind: Kind,
    digest: Digest,
    executable: bool,
}

impl TryFrom<Fields> for Object {
    type Error = ObjectError;

    fn try_from(Fields { kind, digest, executable }: Fields) -> Result<Self, ObjectError> {
        let object = Self { kind, digest, executable };
        if kind == Kind::Tree && executable {
            return Err(ObjectError::Form(object.to_string()));
        }
        Ok(object)
    }
}

impl Object {
    /// The plain file with this digest.
    #[must_use]
    pub const fn file(digest: Digest) -> Self {
        Self { kind: Kind::File, digest, executable: false }
    }

    /// The executable file with this digest.
    #[must_use]
    pub const fn program(digest: Digest) -> Self {
        Self { kind: Kind::File, digest, executable: true }
    }

    /// The tree with this digest.
    #[must_use]
    pub const fn tree(digest: Digest) -> Self {
        Self { kind: Kind::Tree, digest, executable: false }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.kind, self.digest, if self.executable { "+x" } else { "" })
    }
}

/// A text that names no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The text does not begin with `file:` or `tree:`, or a tree is said to be executable.
    #[error("`{0}` names no object: expected `file:HEX`, `file:HEX+x` or `tree:HEX`")]
    Form(String),
    /// What stands where the digest should is none.
    #[error("not the name of an object")]
    Digest(#[from] DigestError),
}

impl FromStr for Object {
    type Err = ObjectError;

    fn from_str(text: &str) -> Result<Self, ObjectError> {
        match text.split_once(':') {
            Some(("file", rest)) => match rest.strip_suffix("+x") {
                Some(hex) => Ok(Self::program(hex.parse()?)),
                None => Ok(Self::file(rest.parse()?)),
            },
            Some(("tree", rest)) => Ok(Self::tree(rest.parse()?)),
            _ => Err(ObjectError::Form(text.chars().take(80).collect())),
        }
    }
}

/// What was taken into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ingested {
    /// The object that now is in the store.
    pub object: Object,
    /// Bytes of its file, or of all of its files.
    pub bytes: u64,
    /// How many files it has; 1 for a file.
    pub files: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let digest = Digest::of(b"abc");
        for object in [Object::file(digest), Object::program(digest), Object::tree(digest)] {
            assert_eq!(object.to_string().parse::<Object>().unwrap(), object);
            let json = serde_json::to_string(&object).unwrap();
            assert_eq!(serde_json::from_str::<Object>(&json).unwrap(), object);
        }
        assert_eq!(Object::program(digest).to_string(), format!("file:{digest}+x"));
        assert_eq!(
            serde_json::to_value(Object::tree(digest)).unwrap(),
            serde_json::json!({"kind": "tree", "digest": digest.to_string(), "executable": false})
        );
    }

    #[test]
    fn other_texts_are_refused() {
        let digest = Digest::of(b"");
        for text in
            ["", "file", "file:", "dir:00", &digest.to_string(), &format!("tree:{digest}+x")]
        {
            assert!(text.parse::<Object>().is_err(), "{text}");
        }
    }
}
