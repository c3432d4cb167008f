//! A CPU that plays a GPU, for tests: the `.cu` sources themselves, compiled by the system's C++ compiler against
//! `cu/host.h`, which runs each CUDA thread as a fibre.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use libloading::Library;

use crate::device::{Arg, Device, DeviceError, Launch, Memory, Owner};

/// The order in which the threads of a block take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turns {
    /// From the first to the last.
    Ascending,
    /// From the last to the first.
    Descending,
    /// Shuffled, by a number above 1.
    Shuffled(u32),
}

/// Why the kernels could not be compiled for the CPU.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// There is no C++ compiler.
    #[error("no C++ compiler: none of CXX, c++, g++ and clang++ can be run")]
    NoCompiler,
    /// It found mistakes.
    #[error("the C++ compiler refused:\n{0}")]
    Refused(String),
    /// A file could not be written, or the library not be opened.
    #[error("cannot make {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The library could not be opened.
    #[error("cannot open what was compiled")]
    Open(#[from] libloading::Error),
}

/// Words that are put behind every memory, to notice who writes past its end.
const GUARD: [u32; 16] = [0xDEAD_BEEF; 16];

/// Memories by address.
#[derive(Default)]
struct Memories(Mutex<BTreeMap<u64, Vec<u128>>>);

impl Owner for Memories {
    fn free(&self, address: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }
}

/// The kernels of some sources, on this CPU.
pub struct Emulator {
    library: Library,
    memories: Arc<Memories>,
    turns: Turns,
    multiprocessors: u32,
}

impl Emulator {
    /// Compiles `sources` (name and text, headers included) in `folder`. Kernels are all functions that are declared
    /// `extern "C" __global__`, or by the macro `PRODUCT(NAME, …)`.
    ///
    /// # Errors
    /// [`EmulatorError`].
    pub fn compile(folder: &Path, sources: &[(&str, &str)]) -> Result<Emulator, EmulatorError> {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|source| EmulatorError::Io { path, source })
        };
        let mut program = "#include \"host.h\"\n".to_owned();
        let mut table = String::new();
        write("host.h", include_str!("cu/host.h"))?;
        for (name, text) in sources {
            write(name, text)?;
            if name.ends_with(".cu") {
                program.push_str(&format!("#include \"{name}\"\n"));
                for kernel in kernels(text) {
                    table.push_str(&format!("{{\"{kernel}\", host::Entry<{kernel}>::run}},\n"));
                }
            }
        }
        program.push_str(&format!("const host::Named kiln_kernels[] = {{\n{table}{{0, 0}}}};\n"));
        write("kernels.cpp", &program)?;
        let output = folder.join("kernels.so");
        let native = if cfg!(target_arch = "x86_64") { "-march=native" } else { "-mcpu=native" };
        // Hidden names are bound inside the library: a kernel may have the name of a function of the C library.
        let mut arguments = vec![
            "-std=c++17",
            "-O1",
            native,
            "-ffp-contract=off",
            "-fPIC",
            "-fvisibility=hidden",
            "-shared",
        ];
        arguments.extend(["-Wno-unknown-pragmas", "-o"]);
        let chosen = std::env::var("CXX").ok();
        for compiler in chosen.iter().map(String::as_str).chain(["c++", "g++", "clang++"]) {
            let ran = Command::new(compiler)
                .args(&arguments)
                .args([&output, &folder.join("kernels.cpp")])
                .output();
            match ran {
                Ok(ran) if ran.status.success() => return Emulator::open(&output),
                Ok(ran) => {
                    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
                    return Err(EmulatorError::Refused(said));
                }
                Err(_) => {}
            }
        }
        Err(EmulatorError::NoCompiler)
    }

    #[allow(unsafe_code)]
    fn open(path: &Path) -> Result<Emulator, EmulatorError> {
        // SAFETY: the library was made from our own header, which runs nothing when it is opened.
        let library = unsafe { Library::new(path) }?;
        Ok(Emulator {
            library,
            memories: Arc::default(),
            turns: Turns::Ascending,
            multiprocessors: 4,
        })
    }

    /// The same, with threads that take turns in another order.
    #[must_use]
    pub fn taking_turns(mut self, turns: Turns) -> Emulator {
        self.turns = turns;
        self
    }

    /// The same, as if it had so many multiprocessors: which decides how products are cut.
    #[must_use]
    pub fn with_multiprocessors(mut self, multiprocessors: u32) -> Emulator {
        self.multiprocessors = multiprocessors;
        self
    }
}

