//! A perceptron's epochs on a device: the same chains as on a CPU, step after step without the host.
//!
//! Everything that changes from step to step is read from the device's memory by way of a step counter, so that a step is one
//! program, run as often as an epoch has full batches. Unaware of what kind of device it is.

use kiln_kernels::device::{Device, DeviceError, Memory, Program, Recorder};
use kiln_kernels::launch::{
    self, DeviceOrder, Layout, Progress, Rows, Scores, Shape, Then, Weights, product,
};
use kiln_kernels::{CHUNK, Cpu, Dropout, Order, Philox};

use super::backprop::{Tally, weigh};
use super::course::FitError;
use super::data::{Data, Examples};
use super::mlp::{DROPPED, ORDERS, Runner, STEPS, order};
use super::optimiser::Pace;
use crate::model::network::{BLOCK, Network};
use crate::model::{Activation, Hyperparameters};

/// The most steps whose sizes are kept on a device: 1 GiB.
const MOST_STEPS: u64 = 1 << 28;

/// Room for products that are cut along their chains is given up to so many words; larger ones are not cut, which changes
/// no bit.
const MOST_ROOM: usize = 1 << 26;

/// One layer on the device: what it has learnt, and what its optimiser remembers.
struct Layer {
    inputs: u32,
    outputs: u32,
    weight: Parameters,
    bias: Parameters,
}

struct Parameters {
    values: Memory,
    gradient: Memory,
    first: Memory,
    second: Memory,
}

impl Parameters {
    fn new(device: &dyn Device, values: &[f32]) -> Result<Parameters, DeviceError> {
        let room = || device.zeros(values.len());
        let (gradient, first, second) = (room()?, room()?, room()?);
        Ok(Parameters { values: device.upload(values)?, gradient, first, second })
    }

    fn weights(&self) -> Weights<'_> {
        let Parameters { values: weights, gradient, first, second } = self;
        Weights { weights, gradient, first, second }
    }
}

/// What a batch leaves behind in a layer.
struct Passed {
    /// The layer's sums: its activations too, unless those are apart.
    sums: Memory,
    /// What went on, for gelu.
    values: Option<Memory>,
    /// The gradient of the sums.
    delta: Memory,
}

impl Passed {
    fn output(&self) -> &Memory {
        self.values.as_ref().unwrap_or(&self.sums)
    }
}

/// A block of validation rows.
struct Block {
    x: Memory,
    labels: Memory,
    losses: Memory,
    hits: Memory,
    rows: usize,
}

/// The network and its memories: what steps are made of.
struct Plan<'a> {
    device: &'a dyn Device,
    layers: Vec<Layer>,
    passed: Vec<Passed>,
    activation: Activation,
    /// One for each hidden layer, or none at all.
    dropout: Vec<Dropout>,
    room: Memory,
    pace: Pace,
    rates: Memory,
    progress: Progress,
    batch: u32,
}

