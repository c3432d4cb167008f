//! The model card: `model.json` and the standardisation, told to a reader.

use std::fmt::Write;

use super::document::{
    ClassWeights, Document, GbdtSpec, ModelSpec, Optimizer, Part, Schedule, TreeGrowth,
};
use super::network::Activation;
use crate::preprocess::Standardisation;

/// The text of a model folder's `README.md`.
pub(crate) fn card(
    document: &Document,
    standardisation: Option<&Standardisation>,
    weights: usize,
) -> String {
    let mut text = String::new();
    write_card(&mut text, document, standardisation, weights)
        .expect("writing to a string cannot fail");
    text
}

fn write_card(
    out: &mut String,
    document: &Document,
    standardisation: Option<&Standardisation>,
    weights: usize,
) -> std::fmt::Result {
    let Document { model, label, classes, features, training, learned, .. } = document;
    writeln!(out, "# Model card: {}\n", quoted(label))?;
    let kind = match model {
        ModelSpec::Logistic => "Logistic regression".to_owned(),
        ModelSpec::Mlp { hidden, activation, .. } => {
            let units: Vec<String> = hidden.iter().map(u32::to_string).collect();
            let activation = match activation {
                Activation::Relu => "relu",
                Activation::Gelu => "gelu",
            };
            let units = units.join(", ");
            format!("Multi-layer perceptron with hidden layers of {units} units and {activation}")
        }
        ModelSpec::Gbdt(spec) => {
            format!("Gradient-boosted trees of depth {} at most", spec.depth)
        }
    };
    writeln!(
        out,
        "{kind}: predicts {} from {} ({} in all).\n",
        quoted(label),
        counted(features.len(), "feature"),
        counted(weights, "parameter")
    )?;
    let list: Vec<String> = classes.iter().map(|class| quoted(class)).collect();
    write!(out, "Classes: {}.", list.join(", "))?;
    if let Some(positive) = &document.positive {
        write!(out, " Positive class: {}.", quoted(positive))?;
    }
    writeln!(out, "\n\n## Data\n\n| part | rows | {} | BLAKE3 |", cells(classes))?;
    writeln!(out, "|---|---:|{}---|", "---:|".repeat(classes.len()))?;
    for (name, part) in
        [("training", Some(&document.train)), ("validation", document.valid.as_ref())]
    {
        if let Some(Part { digest, rows }) = part {
            let counts: Vec<String> = rows.iter().map(u64::to_string).collect();
            let total: u64 = rows.iter().fold(0, |sum, count| sum.saturating_add(*count));
            writeln!(out, "| {name} | {total} | {} | `{digest}` |", counts.join(" | "))?;
        }
    }
    if !document.ignore.is_empty() {
        let ignored: Vec<String> = document.ignore.iter().map(|name| quoted(name)).collect();
        writeln!(out, "\nIgnored columns: {}.", ignored.join(", "))?;
    }
    writeln!(out, "\n## Training\n\n| parameter | value |\n|---|---|")?;
    writeln!(out, "| epochs, at most | {} |", training.epochs)?;
    if let ModelSpec::Mlp { .. } = model {
        writeln!(out, "| batch | {} |", training.batch)?;
        let schedule = match training.schedule {
            Schedule::Constant => "",
            Schedule::Cosine => ", along a cosine",
        };
        writeln!(out, "| learning rate | {}{schedule} |", training.learning_rate)?;
        match training.optimizer {
            Optimizer::Adam => writeln!(out, "| optimizer | Adam |")?,
            Optimizer::Sgd { momentum } => {
                writeln!(out, "| optimizer | gradient descent, momentum {momentum} |")?;
            }
        }
        if model.dropout() > 0.0 {
            writeln!(out, "| dropout | {} |", model.dropout())?;
        }
        writeln!(out, "| seed | {} |", training.seed)?;
    }
    if let ModelSpec::Gbdt(spec) = model {
        write_growth(out, spec)?;
        writeln!(out, "| seed | {} |", training.seed)?;
    }
    writeln!(out, "| l2 | {} |", training.l2)?;
    if let Some(patience) = training.patience {
        writeln!(out, "| patience | {patience} |")?;
    }
    if let Some(column) = &training.weight {
        writeln!(out, "| rows weighted by | {} |", escaped(column))?;
    }
    match &training.class_weights {
        ClassWeights::Equal => {}
        ClassWeights::Balanced => writeln!(out, "| class weights | balanced |")?,
        ClassWeights::Given(given) => {
            for (class, weight) in given {
                writeln!(out, "| weight of class {} | {weight} |", escaped(class))?;
            }
        }
    }
    writeln!(
        out,
        "\n## Result\n\nWeights of epoch {} of {} that were run.\n\n| part | loss | accuracy |",
        learned.epoch, learned.epochs_run
    )?;
    writeln!(out, "|---|---:|---:|")?;
    writeln!(out, "| training | {:.6} | {:.6} |", learned.train_loss, learned.train_accuracy)?;
    if let (Some(loss), Some(accuracy)) = (learned.valid_loss, learned.valid_accuracy) {
        writeln!(out, "| validation | {loss:.6} | {accuracy:.6} |")?;
    }
    if let Some(standardisation) = standardisation {
        writeln!(out, "\n## Features\n\nStandardised as `(value - mean) / scale`.\n")?;
        writeln!(out, "| feature | mean | scale |\n|---|---:|---:|")?;
        let numbers = standardisation.mean().iter().zip(standardisation.scale());
        for (feature, (mean, scale)) in features.iter().zip(numbers) {
            writeln!(out, "| {} | {} | {} |", escaped(feature), number(*mean), number(*scale))?;
        }
    } else {
        let list: Vec<String> = features.iter().map(|name| quoted(name)).collect();
        writeln!(out, "\n## Features\n\n{}, as they are.", list.join(", "))?;
    }
    writeln!(out, "\n## Limits\n")?;
    if standardisation.is_some() {
        writeln!(
            out,
            "- Every feature must be there as a finite number; missing values are refused."
        )?;
        writeln!(
            out,
            "- Values far from a feature's mean, in units of its scale, are extrapolation."
        )?;
    } else {
        writeln!(out, "- A missing value goes the way that training found better for it.")?;
        writeln!(out, "- Beyond the values of the training part, trees answer as at its edge.")?;
    }
    writeln!(
        out,
        "- The figures above come from data that training has seen or chosen by, so they flatter. \
         Judge the model on a part that it has not seen."
    )?;
    writeln!(out, "- It knows the classes above and no other, and answers with one of them always.")
}

