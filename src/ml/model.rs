//! A trained classifier and the folder that it is kept in.
//!
//! The folder holds `model.safetensors` (the numbers), `model.json` (what they mean) and `README.md`
//! (the same for a reader). The same training writes the same bytes on every machine. Loading trusts
//! nothing: a damaged or hostile folder is an error. Unaware of how models are trained or judged.

mod card;
mod document;
pub(crate) mod network;
pub(crate) mod trees;
mod weights;

use std::path::{Path, PathBuf};

use kiln_kernels::{Cpu, Threads};

pub use self::document::{
    ClassWeights, GbdtSpec, Hyperparameters, Learned, ModelSpec, Optimizer, Part, Schedule,
    TreeGrowth,
};
pub(crate) use self::document::{Document, FORMAT, Preprocessing};
pub use self::network::Activation;
use self::network::{Head, Network};
use self::trees::Trees;
use crate::preprocess::{Standardisation, matrix, matrix_with_gaps, narrowed};
use crate::table::{Table, TableError};

/// The file with the model's numbers.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The file with the model's description.
pub const DOCUMENT_FILE: &str = "model.json";
/// The file with the model card.
pub const CARD_FILE: &str = "README.md";

/// Why a model could not be loaded, saved or applied.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file of the folder could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the folder could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `model.json` does not parse.
    #[error("{} is not a model's description", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The folder is of another version.
    #[error(
        "{} has format {found}, this kiln reads format {FORMAT}; help: train the model again, or \
         use the kiln that wrote it", path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// A file contradicts itself or the other one.
    #[error("{} is damaged: {fault}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        fault: String,
    },
    /// Rows that are not rows × features.
    #[error("{values} values are not whole rows of {features} features")]
    Shape {
        /// Values that were given.
        values: usize,
        /// The model's features.
        features: usize,
    },
    /// A probability is not a number: a value is too far out for the model's arithmetic.
    #[error(
        "row {row} gives no finite probability; help: look for a value of a wrong order of magnitude"
    )]
    NotFinite {
        /// The row, counted from 0.
        row: usize,
    },
}

/// A trained classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    document: Document,
    body: Body,
}

/// The part of a model that computes.
#[derive(Clone, Debug, PartialEq)]
enum Body {
    Network { standardisation: Standardisation, network: Network },
    Trees(Trees),
}

impl Model {
    pub(crate) fn new(
        document: Document,
        standardisation: Standardisation,
        network: Network,
    ) -> Model {
        Model { document, body: Body::Network { standardisation, network } }
    }

    pub(crate) fn of_trees(document: Document, trees: Trees) -> Model {
        Model { document, body: Body::Trees(trees) }
    }

    /// Reads a model folder.
    ///
    /// # Errors
    /// If a file is missing, of another version, or damaged in any way.
    pub fn load(dir: &Path) -> Result<Model, ModelError> {
        let [document, weights] = [DOCUMENT_FILE, WEIGHTS_FILE].map(|name| read(&dir.join(name)));
        Model::parse(dir, &document?, &weights?)
    }

    /// The model that the two files' bytes hold; `dir` is for messages.
    fn parse(dir: &Path, text: &[u8], bytes: &[u8]) -> Result<Model, ModelError> {
        let path = dir.join(DOCUMENT_FILE);
        let syntax = |source| ModelError::Syntax { path: path.clone(), source };
        #[derive(serde::Deserialize)]
        struct Version {
            format: u64,
        }
        let Version { format } = serde_json::from_slice(text).map_err(syntax)?;
        if format != u64::from(FORMAT) {
            return Err(ModelError::Format { path, found: format });
        }
        let document: Document = serde_json::from_slice(text).map_err(syntax)?;
        if let Some(fault) = document.fault() {
            return Err(ModelError::Damaged { path, fault });
        }
        let path = dir.join(WEIGHTS_FILE);
        let damaged = |fault| ModelError::Damaged { path: path.clone(), fault };
        if let ModelSpec::Gbdt(_) = document.model {
            let outputs = Head::of(document.classes.len()).outputs();
            let trees = Trees::decode(bytes, outputs, document.features.len()).map_err(damaged)?;
            return Ok(Model { document, body: Body::Trees(trees) });
        }
        let (layers, standardisation) =
            weights::decode(bytes, &document.shapes()).map_err(damaged)?;
        let activation = document.model.activation();
        let network = Network { layers, activation, head: Head::of(document.classes.len()) };
        if !network.is_finite() {
            return Err(damaged("a weight is not a finite number".to_owned()));
        }
        Ok(Model { document, body: Body::Network { standardisation, network } })
    }