impl Plan<'_> {
    /// The sums of the last layer for `rows` rows of `x`, launched on `to`.
    fn forward(
        &self,
        to: &dyn Device,
        x: &Memory,
        rows: u32,
        drop: bool,
    ) -> Result<(), DeviceError> {
        let mut input = x;
        for (index, (layer, passed)) in self.layers.iter().zip(&self.passed).enumerate() {
            let shape = Shape { rows, cols: layer.outputs, depth: layer.inputs };
            let hidden = index + 1 < self.layers.len();
            let relu = hidden && self.activation == Activation::Relu;
            let then = if relu { Then::Relu } else { Then::Nothing };
            let (weight, bias) = (&layer.weight.values, Some(&layer.bias.values));
            let room = Some(&self.room);
            product(to, Layout::Plain, shape, (input, weight), bias, &passed.sums, room, then)?;
            let count = rows as usize * layer.outputs as usize;
            if let Some(values) = &passed.values {
                launch::gelu(to, &passed.sums, values, count)?;
            }
            if drop && hidden {
                self.drop(to, index, passed.output(), count)?;
            }
            input = passed.output();
        }
        Ok(())
    }

    fn drop(
        &self,
        to: &dyn Device,
        index: usize,
        values: &Memory,
        count: usize,
    ) -> Result<(), DeviceError> {
        match self.dropout.get(index) {
            Some(mask) => launch::dropout(to, values, count, mask, 1, &self.progress),
            None => Ok(()),
        }
    }

    /// Gradients of all layers from that of the last sums, for `rows` rows of `x`.
    fn backward(&self, to: &dyn Device, x: &Memory, rows: u32) -> Result<(), DeviceError> {
        for (index, layer) in self.layers.iter().enumerate().rev() {
            // The gradient of the last layer's sums stands where the sums stood.
            let delta = if index + 1 == self.layers.len() {
                &self.passed[index].sums
            } else {
                &self.passed[index].delta
            };
            let below = index.checked_sub(1).map(|below| &self.passed[below]);
            let input = below.map_or(x, Passed::output);
            let Layer { inputs, outputs, weight, bias } = layer;
            let (inputs, outputs, room) = (*inputs, *outputs, Some(&self.room));
            let shape = Shape { rows: inputs, cols: outputs, depth: rows };
            let (layout, then) = (Layout::FirstTransposed, Then::Nothing);
            product(to, layout, shape, (input, delta), None, &weight.gradient, room, then)?;
            launch::column_sums(to, delta, rows, outputs, &bias.gradient, &self.room)?;
            if let Some(below) = below {
                let shape = Shape { rows, cols: inputs, depth: outputs };
                let (layout, back) = (Layout::SecondTransposed, &below.delta);
                product(to, layout, shape, (delta, &weight.values), None, back, room, then)?;
                let count = rows as usize * inputs as usize;
                self.drop(to, index - 1, back, count)?;
                match self.activation {
                    Activation::Relu => launch::relu_backward(to, &below.sums, back, count)?,
                    Activation::Gelu => launch::gelu_backward(to, &below.sums, back, count)?,
                }
            }
        }
        Ok(())
    }

    /// Moves all weights by one step, and the counter.
    fn optimise(&self, to: &dyn Device) -> Result<(), DeviceError> {
        let (rule, pace) = (self.pace.rule(), &self.pace);
        for Layer { weight, bias, .. } in &self.layers {
            for (own, decay) in [(weight, pace.decay), (bias, 0.0)] {
                launch::optimise(to, rule, own.weights(), &self.rates, &self.progress, decay)?;
            }
        }
        self.progress.advance(to)
    }

    fn logits(&self) -> &Memory {
        &self.passed[self.passed.len() - 1].sums
    }

    fn classes(&self) -> u32 {
        self.layers[self.layers.len() - 1].outputs
    }
}

/// The training part on the device, and where its batches go.
struct Part {
    x: Memory,
    labels: Memory,
    weights: Option<Memory>,
    order: DeviceOrder,
    losses: Memory,
    hits: Memory,
    batch_x: Memory,
    batch_labels: Memory,
    batch_weights: Memory,
    width: u32,
}

impl Part {
    /// One step on `rows` rows.
    fn step(&self, plan: &Plan<'_>, to: &dyn Device, rows: u32) -> Result<(), DeviceError> {
        let (order, progress, batch) = (&self.order, &plan.progress, plan.batch);
        let from = Rows { x: &self.x, labels: &self.labels };
        let into = Rows { x: &self.batch_x, labels: &self.batch_labels };
        launch::gather(to, from, order, progress, into, rows, self.width, batch)?;
        if let Some(weights) = &self.weights {
            let from = Rows { x: weights, labels: &self.labels };
            let into = Rows { x: &self.batch_weights, labels: &self.batch_labels };
            launch::gather(to, from, order, progress, into, rows, 1, batch)?;
        }
        plan.forward(to, &self.batch_x, rows, true)?;
        let scores = Scores { losses: &self.losses, hits: &self.hits };
        let (logits, classes, scale) = (plan.logits(), plan.classes(), 1.0 / rows as f32);
        let labels = &self.batch_labels;
        launch::cross_entropy(to, logits, labels, scores, progress, rows, classes, batch, scale)?;
        if self.weights.is_some() {
            launch::weigh(to, logits, &self.batch_weights, rows, classes)?;
        }
        plan.backward(to, &self.batch_x, rows)?;
        plan.optimise(to)
    }
}

/// A device on which epochs are carried out. Programs come first: they go before the memories that they name.
pub(super) struct OnDevice<'a> {
    full: Option<Box<dyn Program + 'a>>,
    rest: Option<Box<dyn Program + 'a>>,
    validate: Option<Box<dyn Program + 'a>>,
    plan: Plan<'a>,
    part: Part,
    blocks: Vec<Block>,
    /// The counter of validation, which stays at 0.
    _still: Progress,
    cpu: &'a Cpu,
    data: &'a Data,
    seed: u64,
    steps: u64,
}