fn write_growth(out: &mut String, spec: &GbdtSpec) -> std::fmt::Result {
    let growth = match spec.growth {
        TreeGrowth::Depth => "level by level",
        TreeGrowth::Leaf => "the best leaf first",
    };
    writeln!(out, "| learning rate | {} |", spec.learning_rate)?;
    writeln!(out, "| growth | {growth} |")?;
    if let Some(leaves) = spec.leaves {
        writeln!(out, "| leaves, at most | {leaves} |")?;
    }
    writeln!(out, "| bins, at most | {} |", spec.bins)?;
    writeln!(out, "| least weight of a leaf | {} |", spec.min_child_weight)?;
    writeln!(out, "| least rows of a leaf | {} |", spec.min_rows)?;
    writeln!(out, "| least gain | {} |", spec.min_gain)?;
    writeln!(out, "| share of rows | {} |", spec.row_share)?;
    writeln!(out, "| share of features | {} |", spec.column_share)
}

/// Six decimals where they show the value, six significant ones otherwise.
fn number(value: f64) -> String {
    let ordinary = value == 0.0 || (1e-3..1e9).contains(&value.abs());
    if ordinary { format!("{value:.6}") } else { format!("{value:.5e}") }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn cells(names: &[String]) -> String {
    names.iter().map(|name| escaped(name)).collect::<Vec<_>>().join(" | ")
}

fn quoted(name: &str) -> String {
    format!("“{}”", escaped(name))
}

/// Text that stays one cell of a Markdown table and starts no markup.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '|' | '*' | '`' | '<' | '>' | '[' | ']' | '\\' | '#' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_show_their_value_at_every_magnitude() {
        let shown = [0.0, 0.0625, -123.5, 3.5e-7, 1.7e300].map(number);
        assert_eq!(shown, ["0.000000", "0.062500", "-123.500000", "3.50000e-7", "1.70000e300"]);
    }

    #[test]
    fn names_cannot_break_out_of_a_cell() {
        assert_eq!(escaped("a|b\n# <i>"), "a\\|b \\# \\<i\\>");
    }
}
