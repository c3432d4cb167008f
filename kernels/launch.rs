//! The kernels of `cu/` as calls: which kernel, on how many blocks, with what.
//!
//! Each call gives the same bits as the function of the same name for the CPU.

use crate::device::{Arg, Device, DeviceError, Launch, Memory};
use crate::dropout::Dropout;
use crate::order::Order;
use crate::random::Philox;
use crate::reduce::CHUNK;

/// The sources of the kernels that kiln brings, by the name under which they include each other.
pub const SOURCES: [(&str, &str); 4] = [
    ("elements.cu", include_str!("cu/elements.cu")),
    ("functions.cuh", include_str!("cu/functions.cuh")),
    ("loss.cu", include_str!("cu/loss.cu")),
    ("product.cu", include_str!("cu/product.cu")),
];

/// Which way an operand of a product lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `a` is rows × depth, `b` is depth × cols.
    Plain,
    /// `b` is cols × depth.
    SecondTransposed,
    /// `a` is depth × rows.
    FirstTransposed,
}

/// The sizes of a product: rows × cols elements, each a chain of depth steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the result.
    pub rows: u32,
    /// Columns of the result.
    pub cols: u32,
    /// Steps of each chain.
    pub depth: u32,
}

/// What follows a product in the same kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// `relu`.
    Relu,
}

/// `out = start + a · b`. With more than one chunk `room` has space for each chunk's part of the result if the
/// product is to be cut along its chains; without it, it is not cut.
///
/// # Errors
/// If the device fails.
///
/// # Panics
/// If a memory is too small for the shape.
#[allow(clippy::too_many_arguments)]
pub fn product(
    device: &dyn Device,
    layout: Layout,
    shape: Shape,
    (a, b): (&Memory, &Memory),
    start: Option<&Memory>,
    out: &Memory,
    room: Option<&Memory>,
    then: Then,
) -> Result<(), DeviceError> {
    let Shape { rows, cols, depth } = shape;
    let (count, sizes) = (elements(rows, cols), "the memory of a product");
    assert!(a.len() >= elements(rows, depth) && b.len() >= elements(cols, depth), "{sizes}");
    assert!(
        out.len() >= count && start.is_none_or(|start| start.len() >= cols as usize),
        "{sizes}"
    );
    if count == 0 {
        return Ok(());
    }
    let chunks = depth.div_ceil(CHUNK as u32).max(1);
    let Cut { tile, layers } = Cut::of(shape, device.multiprocessors(), room);
    let layout = match layout {
        Layout::Plain => "nn",
        Layout::SecondTransposed => "nt",
        Layout::FirstTransposed => "tn",
    };
    let target = if layers > 1 { room.unwrap_or(out) } else { out };
    let relu = u32::from(then == Then::Relu);
    device.launch(&Launch {
        kernel: format!("product_{layout}_{tile}").into(),
        grid: [cols.div_ceil(tile), rows.div_ceil(tile), layers],
        threads: if tile == 32 { 64 } else { 256 },
        args: vec![
            a.arg(),
            b.arg(),
            start.map_or(Arg::Word(0), Memory::arg),
            target.arg(),
            Arg::Half(rows),
            Arg::Half(cols),
            Arg::Half(depth),
            Arg::Half(relu),
        ],
    })?;
    if layers > 1 { add_chunks(device, target, out, count, chunks, relu) } else { Ok(()) }
}

/// How a product is divided among blocks.
struct Cut {
    tile: u32,
    layers: u32,
}

impl Cut {
    /// The largest tile that gives every multiprocessor a block; if not even the smallest does, the chunks of the
    /// chains are computed side by side.
    fn of(shape: Shape, multiprocessors: u32, room: Option<&Memory>) -> Cut {
        let Shape { rows, cols, depth } = shape;
        let blocks = |tile: u32| u64::from(rows.div_ceil(tile)) * u64::from(cols.div_ceil(tile));
        let chunks = depth.div_ceil(CHUNK as u32).max(1);
        let fits = room.is_some_and(|room| room.len() / chunks as usize >= elements(rows, cols));
        let enough = u64::from(multiprocessors);
        for layers in [1, chunks] {
            for tile in [128, 64, 32] {
                if blocks(tile) * u64::from(layers) >= enough && (layers == 1 || fits) {
                    return Cut { tile, layers };
                }
            }
        }
        Cut { tile: 32, layers: if fits { chunks } else { 1 } }
    }
}

