//! NVRTC, NVIDIA's compiler as a library: CUDA sources to PTX and machine code. It needs neither driver nor GPU.
//!
//! Opened by its path, its builtins first, since version 13 does not find them by itself. Unaware of where a library
//! was found ([`search`]) and of what is compiled.

pub mod search;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// Why nothing was compiled.
#[derive(Debug, thiserror::Error)]
pub enum NvrtcError {
    /// The library cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        source: libloading::Error,
    },
    /// It is too old or too new.
    #[error("{} is NVRTC {major}.{minor}; kiln uses any 12.x or 13.x", path.display())]
    Version {
        /// The library.
        path: PathBuf,
        /// Its version.
        major: i32,
        /// Its version.
        minor: i32,
    },
    /// It does not know an architecture.
    #[error("NVRTC {major}.{minor} does not compile for {arch}; it knows {known}")]
    Architecture {
        /// What was asked for.
        arch: String,
        /// The library's version.
        major: i32,
        /// The library's version.
        minor: i32,
        /// What it knows.
        known: String,
    },
    /// The source has mistakes: what the compiler says, with file, line and caret.
    #[error("{0}")]
    Source(String),
    /// A name, text or option holds a zero byte.
    #[error("`{0}` holds a zero byte")]
    ZeroByte(String),
    /// The library failed.
    #[error("NVRTC failed: {0}")]
    Failed(String),
}

/// What is compiled, and how.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    /// The name that stands in messages and in PTX: logical, not a path.
    pub name: &'a str,
    /// The source.
    pub text: &'a str,
    /// What it may include: name and text.
    pub headers: &'a [(&'a str, &'a str)],
    /// The architecture: `sm_90`, `sm_90a`.
    pub arch: &'a str,
    /// Further options, as nvcc takes them.
    pub options: &'a [&'a str],
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// For any later architecture, compiled by the driver.
    pub ptx: String,
    /// Machine code of the architecture.
    pub cubin: Vec<u8>,
    /// Warnings.
    pub log: String,
    /// What each kernel needs.
    pub resources: Vec<Resources>,
}

/// What a kernel needs on a multiprocessor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// The kernel.
    pub kernel: String,
    /// Registers a thread.
    pub registers: u32,
    /// Bytes of shared memory a block, without what a launch adds.
    pub shared: u32,
    /// Bytes a thread that registers had no room for: stored.
    pub spill_stores: u32,
    /// The same: loaded.
    pub spill_loads: u32,
}

/// An opened library.
pub struct Nvrtc {
    library: Library,
    // Held open for as long as the library is.
    _builtins: Vec<Library>,
    version: (i32, i32),
}

type Program = *mut c_void;

