//! Holds a GPU to the CPU's bits, and times it: prints the tables of `docs/gpu.md`.
//!
//! `cargo run --release -p kiln-ml --example confirm`. Without a GPU, or without NVRTC, it says that it was skipped and why, and
//! ends with 0; with a bit that differs, with 1. `-- --emulated` checks the script itself: the same on an emulated device,
//! without training and times.

use std::any::Any;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kiln_kernels::device::{Device, DeviceError, Launch, Memory, Recorder, bits};
use kiln_kernels::emulator::Emulator;
use kiln_kernels::gpu::Gpu;
use kiln_kernels::launch::{self, DeviceOrder, Layout, Progress, Rows, Rule, Scores, Shape, Then};
use kiln_kernels::nvrtc::{Nvrtc, search};
use kiln_kernels::{
    Adam, AdamState, CHUNK, Cpu, Dropout, Matrix, Order, Philox, Sgd, Start, Threads, column_sums,
    gelu_backward, gelu_forward, product, ready, relu, relu_backward, sigmoid_cross_entropy,
    softmax_cross_entropy, softmax_rows,
};
use kiln_ml::request::Request;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let emulated = std::env::args().any(|argument| argument == "--emulated");
    let done = if emulated { on_emulator() } else { on_gpu() };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn on_emulator() -> Outcome<bool> {
    let folder = tempfile::tempdir()?;
    let device = Emulator::compile(folder.path(), &launch::SOURCES)?.with_multiprocessors(132);
    let equal = kernels(&device)?;
    // The step that is timed, once, at a small batch.
    let (launches, _memories) = step(&device, &[12, 8, 3], 5)?;
    device.program(launches)?.run(2)?;
    Ok(equal)
}

fn on_gpu() -> Outcome<bool> {
    let mut gpu = match Gpu::open(0) {
        Ok(gpu) => gpu,
        Err(error @ (DeviceError::NoDriver { .. } | DeviceError::NoDevice { .. })) => {
            println!("skipped: {error}");
            return Ok(true);
        }
        Err(error) => return Err(error.into()),
    };
    let found = match search::find(&|name| std::env::var_os(name), None) {
        Ok(found) => found,
        Err(missing) => {
            println!("skipped: {missing}");
            return Ok(true);
        }
    };
    let nvrtc = Nvrtc::open(&found.library, &found.builtins)?;
    ready::load(&mut gpu, &nvrtc)?;
    let (cuda, compiler) = (gpu.driver()?, nvrtc.version());
    println!("{} ({}), {} multiprocessors", gpu.name(), gpu.arch(), gpu.multiprocessors());
    println!("driver for CUDA {}.{}, NVRTC {}.{}", cuda.0, cuda.1, compiler.0, compiler.1);
    match gpu.figures() {
        Ok(figures) => println!("{figures:?}"),
        Err(error) => println!("no figures: {error}"),
    }
    println!();
    let equal = kernels(&gpu)?;
    let library: Vec<PathBuf> = found.builtins.into_iter().chain([found.library]).collect();
    let trained = training(&library)?;
    println!(
        "\n| batch | µs a step | TFLOP/s | share of the f32 peak | target |\n|---|---|---|---|---|"
    );
    for (batch, target) in [(128, "35 µs"), (1024, "100 µs"), (8192, "55 %")] {
        time(&gpu, batch, target)?;
    }
    Ok(equal && trained)
}

/// Median of 30 of a step of 784-512-512-10, Adam, in graphs of many steps.
fn time(gpu: &Gpu, batch: u32, target: &str) -> Outcome<()> {
    let sizes = [784, 512, 512, 10];
    let (launches, _memories) = step(gpu, &sizes, batch)?;
    let program = gpu.program(launches)?;
    let steps = 100_000 / batch + 20;
    program.run(steps)?;
    let once = || gpu.time(|| program.run(steps)).map(|ms| ms * 1000.0 / steps as f32);
    let mut times = (0..30).map(|_| once()).collect::<Result<Vec<f32>, _>>()?;
    times.sort_by(f32::total_cmp);
    let median = f64::from(times[15]);
    let products: u32 = sizes.windows(2).map(|pair| pair[0] * pair[1]).sum();
    // Forward, weights' gradients, and the gradient that goes on, which the first layer has none of.
    let work = 2.0 * f64::from(batch) * f64::from(3 * products - sizes[0] * sizes[1]);
    let rate = work / median / 1e6;
    let clock = gpu.figures().ok().and_then(|figures| figures.highest_clock);
    let share = clock.map_or("unknown".to_owned(), |clock| {
        let lanes = f64::from(gpu.multiprocessors() * gpu.arch().lanes());
        format!("{:.1} %", 100.0 * rate / (2.0 * lanes * f64::from(clock) / 1e6))
    });
    println!("| {batch} | {median:.1} | {rate:.1} | {share} | {target} |");
    Ok(())
}