    /// Writes the model folder; `dir` is made if it is not there.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), ModelError> {
        let at = |name: &str| {
            let path = dir.join(name);
            move |source| ModelError::Write { path, source }
        };
        std::fs::create_dir_all(dir).map_err(at(""))?;
        let encoded = self.body.encode();
        let bytes = encoded.map_err(|error| at(WEIGHTS_FILE)(std::io::Error::other(error)))?;
        std::fs::write(dir.join(WEIGHTS_FILE), bytes).map_err(at(WEIGHTS_FILE))?;
        let mut text = serde_json::to_string_pretty(&self.document)
            .map_err(|error| at(DOCUMENT_FILE)(error.into()))?;
        text.push('\n');
        std::fs::write(dir.join(DOCUMENT_FILE), text).map_err(at(DOCUMENT_FILE))?;
        let card = self.card();
        std::fs::write(dir.join(CARD_FILE), card).map_err(at(CARD_FILE))
    }

    /// The columns that the model reads, in the order of its inputs.
    pub fn features(&self) -> &[String] {
        &self.document.features
    }

    /// The column that it predicts.
    pub fn label(&self) -> &str {
        &self.document.label
    }

    /// The label's values, sorted; probabilities come in this order.
    pub fn classes(&self) -> &[String] {
        &self.document.classes
    }

    /// The class that counts as positive, if one was named; only of two classes.
    pub fn positive(&self) -> Option<&str> {
        self.document.positive.as_deref()
    }

    /// Columns of the training data that were left out on purpose.
    pub fn ignored(&self) -> &[String] {
        &self.document.ignore
    }

    /// The kind of model.
    pub fn spec(&self) -> &ModelSpec {
        &self.document.model
    }

    /// How it was trained.
    pub fn training(&self) -> &Hyperparameters {
        &self.document.training
    }

    /// What its weights reached in training.
    pub fn learned(&self) -> &Learned {
        &self.document.learned
    }

    /// The part that computes, if it is layers: what happens to a row before the first one, and the
    /// layers.
    pub(crate) fn network(&self) -> Option<(&Standardisation, &Network)> {
        match &self.body {
            Body::Network { standardisation, network } => Some((standardisation, network)),
            Body::Trees(_) => None,
        }
    }

    /// The part that computes, if it is trees.
    pub(crate) fn trees(&self) -> Option<&Trees> {
        match &self.body {
            Body::Network { .. } => None,
            Body::Trees(trees) => Some(trees),
        }
    }

    fn card(&self) -> String {
        let standardisation = match &self.body {
            Body::Network { standardisation, .. } => Some(standardisation),
            Body::Trees(_) => None,
        };
        card::card(&self.document, standardisation, self.parameters())
    }

    /// The model's features of each row of a table (rows × features), as [`Model::probabilities`]
    /// takes them; NaN for what is missing, if the model knows what to do with it.
    ///
    /// # Errors
    /// If a column is not there, or a cell holds what the model cannot read.
    pub fn rows(&self, table: &Table) -> Result<Vec<f64>, TableError> {
        match &self.body {
            Body::Network { .. } => matrix(table, self.features()),
            Body::Trees(_) => matrix_with_gaps(table, self.features()),
        }
    }

    /// How many numbers training has set; of trees, their nodes.
    pub fn parameters(&self) -> usize {
        match &self.body {
            Body::Network { network, .. } => {
                network.layers.iter().map(|layer| layer.weight.len() + layer.bias.len()).sum()
            }
            Body::Trees(trees) => trees.nodes(),
        }
    }

    /// The probability of each class (rows × classes, row by row) for `rows` (rows × features, row by
    /// row, not yet standardised; see [`crate::preprocess::matrix`]). The number of threads does not
    /// change a bit.
    ///
    /// # Errors
    /// If `rows` is not whole rows, or a row overflows the model's arithmetic.
    pub fn probabilities(&self, rows: &[f64], threads: usize) -> Result<Vec<f32>, ModelError> {
        let features = self.features().len();
        if !rows.len().is_multiple_of(features) {
            return Err(ModelError::Shape { values: rows.len(), features });
        }
        let cpu = Cpu::new(Threads(threads));
        let out = match &self.body {
            Body::Network { standardisation, network } => {
                network.probabilities(&cpu, &standardisation.apply(rows))
            }
            Body::Trees(trees) => {
                let scores = trees.scores(&cpu, &narrowed(rows), features);
                Head::of(self.classes().len()).probabilities(&cpu, scores)
            }
        };
        match out.iter().position(|p| !p.is_finite()) {
            Some(place) => Err(ModelError::NotFinite { row: place / self.classes().len() }),
            None => Ok(out),
        }
    }
}

