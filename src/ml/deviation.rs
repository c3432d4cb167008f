//! How far the numbers in two files of one format lie apart: JSON, tables, safetensors.
//!
//! Everything but numbers has to be equal. Files are read side by side, a piece at a time, so that their size does not
//! matter. It is unaware of why two files are compared.

mod json;
mod table;
mod tensors;

use std::{
    io,
    path::{Path, PathBuf},
};

/// How far two numbers may lie apart that count as equal: by at most `absolute`, or by at most `relative` of the larger
/// one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// The difference.
    pub absolute: f64,
    /// The difference, divided by the larger magnitude.
    pub relative: f64,
}

impl Bound {
    /// How many times the bound fits in the distance of two numbers: above 1 they are too far apart. NaN is equal to NaN.
    fn excess(self, before: f64, after: f64) -> f64 {
        if before == after || (before.is_nan() && after.is_nan()) {
            return 0.0;
        }
        if !before.is_finite() || !after.is_finite() {
            return f64::INFINITY;
        }
        self.excess_of((before - after).abs(), before.abs().max(after.abs()))
    }

    fn excess_of(self, distance: f64, larger: f64) -> f64 {
        let times = |allowed: f64| {
            if distance <= allowed && allowed > 0.0 {
                distance / allowed
            } else if allowed > 0.0 {
                (distance / allowed).max(1.0 + f64::EPSILON)
            } else {
                f64::INFINITY
            }
        };
        times(self.absolute).min(times(self.relative * larger))
    }
}

/// Two numbers that are not the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Deviation {
    /// Where in the file: `/metrics/f1`, ``row 3, column `loss` ``, `layers.0.weight[3, 17]`.
    pub place: String,
    /// What it was.
    pub before: f64,
    /// What it is.
    pub after: f64,
    /// How many times the bound fits between them.
    pub excess: f64,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Comparison {
    /// They differ in numbers at most.
    Alike {
        /// The two numbers that lie farthest apart, measured by the bound.
        worst: Option<Deviation>,
        /// How many pairs lie farther apart than the bound allows.
        beyond: u64,
    },
    /// They differ in something else; the first such difference, with its place.
    Unlike(String),
}

/// A format in which numbers can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON document. `NaN` and `Infinity` are numbers, as some programs write them.
    Json,
    /// Records of fields, with this byte between them.
    Table(u8),
    /// Named tensors.
    Safetensors,
}

impl Format {
    /// The format that a file of this name has, if it is one of these.
    pub fn of(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "json" => Some(Self::Json),
            "csv" => Some(Self::Table(b',')),
            "tsv" => Some(Self::Table(b'\t')),
            "safetensors" => Some(Self::Safetensors),
            _ => None,
        }
    }
}

/// Why two files could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum DeviationError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not of its format.
    #[error("{} is not what its name says: {why}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Compares two files of one format.
///
/// # Errors
/// If one cannot be read, or is not of this format.
pub fn compare(
    format: Format,
    before: &Path,
    after: &Path,
    bound: Bound,
) -> Result<Comparison, DeviationError> {
    let mut found = Found { bound, worst: None, excess: 0.0, beyond: 0 };
    let compared = match format {
        Format::Json => json::compare(before, after, &mut found),
        Format::Table(delimiter) => table::compare(before, after, delimiter, &mut found),
        Format::Safetensors => tensors::compare(before, after, &mut found),
    };
    match compared {
        Ok(()) => Ok(Comparison::Alike { worst: found.worst, beyond: found.beyond }),
        Err(Stop::Unlike(what)) => Ok(Comparison::Unlike(what)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Why a comparison goes no further.
enum Stop {
    Unlike(String),
    Failed(DeviationError),
}

impl From<DeviationError> for Stop {
    fn from(error: DeviationError) -> Self {
        Self::Failed(error)
    }
}

/// Which of the two files.
#[derive(Clone, Copy)]
struct Source<'a>(&'a Path);

impl Source<'_> {
    fn unread(self, source: io::Error) -> DeviationError {
        DeviationError::Read { path: self.0.to_owned(), source }
    }

    fn wrong(self, why: impl Into<String>) -> DeviationError {
        DeviationError::Format { path: self.0.to_owned(), why: why.into() }
    }
}

/// What was found so far.
struct Found {
    bound: Bound,
    worst: Option<Deviation>,
    excess: f64,
    beyond: u64,
}

impl Found {
    /// Takes in a pair of numbers.
    fn pair(&mut self, before: f64, after: f64, place: impl FnOnce() -> String) {
        self.note(self.bound.excess(before, after), before, after, place);
    }

    /// Takes in a pair of numbers as they are written. Whole ones are compared exactly, however large. Whether both are
    /// numbers.
    fn texts(&mut self, before: &str, after: &str, place: impl FnOnce() -> String) -> bool {
        let (Ok(one), Ok(other)) = (before.parse::<f64>(), after.parse::<f64>()) else {
            return false;
        };
        let excess = match (before.parse::<i128>(), after.parse::<i128>()) {
            (Ok(whole), Ok(another)) if whole != another => {
                self.bound.excess_of(whole.abs_diff(another) as f64, one.abs().max(other.abs()))
            }
            _ => self.bound.excess(one, other),
        };
        self.note(excess, one, other, place);
        true
    }

    fn note(&mut self, excess: f64, before: f64, after: f64, place: impl FnOnce() -> String) {
        self.beyond += u64::from(excess > 1.0);
        if excess > self.excess {
            self.excess = excess;
            self.worst = Some(Deviation { place: place(), before, after, excess });
        }
    }
}

#[cfg(test)]
mod tests;
