//! Logistic regression to its optimum: L-BFGS (Nocedal and Wright, *Numerical Optimization*,
//! algorithm 7.4) over all rows at once.
//!
//! Minimises `mean cross entropy + l2 / (2 · rows) · ‖weights‖²`; with `l2 = 1` that is scikit-learn's
//! `C = 1`. Parameters and their history are 64-bit, loss and gradient come from the kernels; all
//! sums run in a fixed order.

use std::collections::VecDeque;
use std::io::Write;

use kiln_kernels::Cpu;

use super::backprop::{Tally, gradient, score};
use super::course::{Course, Epoch, FitError, Keep};
use super::data::Data;
use crate::model::Hyperparameters;
use crate::model::network::Network;

/// Pairs of steps and gradient differences that are remembered.
const MEMORY: usize = 10;
/// Largest component of the gradient at which the optimum counts as reached.
const TOLERANCE: f64 = 1e-6;
/// Share of the promised decrease that a step must bring.
const ARMIJO: f64 = 1e-4;
/// Relative noise of a 32-bit loss: a step that is worse by no more than this is no worse.
const NOISE: f64 = 2e-7;
/// Halvings of a step before the search ends.
const HALVINGS: u32 = 30;

/// Trains `network` (one layer, its weights zero) and gives its course; `network` ends with the
/// weights of the kept epoch.
pub(crate) fn fit(
    cpu: &Cpu,
    network: &mut Network,
    data: &Data,
    training: &Hyperparameters,
    log: &mut dyn Write,
) -> Result<Course, FitError> {
    // The optimum is the result, unless the recipe asks for early stopping.
    let keep = if training.patience.is_some() { Keep::BestValidation } else { Keep::Last };
    let mut course = Course::new(keep, training.patience);
    let mut kept = network.clone();
    let objective = Objective { cpu, data, l2: training.l2 };
    let mut memory = Memory::default();
    let mut here = objective.at(network, parameters(network));
    for number in 1..=training.epochs {
        let next = if here.steepest() > TOLERANCE {
            descend(&objective, network, &here, &mut memory)
        } else {
            None
        };
        let ended = next.is_none();
        here = next.unwrap_or(here);
        set_parameters(network, &here.parameters);
        if !here.value.is_finite() || !network.is_finite() {
            let help = "look for values of a wrong order of magnitude, or raise l2".to_owned();
            return Err(FitError::Diverged { epoch: number, help });
        }
        if ended && number > 1 {
            let largest = here.steepest();
            let how = if largest <= TOLERANCE { "converged" } else { "no step leads further down" };
            writeln!(log, "{how} (largest gradient {largest:.1e})")?;
            break;
        }
        let valid = data.valid.as_ref().map(|valid| score(cpu, network, valid));
        let epoch = Epoch { number, train: here.tally, valid };
        epoch.log(training.epochs, log)?;
        let advice = course.record(epoch);
        if advice.keep {
            kept.clone_from(network);
        }
        if advice.stop {
            course.log_stop(log)?;
            break;
        }
        if number == training.epochs && here.steepest() > TOLERANCE {
            let largest = here.steepest();
            writeln!(
                log,
                "not converged (largest gradient {largest:.1e}); more epochs would help"
            )?;
        }
    }
    *network = kept;
    Ok(course)
}

/// What is minimised.
struct Objective<'a> {
    cpu: &'a Cpu,
    data: &'a Data,
    l2: f64,
}

/// The objective at one place.
struct Point {
    parameters: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
    tally: Tally,
}

impl Point {
    fn steepest(&self) -> f64 {
        self.gradient.iter().fold(0.0, |max: f64, g| max.max(g.abs()))
    }
}

