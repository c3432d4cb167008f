//! The same trees on every CPU, sums that match plain ones, and walks that match the trees.

use super::*;
use crate::testing::{cpus, hash, uniform};
use crate::{Cpu, Threads};

const FEATURES: usize = 5;

fn growth() -> Growth {
    Growth {
        order: GrowthOrder::Depth,
        depth: 4,
        leaves: 16,
        l2: 1.0,
        min_child_weight: 1.0,
        min_rows: 1,
        min_gain: 0.0,
        learning_rate: 0.3,
        row_share: 1.0,
        column_share: 1.0,
        seed: 7,
    }
}

/// Rows with a missing value here and there, and what they mean: not linear, not always the same.
fn sample(rows: usize) -> (Vec<f32>, Vec<f32>) {
    let mut values = uniform(rows * FEATURES, 1);
    let noise = uniform(rows, 2);
    let target = values
        .chunks_exact(FEATURES)
        .zip(noise)
        .map(|(x, noise)| x[0] * x[1] + if x[2] > 0.2 { 0.5 } else { x[3] * 0.5 } + 0.2 * noise)
        .collect();
    for (index, value) in values.iter_mut().enumerate() {
        if index % 11 == 3 {
            *value = f32::NAN;
        }
        if index % FEATURES == 4 {
            *value = (*value * 3.0).floor();
        }
    }
    (values, target)
}

fn one_cpu() -> Cpu {
    Cpu::new(Threads(1))
}

fn binned(cpu: &Cpu, values: &[f32], features: usize) -> Bins {
    let mut bins = Bins::new(Cuts::fit(cpu, values, features, MOST_BINS));
    // In two parts, since a large table comes in many.
    let middle = values.len() / features / 2 * features;
    bins.push(cpu, &values[..middle]);
    bins.push(cpu, &values[middle..]);
    bins
}

struct Trained {
    trees: Vec<Tree>,
    scores: Vec<f32>,
}

fn train(
    cpu: &Cpu,
    values: &[f32],
    target: Target<'_>,
    weights: Option<&[f32]>,
    growth: Growth,
    rounds: usize,
) -> Trained {
    let features = FEATURES;
    let bins = binned(cpu, values, features);
    let start = vec![0.25; target.outputs()];
    let mut booster = Booster::new(cpu, &bins, target, weights, &start, growth);
    let trees = (0..rounds).flat_map(|_| booster.round().unwrap()).collect();
    Trained { trees, scores: booster.scores().to_vec() }
}

/// A digest of everything that a tree is.
fn digest(trees: &[Tree]) -> String {
    let numbers: Vec<f32> = trees
        .iter()
        .flat_map(|tree| &tree.nodes)
        .flat_map(|node| {
            let flag = if node.missing_left { 1.0 } else { 0.0 };
            [node.feature as f32, node.threshold, flag, node.left as f32, node.value]
        })
        .collect();
    hash(&numbers)
}

fn labels(target: &[f32], classes: usize) -> Vec<u32> {
    target
        .iter()
        .map(|t| (((t + 1.5) / 3.0 * classes as f32) as u32).min(classes as u32 - 1))
        .collect()
}

#[test]
fn trees_are_the_same_bits_on_every_cpu_and_thread_count() {
    let (values, target) = sample(40_000);
    let two = labels(&target, 2);
    let three = labels(&target[..3000], 3);
    let weights: Vec<f32> = uniform(3000, 5).iter().map(|w| w + 1.0).collect();
    let leafwise = Growth {
        order: GrowthOrder::Leaf,
        depth: 6,
        leaves: 11,
        min_rows: 20,
        row_share: 0.7,
        column_share: 0.6,
        ..growth()
    };
    for cpu in cpus() {
        let small = &values[..3000 * FEATURES];
        let binary = Target::Classes { labels: &two, classes: 2 };
        let trained = train(&cpu, &values, binary, None, growth(), 3);
        assert_eq!(digest(&trained.trees), BINARY, "{cpu:?}");
        let many = Target::Classes { labels: &three, classes: 3 };
        let trained = train(&cpu, small, many, Some(&weights), growth(), 3);
        assert_eq!(digest(&trained.trees), MANY, "{cpu:?}");
        let number = Target::Values(&target[..3000]);
        let trained = train(&cpu, small, number, None, leafwise.clone(), 5);
        assert_eq!(digest(&trained.trees), NUMBER, "{cpu:?}");
    }
}

const BINARY: &str = "51856cdae9b01d65";
const MANY: &str = "8700af05115d319b";
const NUMBER: &str = "b78a46a422e98fc9";