fn elements(a: u32, b: u32) -> usize {
    a as usize * b as usize
}

fn add_chunks(
    device: &dyn Device,
    parts: &Memory,
    out: &Memory,
    count: usize,
    chunks: u32,
    relu: u32,
) -> Result<(), DeviceError> {
    let args =
        vec![parts.arg(), out.arg(), Arg::Word(count as u64), Arg::Half(chunks), Arg::Half(relu)];
    each(device, "add_chunks", count, args)
}

/// A kernel with a thread for each element, or a loop where there are very many.
fn each(
    device: &dyn Device,
    kernel: &str,
    count: usize,
    args: Vec<Arg>,
) -> Result<(), DeviceError> {
    let blocks = count.div_ceil(256).clamp(1, 32 * device.multiprocessors() as usize) as u32;
    device.launch(&Launch { kernel: kernel.into(), grid: [blocks, 1, 1], threads: 256, args })
}

/// Sums of the columns of `x` (rows × cols) into `out`; `room` has a row for each chunk of 512 rows.
///
/// # Errors
/// If the device fails.
pub fn column_sums(
    device: &dyn Device,
    x: &Memory,
    rows: u32,
    cols: u32,
    out: &Memory,
    room: &Memory,
) -> Result<(), DeviceError> {
    let chunks = rows.div_ceil(CHUNK as u32).max(1);
    assert!(x.len() >= elements(rows, cols) && out.len() >= cols as usize, "sizes of column sums");
    assert!(chunks == 1 || room.len() >= elements(chunks, cols), "room for the chunks");
    let target = if chunks > 1 { room } else { out };
    device.launch(&Launch {
        kernel: "column_sums".into(),
        grid: [cols.div_ceil(128), chunks, 1],
        threads: 128,
        args: vec![x.arg(), target.arg(), Arg::Half(rows), Arg::Half(cols)],
    })?;
    if chunks > 1 { add_chunks(device, room, out, cols as usize, chunks, 0) } else { Ok(()) }
}

/// Relu of `count` elements in place.
///
/// # Errors
/// If the device fails.
pub fn relu(device: &dyn Device, values: &Memory, count: usize) -> Result<(), DeviceError> {
    assert!(values.len() >= count, "sizes of relu");
    each(device, "relu", count, vec![values.arg(), Arg::Word(count as u64)])
}

/// Stops the gradient where the activation is zero.
///
/// # Errors
/// If the device fails.
pub fn relu_backward(
    device: &dyn Device,
    activation: &Memory,
    gradient: &Memory,
    count: usize,
) -> Result<(), DeviceError> {
    pairwise(device, "relu_backward", activation, gradient, count)
}

/// Multiplies each of the rows of `values`, `width` wide, by its weight.
///
/// # Errors
/// If the device fails.
pub fn weigh(
    device: &dyn Device,
    values: &Memory,
    weights: &Memory,
    rows: u32,
    width: u32,
) -> Result<(), DeviceError> {
    let count = elements(rows, width);
    assert!(values.len() >= count && weights.len() >= rows as usize, "sizes of weights");
    let args = vec![values.arg(), weights.arg(), Arg::Word(count as u64), Arg::Half(width)];
    each(device, "weigh", count, args)
}

/// Gelu of `input` into `output`.
///
/// # Errors
/// If the device fails.
pub fn gelu(
    device: &dyn Device,
    input: &Memory,
    output: &Memory,
    count: usize,
) -> Result<(), DeviceError> {
    pairwise(device, "gelu", input, output, count)
}

/// Multiplies the gradient by gelu's slope at `input`.
///
/// # Errors
/// If the device fails.
pub fn gelu_backward(
    device: &dyn Device,
    input: &Memory,
    gradient: &Memory,
    count: usize,
) -> Result<(), DeviceError> {
    pairwise(device, "gelu_backward", input, gradient, count)
}

fn pairwise(
    device: &dyn Device,
    kernel: &str,
    a: &Memory,
    b: &Memory,
    count: usize,
) -> Result<(), DeviceError> {
    assert!(a.len() >= count && b.len() >= count, "sizes of {kernel}");
    each(device, kernel, count, vec![a.arg(), b.arg(), Arg::Word(count as u64)])
}

