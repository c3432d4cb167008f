//! The builder `package`: a release folder, with a model, the evidence for it and a manifest.
//!
//! | in the output `out` | what |
//! |---|---|
//! | `model/` | the model folder, byte for byte: its tree digest is the input's |
//! | `README.md` | the model card, a copy of the model's own |
//! | `evidence/NAME/` | each piece of evidence; NAME is the builder that its `report.json` names, or `evidence`, with `-2`, `-3`, … for later ones of the same name; a file keeps its extension |
//! | `manifest.json` | what the release holds |
//!
//! `manifest.json`, format `kiln-release`, version 1: `model` (`digest`, `kind`, `label`, `classes`,
//! `positive`, `features`, `parameters`), `evidence` (`path`, `kind`, `digest`), `files` (`path`,
//! `bytes`, `blake3`, `executable`; all but the manifest itself, sorted by path) and `links` (`path`,
//! `target`).

mod copy;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::copy::Copied;
pub use self::copy::CopyError;
use crate::model::{CARD_FILE, Model, ModelError};
use crate::output::{self, OutputError};
use crate::request::{Input, KindError};

/// The semantic version: a change of any output byte raises it.
pub const VERSION: u32 = 1;

/// What `package` is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// The model, a folder.
    pub model: Input,
    /// What speaks for it: reports, files or folders.
    pub evidence: Vec<Input>,
}

/// Why a release could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model is not a folder.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// The model is none.
    #[error("cannot package `model`")]
    Model(#[from] ModelError),
    /// An input cannot be copied.
    #[error("cannot copy `{role}`")]
    Copy {
        /// The argument.
        role: &'static str,
        /// What is wrong.
        source: CopyError,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The log cannot be written.
    #[error("cannot write the log")]
    Log(#[source] std::io::Error),
}

#[derive(Debug, Serialize)]
struct Manifest<'a> {
    format: &'static str,
    version: u32,
    model: ModelSummary<'a>,
    evidence: Vec<Evidence<'a>>,
    files: &'a [copy::File],
    links: &'a [copy::Link],
}

#[derive(Debug, Serialize)]
struct ModelSummary<'a> {
    path: &'static str,
    digest: &'a str,
    kind: &'static str,
    label: &'a str,
    classes: &'a [String],
    positive: Option<&'a str>,
    features: &'a [String],
    parameters: usize,
}

#[derive(Debug, Serialize)]
struct Evidence<'a> {
    path: String,
    kind: &'a str,
    digest: &'a str,
}

/// Packages.
///
/// # Errors
/// When the model is none, an input holds something that a release must not (a link that leads out
/// of it, a device), or the release cannot be written.
pub fn run(
    args: &Args,
    outputs: &BTreeMap<String, PathBuf>,
    log: &mut dyn Write,
) -> Result<(), Error> {
    let release = output::place(outputs, "out")?;
    let source = args.model.tree("model")?;
    let model = Model::load(source)?;
    output::folder(release)?;
    let mut copied = Copied::default();
    let of_model = |source| Error::Copy { role: "model", source };
    copied.tree(source, release, "model").map_err(of_model)?;
    let card = source.join(CARD_FILE);
    if card.is_file() {
        copied.file(&card, release, CARD_FILE, false).map_err(of_model)?;
    }

    let mut evidence = Vec::new();
    if !args.evidence.is_empty() {
        output::folder(&release.join("evidence"))?;
    }
    for input in &args.evidence {
        let name = free_name(input, &evidence);
        let path = format!("evidence/{name}");
        let copying = if input.kind == "tree" {
            copied.tree(&input.path, release, &path)
        } else {
            copied.file(&input.path, release, &path, input.executable)
        };
        copying.map_err(|source| Error::Copy { role: "evidence", source })?;
        evidence.push(Evidence { path, kind: &input.kind, digest: &input.digest });
    }
    copied.sort();
    let manifest = Manifest {
        format: "kiln-release",
        version: 1,
        model: ModelSummary {
            path: "model",
            digest: &args.model.digest,
            kind: model.spec().kind(),
            label: model.label(),
            classes: model.classes(),
            positive: model.positive(),
            features: model.features(),
            parameters: model.parameters(),
        },
        evidence,
        files: &copied.files,
        links: &copied.links,
    };
    output::write(&release.join("manifest.json"), output::json(&manifest))?;
    let bytes: u64 = copied.files.iter().map(|file| file.bytes).sum();
    writeln!(log, "{} files, {bytes} bytes", copied.files.len()).map_err(Error::Log)?;
    Ok(())
}

