//! Trees as they are applied: node tables, and a walk without branches through all of them.

use crate::Cpu;

/// One node. Children stand side by side, so the left one's place tells both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// Which value decides.
    pub feature: u32,
    /// Up to here, and no further, a value goes to the left.
    pub threshold: f32,
    /// Whether NaN goes to the left.
    pub missing_left: bool,
    /// The left child's place in the tree; 0, the root's own, for a leaf.
    pub left: u32,
    /// A leaf's value.
    pub value: f32,
}

impl Node {
    /// A leaf.
    pub fn leaf(value: f32) -> Node {
        Node { feature: 0, threshold: 0.0, missing_left: true, left: 0, value }
    }

    /// Whether it has no children.
    pub fn is_leaf(&self) -> bool {
        self.left == 0
    }
}

/// One tree: node 0 is the root, and children come after their parent.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// The nodes.
    pub nodes: Vec<Node>,
}

impl Tree {
    /// Edges from the root to the deepest leaf; `None` if this is no tree: a child that is not
    /// there, does not come after its parent, or has two parents.
    pub fn depth(&self) -> Option<u32> {
        let mut depths: Vec<Option<u32>> = vec![None; self.nodes.len()];
        *depths.first_mut()? = Some(0);
        let mut deepest = 0;
        for (place, node) in self.nodes.iter().enumerate() {
            let depth = depths[place]?;
            deepest = deepest.max(depth);
            if node.is_leaf() {
                continue;
            }
            let left = node.left as usize;
            if left <= place || left + 1 >= self.nodes.len() {
                return None;
            }
            for child in [left, left + 1] {
                if depths[child].replace(depth + 1).is_some() {
                    return None;
                }
            }
        }
        Some(deepest)
    }

    /// How many leaves there are.
    pub fn leaves(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_leaf()).count()
    }
}

/// A node as the walk reads it: sixteen bytes. A leaf leads to itself.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
struct Step {
    threshold: f32,
    /// The feature, doubled, plus 1 if NaN goes to the right.
    feature: u32,
    left: u32,
    value: f32,
}

/// Trees whose values are added up, `outputs` sums a row; tree t belongs to output t mod `outputs`.
#[derive(Clone, Debug)]
pub struct Forest {
    steps: Vec<Step>,
    /// Each tree's root and depth.
    roots: Vec<(u32, u32)>,
    outputs: usize,
    features: usize,
}

/// Trees that are walked at the same time, so that the waits for memory overlap.
const TOGETHER: usize = 8;

impl Forest {
    /// A forest for rows of `features` values; `None` if a tree is none, reads a feature that there
    /// is not, or there are more than 2³¹ nodes.
    pub fn new(trees: &[Tree], outputs: usize, features: usize) -> Option<Forest> {
        let mut steps = Vec::new();
        let mut roots = Vec::with_capacity(trees.len());
        for tree in trees {
            let first = steps.len();
            roots.push((u32::try_from(first).ok()?, tree.depth()?));
            for (place, node) in tree.nodes.iter().enumerate() {
                if !node.is_leaf() && node.feature as usize >= features {
                    return None;
                }
                let step = if node.is_leaf() {
                    // No value passes infinity, and NaN goes to the left: the walk stays here.
                    Step {
                        threshold: f32::INFINITY,
                        feature: 0,
                        left: u32::try_from(first + place).ok()?,
                        value: node.value,
                    }
                } else {
                    Step {
                        threshold: node.threshold,
                        feature: node.feature.checked_mul(2)? + u32::from(!node.missing_left),
                        left: u32::try_from(first).ok()?.checked_add(node.left)?,
                        value: node.value,
                    }
                };
                steps.push(step);
            }
        }
        (steps.len() < 1 << 31 && outputs > 0 && features > 0).then_some(Forest {
            steps,
            roots,
            outputs,
            features,
        })
    }

    /// How many trees there are.
    pub fn trees(&self) -> usize {
        self.roots.len()
    }

    /// How many sums a row has.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Adds to `scores` (rows × outputs) what the trees say of `rows` (rows × features; NaN is
    /// missing), tree after tree.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub fn add_to(&self, cpu: &Cpu, rows: &[f32], scores: &mut [f32]) {
        let count = rows.len() / self.features;
        assert_eq!(rows.len(), count * self.features, "whole rows of {}", self.features);
        assert_eq!(scores.len(), count * self.outputs, "{} scores a row", self.outputs);
        if count == 1 {
            return self.add_row(rows, scores);
        }
        let part = cpu.rows_per_thread(count, self.roots.len() * 32, 1);
        cpu.over_rows(scores, self.outputs, part, |first, scores| {
            const BLOCK: usize = 64;
            let rows = &rows[first * self.features..];
            let blocks = scores.chunks_mut(BLOCK * self.outputs);
            for (scores, rows) in blocks.zip(rows.chunks(BLOCK * self.features)) {
                self.add_block(rows, scores);
            }
        });
    }

    /// One row: several trees at a time.
    fn add_row(&self, row: &[f32], scores: &mut [f32]) {
        let mut tree = 0;
        for roots in self.roots.chunks(TOGETHER) {
            let mut places = [0_u32; TOGETHER];
            let mut deepest = 0;
            for (place, &(root, depth)) in places.iter_mut().zip(roots) {
                *place = root;
                deepest = deepest.max(depth);
            }
            for _ in 0..deepest {
                for place in &mut places {
                    *place = self.next(*place, row);
                }
            }
            for &place in &places[..roots.len()] {
                scores[tree % self.outputs] += self.steps[place as usize].value;
                tree += 1;
            }
        }
    }

    /// Some rows: one tree after the other, so that it stays in the cache.
    fn add_block(&self, rows: &[f32], scores: &mut [f32]) {
        for (tree, &(root, depth)) in self.roots.iter().enumerate() {
            let output = tree % self.outputs;
            let rows = rows.chunks(TOGETHER * self.features);
            for (rows, scores) in rows.zip(scores.chunks_mut(TOGETHER * self.outputs)) {
                let mut places = [root; TOGETHER];
                for _ in 0..depth {
                    let rows = rows.chunks_exact(self.features);
                    for (place, row) in places.iter_mut().zip(rows) {
                        *place = self.next(*place, row);
                    }
                }
                let scores = scores.chunks_exact_mut(self.outputs);
                for (scores, place) in scores.zip(places) {
                    scores[output] += self.steps[place as usize].value;
                }
            }
        }
    }

    #[inline(always)]
    fn next(&self, place: u32, row: &[f32]) -> u32 {
        let step = self.steps[place as usize];
        let value = row[(step.feature >> 1) as usize];
        let right = (value > step.threshold) | (value.is_nan() & (step.feature & 1 == 1));
        step.left + u32::from(right)
    }
}
