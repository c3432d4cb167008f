//! Gradient-boosted trees: rounds of trees along the loss's derivatives, until the validation loss no
//! longer falls.
//!
//! The arithmetic is the kernels'; here are the cuts' sample, the start, and which round is kept.

use std::io::Write;

use kiln_kernels::trees::{Bins, Booster, Cuts, Forest, Growth, GrowthOrder, Target};
use kiln_kernels::{Cpu, Order, Philox, log as natural_log};

use super::backprop::{Tally, judge};
use super::course::{Course, Epoch, FitError, Keep};
use super::data::{Data, Examples};
use crate::model::network::Head;
use crate::model::trees::Trees;
use crate::model::{GbdtSpec, Hyperparameters, TreeGrowth};

/// Rows that the cuts are taken from, at most.
const SAMPLE: usize = 1 << 17;
/// The Philox stream that names the sample's rows.
const SAMPLE_STREAM: u64 = 1 << 35;
/// Rows that are binned at a time.
const BLOCK: usize = 1 << 16;

/// A field of `spec` that no data could make sense of: its name, its value, what it should be.
pub(crate) fn fault(spec: &GbdtSpec) -> Option<(&'static str, String, &'static str)> {
    let is_share = |share: f64| share > 0.0 && share <= 1.0;
    let is_size = |size: f64| size >= 0.0 && size.is_finite();
    let share = "a share above 0 and at most 1, such as 0.8";
    let faults = [
        (
            !(spec.learning_rate > 0.0 && spec.learning_rate.is_finite()),
            "model.learning_rate",
            spec.learning_rate.to_string(),
            "a number above 0, such as 0.1",
        ),
        (!(1..=16).contains(&spec.depth), "model.depth", spec.depth.to_string(), "1 to 16"),
        (
            spec.leaves.is_some_and(|leaves| !(2..=65_536).contains(&leaves)),
            "model.leaves",
            spec.leaves.unwrap_or(0).to_string(),
            "2 to 65536",
        ),
        (!(2..=255).contains(&spec.bins), "model.bins", spec.bins.to_string(), "2 to 255"),
        (
            !is_size(spec.min_child_weight),
            "model.min_child_weight",
            spec.min_child_weight.to_string(),
            "0 or more",
        ),
        (spec.min_rows == 0, "model.min_rows", "0".to_owned(), "at least 1"),
        (!is_size(spec.min_gain), "model.min_gain", spec.min_gain.to_string(), "0 or more"),
        (!is_share(spec.row_share), "model.row_share", spec.row_share.to_string(), share),
        (!is_share(spec.column_share), "model.column_share", spec.column_share.to_string(), share),
    ];
    let found = faults.into_iter().find(|(wrong, ..)| *wrong);
    found.map(|(_, name, value, help)| (name, value, help))
}

/// Grows trees and gives them with their course: those up to the kept round.
pub(crate) fn fit(
    cpu: &Cpu,
    data: &Data,
    training: &Hyperparameters,
    spec: &GbdtSpec,
    log: &mut dyn Write,
) -> Result<(Course, Trees), FitError> {
    let features = data.features.len();
    let head = Head::of(data.classes.len());
    let train = &data.train;
    let bins = binned(cpu, train, features, spec.bins as usize, training.seed);
    let start = start(data);
    let target = Target::Classes { labels: &train.labels, classes: data.classes.len() };
    let weights = train.weights.as_deref();
    let mut booster = Booster::new(cpu, &bins, target, weights, &start, growth(spec, training));
    let mut valid_scores = data.valid.as_ref().map(|valid| start.repeat(valid.rows()));
    let mut course = Course::new(Keep::BestValidation, training.patience);
    let mut trees = Vec::new();
    let mut kept = 0;
    for number in 1..=training.epochs {
        let diverged = || FitError::Diverged {
            epoch: number,
            help: format!("lower model.learning_rate (it is {})", spec.learning_rate),
        };
        let round = booster.round().ok_or_else(diverged)?;
        let logits = turned(booster.scores(), train.rows());
        let tally = judge(cpu, head, logits, &train.labels, weights);
        let valid = data.valid.as_ref().zip(valid_scores.as_mut()).map(|(valid, scores)| {
            let forest = Forest::new(&round, head.outputs(), features);
            forest.expect("a round makes trees over the features").add_to(cpu, &valid.x, scores);
            judge(cpu, head, scores.clone(), &valid.labels, valid.weights.as_deref())
        });
        if !tally.loss.is_finite() || valid.is_some_and(|tally| !tally.loss.is_finite()) {
            return Err(diverged());
        }
        trees.extend(round);
        let epoch = Epoch { number, train: tally, valid };
        epoch.log(training.epochs, log)?;
        let advice = course.record(epoch);
        if advice.keep {
            kept = trees.len();
        }
        if advice.stop {
            course.log_stop(log)?;
            break;
        }
    }
    trees.truncate(kept);
    let diverged = || FitError::Diverged {
        epoch: training.epochs,
        help: format!("lower model.learning_rate (it is {})", spec.learning_rate),
    };
    let trees = Trees::new(start, trees, features).ok_or_else(diverged)?;
    writeln!(log, "{} trees, {} nodes", trees.len(), trees.nodes())?;
    Ok((course, trees))
}

