//! What is written down of a deployment: its generations, the switches between them, and the pointer.
//!
//! | file, under `deployments/RECIPE/NAME/` | document | changes |
//! |---|---|---|
//! | `generations/N` | [`Generation`] | never |
//! | `switches/K` | [`Switch`]; each names the one before it | never |
//! | `current` | which switch was the last, and which generation runs since | at every switch, in one move |
//!
//! Data only; unaware of how it comes to disk.

use kiln_cache::{Digest, Object};
use serde::{Deserialize, Serialize};

use crate::document::Document;

/// One numbered state of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number, from 1; never used for another.
    pub number: u64,
    /// The recipe.
    pub recipe: String,
    /// The deployment.
    pub deployment: String,
    /// The release that runs.
    pub release: Object,
    /// The model in it, if it has one.
    pub model: Option<Object>,
    /// The deployment manifest: a [`DeploymentManifest`](crate::DeploymentManifest) in the store.
    pub manifest: Object,
    /// The generation that ran when this one was deployed: where a rollback without a number goes.
    pub replaced: Option<u64>,
    /// The action keys of the release's lineage; the collector keeps their realisations.
    pub keys: Vec<Digest>,
    /// Who deployed it.
    pub by: String,
    /// Why, if anybody said.
    pub reason: Option<String>,
    /// When, in seconds since 1970.
    pub at: i64,
}

impl Generation {
    /// Every object that must be there for the generation to run and to be accounted for.
    pub fn objects(&self) -> impl Iterator<Item = Object> + use<> {
        [Some(self.release), self.model, Some(self.manifest)].into_iter().flatten()
    }

    /// Whether a release with this model is the same to those who use it: the model decides, whatever the
    /// evidence beside it; without models, the whole release.
    #[must_use]
    pub fn runs(&self, release: &Object, model: Option<&Object>) -> bool {
        match (&self.model, model) {
            (Some(own), Some(other)) => own == other,
            _ => self.release == *release,
        }
    }
}

/// What made a deployment switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwitchKind {
    /// A new generation.
    Deploy,
    /// An earlier one, again.
    Rollback,
}

/// One move of the pointer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Its number; increases, and is never used for another.
    pub number: u64,
    /// The switch before it.
    pub previous: Option<u64>,
    /// What it was.
    pub kind: SwitchKind,
    /// The generation that ran until then.
    pub from: Option<u64>,
    /// The generation that runs since.
    pub to: u64,
    /// Who did it.
    pub by: String,
    /// Why, if anybody said.
    pub reason: Option<String>,
    /// When, in seconds since 1970.
    pub at: i64,
}

/// The pointer. It is there before the first generation is, so that one that is missing beside
/// generations is known to be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pointer {
    /// What runs; `None` before the first switch.
    pub(crate) running: Option<Running>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) generation: u64,
    pub(crate) switch: u64,
}

impl Document for Generation {
    const FORMAT: &'static str = "kiln-generation";
    const VERSION: u32 = 1;
}

impl Document for Switch {
    const FORMAT: &'static str = "kiln-switch";
    const VERSION: u32 = 1;
}

impl Document for Pointer {
    const FORMAT: &'static str = "kiln-current";
    const VERSION: u32 = 1;
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::document::{DocumentError, decode, encode};

    fn generation() -> Generation {
        Generation {
            number: 2,
            recipe: "tumour".to_owned(),
            deployment: "production".to_owned(),
            release: Object::tree(Digest::from_bytes([1; 32])),
            model: Some(Object::tree(Digest::from_bytes([2; 32]))),
            manifest: Object::file(Digest::from_bytes([3; 32])),
            replaced: Some(1),
            keys: vec![Digest::from_bytes([4; 32])],
            by: "ada".to_owned(),
            reason: None,
            at: 1_764_000_000,
        }
    }

    /// Changing these bytes is a new version of the format.
    #[test]
    fn the_bytes_on_disk_are_fixed() {
        let object = |kind: &str, byte: &str| {
            let digest = byte.repeat(32);
            format!(
                "{{\n    \"kind\": \"{kind}\",\n    \"digest\": \"{digest}\",\n    \
                 \"executable\": false\n  }}"
            )
        };
        let golden = format!(
            "{{\n  \"format\": \"kiln-generation\",\n  \"version\": 1,\n  \"number\": 2,\n  \
             \"recipe\": \"tumour\",\n  \"deployment\": \"production\",\n  \"release\": {},\n  \
             \"model\": {},\n  \"manifest\": {},\n  \"replaced\": 1,\n  \"keys\": [\n    \"{}\"\n  ],\n  \
             \"by\": \"ada\",\n  \"reason\": null,\n  \"at\": 1764000000\n}}\n",
            object("tree", "01"),
            object("tree", "02"),
            object("file", "03"),
            "04".repeat(32),
        );
        assert_eq!(String::from_utf8(encode(&generation())).unwrap(), golden);
        let switch = Switch {
            number: 3,
            previous: Some(2),
            kind: SwitchKind::Rollback,
            from: Some(2),
            to: 1,
            by: "ada".to_owned(),
            reason: Some("errors".to_owned()),
            at: 5,
        };
        assert_eq!(
            String::from_utf8(encode(&switch)).unwrap(),
            "{\n  \"format\": \"kiln-switch\",\n  \"version\": 1,\n  \"number\": 3,\n  \"previous\": 2,\n  \
             \"kind\": \"rollback\",\n  \"from\": 2,\n  \"to\": 1,\n  \"by\": \"ada\",\n  \
             \"reason\": \"errors\",\n  \"at\": 5\n}\n"
        );
        let pointer = Pointer { running: Some(Running { generation: 1, switch: 3 }) };
        assert_eq!(
            String::from_utf8(encode(&pointer)).unwrap(),
            "{\n  \"format\": \"kiln-current\",\n  \"version\": 1,\n  \"running\": {\n    \
             \"generation\": 1,\n    \"switch\": 3\n  }\n}\n"
        );
    }

    #[test]
    fn documents_round_trip() {
        let read: Generation = decode(Path::new("2"), &encode(&generation())).unwrap();
        assert_eq!(read, generation());
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let newer = br#"{"format": "kiln-current", "version": 2, "something": "new"}"#;
        let error = decode::<Pointer>(Path::new("/d/current"), newer).unwrap_err();
        assert!(matches!(error, DocumentError::Version { found: 2, .. }), "{error}");
        for damaged in
            [&b""[..], b"{", b"[]", b"{\"format\": \"kiln-current\", \"version\": 1, \"runn"]
        {
            let error = decode::<Pointer>(Path::new("/d/current"), damaged).unwrap_err();
            assert!(matches!(error, DocumentError::Damaged { .. }), "{error}");
        }
        let other = br#"{"format": "kiln-switch", "version": 1}"#;
        let error = decode::<Pointer>(Path::new("/d/current"), other).unwrap_err();
        assert!(matches!(error, DocumentError::Other { .. }), "{error}");
        assert!(error.to_string().starts_with("/d/current is damaged"), "{error}");
    }

    #[test]
    fn the_model_decides_what_runs() {
        let running = generation();
        let other = Object::tree(Digest::of(b"other evidence, same model"));
        assert!(running.runs(&other, running.model.as_ref()));
        assert!(!running.runs(&running.release, Some(&other)));
        assert!(running.runs(&running.release, None));
        assert!(!running.runs(&other, None));
    }
}
