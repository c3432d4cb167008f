//! Calls of the driver: there or not, what its numbers mean, and never a panic.
//!
//! The bindings open the library at the first call and panic if it, or a function of it, is not there.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUresult};

use crate::device::DeviceError;

/// Opens the driver, once a process.
#[allow(unsafe_code)]
pub(super) fn start() -> Result<(), DeviceError> {
    // SAFETY: opening NVIDIA's driver runs nothing but its own initialisers.
    if !unsafe { sys::is_culib_present() } {
        let mut looked = cudarc::get_lib_name_candidates("cuda");
        looked.truncate(1);
        looked.push("libcuda.so.1".to_owned());
        return Err(DeviceError::NoDriver { looked });
    }
    call("start", result::init)
}

/// Calls the driver. A panic of the bindings is an error: the driver is too old to have the function.
pub(super) fn guarded<T>(
    doing: &str,
    work: impl FnOnce() -> Result<T, DriverError>,
) -> Result<Result<T, DriverError>, DeviceError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        DeviceError::Refused(format!(
            "could not {doing}: the driver lacks a function that is needed; help: kiln needs a driver for CUDA 12 or later"
        ))
    })
}

/// Calls the driver, and says what was being done if it refuses.
pub(super) fn call<T>(
    doing: &str,
    work: impl FnOnce() -> Result<T, DriverError>,
) -> Result<T, DeviceError> {
    guarded(doing, work)?.map_err(|error| refusal(doing, error.0))
}

/// What a number of the driver's means for whoever asked for something.
pub(super) fn refusal(doing: &str, code: CUresult) -> DeviceError {
    use CUresult as C;
    let told = format!("could not {doing}: {code:?} ({})", code as u32);
    let no_device = |reason: &str| DeviceError::NoDevice { reason: format!("{reason} ({told})") };
    let wrong =
        || DeviceError::WrongArchitecture { arch: "unknown".to_owned(), reason: told.clone() };
    match code {
        C::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::OutOfMemory { bytes: 0, free: None },
        C::CUDA_ERROR_STUB_LIBRARY => no_device("libcuda is the toolkit's stub, not a driver"),
        C::CUDA_ERROR_NO_DEVICE => no_device("the driver lists none"),
        C::CUDA_ERROR_INVALID_DEVICE => no_device("there is none of that number"),
        C::CUDA_ERROR_DEVICE_UNAVAILABLE => no_device("another process has it for itself"),
        C::CUDA_ERROR_DEVICE_NOT_LICENSED => no_device("it has no licence"),
        C::CUDA_ERROR_SYSTEM_NOT_READY => {
            no_device("it is not ready, such as while the fabric manager starts")
        }
        C::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => no_device(
            "the driver's library is not of the kernel module's version; a restart helps after an upgrade",
        ),
        C::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            no_device("a forward-compatible driver library does not support it")
        }
        C::CUDA_ERROR_NOT_PERMITTED | C::CUDA_ERROR_OPERATING_SYSTEM => {
            no_device("the system does not let this process use it")
        }
        C::CUDA_ERROR_NO_BINARY_FOR_GPU
        | C::CUDA_ERROR_INVALID_IMAGE
        | C::CUDA_ERROR_INVALID_PTX
        | C::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | C::CUDA_ERROR_JIT_COMPILER_NOT_FOUND
        | C::CUDA_ERROR_JIT_COMPILATION_DISABLED
        | C::CUDA_ERROR_INVALID_SOURCE => wrong(),
        C::CUDA_ERROR_LAUNCH_TIMEOUT => DeviceError::TimedOut,
        C::CUDA_ERROR_ECC_UNCORRECTABLE
        | C::CUDA_ERROR_NVLINK_UNCORRECTABLE
        | C::CUDA_ERROR_CONTAINED
        | C::CUDA_ERROR_ILLEGAL_ADDRESS
        | C::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | C::CUDA_ERROR_MISALIGNED_ADDRESS
        | C::CUDA_ERROR_INVALID_ADDRESS_SPACE
        | C::CUDA_ERROR_INVALID_PC
        | C::CUDA_ERROR_HARDWARE_STACK_ERROR
        | C::CUDA_ERROR_LAUNCH_FAILED
        | C::CUDA_ERROR_ASSERT
        | C::CUDA_ERROR_TENSOR_MEMORY_LEAK
        | C::CUDA_ERROR_EXTERNAL_DEVICE
        | C::CUDA_ERROR_CONTEXT_IS_DESTROYED
        | C::CUDA_ERROR_INVALID_CONTEXT
        | C::CUDA_ERROR_DEINITIALIZED
        | C::CUDA_ERROR_UNKNOWN => DeviceError::Lost(told),
        _ => DeviceError::Refused(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_of_a_gpu_has_its_own_error() {
        use CUresult as C;
        let told = |code| refusal("run a kernel", code);
        assert!(matches!(told(C::CUDA_ERROR_OUT_OF_MEMORY), DeviceError::OutOfMemory { .. }));
        let full = DeviceError::OutOfMemory { bytes: 4096, free: Some(17) }.to_string();
        assert!(
            full.starts_with("the device has no room for 4096 more bytes (17 are free)"),
            "{full}"
        );
        assert!(!told(C::CUDA_ERROR_OUT_OF_MEMORY).to_string().contains("bytes"));
        for code in [C::CUDA_ERROR_NO_BINARY_FOR_GPU, C::CUDA_ERROR_UNSUPPORTED_PTX_VERSION] {
            assert!(matches!(told(code), DeviceError::WrongArchitecture { .. }), "{code:?}");
        }
        assert!(matches!(told(C::CUDA_ERROR_LAUNCH_TIMEOUT), DeviceError::TimedOut));
        for code in [
            C::CUDA_ERROR_ECC_UNCORRECTABLE,
            C::CUDA_ERROR_ILLEGAL_ADDRESS,
            C::CUDA_ERROR_INVALID_CONTEXT,
            C::CUDA_ERROR_LAUNCH_FAILED,
        ] {
            let error = told(code);
            let text = error.to_string();
            assert!(matches!(error, DeviceError::Lost(_)), "{code:?}");
            assert!(text.contains("run a kernel") && text.contains(&format!("{code:?}")), "{text}");
        }
        for code in [C::CUDA_ERROR_NO_DEVICE, C::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH] {
            assert!(matches!(told(code), DeviceError::NoDevice { .. }), "{code:?}");
        }
        assert!(matches!(told(C::CUDA_ERROR_INVALID_VALUE), DeviceError::Refused(_)));
    }

    #[test]
    fn a_panic_of_the_bindings_is_an_error() {
        let error = call::<()>("dance", || panic!("Expected symbol in library")).unwrap_err();
        assert!(error.to_string().contains("could not dance: the driver lacks"), "{error}");
    }
}
