//! The builder `onnx`: a model as one ONNX file, preprocessing included.
//!
//! The graph takes the features as they stand in a table (binary64, in the model's order) and gives the probability of each
//! class and the most probable class's name, so that whoever runs it needs to know nothing else. The same model gives the same bytes.

mod proto;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Deserialize;

use self::proto::{Element, Message, entry, node, operators, tensor, texts, value, whole};
use crate::model::network::{Head, Layer};
use crate::model::{Activation, Model, ModelError};
use crate::output::{OutputError, place, write};
use crate::request::{Input, KindError};

/// The semantic version: a change of any output byte raises it.
pub const VERSION: u32 = 1;

/// The version of the standard operators that the graph is made of, and of the messages that they are written in: both are read by onnxruntime
/// 1.13 (2022) and everything since.
const OPERATORS: i64 = 17;
const IR: i64 = 8;

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
        "the model has {bytes} bytes, an ONNX file at most 2147483647; help: fewer hidden units"
    )]
    TooLarge {
        /// What it would take.
        bytes: usize,
    },
    /// The model is of a kind that this builder does not write.
    #[error(
        "`model` is made of trees, which this version does not write as ONNX; help: export a `logistic` or `mlp` model"
    )]
    Trees,
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
        self.nodes.push(node(operator, inputs, &[output], attributes));
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
    let (standardisation, network) = model.network().ok_or(Error::Trees)?;
    let (mean, scale) = (standardisation.mean(), standardisation.scale());
    let mean = graph.doubles("preprocess.mean", mean);
    let scale = graph.doubles("preprocess.scale", scale);
    let centred = graph.add("Sub", &["features", &mean], "preprocess.centred", &[]);
    let scaled = graph.add("Div", &[&centred, &scale], "preprocess.scaled", &[]);
    let to_float = whole("to", Element::Float as i64);
    let mut values = graph.add("Cast", &[&scaled], "preprocess.standardised", &[to_float]);
    for (index, layer) in network.layers.iter().enumerate() {
        values = graph.layer(index, &values, layer);
        if index + 1 < network.layers.len() {
            values = graph.activate(index, &values, network.activation);
        }
    }
    graph.head(&values, network.head);
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
    file.number(1, IR).text(2, "kiln").message(7, &body).message(8, &operators(OPERATORS));
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