impl Body {
    fn encode(&self) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        match self {
            Body::Network { standardisation, network } => {
                weights::encode(&network.layers, standardisation)
            }
            Body::Trees(trees) => trees.encode(),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    std::fs::read(path).map_err(|source| ModelError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network::Layer;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// Two features, one hidden layer of two, two classes.
    fn small() -> Model {
        let document = Document {
            format: FORMAT,
            model: ModelSpec::Mlp { hidden: vec![2], activation: Activation::Relu, dropout: 0.0 },
            label: "kind".to_owned(),
            classes: names(&["no", "yes"]),
            positive: Some("yes".to_owned()),
            features: names(&["a", "b"]),
            ignore: names(&["id"]),
            preprocessing: Preprocessing::Standardise,
            training: Hyperparameters {
                epochs: 3,
                batch: 2,
                learning_rate: 0.001,
                optimizer: Optimizer::Adam,
                schedule: Schedule::Constant,
                l2: 1.0,
                seed: 7,
                patience: None,
                weight: None,
                class_weights: ClassWeights::Equal,
            },
            train: Part { digest: "ab".repeat(32), rows: vec![3, 4] },
            valid: None,
            learned: Learned {
                epoch: 3,
                epochs_run: 3,
                train_loss: 0.5,
                train_accuracy: 0.75,
                valid_loss: None,
                valid_accuracy: None,
            },
        };
        let hidden = vec![1.0, -1.0, 0.5, 2.0];
        let first = Layer { inputs: 2, outputs: 2, weight: hidden, bias: vec![0.25, -0.5] };
        let last = Layer { inputs: 2, outputs: 1, weight: vec![1.5, -2.0], bias: vec![0.125] };
        let standardisation = Standardisation::from_parts(vec![1.0, 2.0], vec![2.0, 4.0]).unwrap();
        let network = Network {
            layers: vec![first, last],
            activation: Activation::Relu,
            head: Head::Sigmoid,
        };
        Model::new(document, standardisation, network)
    }

    fn saved() -> (tempfile::TempDir, Model) {
        let (dir, model) = (tempfile::tempdir().unwrap(), small());
        model.save(dir.path()).unwrap();
        (dir, model)
    }

    #[test]
    fn a_saved_model_loads_as_it_was() {
        let (dir, model) = saved();
        assert_eq!(Model::load(dir.path()).unwrap(), model);
    }

    #[test]
    fn the_folders_bytes_are_golden() {
        let (dir, _) = saved();
        let digest = |name: &str| {
            blake3::hash(&std::fs::read(dir.path().join(name)).unwrap()).to_hex()[..16].to_owned()
        };
        let digests = [WEIGHTS_FILE, DOCUMENT_FILE, CARD_FILE].map(digest);
        assert_eq!(digests, ["8e3a003410078d67", "3b100ff2cf3fb842", "37914f2ce1ee3b96"]);
    }

    #[test]
    fn probabilities_are_the_networks_by_hand() {
        // Row (3, 6) standardises to (1, 1): hidden (1.75, 0.5), logit 1.5 · 1.75 - 2 · 0.5 + 0.125.
        let p = small().probabilities(&[3.0, 6.0, 1.0, 2.0], 1).unwrap();
        let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
        // Row (1, 2) standardises to (0, 0): hidden (0.25, 0).
        for (got, want) in p.iter().zip([-1.75, 1.75, -0.5, 0.5].map(sigmoid)) {
            assert!((f64::from(*got) - want).abs() < 1e-6, "{p:?}");
        }
    }

    #[test]
    fn rows_of_a_wrong_width_and_overflow_are_errors() {
        let model = small();
        assert!(matches!(model.probabilities(&[1.0; 3], 1), Err(ModelError::Shape { .. })));
        let far = model.probabilities(&[1.0, 1.0, 1e300, -1e300], 1);
        assert!(matches!(far, Err(ModelError::NotFinite { row: 1 })), "{far:?}");
    }

    #[test]
    fn a_folder_of_another_version_is_refused_with_advice() {
        let (dir, _) = saved();
        let path = dir.path().join(DOCUMENT_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"format\": 1", "\"format\": 9")).unwrap();
        let message = Model::load(dir.path()).unwrap_err().to_string();
        assert!(message.contains("has format 9, this kiln reads format 1; help:"), "{message}");
    }

    #[test]
    fn contradictions_between_the_files_are_found() {
        let edits = [
            ("\"no\"", "\"zz\"", "sorted"),
            ("\"positive\": \"yes\"", "\"positive\": \"maybe\"", "not among"),
            ("\"a\",", "\"b\",", "each once"),
            (
                "\"b\"\n",
                "\"b\", \"c\"\n",
                "`preprocess.mean` is F64 [2] where the model has F64 [3]",
            ),
            ("      2\n", "      3\n", "`layers.0.weight` is F32 [2, 2]"),
            ("      2\n", "      4294967295, 4294967295\n", "`layers.0.weight` is F32"),
            ("      2\n", "      2, 2\n", "`layers.1.weight`"),
            ("      2\n", "      0\n", "no units"),
        ];
        for (from, to, want) in edits {
            let (dir, _) = saved();
            let path = dir.path().join(DOCUMENT_FILE);
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{from:?} in {text}");
            std::fs::write(&path, text.replace(from, to)).unwrap();
            let message = Model::load(dir.path()).unwrap_err().to_string();
            assert!(message.contains(want), "{to:?}: {message}");
        }
    }

    #[test]
    fn no_folder_makes_the_reader_break_its_word() {
        const END: &[u8] = b"|END|";
        let (dir, _) = saved();
        let [document, weights] =
            [DOCUMENT_FILE, WEIGHTS_FILE].map(|name| std::fs::read(dir.path().join(name)).unwrap());
        let sample = [&document[..], END, &weights[..]].concat();
        kiln_fuzzing::Fuzz::new("model")
            .samples([sample])
            .words([
                "1e400",
                "-1",
                "4294967295",
                "[",
                "{",
                "\"",
                "null",
                "true",
                "F64",
                "BF16",
                "\\u0000",
            ])
            .bytes(|bytes| {
                let at = bytes.windows(END.len()).position(|part| part == END);
                let Some(at) = at else { return };
                let (text, weights) = (&bytes[..at], &bytes[at + END.len()..]);
                let Ok(model) = Model::parse(Path::new("m"), text, weights) else { return };
                let _ = model.probabilities(&vec![1.0; model.features().len()], 1);
                let again = model.body.encode().unwrap();
                let text = serde_json::to_vec(&model.document).unwrap();
                let read = Model::parse(Path::new("m"), &text, &again);
                assert_eq!(read.expect("what was written is read"), model);
                let _ = model.card();
            });
    }

    #[test]
    fn no_damage_to_a_file_panics() {
        let (dir, model) = saved();
        let files =
            [DOCUMENT_FILE, WEIGHTS_FILE].map(|name| std::fs::read(dir.path().join(name)).unwrap());
        let parse = |files: &[Vec<u8>; 2]| Model::parse(dir.path(), &files[0], &files[1]);
        for file in 0..2 {
            for cut in 0..files[file].len() {
                let mut files = files.clone();
                files[file].truncate(cut);
                let parsed = parse(&files);
                // Only the line end after the closing brace may go.
                assert!(parsed.is_err() || parsed.is_ok_and(|m| m == model), "{file} cut at {cut}");
            }
            for place in 0..files[file].len() {
                for flip in [0x01, 0x80, 0xff] {
                    let mut files = files.clone();
                    files[file][place] ^= flip;
                    if let Ok(model) = parse(&files) {
                        let _ = model.probabilities(&vec![1.0; model.features().len()], 1);
                    }
                }
            }
        }
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(Model::load(empty.path()), Err(ModelError::Read { .. })));
    }
}
