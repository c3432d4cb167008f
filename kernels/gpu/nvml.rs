//! What the machine's management library tells of a GPU: clocks, power, memory, the driver's version.
//!
//! For reports only: nothing that is computed depends on it. Unaware of CUDA.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::device::DeviceError;

const NAME: &str = "libnvidia-ml.so.1";

/// A GPU, now. What it does not tell is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// What its maker calls it.
    pub name: Option<String>,
    /// The driver's version.
    pub driver: Option<String>,
    /// Of the multiprocessors, in MHz.
    pub clock: Option<u32>,
    /// The highest, in MHz.
    pub highest_clock: Option<u32>,
    /// Of the memory, in MHz.
    pub memory_clock: Option<u32>,
    /// Bytes of memory that are used, of all.
    pub memory: Option<(u64, u64)>,
    /// In watts.
    pub power: Option<f64>,
    /// In degrees Celsius.
    pub temperature: Option<u32>,
}

/// The figures of the GPU at this address of the bus, such as `0000:17:00.0`.
///
/// # Errors
/// If there is no such library, or it does not know the GPU.
pub fn figures(place: &str) -> Result<Figures, DeviceError> {
    let library = Nvml::open()?;
    let device = library.device(place)?;
    let number = |name: &[u8], which: Option<c_uint>| library.number(name, device, which);
    const PROCESSORS: c_uint = 1;
    const MEMORY: c_uint = 2;
    Ok(Figures {
        name: library.text(b"nvmlDeviceGetName", Some(device)),
        driver: library.text(b"nvmlSystemGetDriverVersion", None),
        clock: number(b"nvmlDeviceGetClockInfo", Some(PROCESSORS)),
        highest_clock: number(b"nvmlDeviceGetMaxClockInfo", Some(PROCESSORS)),
        memory_clock: number(b"nvmlDeviceGetClockInfo", Some(MEMORY)),
        memory: library.memory(device),
        power: number(b"nvmlDeviceGetPowerUsage", None).map(|watts| f64::from(watts) / 1000.0),
        temperature: number(b"nvmlDeviceGetTemperature", Some(0)),
    })
}

type Handle = *mut c_void;

/// The library, started.
struct Nvml(Library);

impl Nvml {
    #[allow(unsafe_code)]
    fn open() -> Result<Nvml, DeviceError> {
        // SAFETY: NVIDIA's library runs nothing but its own initialisers.
        let library = unsafe { Library::open(Some(NAME), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|error| DeviceError::Refused(format!("there is no {NAME}: {error}")))?;
        let library = Nvml(library);
        let start = library.function::<unsafe extern "C" fn() -> c_int>(b"nvmlInit_v2");
        // SAFETY: the function takes nothing, and may be called many times.
        match start.map(|start| unsafe { start() }) {
            Some(0) => Ok(library),
            code => Err(DeviceError::Refused(format!("{NAME} does not start: {code:?}"))),
        }
    }

    /// A function of the library, of this type.
    #[allow(unsafe_code)]
    fn function<F: Copy>(&self, name: &[u8]) -> Option<F> {
        // SAFETY: every caller names the type that nvml.h declares.
        unsafe { self.0.get::<F>(name) }.ok().map(|symbol| *symbol)
    }

    #[allow(unsafe_code)]
    fn device(&self, place: &str) -> Result<Handle, DeviceError> {
        type Find = unsafe extern "C" fn(*const c_char, *mut Handle) -> c_int;
        let unknown = || DeviceError::Refused(format!("{NAME} knows no GPU at {place}"));
        let text = CString::new(place).map_err(|_| unknown())?;
        let find =
            self.function::<Find>(b"nvmlDeviceGetHandleByPciBusId_v2").ok_or_else(unknown)?;
        let mut device = std::ptr::null_mut();
        // SAFETY: the text ends with a zero byte, and the pointer is of a living handle.
        let code = unsafe { find(text.as_ptr(), &raw mut device) };
        if code == 0 { Ok(device) } else { Err(unknown()) }
    }

    #[allow(unsafe_code)]
    fn text(&self, name: &[u8], device: Option<Handle>) -> Option<String> {
        const LEN: usize = 96;
        let mut text = [0u8; LEN];
        let place: *mut c_char = text.as_mut_ptr().cast();
        let code = match device {
            Some(device) => {
                type Get = unsafe extern "C" fn(Handle, *mut c_char, c_uint) -> c_int;
                let get = self.function::<Get>(name)?;
                // SAFETY: the handle is the library's, and there is room for as many bytes as is said.
                unsafe { get(device, place, LEN as c_uint) }
            }
            None => {
                type Get = unsafe extern "C" fn(*mut c_char, c_uint) -> c_int;
                let get = self.function::<Get>(name)?;
                // SAFETY: there is room for as many bytes as is said.
                unsafe { get(place, LEN as c_uint) }
            }
        };
        let end = text.iter().position(|byte| *byte == 0)?;
        (code == 0).then(|| String::from_utf8_lossy(&text[..end]).into_owned())
    }

    #[allow(unsafe_code)]
    fn number(&self, name: &[u8], device: Handle, which: Option<c_uint>) -> Option<u32> {
        let mut number: c_uint = 0;
        let code = match which {
            Some(which) => {
                type Get = unsafe extern "C" fn(Handle, c_uint, *mut c_uint) -> c_int;
                let get = self.function::<Get>(name)?;
                // SAFETY: the handle is the library's, and the pointer is of a living integer.
                unsafe { get(device, which, &raw mut number) }
            }
            None => {
                type Get = unsafe extern "C" fn(Handle, *mut c_uint) -> c_int;
                let get = self.function::<Get>(name)?;
                // SAFETY: as above.
                unsafe { get(device, &raw mut number) }
            }
        };
        (code == 0).then_some(number)
    }

    #[allow(unsafe_code)]
    fn memory(&self, device: Handle) -> Option<(u64, u64)> {
        // All, free, used.
        type Get = unsafe extern "C" fn(Handle, *mut [u64; 3]) -> c_int;
        let get = self.function::<Get>(b"nvmlDeviceGetMemoryInfo")?;
        let mut found = [0; 3];
        // SAFETY: the handle is the library's; `nvmlMemory_t` is three numbers of 64 bits.
        let code = unsafe { get(device, &raw mut found) };
        (code == 0).then_some((found[2], found[0]))
    }
}

impl Drop for Nvml {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        if let Some(stop) = self.function::<unsafe extern "C" fn() -> c_int>(b"nvmlShutdown") {
            // SAFETY: it was started, and handles are not used after this.
            unsafe { stop() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_library_figures_are_an_error_that_names_it() {
        match figures("0000:00:00.0") {
            Err(error) => assert!(error.to_string().contains(NAME), "{error}"),
            Ok(figures) => panic!("no GPU has this address: {figures:?}"),
        }
    }
}
