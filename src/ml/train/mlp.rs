//! A multi-layer perceptron: mini-batches in a keyed order.
//!
//! The course of a training is the same whoever carries out its epochs: this machine's CPU, here, or a device.

use std::io::Write;

use kiln_kernels::{Cpu, Dropout, Order, Philox};

use super::backprop::{Tally, gradient, score};
use super::course::{Course, Epoch, FitError, Keep};
use super::data::{Batch, Data, Examples};
use super::optimiser::Optimiser;
use crate::model::Hyperparameters;
use crate::model::network::Network;

/// Philox streams below this hold initial weights, one a layer; from here on the orders of epochs.
pub(super) const ORDERS: u64 = 1 << 32;
/// And from here on what is dropped: for each hidden layer, one stream a step.
pub(super) const DROPPED: u64 = 1 << 63;
/// More steps than a training takes.
pub(super) const STEPS: u64 = 1 << 48;

/// Whoever carries out epochs.
pub(super) trait Runner {
    /// One pass over the training part, epoch `number` from 1, after which `network` has the weights; the sums are those
    /// that the batches saw on their way.
    fn pass(&mut self, network: &mut Network, number: u32) -> Result<Tally, FitError>;

    /// Cross entropy and hits on the validation part, if there is one, with the weights of the last pass.
    fn score(&mut self, network: &Network) -> Result<Option<Tally>, FitError>;
}

/// This machine's CPU.
pub(super) struct OnCpu<'a> {
    cpu: &'a Cpu,
    data: &'a Data,
    training: &'a Hyperparameters,
    masks: Masks,
    optimiser: Optimiser,
}

impl<'a> OnCpu<'a> {
    pub(super) fn new(
        cpu: &'a Cpu,
        network: &Network,
        data: &'a Data,
        training: &'a Hyperparameters,
        dropout: f64,
    ) -> OnCpu<'a> {
        let masks = Masks { seed: training.seed, rate: dropout, layers: network.layers.len() - 1 };
        let optimiser = Optimiser::new(network, training, data.train.rows());
        OnCpu { cpu, data, training, masks, optimiser }
    }
}

impl Runner for OnCpu<'_> {
    fn pass(&mut self, network: &mut Network, number: u32) -> Result<Tally, FitError> {
        let OnCpu { cpu, data, training, masks, optimiser } = self;
        let order = order(cpu, training.seed, number, data.train.rows());
        let batch = training.batch as usize;
        Ok(pass(cpu, network, &data.train, batch, &order, *masks, optimiser))
    }

    fn score(&mut self, network: &Network) -> Result<Option<Tally>, FitError> {
        Ok(self.data.valid.as_ref().map(|valid| score(self.cpu, network, valid)))
    }
}

/// Trains `network`, whose weights are [initialised](initialise), and gives its course; `network` ends with the weights of
/// the kept epoch.
pub(super) fn fit(
    runner: &mut dyn Runner,
    network: &mut Network,
    training: &Hyperparameters,
    log: &mut dyn Write,
) -> Result<Course, FitError> {
    let mut course = Course::new(Keep::BestValidation, training.patience);
    let mut kept = network.clone();
    for number in 1..=training.epochs {
        let train = runner.pass(network, number)?;
        let valid = runner.score(network)?;
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
pub(super) fn initialise(network: &mut Network, seed: u64) {
    let last = network.layers.len() - 1;
    for (index, layer) in network.layers.iter_mut().enumerate() {
        let spread = if index < last { layer.inputs } else { layer.inputs + layer.outputs };
        let bound = (6.0 / spread as f32).sqrt();
        Philox::new(seed, index as u64).fill_uniform(&mut layer.weight, -bound, bound);
        layer.bias.fill(0.0);
    }
}

/// The rows' order in one epoch.
pub(super) fn order(cpu: &Cpu, seed: u64, epoch: u32, rows: usize) -> Vec<u32> {
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
