//! Losses and gradients of a network on some rows.

use kiln_kernels::{
    Cpu, Dropout, Matrix, Start, column_sums, gelu_backward, product, relu_backward,
};

use super::data::{Batch, Examples};
use crate::model::Activation;
use crate::model::network::{BLOCK, Head, Layer, Network};

/// Sums over rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Sum of the rows' cross entropies, each times its row's weight, rows ascending.
    pub(crate) loss: f64,
    /// Rows that are classified rightly.
    pub(crate) hits: usize,
    /// Rows.
    pub(crate) rows: usize,
}

impl Tally {
    pub(super) fn of(losses: &[f32], hits: usize) -> Tally {
        let loss = losses.iter().fold(0.0, |sum, loss| sum + f64::from(*loss));
        Tally { loss, hits, rows: losses.len() }
    }

    /// Adds another part's sums.
    pub(crate) fn add(&mut self, other: Tally) {
        self.loss += other.loss;
        self.hits += other.hits;
        self.rows += other.rows;
    }

    /// Mean cross entropy.
    pub(crate) fn mean_loss(&self) -> f64 {
        self.loss / self.rows as f64
    }

    /// Share of rows that are classified rightly.
    pub(crate) fn accuracy(&self) -> f64 {
        self.hits as f64 / self.rows as f64
    }
}

/// Cross entropy and hits of `network` on `examples`.
pub(crate) fn score(cpu: &Cpu, network: &Network, examples: &Examples) -> Tally {
    let mut tally = Tally::default();
    let blocks = examples.x.chunks(BLOCK * network.inputs());
    for (index, (x, labels)) in blocks.zip(examples.labels.chunks(BLOCK)).enumerate() {
        let logits = network.logits(cpu, x);
        let weights = examples.weights.as_ref();
        let weights = weights.map(|weights| &weights[index * BLOCK..][..labels.len()]);
        tally.add(judge(cpu, network.head, logits, labels, weights));
    }
    tally
}

/// Cross entropy and hits of `logits` (rows × the head's outputs).
pub(crate) fn judge(
    cpu: &Cpu,
    head: Head,
    mut logits: Vec<f32>,
    labels: &[u32],
    weights: Option<&[f32]>,
) -> Tally {
    let hits = head.hits(&logits, labels);
    let mut losses = vec![0.0; labels.len()];
    head.cross_entropy(cpu, &mut logits, labels, 1.0, &mut losses);
    if let Some(weights) = weights {
        weigh(&mut losses, weights);
    }
    Tally::of(&losses, hits)
}

/// Multiplies each row of `values` by its weight.
pub(super) fn weigh(values: &mut [f32], weights: &[f32]) {
    let width = values.len() / weights.len().max(1);
    for (row, weight) in values.chunks_exact_mut(width.max(1)).zip(weights) {
        row.iter_mut().for_each(|value| *value *= weight);
    }
}

