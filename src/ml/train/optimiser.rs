//! The optimiser of a perceptron: what each step does to the weights, and how large it is.
//!
//! Unaware of losses and gradients. Step sizes are worked out in binary64, whatever carries the steps out.

use kiln_kernels::launch::Rule;
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

/// How large the steps are, whatever carries them out.
pub(super) struct Pace {
    optimizer: Optimizer,
    learning_rate: f64,
    schedule: Schedule,
    /// How much of a weight each step adds to its gradient; nothing of a bias.
    pub(super) decay: f32,
    /// Steps of a whole training.
    pub(super) steps: u64,
}

impl Pace {
    /// For a training on so many rows.
    pub(super) fn new(training: &Hyperparameters, rows: usize) -> Pace {
        let batches = rows.div_ceil(training.batch as usize) as u64;
        Pace {
            optimizer: training.optimizer,
            learning_rate: training.learning_rate,
            schedule: training.schedule,
            decay: (training.l2 / rows as f64) as f32,
            steps: u64::from(training.epochs) * batches,
        }
    }

    /// The learning rate of step `step`, counted from 0.
    fn rate(&self, step: u64) -> f64 {
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::Cosine => {
                let way = step as f64 / self.steps as f64;
                self.learning_rate * (0.5 * (1.0 + cos_pi(way)))
            }
        }
    }

    /// The size of step `step`: its rate, corrected for what Adam's averages start from.
    pub(super) fn size(&self, step: u64) -> f32 {
        let rate = self.rate(step);
        match self.optimizer {
            Optimizer::Adam => {
                let left = |beta: f32| 1.0 - power(f64::from(beta), step + 1);
                (rate * (left(BETA2).sqrt() / left(BETA1))) as f32
            }
            Optimizer::Sgd { .. } => rate as f32,
        }
    }

    /// What a step does, for a device.
    pub(super) fn rule(&self) -> Rule {
        match self.optimizer {
            Optimizer::Adam => Rule::Adam(BETA1, BETA2, EPSILON),
            Optimizer::Sgd { momentum } => Rule::Sgd(momentum as f32),
        }
    }
}

/// Where the optimiser stands.
pub(super) struct Optimiser {
    state: State,
    pace: Pace,
    /// Steps that were taken.
    steps: u64,
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
        Optimiser { state, pace: Pace::new(training, rows), steps: 0 }
    }

    /// How many steps were taken.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Takes one step.
    pub(super) fn step(&mut self, cpu: &Cpu, network: &mut Network, gradients: &[LayerGradient]) {
        let (step, decay) = (self.pace.size(self.steps), self.pace.decay);
        self.steps += 1;
        let layers = network.layers.iter_mut().zip(gradients);
        match &mut self.state {
            State::Adam(states) => {
                let adam = Adam { step, beta1: BETA1, beta2: BETA2, epsilon: EPSILON, decay };
                let unpenalised = Adam { decay: 0.0, ..adam };
                for ((layer, gradient), (weight, bias)) in layers.zip(states) {
                    adam.apply(cpu, &mut layer.weight, &gradient.weight, weight);
                    unpenalised.apply(cpu, &mut layer.bias, &gradient.bias, bias);
                }
            }
            State::Sgd { momentum, velocities } => {
                let sgd = Sgd { rate: step, momentum: *momentum, decay };
                let unpenalised = Sgd { decay: 0.0, ..sgd };
                for ((layer, gradient), (weight, bias)) in layers.zip(velocities) {
                    sgd.apply(cpu, &mut layer.weight, &gradient.weight, weight);
                    unpenalised.apply(cpu, &mut layer.bias, &gradient.bias, bias);
                }
            }
        }
    }
}