#[test]
fn the_forest_gives_what_training_had_for_rows_alone_and_together() {
    let (values, target) = sample(2000);
    let labels = labels(&target, 3);
    let target = Target::Classes { labels: &labels, classes: 3 };
    let trained = train(&one_cpu(), &values, target, None, growth(), 7);
    let forest = Forest::new(&trained.trees, 3, FEATURES).unwrap();
    for cpu in cpus() {
        let mut scores = vec![0.25; 2000 * 3];
        forest.add_to(&cpu, &values, &mut scores);
        for row in 0..2000 {
            let mut alone = [0.25; 3];
            forest.add_to(&cpu, &values[row * FEATURES..][..FEATURES], &mut alone);
            for output in 0..3 {
                let want = trained.scores[output * 2000 + row].to_bits();
                assert_eq!(scores[row * 3 + output].to_bits(), want);
                assert_eq!(alone[output].to_bits(), want);
            }
        }
    }
}

/// All splits of all features tried in plain 64-bit arithmetic, on few rows.
#[test]
fn the_first_split_is_the_best_of_all() {
    for seed in 0..20 {
        let values = uniform(60 * FEATURES, 100 + seed);
        let target = uniform(60, 200 + seed);
        let limits = Growth { depth: 1, min_child_weight: 4.0, ..growth() };
        let trained = train(&one_cpu(), &values, Target::Values(&target), None, limits, 1);
        let root = trained.trees[0].nodes[0];
        let gain = |feature: usize, threshold: f32| {
            let part = |left: bool| {
                let rows =
                    (0..60).filter(|row| (values[row * FEATURES + feature] <= threshold) == left);
                rows.fold((0.0, 0.0), |sum, row| {
                    (sum.0 + f64::from(target[row] - 0.25), sum.1 + 1.0)
                })
            };
            let (left, right) = (part(true), part(false));
            if left.1 < 4.0 || right.1 < 4.0 {
                return f64::NEG_INFINITY;
            }
            left.0 * left.0 / (left.1 + 1.0) + right.0 * right.0 / (right.1 + 1.0)
        };
        let found = gain(root.feature as usize, root.threshold);
        for feature in 0..FEATURES {
            for row in 0..60 {
                // Quantised gradients may take a split that is worse by less than their step.
                assert!(gain(feature, values[row * FEATURES + feature]) <= found + 1e-3, "{seed}");
            }
        }
        for (node, left) in [(1, true), (2, false)] {
            let rows: Vec<usize> = (0..60)
                .filter(|row| {
                    (values[row * FEATURES + root.feature as usize] <= root.threshold) == left
                })
                .collect();
            let sum: f64 = rows.iter().map(|&row| f64::from(target[row]) - 0.25).sum();
            let want = 0.3 * sum / (rows.len() as f64 + 1.0);
            assert!((f64::from(trained.trees[0].nodes[node].value) - want).abs() < 1e-6);
        }
    }
}

#[test]
fn leaves_have_the_rows_the_depth_and_the_number_that_are_allowed() {
    let (values, target) = sample(3000);
    for order in [GrowthOrder::Depth, GrowthOrder::Leaf] {
        let limits = Growth { order, depth: 5, leaves: 13, min_rows: 100, ..growth() };
        let trained = train(&one_cpu(), &values, Target::Values(&target), None, limits, 3);
        for tree in &trained.trees {
            assert!(tree.depth().unwrap() <= 5 && tree.leaves() <= 13);
            let mut rows = vec![0; tree.nodes.len()];
            for row in values.chunks_exact(FEATURES) {
                let mut place = 0;
                while !tree.nodes[place].is_leaf() {
                    let node = tree.nodes[place];
                    let value = row[node.feature as usize];
                    let left =
                        if value.is_nan() { node.missing_left } else { value <= node.threshold };
                    place = node.left as usize + usize::from(!left);
                }
                rows[place] += 1;
            }
            let leaf = |place: &usize| tree.nodes[*place].is_leaf();
            assert!((0..rows.len()).filter(leaf).all(|place| rows[place] >= 100), "{rows:?}");
        }
    }
}

#[test]
fn best_first_with_room_for_all_leaves_makes_the_trees_of_level_by_level() {
    let (values, target) = sample(2000);
    let score = |order| {
        let growth = Growth { order, ..growth() };
        train(&one_cpu(), &values, Target::Values(&target), None, growth, 4).scores
    };
    assert_eq!(hash(&score(GrowthOrder::Depth)), hash(&score(GrowthOrder::Leaf)));
}

