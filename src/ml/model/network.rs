//! Dense layers with a classifier's head: the part of a model that computes.
//!
//! Unaware of names, files and training.

use kiln_kernels::{
    Cpu, Matrix, Start, gelu_forward, product, relu, sigmoid_cross_entropy, sigmoid_pairs,
    softmax_cross_entropy, softmax_rows,
};

use serde::{Deserialize, Serialize};

/// Rows that go through the layers at a time when only the result is wanted: bounds memory.
pub(crate) const BLOCK: usize = 4096;

/// One dense layer: `y = x · weight + bias`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layer {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// inputs × outputs, row by row.
    pub(crate) weight: Vec<f32>,
    /// One an output.
    pub(crate) bias: Vec<f32>,
}

/// What a hidden layer does to its sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// The larger of the sum and 0.
    #[default]
    Relu,
    /// The Gaussian error linear unit, as `docs/numerics.md` defines it.
    Gelu,
}

/// What the last layer's numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// One logit: how much rather the second of two classes.
    Sigmoid,
    /// One logit a class.
    Softmax(usize),
}

/// Layers with an activation between them, and a head.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Network {
    pub(crate) layers: Vec<Layer>,
    pub(crate) activation: Activation,
    pub(crate) head: Head,
}

impl Head {
    /// The head for so many classes (at least two).
    pub(crate) fn of(classes: usize) -> Head {
        if classes == 2 { Head::Sigmoid } else { Head::Softmax(classes) }
    }

    /// Logits for each row.
    pub(crate) fn outputs(self) -> usize {
        match self {
            Head::Sigmoid => 1,
            Head::Softmax(classes) => classes,
        }
    }

    /// Probabilities (rows × classes) from logits.
    pub(crate) fn probabilities(self, cpu: &Cpu, mut logits: Vec<f32>) -> Vec<f32> {
        match self {
            Head::Sigmoid => {
                let mut out = vec![0.0; 2 * logits.len()];
                sigmoid_pairs(cpu, &logits, &mut out);
                out
            }
            Head::Softmax(classes) => {
                softmax_rows(cpu, &mut logits, classes);
                logits
            }
        }
    }

    /// Rows whose largest probability is the label's; on a tie the first class counts.
    pub(crate) fn hits(self, logits: &[f32], labels: &[u32]) -> usize {
        let rows = logits.chunks_exact(self.outputs());
        let guesses = rows.map(|row| match self {
            Head::Sigmoid => u32::from(row[0] > 0.0),
            Head::Softmax(_) => {
                let mut best = 0;
                for (class, z) in row.iter().enumerate() {
                    if *z > row[best] {
                        best = class;
                    }
                }
                best as u32
            }
        });
        guesses.zip(labels).filter(|(guess, label)| guess == *label).count()
    }

    /// Cross entropy of each row into `losses`; `logits` become their gradients times `scale`.
    pub(crate) fn cross_entropy(
        self,
        cpu: &Cpu,
        logits: &mut [f32],
        labels: &[u32],
        scale: f32,
        losses: &mut [f32],
    ) {
        match self {
            Head::Sigmoid => sigmoid_cross_entropy(cpu, logits, labels, scale, losses),
            Head::Softmax(classes) => {
                softmax_cross_entropy(cpu, logits, classes, labels, scale, losses);
            }
        }
    }
}

impl Activation {
    /// Replaces sums by what goes into the next layer.
    pub(crate) fn apply(self, cpu: &Cpu, values: &mut [f32]) {
        match self {
            Activation::Relu => relu(cpu, values),
            Activation::Gelu => gelu_forward(cpu, values),
        }
    }
}

impl Layer {
    /// `y = x · weight + bias` for rows of `x`.
    pub(crate) fn forward(&self, cpu: &Cpu, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.inputs;
        let mut out = vec![0.0; rows * self.outputs];
        let weight = Matrix::new(&self.weight, self.inputs, self.outputs);
        product(cpu, Matrix::new(x, rows, self.inputs), weight, Start::Bias(&self.bias), &mut out);
        out
    }
}

impl Network {
    /// Numbers a row goes in with.
    pub(crate) fn inputs(&self) -> usize {
        self.layers[0].inputs
    }

    /// The logits of each row of `x` (rows × inputs).
    pub(crate) fn logits(&self, cpu: &Cpu, x: &[f32]) -> Vec<f32> {
        if x.len() <= BLOCK * self.inputs() {
            return self.block(cpu, x);
        }
        let mut logits = Vec::with_capacity(x.len() / self.inputs() * self.head.outputs());
        for block in x.chunks(BLOCK * self.inputs()) {
            logits.append(&mut self.block(cpu, block));
        }
        logits
    }

    /// The logits of rows that go through the layers together.
    fn block(&self, cpu: &Cpu, x: &[f32]) -> Vec<f32> {
        let mut values = self.layers[0].forward(cpu, x);
        for layer in &self.layers[1..] {
            self.activation.apply(cpu, &mut values);
            values = layer.forward(cpu, &values);
        }
        values
    }

    /// The probability of each class for each row of `x`.
    pub(crate) fn probabilities(&self, cpu: &Cpu, x: &[f32]) -> Vec<f32> {
        self.head.probabilities(cpu, self.logits(cpu, x))
    }

    /// Whether every weight is a finite number.
    pub(crate) fn is_finite(&self) -> bool {
        self.layers.iter().all(|l| l.weight.iter().chain(&l.bias).all(|w| w.is_finite()))
    }
}
