//! The `train` builder: a classifier from a table.
//!
//! Writes two outputs: `model`, a model folder, and `history`, the learning curve as CSV. Both depend
//! on the arguments and the data alone; threads and instruction sets do not change a bit.

mod backprop;
mod course;
mod data;
mod gbdt;
mod logistic;
mod mlp;
mod on_device;
mod optimiser;
mod place;
mod weights;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use kiln_kernels::device::Device;
use kiln_kernels::{Cpu, Threads};
use serde::Deserialize;

use self::backprop::score;
pub use self::course::FitError;
pub use self::data::DataError;
use self::data::{Data, Wanted};
use self::mlp::Runner;
use self::on_device::OnDevice;
pub use self::place::{Backend, BackendError};
pub use self::weights::WeightError;
use crate::model::network::{Head, Layer, Network};
use crate::model::trees::Trees;
use crate::model::{
    ClassWeights, Document, FORMAT, Hyperparameters, Model, ModelError, ModelSpec, Optimizer,
    Preprocessing, Schedule,
};
use crate::output::{OutputError, place, write};
use crate::request::Input;

/// The semantic version: a change of any output byte raises it.
pub const VERSION: u32 = 3;

/// The largest number of weights that is trained: four numbers each must fit an ordinary memory.
const MOST_WEIGHTS: usize = 1 << 28;

/// The arguments of `train`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// The part to learn from: CSV with a header.
    pub train: Input,
    /// The part to choose the best epoch by.
    pub valid: Option<Input>,
    /// The column to predict.
    pub label: String,
    /// The class that counts as positive, of two.
    pub positive: Option<String>,
    /// Columns that are no features.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// The kind of model.
    pub model: ModelSpec,
    /// Passes over the training part, at most; for `logistic`, steps of the optimiser.
    pub epochs: u32,
    /// Rows in one step of an `mlp`.
    #[serde(default = "default_batch")]
    pub batch: u32,
    /// The optimiser's step size, for an `mlp`.
    #[serde(default = "default_learning_rate")]
    pub learning_rate: f64,
    /// How an `mlp`'s steps move its weights.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// How an `mlp`'s learning rate goes on.
    #[serde(default)]
    pub schedule: Schedule,
    /// Strength of the penalty `l2 / (2 · rows) · ‖weights‖²`.
    #[serde(default = "default_l2")]
    pub l2: f64,
    /// Names the initial weights and the order of rows of an `mlp`.
    #[serde(default)]
    pub seed: u64,
    /// Epochs without a better validation loss after which training ends.
    pub patience: Option<u32>,
    /// The column that says how much each row counts.
    pub weight: Option<String>,
    /// How much each row of a class counts.
    pub class_weights: Option<BTreeMap<String, f64>>,
    /// Each class counts as much as any other.
    #[serde(default)]
    pub balance: bool,
    /// What it is computed on.
    #[serde(default)]
    pub backend: Option<Backend>,
}

fn default_batch() -> u32 {
    32
}

fn default_learning_rate() -> f64 {
    0.001
}

fn default_l2() -> f64 {
    1.0
}

/// Why nothing was trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The data is not fit for it.
    #[error(transparent)]
    Data(#[from] DataError),
    /// An argument's value makes no sense.
    #[error("`{name}` is {value}; help: {help}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        help: &'static str,
    },
    /// What it was to be computed on cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Training came to no result.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The model could not be written.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An output has no place, or could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The log could not be written.
    #[error("cannot write the log")]
    Log(#[from] io::Error),
}

/// Trains a model and writes `model` and `history` to the places in `outputs`; progress goes to
/// `log`. `threads` never changes a byte of either. `library` is NVRTC, if it was found for this step: builtins first.
///
/// # Errors
/// If the arguments or the data are not fit for it, the backend cannot be used, training diverges, or a file cannot be
/// written.
pub fn run(
    args: Args,
    library: &[PathBuf],
    outputs: &BTreeMap<String, PathBuf>,
    threads: usize,
    log: &mut dyn Write,
) -> Result<(), TrainError> {
    let gpu = place::choose(&args, library, log)?;
    let device = gpu.as_ref().map(|gpu| gpu as &dyn Device);
    run_on(&Cpu::new(Threads(threads)), device, args, outputs, log)
}

