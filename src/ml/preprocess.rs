//! From a table's text to the numbers that a model computes with.
//!
//! Features are looked up by name, so the order of columns in a file does not matter. Unaware of
//! models and of training.

use crate::table::{Table, TableError};

/// A feature's values are too large to standardise.
#[derive(Debug, thiserror::Error)]
#[error(
    "the values of column {column:?} are too large to standardise in 64 bits; help: rescale the \
     column, or ignore it"
)]
pub struct RangeError {
    /// The column's name.
    pub column: String,
}

/// The named columns as finite numbers, row by row (rows × features).
///
/// # Errors
/// If a column is not there, or a cell is empty or not a finite number.
pub fn matrix(table: &Table, features: &[String]) -> Result<Vec<f64>, TableError> {
    let mut out = vec![0.0; table.rows() * features.len()];
    for (index, feature) in features.iter().enumerate() {
        let values = table.numbers(table.column(feature)?)?;
        for (row, value) in out.chunks_exact_mut(features.len()).zip(values) {
            row[index] = value;
        }
    }
    Ok(out)
}

/// As [`matrix`], with NaN where a value is missing: an empty cell, or `NA`, `NaN` or `null` in any case.
///
/// # Errors
/// If a column is not there, or a cell holds something else that is not a finite number.
pub fn matrix_with_gaps(table: &Table, features: &[String]) -> Result<Vec<f64>, TableError> {
    let mut out = vec![0.0; table.rows() * features.len()];
    for (index, feature) in features.iter().enumerate() {
        let column = table.column(feature)?;
        for (row, values) in out.chunks_exact_mut(features.len()).enumerate() {
            values[index] = table.number_or_gap(row, column)?;
        }
    }
    Ok(out)
}

/// Rounded to 32 bits; what is too large is the largest finite number, so that it stays a number.
pub fn narrowed(rows: &[f64]) -> Vec<f32> {
    rows.iter().map(|value| (*value as f32).clamp(f32::MIN, f32::MAX)).collect()
}

/// Moves each feature to mean 0 and scale 1, as they were on the rows it was fitted on.
#[derive(Clone, Debug, PartialEq)]
pub struct Standardisation {
    mean: Vec<f64>,
    scale: Vec<f64>,
}

impl Standardisation {
    /// Means and population standard deviations (divisor n) of the columns of `rows`, which is
    /// rows × features. A constant feature keeps the scale 1.
    ///
    /// # Errors
    /// If a sum of squares leaves the range of 64-bit numbers.
    pub fn fit(rows: &[f64], features: &[String]) -> Result<Standardisation, RangeError> {
        let width = features.len();
        let count = rows.len() / width.max(1);
        let (mut mean, mut scale) = (Vec::with_capacity(width), Vec::with_capacity(width));
        for (index, feature) in features.iter().enumerate() {
            let column = || rows.iter().skip(index).step_by(width);
            let first = column().next().copied().unwrap_or(0.0);
            let (mut centre, mut spread) = (first, 1.0);
            if column().any(|value| *value != first) {
                centre = column().fold(0.0, |sum, value| sum + value) / count as f64;
                let squares = column().fold(0.0, |sum, value| {
                    let distance = value - centre;
                    sum + distance * distance
                });
                spread = (squares / count as f64).sqrt();
            }
            if !(centre.is_finite() && spread.is_finite()) {
                return Err(RangeError { column: feature.clone() });
            }
            mean.push(centre);
            // Values that differ by so little that the squares underflow are as good as constant.
            scale.push(if spread > 0.0 { spread } else { 1.0 });
        }
        Ok(Standardisation { mean, scale })
    }

    /// From stored numbers: `None` unless there are as many means as scales, all finite, and the
    /// scales above zero.
    pub fn from_parts(mean: Vec<f64>, scale: Vec<f64>) -> Option<Standardisation> {
        let sound = mean.len() == scale.len()
            && mean.iter().all(|value| value.is_finite())
            && scale.iter().all(|value| value.is_finite() && *value > 0.0);
        sound.then_some(Standardisation { mean, scale })
    }

    /// The mean of each feature.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The scale of each feature.
    pub fn scale(&self) -> &[f64] {
        &self.scale
    }

    /// `(value - mean) / scale` in 64 bits, then rounded to 32; `rows` is rows × features.
    pub fn apply(&self, rows: &[f64]) -> Vec<f32> {
        let mut out = Vec::with_capacity(rows.len());
        for row in rows.chunks_exact(self.mean.len().max(1)) {
            let parts = row.iter().zip(&self.mean).zip(&self.scale);
            out.extend(parts.map(|((value, mean), scale)| ((value - mean) / scale) as f32));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn features_are_taken_by_name_whatever_the_columns_order() {
        let table = Table::parse(b"b,label,a\n1,x,2\n3,y,4\n".to_vec()).unwrap();
        assert_eq!(matrix(&table, &names(&["a", "b"])).unwrap(), [2.0, 1.0, 4.0, 3.0]);
        let message = matrix(&table, &names(&["lable"])).unwrap_err().to_string();
        assert!(message.contains("\"label\""), "{message}");
    }

    #[test]
    fn standardised_columns_have_mean_zero_and_deviation_one() {
        let rows = [1.0, 7.0, 2.0, 7.0, 3.0, 7.0];
        let fitted = Standardisation::fit(&rows, &names(&["varies", "constant"])).unwrap();
        assert_eq!(fitted.mean(), [2.0, 7.0]);
        assert_eq!(fitted.scale(), [(2.0f64 / 3.0).sqrt(), 1.0]);
        let out = fitted.apply(&rows);
        assert_eq!(out[1], 0.0);
        assert_eq!(out[0], -out[4]);
        assert!((f64::from(out[4]) - 1.5f64.sqrt()).abs() < 1e-7);
    }

    #[test]
    fn a_large_offset_does_not_eat_the_differences() {
        let rows = [1.7e9, 1.7e9 + 1.0];
        let fitted = Standardisation::fit(&rows, &names(&["time"])).unwrap();
        assert_eq!(fitted.apply(&rows), [-1.0, 1.0]);
    }

    #[test]
    fn values_that_overflow_are_refused_by_name() {
        let error = Standardisation::fit(&[1e200, -1e200], &names(&["huge"])).unwrap_err();
        assert!(error.to_string().contains("\"huge\""));
    }

    #[test]
    fn stored_scales_must_be_positive_and_finite() {
        assert!(Standardisation::from_parts(vec![0.0], vec![1.0]).is_some());
        for (mean, scale) in [(0.0, 0.0), (0.0, -1.0), (0.0, f64::NAN), (f64::INFINITY, 1.0)] {
            assert!(Standardisation::from_parts(vec![mean], vec![scale]).is_none());
        }
        assert!(Standardisation::from_parts(vec![0.0, 1.0], vec![1.0]).is_none());
    }
}
