//! One tree: open nodes are split, level by level or the best one first, until limits are met.

use std::sync::atomic::{AtomicU32, Ordering};

use super::bins::Bins;
use super::forest::{Node, Tree};
use super::gradient::{Scales, power_of_two};
use super::histogram::{GROUP, Histogram, Limits, Split, Sums};
use crate::Cpu;

/// Which open node is split next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrowthOrder {
    /// All of a level, from left to right.
    Depth,
    /// The one with the greatest gain; of equals the one that was made first.
    Leaf,
}

/// What a tree may become.
#[derive(Clone, Debug, PartialEq)]
pub struct Growth {
    /// Which node is split next.
    pub order: GrowthOrder,
    /// Edges from the root to the deepest leaf, at most.
    pub depth: u32,
    /// Leaves, at most.
    pub leaves: usize,
    /// Penalty λ in a leaf's value `-G / (H + λ)`.
    pub l2: f64,
    /// The least sum of second derivatives in a child.
    pub min_child_weight: f64,
    /// The fewest rows in a child.
    pub min_rows: u32,
    /// The gain `G_l² / (H_l + λ) + G_r² / (H_r + λ) - G² / (H + λ)` that a split must pass.
    pub min_gain: f64,
    /// What leaves are multiplied with.
    pub learning_rate: f64,
    /// The share of rows that a tree sees.
    pub row_share: f64,
    /// The share of features that a tree sees, at least one.
    pub column_share: f64,
    /// Names the rows and features of each tree.
    pub seed: u64,
}

/// A node whose rows are known and that may be split.
struct Open {
    node: usize,
    start: usize,
    end: usize,
    depth: u32,
    total: Sums,
    /// One a group of features.
    histograms: Vec<Histogram>,
    best: Option<Split>,
}

/// A node that is being split, with its children.
struct Parting {
    open: Open,
    split: Split,
    /// Rows of the left child.
    left_rows: usize,
}

/// Grows a tree; values are left at zero. Gives, beside it, each row's leaf.
pub(super) fn grow(
    cpu: &Cpu,
    bins: &Bins,
    words: &[u64],
    scales: Scales,
    growth: &Growth,
    features: &[usize],
) -> (Tree, Vec<u32>) {
    let second = power_of_two(scales.second);
    let first = power_of_two(scales.first);
    let limits = Limits {
        l2: growth.l2 * second,
        weight: growth.min_child_weight * second,
        rows: growth.min_rows,
        // A gain is G² / H, so it scales with the square of one and the other's inverse.
        gain: growth.min_gain * (first * (first / second)),
    };
    let across = features.len().div_ceil(cpu.threads()).clamp(1, GROUP);
    let groups: Vec<&[usize]> = features.chunks(across).collect();
    let counts = growth.min_rows > 1;
    let count = bins.rows();
    let mut rows: Vec<u32> = (0..count as u32).collect();
    let mut scratch = vec![0_u32; count];
    let leaf_of: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
    let mut nodes = vec![Node::leaf(0.0)];
    let mut leaves = 1;

    let tasks = groups.clone();
    let histograms = cpu.each(tasks, |group| Histogram::build(bins, group, &rows, words, counts));
    let total = histograms[0].total(bins, groups[0]);
    let mut root = Open { node: 0, start: 0, end: count, depth: 0, total, histograms, best: None };
    if growth.depth > 0 && growth.leaves > 1 {
        let scans = groups
            .iter()
            .zip(&root.histograms)
            .map(|(group, histogram)| histogram.best(bins, group, total, count as u32, &limits));
        root.best = best_of(scans);
    }
    let mut open = vec![root];
    loop {
        let chosen = choose(&mut open, growth, leaves);
        if chosen.is_empty() {
            break;
        }
        leaves += chosen.len();
        let parted =
            part(cpu, bins, growth, chosen, &mut rows, &mut scratch, &leaf_of, nodes.len());
        for (index, parting) in parted.iter().enumerate() {
            let Split { feature, bin, missing_left, .. } = parting.split;
            let cuts = bins.cuts().of(feature);
            // After the last value's bin only missing values are left for the other side.
            let threshold = cuts.get(bin).copied().unwrap_or(f32::MAX);
            let left = (nodes.len() + 2 * index) as u32;
            nodes[parting.open.node] =
                Node { feature: feature as u32, threshold, missing_left, left, value: 0.0 };
        }
        let first_child = nodes.len();
        nodes.resize(first_child + 2 * parted.len(), Node::leaf(0.0));
        let context = Context { cpu, bins, words, groups: &groups, limits: &limits, counts };
        open.extend(context.children(growth, parted, &rows, first_child));
    }
    for open in &open {
        for &row in &rows[open.start..open.end] {
            leaf_of[row as usize].store(open.node as u32, Ordering::Relaxed);
        }
    }
    let leaf_of = leaf_of.into_iter().map(AtomicU32::into_inner).collect();
    (Tree { nodes }, leaf_of)
}

/// The best of the groups' splits; the first of equals.
fn best_of(splits: impl Iterator<Item = Option<Split>>) -> Option<Split> {
    splits.flatten().reduce(|best, other| if other.gain > best.gain { other } else { best })
}

