//! The builder table: what builders kiln brings, joined with the code that carries them out.
//!
//! A row says what the engine, the help and the reference need to know; the work itself is `kiln_ml`'s.

mod checks;

use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use kiln_engine::catalogue::{
    Arg, Availability, Builder, Catalogue, Gpu, Library, Output, Outputs, Presence, Role, Type,
};
use kiln_ml::{cuda, evaluate, generate, onnx, package, request::Request, split, train, validate};

use crate::cli::{chain, machine};

/// Every builder that kiln brings.
pub const CATALOGUE: Catalogue =
    Catalogue { builders: &[CUDA, EVALUATE, GENERATE, ONNX, PACKAGE, SPLIT, TRAIN, VALIDATE] };

const fn arg(name: &'static str, ty: Type, presence: Presence, doc: &'static str) -> Arg {
    Arg { name, ty, presence, role: Role::Key, doc }
}

const fn output(name: &'static str, file: &'static str, doc: &'static str) -> Output {
    Output { name, file, availability: Availability::Always, alias_of: None, doc }
}

const fn accepted(name: &'static str, alias_of: &'static str, doc: &'static str) -> Output {
    let (file, availability) = (name, Availability::IfAccepted);
    Output { name, file, availability, alias_of: Some(alias_of), doc }
}

