//! Rounds of boosting: derivatives at the scores, a tree (one a class) along them, new scores.

use super::bins::Bins;
use super::forest::Tree;
use super::gradient::{BLOCK, Gradients, power_of_two};
use super::grow::{Growth, grow};
use crate::{Cpu, Order, Philox, softmax_rows};

/// What is learned.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Classes 0 to `classes` - 1: two have one score, more have one each.
    Classes {
        /// A class a row.
        labels: &'a [u32],
        /// How many there are, at least two.
        classes: usize,
    },
    /// Numbers, by squared error.
    Values(&'a [f32]),
}

impl Target<'_> {
    /// Scores of a row.
    pub fn outputs(&self) -> usize {
        match self {
            Target::Classes { classes: 2, .. } | Target::Values(_) => 1,
            Target::Classes { classes, .. } => *classes,
        }
    }

    fn rows(&self) -> usize {
        match self {
            Target::Classes { labels, .. } => labels.len(),
            Target::Values(values) => values.len(),
        }
    }
}

/// A training under way.
pub struct Booster<'a> {
    cpu: Cpu,
    bins: &'a Bins,
    target: Target<'a>,
    weights: Option<&'a [f32]>,
    growth: Growth,
    /// outputs × rows.
    scores: Vec<f32>,
    round: u64,
}

/// Philox streams: which rows a tree sees; which features.
const ROWS: u64 = 1 << 33;
const COLUMNS: u64 = 1 << 34;

