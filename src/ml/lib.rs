//! The machine-learning builders that kiln brings: files in, files out.
//!
//! Unaware of recipes, the store, the sandbox and networks. What a builder writes depends on its
//! arguments and on the bytes of its inputs alone: never on paths, clocks, threads or the machine.

pub mod cuda;
pub mod deviation;
pub mod evaluate;
#[cfg(test)]
mod fixture;
pub mod generate;
pub mod html;
pub mod metrics;
pub mod model;
pub mod nearest;
pub mod onnx;
pub mod output;
pub mod package;
pub mod preprocess;
pub mod request;
pub mod split;
pub mod table;
pub mod train;
pub mod validate;

use std::io::Write;

use crate::nearest::suggestion;
use crate::request::{Request, Response};

/// The builders' names, each with its semantic version.
pub const BUILDERS: [(&str, u32); 8] = [
    ("cuda", cuda::VERSION),
    ("evaluate", evaluate::VERSION),
    ("generate", generate::VERSION),
    ("onnx", onnx::VERSION),
    ("package", package::VERSION),
    ("split", split::VERSION),
    ("train", train::VERSION),
    ("validate", validate::VERSION),
];

/// Why a request could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such builder.
    #[error("there is no builder {name:?}; help: {help}")]
    UnknownBuilder {
        /// What was asked for.
        name: String,
        /// The nearest name, or all.
        help: String,
    },
    /// The arguments are not the builder's.
    #[error("the arguments do not fit the builder `{builder}`")]
    Args {
        /// The builder.
        builder: String,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// `validate` failed.
    #[error(transparent)]
    Validate(#[from] validate::Error),
    /// `split` failed.
    #[error(transparent)]
    Split(#[from] split::Error),
    /// `train` failed.
    #[error(transparent)]
    Train(#[from] train::TrainError),
    /// `evaluate` failed.
    #[error(transparent)]
    Evaluate(#[from] evaluate::Error),
    /// `generate` failed.
    #[error(transparent)]
    Generate(#[from] generate::Error),
    /// `onnx` failed.
    #[error(transparent)]
    Onnx(#[from] onnx::Error),
    /// `cuda` failed.
    #[error(transparent)]
    Cuda(#[from] cuda::CudaError),
    /// `package` failed.
    #[error(transparent)]
    Package(#[from] package::Error),
}

/// Carries out a request: writes the outputs at their places, and what there is to tell to `log`.
///
/// # Errors
/// When there is no such builder, the arguments are not its own, or it fails. A gate's refusal is no
/// error but a verdict.
pub fn run(request: &Request, log: &mut dyn Write) -> Result<Response, Error> {
    let outputs = &request.outputs;
    let verdict = match request.builder.as_str() {
        "validate" => Some(validate::run(&args(request)?, outputs, log)?),
        "split" => {
            split::run(&args(request)?, outputs, log)?;
            None
        }
        "train" => {
            train::run(args(request)?, &request.library, outputs, request.threads, log)?;
            None
        }
        "evaluate" => Some(evaluate::run(&args(request)?, outputs, request.threads, log)?),
        "cuda" => {
            cuda::run(&args(request)?, &request.library, outputs, log)?;
            None
        }
        "generate" => {
            generate::run(&args(request)?, outputs, request.threads, log)?;
            None
        }
        "onnx" => {
            onnx::run(&args(request)?, outputs, log)?;
            None
        }
        "package" => {
            package::run(&args(request)?, outputs, log)?;
            None
        }
        name => {
            return Err(Error::UnknownBuilder {
                name: name.to_owned(),
                help: suggestion(name, BUILDERS.iter().map(|(name, _)| *name)),
            });
        }
    };
    Ok(Response { verdict })
}

/// A request's arguments, as its builder's own type.
fn args<T: serde::de::DeserializeOwned>(request: &Request) -> Result<T, Error> {
    T::deserialize(&request.args)
        .map_err(|source| Error::Args { builder: request.builder.clone(), source })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(builder: &str, args: serde_json::Value) -> Request {
        Request {
            builder: builder.to_owned(),
            args,
            outputs: [].into(),
            threads: 1,
            library: Vec::new(),
        }
    }

    #[test]
    fn an_unknown_builder_gets_the_nearest_name() {
        let error = run(&request("validat", serde_json::json!({})), &mut std::io::sink());
        assert_eq!(
            error.unwrap_err().to_string(),
            "there is no builder \"validat\"; help: did you mean \"validate\"?"
        );
    }

    #[test]
    fn arguments_that_are_not_the_builders_are_refused() {
        let wrong = serde_json::json!({"data": null, "suit": 1});
        for (builder, _) in BUILDERS {
            let error = run(&request(builder, wrong.clone()), &mut std::io::sink()).unwrap_err();
            assert!(matches!(error, Error::Args { .. }), "{builder}: {error}");
        }
    }

    #[test]
    fn a_request_reaches_its_builder() {
        let folder = tempfile::tempdir().unwrap();
        let data = fixture::file(folder.path(), "data.csv", "a\n1\n2\n");
        let mut split = request(
            "split",
            serde_json::json!({"data": data, "label": null, "seed": 7,
                               "ratios": {"one": 0.5, "two": 0.5}}),
        );
        for name in ["one", "two"] {
            split.outputs.insert(name.to_owned(), folder.path().join(name));
        }
        let mut log = Vec::new();
        let response = run(&split, &mut log).unwrap();
        assert_eq!(response, Response { verdict: None });
        assert!(folder.path().join("one").is_file());
        assert_eq!(log, b"one: 1 rows\ntwo: 1 rows\n");
    }

    /// Values of every shape under keys that builders know.
    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<f64>().prop_map(serde_json::Value::from),
            any::<u64>().prop_map(serde_json::Value::from),
            "2%|f1|train|file|/nowhere".prop_map(serde_json::Value::from),
            Just(serde_json::json!({"path": "/nowhere", "kind": "file", "digest": "",
                                    "executable": false})),
        ];
        let keys =
            "data|suite|label|ratios|seed|model|test|baseline|gates|threshold|evidence|metric";
        leaf.prop_recursive(3, 24, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(serde_json::Value::from),
                prop::collection::btree_map(keys, inner, 0..8)
                    .prop_map(serde_json::Value::from_iter),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_arguments_are_refused_without_a_panic(args in value(), builder in 0..BUILDERS.len()) {
            // Nothing is at the paths, so that no arguments can succeed.
            let request = request(BUILDERS[builder].0, args);
            prop_assert!(run(&request, &mut std::io::sink()).is_err());
        }
    }
}
