//! A multi-layer perceptron: mini-batches in a keyed order.

use std::io::Write;

use kiln_kernels::{Cpu, Dropout, Order, Philox};

use super::backprop::{Tally, gradient, score};
use super::course::{Course, Epoch, FitError, Keep};
use super::data::{Batch, Data, Examples};
use super::optimiser::Optimiser;
use crate::model::Hyperparameters;
use crate::model::network::Network;

/// Philox streams below this hold initial weights, one a layer; from here on the orders of epochs.
const ORDERS: u64 = 1 << 32;
/// And from here on what is dropped: for each hidden layer, one stream a step.
const DROPPED: u64 = 1 << 63;
/// More steps than a training takes.
const STEPS: u64 = 1 << 48;

/// Trains `network`, whose weights are set here, and gives its course; `network` ends with the
/// weights of the kept epoch.
pub(crate) fn fit(
    cpu: &Cpu,
    network: &mut Network,
    data: &Data,
    training: &Hyperparameters,
    dropout: f64,
    log: &mut dyn Write,
) -> Result<Course, FitError> {
    initialise(network, training.seed);
    let mut optimiser = Optimiser::new(network, training, data.train.rows());
    let mut course = Course::new(Keep::BestValidation, training.patience);
    let mut kept = network.clone();
    for number in 1..=training.epochs {
        let batch = training.batch as usize;
        let order = order(cpu, training.seed, number, data.train.rows());
        let masks = Masks { seed: training.seed, rate: dropout, layers: network.layers.len() - 1 };
        let train = pass(cpu, network, &data.train, batch, &order, masks, &mut optimiser);
        let valid = data.valid.as_ref().map(|valid| score(cpu, network, valid));
        let finite = train.loss.is_finite() && valid.is_none_or(|tally| tally.loss.is_finite());
        if !finite || !network.is_finite() {
            return Err(FitError::Diverged {
                epoch: number,
                help: format!("lower learning_rate (it is {})", training.learning_rate),
            });
        }
        let epoch = Epoch { number, train, valid };
        epoch.log(training.epochs, log)?;
        let advice = course.record(epoch);
        if advice.keep {
            kept.clone_from(network);
        }
        if advice.stop {
            course.log_stop(log)?;
            break;
        }
    }
    *network = kept;
    Ok(course)
}

/// He's uniform distribution below a relu, Glorot's below the head; biases are zero.
fn initialise(network: &mut Network, seed: u64) {
    let last = network.layers.len() - 1;
    for (index, layer) in network.layers.iter_mut().enumerate() {
        let spread = if index < last { layer.inputs } else { layer.inputs + layer.outputs };
        let bound = (6.0 / spread as f32).sqrt();
        Philox::new(seed, index as u64).fill_uniform(&mut layer.weight, -bound, bound);
        layer.bias.fill(0.0);
    }
}

/// The rows' order in one epoch.
fn order(cpu: &Cpu, seed: u64, epoch: u32, rows: usize) -> Vec<u32> {
    let stream = Philox::new(seed, ORDERS + u64::from(epoch));
    let mut order = vec![0; rows];
    let rows = u32::try_from(rows).expect("a table in memory has fewer rows than 2³²");
    Order::new(stream, rows).fill(cpu, 0, &mut order);
    order
}

/// Which units each step leaves out.
#[derive(Clone, Copy)]
struct Masks {
    seed: u64,
    rate: f64,
    layers: usize,
}

impl Masks {
    /// One for each hidden layer, or none at all.
    fn of_step(self, step: u64) -> Vec<Dropout> {
        if self.rate == 0.0 {
            return Vec::new();
        }
        let stream = |layer: usize| Philox::new(self.seed, DROPPED + layer as u64 * STEPS + step);
        (0..self.layers).map(|layer| Dropout::new(stream(layer), self.rate)).collect()
    }
}

/// One pass over the training part; the sums are those that the batches saw on their way.
fn pass(
    cpu: &Cpu,
    network: &mut Network,
    examples: &Examples,
    batch: usize,
    order: &[u32],
    masks: Masks,
    optimiser: &mut Optimiser,
) -> Tally {
    let width = network.inputs();
    let mut tally = Tally::default();
    let (mut x, mut labels, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for rows in order.chunks(batch) {
        x.clear();
        labels.clear();
        weights.clear();
        for &row in rows {
            let row = row as usize;
            x.extend_from_slice(&examples.x[row * width..(row + 1) * width]);
            labels.push(examples.labels[row]);
            weights.extend(examples.weights.as_ref().map(|weights| weights[row]));
        }
        let weights = examples.weights.as_ref().map(|_| weights.as_slice());
        let batch = Batch { x: &x, labels: &labels, weights };
        let (scale, dropout) = (1.0 / rows.len() as f32, masks.of_step(optimiser.steps()));
        let (gradients, part) = gradient(cpu, network, batch, scale, &dropout);
        tally.add(part);
        optimiser.step(cpu, network, &gradients);
    }
    tally
}