/// The names of the kernels in a source.
#[must_use]
pub fn kernels(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let identifier = |text: &str| -> String {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("PRODUCT(") {
            names.push(identifier(rest));
        }
    }
    for part in text.split("extern \"C\" __global__").skip(1) {
        // The name stands before the first parenthesis that is not that of launch bounds.
        let rest = part.trim_start().strip_prefix("void").unwrap_or(part).trim_start();
        let rest = match rest.strip_prefix("__launch_bounds__") {
            Some(bounds) => bounds.split_once(')').map_or("", |(_, rest)| rest),
            None => rest,
        };
        let name = identifier(rest.trim_start());
        if !name.is_empty() && name != "__launch_bounds__" && name != "NAME" {
            names.push(name);
        }
    }
    names
}

impl Device for Emulator {
    fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    fn zeros(&self, words: usize) -> Result<Memory, DeviceError> {
        let mut memory = vec![0u128; words.div_ceil(4) + GUARD.len() / 4 + 1];
        let address = memory.as_mut_ptr() as u64;
        self.memories.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address, memory);
        let owner = Arc::<Memories>::clone(&self.memories);
        let memory = Memory::new(address, words, owner);
        self.words(&memory, words, GUARD.len()).copy_from_slice(&GUARD);
        Ok(memory)
    }

    fn write(&self, to: &Memory, words: &[u32]) -> Result<(), DeviceError> {
        assert!(words.len() <= to.len(), "{} words into {}", words.len(), to.len());
        self.words(to, 0, words.len()).copy_from_slice(words);
        Ok(())
    }

    fn read(&self, from: &Memory, words: &mut [u32]) -> Result<(), DeviceError> {
        assert!(words.len() <= from.len(), "{} words from {}", words.len(), from.len());
        words.copy_from_slice(self.words(from, 0, words.len()));
        if *self.words(from, from.len(), GUARD.len()) != GUARD {
            return Err(DeviceError::Lost("a kernel wrote past the end of its memory".to_owned()));
        }
        Ok(())
    }

    #[allow(unsafe_code)]
    fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        type Emulate = unsafe extern "C" fn(
            *const std::ffi::c_char,
            *const u32,
            *const u32,
            u32,
            *mut *mut std::ffi::c_void,
        ) -> i32;
        let no_kernel = || DeviceError::NoKernel { name: launch.kernel.to_string() };
        let name = CString::new(launch.kernel.as_bytes()).map_err(|_| no_kernel())?;
        let mut words: Vec<u64> = launch
            .args
            .iter()
            .map(|arg| match *arg {
                Arg::Word(word) => word,
                Arg::Half(half) => u64::from(half),
                Arg::Float(float) => u64::from(float.to_bits()),
            })
            .collect();
        let mut pointers: Vec<*mut std::ffi::c_void> =
            words.iter_mut().map(|word| std::ptr::from_mut(word).cast()).collect();
        let turns = match self.turns {
            Turns::Ascending => 0,
            Turns::Descending => 1,
            Turns::Shuffled(which) => which.max(2),
        };
        // SAFETY: the function was compiled with this signature, from `cu/host.h`.
        let emulate = unsafe { self.library.get::<Emulate>(b"kiln_emulate") }
            .map_err(|error| DeviceError::Refused(error.to_string()))?;
        let threads = [launch.threads, 1, 1];
        // SAFETY: name and arrays outlive the call; what the kernel's pointers point to is memory of `zeros`, whose
        // owner outlives the launch, and the kernel is one that the launchers call with the arguments that it takes.
        let found = unsafe {
            emulate(
                name.as_ptr(),
                launch.grid.as_ptr(),
                threads.as_ptr(),
                turns,
                pointers.as_mut_ptr(),
            )
        };
        if found == 0 { Ok(()) } else { Err(no_kernel()) }
    }
}

impl Emulator {
    /// Words of a memory, those of its guard included.
    #[allow(unsafe_code, clippy::mut_from_ref)]
    fn words(&self, memory: &Memory, first: usize, count: usize) -> &mut [u32] {
        assert!(first + count <= memory.len() + GUARD.len(), "inside of the memory");
        // SAFETY: `zeros` made room for that much at this address, it is alive as long as `memory`, and only one slice
        // of it exists at a time: the callers are the methods above, and a launch, which has ended.
        unsafe { std::slice::from_raw_parts_mut((memory.address() as *mut u32).add(first), count) }
    }
}
