//! The training and validation parts as standardised numbers and class indices.
//!
//! Everything that can be wrong with the data is found here, before any training. Unaware of models.

use std::collections::BTreeSet;

use super::weights::{self, WeightError};
use crate::model::{ClassWeights, Part, Preprocessing};
use crate::nearest::suggestion;
use crate::preprocess::{RangeError, Standardisation, matrix, matrix_with_gaps, narrowed};
use crate::request::{Input, KindError};
use crate::table::{Table, TableError, shortened};

/// Why data cannot be trained on.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// An input is a folder.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// A part could not be read, or does not hold what is needed.
    #[error("in `{part}`: {source}")]
    Table {
        /// `train` or `valid`.
        part: &'static str,
        /// What is wrong, and where.
        source: TableError,
    },
    /// A name in `ignore` is no column.
    #[error("`ignore` names a column that `train` has not: {source}")]
    Ignore {
        /// The name, and the nearest one.
        source: TableError,
    },
    /// The label would be left out.
    #[error("`ignore` names the label {label:?}; help: take it off the list")]
    LabelIgnored {
        /// The label.
        label: String,
    },
    /// There is nothing to learn from.
    #[error("`train` has no features: every column is the label or in `ignore`")]
    NoFeatures,
    /// A part is empty.
    #[error("`{part}` has a header and no rows")]
    NoRows {
        /// `train` or `valid`.
        part: &'static str,
    },
    /// A row has no label.
    #[error(
        "in `{part}`: line {line}, column {column:?}: the label is missing; help: drop the row or \
         fill it in"
    )]
    NoLabel {
        /// `train` or `valid`.
        part: &'static str,
        /// Where the record starts, counted from 1.
        line: u64,
        /// The label.
        column: String,
    },
    /// Every row has the same label.
    #[error(
        "every row of `train` has {label:?} = {class:?}; help: a classifier needs at least two \
         classes; split stratified by the label, or name another label"
    )]
    OneClass {
        /// The label.
        label: String,
        /// Its only value.
        class: String,
    },
    /// So many classes that the label can hardly be one.
    #[error(
        "{label:?} has {classes} different values in {rows} rows of `train`; help: a classifier's \
         label takes each value many times; name another label"
    )]
    NotALabel {
        /// The label.
        label: String,
        /// Its different values.
        classes: usize,
        /// Rows of the training part.
        rows: usize,
    },
    /// The positive class is none of the label's values.
    #[error("`positive` is {name:?}, which {label:?} never is; help: {help}")]
    NoPositive {
        /// What was asked for.
        name: String,
        /// The label.
        label: String,
        /// The nearest class, or the list.
        help: String,
    },
    /// A positive class makes no sense for more than two.
    #[error(
        "`positive` is for two classes, {label:?} has {classes}; help: take `positive` out of the \
         step"
    )]
    ManyClasses {
        /// The label.
        label: String,
        /// Its different values.
        classes: usize,
    },
    /// A label in the validation part does not occur in the training part.
    #[error(
        "in `valid`: line {line}, column {column:?}: {class:?} does not occur in `train`; help: {help}"
    )]
    UnseenClass {
        /// Where the record starts, counted from 1.
        line: u64,
        /// The label.
        column: String,
        /// Its value there.
        class: String,
        /// The nearest class, or the list.
        help: String,
    },
    /// The validation part has a column that the training part has not.
    #[error("`valid` has a column {name:?} that `train` has not; help: {help}")]
    ExtraColumn {
        /// The column.
        name: String,
        /// The nearest column of `train`, or the list.
        help: String,
    },
    /// Weights that make no sense.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// Values that cannot be standardised.
    #[error("in `train`: {0}")]
    Range(#[from] RangeError),
}

/// One part, ready for training.
#[derive(Debug)]
pub(crate) struct Examples {
    /// rows × features: standardised, or as they are with NaN where a value is missing.
    pub(crate) x: Vec<f32>,
    /// One index into the classes a row.
    pub(crate) labels: Vec<u32>,
    /// How much each row counts, 1 on average, if not all alike.
    pub(crate) weights: Option<Vec<f32>>,
    /// What the model remembers of it.
    pub(crate) part: Part,
}

/// Rows to take a step by.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    /// rows × features.
    pub(crate) x: &'a [f32],
    pub(crate) labels: &'a [u32],
    /// How much each row counts, if not all alike.
    pub(crate) weights: Option<&'a [f32]>,
}

/// Both parts, and what the names in them are.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) features: Vec<String>,
    pub(crate) classes: Vec<String>,
    /// Absent if values are left as they are.
    pub(crate) standardisation: Option<Standardisation>,
    pub(crate) train: Examples,
    pub(crate) valid: Option<Examples>,
}

/// What to read.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) train: &'a Input,
    pub(crate) valid: Option<&'a Input>,
    pub(crate) label: &'a str,
    pub(crate) positive: Option<&'a str>,
    pub(crate) ignore: &'a [String],
    /// The column that says how much each row counts.
    pub(crate) weight: Option<&'a str>,
    pub(crate) class_weights: &'a ClassWeights,
    /// Whether features are standardised, or left as they are with gaps.
    pub(crate) preprocessing: Preprocessing,
}

