//! What a training is computed on: the CPU, or a GPU.
//!
//! Whether the key speaks of a GPU was decided when the step was planned: a GPU's compiler is among the step's files then, and
//! the training runs on a GPU or fails. Unaware of how a training goes.

use std::io::Write;
use std::path::PathBuf;

use kiln_kernels::device::DeviceError;
use kiln_kernels::gpu::{self, Gpu};
use kiln_kernels::nvrtc::{Nvrtc, NvrtcError};
use kiln_kernels::ready::{self, ReadyError};
use serde::Deserialize;

use super::{Args, TrainError};
use crate::model::ModelSpec;

/// What a training is to be computed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A GPU where there is one that can be used, and else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU.
    Cuda,
}

/// Why a backend cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// Kernels do not cover what is trained.
    #[error(
        "`backend` is \"cuda\": {what} is trained on the CPU only; help: leave `backend` out, or write \"auto\""
    )]
    NotCovered {
        /// What has no kernels.
        what: String,
    },
    /// The step was given no compiler.
    #[error(
        "`backend` is \"cuda\", and the step was given no NVRTC; help: it is found when a build begins, see `kiln help builder cuda`"
    )]
    NoCompiler,
    /// The compiler cannot be used.
    #[error("`backend` is \"cuda\", and its compiler cannot be used: {0}")]
    Nvrtc(#[from] NvrtcError),
    /// The GPU cannot be used.
    #[error("`backend` is \"cuda\": {0}")]
    Gpu(#[from] ReadyError),
    /// There was one when the step was planned.
    #[error(
        "a GPU was found when the build began, so that the key names its compiler, and now it cannot be used: {0}\n\
         help: write `backend = \"cpu\"`, or let the build use the GPU"
    )]
    Gone(ReadyError),
}

/// What has no kernels, if something of a training has none.
fn not_covered(args: &Args) -> Option<String> {
    match args.model {
        ModelSpec::Mlp { .. } => None,
        ModelSpec::Logistic => Some("`logistic`".to_owned()),
        ModelSpec::Gbdt(_) => Some("`gbdt`".to_owned()),
    }
}

/// The GPU that the training is to run on, with kernels loaded; nothing for the CPU, and a word in `log` if that was not
/// asked for by its name.
pub(super) fn choose(
    args: &Args,
    library: &[PathBuf],
    log: &mut dyn Write,
) -> Result<Option<Gpu>, TrainError> {
    let backend = args.backend.unwrap_or(Backend::Cpu);
    if backend == Backend::Cpu {
        return Ok(None);
    }
    if let Some(what) = not_covered(args) {
        if backend == Backend::Cuda {
            return Err(BackendError::NotCovered { what }.into());
        }
        writeln!(log, "backend: cpu, since {what} is trained on the CPU only")?;
        return Ok(None);
    }
    let Some((compiler, builtins)) = library.split_last() else {
        if backend == Backend::Cuda {
            // Whether there is a GPU is what one wants to know first.
            gpu::count().map_err(|error| BackendError::Gpu(error.into()))?;
            return Err(BackendError::NoCompiler.into());
        }
        let why = match gpu::count() {
            Err(error) => first_line(&error),
            Ok(_) => "there is no NVRTC to compile kernels with".to_owned(),
        };
        writeln!(log, "backend: cpu, since {why}")?;
        return Ok(None);
    };
    let gone = |error: ReadyError| match backend {
        Backend::Cuda => BackendError::Gpu(error),
        _ => BackendError::Gone(error),
    };
    let mut gpu = Gpu::open(0).map_err(|error| gone(error.into()))?;
    let nvrtc = Nvrtc::open(compiler, builtins).map_err(BackendError::Nvrtc)?;
    ready::load(&mut gpu, &nvrtc).map_err(gone)?;
    writeln!(log, "backend: cuda, {} ({})", gpu.name(), gpu.arch())?;
    Ok(Some(gpu))
}

/// What is wrong, without the advice.
fn first_line(error: &DeviceError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
