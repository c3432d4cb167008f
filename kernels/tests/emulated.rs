//! The `.cu` sources themselves, run on this CPU with threads in several orders, against the reference: equal bits.

// Functions beside the tests are tests' too.
#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use kiln_kernels::device::{Device, Memory, bits};
use kiln_kernels::emulator::{Emulator, EmulatorError, Turns, kernels};
use kiln_kernels::launch::{self, DeviceOrder, Layout, Progress, Rows, Rule, Scores, Shape, Then};
use kiln_kernels::{
    Adam, AdamState, Cpu, Dropout, Matrix, Order, Philox, Sgd, Start, Threads, column_sums,
    gelu_backward, gelu_forward, product, relu, relu_backward, sigmoid_cross_entropy,
    softmax_cross_entropy, softmax_rows,
};

const ORDERS: [Turns; 4] =
    [Turns::Ascending, Turns::Descending, Turns::Shuffled(2), Turns::Shuffled(3)];

/// Sources compiled for this CPU; nothing, and a word about it, where there is no compiler.
fn compiled(sources: &[(&str, &str)]) -> Option<Emulator> {
    let folder = tempfile::tempdir().unwrap();
    match Emulator::compile(folder.path(), sources) {
        Ok(emulator) => Some(emulator),
        Err(EmulatorError::NoCompiler) => {
            println!("skipped: there is no C++ compiler on this machine");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The kernels in every order of threads.
fn every_order(check: impl Fn(&Emulator)) {
    let Some(mut emulator) = compiled(&launch::SOURCES) else { return };
    for turns in ORDERS {
        emulator = emulator.taking_turns(turns);
        check(&emulator);
    }
}

fn cpu() -> &'static Cpu {
    static CPU: LazyLock<Cpu> = LazyLock::new(|| Cpu::new(Threads(1)));
    &CPU
}

fn uniform(len: usize, stream: u64) -> Vec<f32> {
    let mut out = vec![0.0; len];
    Philox::new(42, stream).fill_uniform(&mut out, -1.0, 1.0);
    out
}

/// Numbers of every kind: all magnitudes, subnormal ones, zeros of both signs, infinities, NaN.
fn wild(len: usize, stream: u64) -> Vec<f32> {
    let specials =
        [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, -16.5, 104.0];
    let philox = Philox::new(43, stream);
    let word = |i: usize| philox.block(i as u64 / 4)[i % 4];
    (0..len).map(|i| specials.get(i).copied().unwrap_or_else(|| f32::from_bits(word(i)))).collect()
}

fn up(device: &Emulator, values: &[f32]) -> Memory {
    device.upload(values).unwrap()
}

#[track_caller]
fn assert_same(device: &Emulator, memory: &Memory, want: &[f32]) {
    let got = device.download(memory).unwrap();
    let one = |value: f32| if value.is_nan() { f32::NAN } else { value };
    let canonical = |values: &[f32]| bits(&values.iter().map(|v| one(*v)).collect::<Vec<_>>());
    assert!(canonical(&got[..want.len()]) == canonical(want), "the bits differ");
}

/// Matrices of every layout and edge, cut in every way that `multiprocessors` lead to.
fn products(device: &Emulator, (m, k, n): (usize, usize, usize)) -> bool {
    let (a, b, bias) = (uniform(m * k, 1), uniform(k * n, 2), uniform(n, 3));
    let transposed = |values: &[f32], rows: usize, cols: usize| -> Vec<f32> {
        (0..rows * cols).map(|i| values[(i % rows) * cols + i / rows]).collect()
    };
    let shape = Shape { rows: m as u32, cols: n as u32, depth: k as u32 };
    let layouts = [
        (Layout::Plain, a.clone(), b.clone()),
        (Layout::SecondTransposed, a.clone(), transposed(&b, k, n)),
        (Layout::FirstTransposed, transposed(&a, m, k), b.clone()),
    ];
    let room = device.zeros(k.div_ceil(512).max(1) * m * n).unwrap();
    for (start, relued) in [(None, false), (Some(&bias), true)] {
        let mut want = vec![0.0; m * n];
        let from = start.map_or(Start::Zero, |bias| Start::Bias(bias));
        product(cpu(), Matrix::new(&a, m, k), Matrix::new(&b, k, n), from, &mut want);
        if relued {
            relu(cpu(), &mut want);
        }
        let start = start.map(|bias| up(device, bias));
        let then = if relued { Then::Relu } else { Then::Nothing };
        for (layout, a, b) in &layouts {
            let (a, b) = (up(device, a), up(device, b));
            for room in [None, Some(&room)] {
                let out = up(device, &vec![f32::NAN; m * n]);
                launch::product(device, *layout, shape, (&a, &b), start.as_ref(), &out, room, then)
                    .unwrap();
                if bits(&device.download(&out).unwrap()) != bits(&want) {
                    return false;
                }
            }
        }
    }
    true
}

#[test]
fn products_have_the_references_bits_in_every_layout_tile_cut_and_order() {
    let Some(mut emulator) = compiled(&launch::SOURCES) else { return };
    for turns in [Turns::Ascending, Turns::Descending, Turns::Shuffled(2)] {
        emulator = emulator.taking_turns(turns);
        // One multiprocessor takes the largest tile, many the smallest, and chains in parts.
        for (multiprocessors, shapes) in [
            (1, vec![(1, 1, 1), (3, 0, 2), (130, 37, 129), (9, 1025, 7)]),
            (4, vec![(70, 20, 129), (65, 530, 33)]),
            (132, vec![(5, 7, 1), (33, 16, 31), (7, 1100, 40), (40, 48, 64)]),
        ] {
            emulator = emulator.with_multiprocessors(multiprocessors);
            for shape in shapes {
                assert!(products(&emulator, shape), "{shape:?}, {multiprocessors}, {turns:?}");
            }
        }
    }
}

#[test]
fn every_missing_barrier_of_the_product_is_caught() {
    let (name, text) = launch::SOURCES.into_iter().find(|(name, _)| *name == "product.cu").unwrap();
    let header = launch::SOURCES.into_iter().find(|(name, _)| *name == "functions.cuh").unwrap();
    let barrier = "__syncthreads();";
    let barriers: Vec<usize> = text.match_indices(barrier).map(|(at, _)| at).collect();
    assert!(barriers.len() >= 2);
    for at in barriers {
        let planted = format!("{}{}", &text[..at], &text[at + barrier.len()..]);
        let Some(mut emulator) = compiled(&[header, (name, &planted)]) else { return };
        let mut caught = Vec::new();
        for turns in ORDERS {
            emulator = emulator.taking_turns(turns).with_multiprocessors(132);
            if !products(&emulator, (40, 48, 64)) {
                caught.push(turns);
            }
        }
        assert!(!caught.is_empty(), "the barrier at byte {at} is not missed by any order");
    }
}

#[test]
fn sums_of_columns_have_the_references_bits() {
    every_order(|device| {
        for (rows, cols) in [(1, 1), (511, 3), (512, 130), (513, 5), (1500, 2)] {
            let x = uniform(rows * cols, 4);
            let mut want = vec![0.0; cols];
            column_sums(cpu(), Matrix::new(&x, rows, cols), &mut want);
            let (x, out) = (up(device, &x), device.zeros(cols).unwrap());
            let room = device.zeros(cols * rows.div_ceil(512)).unwrap();
            launch::column_sums(device, &x, rows as u32, cols as u32, &out, &room).unwrap();
            assert_same(device, &out, &want);
        }
    });
}

#[test]
fn activations_have_the_references_bits_for_numbers_of_every_kind() {
    every_order(|device| {
        let (values, passed) = (wild(10_000, 5), uniform(10_000, 6));
        let (mut forward, mut back) = (values.clone(), passed.clone());
        relu(cpu(), &mut forward);
        relu_backward(cpu(), &forward, &mut back);
        let (activation, gradient) = (up(device, &values), up(device, &passed));
        launch::relu(device, &activation, 10_000).unwrap();
        launch::relu_backward(device, &activation, &gradient, 10_000).unwrap();
        assert_same(device, &activation, &forward);
        assert_same(device, &gradient, &back);

        let weights = uniform(2500, 15);
        let (rows, there) = (up(device, &values), up(device, &weights));
        launch::weigh(device, &rows, &there, 2500, 4).unwrap();
        let weighed: Vec<f32> = (0..10_000).map(|i| values[i] * weights[i / 4]).collect();
        assert_same(device, &rows, &weighed);

        let (mut forward, mut back) = (values.clone(), passed.clone());
        gelu_forward(cpu(), &mut forward);
        gelu_backward(cpu(), &values, &mut back);
        let (input, output) = (up(device, &values), device.zeros(10_000).unwrap());
        let gradient = up(device, &passed);
        launch::gelu(device, &input, &output, 10_000).unwrap();
        launch::gelu_backward(device, &input, &gradient, 10_000).unwrap();
        assert_same(device, &output, &forward);
        assert_same(device, &gradient, &back);
    });
}

#[test]
fn losses_have_the_references_bits_and_count_hits_as_it_does() {
    every_order(|device| {
        let progress = Progress::new(device).unwrap();
        progress.set(device, 2, 7).unwrap();
        for classes in [2usize, 10, 32, 45, 100] {
            let (rows, batch) = (19usize, 20u32);
            let mut logits: Vec<f32> = uniform(rows * classes, 7).iter().map(|v| v * 8.0).collect();
            // A tie: the first class counts.
            logits[classes] = 50.0;
            logits[2 * classes - 1] = 50.0;
            let labels: Vec<u32> = (0..rows as u32).map(|i| i * 7 % classes as u32).collect();
            let (memory, on_device) = (up(device, &logits), device.upload_words(&labels).unwrap());
            let (losses, hits) = (device.zeros(60).unwrap(), device.zeros(60).unwrap());
            let scores = Scores { losses: &losses, hits: &hits };
            let guesses: Vec<u32> = logits
                .chunks(classes)
                .zip(&labels)
                .map(|(row, label)| {
                    let best = (0..classes).rev().max_by(|a, b| row[*a].total_cmp(&row[*b]));
                    u32::from(best == Some(*label as usize))
                })
                .collect();
            launch::cross_entropy(
                device,
                &memory,
                &on_device,
                scores,
                &progress,
                19,
                classes as u32,
                batch,
                0.25,
            )
            .unwrap();
            let (mut gradient, mut want) = (logits.clone(), vec![0.0; rows]);
            softmax_cross_entropy(cpu(), &mut gradient, classes, &labels, 0.25, &mut want);
            assert_same(device, &memory, &gradient);
            let got = device.download(&losses).unwrap();
            assert_eq!(bits(&got[40..59]), bits(&want));
            let mut found = vec![0; 60];
            device.read(&hits, &mut found).unwrap();
            assert_eq!(found[40..59], guesses);

            let memory = up(device, &logits);
            launch::softmax_rows(device, &memory, 19, classes as u32).unwrap();
            softmax_rows(cpu(), &mut logits, classes);
            assert_same(device, &memory, &logits);
        }
        let logits = uniform(300, 8).iter().map(|v| v * 30.0).collect::<Vec<_>>();
        let labels: Vec<u32> = (0..300).map(|i| i % 2).collect();
        let (memory, on_device) = (up(device, &logits), device.upload_words(&labels).unwrap());
        let (losses, hits) = (device.zeros(900).unwrap(), device.zeros(900).unwrap());
        let scores = Scores { losses: &losses, hits: &hits };
        launch::cross_entropy(device, &memory, &on_device, scores, &progress, 300, 1, 300, 0.5)
            .unwrap();
        let (mut gradient, mut want) = (logits, vec![0.0; 300]);
        sigmoid_cross_entropy(cpu(), &mut gradient, &labels, 0.5, &mut want);
        assert_same(device, &memory, &gradient);
        assert_eq!(bits(&device.download(&losses).unwrap()[600..]), bits(&want));
    });
}

#[test]
fn optimisers_have_the_references_bits_and_take_the_present_steps_rate() {
    every_order(|device| {
        let (weights, gradient) = (uniform(1000, 9), uniform(1000, 10));
        let rates = up(device, &[9.0, 0.001, 0.002, 0.003]);
        let progress = Progress::new(device).unwrap();
        for adam in [true, false] {
            let (mut want, mut state) = (weights.clone(), AdamState::new(1000));
            let mut velocity = vec![0.0; 1000];
            for rate in [0.001, 0.002, 0.003] {
                if adam {
                    Adam { step: rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.01 }
                        .apply(cpu(), &mut want, &gradient, &mut state);
                } else {
                    Sgd { rate, momentum: 0.9, decay: 0.01 }.apply(
                        cpu(),
                        &mut want,
                        &gradient,
                        &mut velocity,
                    );
                }
            }
            let (w, g) = (up(device, &weights), up(device, &gradient));
            let (first, second) = (device.zeros(1000).unwrap(), device.zeros(1000).unwrap());
            let on = launch::Weights { weights: &w, gradient: &g, first: &first, second: &second };
            let rule = if adam { Rule::Adam(0.9, 0.999, 1e-8) } else { Rule::Sgd(0.9) };
            progress.set(device, 0, 1).unwrap();
            for _ in 0..3 {
                launch::optimise(device, rule, on, &rates, &progress, 0.01).unwrap();
                progress.advance(device).unwrap();
            }
            assert_same(device, &w, &want);
        }
    });
}

#[test]
fn random_numbers_masks_and_orders_of_rows_are_the_references() {
    every_order(|device| {
        let out = device.zeros(1003).unwrap();
        launch::uniform(device, &out, Philox::new(42, 11), -1.0, 1.0).unwrap();
        assert_same(device, &out, &uniform(1003, 11));

        let progress = Progress::new(device).unwrap();
        progress.set(device, 1, 5).unwrap();
        let values = up(device, &uniform(1003, 12));
        let mask = Dropout::new(Philox::new(9, 100), 0.3);
        launch::dropout(device, &values, 1003, &mask, 2, &progress).unwrap();
        let mut want = uniform(1003, 12);
        Dropout::new(Philox::new(9, 110), 0.3).apply(cpu(), &mut want);
        assert_same(device, &values, &want);

        for width in [3usize, 8, 70] {
            let x = uniform(50 * width, 13);
            let labels: Vec<u32> = (100..150).collect();
            let order = Order::new(Philox::new(7, 3), 50);
            let there = DeviceOrder::new(device).unwrap();
            there.set(device, &order).unwrap();
            let (from, tags) = (up(device, &x), device.upload_words(&labels).unwrap());
            let (to, brought) = (device.zeros(20 * width).unwrap(), device.zeros(20).unwrap());
            launch::gather(
                device,
                Rows { x: &from, labels: &tags },
                &there,
                &progress,
                Rows { x: &to, labels: &brought },
                20,
                width as u32,
                20,
            )
            .unwrap();
            let rows: Vec<usize> = (20..40).map(|place| order.at(place) as usize).collect();
            let want: Vec<f32> =
                rows.iter().flat_map(|r| x[r * width..][..width].to_vec()).collect();
            assert_same(device, &to, &want);
            let mut got = vec![0; 20];
            device.read(&brought, &mut got).unwrap();
            assert!(got.iter().zip(&rows).all(|(label, row)| *label == 100 + *row as u32));
        }
    });
}

#[test]
fn a_write_past_the_end_and_an_unknown_kernel_are_errors() {
    let source = "extern \"C\" __global__ void past(float* out) { out[threadIdx.x] = 1.0f; }";
    assert_eq!(kernels(source), ["past"]);
    let Some(device) = compiled(&[("past.cu", source)]) else { return };
    let out = device.zeros(8).unwrap();
    let launch = |kernel: &'static str, threads| kiln_kernels::device::Launch {
        kernel: kernel.into(),
        grid: [1; 3],
        threads,
        args: vec![out.arg()],
    };
    device.launch(&launch("past", 8)).unwrap();
    assert_eq!(device.download(&out).unwrap(), [1.0; 8]);
    assert!(device.launch(&launch("other", 8)).unwrap_err().to_string().contains("`other`"));
    device.launch(&launch("past", 9)).unwrap();
    assert!(device.download(&out).unwrap_err().to_string().contains("past the end"));
}
