//! Inputs for the tests of the builders, and digests of what they make.

use std::path::Path;

use crate::model::network::{Head, Layer, Network};
use crate::model::{
    Document, FORMAT, Hyperparameters, Learned, Model, ModelSpec, Part, Preprocessing,
};
use crate::preprocess::Standardisation;
use crate::request::Input;

/// A file of a test as an input.
pub(crate) fn file(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> Input {
    let path = folder.join(name);
    std::fs::write(&path, &bytes).unwrap();
    let digest = blake3::hash(bytes.as_ref()).to_hex().to_string();
    Input { path, kind: "file".to_owned(), digest, executable: false }
}

/// A folder of a test as an input.
pub(crate) fn tree(path: &Path) -> Input {
    let digest = digest(path);
    Input { path: path.to_owned(), kind: "tree".to_owned(), digest, executable: false }
}

/// A digest over a file, or over all names and files below a folder.
pub(crate) fn digest(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    add(path, &mut hasher);
    hasher.finalize().to_hex().to_string()
}

fn add(path: &Path, hasher: &mut blake3::Hasher) {
    if path.is_dir() {
        let mut names: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            let text = name.to_str().unwrap();
            hasher.update(format!("{}:{text}", text.len()).as_bytes());
            add(&path.join(&name), hasher);
        }
        hasher.update(b".");
    } else {
        let bytes = std::fs::read(path).unwrap();
        hasher.update(format!("{}:", bytes.len()).as_bytes());
        hasher.update(&bytes);
    }
}

/// What a model's description says, of a training that nobody has done.
pub(crate) fn document(model: ModelSpec, classes: Vec<String>, features: Vec<String>) -> Document {
    let rows = vec![1; classes.len()];
    Document {
        format: FORMAT,
        model,
        label: "kind".to_owned(),
        classes,
        positive: None,
        features,
        ignore: vec![],
        preprocessing: Preprocessing::Standardise,
        training: Hyperparameters {
            epochs: 1,
            batch: 1,
            learning_rate: 0.5,
            optimizer: Default::default(),
            schedule: Default::default(),
            l2: 1.0,
            seed: 0,
            patience: None,
            weight: None,
            class_weights: Default::default(),
        },
        train: Part { digest: "ab".repeat(32), rows },
        valid: None,
        learned: Learned {
            epoch: 1,
            epochs_run: 1,
            train_loss: 0.5,
            train_accuracy: 0.75,
            valid_loss: None,
            valid_accuracy: None,
        },
    }
}

/// A logistic model of one feature for the label `kind` that says the first of two classes where the
/// feature is above `cut`.
pub(crate) fn model(feature: &str, classes: &[&str; 2], positive: Option<&str>, cut: f32) -> Model {
    let (classes, features) = (classes.map(str::to_owned).to_vec(), vec![feature.to_owned()]);
    let positive = positive.map(str::to_owned);
    let document = Document { positive, ..document(ModelSpec::Logistic, classes, features) };
    let layer = Layer { inputs: 1, outputs: 1, weight: vec![-1.0], bias: vec![cut] };
    let activation = Default::default();
    let network = Network { layers: vec![layer], activation, head: Head::Sigmoid };
    let standardisation = Standardisation::from_parts(vec![0.0], vec![1.0]).unwrap();
    Model::new(document, standardisation, network)
}