impl<'a> OnDevice<'a> {
    /// For `network`, whose weights are initialised.
    pub(super) fn new(
        device: &'a dyn Device,
        cpu: &'a Cpu,
        network: &Network,
        data: &'a Data,
        training: &'a Hyperparameters,
        dropout: f64,
    ) -> Result<OnDevice<'a>, DeviceError> {
        let rows = data.train.rows();
        let batch = (training.batch as usize).min(rows);
        let plan = plan(device, network, data, training, dropout)?;
        let part = part(device, &data.train, network.inputs(), batch)?;
        let program = |rows: usize| -> Result<_, DeviceError> {
            if rows == 0 {
                return Ok(None);
            }
            let recorder = Recorder::new(device);
            part.step(&plan, &recorder, rows as u32)?;
            device.program(recorder.launches()).map(Some)
        };
        let (full, rest) = (program(batch)?, program(rows % batch)?);
        let still = Progress::new(device)?;
        let valid = data.valid.as_ref();
        let blocks = valid.map(|valid| blocks(device, valid, network.inputs())).transpose()?;
        let blocks = blocks.unwrap_or_default();
        let recorder = Recorder::new(device);
        for Block { x, labels, losses, hits, rows } in &blocks {
            let (rows, classes) = (*rows as u32, plan.classes());
            plan.forward(&recorder, x, rows, false)?;
            let scores = Scores { losses, hits };
            let logits = plan.logits();
            launch::cross_entropy(
                &recorder, logits, labels, scores, &still, rows, classes, rows, 1.0,
            )?;
        }
        let launches = recorder.launches();
        let validate = (!launches.is_empty()).then(|| device.program(launches)).transpose()?;
        let (seed, _still) = (training.seed, still);
        Ok(OnDevice { full, rest, validate, plan, part, blocks, _still, cpu, data, seed, steps: 0 })
    }

    /// Losses and hits, as far as they are wanted.
    fn scores(
        &self,
        losses: &Memory,
        hits: &Memory,
        rows: usize,
    ) -> Result<(Vec<f32>, Vec<u32>), DeviceError> {
        let (mut words, mut found) = (vec![0; rows], vec![0; rows]);
        self.plan.device.read(losses, &mut words)?;
        self.plan.device.read(hits, &mut found)?;
        Ok((words.into_iter().map(f32::from_bits).collect(), found))
    }
}

impl Runner for OnDevice<'_> {
    fn pass(&mut self, network: &mut Network, number: u32) -> Result<Tally, FitError> {
        let (device, rows, batch) = (self.plan.device, self.data.train.rows(), self.plan.batch);
        let count = u32::try_from(rows).expect("a table in memory has fewer rows than 2³²");
        let stream = Philox::new(self.seed, ORDERS + u64::from(number));
        self.part.order.set(device, &Order::new(stream, count))?;
        let done = u32::try_from(self.steps).expect("there are fewer steps than MOST_STEPS");
        self.plan.progress.set(device, 0, done)?;
        if let Some(full) = &self.full {
            full.run(count / batch)?;
        }
        if let Some(rest) = &self.rest {
            rest.run(1)?;
        }
        self.steps += u64::from(count.div_ceil(batch));
        let (mut losses, hits) = self.scores(&self.part.losses, &self.part.hits, rows)?;
        if let Some(weights) = &self.data.train.weights {
            let order = order(self.cpu, self.seed, number, rows);
            let own: Vec<f32> = order.iter().map(|row| weights[*row as usize]).collect();
            weigh(&mut losses, &own);
        }
        for (own, there) in network.layers.iter_mut().zip(&self.plan.layers) {
            own.weight = device.download(&there.weight.values)?;
            own.bias = device.download(&there.bias.values)?;
        }
        Ok(tally(&losses, &hits, batch as usize))
    }

    fn score(&mut self, _: &Network) -> Result<Option<Tally>, FitError> {
        let (Some(valid), Some(validate)) = (&self.data.valid, &self.validate) else {
            return Ok(None);
        };
        validate.run(1)?;
        let mut all = Tally::default();
        for (index, Block { losses, hits, rows, .. }) in self.blocks.iter().enumerate() {
            let (mut losses, hits) = self.scores(losses, hits, *rows)?;
            if let Some(weights) = &valid.weights {
                weigh(&mut losses, &weights[index * BLOCK..][..*rows]);
            }
            all.add(tally(&losses, &hits, BLOCK));
        }
        Ok(Some(all))
    }
}