impl<'a> Booster<'a> {
    /// Starts with the scores in `start`, one an output, for each row; weights are finite and not
    /// negative.
    ///
    /// # Panics
    /// If the sizes do not fit, there is no row, or a share is not above 0 and at most 1.
    pub fn new(
        cpu: &Cpu,
        bins: &'a Bins,
        target: Target<'a>,
        weights: Option<&'a [f32]>,
        start: &[f32],
        growth: Growth,
    ) -> Booster<'a> {
        let rows = bins.rows();
        assert!(rows > 0 && u32::try_from(rows).is_ok(), "1 to 2³² rows");
        assert_eq!(target.rows(), rows, "one target a row");
        assert!(weights.is_none_or(|weights| weights.len() == rows), "one weight a row");
        assert_eq!(start.len(), target.outputs(), "one score an output");
        let is_share = |share: f64| share > 0.0 && share <= 1.0;
        assert!(is_share(growth.row_share) && is_share(growth.column_share), "shares of the whole");
        let scores = start.iter().flat_map(|&score| std::iter::repeat_n(score, rows)).collect();
        Booster { cpu: *cpu, bins, target, weights, growth, scores, round: 0 }
    }

    /// The scores so far: all rows of the first output, then of the second, and so on.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// One round: a tree for each output, in their order. `None` if a derivative is not finite.
    pub fn round(&mut self) -> Option<Vec<Tree>> {
        let rows = self.bins.rows();
        let outputs = self.target.outputs();
        let probabilities = self.probabilities();
        let mut gradients = Gradients::new(rows);
        let mut words = vec![0; rows];
        let mut trees = Vec::with_capacity(outputs);
        for output in 0..outputs {
            let number = self.round * outputs as u64 + output as u64;
            let scores = &self.scores[output * rows..][..rows];
            match self.target {
                Target::Classes { labels, classes: 2 } => {
                    gradients.logistic(&self.cpu, scores, labels, self.weights);
                }
                Target::Classes { labels, .. } => {
                    let p = &probabilities[output * rows..][..rows];
                    gradients.softmax(&self.cpu, p, output as u32, labels, self.weights);
                }
                Target::Values(values) => {
                    gradients.squared(&self.cpu, scores, values, self.weights);
                }
            }
            if !gradients.is_finite() {
                return None;
            }
            self.leave_rows_out(number, &mut gradients);
            let features = self.features(number);
            let scales = gradients.scales();
            gradients.packed(&self.cpu, scales, &mut words);
            let (mut tree, leaf_of) =
                grow(&self.cpu, self.bins, &words, scales, &self.growth, &features);
            self.fill_leaves(&mut tree, &gradients, &leaf_of);
            let scores = &mut self.scores[output * rows..][..rows];
            let blocks = scores.chunks_mut(BLOCK).zip(leaf_of.chunks(BLOCK)).collect();
            self.cpu.each(blocks, |(scores, leaves): (&mut [f32], &[u32])| {
                for (score, &leaf) in scores.iter_mut().zip(leaves) {
                    *score += tree.nodes[leaf as usize].value;
                }
            });
            trees.push(tree);
        }
        self.round += 1;
        Some(trees)
    }

    /// The softmax of the scores, outputs × rows; empty if there is one output.
    fn probabilities(&self) -> Vec<f32> {
        let (rows, outputs) = (self.bins.rows(), self.target.outputs());
        if outputs == 1 {
            return Vec::new();
        }
        let mut turned: Vec<f32> = (0..rows * outputs)
            .map(|place| self.scores[place % outputs * rows + place / outputs])
            .collect();
        softmax_rows(&self.cpu, &mut turned, outputs);
        (0..rows * outputs).map(|place| turned[place % rows * outputs + place / rows]).collect()
    }

    /// Takes the derivatives of the rows that tree `number` does not see: row i is one of those it
    /// sees if word i mod 4 of block i / 4, as 32 bits of a fraction, is below the share.
    fn leave_rows_out(&self, number: u64, gradients: &mut Gradients) {
        if self.growth.row_share >= 1.0 {
            return;
        }
        let limit = (self.growth.row_share * 4_294_967_296.0) as u64;
        let random = Philox::new(self.growth.seed, ROWS + number);
        let parts = gradients.first.chunks_mut(4).zip(gradients.second.chunks_mut(4));
        for (block, (first, second)) in parts.enumerate() {
            let words = random.block(block as u64);
            for ((first, second), word) in first.iter_mut().zip(second).zip(words) {
                if u64::from(word) >= limit {
                    (*first, *second) = (0.0, 0.0);
                }
            }
        }
    }

    /// The features that tree `number` sees, ascending.
    fn features(&self, number: u64) -> Vec<usize> {
        let all = self.bins.cuts().features();
        let mut features: Vec<usize> = (0..all).collect();
        if self.growth.column_share < 1.0 {
            let kept = ((self.growth.column_share * all as f64) as usize).max(1);
            let order = Order::new(Philox::new(self.growth.seed, COLUMNS + number), all as u32);
            features = (0..kept).map(|place| order.at(place as u32) as usize).collect();
            features.sort_unstable();
        }
        features
    }

    /// Sets each leaf to `-G / (H + λ) · learning rate`, from the wide sums of its rows.
    fn fill_leaves(&self, tree: &mut Tree, gradients: &Gradients, leaf_of: &[u32]) {
        let wide = gradients.wide_scales();
        let scales = [power_of_two(wide.first), power_of_two(wide.second)];
        let nodes = tree.nodes.len();
        let across = leaf_of.len().div_ceil(self.cpu.threads()).max(BLOCK);
        let parts = leaf_of.chunks(across).enumerate().collect();
        let parts = self.cpu.each(parts, |(part, leaves): (usize, &[u32])| {
            let mut sums = vec![[0_i64; 2]; nodes];
            for (index, &leaf) in leaves.iter().enumerate() {
                let [first, second] = gradients.wide(part * across + index, scales);
                let sum = &mut sums[leaf as usize];
                sum[0] += first;
                sum[1] += second;
            }
            sums
        });
        for (place, node) in tree.nodes.iter_mut().enumerate().filter(|(_, node)| node.is_leaf()) {
            let sum =
                |which: usize| parts.iter().map(|sums| sums[place][which]).sum::<i64>() as f64;
            let first = sum(0) / scales[0];
            let second = sum(1) / scales[1] + self.growth.l2;
            // A leaf that no weight reaches says nothing.
            let value =
                if second > 0.0 { -first / second * self.growth.learning_rate } else { 0.0 };
            node.value = value as f32;
        }
    }
}
