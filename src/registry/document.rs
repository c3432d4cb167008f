//! The frame of every JSON document of the registry: `format` and `version`, then its own fields.
//!
//! Bytes in, values out; unaware of which documents there are. The version is looked at first, since another one
//! may have other fields.

use std::path::{Path, PathBuf};

use kiln_cache::Digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A kind of document.
pub(crate) trait Document: Serialize + DeserializeOwned {
    /// What `format` says.
    const FORMAT: &'static str;
    /// What `version` says; any change of the fields raises it.
    const VERSION: u32;
}

/// A document that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is no such document, or a damaged one.
    #[error("{} is damaged: it is not a `{format}` document", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should be.
        format: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// It says that it is something else.
    #[error("{} is damaged: it says that it is a `{found}` and should be a `{format}`", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What it should be.
        format: &'static str,
        /// What it says.
        found: String,
    },
    /// It is not as it was written.
    #[error("{} is damaged: its content has changed since it was written", .0.display())]
    Changed(PathBuf),
    /// It was written by another version of the program.
    #[error(
        "{} has version {found} of `{format}`, and this program knows only version {known}; use the version of \
         the program that wrote it",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What it is.
        format: &'static str,
        /// The version that it says.
        found: u64,
        /// The version that can be read.
        known: u32,
    },
}

#[derive(Deserialize)]
struct Head {
    format: String,
    version: u64,
    #[serde(default)]
    check: Option<Digest>,
}

#[derive(Serialize)]
struct Frame<'a, T> {
    format: &'static str,
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<Digest>,
    #[serde(flatten)]
    value: &'a T,
}

/// The canonical bytes: fields in the order of their declaration, maps sorted, two spaces, one newline at the end.
pub(crate) fn encode<T: Document>(value: &T) -> Vec<u8> {
    framed(value, None)
}

/// The same with a field `check`: the BLAKE3 of the bytes without it. For what nothing else has the digest of.
pub(crate) fn encode_checked<T: Document>(value: &T) -> Vec<u8> {
    framed(value, Some(Digest::of(&encode(value))))
}

fn framed<T: Document>(value: &T, check: Option<Digest>) -> Vec<u8> {
    let frame = Frame { format: T::FORMAT, version: T::VERSION, check, value };
    let mut bytes = serde_json::to_vec_pretty(&frame)
        .expect("a document serialises: its only maps have text for keys");
    bytes.push(b'\n');
    bytes
}

/// Reads a document that stands at `path`.
pub(crate) fn decode<T: Document>(path: &Path, bytes: &[u8]) -> Result<T, DocumentError> {
    let damaged =
        |source| DocumentError::Damaged { path: path.to_owned(), format: T::FORMAT, source };
    let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
    if head.format != T::FORMAT {
        let found = head.format.chars().take(80).flat_map(char::escape_debug).collect();
        return Err(DocumentError::Other { path: path.to_owned(), format: T::FORMAT, found });
    }
    if head.version != u64::from(T::VERSION) {
        return Err(DocumentError::Version {
            path: path.to_owned(),
            format: T::FORMAT,
            found: head.version,
            known: T::VERSION,
        });
    }
    let value = serde_json::from_slice(bytes).map_err(damaged)?;
    // A flipped digit is as good a digit. Files without a check are those of earlier versions, or mended by hand.
    let plain = encode(&value);
    if head.check.is_some_and(|check| check != Digest::of(&plain)) {
        return Err(DocumentError::Changed(path.to_owned()));
    }
    // Nor is the word `check` safe: what is not one of a document's fields was one.
    type Fields = serde_json::Map<String, serde_json::Value>;
    let found: Fields = serde_json::from_slice(bytes).map_err(damaged)?;
    let known: Fields = serde_json::from_slice(&plain).map_err(damaged)?;
    if found.keys().any(|field| field != "check" && !known.contains_key(field)) {
        return Err(DocumentError::Changed(path.to_owned()));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        number: u64,
        text: Option<String>,
    }

    impl Document for Sample {
        const FORMAT: &'static str = "kiln-sample";
        const VERSION: u32 = 1;
    }

    #[test]
    fn no_bit_of_a_checked_document_changes_unnoticed() {
        let sample = Sample { number: 3, text: Some("why".into()) };
        let bytes = encode_checked(&sample);
        let path = Path::new("x");
        assert_eq!(decode::<Sample>(path, &bytes).unwrap(), sample);
        assert_eq!(decode::<Sample>(path, &encode(&sample)).unwrap(), sample);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = decode::<Sample>(path, &bytes);
            assert!(read.is_err(), "bit {bit}: {}", String::from_utf8_lossy(&bytes));
        }
    }
}