/// The launches of a training step on rows that stand on the device, and the memories that they name.
fn step(
    device: &dyn Device,
    sizes: &[u32],
    batch: u32,
) -> Result<(Vec<Launch<'static>>, Box<dyn Any>), DeviceError> {
    let recorder = Recorder::new(device);
    let to: &dyn Device = &recorder;
    let len = |a: u32, b: u32| a as usize * b as usize;
    let random = |a, b| device.upload(&uniform(len(a, b), u64::from(a)));
    let (progress, still) = (Progress::new(device)?, Progress::new(device)?);
    let rates = device.upload(&vec![1e-4; 1 << 18])?;
    let x = random(batch, sizes[0])?;
    let labels: Vec<u32> = (0..batch).map(|row| row % 3).collect();
    let labels = device.upload_words(&labels)?;
    let (losses, hits) = (device.zeros(batch as usize)?, device.zeros(batch as usize)?);
    let chunks = (batch as usize).div_ceil(CHUNK).max(2);
    let most = |of: &dyn Fn(&[u32]) -> usize| sizes.windows(2).map(of).max().unwrap_or(0);
    let room = device.zeros(
        (chunks * most(&|pair| len(pair[0], pair[1])))
            .max(2 * most(&|pair| len(batch, pair[0].max(pair[1])))),
    )?;
    let sums = device.zeros(chunks * most(&|pair| pair[1] as usize))?;
    // Of each layer: weights, gradient, two moments; the same of its biases; its values, and their gradient.
    let mut layers: Vec<Vec<Memory>> = Vec::new();
    for pair in sizes.windows(2) {
        let mut own = Vec::new();
        for (a, b) in [(pair[0], pair[1]), (1, pair[1])] {
            own.push(random(a, b)?);
            for _ in 0..3 {
                own.push(device.zeros(len(a, b))?);
            }
        }
        own.push(device.zeros(len(batch, pair[1]))?);
        own.push(device.zeros(len(batch, pair[1]))?);
        layers.push(own);
    }
    let last = layers.len() - 1;
    let input = |index: usize| if index == 0 { &x } else { &layers[index - 1][8] };
    let room_of = Some(&room);
    for (index, own) in layers.iter().enumerate() {
        let shape = Shape { rows: batch, cols: sizes[index + 1], depth: sizes[index] };
        let then = if index < last { Then::Relu } else { Then::Nothing };
        let (from, bias) = ((input(index), &own[0]), Some(&own[4]));
        launch::product(to, Layout::Plain, shape, from, bias, &own[8], room_of, then)?;
    }
    let scores = Scores { losses: &losses, hits: &hits };
    let (logits, classes, scale) = (&layers[last][8], sizes[last + 1], 1.0 / batch as f32);
    launch::cross_entropy(to, logits, &labels, scores, &still, batch, classes, batch, scale)?;
    for (index, own) in layers.iter().enumerate().rev() {
        let delta = if index == last { &own[8] } else { &own[9] };
        let (inputs, outputs, then) = (sizes[index], sizes[index + 1], Then::Nothing);
        let shape = Shape { rows: inputs, cols: outputs, depth: batch };
        let from = (input(index), delta);
        launch::product(to, Layout::FirstTransposed, shape, from, None, &own[1], room_of, then)?;
        launch::column_sums(to, delta, batch, outputs, &own[5], &sums)?;
        if index > 0 {
            let (below, from) = (&layers[index - 1], (delta, &own[0]));
            let shape = Shape { rows: batch, cols: inputs, depth: outputs };
            let layout = Layout::SecondTransposed;
            launch::product(to, layout, shape, from, None, &below[9], room_of, then)?;
            launch::relu_backward(to, &below[8], &below[9], len(batch, inputs))?;
        }
    }
    for own in &layers {
        for part in [&own[..4], &own[4..8]] {
            let on = launch::Weights {
                weights: &part[0],
                gradient: &part[1],
                first: &part[2],
                second: &part[3],
            };
            let rule = Rule::Adam(0.9, 0.999, 1e-8);
            launch::optimise(to, rule, on, &rates, &progress, 1e-6)?;
        }
    }
    progress.advance(to)?;
    let launches = recorder.launches();
    let memories = (progress, still, rates, x, labels, losses, hits, room, sums, layers);
    Ok((launches, Box::new(memories)))
}

