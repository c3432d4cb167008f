//! The optimiser of a perceptron: what each step does to the weights, and how large it is.
//!
//! Unaware of losses and gradients. Step sizes are worked out in binary64, whatever carries the steps out.

use kiln_kernels::{Adam, AdamState, Cpu, Sgd, cos_pi, power};

use super::backprop::LayerGradient;
use crate::model::network::{Layer, Network};
use crate::model::{Hyperparameters, Optimizer, Schedule};

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// What the optimiser remembers of weights and biases, layer by layer.
enum State {
    Adam(Vec<(AdamState, AdamState)>),
    Sgd { momentum: f32, velocities: Vec<(Vec<f32>, Vec<f32>)> },
}

/// Where the optimiser stands.
pub(super) struct Optimiser {
    state: State,
    learning_rate: f64,
    schedule: Schedule,
    decay: f32,
    /// Steps that were taken.
    steps: u64,
    /// Steps of a whole training.
    all: u64,
}

impl Optimiser {
    /// For `network`, trained on so many rows.
    pub(super) fn new(network: &Network, training: &Hyperparameters, rows: usize) -> Optimiser {
        let adam =
            |layer: &Layer| (AdamState::new(layer.weight.len()), AdamState::new(layer.bias.len()));
        let sgd = |layer: &Layer| (vec![0.0; layer.weight.len()], vec![0.0; layer.bias.len()]);
        let layers = network.layers.iter();
        let state = match training.optimizer {
            Optimizer::Adam => State::Adam(layers.map(adam).collect()),
            Optimizer::Sgd { momentum } => {
                State::Sgd { momentum: momentum as f32, velocities: layers.map(sgd).collect() }
            }
        };
        let batches = rows.div_ceil(training.batch as usize) as u64;
        Optimiser {
            state,
            learning_rate: training.learning_rate,
            schedule: training.schedule,
            decay: (training.l2 / rows as f64) as f32,
            steps: 0,
            all: u64::from(training.epochs) * batches,
        }
    }

    /// How many steps were taken.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// The learning rate of the next step.
    fn rate(&self) -> f64 {
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::Cosine => {
                let way = self.steps as f64 / self.all as f64;
                self.learning_rate * (0.5 * (1.0 + cos_pi(way)))
            }
        }
    }

    /// Takes one step.
    pub(super) fn step(&mut self, cpu: &Cpu, network: &mut Network, gradients: &[LayerGradient]) {
        let (rate, decay) = (self.rate(), self.decay);
        self.steps += 1;
        let layers = network.layers.iter_mut().zip(gradients);
        match &mut self.state {
            State::Adam(states) => {
                let left = |beta: f32| 1.0 - power(f64::from(beta), self.steps);
                let corrected = left(BETA2).sqrt() / left(BETA1);
                let step = (rate * corrected) as f32;
                let adam = Adam { step, beta1: BETA1, beta2: BETA2, epsilon: EPSILON, decay };
                let unpenalised = Adam { decay: 0.0, ..adam };
                for ((layer, gradient), (weight, bias)) in layers.zip(states) {
                    adam.apply(cpu, &mut layer.weight, &gradient.weight, weight);
                    unpenalised.apply(cpu, &mut layer.bias, &gradient.bias, bias);
                }
            }
            State::Sgd { momentum, velocities } => {
                let sgd = Sgd { rate: rate as f32, momentum: *momentum, decay };
                let unpenalised = Sgd { decay: 0.0, ..sgd };
                for ((layer, gradient), (weight, bias)) in layers.zip(velocities) {
                    sgd.apply(cpu, &mut layer.weight, &gradient.weight, weight);
                    unpenalised.apply(cpu, &mut layer.bias, &gradient.bias, bias);
                }
            }
        }
    }
}
