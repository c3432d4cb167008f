//! The builder table of the oracle: one builder that mixes its inputs, one gate.

use kiln_engine::catalogue::{
    Arg, Availability, Builder, Catalogue, Output, Outputs,
    Presence::{self, Default, Optional, Required},
    Role, Type,
};

const fn arg(name: &'static str, ty: Type, presence: Presence) -> Arg {
    Arg { name, ty, presence, role: Role::Key, doc: "An argument." }
}

const NUMBER: Type = Type::Int { min: 0, max: 1000 };

/// `mix` makes one output for each of its `parts`; `gate` lets its `data` through or not.
pub static CATALOGUE: Catalogue = Catalogue {
    builders: &[
        Builder {
            name: "gate",
            version: 2,
            summary: "Accepts or rejects.",
            details: "",
            example: "",
            args: &[
                arg("data", Type::Input, Required),
                arg("base", Type::Input, Optional),
                arg("limit", NUMBER, Default("1")),
            ],
            outputs: Outputs::Fixed(&[
                Output {
                    name: "data",
                    file: "",
                    availability: Availability::IfAccepted,
                    alias_of: Some("data"),
                    doc: "The data, accepted.",
                },
                Output {
                    name: "report",
                    file: "report.json",
                    availability: Availability::Always,
                    alias_of: None,
                    doc: "What was found.",
                },
            ]),
            platform: false,
            libraries: &[],
            gate: true,
            check: None,
        },
        Builder {
            name: "mix",
            version: 1,
            summary: "Mixes.",
            details: "",
            example: "",
            args: &[
                arg("inputs", Type::List(&Type::Input), Default("[]")),
                arg("text", Type::Text, Default("\"\"")),
                arg("number", NUMBER, Default("0")),
                arg("rate", Type::Float { min: -1e300, max: 1e300 }, Optional),
                arg("weights", Type::List(&NUMBER), Optional),
                arg("fragile", Type::Bool, Default("false")),
                arg("parts", Type::Map(&NUMBER), Required),
                Arg {
                    name: "how",
                    ty: Type::Text,
                    presence: Optional,
                    role: Role::Implementation,
                    doc: "How it is done.",
                },
            ],
            outputs: Outputs::FromMap { arg: "parts", suffix: ".csv", doc: "A part." },
            platform: false,
            libraries: &[],
            gate: false,
            check: None,
        },
    ],
};
