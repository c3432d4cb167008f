//! `model.json`: everything about a model but its numbers.
//!
//! Holds nothing about when, where or by whom it was made: the same training gives the same bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::network::Activation;

/// The version of the folder's format that this code writes and reads.
pub(crate) const FORMAT: u32 = 1;

/// The kind of model, with what shapes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum ModelSpec {
    /// Logistic regression: softmax over more than two classes.
    Logistic,
    /// A multi-layer perceptron.
    Mlp {
        /// Units of each hidden layer, first to last.
        hidden: Vec<u32>,
        /// What stands between its layers.
        #[serde(default)]
        activation: Activation,
        /// Share of each hidden layer's units that a training step leaves out, at least 0 and below 1.
        #[serde(default)]
        dropout: f64,
    },
    /// Gradient-boosted trees over histograms; a round makes one tree, or one a class if there are
    /// more than two.
    Gbdt(GbdtSpec),
}

/// What shapes boosted trees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GbdtSpec {
    /// What each tree's leaves are multiplied with.
    pub learning_rate: f64,
    /// Which node is split next.
    pub growth: TreeGrowth,
    /// Edges from a root to its deepest leaf, at most.
    pub depth: u32,
    /// Leaves of a tree, at most; without it as many as the depth allows.
    pub leaves: Option<u32>,
    /// Bins of a feature, at most, the one for missing values aside.
    pub bins: u32,
    /// The least sum of second derivatives in a child.
    pub min_child_weight: f64,
    /// The fewest training rows in a child.
    pub min_rows: u32,
    /// The gain that a split must pass.
    pub min_gain: f64,
    /// The share of the training rows that each tree sees.
    pub row_share: f64,
    /// The share of the features that each tree sees.
    pub column_share: f64,
}

impl Default for GbdtSpec {
    fn default() -> GbdtSpec {
        GbdtSpec {
            learning_rate: 0.1,
            growth: TreeGrowth::Depth,
            depth: 6,
            leaves: None,
            bins: 255,
            min_child_weight: 1.0,
            min_rows: 1,
            min_gain: 0.0,
            row_share: 1.0,
            column_share: 1.0,
        }
    }
}

/// Which node of a tree is split next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TreeGrowth {
    /// All of a level, one level after the other.
    #[default]
    Depth,
    /// The one with the greatest gain.
    Leaf,
}

/// How a training step moves the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Optimizer {
    /// Adam (Kingma and Ba, 2015), with their β₁, β₂ and ε.
    #[default]
    Adam,
    /// Gradient descent.
    Sgd {
        /// Share of the last step that the next one keeps, at least 0 and below 1.
        momentum: f64,
    },
}

/// How the learning rate goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// It falls to 0 along half a cosine over all steps of all epochs.
    Cosine,
}

impl ModelSpec {
    /// Units of each hidden layer; none for logistic regression.
    pub fn hidden(&self) -> &[u32] {
        match self {
            ModelSpec::Logistic | ModelSpec::Gbdt(_) => &[],
            ModelSpec::Mlp { hidden, .. } => hidden,
        }
    }

    /// What stands between its layers, if there are several.
    pub fn activation(&self) -> Activation {
        match self {
            ModelSpec::Logistic | ModelSpec::Gbdt(_) => Activation::default(),
            ModelSpec::Mlp { activation, .. } => *activation,
        }
    }

    /// The word that recipes use.
    pub fn kind(&self) -> &'static str {
        match self {
            ModelSpec::Logistic => "logistic",
            ModelSpec::Mlp { .. } => "mlp",
            ModelSpec::Gbdt(_) => "gbdt",
        }
    }

    /// Share of each hidden layer's units that a training step leaves out.
    pub fn dropout(&self) -> f64 {
        match self {
            ModelSpec::Logistic | ModelSpec::Gbdt(_) => 0.0,
            ModelSpec::Mlp { dropout, .. } => *dropout,
        }
    }
}

