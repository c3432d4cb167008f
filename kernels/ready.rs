//! A GPU with kiln's own kernels on it: compiled for it, and loaded.
//!
//! Unaware of who trains on it.

use crate::device::DeviceError;
use crate::gpu::Gpu;
use crate::gpu::image::{Arch, Code, Image};
use crate::launch::SOURCES;
use crate::nvrtc::{Nvrtc, NvrtcError, Unit};

/// The options that make the kernels exact: what is fused says so.
pub const OPTIONS: [&str; 3] = ["--fmad=false", "--std=c++17", "-default-device"];

/// Why the kernels are not on the GPU.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// The GPU failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The compiler failed.
    #[error("kiln's kernels do not compile for {arch}")]
    Compile {
        /// What for.
        arch: String,
        /// What the compiler says.
        source: NvrtcError,
    },
}

/// Compiles the kernels for `gpu`, and loads them.
///
/// # Errors
/// If the compiler knows no architecture that the GPU runs, or the GPU fails.
pub fn load(gpu: &mut Gpu, nvrtc: &Nvrtc) -> Result<(), ReadyError> {
    let fail = |arch: Arch| move |source| ReadyError::Compile { arch: arch.to_string(), source };
    let known = nvrtc.architectures().map_err(fail(gpu.arch()))?;
    let arch = nearest(&known, gpu.arch());
    let headers: Vec<_> = SOURCES.into_iter().filter(|(name, _)| name.ends_with(".cuh")).collect();
    for (name, text) in SOURCES.into_iter().filter(|(name, _)| name.ends_with(".cu")) {
        let target = arch.to_string();
        let unit = Unit { name, text, headers: &headers, arch: &target, options: &OPTIONS };
        let compiled = nvrtc.compile(unit).map_err(fail(arch))?;
        let codes = [Code::Cubin(&compiled.cubin), Code::Ptx(&compiled.ptx)];
        gpu.load(&codes.map(|code| Image { arch, code }))?;
    }
    Ok(())
}

/// The newest architecture that the compiler knows and whose PTX the GPU runs; the GPU's own, which is then told to be
/// unknown, if there is none.
fn nearest(known: &[i32], own: Arch) -> Arch {
    let known = known.iter().filter_map(|number| format!("sm_{number}").parse::<Arch>().ok());
    known.filter(|arch| *arch <= own).max().unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_newer_than_the_compiler_gets_the_newest_ptx() {
        let nearest = |own: &str| nearest(&[75, 80, 90, 100], own.parse().unwrap()).to_string();
        assert_eq!(nearest("sm_90"), "sm_90");
        assert_eq!(nearest("sm_89"), "sm_80");
        assert_eq!(nearest("sm_121"), "sm_100");
        assert_eq!(nearest("sm_61"), "sm_61");
    }
}