/// Where a training is, on the device: steps in this epoch, steps altogether.
pub struct Progress(Memory);

impl Progress {
    /// At the first step.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(device: &dyn Device) -> Result<Progress, DeviceError> {
        Ok(Progress(device.zeros(2)?))
    }

    /// At this step of an epoch, and this step altogether.
    ///
    /// # Errors
    /// If the device fails.
    pub fn set(&self, device: &dyn Device, epoch_step: u32, step: u32) -> Result<(), DeviceError> {
        device.write(&self.0, &[epoch_step, step])
    }

    /// One step further.
    ///
    /// # Errors
    /// If the device fails.
    pub fn advance(&self, device: &dyn Device) -> Result<(), DeviceError> {
        device.launch(&Launch {
            kernel: "advance".into(),
            grid: [1; 3],
            threads: 32,
            args: vec![self.0.arg()],
        })
    }
}

/// Drops elements by the mask of the present step: stream `stream + step · streams` of the mask's seed. `mask`'s own
/// stream is `stream`.
///
/// # Errors
/// If the device fails.
pub fn dropout(
    device: &dyn Device,
    values: &Memory,
    count: usize,
    mask: &Dropout,
    streams: u64,
    progress: &Progress,
) -> Result<(), DeviceError> {
    let (philox, threshold, scale) = mask.parts();
    let (seed, stream) = words(philox);
    assert!(values.len() >= count, "sizes of dropout");
    let args = vec![
        values.arg(),
        Arg::Word(count as u64),
        Arg::Word(seed),
        Arg::Word(stream),
        Arg::Word(streams),
        progress.0.arg(),
        Arg::Half(threshold),
        Arg::Float(scale),
    ];
    each(device, "dropout", count.div_ceil(4), args)
}

fn words(philox: Philox) -> (u64, u64) {
    let ([k0, k1], [s0, s1]) = philox.parts();
    (u64::from(k0) | u64::from(k1) << 32, u64::from(s0) | u64::from(s1) << 32)
}

/// Fills `out` with uniform numbers in [low, high).
///
/// # Errors
/// If the device fails.
pub fn uniform(
    device: &dyn Device,
    out: &Memory,
    philox: Philox,
    low: f32,
    high: f32,
) -> Result<(), DeviceError> {
    let (seed, stream) = words(philox);
    let args = vec![
        out.arg(),
        Arg::Word(out.len() as u64),
        Arg::Word(seed),
        Arg::Word(stream),
        Arg::Float(low),
        Arg::Float(high),
    ];
    each(device, "uniform", out.len().div_ceil(4), args)
}

/// What an optimiser does in each step, apart from the step size.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// Adam: β₁, β₂, ε.
    Adam(f32, f32, f32),
    /// Descent with momentum.
    Sgd(f32),
}

/// Weights, and what an optimiser remembers of each; the second state is Adam's alone.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// The weights.
    pub weights: &'a Memory,
    /// Their gradient.
    pub gradient: &'a Memory,
    /// First moment, or velocity.
    pub first: &'a Memory,
    /// Second moment.
    pub second: &'a Memory,
}

/// One step of an optimiser; `rates` holds the step size of every step.
///
/// # Errors
/// If the device fails.
pub fn optimise(
    device: &dyn Device,
    rule: Rule,
    on: Weights<'_>,
    rates: &Memory,
    progress: &Progress,
    decay: f32,
) -> Result<(), DeviceError> {
    let count = on.weights.len();
    assert!(on.gradient.len() >= count && on.first.len() >= count, "sizes of an optimiser");
    let mut args = vec![on.weights.arg(), on.gradient.arg(), on.first.arg()];
    let rest = [Arg::Word(count as u64), rates.arg(), progress.0.arg()];
    match rule {
        Rule::Adam(beta1, beta2, epsilon) => {
            assert!(on.second.len() >= count, "a second moment for each weight");
            args.push(on.second.arg());
            args.extend(rest);
            args.extend([beta1, beta2, epsilon, decay].map(Arg::Float));
            each(device, "adam", count, args)
        }
        Rule::Sgd(momentum) => {
            args.extend(rest);
            args.extend([momentum, decay].map(Arg::Float));
            each(device, "sgd", count, args)
        }
    }
}

