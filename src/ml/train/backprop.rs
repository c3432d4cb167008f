//! Losses and gradients of a network on some rows.

use kiln_kernels::{Cpu, Matrix, Start, column_sums, product, relu, relu_backward};

use super::data::Examples;
use crate::model::network::{BLOCK, Layer, Network};

/// Sums over rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Sum of the rows' cross entropies, rows ascending.
    pub(crate) loss: f64,
    /// Rows that are classified rightly.
    pub(crate) hits: usize,
    /// Rows.
    pub(crate) rows: usize,
}

impl Tally {
    fn of(losses: &[f32], hits: usize) -> Tally {
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
    for (x, labels) in blocks.zip(examples.labels.chunks(BLOCK)) {
        let mut logits = network.logits(cpu, x);
        let hits = network.head.hits(&logits, labels);
        let mut losses = vec![0.0; labels.len()];
        network.head.cross_entropy(cpu, &mut logits, labels, 1.0, &mut losses);
        tally.add(Tally::of(&losses, hits));
    }
    tally
}

/// The gradient of one layer's weights and biases, shaped like them.
#[derive(Clone, Debug)]
pub(crate) struct LayerGradient {
    pub(crate) weight: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// The gradient of `scale · Σ cross entropy` over the rows of `x`, layer by layer, and their sums.
pub(crate) fn gradient(
    cpu: &Cpu,
    network: &Network,
    x: &[f32],
    labels: &[u32],
    scale: f32,
) -> (Vec<LayerGradient>, Tally) {
    let mut outputs: Vec<Vec<f32>> = Vec::with_capacity(network.layers.len());
    for (index, layer) in network.layers.iter().enumerate() {
        let mut values = layer.forward(cpu, outputs.last().map_or(x, Vec::as_slice));
        if index + 1 < network.layers.len() {
            relu(cpu, &mut values);
        }
        outputs.push(values);
    }
    let mut delta = outputs.pop().unwrap_or_default();
    let hits = network.head.hits(&delta, labels);
    let mut losses = vec![0.0; labels.len()];
    network.head.cross_entropy(cpu, &mut delta, labels, scale, &mut losses);
    let mut gradients = Vec::with_capacity(network.layers.len());
    for layer in network.layers.iter().rev() {
        // What went into this layer: the activations below, or the rows themselves.
        let below = outputs.pop();
        let input = below.as_deref().unwrap_or(x);
        gradients.push(layer_gradient(cpu, layer, input, &delta, labels.len()));
        if let Some(activation) = &below {
            let weight = Matrix::new(&layer.weight, layer.inputs, layer.outputs);
            let above = Matrix::new(&delta, labels.len(), layer.outputs);
            let mut passed = vec![0.0; labels.len() * layer.inputs];
            product(cpu, above, weight.transposed(), Start::Zero, &mut passed);
            relu_backward(cpu, activation, &mut passed);
            delta = passed;
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
        for (sizes, head) in [
            (vec![3, 1], Head::Sigmoid),
            (vec![3, 4, 5, 1], Head::Sigmoid),
            (vec![3, 6, 4], Head::Softmax(4)),
        ] {
            let layer = |(index, pair): (usize, &[usize])| Layer {
                inputs: pair[0],
                outputs: pair[1],
                weight: filled(pair[0] * pair[1], 2 * index as u64),
                bias: filled(pair[1], 2 * index as u64 + 1),
            };
            let layers = sizes.windows(2).enumerate().map(layer).collect();
            let mut network = Network { layers, head };
            let (x, classes) = (filled(3 * 20, 99), head.outputs().max(2) as u32);
            let labels: Vec<u32> = (0..20).map(|i| i % classes).collect();
            let cpu = Cpu::new(Threads(1));
            let (gradients, _) = gradient(&cpu, &network, &x, &labels, 1.0);
            let loss = |network: &Network| gradient(&cpu, network, &x, &labels, 1.0).1.loss;
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
                        "{head:?} {l} {place}: {slope} {got}"
                    );
                }
            }
        }
    }
}
