//! The record *action key → outputs, verdict, isolation, log, cost*.
//!
//! Defines the record and its frame on disk. Unaware of what a key is made of and of where records
//! are kept.

use serde::{Deserialize, Serialize};

use crate::codec::{self, FrameError};
use crate::digest::Digest;
use crate::object::Object;

/// First bytes of a realisation's frame.
pub(crate) const MAGIC: [u8; 4] = *b"KLNR";
/// Version of the payload; any change of [`Realisation`]'s fields raises it.
pub(crate) const VERSION: u32 = 1;

/// What came of carrying out a derivation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Realisation {
    /// The action key that was carried out.
    pub key: Digest,
    /// Number of this result under its key, from 1; set by [`Store::record`](crate::Store::record).
    pub attempt: u32,
    /// Recipe in which it was first made; informational.
    pub recipe: String,
    /// Step for which it was first made; informational.
    pub step: String,
    /// Builder and version, such as `train@1`.
    pub builder: String,
    /// What was made, in the order of the derivation's outputs.
    pub outputs: Vec<Output>,
    /// What a gate said; `None` if there was no gate.
    pub verdict: Option<Verdict>,
    /// How well the step was shut off from the rest of the machine.
    pub isolation: Isolation,
    /// What the step promised about a second run.
    pub determinism: Determinism,
    /// Canonical text of the key manifest; opaque to the store.
    pub manifest: String,
    /// What the step printed.
    pub log: Option<Object>,
    /// Further objects to keep with the record, such as snapshots of sources.
    pub refs: Vec<Object>,
    /// What it took.
    pub cost: Cost,
    /// The boot of the machine during which it was recorded; set by the store.
    pub boot: String,
    /// The group of records with which it was flushed; set by the store.
    pub group: u64,
}

/// One named output of a realisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The output's name.
    pub name: String,
    /// Its content.
    pub object: Object,
    /// Bytes of the file, or of all files of the tree.
    pub bytes: u64,
    /// The extension under which a later step sees it, with no leading dot; may be empty.
    pub extension: String,
    /// Place of the input that it aliases. The object then need not be in the store.
    pub alias: Option<u32>,
}

/// What a gate said. A rejection is a result, not a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether everything that the gate asked for holds.
    pub accepted: bool,
    /// Why, for a person.
    pub reason: String,
}

/// How well a step was shut off from the machine; a stronger degree is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A fresh folder and a clean environment only.
    Off,
    /// What an ordinary container or an old kernel allows.
    Partial,
    /// The whole sandbox.
    Full,
}

/// What a step promises about a second run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Determinism {
    /// It gives the same bytes.
    Bitwise,
    /// Nothing is promised.
    None,
    /// Its numbers are the same within a bound, and all else is.
    Tolerance,
}

/// What a realisation took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// When it started, in milliseconds since 1970.
    pub started_ms: i64,
    /// Seconds by the clock.
    pub seconds: f64,
    /// Seconds of processor time, all processes together.
    pub cpu_seconds: f64,
    /// Greatest memory in use, in bytes; 0 if it was not measured.
    pub peak_memory: u64,
    /// Bytes of all inputs.
    pub input_bytes: u64,
    /// Bytes of all outputs that are no aliases.
    pub output_bytes: u64,
}

impl Realisation {
    /// The record as it stands on disk.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(MAGIC, VERSION, self)
    }

    /// Reads a record as it stands on disk.
    ///
    /// # Errors
    /// If the frame is damaged, of another version, or not a realisation's.
    pub fn decode(frame: &[u8]) -> Result<Self, FrameError> {
        codec::decode(MAGIC, VERSION, frame)
    }

    /// Reads the record of a key as it stands on disk, or says what is wrong with it.
    pub(crate) fn decode_under(frame: &[u8], key: &Digest) -> Result<Self, String> {
        match Self::decode(frame) {
            Ok(realisation) if realisation.key == *key => Ok(realisation),
            Ok(realisation) => Err(format!("the record is that of the key {}", realisation.key)),
            Err(error) => Err(format!("the record is unusable: {error}")),
        }
    }

    /// Names the record by all that it says, its attempt included.
    #[must_use]
    pub fn checksum(&self) -> Digest {
        let sum = codec::checksum(&self.encode());
        Digest::from_bytes(sum.expect("a frame ends with its checksum"))
    }

    /// The output of this name.
    #[must_use]
    pub fn output(&self, name: &str) -> Option<&Output> {
        self.outputs.iter().find(|output| output.name == name)
    }

    /// Every object that must be kept for the record to be of use: outputs, log, references.
    pub fn objects(&self) -> impl Iterator<Item = Object> + '_ {
        let outputs = self.outputs.iter().map(|output| output.object);
        outputs.chain(self.log).chain(self.refs.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Realisation {
        Realisation {
            key: Digest::of(b"key"),
            attempt: 2,
            recipe: "tumour".into(),
            step: "train".into(),
            builder: "train@1".into(),
            outputs: vec![
                Output {
                    name: "model".into(),
                    object: Object::tree(Digest::of(b"tree")),
                    bytes: 5,
                    extension: String::new(),
                    alias: None,
                },
                Output {
                    name: "data".into(),
                    object: Object::program(Digest::of(b"abc")),
                    bytes: 3,
                    extension: "csv.gz".into(),
                    alias: Some(1),
                },
            ],
            verdict: Some(Verdict { accepted: false, reason: "too low".into() }),
            isolation: Isolation::Full,
            determinism: Determinism::Bitwise,
            manifest: "builder train@1\n".into(),
            log: Some(Object::file(Digest::of(b"log"))),
            refs: vec![Object::file(Digest::of(b"source"))],
            cost: Cost {
                started_ms: 1_700_000_000_123,
                seconds: 1.5,
                cpu_seconds: 2.25,
                peak_memory: 1 << 20,
                input_bytes: 7,
                output_bytes: 5,
            },
            boot: "0f6f".into(),
            group: 3,
        }
    }

    #[test]
    fn golden_frame() {
        let frame = sample().encode();
        assert_eq!(&frame[..8], b"KLNR\x01\0\0\0");
        assert_eq!(frame.len(), 477);
        assert_eq!(
            Digest::of(&frame).to_string(),
            "e45a7c1d8a1116902245f090e3ec0330a5b6a02ed3e02d75c11724cb7b3648a0"
        );
        assert_eq!(Realisation::decode(&frame).unwrap(), sample());
    }

    #[test]
    fn json_names_everything_in_words() {
        let json = serde_json::to_value(sample()).unwrap();
        assert_eq!(json["isolation"], "full");
        assert_eq!(json["determinism"], "bitwise");
        assert_eq!(json["outputs"][0]["object"]["kind"], "tree");
        assert_eq!(json["key"], Digest::of(b"key").to_string());
        assert_eq!(serde_json::from_value::<Realisation>(json).unwrap(), sample());
    }

    #[test]
    fn degrees_of_isolation_are_ordered() {
        assert!(Isolation::Off < Isolation::Partial && Isolation::Partial < Isolation::Full);
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(at in any::<prop::sample::Index>(), flip in 1u8..=255) {
            let mut frame = sample().encode();
            let at = at.index(frame.len());
            frame[at] ^= flip;
            prop_assert!(Realisation::decode(&frame).is_err());
        }

        #[test]
        fn a_frame_cut_short_or_made_longer_is_noticed(at in any::<prop::sample::Index>()) {
            let frame = sample().encode();
            prop_assert!(Realisation::decode(&frame[..at.index(frame.len())]).is_err());
            prop_assert!(Realisation::decode(&[&frame[..], b"x"].concat()).is_err());
        }
    }
}