/// A part of a table on the device.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// rows × width.
    pub x: &'a Memory,
    /// One a row.
    pub labels: &'a Memory,
}

/// An order of rows on the device, one for each epoch.
pub struct DeviceOrder(Memory);

impl DeviceOrder {
    /// Room for an order.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(device: &dyn Device) -> Result<DeviceOrder, DeviceError> {
        Ok(DeviceOrder(device.zeros(19)?))
    }

    /// The order that holds from here on.
    ///
    /// # Errors
    /// If the device fails.
    pub fn set(&self, device: &dyn Device, order: &Order) -> Result<(), DeviceError> {
        let (keys, low_bits, high_bits) = order.parts();
        let mut words = keys.to_vec();
        words.extend([low_bits, high_bits, order.len()]);
        device.write(&self.0, &words)
    }
}

/// Brings the `count` rows of the present step, `batch` being the size of a full step, from `from` to `to`.
///
/// # Errors
/// If the device fails.
#[allow(clippy::too_many_arguments)]
pub fn gather(
    device: &dyn Device,
    from: Rows<'_>,
    order: &DeviceOrder,
    progress: &Progress,
    to: Rows<'_>,
    count: u32,
    width: u32,
    batch: u32,
) -> Result<(), DeviceError> {
    assert!(
        to.x.len() >= elements(count, width) && to.labels.len() >= count as usize,
        "sizes of a batch"
    );
    let args = vec![
        from.x.arg(),
        from.labels.arg(),
        order.0.arg(),
        progress.0.arg(),
        to.x.arg(),
        to.labels.arg(),
        Arg::Half(count),
        Arg::Half(width),
        Arg::Half(batch),
    ];
    let blocks = count.div_ceil(8).clamp(1, 16 * device.multiprocessors());
    device.launch(&Launch { kernel: "gather".into(), grid: [blocks, 1, 1], threads: 256, args })
}

/// The arrays of an epoch that losses and hits of its rows are written to.
#[derive(Clone, Copy)]
pub struct Scores<'a> {
    /// The loss of each row, in the epoch's order.
    pub losses: &'a Memory,
    /// 1 for a row that is classified rightly.
    pub hits: &'a Memory,
}

/// Turns `count` rows of logits into gradients; losses and hits go to the present step's place. `classes` is 1 for a
/// sigmoid.
///
/// # Errors
/// If the device fails.
#[allow(clippy::too_many_arguments)]
pub fn cross_entropy(
    device: &dyn Device,
    logits: &Memory,
    labels: &Memory,
    scores: Scores<'_>,
    progress: &Progress,
    count: u32,
    classes: u32,
    batch: u32,
    scale: f32,
) -> Result<(), DeviceError> {
    assert!(
        logits.len() >= elements(count, classes) && labels.len() >= count as usize,
        "sizes of a loss"
    );
    let mut args = vec![
        logits.arg(),
        labels.arg(),
        scores.losses.arg(),
        scores.hits.arg(),
        progress.0.arg(),
        Arg::Half(count),
    ];
    let (kernel, rows) = if classes == 1 {
        ("sigmoid_cross_entropy", 256)
    } else {
        args.push(Arg::Half(classes));
        ("softmax_cross_entropy", 8)
    };
    args.extend([Arg::Half(batch), Arg::Float(scale)]);
    device.launch(&Launch {
        kernel: kernel.into(),
        grid: [count.div_ceil(rows).max(1), 1, 1],
        threads: 256,
        args,
    })
}

/// Turns `count` rows of logits into probabilities.
///
/// # Errors
/// If the device fails.
pub fn softmax_rows(
    device: &dyn Device,
    logits: &Memory,
    count: u32,
    classes: u32,
) -> Result<(), DeviceError> {
    assert!(logits.len() >= elements(count, classes), "sizes of a softmax");
    device.launch(&Launch {
        kernel: "softmax_rows".into(),
        grid: [count.div_ceil(8).max(1), 1, 1],
        threads: 256,
        args: vec![logits.arg(), Arg::Half(count), Arg::Half(classes)],
    })
}
