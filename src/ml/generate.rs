//! The `generate` builder: tables whose truth is known, with any number of rows.
//!
//! Three outputs: `data`, a CSV file; `probabilities`, for each row the chance with which its label was drawn; and
//! `optimum`, what no model can do better than on these rows, except by luck: the scores of those chances themselves. A
//! chance is a function of what the row says, as written, so that nothing is left which a model could not see.
//!
//! Row `i` depends on table, seed, drift and `i` alone: a longer table begins with the shorter one. All arithmetic is
//! IEEE 754 without libm, so that a table is the same on every machine and for any number of threads.

mod clicks;
mod dice;
mod fraud;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use kiln_kernels::sigmoid;
use serde::{Deserialize, Serialize};

use self::dice::Dice;
use crate::metrics::{Decision, Metric, score};
use crate::output::{self, OutputError, place};

/// The semantic version: a change of any output byte raises it.
pub const VERSION: u32 = 1;

/// The most rows of one table.
pub const MOST_ROWS: u64 = 1_000_000_000;

/// Rows that one thread makes at a time.
const BLOCK: u64 = 1 << 15;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Card payments, of which few are fraud.
    Fraud,
    /// Advertisements that were shown, of which some were clicked.
    Clicks,
}

impl Kind {
    /// The header line, label last.
    fn header(self) -> &'static str {
        match self {
            Self::Fraud => fraud::HEADER,
            Self::Clicks => clicks::HEADER,
        }
    }

    /// The Philox stream of its rows.
    fn stream(self) -> u64 {
        match self {
            Self::Fraud => 1,
            Self::Clicks => 2,
        }
    }

    /// Appends the features of one row to `line`, and gives the log-odds of its label.
    fn row(self, dice: &mut Dice, drift: f64, seed: u64, line: &mut String) -> f64 {
        match self {
            Self::Fraud => fraud::row(dice, drift, line),
            Self::Clicks => clicks::row(dice, drift, seed, line),
        }
    }
}

/// The arguments of `generate`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// Which table.
    pub table: Kind,
    /// How many rows.
    pub rows: u64,
    /// Another seed is other rows of the same world.
    #[serde(default)]
    pub seed: u64,
    /// How far the world has moved, from 0 to 1.
    #[serde(default)]
    pub drift: f64,
}

/// Why nothing was generated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// An output has no place, or could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The log cannot be written.
    #[error("cannot write the log")]
    Log(#[source] io::Error),
}

/// What the chances themselves score on the labels that were drawn from them.
#[derive(Debug, Serialize)]
struct Optimum {
    rows: u64,
    positives: u64,
    roc_auc: Option<f64>,
    log_loss: Option<f64>,
    accuracy: Option<f64>,
}

/// Some rows: their lines, and for each its chance and what was drawn.
#[derive(Default)]
struct Rows {
    data: String,
    chances: Vec<f32>,
    labels: Vec<bool>,
}

