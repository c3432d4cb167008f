//! How long one row takes: `latency MODEL [ROWS]` applies a model folder to rows one at a time, on one thread, and prints
//! the median of several rounds in nanoseconds.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use kiln_kernels::Philox;
use kiln_ml::model::Model;

/// Rounds, of which the median counts.
const ROUNDS: usize = 9;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("latency MODEL [ROWS]: there is no MODEL")?;
    let count: usize = arguments.next().map_or(Ok(20_000), |rows| rows.parse())?;
    let model = Model::load(Path::new(&folder))?;
    let features = model.features().len();
    let mut values = vec![0.0_f32; count * features];
    Philox::new(1, 1).fill_uniform(&mut values, 0.0, 30.0);
    let rows: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for row in rows.chunks_exact(features) {
            black_box(model.probabilities(black_box(row), 1)?);
        }
        rounds.push(began.elapsed().as_nanos() / count as u128);
    }
    rounds.sort_unstable();
    println!("{}", rounds[ROUNDS / 2]);
    Ok(())
}