/// The name under which a piece of evidence goes, distinct from those that are there.
fn free_name(input: &Input, there: &[Evidence<'_>]) -> String {
    let stem = if input.kind == "tree" { reporter(&input.path) } else { None };
    let stem = stem.unwrap_or_else(|| "evidence".to_owned());
    // An input's extension is part of what it is, unlike the rest of its path.
    let extension = match input.path.extension().and_then(|extension| extension.to_str()) {
        Some(extension) if input.kind != "tree" => format!(".{extension}"),
        _ => String::new(),
    };
    let mut name = format!("{stem}{extension}");
    let mut number = 2;
    while there.iter().any(|other| other.path == format!("evidence/{name}")) {
        name = format!("{stem}-{number}{extension}");
        number += 1;
    }
    name
}

/// The builder that a report folder says it comes from, if it says so in a plain word.
fn reporter(folder: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Head {
        builder: String,
    }
    let text = std::fs::read(folder.join("report.json")).ok()?;
    let Head { builder } = serde_json::from_slice(&text).ok()?;
    let plain = !builder.is_empty()
        && builder.len() <= 64
        && builder.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    plain.then_some(builder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    struct Released {
        _folder: tempfile::TempDir,
        release: PathBuf,
        model: Input,
    }

    fn package(change: impl FnOnce(&Path)) -> Result<Released, Error> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fixture::model("x", &["bad", "good"], Some("bad"), 2.5).save(&at("model")).unwrap();
        change(&at("model"));
        for (name, builder) in [("one", "validate"), ("two", "evaluate"), ("three", "evaluate")] {
            std::fs::create_dir(at(name)).unwrap();
            let report = format!("{{\"builder\": \"{builder}\"}}");
            std::fs::write(at(name).join("report.json"), report).unwrap();
        }
        std::fs::create_dir(at("four")).unwrap();
        std::fs::write(at("four").join("report.json"), r#"{"builder": "../../up"}"#).unwrap();
        let mut evidence: Vec<Input> =
            ["one", "two", "three", "four"].map(|name| fixture::tree(&at(name))).into();
        evidence.push(fixture::file(folder.path(), "0.csv", "a\n1\n"));
        let args = Args { model: fixture::tree(&at("model")), evidence };
        let release = at("out");
        let outputs = BTreeMap::from([("out".to_owned(), release.clone())]);
        run(&args, &outputs, &mut std::io::sink())?;
        Ok(Released { release, model: args.model, _folder: folder })
    }

    fn manifest(released: &Released) -> serde_json::Value {
        let text = std::fs::read(released.release.join("manifest.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn the_model_is_copied_byte_for_byte() {
        let released = package(|_| ()).unwrap();
        assert_eq!(fixture::digest(&released.release.join("model")), released.model.digest);
        let card = std::fs::read(released.release.join("README.md")).unwrap();
        assert_eq!(card, std::fs::read(released.release.join("model/README.md")).unwrap());
    }

    #[test]
    fn evidence_is_named_by_who_made_it_and_never_leaves_its_folder() {
        let manifest = manifest(&package(|_| ()).unwrap());
        let paths: Vec<&str> = manifest["evidence"]
            .as_array()
            .unwrap()
            .iter()
            .map(|piece| piece["path"].as_str().unwrap())
            .collect();
        assert_eq!(
            paths,
            [
                "evidence/validate",
                "evidence/evaluate",
                "evidence/evaluate-2",
                "evidence/evidence",
                "evidence/evidence.csv"
            ]
        );
    }

    #[test]
    fn the_manifest_lists_every_file_with_its_digest() {
        let released = package(|_| ()).unwrap();
        let manifest = manifest(&released);
        let files = manifest["files"].as_array().unwrap();
        for file in files {
            let bytes =
                std::fs::read(released.release.join(file["path"].as_str().unwrap())).unwrap();
            assert_eq!(file["bytes"], bytes.len());
            assert_eq!(file["blake3"], blake3::hash(&bytes).to_hex().as_str());
        }
        assert_eq!(files.len(), 3 + 1 + 5);
        assert_eq!(manifest["model"]["kind"], "logistic");
        assert_eq!(manifest["model"]["digest"], released.model.digest.as_str());
    }

    #[test]
    fn links_that_lead_out_and_folders_without_a_model_are_refused() {
        let link = |model: &Path| {
            std::fs::write(model.with_file_name("secret"), "").unwrap();
            std::os::unix::fs::symlink("../secret", model.join("link")).unwrap();
        };
        assert!(matches!(package(link), Err(Error::Copy { role: "model", .. })));
        let damage = |model: &Path| std::fs::remove_file(model.join("model.json")).unwrap();
        assert!(matches!(package(damage), Err(Error::Model(_))));
    }

    /// A change of this digest is a change of the output, so it needs a new `VERSION`.
    #[test]
    fn the_output_of_version_1_is_fixed() {
        assert_eq!(VERSION, 1);
        assert_eq!(fixture::digest(&package(|_| ()).unwrap().release), GOLDEN);
    }

    const GOLDEN: &str = "11f40286236478e5b0c4f09f988e179c2a38e0c74a12d53a31a6de993bee0d49";
}