/// The sums of each part of rows, added up in order.
fn tally(losses: &[f32], hits: &[u32], part: usize) -> Tally {
    let mut all = Tally::default();
    for (losses, hits) in losses.chunks(part).zip(hits.chunks(part)) {
        all.add(Tally::of(losses, hits.iter().sum::<u32>() as usize));
    }
    all
}

fn plan<'a>(
    device: &'a dyn Device,
    network: &Network,
    data: &Data,
    training: &Hyperparameters,
    dropout: f64,
) -> Result<Plan<'a>, DeviceError> {
    let rows = data.train.rows();
    let batch = (training.batch as usize).min(rows);
    let most = data.valid.as_ref().map_or(batch, |valid| batch.max(valid.rows().min(BLOCK)));
    let pace = Pace::new(training, rows);
    if pace.steps > MOST_STEPS {
        return Err(DeviceError::Refused(format!(
            "a training of {} steps, and it holds the sizes of {MOST_STEPS} at most; help: fewer epochs, larger \
             batches, or `backend = \"cpu\"`",
            pace.steps
        )));
    }
    let rates: Vec<f32> = (0..pace.steps).map(|step| pace.size(step)).collect();
    let gelu = network.activation == Activation::Gelu;
    let (mut layers, mut passed) = (Vec::new(), Vec::new());
    let (mut room, mut sums) = (1, 1);
    let last = network.layers.len() - 1;
    for (index, layer) in network.layers.iter().enumerate() {
        let (inputs, outputs) = (layer.inputs, layer.outputs);
        let chunks = |depth: usize| depth.div_ceil(CHUNK).max(1);
        room = room.max(chunks(inputs) * most * outputs);
        room = room.max(chunks(batch) * inputs * outputs).max(chunks(outputs) * batch * inputs);
        sums = sums.max(chunks(batch) * outputs);
        layers.push(Layer {
            inputs: inputs as u32,
            outputs: outputs as u32,
            weight: Parameters::new(device, &layer.weight)?,
            bias: Parameters::new(device, &layer.bias)?,
        });
        let apart = gelu && index < last;
        passed.push(Passed {
            sums: device.zeros(most * outputs)?,
            values: apart.then(|| device.zeros(most * outputs)).transpose()?,
            delta: device.zeros(if index < last { batch * outputs } else { 0 })?,
        });
    }
    let mask = |layer: usize| Philox::new(training.seed, DROPPED + layer as u64 * STEPS);
    let hidden = if dropout == 0.0 { 0 } else { last };
    Ok(Plan {
        device,
        layers,
        passed,
        activation: network.activation,
        dropout: (0..hidden).map(|layer| Dropout::new(mask(layer), dropout)).collect(),
        // What is not cut gives the same bits; sums of columns are, so that there has to be room for them.
        room: device.zeros(room.min(MOST_ROOM).max(sums))?,
        rates: device.upload(&rates)?,
        pace,
        progress: Progress::new(device)?,
        batch: batch as u32,
    })
}

fn part(
    device: &dyn Device,
    train: &Examples,
    inputs: usize,
    batch: usize,
) -> Result<Part, DeviceError> {
    let places = train.rows().div_ceil(batch) * batch;
    Ok(Part {
        x: device.upload(&train.x)?,
        labels: device.upload_words(&train.labels)?,
        weights: train.weights.as_ref().map(|weights| device.upload(weights)).transpose()?,
        order: DeviceOrder::new(device)?,
        losses: device.zeros(places)?,
        hits: device.zeros(places)?,
        batch_x: device.zeros(batch * inputs)?,
        batch_labels: device.zeros(batch)?,
        batch_weights: device.zeros(batch)?,
        width: inputs as u32,
    })
}

fn blocks(device: &dyn Device, valid: &Examples, inputs: usize) -> Result<Vec<Block>, DeviceError> {
    let parts = valid.x.chunks(BLOCK * inputs).zip(valid.labels.chunks(BLOCK));
    let block = |(x, labels): (&[f32], &[u32])| {
        Ok(Block {
            x: device.upload(x)?,
            labels: device.upload_words(labels)?,
            losses: device.zeros(labels.len())?,
            hits: device.zeros(labels.len())?,
            rows: labels.len(),
        })
    };
    parts.map(block).collect()
}