/// Cross entropy and hits of `trees` on `examples`.
pub(crate) fn score(cpu: &Cpu, trees: &Trees, data: &Data, examples: &Examples) -> Tally {
    let scores = trees.scores(cpu, &examples.x, data.features.len());
    let head = Head::of(data.classes.len());
    judge(cpu, head, scores, &examples.labels, examples.weights.as_deref())
}

/// The training part in bins. Cuts are taken from all rows, or from [`SAMPLE`] of them, which the seed
/// names.
fn binned(cpu: &Cpu, train: &Examples, features: usize, bins: usize, seed: u64) -> Bins {
    let rows = train.rows();
    let cuts = if rows <= SAMPLE {
        Cuts::fit(cpu, &train.x, features, bins)
    } else {
        let order = Order::new(Philox::new(seed, SAMPLE_STREAM), rows as u32);
        let mut sample = Vec::with_capacity(SAMPLE * features);
        for place in 0..SAMPLE as u32 {
            let row = order.at(place) as usize;
            sample.extend_from_slice(&train.x[row * features..][..features]);
        }
        Cuts::fit(cpu, &sample, features, bins)
    };
    let mut binned = Bins::new(cuts);
    for block in train.x.chunks(BLOCK * features) {
        binned.push(cpu, block);
    }
    binned
}

/// Where the scores start: what the shares of the classes, by weight, say alone.
fn start(data: &Data) -> Vec<f32> {
    // A class that no weight reaches is unlikely, not impossible.
    const LEAST: f64 = 1e-6;
    let classes = data.classes.len();
    let mut sums = vec![0.0_f64; classes];
    for (row, &label) in data.train.labels.iter().enumerate() {
        let weight = data.train.weights.as_ref().map_or(1.0, |weights| f64::from(weights[row]));
        sums[label as usize] += weight;
    }
    let total = sums.iter().fold(0.0, |total, sum| total + sum);
    let share = |class: usize| (sums[class] / total).max(LEAST) as f32;
    if classes == 2 {
        return vec![natural_log(share(1)) - natural_log(share(0))];
    }
    (0..classes).map(|class| natural_log(share(class))).collect()
}

fn growth(spec: &GbdtSpec, training: &Hyperparameters) -> Growth {
    Growth {
        order: match spec.growth {
            TreeGrowth::Depth => GrowthOrder::Depth,
            TreeGrowth::Leaf => GrowthOrder::Leaf,
        },
        depth: spec.depth,
        leaves: spec.leaves.map_or(1 << spec.depth, |leaves| leaves as usize),
        l2: training.l2,
        min_child_weight: spec.min_child_weight,
        min_rows: spec.min_rows,
        min_gain: spec.min_gain,
        learning_rate: spec.learning_rate,
        row_share: spec.row_share,
        column_share: spec.column_share,
        seed: training.seed,
    }
}

/// From outputs × rows to rows × outputs.
fn turned(scores: &[f32], rows: usize) -> Vec<f32> {
    let outputs = scores.len() / rows;
    if outputs == 1 {
        return scores.to_vec();
    }
    (0..scores.len()).map(|place| scores[place % outputs * rows + place / outputs]).collect()
}

#[cfg(test)]
mod tests;