/// The gradient of one layer's weights and biases, shaped like them.
#[derive(Clone, Debug)]
pub(crate) struct LayerGradient {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// The way of a batch through one hidden layer.
struct Hidden {
    /// What the activation was given, where its derivative needs that.
    sums: Option<Vec<f32>>,
    /// What went on to the next layer.
    values: Vec<f32>,
}

/// The gradient of `scale · Σ weight · cross entropy` over a batch, layer by layer, and the batch's sums. `dropout` has one
/// mask for each hidden layer, or none at all.
pub(crate) fn gradient(
    cpu: &Cpu,
    network: &Network,
    batch: Batch<'_>,
    scale: f32,
    dropout: &[Dropout],
) -> (Vec<LayerGradient>, Tally) {
    let Batch { x, labels, weights } = batch;
    let mut passed: Vec<Hidden> = Vec::with_capacity(network.layers.len());
    let mut delta = Vec::new();
    for (index, layer) in network.layers.iter().enumerate() {
        let mut values = layer.forward(cpu, passed.last().map_or(x, |below| &below.values));
        if index + 1 == network.layers.len() {
            delta = values;
            break;
        }
        let sums = (network.activation == Activation::Gelu).then(|| values.clone());
        network.activation.apply(cpu, &mut values);
        if let Some(mask) = dropout.get(index) {
            mask.apply(cpu, &mut values);
        }
        passed.push(Hidden { sums, values });
    }
    let hits = network.head.hits(&delta, labels);
    let mut losses = vec![0.0; labels.len()];
    network.head.cross_entropy(cpu, &mut delta, labels, scale, &mut losses);
    if let Some(weights) = weights {
        weigh(&mut losses, weights);
        weigh(&mut delta, weights);
    }
    let mut gradients = Vec::with_capacity(network.layers.len());
    for layer in network.layers.iter().rev() {
        // What went into this layer: the activations below, or the rows themselves.
        let below = passed.pop();
        let input = below.as_ref().map_or(x, |below| &below.values);
        gradients.push(layer_gradient(cpu, layer, input, &delta, labels.len()));
        if let Some(Hidden { sums, values }) = below {
            let weight = Matrix::new(&layer.weight, layer.inputs, layer.outputs);
            let above = Matrix::new(&delta, labels.len(), layer.outputs);
            let mut back = vec![0.0; values.len()];
            product(cpu, above, weight.transposed(), Start::Zero, &mut back);
            if let Some(mask) = dropout.get(passed.len()) {
                mask.apply(cpu, &mut back);
            }
            match sums {
                // What was dropped is 0, and so is its gradient by now.
                None => relu_backward(cpu, &values, &mut back),
                Some(sums) => gelu_backward(cpu, &sums, &mut back),
            }
            delta = back;
        }
    }
    gradients.reverse();
    (gradients, Tally::of(&losses, hits))
}

fn layer_gradient(
    cpu: &Cpu,
    layer: &Layer,
    input: &[f32],
    delta: &[f32],
    rows: usize,
) -> LayerGradient {
    let mut weight = vec![0.0; layer.weight.len()];
    let mut bias = vec![0.0; layer.outputs];
    let delta = Matrix::new(delta, rows, layer.outputs);
    let input = Matrix::new(input, rows, layer.inputs);
    product(cpu, input.transposed(), delta, Start::Zero, &mut weight);
    column_sums(cpu, delta, &mut bias);
    LayerGradient { weight, bias }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::network::Head;
    use kiln_kernels::{Philox, Threads};

    fn filled(len: usize, stream: u64) -> Vec<f32> {
        let mut out = vec![0.0; len];
        Philox::new(3, stream).fill_uniform(&mut out, -1.0, 1.0);
        out
    }

    /// Every partial derivative against a central difference of the loss.
    #[test]
    fn gradients_are_the_losss_derivatives() {
        let masks = |sizes: &[usize]| -> Vec<Dropout> {
            let hidden = 0..sizes.len() as u64 - 2;
            hidden.map(|layer| Dropout::new(Philox::new(5, layer), 0.3)).collect()
        };
        for (sizes, head, activation, weights, drops) in [
            (vec![3, 1], Head::Sigmoid, Activation::Relu, false, false),
            (vec![3, 4, 5, 1], Head::Sigmoid, Activation::Relu, false, false),
            (vec![3, 6, 4], Head::Softmax(4), Activation::Relu, true, false),
            (vec![3, 6, 4], Head::Softmax(4), Activation::Gelu, false, false),
            (vec![3, 4, 5, 1], Head::Sigmoid, Activation::Gelu, true, true),
            (vec![3, 4, 5, 1], Head::Sigmoid, Activation::Relu, false, true),
        ] {
            let dropout = if drops { masks(&sizes) } else { Vec::new() };
            let own: Vec<f32> = (0..20).map(|row| 0.25 * (1 + row % 5) as f32).collect();
            let weights = weights.then_some(own.as_slice());
            let layer = |(index, pair): (usize, &[usize])| Layer {
                inputs: pair[0],
                outputs: pair[1],
                weight: filled(pair[0] * pair[1], 2 * index as u64),
                bias: filled(pair[1], 2 * index as u64 + 1),
            };
            let layers = sizes.windows(2).enumerate().map(layer).collect();
            let mut network = Network { layers, activation, head };
            let (x, classes) = (filled(3 * 20, 99), head.outputs().max(2) as u32);
            let labels: Vec<u32> = (0..20).map(|i| i % classes).collect();
            let cpu = Cpu::new(Threads(1));
            let batch = Batch { x: &x, labels: &labels, weights };
            let (gradients, _) = gradient(&cpu, &network, batch, 1.0, &dropout);
            let loss = |network: &Network| gradient(&cpu, network, batch, 1.0, &dropout).1.loss;
            let step = 1.0 / 256.0;
            for (l, layer) in gradients.iter().enumerate() {
                for place in 0..layer.weight.len() + layer.bias.len() {
                    let inputs = layer.weight.len();
                    let mut moved = |by: f32| {
                        let target = &mut network.layers[l];
                        if place < inputs {
                            target.weight[place] += by;
                        } else {
                            target.bias[place - inputs] += by;
                        }
                        loss(&network)
                    };
                    let difference = moved(step) - moved(-2.0 * step);
                    moved(step);
                    let slope = difference / (2.0 * f64::from(step));
                    let got = if place < inputs {
                        layer.weight[place]
                    } else {
                        layer.bias[place - inputs]
                    };
                    assert!(
                        (slope - f64::from(got)).abs() < 0.02,
                        "{head:?} {activation:?} {l} {place}: {slope} {got}"
                    );
                }
            }
        }
    }
}