impl Nvrtc {
    /// Opens `library`, after `builtins`.
    ///
    /// # Errors
    /// If one cannot be opened, or it is neither 12.x nor 13.x.
    #[allow(unsafe_code)]
    pub fn open(library: &Path, builtins: &[PathBuf]) -> Result<Nvrtc, NvrtcError> {
        let open = |path: &Path| {
            // SAFETY: NVIDIA's libraries run nothing but their own initialisers; which file it is, the user decides.
            unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }
                .map_err(|source| NvrtcError::Open { path: path.to_owned(), source })
        };
        let builtins = builtins.iter().map(|path| open(path)).collect::<Result<_, _>>()?;
        let mut nvrtc = Nvrtc { library: open(library)?, _builtins: builtins, version: (0, 0) };
        let (mut major, mut minor) = (0, 0);
        let version = nvrtc
            .function::<unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int>(b"nvrtcVersion")?;
        // SAFETY: both pointers are of living integers.
        nvrtc.check(unsafe { version(&raw mut major, &raw mut minor) })?;
        if ![12, 13].contains(&major) {
            return Err(NvrtcError::Version { path: library.to_owned(), major, minor });
        }
        nvrtc.version = (major, minor);
        Ok(nvrtc)
    }

    /// Major and minor.
    #[must_use]
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    /// The architectures that it compiles for, as numbers: 90 for `sm_90`.
    ///
    /// # Errors
    /// If the library fails.
    #[allow(unsafe_code)]
    pub fn architectures(&self) -> Result<Vec<i32>, NvrtcError> {
        type Get = unsafe extern "C" fn(*mut c_int) -> c_int;
        let mut count = 0;
        let number = self.function::<Get>(b"nvrtcGetNumSupportedArchs")?;
        // SAFETY: the pointer is of a living integer.
        self.check(unsafe { number(&raw mut count) })?;
        let mut known = vec![0; count.max(0) as usize];
        let get = self.function::<Get>(b"nvrtcGetSupportedArchs")?;
        // SAFETY: the array has as many places as the library has said that it fills.
        self.check(unsafe { get(known.as_mut_ptr()) })?;
        Ok(known)
    }

    /// Compiles a unit.
    ///
    /// # Errors
    /// If the source has mistakes ([`NvrtcError::Source`]), or the library fails.
    #[allow(unsafe_code)]
    pub fn compile(&self, unit: Unit<'_>) -> Result<Compiled, NvrtcError> {
        self.knows(unit.arch)?;
        let text = |text: &str| {
            CString::new(text).map_err(|_| NvrtcError::ZeroByte(text.chars().take(40).collect()))
        };
        let texts = |all: Vec<&str>| all.into_iter().map(text).collect::<Result<Vec<CString>, _>>();
        let (source, name) = (text(unit.text)?, text(unit.name)?);
        let bodies = texts(unit.headers.iter().map(|(_, body)| *body).collect())?;
        let names = texts(unit.headers.iter().map(|(name, _)| *name).collect())?;
        let arch = format!("--gpu-architecture={}", unit.arch);
        let mut options = vec![arch.as_str(), "--ptxas-options=-v"];
        options.extend(unit.options);
        let options = texts(options)?;
        let pointers = |all: &[CString]| all.iter().map(|one| one.as_ptr()).collect::<Vec<_>>();
        let (bodies, names, options) = (pointers(&bodies), pointers(&names), pointers(&options));

        type Create = unsafe extern "C" fn(
            *mut Program,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> c_int;
        let create = self.function::<Create>(b"nvrtcCreateProgram")?;
        let mut program = ptr::null_mut();
        let count = bodies.len() as c_int;
        // SAFETY: all texts end with a zero byte and outlive the call; both arrays have `count` places.
        let code = unsafe {
            create(
                &raw mut program,
                source.as_ptr(),
                name.as_ptr(),
                count,
                bodies.as_ptr(),
                names.as_ptr(),
            )
        };
        self.check(code)?;
        let program = Held { nvrtc: self, program };
        type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
        let compile = self.function::<Compile>(b"nvrtcCompileProgram")?;
        // SAFETY: the program is alive; the array has as many places as is said.
        let code = unsafe { compile(program.program, options.len() as c_int, options.as_ptr()) };
        let log = String::from_utf8_lossy(
            &program.bytes(b"nvrtcGetProgramLogSize", b"nvrtcGetProgramLog")?,
        )
        .trim_end_matches('\0')
        .to_owned();
        let (resources, log) = split_log(&log);
        if code != 0 {
            let said = log.trim();
            return Err(if said.is_empty() {
                NvrtcError::Failed(self.words(code))
            } else {
                NvrtcError::Source(said.to_owned())
            });
        }
        let ptx = program.bytes(b"nvrtcGetPTXSize", b"nvrtcGetPTX")?;
        let ptx = String::from_utf8_lossy(&ptx).trim_end_matches('\0').to_owned();
        let cubin = program.bytes(b"nvrtcGetCUBINSize", b"nvrtcGetCUBIN")?;
        Ok(Compiled { ptx, cubin, log, resources })
    }

    fn knows(&self, arch: &str) -> Result<(), NvrtcError> {
        let known = self.architectures()?;
        let number = arch.strip_prefix("sm_").map(|rest| rest.trim_end_matches(['a', 'f']));
        if number
            .and_then(|number| number.parse().ok())
            .is_some_and(|number| known.contains(&number))
        {
            return Ok(());
        }
        let known: Vec<String> = known.iter().map(|number| format!("sm_{number}")).collect();
        let (major, minor) = self.version;
        Err(NvrtcError::Architecture {
            arch: arch.to_owned(),
            major,
            minor,
            known: known.join(", "),
        })
    }

    /// A function of the library, of this type.
    #[allow(unsafe_code)]
    fn function<F: Copy>(&self, name: &[u8]) -> Result<F, NvrtcError> {
        // SAFETY: every caller names the type that nvrtc.h declares; versions 12 and 13 declare the same.
        let symbol = unsafe { self.library.get::<F>(name) };
        symbol.map(|symbol| *symbol).map_err(|error| NvrtcError::Failed(error.to_string()))
    }

    fn check(&self, code: c_int) -> Result<(), NvrtcError> {
        if code == 0 { Ok(()) } else { Err(NvrtcError::Failed(self.words(code))) }
    }

    #[allow(unsafe_code)]
    fn words(&self, code: c_int) -> String {
        type Words = unsafe extern "C" fn(c_int) -> *const c_char;
        let Ok(words) = self.function::<Words>(b"nvrtcGetErrorString") else {
            return format!("error {code}");
        };
        // SAFETY: the library gives static texts for every number.
        unsafe { CStr::from_ptr(words(code)) }.to_string_lossy().into_owned()
    }
}

