//! Boosted trees as a model's numbers: a start for each score, and trees that are added to it.
//!
//! In `model.safetensors`: `trees.start` F32 [outputs]; `trees.nodes` U32 [trees], how many nodes each
//! tree has; and, for the nodes of all trees one after the other, `nodes.feature` U32,
//! `nodes.threshold` F32 (up to here a value goes to the left child), `nodes.missing_left` U8,
//! `nodes.left` U32 (the left child's place in its tree, the right one's is the next; 0 for a leaf)
//! and `nodes.value` F32. Tree t belongs to output t mod outputs. Unaware of `model.json`.

use kiln_kernels::Cpu;
use kiln_kernels::trees::{Forest, Node, Tree};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::weights::{Tensor, f32s, serialize, tensor, u32s};

/// Trees, ready to be applied.
#[derive(Clone, Debug)]
pub(crate) struct Trees {
    start: Vec<f32>,
    trees: Vec<Tree>,
    forest: Forest,
}

impl PartialEq for Trees {
    fn eq(&self, other: &Trees) -> bool {
        self.start == other.start && self.trees == other.trees
    }
}

impl Trees {
    /// `None` if a tree is none, reads a feature that there is not, or a number is not finite.
    pub(crate) fn new(start: Vec<f32>, trees: Vec<Tree>, features: usize) -> Option<Trees> {
        let nodes = || trees.iter().flat_map(|tree| &tree.nodes);
        let finite = start.iter().all(|value| value.is_finite())
            && nodes().all(|node| node.threshold.is_finite() && node.value.is_finite());
        let whole = !start.is_empty() && trees.len().is_multiple_of(start.len());
        let forest = Forest::new(&trees, start.len(), features)?;
        (finite && whole).then_some(Trees { start, trees, forest })
    }

    /// What each score starts from.
    pub(crate) fn start(&self) -> &[f32] {
        &self.start
    }

    /// The trees, in order; tree t belongs to score t mod `start().len()`.
    pub(crate) fn trees(&self) -> &[Tree] {
        &self.trees
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.trees.iter().map(|tree| tree.nodes.len()).sum()
    }

    /// How many trees there are.
    pub(crate) fn len(&self) -> usize {
        self.trees.len()
    }

    /// The scores (rows × outputs) of `x` (rows × features; NaN is missing).
    pub(crate) fn scores(&self, cpu: &Cpu, x: &[f32], features: usize) -> Vec<f32> {
        let mut scores = self.start.repeat(x.len() / features);
        self.forest.add_to(cpu, x, &mut scores);
        scores
    }

    /// The file's bytes.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, SafeTensorError> {
        let nodes = || self.trees.iter().flat_map(|tree| &tree.nodes);
        let floats = |of: fn(&Node) -> f32| {
            let values: Vec<f32> = nodes().map(of).collect();
            Tensor::f32(&[values.len()], &values)
        };
        let words = |of: fn(&Node) -> u32| Tensor::u32(nodes().map(of));
        let sizes = self.trees.iter().map(|tree| tree.nodes.len() as u32);
        let missing = nodes().map(|node| u8::from(node.missing_left)).collect();
        serialize(&[
            ("nodes.feature".to_owned(), words(|node| node.feature)),
            ("nodes.left".to_owned(), words(|node| node.left)),
            ("nodes.missing_left".to_owned(), Tensor::u8(missing)),
            ("nodes.threshold".to_owned(), floats(|node| node.threshold)),
            ("nodes.value".to_owned(), floats(|node| node.value)),
            ("trees.nodes".to_owned(), Tensor::u32(sizes)),
            ("trees.start".to_owned(), Tensor::f32(&[self.start.len()], &self.start)),
        ])
    }

    /// The trees in the file; the error is a fragment that says what does not fit.
    pub(crate) fn decode(bytes: &[u8], outputs: usize, features: usize) -> Result<Trees, String> {
        const TENSORS: usize = 7;
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let count = |name: &str| {
            let view = file.tensor(name).map_err(|_| format!("there is no tensor `{name}`"))?;
            match view.shape() {
                [count] => Ok(*count),
                shape => Err(format!("`{name}` has the shape {shape:?} where it is a list")),
            }
        };
        let (trees, all) = (count("trees.nodes")?, count("nodes.left")?);
        let start = f32s(tensor(&file, "trees.start", Dtype::F32, &[outputs])?);
        let sizes = u32s(tensor(&file, "trees.nodes", Dtype::U32, &[trees])?);
        let feature = u32s(tensor(&file, "nodes.feature", Dtype::U32, &[all])?);
        let left = u32s(tensor(&file, "nodes.left", Dtype::U32, &[all])?);
        let missing = tensor(&file, "nodes.missing_left", Dtype::U8, &[all])?;
        let threshold = f32s(tensor(&file, "nodes.threshold", Dtype::F32, &[all])?);
        let value = f32s(tensor(&file, "nodes.value", Dtype::F32, &[all])?);
        if file.len() != TENSORS {
            return Err(format!("it holds {} tensors, the model has {TENSORS}", file.len()));
        }
        if missing.iter().any(|flag| *flag > 1) {
            return Err("`nodes.missing_left` is 0 or 1".to_owned());
        }
        let mut nodes = (0..all).map(|place| Node {
            feature: feature[place],
            threshold: threshold[place],
            missing_left: missing[place] == 1,
            left: left[place],
            value: value[place],
        });
        let total: u64 = sizes.iter().map(|size| u64::from(*size)).sum();
        if total != all as u64 {
            return Err(format!("the trees have {total} nodes, the file {all}"));
        }
        let trees = sizes
            .iter()
            .map(|size| Tree { nodes: nodes.by_ref().take(*size as usize).collect() })
            .collect();
        Trees::new(start, trees, features).ok_or_else(|| {
            "the nodes are no trees over the model's features with finite numbers".to_owned()
        })
    }
}