impl Data {
    /// Reads and checks both parts.
    pub(crate) fn read(wanted: Wanted<'_>) -> Result<Data, DataError> {
        let Wanted { train, valid, label, positive, ignore, weight, class_weights, preprocessing } =
            wanted;
        let train_table = read("train", train)?;
        if ignore.iter().any(|name| name == label) {
            return Err(DataError::LabelIgnored { label: label.to_owned() });
        }
        for name in ignore {
            train_table.column(name).map_err(|source| DataError::Ignore { source })?;
        }
        if let Some(name) = weight.filter(|name| *name == label || ignore.iter().any(|i| i == name))
        {
            return Err(WeightError::Taken { column: name.to_owned() }.into());
        }
        let texts = labels("train", &train_table, label)?;
        let features: Vec<String> = train_table
            .columns()
            .iter()
            .filter(|name| {
                *name != label && Some(name.as_str()) != weight && !ignore.contains(name)
            })
            .cloned()
            .collect();
        if features.is_empty() {
            return Err(DataError::NoFeatures);
        }
        let classes = classes(&texts, label, positive)?;
        let rows = numbers("train", &train_table, &features, preprocessing)?;
        let standardisation = match preprocessing {
            Preprocessing::Standardise => Some(Standardisation::fit(&rows, &features)?),
            Preprocessing::AsIs => None,
        };
        let prepared = |rows: &[f64]| match &standardisation {
            Some(standardisation) => standardisation.apply(rows),
            None => narrowed(rows),
        };
        let indices: Vec<u32> = texts.iter().filter_map(|text| index(&classes, text)).collect();
        let shares = weights::of_classes(class_weights, &classes, &indices)?;
        let own = weights::of_rows("train", &train_table, weight, shares.as_deref(), &indices)?;
        let x = prepared(&rows);
        let train = Examples::new(x, indices, own, train, classes.len());
        let valid = match valid {
            None => None,
            Some(input) => {
                let table = read("valid", input)?;
                let known = || train_table.columns().iter().map(String::as_str);
                if let Some(name) = table.columns().iter().find(|name| !known().any(|k| k == *name))
                {
                    let help = suggestion(name, known());
                    return Err(DataError::ExtraColumn { name: name.clone(), help });
                }
                let indices = seen_labels(&table, label, &classes)?;
                let own = weights::of_rows("valid", &table, weight, shares.as_deref(), &indices)?;
                let x = prepared(&numbers("valid", &table, &features, preprocessing)?);
                Some(Examples::new(x, indices, own, input, classes.len()))
            }
        };
        Ok(Data { features, classes, standardisation, train, valid })
    }
}

impl Examples {
    fn new(
        x: Vec<f32>,
        labels: Vec<u32>,
        weights: Option<Vec<f32>>,
        input: &Input,
        classes: usize,
    ) -> Examples {
        let mut rows = vec![0; classes];
        for &label in &labels {
            rows[label as usize] += 1;
        }
        Examples { x, labels, weights, part: Part { digest: input.digest.clone(), rows } }
    }

    /// All rows at once.
    pub(crate) fn all(&self) -> Batch<'_> {
        Batch { x: &self.x, labels: &self.labels, weights: self.weights.as_deref() }
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.labels.len()
    }
}

fn read(part: &'static str, input: &Input) -> Result<Table, DataError> {
    let table =
        Table::read_csv(input.file(part)?).map_err(|source| DataError::Table { part, source })?;
    if table.rows() == 0 {
        return Err(DataError::NoRows { part });
    }
    Ok(table)
}

fn numbers(
    part: &'static str,
    table: &Table,
    features: &[String],
    preprocessing: Preprocessing,
) -> Result<Vec<f64>, DataError> {
    let matrix = match preprocessing {
        Preprocessing::Standardise => matrix(table, features),
        Preprocessing::AsIs => matrix_with_gaps(table, features),
    };
    matrix.map_err(|source| DataError::Table { part, source })
}

/// The label's text in each row.
fn labels<'a>(
    part: &'static str,
    table: &'a Table,
    label: &str,
) -> Result<Vec<&'a str>, DataError> {
    let column = table.column(label).map_err(|source| DataError::Table { part, source })?;
    let texts: Vec<&str> = (0..table.rows()).map(|row| table.text(row, column)).collect();
    match texts.iter().position(|text| text.trim().is_empty()) {
        Some(row) => {
            Err(DataError::NoLabel { part, line: table.line(row), column: label.to_owned() })
        }
        None => Ok(texts),
    }
}

/// The label's different values, sorted.
fn classes(texts: &[&str], label: &str, positive: Option<&str>) -> Result<Vec<String>, DataError> {
    let distinct: BTreeSet<&str> = texts.iter().copied().collect();
    let classes: Vec<String> = distinct.into_iter().map(str::to_owned).collect();
    let label = || label.to_owned();
    if let [class] = &classes[..] {
        return Err(DataError::OneClass { label: label(), class: shortened(class) });
    }
    if classes.len() > 20 && classes.len() > texts.len() / 2 {
        return Err(DataError::NotALabel {
            label: label(),
            classes: classes.len(),
            rows: texts.len(),
        });
    }
    if let Some(name) = positive {
        if index(&classes, name).is_none() {
            let help = suggestion(name, classes.iter().map(String::as_str));
            return Err(DataError::NoPositive { name: name.to_owned(), label: label(), help });
        }
        if classes.len() > 2 {
            return Err(DataError::ManyClasses { label: label(), classes: classes.len() });
        }
    }
    Ok(classes)
}

/// The class of each row of the validation part; all of them must be known.
fn seen_labels(table: &Table, label: &str, classes: &[String]) -> Result<Vec<u32>, DataError> {
    let texts = labels("valid", table, label)?;
    let seen = |(row, text): (usize, &&str)| {
        index(classes, text).ok_or_else(|| DataError::UnseenClass {
            line: table.line(row),
            column: label.to_owned(),
            class: shortened(text),
            help: suggestion(text, classes.iter().map(String::as_str)),
        })
    };
    texts.iter().enumerate().map(seen).collect()
}

fn index(classes: &[String], text: &str) -> Option<u32> {
    let place = classes.binary_search_by(|class| class.as_str().cmp(text)).ok()?;
    u32::try_from(place).ok()
}
