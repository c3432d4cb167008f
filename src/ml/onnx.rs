//! The builder `onnx`: a model as one ONNX file, preprocessing included.
//!
//! The graph takes the features as they stand in a table (binary64, in the model's order) and gives the probability of each
//! class and the most probable class's name, so that whoever runs it needs to know nothing else. The same model gives the same bytes.

mod proto;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use kiln_kernels::trees::Node;
use serde::Deserialize;

use self::proto::{
    Element, Message, entry, node, operators, reals, tensor, texts, value, whole, wholes, word,
    words,
};
use crate::model::network::{Head, Layer, Network};
use crate::model::trees::Trees;
use crate::model::{Activation, Model, ModelError};
use crate::output::{OutputError, place, write};
use crate::preprocess::Standardisation;
use crate::request::{Input, KindError};

/// The semantic version: a change of any output byte raises it.
pub const VERSION: u32 = 1;

/// The version of the standard operators that the graph is made of, and of the messages that they are written in: both are read by onnxruntime
/// 1.13 (2022) and everything since.
const OPERATORS: i64 = 17;
const IR: i64 = 8;

/// The operators for trees: their domain, and the version with which onnxruntime 1.13 came.
const TREES: (&str, i64) = ("ai.onnx.ml", 3);

/// What a protobuf message can hold at most.
const LARGEST: usize = i32::MAX as usize;

/// The arguments of `onnx`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// The model, a model folder.
    pub model: Input,
}

/// Why a model was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input is a file.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// The model cannot be loaded.
    #[error("cannot use `model`")]
    Model(#[from] ModelError),
    /// The model is larger than the format allows.
    #[error(
        "the model has {bytes} bytes, an ONNX file at most 2147483647; help: fewer hidden units, or fewer trees"
    )]
    TooLarge {
        /// What it would take.
        bytes: usize,
    },
    /// An output has no place, or could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The log could not be written.
    #[error("cannot write the log")]
    Log(#[from] io::Error),
}

/// Writes the model to the place of `out`.
///
/// # Errors
/// If the model cannot be read, is too large, or the file cannot be written.
pub fn run(
    args: &Args,
    outputs: &BTreeMap<String, PathBuf>,
    log: &mut dyn Write,
) -> Result<(), Error> {
    let out = place(outputs, "out")?;
    let model = Model::load(args.model.tree("model")?)?;
    let bytes = encode(&model, &args.model.digest)?;
    if bytes.len() > LARGEST {
        return Err(Error::TooLarge { bytes: bytes.len() });
    }
    let (features, classes) = (model.features().len(), model.classes().len());
    writeln!(log, "{features} features, {classes} classes, {} bytes", bytes.len())?;
    Ok(write(out, bytes)?)
}

/// A graph that grows from its input on.
#[derive(Default)]
struct Graph {
    nodes: Vec<Message>,
    constants: Vec<Message>,
}

impl Graph {
    /// Adds an operator; gives the name of what it makes.
    fn add(
        &mut self,
        operator: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[Message],
    ) -> String {
        self.nodes.push(node(("", operator), inputs, &[output], attributes));
        output.to_owned()
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constants.push(tensor(name, Element::Float, dims, &bytes));
        name.to_owned()
    }

    fn doubles(&mut self, name: &str, values: &[f64]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constants.push(tensor(name, Element::Double, &[values.len()], &bytes));
        name.to_owned()
    }

    /// The layers, and what happens to a row before them; gives the name of the scores.
    fn network(&mut self, standardisation: &Standardisation, network: &Network) -> String {
        let mean = self.doubles("preprocess.mean", standardisation.mean());
        let scale = self.doubles("preprocess.scale", standardisation.scale());
        let centred = self.add("Sub", &["features", &mean], "preprocess.centred", &[]);
        let scaled = self.add("Div", &[&centred, &scale], "preprocess.scaled", &[]);
        let to_float = whole("to", Element::Float as i64);
        let mut values = self.add("Cast", &[&scaled], "preprocess.standardised", &[to_float]);
        for (index, layer) in network.layers.iter().enumerate() {
            values = self.layer(index, &values, layer);
            if index + 1 < network.layers.len() {
                values = self.activate(index, &values, network.activation);
            }
        }
        values
    }

    /// The trees; gives the name of the scores.
    ///
    /// One operator holds them all, as columns over their nodes. A value goes on at the true child up to its threshold, as
    /// in kiln, and a missing one where the node says.
    fn trees(&mut self, trees: &Trees) -> String {
        let to_float = whole("to", Element::Float as i64);
        let values = self.add("Cast", &["features"], "preprocess.narrowed", &[to_float]);
        let outputs = trees.start().len();
        let nodes: Vec<(i64, i64, &Node)> = (0..)
            .zip(trees.trees())
            .flat_map(|(tree, own)| (0..).zip(&own.nodes).map(move |(at, node)| (tree, at, node)))
            .collect();
        let all = || nodes.iter().copied();
        let leaves = || all().filter(|(.., node)| node.is_leaf());
        // What is too large for 32 bits is infinite here and the largest number in kiln: no threshold holds either back.
        let threshold = |node: &Node| match node.threshold {
            f32::MAX => f32::INFINITY,
            threshold => threshold,
        };
        let child = |node: &Node, place: u32| {
            if node.is_leaf() { 0 } else { i64::from(node.left + place) }
        };
        let attributes = [
            word("aggregate_function", "SUM"),
            reals("base_values", trees.start().iter().copied()),
            whole("n_targets", outputs as i64),
            wholes("nodes_falsenodeids", all().map(|(.., node)| child(node, 1))),
            wholes("nodes_featureids", all().map(|(.., node)| i64::from(node.feature))),
            wholes(
                "nodes_missing_value_tracks_true",
                all().map(|(.., node)| i64::from(node.missing_left)),
            ),
            words(
                "nodes_modes",
                all().map(|(.., node)| if node.is_leaf() { "LEAF" } else { "BRANCH_LEQ" }),
            ),
            wholes("nodes_nodeids", all().map(|(_, at, _)| at)),
            wholes("nodes_treeids", all().map(|(tree, ..)| tree)),
            wholes("nodes_truenodeids", all().map(|(.., node)| child(node, 0))),
            reals("nodes_values", all().map(|(.., node)| threshold(node))),
            word("post_transform", "NONE"),
            wholes("target_ids", leaves().map(|(tree, ..)| tree % outputs as i64)),
            wholes("target_nodeids", leaves().map(|(_, at, _)| at)),
            wholes("target_treeids", leaves().map(|(tree, ..)| tree)),
            reals("target_weights", leaves().map(|(.., node)| node.value)),
        ];
        let operator = (TREES.0, "TreeEnsembleRegressor");
        self.nodes.push(node(operator, &[&values], &["scores"], &attributes));
        "scores".to_owned()
    }