#[test]
fn what_is_missing_alone_can_decide() {
    let values: Vec<f32> = (0..200).map(|row| if row % 2 == 0 { f32::NAN } else { 1.0 }).collect();
    let target: Vec<f32> = (0..200).map(|row| if row % 2 == 0 { 3.0 } else { -3.0 }).collect();
    let bins = binned(&one_cpu(), &values, 1);
    let mut booster =
        Booster::new(&one_cpu(), &bins, Target::Values(&target), None, &[0.0], growth());
    let trees = booster.round().unwrap();
    let forest = Forest::new(&trees, 1, 1).unwrap();
    let mut scores = [0.0; 3];
    forest.add_to(&one_cpu(), &[f32::NAN, 1.0, -1e30], &mut scores);
    assert!(scores[0] > 0.5 && scores[1] < -0.5 && scores[2] == scores[1], "{scores:?}");
}

#[test]
fn a_constant_table_or_a_single_row_makes_a_tree_of_one_leaf() {
    for rows in [1, 50] {
        let values = vec![2.0; rows * FEATURES];
        let target = vec![1.0; rows];
        let trained = train(&one_cpu(), &values, Target::Values(&target), None, growth(), 2);
        assert!(trained.trees.iter().all(|tree| tree.nodes.len() == 1));
    }
}

#[test]
fn weights_count_like_repeated_rows() {
    let (values, target) = sample(500);
    let weights: Vec<f32> = (0..500).map(|row| (row % 3) as f32).collect();
    let (mut repeated, mut targets) = (Vec::new(), Vec::new());
    for row in 0..500 {
        for _ in 0..row % 3 {
            repeated.extend_from_slice(&values[row * FEATURES..][..FEATURES]);
            targets.push(target[row]);
        }
    }
    // The same cuts for both, since cuts do not look at weights.
    let cuts = Cuts::fit(&one_cpu(), &values, FEATURES, MOST_BINS);
    let trees = |values: &[f32], target: &[f32], weights: Option<&[f32]>| {
        let mut bins = Bins::new(cuts.clone());
        bins.push(&one_cpu(), values);
        let target = Target::Values(target);
        let mut booster = Booster::new(&one_cpu(), &bins, target, weights, &[0.0], growth());
        booster.round().unwrap()
    };
    let (weighted, plain) =
        (trees(&values, &target, Some(&weights)), trees(&repeated, &targets, None));
    assert_eq!(weighted[0].nodes.len(), plain[0].nodes.len());
    for (a, b) in weighted[0].nodes.iter().zip(&plain[0].nodes) {
        assert_eq!((a.feature, a.threshold), (b.feature, b.threshold));
        assert!((a.value - b.value).abs() < 1e-6);
    }
}

#[test]
fn cuts_part_few_values_exactly_and_many_evenly() {
    let cpu = one_cpu();
    let few = Cuts::fit(&cpu, &[3.0, f32::NAN, 1.0, 1.0, 2.0, -0.0, 0.0], 1, 255);
    assert_eq!(few.of(0), [0.5, 1.5, 2.5]);
    let next = f32::from_bits(1.0_f32.to_bits() + 1);
    assert_eq!(Cuts::fit(&cpu, &[1.0, next], 1, 255).of(0), [1.0]);
    let many: Vec<f32> = uniform(10_000, 3);
    let cuts = Cuts::fit(&cpu, &many, 1, 100);
    assert_eq!(cuts.of(0).len(), 99);
    assert!(cuts.of(0).windows(2).all(|pair| pair[0] < pair[1]));
    for (index, cut) in cuts.of(0).iter().enumerate() {
        assert_eq!(many.iter().filter(|value| *value <= cut).count(), (index + 1) * 100);
    }
    // Half of the values are one: it takes one bin.
    let heavy: Vec<f32> = many.iter().map(|value| value.max(0.0)).collect();
    let cuts = Cuts::fit(&cpu, &heavy, 1, 100);
    assert!(cuts.of(0)[0] > 0.0 && cuts.of(0).len() > 45);
    let mut bins = Bins::new(few);
    bins.push(&cpu, &[f32::NAN, -9.0, 0.5, 0.6, 9.0]);
    assert_eq!(bins.column(0), [4, 0, 0, 1, 3]);
}

#[test]
fn what_is_no_tree_makes_no_forest() {
    let node = |left| Node { left, ..Node::leaf(0.0) };
    let leaf = Node::leaf(1.0);
    let forest = |nodes: &[Node]| Forest::new(&[Tree { nodes: nodes.to_vec() }], 1, 1);
    assert!(forest(&[node(1), leaf, leaf]).is_some());
    for nodes in [
        &[][..],
        &[node(1), leaf],
        &[node(2), leaf, leaf],
        &[node(1), node(1), leaf],
        &[node(1), leaf, leaf, leaf],
        &[node(1), node(2), leaf, leaf],
    ] {
        assert!(forest(nodes).is_none(), "{nodes:?}");
    }
    let far = Node { feature: 1, ..node(1) };
    assert!(forest(&[far, leaf, leaf]).is_none());
}