fn uniform(len: usize, stream: u64) -> Vec<f32> {
    let mut out = vec![0.0; len];
    Philox::new(42, stream).fill_uniform(&mut out, -1.0, 1.0);
    out
}

/// Every kernel against the CPU: a line each, and whether all have its bits.
fn kernels(device: &dyn Device) -> Outcome<bool> {
    let cpu = &Cpu::new(Threads(1));
    let mut all = true;
    println!("| kernel | bits |\n|---|---|");
    let mut tell = |name: &str, got: &[f32], want: &[f32]| {
        let equal = bits(&got[..want.len()]) == bits(want);
        println!("| {name} | {} |", if equal { "the CPU's" } else { "**differ**" });
        all &= equal;
    };
    for (m, k, n) in [(130, 37, 129), (65, 530, 33), (7, 1100, 40), (512, 784, 512)] {
        let (a, b, bias) = (uniform(m * k, 1), uniform(k * n, 2), uniform(n, 3));
        let turned = |values: &[f32], rows: usize, cols: usize| -> Vec<f32> {
            (0..rows * cols).map(|i| values[(i % rows) * cols + i / rows]).collect()
        };
        let mut want = vec![0.0; m * n];
        product(cpu, Matrix::new(&a, m, k), Matrix::new(&b, k, n), Start::Bias(&bias), &mut want);
        relu(cpu, &mut want);
        let shape = Shape { rows: m as u32, cols: n as u32, depth: k as u32 };
        let room = device.zeros(k.div_ceil(CHUNK) * m * n)?;
        let start = device.upload(&bias)?;
        for (layout, a, b) in [
            (Layout::Plain, a.clone(), b.clone()),
            (Layout::SecondTransposed, a.clone(), turned(&b, k, n)),
            (Layout::FirstTransposed, turned(&a, m, k), b.clone()),
        ] {
            let (a, b, out) = (device.upload(&a)?, device.upload(&b)?, device.zeros(m * n)?);
            for room in [None, Some(&room)] {
                let (from, bias) = ((&a, &b), Some(&start));
                launch::product(device, layout, shape, from, bias, &out, room, Then::Relu)?;
                let cut = if room.is_some() { ", cut" } else { "" };
                let name = format!("product {layout:?} {m}×{k}×{n}{cut}");
                tell(&name, &device.download(&out)?, &want);
            }
        }
    }
    let x = uniform(1500 * 130, 4);
    let mut want = vec![0.0; 130];
    column_sums(cpu, Matrix::new(&x, 1500, 130), &mut want);
    let (there, out, room) = (device.upload(&x)?, device.zeros(130)?, device.zeros(3 * 130)?);
    launch::column_sums(device, &there, 1500, 130, &out, &room)?;
    tell("column_sums", &device.download(&out)?, &want);

    const N: usize = 100_000;
    // Of all magnitudes that numbers have, apart from NaN.
    let word = |i: usize| Philox::new(43, 5).block(i as u64 / 4)[i % 4];
    let tidy = |value: f32| if value.is_nan() { 0.0 } else { value };
    let values: Vec<f32> = (0..N).map(|i| tidy(f32::from_bits(word(i)))).collect();
    let passed = uniform(N, 6);
    let (mut forward, mut back) = (values.clone(), passed.clone());
    relu(cpu, &mut forward);
    relu_backward(cpu, &forward, &mut back);
    let (there, gradient) = (device.upload(&values)?, device.upload(&passed)?);
    launch::relu(device, &there, N)?;
    launch::relu_backward(device, &there, &gradient, N)?;
    tell("relu", &device.download(&there)?, &forward);
    tell("relu_backward", &device.download(&gradient)?, &back);
    let small: Vec<f32> = uniform(N, 7).iter().map(|value| value * 12.0).collect();
    let (mut forward, mut back) = (small.clone(), passed.clone());
    gelu_forward(cpu, &mut forward);
    gelu_backward(cpu, &small, &mut back);
    let (there, out) = (device.upload(&small)?, device.zeros(N)?);
    let gradient = device.upload(&passed)?;
    launch::gelu(device, &there, &out, N)?;
    launch::gelu_backward(device, &there, &gradient, N)?;
    tell("gelu", &device.download(&out)?, &forward);
    tell("gelu_backward", &device.download(&gradient)?, &back);
    let weights = uniform(N / 4, 8);
    let weighed: Vec<f32> = (0..N).map(|i| small[i] * weights[i / 4]).collect();
    let of_rows = device.upload(&weights)?;
    launch::weigh(device, &there, &of_rows, N as u32 / 4, 4)?;
    tell("weigh", &device.download(&there)?, &weighed);

    let progress = Progress::new(device)?;
    progress.set(device, 1, 3)?;
    for classes in [1u32, 2, 10, 100, 1000] {
        let rows = 77usize;
        let logits: Vec<f32> =
            uniform(rows * classes as usize, 9).iter().map(|value| value * 30.0).collect();
        let labels: Vec<u32> = (0..rows as u32).map(|row| row % classes.max(2)).collect();
        let (mut gradient, mut lost) = (logits.clone(), vec![0.0; rows]);
        let (there, tags) = (device.upload(&logits)?, device.upload_words(&labels)?);
        let (losses, hits) = (device.zeros(2 * rows)?, device.zeros(2 * rows)?);
        let (scores, count) = (Scores { losses: &losses, hits: &hits }, rows as u32);
        launch::cross_entropy(
            device, &there, &tags, scores, &progress, count, classes, count, 0.5,
        )?;
        match classes {
            1 => sigmoid_cross_entropy(cpu, &mut gradient, &labels, 0.5, &mut lost),
            n => softmax_cross_entropy(cpu, &mut gradient, n as usize, &labels, 0.5, &mut lost),
        }
        tell(&format!("cross entropy, {classes}: gradient"), &device.download(&there)?, &gradient);
        tell(
            &format!("cross entropy, {classes}: losses"),
            &device.download(&losses)?[rows..],
            &lost,
        );
        if classes > 1 {
            let mut want = logits.clone();
            softmax_rows(cpu, &mut want, classes as usize);
            let there = device.upload(&logits)?;
            launch::softmax_rows(device, &there, count, classes)?;
            tell(&format!("softmax_rows, {classes}"), &device.download(&there)?, &want);
        }
    }
    let mut want = passed.clone();
    Dropout::new(Philox::new(9, 100 + 3 * 2), 0.3).apply(cpu, &mut want);
    let there = device.upload(&passed)?;
    let mask = Dropout::new(Philox::new(9, 100), 0.3);
    launch::dropout(device, &there, N, &mask, 2, &progress)?;
    tell("dropout", &device.download(&there)?, &want);
    let out = device.zeros(N)?;
    launch::uniform(device, &out, Philox::new(42, 11), -1.0, 1.0)?;
    tell("uniform", &device.download(&out)?, &uniform(N, 11));
    let order = Order::new(Philox::new(7, 3), 50);
    let there = DeviceOrder::new(device)?;
    there.set(device, &order)?;
    let (x, tags) = (uniform(50 * 9, 13), device.upload_words(&(0..50).collect::<Vec<u32>>())?);
    let (from, to, brought) = (device.upload(&x)?, device.zeros(20 * 9)?, device.zeros(20)?);
    let (from, into) = (Rows { x: &from, labels: &tags }, Rows { x: &to, labels: &brought });
    launch::gather(device, from, &there, &progress, into, 20, 9, 20)?;
    let rows = (20..40).map(|place| order.at(place) as usize);
    let want: Vec<f32> = rows.flat_map(|row| x[row * 9..][..9].to_vec()).collect();
    tell("gather", &device.download(&to)?, &want);
    let rates = device.upload(&[0.0, 0.0, 0.0, 0.001, 0.002, 0.003])?;
    for adam in [true, false] {
        let (mut want, mut state) = (small.clone(), AdamState::new(N));
        let mut velocity = vec![0.0; N];
        let (weights, gradient) = (device.upload(&small)?, device.upload(&passed)?);
        let (first, second) = (device.zeros(N)?, device.zeros(N)?);
        let rule = if adam { Rule::Adam(0.9, 0.999, 1e-8) } else { Rule::Sgd(0.9) };
        progress.set(device, 0, 3)?;
        for rate in [0.001, 0.002, 0.003] {
            if adam {
                Adam { step: rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.01 }
                    .apply(cpu, &mut want, &passed, &mut state);
            } else {
                let sgd = Sgd { rate, momentum: 0.9, decay: 0.01 };
                sgd.apply(cpu, &mut want, &passed, &mut velocity);
            }
            let on = launch::Weights {
                weights: &weights,
                gradient: &gradient,
                first: &first,
                second: &second,
            };
            launch::optimise(device, rule, on, &rates, &progress, 0.01)?;
            progress.advance(device)?;
        }
        tell(if adam { "adam" } else { "sgd" }, &device.download(&weights)?, &want);
    }
    Ok(all)
}