/// Writes the outputs `data`, `probabilities` and `optimum`. `threads` never changes a byte of them.
///
/// # Errors
/// When `rows` or `drift` is out of range, or an output cannot be written.
pub fn run(
    args: &Args,
    outputs: &BTreeMap<String, PathBuf>,
    threads: usize,
    log: &mut dyn Write,
) -> Result<(), Error> {
    let argument = |name, value, help| Err(Error::Argument { name, value, help });
    if args.rows == 0 || args.rows > MOST_ROWS {
        return argument("rows", args.rows.to_string(), "1 to 1000000000");
    }
    // Written so that NaN is refused too.
    if !(args.drift >= 0.0 && args.drift <= 1.0) {
        return argument("drift", args.drift.to_string(), "0 (the world as it was) to 1");
    }
    let mut data = Sink::create(place(outputs, "data")?)?;
    let mut probabilities = Sink::create(place(outputs, "probabilities")?)?;
    data.write(args.table.header())?;
    probabilities.write("probability\n")?;

    let (mut truth, mut scores) = (Vec::new(), Vec::new());
    let mut next = 0;
    while next < args.rows {
        for rows in portion(args, next, threads) {
            data.write(&rows.data)?;
            let mut lines = String::new();
            for chance in &rows.chances {
                writeln!(lines, "{chance}").expect("a text takes all");
                scores.extend([1.0 - chance, *chance]);
            }
            probabilities.write(&lines)?;
            truth.extend(rows.labels.iter().map(|&label| usize::from(label)));
            next += rows.labels.len() as u64;
        }
    }
    data.finish()?;
    probabilities.finish()?;

    let decision = Decision::Threshold { positive: 1, threshold: 0.5 };
    let scores = score(2, decision, &truth, &scores);
    let positives = scores.per_class[1].support;
    let optimum = Optimum {
        rows: args.rows,
        positives,
        roc_auc: scores.value(Metric::RocAuc),
        log_loss: scores.value(Metric::LogLoss),
        accuracy: scores.value(Metric::Accuracy),
    };
    output::write(place(outputs, "optimum")?, output::json(&optimum))?;
    writeln!(log, "{} rows, {positives} of them positive", args.rows).map_err(Error::Log)?;
    if let (Some(area), Some(loss)) = (optimum.roc_auc, optimum.log_loss) {
        writeln!(log, "optimum: roc_auc {area:.4}, log_loss {loss:.4}").map_err(Error::Log)?;
    }
    Ok(())
}

/// The next blocks of rows from `start` on, one for each thread, in order.
fn portion(args: &Args, start: u64, threads: usize) -> Vec<Rows> {
    let threads = u64::try_from(threads.max(1)).unwrap_or(1);
    let starts: Vec<u64> =
        (0..threads).map(|thread| start + thread * BLOCK).filter(|&at| at < args.rows).collect();
    let made = |at: u64| block(args, at, (at + BLOCK).min(args.rows));
    std::thread::scope(|scope| {
        let (last, others) = starts.split_last().expect("there is a row to make");
        let workers: Vec<_> = others
            .iter()
            .map(|&at| (at, std::thread::Builder::new().spawn_scoped(scope, move || made(at))))
            .collect();
        let last = made(*last);
        let rows = workers.into_iter().map(|(at, worker)| match worker {
            Ok(worker) => worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // No thread is to be had: it is made here.
            Err(_) => made(at),
        });
        let mut rows: Vec<Rows> = rows.collect();
        rows.push(last);
        rows
    })
}

/// Rows `from` to `to`.
fn block(args: &Args, from: u64, to: u64) -> Rows {
    let mut rows = Rows::default();
    for row in from..to {
        let mut dice = Dice::new(args.seed, args.table.stream(), row);
        let odds = args.table.row(&mut dice, args.drift, args.seed, &mut rows.data);
        #[expect(clippy::cast_possible_truncation, reason = "a chance has the precision of f32")]
        let chance = sigmoid(odds as f32);
        let label = dice.chance(f64::from(chance));
        rows.data.push_str(if label { ",1\n" } else { ",0\n" });
        rows.chances.push(chance);
        rows.labels.push(label);
    }
    rows
}

/// A file that is written from front to back.
struct Sink<'a> {
    path: &'a Path,
    file: BufWriter<File>,
}

impl<'a> Sink<'a> {
    fn create(path: &'a Path) -> Result<Self, OutputError> {
        let file = File::create_new(path)
            .map_err(|source| OutputError::Write { path: path.to_owned(), source })?;
        Ok(Self { path, file: BufWriter::with_capacity(1 << 16, file) })
    }

    fn write(&mut self, text: &str) -> Result<(), OutputError> {
        self.file
            .write_all(text.as_bytes())
            .map_err(|source| OutputError::Write { path: self.path.to_owned(), source })
    }

    fn finish(mut self) -> Result<(), OutputError> {
        self.file
            .flush()
            .map_err(|source| OutputError::Write { path: self.path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests;