/// NVRTC's files, builtins first.
fn nvrtc(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Vec<PathBuf>, String> {
    let found = kiln_ml::cuda::find(variable).map_err(|missing| missing.to_string())?;
    Ok(found.builtins.into_iter().chain([found.library]).collect())
}

/// The same for a step that takes a GPU where there is one: nothing where there is no GPU or no compiler.
fn nvrtc_beside_a_gpu(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Vec<PathBuf>, String> {
    let any = !machine::gpus().gpus().is_empty();
    Ok(if any { nvrtc(variable).unwrap_or_default() } else { Vec::new() })
}

const CUDA: Builder = Builder {
    name: "cuda",
    version: cuda::VERSION,
    summary: "Compiles CUDA kernels to PTX and machine code, without a GPU.",
    details: "Through NVRTC, any 12.x or 13.x, which is looked for at `KILN_NVRTC`, at `CUDA_HOME`, in `/usr/local/cuda*`, in the active virtual \
environment (the wheel `nvidia-cuda-nvrtc-cu12`), and where the loader looks. In the key are the sources, the headers, the flags, the architectures, and the digests of \
NVRTC and its builtins; not where any of them lie. A recipe that brings its own, for instance what `pip install --target toolchain nvidia-cuda-nvrtc-cu12` \
makes, says `nvrtc = \"${sources.toolchain}\"`: then that one counts, on every machine.\n\nThe output is a folder: for each source and architecture NAME.ARCH.ptx and NAME.ARCH.cubin, and kernels.json, which says of \
each kernel its registers, shared memory and spills, and its class: \"exact\" (only operations that IEEE 754 specifies to the bit), \"approximate\", \"tensor core\" or \"nondeterministic\". \
Mistakes are told with file, line and caret.",
    example: "[steps.kernels]\nbuilder = \"cuda\"\nsources = \"${sources.kernels}\"\narch    = [\"sm_80\", \"sm_90\"]",
    args: &[
        arg(
            "kernels",
            Type::Word(&["builtin:mlp"]),
            Presence::Optional,
            "the kernels that kiln brings, in place of `sources`",
        ),
        arg(
            "sources",
            Type::Input,
            Presence::Optional,
            "a `.cu` file, or a folder with some and the headers beside them",
        ),
        arg(
            "include",
            Type::List(&Type::Input),
            Presence::Default("[]"),
            "folders of headers, by the names under which they are included",
        ),
        arg(
            "flags",
            Type::List(&Type::Text),
            Presence::Default("[\"--std=c++17\", \"-default-device\", \"--fmad=false\"]"),
            "the compiler's options; without `--fmad=false` no kernel with a fused operation is exact",
        ),
        arg(
            "arch",
            Type::List(&Type::Text),
            Presence::Required,
            "the architectures to compile for, such as `sm_90`",
        ),
        arg(
            "nvrtc",
            Type::Input,
            Presence::Optional,
            "a folder with NVRTC, which is used in place of the machine's",
        ),
    ],
    outputs: Outputs::Fixed(&[output("out", "kernels", "the folder of compiled kernels")]),
    platform: false,
    // A step that brings a compiler of its own does not ask for the machine's.
    libraries: &[Library {
        name: "nvrtc",
        find: nvrtc,
        when: |args| !args.contains_key("nvrtc"),
        gpu: Gpu::Unneeded,
    }],
    gate: false,
    check: Some(checks::cuda),
};

const VALIDATE: Builder = Builder {
    name: "validate",
    version: validate::VERSION,
    summary: "Holds a table against a suite of checks, before anything is trained on it.",
    details: "The suite is a TOML file. `[table]` takes `min_rows`, `max_rows`, `extra_columns` (\"allow\", \"warn\" or \
\"reject\": columns that the suite does not name), `null_values` (what counts as no value, by default the empty text) and \
`severity`. `[columns.NAME]` takes `required` (true unless it says otherwise), `type` (\"string\", \"integer\", \"number\", \"boolean\" or \
\"date\"), `max_nulls` and `max_violations` (a number of rows, or a share such as \"2%\"), `allowed`, `unique`, `min`, `max`, \
and `severity` (\"error\", \"warning\", or one for each check).\n\nA warning is reported and does not reject. The report lists \
for each check what was observed and expected, how many rows violate it, and the first of them with their lines.",
    example: "[steps.check]\nbuilder = \"validate\"\ndata    = \"${sources.data}\"\nsuite   = \"${sources.checks}\"",
    args: &[
        arg("data", Type::Input, Presence::Required, "the table: a CSV file with a header"),
        arg("suite", Type::Input, Presence::Required, "the suite of checks: a TOML file"),
    ],
    outputs: Outputs::Fixed(&[
        accepted("data", "data", "the table itself, if every check of severity \"error\" holds"),
        output("report", "report", "a folder: report.json, and report.html to look at"),
    ]),
    platform: false,
    libraries: &[],
    gate: true,
    check: None,
};

const SPLIT: Builder = Builder {
    name: "split",
    version: split::VERSION,
    summary: "Cuts a table into parts, such as training, validation and test rows.",
    details: "Within each class (each value of the column `label`), rows are ranked by a keyed hash of their content and cut at \
the ratios. So every part has its share of every class, the order of the rows in the file does not matter, and adding rows moves only \
those at the cuts. Rows keep their bytes and, in each part, their order.",
    example: "[steps.split]\nbuilder = \"split\"\ndata    = \"${check.data}\"\nlabel   = \"diagnosis\"\nratios  = { train = 0.7, valid = 0.15, test = 0.15 }\nseed    = 7",
    args: &[
        arg("data", Type::Input, Presence::Required, "the table: a CSV file with a header"),
        arg(
            "label",
            Type::Text,
            Presence::Optional,
            "the column whose values are the classes; without it all rows are one class",
        ),
        arg(
            "ratios",
            Type::Map(&Type::Float { min: 0.0, max: 1.0 }),
            Presence::Required,
            "the parts by name, each with its share; the shares add up to 1",
        ),
        arg(
            "seed",
            Type::Int { min: 0, max: i64::MAX },
            Presence::Default("0"),
            "another seed is another split",
        ),
    ],
    outputs: Outputs::FromMap {
        arg: "ratios",
        suffix: ".csv",
        doc: "one CSV file for each ratio: the header and its rows",
    },
    platform: false,
    libraries: &[],
    gate: false,
    check: Some(checks::split),
};

/// What `train` can be told of boosted trees.
const GBDT: &[Arg] = &[
    arg(
        "learning_rate",
        Type::Float { min: 0.0, max: 1e3 },
        Presence::Default("0.1"),
        "what each tree's leaves are multiplied with",
    ),
    arg(
        "growth",
        Type::Word(&["depth", "leaf"]),
        Presence::Default("\"depth\""),
        "which node is split next: all of a level, or the one with the greatest gain",
    ),
    arg(
        "depth",
        Type::Int { min: 1, max: 16 },
        Presence::Default("6"),
        "edges from a root to its deepest leaf, at most",
    ),
    arg(
        "leaves",
        Type::Int { min: 2, max: 65_536 },
        Presence::Optional,
        "leaves of a tree, at most; without it as many as the depth allows",
    ),
    arg(
        "bins",
        Type::Int { min: 2, max: 255 },
        Presence::Default("255"),
        "quantile bins of a feature, at most, the one for missing values aside",
    ),
    arg(
        "min_child_weight",
        Type::Float { min: 0.0, max: 1e12 },
        Presence::Default("1.0"),
        "the least sum of the loss's second derivatives in a child",
    ),
    arg(
        "min_rows",
        Type::Int { min: 1, max: 1 << 31 },
        Presence::Default("1"),
        "the fewest training rows in a child",
    ),
    arg(
        "min_gain",
        Type::Float { min: 0.0, max: 1e12 },
        Presence::Default("0.0"),
        "the gain that a split must pass",
    ),
    arg(
        "row_share",
        Type::Float { min: 0.0, max: 1.0 },
        Presence::Default("1.0"),
        "the share of the training rows that each tree sees, above 0",
    ),
    arg(
        "column_share",
        Type::Float { min: 0.0, max: 1.0 },
        Presence::Default("1.0"),
        "the share of the features that each tree sees, above 0",
    ),
];

const TRAIN: Builder = Builder {
    name: "train",
    version: train::VERSION,
    summary: "Trains a classifier on a table: logistic regression, a multi-layer perceptron, or gradient-boosted trees.",
    details: "Features are all columns but the label and those in `ignore`; they are standardised by mean and deviation of the \
training part alone. The same arguments and data give the same bits on every machine, for any number of threads. Of an `mlp` the epoch with the \
lowest validation loss is kept. Weights of rows and classes are multiplied, and brought to an average of 1. A loss or weight that is not finite fails the step.\n\nThe model is a folder: weights as safetensors, \
model.json (features, classes, preprocessing, hyper-parameters), and a model card.\n\nA `gbdt` grows trees on histograms of quantile bins: one \
a round, or one a class with more than two. It takes features as they are, and knows missing values (an empty cell, `NA`, `NaN`, `null`): each split sends them to the side that suits \
the training rows. `epochs` is its number of rounds, `l2` the penalty λ in a leaf's value -G / (H + λ); with `valid`, the round with the lowest validation loss is the last that is kept. `batch`, the \
step's own `learning_rate`, `optimizer` and `schedule` are not for it.\n\nWith `backend = \"cuda\"` an `mlp` is trained on one GPU, which the step is lent as with `gpus = 1`; its kernels are compiled by NVRTC (see the \
builder `cuda`). With `\"auto\"` that is so where there are a GPU and NVRTC, and else the CPU is taken, which the build and the step's log say. It never changes what is trained; until a GPU has \
confirmed that its bits are a CPU's, the digests of NVRTC are in the key of what a GPU is to train, and nothing of it in any other.",
    example: "[steps.train]\nbuilder  = \"train\"\ntrain    = \"${split.train}\"\nvalid    = \"${split.valid}\"\nlabel    = \"diagnosis\"\npositive = \"malignant\"\nignore   = [\"id\"]\nmodel    = { kind = \"mlp\", hidden = [64, 32] }\nepochs   = 60",
    args: &[
        arg(
            "train",
            Type::Input,
            Presence::Required,
            "the rows to learn from: a CSV file with a header",
        ),
        arg("valid", Type::Input, Presence::Optional, "rows to choose the best epoch by"),
        arg("label", Type::Text, Presence::Required, "the column to predict"),
        arg(
            "positive",
            Type::Text,
            Presence::Optional,
            "of two classes, the one that counts as positive",
        ),
        arg(
            "ignore",
            Type::List(&Type::Text),
            Presence::Default("[]"),
            "columns that are no features",
        ),
        arg(
            "model",
            Type::Kinds(&[
                ("logistic", &[]),
                (
                    "mlp",
                    &[
                        arg(
                            "hidden",
                            Type::List(&Type::Int { min: 1, max: 65_536 }),
                            Presence::Required,
                            "units of each hidden layer, first to last",
                        ),
                        arg(
                            "activation",
                            Type::Word(&["relu", "gelu"]),
                            Presence::Default("\"relu\""),
                            "what stands between its layers",
                        ),
                        arg(
                            "dropout",
                            Type::Float { min: 0.0, max: 0.99 },
                            Presence::Default("0.0"),
                            "share of each hidden layer's units that a training step leaves out",
                        ),
                    ],
                ),
                ("gbdt", GBDT),
            ]),
            Presence::Required,
            "the kind of model: `logistic`, `mlp` with its hidden layers, or `gbdt` (gradient-boosted trees)",
        ),
        arg(
            "epochs",
            Type::Int { min: 1, max: 1_000_000 },
            Presence::Default("100"),
            "passes over the training rows at most; for `logistic`, steps of the optimiser; for `gbdt`, rounds of trees",
        ),
        arg(
            "batch",
            Type::Int { min: 1, max: 1 << 24 },
            Presence::Default("32"),
            "rows in one step of an `mlp`",
        ),
        arg(
            "learning_rate",
            Type::Float { min: 0.0, max: 1e6 },
            Presence::Default("0.001"),
            "the optimiser's step size, for an `mlp`",
        ),
        arg(
            "optimizer",
            Type::Kinds(&[
                ("adam", &[]),
                (
                    "sgd",
                    &[arg(
                        "momentum",
                        Type::Float { min: 0.0, max: 0.9999 },
                        Presence::Default("0.9"),
                        "share of the last step that the next one keeps",
                    )],
                ),
            ]),
            Presence::Default("{ kind = \"adam\" }"),
            "how a step of an `mlp` moves its weights",
        ),
        arg(
            "schedule",
            Type::Word(&["constant", "cosine"]),
            Presence::Default("\"constant\""),
            "how an `mlp`'s learning rate goes on: it stays, or falls to 0 along half a cosine over all epochs",
        ),
        arg(
            "l2",
            Type::Float { min: 0.0, max: 1e12 },
            Presence::Default("1.0"),
            "strength of the penalty l2 / (2 · rows) · ‖weights‖²",
        ),
        arg(
            "seed",
            Type::Int { min: 0, max: i64::MAX },
            Presence::Default("0"),
            "names an `mlp`'s initial weights and the order of its rows",
        ),
        arg(
            "patience",
            Type::Int { min: 1, max: 1_000_000 },
            Presence::Optional,
            "epochs without a better validation loss after which training ends",
        ),
        arg(
            "weight",
            Type::Text,
            Presence::Optional,
            "the column that says how much each row counts in the loss; it is no feature",
        ),
        arg(
            "class_weights",
            Type::Map(&Type::Float { min: 0.0, max: 1e12 }),
            Presence::Optional,
            "how much each row of a class counts in the loss; 1 for classes that are not named",
        ),
        arg(
            "balance",
            Type::Bool,
            Presence::Default("false"),
            "each class counts as much as any other, whatever its number of rows",
        ),
        Arg {
            name: "backend",
            ty: Type::Word(&["auto", "cpu", "cuda"]),
            presence: Presence::Optional,
            role: Role::Implementation,
            doc: "what an `mlp` is computed on: the CPU unless it says otherwise, a GPU (`cuda`), or a GPU where there is one (`auto`)",
        },
    ],
    outputs: Outputs::Fixed(&[
        output("history", "history.csv", "the learning curve: one row for each epoch"),
        output("model", "model", "the model folder"),
    ]),
    platform: false,
    // Whether a key names the backend is decided here and nowhere else: it does while no GPU has confirmed that its bits
    // are a CPU's.
    libraries: &[
        Library { name: "nvrtc", find: nvrtc, when: checks::is_cuda, gpu: Gpu::Needed },
        Library {
            name: "nvrtc beside a GPU",
            find: nvrtc_beside_a_gpu,
            when: checks::is_auto,
            gpu: Gpu::IfThere,
        },
    ],
    gate: false,
    check: Some(checks::train),
};

const EVALUATE: Builder = Builder {
    name: "evaluate",
    version: evaluate::VERSION,
    summary: "Scores a model on rows that it has not seen, and accepts or rejects it by gates.",
    details: "Metrics: accuracy, precision, recall, f1, roc_auc, log_loss, and the confusion matrix; for more than two classes \
the averages over classes. A gate with `min` or `max` is absolute. `max_drop` and `min_gain` compare with the baseline, rescored on the same \
rows: a number is in the metric's unit, \"2%\" is a share of the baseline's value, and worse or better goes by the metric (less log_loss is better).\n\nThey \
need a `baseline`. Where its source says absent = \"accept\" and nothing is deployed yet, relative gates hold with the reason `no_baseline`; for a candidate that is the baseline, with \
`is_baseline`, so that deploying a model does not make the next build fail. Absolute gates decide in any case.",
    example: "[steps.quality]\nbuilder  = \"evaluate\"\nmodel    = \"${train.model}\"\ntest     = \"${split.test}\"\nbaseline = \"${sources.base}\"\ngates    = [\n  { metric = \"f1\", min = 0.92 },\n  { metric = \"f1\", max_drop = \"2%\" },\n]",
    args: &[
        arg("model", Type::Input, Presence::Required, "the candidate: a model folder"),
        arg(
            "test",
            Type::Input,
            Presence::Required,
            "rows that it has not seen: a CSV file with a header",
        ),
        arg(
            "baseline",
            Type::Input,
            Presence::Optional,
            "the model to compare with: a model folder",
        ),
        arg(
            "gates",
            Type::List(&Type::Table(&[
                arg(
                    "metric",
                    Type::Word(&["accuracy", "precision", "recall", "f1", "roc_auc", "log_loss"]),
                    Presence::Required,
                    "the metric",
                ),
                arg(
                    "min",
                    Type::Float { min: f64::MIN, max: f64::MAX },
                    Presence::Optional,
                    "the least value",
                ),
                arg(
                    "max",
                    Type::Float { min: f64::MIN, max: f64::MAX },
                    Presence::Optional,
                    "the greatest value",
                ),
                arg(
                    "max_drop",
                    Type::Amount,
                    Presence::Optional,
                    "how much worse than the baseline it may be",
                ),
                arg(
                    "min_gain",
                    Type::Amount,
                    Presence::Optional,
                    "how much better than the baseline it must be",
                ),
            ])),
            Presence::Default("[]"),
            "the conditions for acceptance; with none, every model is accepted",
        ),
        arg(
            "threshold",
            Type::Float { min: 0.0, max: 1.0 },
            Presence::Default("0.5"),
            "the least probability that makes a row positive",
        ),
    ],
    outputs: Outputs::Fixed(&[
        output("metrics", "metrics.json", "the metrics by name"),
        accepted("model", "model", "the model itself, if every gate holds"),
        output("report", "report", "a folder: report.json, and report.html to look at"),
    ]),
    platform: false,
    libraries: &[],
    gate: true,
    check: Some(checks::evaluate),
};

const GENERATE: Builder = Builder {
    name: "generate",
    version: generate::VERSION,
    summary: "Makes a table whose truth is known, with any number of rows.",
    details: "For trying a pipeline at scale, and for knowing how good a model could be at all. The label of each row is drawn with a chance that follows from what the row \
says, through interactions and missing values. `optimum` holds what those chances themselves score on the labels: no model does better, except by luck. A table is the same on \
every machine; a longer one begins with the shorter one.\n\n`fraud`: card payments, 12 columns, label `fraud` (one or two of a hundred). `clicks`: advertisements that were shown, \
11 columns, label `clicked`. As `drift` goes from 0 to 1, the columns' distributions move and so does what marks the label, so that a model of the old world does worse in the new one.",
    example: "[steps.payments]\nbuilder = \"generate\"\ntable   = \"fraud\"\nrows    = 1000000\nseed    = 7",
    args: &[
        arg("table", Type::Word(&["fraud", "clicks"]), Presence::Required, "which table"),
        arg(
            "rows",
            Type::Int { min: 1, max: generate::MOST_ROWS.cast_signed() },
            Presence::Required,
            "how many rows",
        ),
        arg(
            "seed",
            Type::Int { min: 0, max: i64::MAX },
            Presence::Default("0"),
            "another seed is other rows",
        ),
        arg(
            "drift",
            Type::Float { min: 0.0, max: 1.0 },
            Presence::Default("0.0"),
            "how far the world has moved",
        ),
    ],
    outputs: Outputs::Fixed(&[
        output("data", "data.csv", "the table, label last"),
        output(
            "optimum",
            "optimum.json",
            "rows, positives, and the best roc_auc, log_loss and accuracy",
        ),
        output("probabilities", "probabilities.csv", "the chance of each row's label to be 1"),
    ]),
    platform: false,
    libraries: &[],
    gate: false,
    check: None,
};

const ONNX: Builder = Builder {
    name: "onnx",
    version: onnx::VERSION,
    summary: "Writes a model as an ONNX file, preprocessing included.",
    details: "The graph takes `features`, rows of 64-bit numbers as they stand in the table, in the model's order, and gives `probabilities` \
(rows × classes) and `label`, the name of the most probable class. Names of features and classes, the label's column, the positive class and the \
model's digest are in the file's metadata. Trees take a missing value as NaN. Operator set 17 (trees: ai.onnx.ml 3), so onnxruntime 1.13 or later. What it gives is within 1e-5 of what kiln itself gives.",
    example: "[steps.onnx]\nbuilder = \"onnx\"\nmodel   = \"${quality.model}\"",
    args: &[arg("model", Type::Input, Presence::Required, "the model: a model folder")],
    outputs: Outputs::Fixed(&[output("out", "model.onnx", "the ONNX file")]),
    platform: false,
    libraries: &[],
    gate: false,
    check: None,
};

const PACKAGE: Builder = Builder {
    name: "package",
    version: package::VERSION,
    summary: "Puts a release together: a model, what speaks for it, and a manifest of its files.",
    details: "The release is a folder that contains only what it refers to: model/ (the model folder, byte for byte), README.md (its \
card), evidence/ (each piece under the name of the builder that made it), and manifest.json, which lists every file with its size and BLAKE3 \
digest.",
    example: "[steps.release]\nbuilder  = \"package\"\nmodel    = \"${quality.model}\"\nevidence = [\"${quality.report}\", \"${check.report}\"]",
    args: &[
        arg("model", Type::Input, Presence::Required, "the model: a model folder"),
        arg(
            "evidence",
            Type::List(&Type::Input),
            Presence::Default("[]"),
            "reports, files or folders",
        ),
    ],
    outputs: Outputs::Fixed(&[output("out", "release", "the release folder")]),
    platform: false,
    libraries: &[],
    gate: false,
    check: None,
};

/// Carries out the built-in builder that a request file asks for: `REQUEST RESPONSE`.
///
/// This runs inside the sandbox; what it prints is the step's log.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let [request, response] = arguments else { return ExitCode::from(2) };
    match carry_out(Path::new(request), Path::new(response)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // The log is all that there is to tell it to.
            drop(writeln!(io::stderr(), "error: {message}"));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(request: &Path, response: &Path) -> Result<(), String> {
    let text = fs::read(request).map_err(|error| format!("cannot read the request: {error}"))?;
    let request: Request = serde_json::from_slice(&text)
        .map_err(|error| format!("cannot read the request: {error}"))?;
    let mut log = io::stdout().lock();
    let answer = kiln_ml::run(&request, &mut log).map_err(|error| chain(&error))?;
    let text = serde_json::to_vec(&answer)
        .map_err(|error| format!("cannot write the response: {error}"))?;
    fs::write(response, text).map_err(|error| format!("cannot write the response: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builder_of_the_library_has_a_row_with_its_version() {
        let rows: Vec<(&str, u32)> =
            CATALOGUE.builders.iter().map(|row| (row.name, row.version)).collect();
        assert_eq!(rows, kiln_ml::BUILDERS);
    }

    #[test]
    fn names_in_the_table_are_sorted_and_unique() {
        let sorted = |names: Vec<&str>| names.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(sorted(CATALOGUE.names().collect()));
        for row in CATALOGUE.builders {
            if let Outputs::Fixed(outputs) = row.outputs {
                assert!(sorted(outputs.iter().map(|output| output.name).collect()), "{}", row.name);
            }
        }
    }
}