    fn layer(&mut self, index: usize, input: &str, layer: &Layer) -> String {
        let [weight, bias, sums] =
            ["weight", "bias", "sums"].map(|part| format!("layers.{index}.{part}"));
        let weight = self.floats(&weight, &[layer.inputs, layer.outputs], &layer.weight);
        let bias = self.floats(&bias, &[layer.outputs], &layer.bias);
        self.add("Gemm", &[input, &weight, &bias], &sums, &[])
    }

    /// The activation, by its definition in `docs/numerics.md`.
    fn activate(&mut self, index: usize, input: &str, activation: Activation) -> String {
        let name = |part: &str| format!("layers.{index}.{part}");
        match activation {
            Activation::Relu => self.add("Relu", &[input], &name("relu"), &[]),
            Activation::Gelu => {
                let low = self.floats(&name("gelu.low"), &[], &[-16.0]);
                let high = self.floats(&name("gelu.high"), &[], &[16.0]);
                let cubic = self.floats(&name("gelu.cubic"), &[], &[0.071_354_82]);
                let linear = self.floats(&name("gelu.linear"), &[], &[1.595_769_2]);
                let clipped = self.add("Clip", &[input, &low, &high], &name("gelu.clipped"), &[]);
                let square = self.add("Mul", &[&clipped, &clipped], &name("gelu.square"), &[]);
                let scaled = self.add("Mul", &[&square, &cubic], &name("gelu.scaled"), &[]);
                let slope = self.add("Add", &[&scaled, &linear], &name("gelu.slope"), &[]);
                let inner = self.add("Mul", &[&clipped, &slope], &name("gelu.inner"), &[]);
                let gate = self.add("Sigmoid", &[&inner], &name("gelu.gate"), &[]);
                self.add("Mul", &[input, &gate], &name("gelu"), &[])
            }
        }
    }

    fn head(&mut self, logits: &str, head: Head) {
        match head {
            Head::Sigmoid => {
                let other = self.add("Neg", &[logits], "head.other", &[]);
                let first = self.add("Sigmoid", &[&other], "head.first", &[]);
                let second = self.add("Sigmoid", &[logits], "head.second", &[]);
                self.add("Concat", &[&first, &second], "probabilities", &[whole("axis", 1)]);
            }
            Head::Softmax(_) => {
                self.add("Softmax", &[logits], "probabilities", &[whole("axis", 1)]);
            }
        }
    }
}

/// The file's bytes; `digest` names the model that it comes from.
fn encode(model: &Model, digest: &str) -> Result<Vec<u8>, Error> {
    let mut graph = Graph::default();
    let (scores, head) = match (model.network(), model.trees()) {
        (Some((standardisation, network)), _) => {
            (graph.network(standardisation, network), network.head)
        }
        (_, Some(trees)) => (graph.trees(trees), Head::of(model.classes().len())),
        (None, None) => unreachable!("a model is a network or trees"),
    };
    graph.head(&scores, head);
    // On a tie the first class counts, as everywhere.
    let flat = whole("keepdims", 0);
    let best = graph.add("ArgMax", &["probabilities"], "best", &[whole("axis", 1), flat]);
    graph.constants.push(texts("classes", model.classes()));
    graph.add("Gather", &["classes", &best], "label", &[whole("axis", 0)]);

    let mut body = Message::default();
    for node in &graph.nodes {
        body.message(1, node);
    }
    body.text(2, "model");
    for constant in &graph.constants {
        body.message(5, constant);
    }
    body.message(11, &value("features", Element::Double, Some(model.features().len())));
    body.message(12, &value("label", Element::Text, None));
    body.message(12, &value("probabilities", Element::Float, Some(model.classes().len())));
    let list = |names: &[String]| {
        serde_json::to_string(names).expect("a list of texts serialises to memory")
    };
    let mut file = Message::default();
    file.number(1, IR).text(2, "kiln").message(7, &body).message(8, &operators("", OPERATORS));
    if model.trees().is_some() {
        file.message(8, &operators(TREES.0, TREES.1));
    }
    for (key, value) in [
        ("features", list(model.features()).as_str()),
        ("classes", list(model.classes()).as_str()),
        ("label", model.label()),
        ("positive", model.positive().unwrap_or_default()),
        ("model", digest),
    ] {
        file.message(14, &entry(key, value));
    }
    Ok(file.into_bytes())
}

#[cfg(test)]
mod tests;