/// A program of the library's, destroyed when it is dropped.
struct Held<'a> {
    nvrtc: &'a Nvrtc,
    program: Program,
}

impl Held<'_> {
    /// What one of the library's pairs of functions gives: how many bytes, then the bytes.
    #[allow(unsafe_code)]
    fn bytes(&self, size: &[u8], get: &[u8]) -> Result<Vec<u8>, NvrtcError> {
        type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
        type Get = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
        let mut count = 0;
        let size = self.nvrtc.function::<Size>(size)?;
        // SAFETY: the program is alive, the pointer of a living integer.
        self.nvrtc.check(unsafe { size(self.program, &raw mut count) })?;
        let mut bytes = vec![0u8; count];
        let get = self.nvrtc.function::<Get>(get)?;
        // SAFETY: there is room for as many bytes as the library has said that it writes.
        self.nvrtc.check(unsafe { get(self.program, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }
}

impl Drop for Held<'_> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;
        if let Ok(destroy) = self.nvrtc.function::<Destroy>(b"nvrtcDestroyProgram") {
            // SAFETY: the program is alive, and nobody uses it after this.
            unsafe { destroy(&raw mut self.program) };
        }
    }
}

/// Parts what the assembler tells of resources from what the compiler says.
fn split_log(log: &str) -> (Vec<Resources>, String) {
    let (mut all, mut rest) = (Vec::<Resources>::new(), String::new());
    let number = |line: &str, unit: &str| -> u32 {
        let before = line.split(unit).next().unwrap_or_default().trim_end();
        before
            .rsplit(|c: char| !c.is_ascii_digit())
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0)
    };
    for line in log.lines() {
        if !line.starts_with("ptxas") {
            rest.push_str(line);
            rest.push('\n');
        } else if let Some((_, name)) = line.split_once("Compiling entry function '") {
            let kernel = name.split('\'').next().unwrap_or_default().to_owned();
            all.push(Resources { kernel, ..Resources::default() });
        } else if let Some(last) = all.last_mut() {
            if line.contains("bytes spill stores") {
                last.spill_stores = number(line, " bytes spill stores");
                last.spill_loads = number(line, " bytes spill loads");
            } else if line.contains(" registers") {
                last.registers = number(line, " registers");
                if line.contains(" bytes smem") {
                    last.shared = number(line, " bytes smem");
                }
            }
        }
    }
    all.sort_by(|a, b| a.kernel.cmp(&b.kernel));
    (all, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_read_from_what_the_assembler_tells() {
        let log = "k.cu(3): warning #177-D: unused\nptxas info    : 0 bytes gmem\n\
            ptxas info    : Compiling entry function 'b' for 'sm_90'\nptxas info    : Function properties for b\n\
            ptxas         .     64 bytes stack frame, 342 bytes spill stores, 116 bytes spill loads\n\
            ptxas info    : Used 128 registers, used 1 barriers, 64 bytes cumulative stack size, 33792 bytes smem\n\
            ptxas info    : Compiling entry function 'a' for 'sm_90'\n\
            ptxas info    : Used 26 registers, used 0 barriers\n";
        let (resources, rest) = split_log(log);
        let b = Resources {
            kernel: "b".to_owned(),
            registers: 128,
            shared: 33792,
            spill_stores: 342,
            spill_loads: 116,
        };
        let a = Resources { kernel: "a".to_owned(), registers: 26, ..Resources::default() };
        assert_eq!(resources, [a, b]);
        assert_eq!(rest, "k.cu(3): warning #177-D: unused\n");
    }
}