/// How a model was trained: all that a builder's arguments said, beside its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hyperparameters {
    /// Upper bound of passes over the training part (of steps of the optimiser, for `logistic`).
    pub epochs: u32,
    /// Rows in one step (`mlp` only).
    pub batch: u32,
    /// The optimiser's step size (`mlp` only).
    pub learning_rate: f64,
    /// How a step moves the weights (`mlp` only).
    #[serde(default)]
    pub optimizer: Optimizer,
    /// How the learning rate goes on (`mlp` only).
    #[serde(default)]
    pub schedule: Schedule,
    /// Strength of the penalty `l2 / (2 · rows) · ‖weights‖²`, biases excluded.
    pub l2: f64,
    /// Names the initial weights and the order of the rows (`mlp` only).
    pub seed: u64,
    /// Epochs without a better validation loss after which training ends.
    pub patience: Option<u32>,
    /// The column that says how much each row counts.
    #[serde(default)]
    pub weight: Option<String>,
    /// How much each class counts.
    #[serde(default)]
    pub class_weights: ClassWeights,
}

/// How much the rows of each class count in the loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// All rows alike.
    #[default]
    Equal,
    /// Each class as much as any other, whatever its number of rows.
    Balanced,
    /// So much each row of a class; of one that is not named, 1.
    Given(BTreeMap<String, f64>),
}

/// A part of the data that a model has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// BLAKE3 of the file, 64 hexadecimal digits.
    pub digest: String,
    /// Rows of each class, in the order of `classes`.
    pub rows: Vec<u64>,
}

/// What the kept weights reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learned {
    /// The epoch whose weights were kept.
    pub epoch: u32,
    /// Epochs that were run.
    pub epochs_run: u32,
    /// Mean cross entropy on the training part, without the penalty.
    pub train_loss: f64,
    /// Share of the training part's rows that are classified rightly.
    pub train_accuracy: f64,
    /// Mean cross entropy on the validation part.
    pub valid_loss: Option<f64>,
    /// Share of the validation part's rows that are classified rightly.
    pub valid_accuracy: Option<f64>,
}

/// The whole document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    pub(crate) format: u32,
    pub(crate) model: ModelSpec,
    pub(crate) label: String,
    pub(crate) classes: Vec<String>,
    pub(crate) positive: Option<String>,
    pub(crate) features: Vec<String>,
    pub(crate) ignore: Vec<String>,
    pub(crate) preprocessing: Preprocessing,
    pub(crate) training: Hyperparameters,
    pub(crate) train: Part,
    pub(crate) valid: Option<Part>,
    pub(crate) learned: Learned,
}

/// What happens to a row before the first layer or tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Preprocessing {
    /// `(value - preprocess.mean) / preprocess.scale`, feature by feature.
    Standardise,
    /// Nothing: values rounded to 32 bits, missing ones as NaN.
    AsIs,
}

impl Document {
    /// What is wrong with it, if anything, short of reading the numbers.
    pub(crate) fn fault(&self) -> Option<String> {
        let sorted = self.classes.windows(2).all(|pair| pair[0] < pair[1]);
        if self.classes.len() < 2 || !sorted {
            return Some("`classes` must be at least two names, sorted, each once".to_owned());
        }
        if let Some(positive) = self.positive.as_ref().filter(|name| !self.classes.contains(name)) {
            return Some(format!("`positive` is {positive:?}, which is not among `classes`"));
        }
        let mut names: Vec<&String> = self.features.iter().chain([&self.label]).collect();
        names.sort();
        if self.features.is_empty() || names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Some("`features` must be names, each once, without the label".to_owned());
        }
        if self.model.hidden().contains(&0) {
            return Some("a hidden layer has no units".to_owned());
        }
        if !(0.0..1.0).contains(&self.model.dropout()) {
            return Some("`dropout` must be at least 0 and below 1".to_owned());
        }
        let needed = match self.model {
            ModelSpec::Gbdt(_) => Preprocessing::AsIs,
            ModelSpec::Logistic | ModelSpec::Mlp { .. } => Preprocessing::Standardise,
        };
        if self.preprocessing != needed {
            return Some(format!("`preprocessing` is not what `{}` takes", self.model.kind()));
        }
        let parts = [Some(&self.train), self.valid.as_ref()];
        if parts.into_iter().flatten().any(|part| part.rows.len() != self.classes.len()) {
            return Some("`rows` must hold one count for each class".to_owned());
        }
        None
    }

    /// Inputs and outputs of each layer.
    pub(crate) fn shapes(&self) -> Vec<(usize, usize)> {
        let outputs = super::network::Head::of(self.classes.len()).outputs();
        let hidden = self.model.hidden().iter().map(|&units| units as usize);
        let sizes: Vec<usize> =
            [self.features.len()].into_iter().chain(hidden).chain([outputs]).collect();
        sizes.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }
}
