//! A builder table that has every type, presence, role and kind of output.

use crate::catalogue::{
    Arg, Availability, Builder, Catalogue, Output, Outputs,
    Presence::{self, Default, Optional, Required},
    Role, Type,
};

const fn arg(name: &'static str, ty: Type, presence: Presence, doc: &'static str) -> Arg {
    Arg { name, ty, presence, role: Role::Key, doc }
}

const fn output(name: &'static str, file: &'static str, doc: &'static str) -> Output {
    Output { name, file, availability: Availability::Always, alias_of: None, doc }
}

const fn alias(name: &'static str, of: &'static str) -> Output {
    Output {
        name,
        file: "",
        availability: Availability::IfAccepted,
        alias_of: Some(of),
        doc: "The same, accepted.",
    }
}

pub(crate) static CATALOGUE: Catalogue = Catalogue {
    builders: &[
        Builder {
            name: "evaluate",
            version: 3,
            summary: "Measures a model and holds it against gates.",
            details: "Every metric is in the report.\n\nGates decide.",
            example: "[steps.quality]\nbuilder = \"evaluate\"\nmodel = \"${train.model}\"",
            args: &[
                arg("model", Type::Input, Required, "The model."),
                arg("test", Type::Input, Required, "Rows that training has not seen."),
                arg("baseline", Type::Input, Optional, "A model to compare with."),
                arg("gates", Type::List(&Type::Table(GATE)), Default("[]"), "What must hold."),
            ],
            outputs: Outputs::Fixed(&[
                output("report", "report", "Metrics."),
                alias("model", "model"),
                alias("baseline", "baseline"),
            ]),
            platform: false,
            libraries: &[],
            gate: true,
            check: None,
        },
        Builder {
            name: "package",
            version: 1,
            summary: "Makes a release.",
            details: "",
            example: "[steps.release]\nbuilder = \"package\"\nmodel = \"${train.model}\"",
            args: &[
                arg("model", Type::Input, Required, "The model."),
                arg("evidence", Type::List(&Type::Input), Default("[]"), "Reports."),
            ],
            outputs: Outputs::Fixed(&[output("out", "release", "The release.")]),
            platform: false,
            libraries: &[],
            gate: false,
            check: None,
        },
        Builder {
            name: "split",
            version: 1,
            summary: "Cuts a table into parts.",
            details: "",
            example: "[steps.split]\nbuilder = \"split\"\nratios = { train = 0.8, test = 0.2 }",
            args: &[
                arg("data", Type::Input, Required, "A table."),
                arg(
                    "label",
                    Type::Text,
                    Optional,
                    "The column whose classes are kept in proportion.",
                ),
                arg(
                    "ratios",
                    Type::Map(&Type::Float { min: 0.0, max: 1.0 }),
                    Required,
                    "The share of each part.",
                ),
                arg("seed", Type::Int { min: 0, max: i64::MAX }, Default("0"), "Any number."),
            ],
            outputs: Outputs::FromMap { arg: "ratios", suffix: ".csv", doc: "A part." },
            platform: false,
            libraries: &[],
            gate: false,
            check: None,
        },
        Builder {
            name: "train",
            version: 2,
            summary: "Fits a model.",
            details: "",
            example: "[steps.train]\nbuilder = \"train\"",
            args: &[
                arg("train", Type::Input, Required, "Rows to learn from."),
                arg("valid", Type::Input, Optional, "Rows to watch."),
                arg("label", Type::Text, Required, "The column to predict."),
                arg("positive", Type::Text, Optional, "The class that counts as found."),
                arg("ignore", Type::List(&Type::Text), Default("[]"), "Columns to leave out."),
                arg(
                    "model",
                    Type::Kinds(MODELS),
                    Default("{ kind = \"logistic\" }"),
                    "What to fit.",
                ),
                arg(
                    "epochs",
                    Type::Int { min: 1, max: 100_000 },
                    Default("20"),
                    "Passes over the rows.",
                ),
                arg("rate", Type::Float { min: 0.0, max: 10.0 }, Default("0.1"), "Step length."),
                arg(
                    "loss",
                    Type::Word(&["log", "hinge"]),
                    Default("\"log\""),
                    "What to make small.",
                ),
                arg("shuffle", Type::Bool, Default("true"), "Whether rows are mixed."),
                Arg {
                    name: "kernels",
                    ty: Type::Input,
                    presence: Optional,
                    role: Role::Implementation,
                    doc: "Compiled kernels.",
                },
            ],
            outputs: Outputs::Fixed(&[
                output("model", "model", "The model."),
                output("curve", "curve.csv", "Loss by epoch."),
            ]),
            platform: true,
            libraries: &[],
            gate: false,
            check: None,
        },
        Builder {
            name: "validate",
            version: 1,
            summary: "Holds a table against a suite.",
            details: "",
            example: "[steps.check]\nbuilder = \"validate\"",
            args: &[
                arg("data", Type::Input, Required, "A table."),
                arg("suite", Type::Input, Required, "What must hold of it."),
            ],
            outputs: Outputs::Fixed(&[
                output("report", "report", "What was found."),
                alias("data", "data"),
            ]),
            platform: false,
            libraries: &[],
            gate: true,
            check: None,
        },
    ],
};

const GATE: &[Arg] = &[
    arg("metric", Type::Word(&["f1", "accuracy", "log_loss"]), Required, "What is measured."),
    arg("min", Type::Float { min: 0.0, max: 1.0 }, Optional, "The least."),
    arg("max_drop", Type::Amount, Optional, "The most that it may lose."),
    arg("severity", Type::Word(&["error", "warning"]), Default("\"error\""), "How bad."),
];

const MODELS: &[(&str, &[Arg])] = &[
    ("logistic", &[arg("c", Type::Float { min: 0.0, max: f64::MAX }, Default("1"), "Strength.")]),
    (
        "mlp",
        &[arg("hidden", Type::List(&Type::Int { min: 1, max: 4096 }), Required, "Layer widths.")],
    ),
];

/// A whole pipeline: every builder, a program, and two deployments.
pub(super) const TUMOUR: &str = r#"
name = "tumour"
description = "Malignant or benign, from cell measurements"

[params]
epochs = 60
hidden = [64, 32]
min_f1 = 0.92

[sources]
data   = "data/wdbc.csv"
checks = "./checks.toml"
base   = { deployment = "production", output = "model", absent = "accept" }

[steps.check]
builder = "validate"
data    = "${sources.data}"
suite   = "${sources.checks}"

[steps.split]
builder = "split"
data    = "${check.data}"
label   = "diagnosis"
ratios  = { train = 0.7, valid = 0.15, test = 0.15 }
seed    = 7

[steps.train]
builder = "train"
train   = "${split.train}"
valid   = "${split.valid}"
label   = "diagnosis"
positive = "malignant"
ignore  = ["id"]
model   = { kind = "mlp", hidden = "${params.hidden}" }
epochs  = "${params.epochs}"

[steps.quality]
builder  = "evaluate"
model    = "${train.model}"
test     = "${split.test}"
baseline = "${sources.base}"
gates = [
  { metric = "f1", min = "${params.min_f1}" },
  { metric = "f1", max_drop = "2%" },
]

[steps.plot]
run     = "python3 plot.py --report ${quality.report} --out ${out.png}"
outputs = { png = "plot.png" }
files   = ["plot.py"]
tools   = ["python3"]

[steps.release]
builder  = "package"
model    = "${quality.model}"
evidence = ["${quality.report}", "${check.report}"]

[deploy.production]
release  = "${release}"
after    = "staging"

[deploy.staging]
release = "${release}"
"#;
