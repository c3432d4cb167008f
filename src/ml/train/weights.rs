//! How much each row counts in the loss: its own weight times its class's.
//!
//! Weights are brought to an average of 1, so that neither the penalty nor the learning rate has to be set anew for them.
//! Unaware of features and of models.

use std::collections::BTreeMap;

use crate::model::ClassWeights;
use crate::nearest::suggestion;
use crate::table::{Table, TableError};

/// Why weights make no sense.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// The column is not there, or holds something else.
    #[error("in `{part}`: {source}")]
    Column {
        /// `train` or `valid`.
        part: &'static str,
        /// What is wrong, and where.
        source: TableError,
    },
    /// The column is something else already.
    #[error(
        "`weight` names {column:?}, which is the label or in `ignore`; help: name a column of its own"
    )]
    Taken {
        /// The column.
        column: String,
    },
    /// A row's weight is below 0.
    #[error(
        "in `{part}`: line {line}, column {column:?}: the weight is {value}; help: a weight is 0 or \
         more"
    )]
    Negative {
        /// `train` or `valid`.
        part: &'static str,
        /// Where the record starts, counted from 1.
        line: u64,
        /// The column.
        column: String,
        /// What stands there.
        value: f64,
    },
    /// Nothing counts, or the weights add up to more than a number holds.
    #[error(
        "in `{part}`: the weights add up to {sum}; help: some must be above 0, and all be moderate"
    )]
    Sum {
        /// `train` or `valid`.
        part: &'static str,
        /// Their sum.
        sum: f64,
    },
    /// A class has a weight and does not occur.
    #[error("`class_weights` names {name:?}, which is no class; help: {help}")]
    NoClass {
        /// The name.
        name: String,
        /// The nearest class, or the list.
        help: String,
    },
    /// A class's weight is below 0.
    #[error("the weight of class {name:?} is {value}; help: a weight is 0 or more")]
    NegativeClass {
        /// The class.
        name: String,
        /// Its weight.
        value: f64,
    },
}

/// The weight of each class, if they differ; `labels` are those of the training part.
pub(super) fn of_classes(
    wanted: &ClassWeights,
    classes: &[String],
    labels: &[u32],
) -> Result<Option<Vec<f64>>, WeightError> {
    match wanted {
        ClassWeights::Equal => Ok(None),
        ClassWeights::Balanced => {
            let mut rows = vec![0u64; classes.len()];
            labels.iter().for_each(|&label| rows[label as usize] += 1);
            let fair = labels.len() as f64 / classes.len() as f64;
            Ok(Some(rows.into_iter().map(|rows| fair / rows as f64).collect()))
        }
        ClassWeights::Given(given) => given_weights(given, classes).map(Some),
    }
}

fn given_weights(
    given: &BTreeMap<String, f64>,
    classes: &[String],
) -> Result<Vec<f64>, WeightError> {
    for (name, &value) in given {
        if !classes.contains(name) {
            let help = suggestion(name, classes.iter().map(String::as_str));
            return Err(WeightError::NoClass { name: name.clone(), help });
        }
        if !(value >= 0.0 && value.is_finite()) {
            return Err(WeightError::NegativeClass { name: name.clone(), value });
        }
    }
    Ok(classes.iter().map(|class| given.get(class).copied().unwrap_or(1.0)).collect())
}

/// The weight of each row of a part, 1 on average, if they differ.
pub(super) fn of_rows(
    part: &'static str,
    table: &Table,
    column: Option<&str>,
    classes: Option<&[f64]>,
    labels: &[u32],
) -> Result<Option<Vec<f32>>, WeightError> {
    if column.is_none() && classes.is_none() {
        return Ok(None);
    }
    let mut weights = vec![1.0; labels.len()];
    if let Some(column) = column {
        let error = |source| WeightError::Column { part, source };
        weights = table.numbers(table.column(column).map_err(error)?).map_err(error)?;
        if let Some(row) = weights.iter().position(|weight| *weight < 0.0) {
            let (line, value) = (table.line(row), weights[row]);
            return Err(WeightError::Negative { part, line, column: column.to_owned(), value });
        }
    }
    if let Some(classes) = classes {
        for (weight, &label) in weights.iter_mut().zip(labels) {
            *weight *= classes[label as usize];
        }
    }
    let sum = weights.iter().fold(0.0, |sum, weight| sum + weight);
    let scale = weights.len() as f64 / sum;
    if !(sum > 0.0 && sum.is_finite() && scale.is_finite()) {
        return Err(WeightError::Sum { part, sum });
    }
    Ok(Some(weights.into_iter().map(|weight| (weight * scale) as f32).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn balanced_classes_weigh_the_same_in_sum() {
        let labels = [0, 0, 0, 1, 2, 2];
        let shares = of_classes(&ClassWeights::Balanced, &names(&["a", "b", "c"]), &labels);
        let shares = shares.unwrap().unwrap();
        let table = Table::parse(b"x\n1\n2\n3\n4\n5\n6\n".to_vec()).unwrap();
        let rows = of_rows("train", &table, None, Some(&shares), &labels).unwrap().unwrap();
        let sum = |class| -> f32 {
            rows.iter().zip(labels).filter(|(_, label)| *label == class).map(|(w, _)| w).sum()
        };
        for class in 0..3 {
            assert!((sum(class) - 2.0).abs() < 1e-6, "{class}: {}", sum(class));
        }
    }

    #[test]
    fn a_rows_weight_is_its_own_times_its_classs_and_one_on_average() {
        let table = Table::parse(b"w\n1\n2\n3\n".to_vec()).unwrap();
        let given = ClassWeights::Given([("b".to_owned(), 2.0)].into());
        let shares = of_classes(&given, &names(&["a", "b"]), &[0, 1, 0]).unwrap();
        let rows = of_rows("train", &table, Some("w"), shares.as_deref(), &[0, 1, 0]);
        assert_eq!(rows.unwrap().unwrap(), [0.375, 1.5, 1.125]);
        assert!(of_rows("train", &table, None, None, &[0, 1, 0]).unwrap().is_none());
    }

    #[test]
    fn senseless_weights_are_refused_with_their_place() {
        let table = Table::parse(b"w\n1\n-2\n".to_vec()).unwrap();
        let error = of_rows("valid", &table, Some("w"), None, &[0, 1]).unwrap_err().to_string();
        assert!(error.contains("in `valid`: line 3") && error.contains("-2"), "{error}");
        let table = Table::parse(b"w\n0\n0\n".to_vec()).unwrap();
        let error = of_rows("train", &table, Some("w"), None, &[0, 1]).unwrap_err().to_string();
        assert!(error.contains("add up to 0"), "{error}");
        let classes = names(&["good", "bad"]);
        for (name, weight, told) in
            [("bat", 1.0, "\"bad\""), ("bad", -1.0, "-1"), ("bad", f64::NAN, "NaN")]
        {
            let given = ClassWeights::Given([(name.to_owned(), weight)].into());
            let error = of_classes(&given, &classes, &[0, 1]).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