/// Whole trainings of the builder `train` on GPU and CPU: whether models and histories are the same bytes.
fn training(library: &[PathBuf]) -> Outcome<bool> {
    let folder = tempfile::tempdir()?;
    let mut text = "a,b,c,d,y\n".to_owned();
    for row in 0..5000 {
        let at = uniform(5, 1000 + row);
        let class = ((at[0] + at[1] * at[2] + 0.2 * at[4] + 2.0) / 4.0 * 3.0) as u32;
        writeln!(text, "{},{},{},{},{class}", at[0], at[1], at[2], at[3])?;
    }
    let path = folder.path().join("rows.csv");
    std::fs::write(&path, &text)?;
    let digest = blake3::hash(text.as_bytes()).to_hex().to_string();
    let input =
        serde_json::json!({"path": path, "kind": "file", "digest": digest, "executable": false});
    let mut all = true;
    println!("\n| training | bytes |\n|---|---|");
    for (name, model) in [
        ("relu, Adam", serde_json::json!({"kind": "mlp", "hidden": [64, 32]})),
        (
            "gelu, dropout, Adam",
            serde_json::json!({"kind": "mlp", "hidden": [96], "activation": "gelu", "dropout": 0.25}),
        ),
    ] {
        let mut made = Vec::new();
        for backend in ["cpu", "cuda"] {
            let outputs = ["model", "history"].map(|output| {
                (output.to_owned(), folder.path().join(format!("{name}.{backend}.{output}")))
            });
            let args = serde_json::json!({
                "train": input, "valid": input, "label": "y", "model": model, "epochs": 5, "batch": 128,
                "backend": backend,
            });
            let request = Request {
                builder: "train".to_owned(),
                args,
                outputs: outputs.clone().into(),
                threads: 1,
                library: library.to_vec(),
            };
            kiln_ml::run(&request, &mut std::io::sink())?;
            made.push(outputs.map(|(_, path)| contents(&path)));
        }
        let equal = made[0] == made[1];
        println!("| {name} | {} |", if equal { "the CPU's" } else { "**differ**" });
        all &= equal;
    }
    Ok(all)
}

/// What stands in a file, or in the files of a folder, in the order of their names.
fn contents(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return vec![(PathBuf::new(), std::fs::read(path).unwrap_or_default())];
    };
    let mut all: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| (entry.file_name().into(), std::fs::read(entry.path()).unwrap_or_default()))
        .collect();
    all.sort();
    all
}