/// Takes out of `open` what is split next.
fn choose(open: &mut Vec<Open>, growth: &Growth, leaves: usize) -> Vec<Open> {
    let room = growth.leaves.saturating_sub(leaves);
    if room == 0 {
        return Vec::new();
    }
    match growth.order {
        GrowthOrder::Depth => {
            let mut chosen = Vec::new();
            let mut rest = Vec::new();
            for node in open.drain(..) {
                let list = if node.best.is_some() && chosen.len() < room {
                    &mut chosen
                } else {
                    &mut rest
                };
                list.push(node);
            }
            *open = rest;
            chosen
        }
        GrowthOrder::Leaf => {
            let gain = |index: usize| open[index].best.map(|best| best.gain);
            let mut best: Option<usize> = None;
            for index in 0..open.len() {
                let better = match (gain(index), best.and_then(gain)) {
                    (Some(gain), Some(best)) => gain > best,
                    (Some(_), None) => true,
                    (None, _) => false,
                };
                if better {
                    best = Some(index);
                }
            }
            best.map(|index| open.remove(index)).into_iter().collect()
        }
    }
}

/// Moves the rows of each node to its left and right child, both in their order; where the children
/// are leaves for sure, only their leaf is noted.
#[allow(clippy::too_many_arguments)]
fn part(
    cpu: &Cpu,
    bins: &Bins,
    growth: &Growth,
    mut chosen: Vec<Open>,
    rows: &mut [u32],
    scratch: &mut [u32],
    leaf_of: &[AtomicU32],
    first_child: usize,
) -> Vec<Parting> {
    chosen.sort_by_key(|open| open.start);
    let mut tasks = Vec::with_capacity(chosen.len());
    let (mut rows, mut scratch, mut at) = (rows, scratch, 0);
    for (index, open) in chosen.into_iter().enumerate() {
        let (_, rest) = std::mem::take(&mut rows).split_at_mut(open.start - at);
        let (mine, rest) = rest.split_at_mut(open.end - open.start);
        let (_, spare) = std::mem::take(&mut scratch).split_at_mut(open.start - at);
        let (spare_mine, spare) = spare.split_at_mut(open.end - open.start);
        (rows, scratch, at) = (rest, spare, open.end);
        tasks.push((open, mine, spare_mine, (first_child + 2 * index) as u32));
    }
    cpu.each(tasks, |(open, rows, spare, child)| {
        let split = open.best.expect("only nodes with a split are chosen");
        let column = bins.column(split.feature);
        let mut left = [false; 256];
        left[..=split.bin].fill(true);
        left[bins.cuts().missing(split.feature)] = split.missing_left;
        if open.depth + 1 == growth.depth {
            for &row in rows.iter() {
                let right = u32::from(!left[column[row as usize] as usize]);
                leaf_of[row as usize].store(child + right, Ordering::Relaxed);
            }
            return Parting { open, split, left_rows: 0 };
        }
        let (mut lefts, mut rights) = (0, 0);
        for index in 0..rows.len() {
            let row = rows[index];
            let goes_left = left[column[row as usize] as usize];
            rows[lefts] = row;
            spare[rights] = row;
            lefts += usize::from(goes_left);
            rights += usize::from(!goes_left);
        }
        rows[lefts..].copy_from_slice(&spare[..rights]);
        Parting { open, split, left_rows: lefts }
    })
}

/// What splitting reads.
struct Context<'a> {
    cpu: &'a Cpu,
    bins: &'a Bins,
    words: &'a [u64],
    groups: &'a [&'a [usize]],
    limits: &'a Limits,
    counts: bool,
}

impl Context<'_> {
    /// The children that are no leaves yet: the smaller one's histograms are made, the larger one's
    /// are what remains of the parent's.
    fn children(
        &self,
        growth: &Growth,
        parted: Vec<Parting>,
        rows: &[u32],
        first_child: usize,
    ) -> Vec<Open> {
        let mut tasks = Vec::new();
        let mut children = Vec::new();
        for (index, Parting { mut open, split, left_rows }) in parted.into_iter().enumerate() {
            if open.depth + 1 == growth.depth {
                continue;
            }
            let middle = open.start + left_rows;
            let right = [open.total[0] - split.left[0], open.total[1] - split.left[1]];
            let child = |offset: usize, start: usize, end: usize, total: Sums| Open {
                node: first_child + 2 * index + offset,
                start,
                end,
                depth: open.depth + 1,
                total,
                histograms: Vec::new(),
                best: None,
            };
            let pair =
                [child(0, open.start, middle, split.left), child(1, middle, open.end, right)];
            let pair_index = children.len() / 2;
            let histograms = std::mem::take(&mut open.histograms);
            children.extend(pair);
            for (group, histogram) in histograms.into_iter().enumerate() {
                tasks.push((pair_index, group, histogram));
            }
        }
        let pairs = &children;
        let done = self.cpu.each(tasks, |(pair, group, mut parent)| {
            let pair = [&pairs[2 * pair], &pairs[2 * pair + 1]];
            let features = self.groups[group];
            let left_is_small = pair[0].end - pair[0].start <= pair[1].end - pair[1].start;
            let small = if left_is_small { pair[0] } else { pair[1] };
            let rows = &rows[small.start..small.end];
            let small = Histogram::build(self.bins, features, rows, self.words, self.counts);
            parent.subtract(&small);
            let both = if left_is_small { [small, parent] } else { [parent, small] };
            let best = [0, 1].map(|side| {
                let count = (pair[side].end - pair[side].start) as u32;
                both[side].best(self.bins, features, pair[side].total, count, self.limits)
            });
            (both, best)
        });
        let mut done = done.into_iter();
        for pair in children.chunks_exact_mut(2) {
            let mut best = [Vec::new(), Vec::new()];
            for (both, splits) in done.by_ref().take(self.groups.len()) {
                for (side, (histogram, split)) in both.into_iter().zip(splits).enumerate() {
                    pair[side].histograms.push(histogram);
                    best[side].push(split);
                }
            }
            for (child, splits) in pair.iter_mut().zip(best) {
                child.best = best_of(splits.into_iter());
                if child.best.is_none() {
                    child.histograms.clear();
                }
            }
        }
        children
    }
}
