//! Bins and boosts arrays from files, for `tests/bench/boosters.py`: how long it takes, and what comes out.
//!
//! `boost TRAIN LABELS TEST SCORES FEATURES ROUNDS THREADS`: `TRAIN` and `TEST` hold binary32 numbers, row by row,
//! `LABELS` 0 or 1 as 32-bit integers; the scores of `TEST` are written to `SCORES`. Prints one JSON object.

use std::error::Error;
use std::time::Instant;
use std::{env, fs};

use kiln_kernels::trees::{Bins, Booster, Cuts, Forest, Growth, GrowthOrder, MOST_BINS, Target};
use kiln_kernels::{Cpu, Threads};

/// Rows that the cuts are taken from, as `train` does.
const SAMPLE: usize = 1 << 17;

fn words<T>(path: &str, of: fn([u8; 4]) -> T) -> Result<Vec<T>, Box<dyn Error>> {
    Ok(fs::read(path)?.as_chunks().0.iter().map(|chunk| of(*chunk)).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [train, labels, test, scores, features, rounds, threads] = &arguments[..] else {
        return Err("boost TRAIN LABELS TEST SCORES FEATURES ROUNDS THREADS".into());
    };
    let (features, rounds): (usize, usize) = (features.parse()?, rounds.parse()?);
    let cpu = Cpu::new(Threads(threads.parse()?));
    let (train, test) = (words(train, f32::from_le_bytes)?, words(test, f32::from_le_bytes)?);
    let labels = words(labels, u32::from_le_bytes)?;

    let started = Instant::now();
    let rows = labels.len();
    let step = rows.div_ceil(SAMPLE);
    let sample: Vec<f32> = train.chunks_exact(features).step_by(step).flatten().copied().collect();
    let mut bins = Bins::new(Cuts::fit(&cpu, &sample, features, MOST_BINS));
    for block in train.chunks((1 << 16) * features) {
        bins.push(&cpu, block);
    }
    let binned = started.elapsed().as_secs_f64();

    let growth = Growth {
        order: GrowthOrder::Depth,
        depth: 6,
        leaves: 64,
        l2: 1.0,
        min_child_weight: 1.0,
        min_rows: 1,
        min_gain: 0.0,
        learning_rate: 0.1,
        row_share: 1.0,
        column_share: 1.0,
        seed: 0,
    };
    let target = Target::Classes { labels: &labels, classes: 2 };
    let mut booster = Booster::new(&cpu, &bins, target, None, &[0.0], growth);
    let mut trees = Vec::new();
    for _ in 0..rounds {
        trees.extend(booster.round().ok_or("a derivative is not finite")?);
    }
    let trained = started.elapsed().as_secs_f64();

    let forest = Forest::new(&trees, 1, features).ok_or("the trees are none")?;
    let mut out = vec![0.0; test.len() / features];
    forest.add_to(&cpu, &test, &mut out);
    fs::write(scores, out.iter().flat_map(|score| score.to_le_bytes()).collect::<Vec<u8>>())?;
    let mut alone = Vec::new();
    for row in test.chunks_exact(features).take(20_000) {
        let started = Instant::now();
        let mut score = [0.0];
        forest.add_to(&cpu, row, &mut score);
        alone.push(
            started.elapsed().as_secs_f64() + f64::from(std::hint::black_box(score[0])) * 0.0,
        );
    }
    alone.sort_by(f64::total_cmp);
    let median = alone.get(alone.len() / 2).copied().unwrap_or_default();
    println!(
        "{{\"bin\": {binned:.4}, \"bin_and_train\": {trained:.4}, \"row\": {median:.9}, \"trees\": {}}}",
        trees.len()
    );
    Ok(())
}
