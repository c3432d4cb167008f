//! The deployment manifest: what a generation is made of, and where all of it came from.
//!
//! An object of the store, named by its content: the same release, from the same lineage, to the same place,
//! gives the same bytes, whoever deploys it, when and where. This module is unaware of how a lineage is found.

use std::{collections::BTreeMap, path::Path};

use kiln_cache::{Digest, FsError, Isolation, Object, Store};
use serde::{Deserialize, Serialize};

use crate::document::{self, Document, DocumentError};

/// What is deployed, where to, and the steps that made it.
///
/// As JSON: `format` is `kiln-deployment`, `version` 1; then the fields in this order, maps sorted by key, two
/// spaces of indentation and a newline at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentManifest {
    /// The recipe.
    pub recipe: String,
    /// The deployment.
    pub deployment: String,
    /// The release.
    pub release: Object,
    /// The model in it, if it has one.
    pub model: Option<Object>,
    /// The deployment that had to run the same model first.
    pub after: Option<String>,
    /// Where the release came from.
    #[serde(flatten)]
    pub lineage: Lineage,
}

/// Where a release came from: the steps behind it, what they read from outside, and with which parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The steps, inputs before what needs them.
    pub steps: Vec<LineageStep>,
    /// The sources, by name; those that were absent are not here.
    pub sources: BTreeMap<String, Object>,
    /// The parameters, as canonical text.
    pub params: BTreeMap<String, String>,
}

/// One step of a lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageStep {
    /// Its name.
    pub step: String,
    /// Its builder and version: `train@1`.
    pub builder: String,
    /// Its action key.
    pub action_key: Digest,
    /// What it said; `None` if it is no gate.
    pub verdict: Option<LineageVerdict>,
    /// How well it was shut off from the machine that it ran on.
    pub isolation: Isolation,
    /// What it made, by name.
    pub outputs: BTreeMap<String, Object>,
}

/// What a gate said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageVerdict {
    /// Whether everything that it asked for held.
    pub accepted: bool,
    /// Why.
    pub reason: String,
}

impl Document for DeploymentManifest {
    const FORMAT: &'static str = "kiln-deployment";
    const VERSION: u32 = 1;
}

impl Lineage {
    /// The action keys of its steps.
    #[must_use]
    pub fn keys(&self) -> Vec<Digest> {
        self.steps.iter().map(|step| step.action_key).collect()
    }
}

impl DeploymentManifest {
    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        document::encode(self)
    }

    /// Reads a manifest that stands at `path`.
    ///
    /// # Errors
    /// If it is damaged, something else, or of another version.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, DocumentError> {
        document::decode(path, bytes)
    }

    /// Puts it into the store.
    ///
    /// # Errors
    /// If the disk cannot be written to.
    pub fn store(&self, store: &Store) -> Result<Object, FsError> {
        store.put_bytes(&self.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> DeploymentManifest {
        DeploymentManifest {
            recipe: "r".to_owned(),
            deployment: "production".to_owned(),
            release: Object::tree(Digest::from_bytes([1; 32])),
            model: None,
            after: Some("staging".to_owned()),
            lineage: Lineage {
                steps: vec![LineageStep {
                    step: "quality".to_owned(),
                    builder: "evaluate@1".to_owned(),
                    action_key: Digest::from_bytes([2; 32]),
                    verdict: Some(LineageVerdict { accepted: true, reason: "f1 ok".to_owned() }),
                    isolation: Isolation::Full,
                    outputs: BTreeMap::new(),
                }],
                sources: BTreeMap::new(),
                params: BTreeMap::from([("epochs".to_owned(), "60".to_owned())]),
            },
        }
    }

    /// Changing these bytes is a new version of the format.
    #[test]
    fn the_bytes_are_fixed() {
        let golden = format!(
            r#"{{
  "format": "kiln-deployment",
  "version": 1,
  "recipe": "r",
  "deployment": "production",
  "release": {{
    "kind": "tree",
    "digest": "{}",
    "executable": false
  }},
  "model": null,
  "after": "staging",
  "steps": [
    {{
      "step": "quality",
      "builder": "evaluate@1",
      "action_key": "{}",
      "verdict": {{
        "accepted": true,
        "reason": "f1 ok"
      }},
      "isolation": "full",
      "outputs": {{}}
    }}
  ],
  "sources": {{}},
  "params": {{
    "epochs": "60"
  }}
}}
"#,
            "01".repeat(32),
            "02".repeat(32)
        );
        assert_eq!(String::from_utf8(manifest().to_bytes()).unwrap(), golden);
        let read = DeploymentManifest::from_bytes(Path::new("m"), golden.as_bytes()).unwrap();
        assert_eq!(read, manifest());
    }
}