impl Objective<'_> {
    /// Value and gradient at `parameters`; `network` lends its shape and keeps these weights.
    fn at(&self, network: &mut Network, parameters: Vec<f64>) -> Point {
        set_parameters(network, &parameters);
        let examples = &self.data.train;
        let rows = examples.rows() as f64;
        let scale = 1.0 / examples.rows() as f32;
        let (gradients, tally) = gradient(self.cpu, network, examples.all(), scale, &[]);
        let penalty = self.l2 / rows;
        let mut slope = Vec::with_capacity(parameters.len());
        let mut squares = 0.0;
        for (layer, part) in network.layers.iter().zip(&gradients) {
            for (w, g) in layer.weight.iter().zip(&part.weight) {
                squares += f64::from(*w) * f64::from(*w);
                slope.push(f64::from(*g) + penalty * f64::from(*w));
            }
            slope.extend(part.bias.iter().map(|g| f64::from(*g)));
        }
        let value = tally.mean_loss() + 0.5 * penalty * squares;
        Point { parameters, value, gradient: slope, tally }
    }
}

/// One step downhill from `here`; `None` if no step leads further down.
fn descend(
    objective: &Objective<'_>,
    network: &mut Network,
    here: &Point,
    memory: &mut Memory,
) -> Option<Point> {
    let mut direction = memory.direction(&here.gradient);
    let mut slope = dot(&direction, &here.gradient);
    if slope >= 0.0 || !slope.is_finite() {
        memory.pairs.clear();
        direction = here.gradient.iter().map(|g| -g).collect();
        slope = -dot(&here.gradient, &here.gradient);
    }
    // Without memory the gradient's length says nothing about distance: start with a modest step.
    let size = here.gradient.iter().fold(0.0, |sum, g| sum + g.abs());
    let mut length = if memory.pairs.is_empty() { (1.0 / size).min(1.0) } else { 1.0 };
    for _ in 0..HALVINGS {
        let moved = |(x, d): (&f64, &f64)| x + length * d;
        let target = here.parameters.iter().zip(&direction).map(moved).collect();
        let next = objective.at(network, target);
        let allowed = here.value + ARMIJO * length * slope + NOISE * here.value.abs();
        if next.value <= allowed {
            memory.remember(here, &next);
            return Some(next);
        }
        length *= 0.5;
    }
    None
}

/// The curvature that earlier steps have shown.
#[derive(Default)]
struct Memory {
    /// Step, gradient difference, and 1 / (their product), oldest first.
    pairs: VecDeque<(Vec<f64>, Vec<f64>, f64)>,
}

impl Memory {
    fn remember(&mut self, from: &Point, to: &Point) {
        let minus = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>();
        let step = minus(&to.parameters, &from.parameters);
        let change = minus(&to.gradient, &from.gradient);
        let product = dot(&step, &change);
        // Only pairs with positive curvature keep the direction downhill.
        if product > 1e-12 * dot(&change, &change) {
            self.pairs.push_back((step, change, 1.0 / product));
            if self.pairs.len() > MEMORY {
                self.pairs.pop_front();
            }
        }
    }

    /// Minus the gradient, times the approximate inverse Hessian.
    fn direction(&self, gradient: &[f64]) -> Vec<f64> {
        let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut weights = Vec::with_capacity(self.pairs.len());
        for (step, change, inverse) in self.pairs.iter().rev() {
            let weight = inverse * dot(step, &q);
            add_scaled(&mut q, -weight, change);
            weights.push(weight);
        }
        if let Some((_, change, inverse)) = self.pairs.back() {
            let scale = 1.0 / (inverse * dot(change, change));
            q.iter_mut().for_each(|value| *value *= scale);
        }
        for ((step, change, inverse), weight) in self.pairs.iter().zip(weights.iter().rev()) {
            let correction = inverse * dot(change, &q);
            add_scaled(&mut q, weight - correction, step);
        }
        q
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

fn add_scaled(target: &mut [f64], scale: f64, other: &[f64]) {
    for (value, other) in target.iter_mut().zip(other) {
        *value += scale * other;
    }
}

fn parameters(network: &Network) -> Vec<f64> {
    let values = network.layers.iter().flat_map(|layer| layer.weight.iter().chain(&layer.bias));
    values.map(|value| f64::from(*value)).collect()
}

fn set_parameters(network: &mut Network, parameters: &[f64]) {
    let places =
        network.layers.iter_mut().flat_map(|layer| layer.weight.iter_mut().chain(&mut layer.bias));
    for (place, value) in places.zip(parameters) {
        *place = *value as f32;
    }
}