/// Trains on `device`, if there is one and the model is a perceptron, and else on the CPU.
fn run_on(
    cpu: &Cpu,
    device: Option<&dyn Device>,
    args: Args,
    outputs: &BTreeMap<String, PathBuf>,
    log: &mut dyn Write,
) -> Result<(), TrainError> {
    check(&args)?;
    let (model, history) = (place(outputs, "model")?, place(outputs, "history")?);
    let class_weights = match args.class_weights {
        Some(given) => ClassWeights::Given(given),
        None if args.balance => ClassWeights::Balanced,
        None => ClassWeights::Equal,
    };
    let preprocessing = match args.model {
        ModelSpec::Gbdt(_) => Preprocessing::AsIs,
        ModelSpec::Logistic | ModelSpec::Mlp { .. } => Preprocessing::Standardise,
    };
    let data = Data::read(Wanted {
        train: &args.train,
        valid: args.valid.as_ref(),
        label: &args.label,
        positive: args.positive.as_deref(),
        ignore: &args.ignore,
        weight: args.weight.as_deref(),
        class_weights: &class_weights,
        preprocessing,
    })?;
    let rows = data.train.rows();
    writeln!(log, "{rows} rows, {} features, classes {:?}", data.features.len(), data.classes)?;
    let training = Hyperparameters {
        epochs: args.epochs,
        batch: args.batch,
        learning_rate: args.learning_rate,
        optimizer: args.optimizer,
        schedule: args.schedule,
        l2: args.l2,
        seed: args.seed,
        patience: args.patience,
        weight: args.weight,
        class_weights,
    };
    let blank = || blank(&args.model, data.features.len(), data.classes.len());
    let (course, fitted) = match &args.model {
        ModelSpec::Logistic => {
            let mut network = blank()?;
            let course = logistic::fit(cpu, &mut network, &data, &training, log)?;
            (course, Fitted::Network(network))
        }
        ModelSpec::Mlp { dropout, .. } => {
            let mut network = blank()?;
            mlp::initialise(&mut network, training.seed);
            let mut runner: Box<dyn Runner> = match device {
                None => Box::new(mlp::OnCpu::new(cpu, &network, &data, &training, *dropout)),
                Some(device) => {
                    let made = OnDevice::new(device, cpu, &network, &data, &training, *dropout);
                    Box::new(made.map_err(FitError::Device)?)
                }
            };
            let course = mlp::fit(runner.as_mut(), &mut network, &training, log)?;
            drop(runner);
            (course, Fitted::Network(network))
        }
        ModelSpec::Gbdt(spec) => {
            let (course, trees) = gbdt::fit(cpu, &data, &training, spec, log)?;
            (course, Fitted::Trees(trees))
        }
    };
    let learned = course.learned(match &fitted {
        Fitted::Network(network) => score(cpu, network, &data.train),
        Fitted::Trees(trees) => gbdt::score(cpu, trees, &data, &data.train),
    });
    writeln!(log, "kept epoch {}: train loss {:.6}", learned.epoch, learned.train_loss)?;
    let document = Document {
        format: FORMAT,
        model: args.model,
        label: args.label,
        classes: data.classes,
        positive: args.positive,
        features: data.features,
        ignore: args.ignore,
        preprocessing,
        training,
        train: data.train.part,
        valid: data.valid.map(|valid| valid.part),
        learned,
    };
    let fitted = match (fitted, data.standardisation) {
        (Fitted::Trees(trees), _) => Model::of_trees(document, trees),
        (Fitted::Network(network), standardisation) => {
            let standardisation = standardisation.expect("networks are given standardised values");
            Model::new(document, standardisation, network)
        }
    };
    fitted.save(model)?;
    Ok(write(history, course.csv())?)
}

/// What training has set.
enum Fitted {
    Network(Network),
    Trees(Trees),
}

/// Refuses arguments that no data could make sense of.
fn check(args: &Args) -> Result<(), TrainError> {
    let wrong = |name, value: &dyn ToString, help| {
        Err(TrainError::Argument { name, value: value.to_string(), help })
    };
    if args.epochs == 0 {
        return wrong("epochs", &args.epochs, "at least 1");
    }
    if args.batch == 0 {
        return wrong("batch", &args.batch, "at least 1");
    }
    if !(args.learning_rate > 0.0 && args.learning_rate.is_finite()) {
        return wrong("learning_rate", &args.learning_rate, "a number above 0, such as 0.001");
    }
    if !(args.l2 >= 0.0 && args.l2.is_finite()) {
        return wrong("l2", &args.l2, "0 or more; 1 is scikit-learn's C = 1");
    }
    if args.patience == Some(0) {
        return wrong("patience", &0, "at least 1; leave it out to run all epochs");
    }
    if args.patience.is_some() && args.valid.is_none() {
        return wrong("valid", &"absent", "`patience` watches the validation loss: give `valid`");
    }
    if let Optimizer::Sgd { momentum } = args.optimizer
        && !(0.0..1.0).contains(&momentum)
    {
        return wrong("optimizer.momentum", &momentum, "at least 0 and below 1, such as 0.9");
    }
    if args.balance && args.class_weights.is_some() {
        return wrong("balance", &true, "give `balance` or `class_weights`, not both");
    }
    if let ModelSpec::Gbdt(spec) = &args.model
        && let Some((name, value, help)) = gbdt::fault(spec)
    {
        return wrong(name, &value, help);
    }
    if let ModelSpec::Mlp { hidden, dropout, .. } = &args.model {
        if hidden.is_empty() || hidden.contains(&0) {
            let help = "one or more layers of at least 1 unit, such as [64, 32]";
            return wrong("model.hidden", &format!("{hidden:?}"), help);
        }
        if !(0.0..1.0).contains(dropout) {
            return wrong("model.dropout", dropout, "at least 0 and below 1, such as 0.1");
        }
    }
    Ok(())
}

/// A network of the right shape, all weights zero.
fn blank(spec: &ModelSpec, features: usize, classes: usize) -> Result<Network, TrainError> {
    let head = Head::of(classes);
    let hidden = spec.hidden().iter().map(|&units| units as usize);
    let sizes: Vec<usize> = [features].into_iter().chain(hidden).chain([head.outputs()]).collect();
    let weights = sizes
        .windows(2)
        .try_fold(0usize, |sum, pair| sum.checked_add(pair[0].checked_mul(pair[1])?));
    if weights.is_none_or(|weights| weights > MOST_WEIGHTS) {
        return Err(TrainError::Argument {
            name: "model.hidden",
            value: format!("{:?}", spec.hidden()),
            help: "fewer units: this makes more than 268 million weights",
        });
    }
    let layer = |pair: &[usize]| Layer {
        inputs: pair[0],
        outputs: pair[1],
        weight: vec![0.0; pair[0] * pair[1]],
        bias: vec![0.0; pair[1]],
    };
    let layers = sizes.windows(2).map(layer).collect();
    Ok(Network { layers, activation: spec.activation(), head })
}

#[cfg(test)]
mod tests;
