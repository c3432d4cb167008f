//! A multi-layer perceptron: mini-batches in a keyed order, Adam.

use std::io::Write;

use kiln_kernels::{Adam, AdamState, Cpu, Order, Philox, power};

use super::backprop::{LayerGradient, Tally, gradient, score};
use super::course::{Course, Epoch, FitError, Keep};
use super::data::{Data, Examples};
use crate::model::Hyperparameters;
use crate::model::network::{Layer, Network};

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// Philox streams below this hold initial weights, one a layer; from here on the orders of epochs.
const ORDERS: u64 = 1 << 32;

/// Trains `network`, whose weights are set here, and gives its course; `network` ends with the
/// weights of the kept epoch.
pub(crate) fn fit(
    cpu: &Cpu,
    network: &mut Network,
    data: &Data,
    training: &Hyperparameters,
    log: &mut dyn Write,
) -> Result<Course, FitError> {
    initialise(network, training.seed);
    let mut optimiser = Optimiser::new(network, training, data.train.rows());
    let mut course = Course::new(Keep::BestValidation, training.patience);
    let mut kept = network.clone();
    for number in 1..=training.epochs {
        let batch = training.batch as usize;
        let order = order(cpu, training.seed, number, data.train.rows());
        let train = pass(cpu, network, &data.train, batch, &order, &mut optimiser);
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

/// One pass over the training part; the sums are those that the batches saw on their way.
fn pass(
    cpu: &Cpu,
    network: &mut Network,
    examples: &Examples,
    batch: usize,
    order: &[u32],
    optimiser: &mut Optimiser,
) -> Tally {
    let width = network.inputs();
    let mut tally = Tally::default();
    let (mut x, mut labels) = (Vec::new(), Vec::new());
    for rows in order.chunks(batch) {
        x.clear();
        labels.clear();
        for &row in rows {
            let row = row as usize;
            x.extend_from_slice(&examples.x[row * width..(row + 1) * width]);
            labels.push(examples.labels[row]);
        }
        let (gradients, part) = gradient(cpu, network, &x, &labels, 1.0 / rows.len() as f32);
        tally.add(part);
        optimiser.step(cpu, network, &gradients);
    }
    tally
}

/// Adam's moments for each layer, and where it stands.
struct Optimiser {
    weights: Vec<(AdamState, AdamState)>,
    learning_rate: f64,
    decay: f32,
    /// Steps that were taken.
    steps: u64,
}

impl Optimiser {
    fn new(network: &Network, training: &Hyperparameters, rows: usize) -> Optimiser {
        let states =
            |layer: &Layer| (AdamState::new(layer.weight.len()), AdamState::new(layer.bias.len()));
        Optimiser {
            weights: network.layers.iter().map(states).collect(),
            learning_rate: training.learning_rate,
            decay: (training.l2 / rows as f64) as f32,
            steps: 0,
        }
    }

    fn step(&mut self, cpu: &Cpu, network: &mut Network, gradients: &[LayerGradient]) {
        self.steps += 1;
        let left = |beta: f32| 1.0 - power(f64::from(beta), self.steps);
        let corrected = left(BETA2).sqrt() / left(BETA1);
        let step = (self.learning_rate * corrected) as f32;
        let adam = Adam { step, beta1: BETA1, beta2: BETA2, epsilon: EPSILON, decay: self.decay };
        let unpenalised = Adam { decay: 0.0, ..adam };
        let layers = network.layers.iter_mut().zip(gradients).zip(&mut self.weights);
        for ((layer, gradient), (weight, bias)) in layers {
            adam.apply(cpu, &mut layer.weight, &gradient.weight, weight);
            unpenalised.apply(cpu, &mut layer.bias, &gradient.bias, bias);
        }
    }
}
