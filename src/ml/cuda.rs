//! The `cuda` builder: CUDA sources to PTX and machine code, through NVRTC. It needs no GPU.
//!
//! Writes one folder: for each source and architecture `NAME.ARCH.ptx` and `NAME.ARCH.cubin`, and `kernels.json`, which
//! says what each kernel needs and what the lint calls it. Unaware of who loads them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kiln_kernels::launch::SOURCES;
use kiln_kernels::lint::{self, Fusing};
use kiln_kernels::nvrtc::search::{self, Found, NotFound};
use kiln_kernels::nvrtc::{Compiled, Nvrtc, NvrtcError, Unit};
use serde::{Deserialize, Serialize};

use crate::output::{OutputError, folder, json, place, write};
use crate::request::{Input, KindError};

/// Finds NVRTC by the caller's variables.
///
/// # Errors
/// If it is nowhere: where it was looked for, and three ways on.
pub fn find(variable: &dyn Fn(&str) -> Option<OsString>) -> Result<Found, NotFound> {
    search::find(variable, None)
}

/// The semantic version: a change of any output byte raises it.
pub const VERSION: u32 = 2;

/// The arguments of `cuda`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// `builtin:mlp`: the kernels that kiln brings.
    pub kernels: Option<String>,
    /// A `.cu` file, or a folder with some and what they include.
    pub sources: Option<Input>,
    /// Folders of headers.
    #[serde(default)]
    pub include: Vec<Input>,
    /// Options, as nvcc takes them.
    pub flags: Vec<String>,
    /// Architectures.
    pub arch: Vec<String>,
    /// A folder with NVRTC, in place of the machine's.
    pub nvrtc: Option<Input>,
}

/// Why nothing was compiled.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// The step was given no compiler.
    #[error(
        "the step was given no NVRTC; help: it is found when a build begins, see `kiln help builder cuda`"
    )]
    NoLibrary,
    /// `nvrtc` is no folder.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// There is no compiler in the folder that the step brings.
    #[error(
        "`nvrtc` holds no NVRTC; help: name the folder that `pip install --target FOLDER nvidia-cuda-nvrtc-cu12` made, or one with libnvrtc.so and libnvrtc-builtins.so"
    )]
    NotInside,
    /// Neither, or both, of `kernels` and `sources`.
    #[error("`kernels` or `sources`, one of them, says what to compile")]
    NoSources,
    /// There is nothing to compile.
    #[error("`sources` holds no file whose name ends with .cu")]
    NoKernels,
    /// Two of what is compiled would be one file; or an architecture is named twice.
    #[error(
        "{name} would be written to {file}.ptx, like another; help: rename one, or name each architecture once"
    )]
    SameName {
        /// The second source.
        name: String,
        /// What both would be, without its ending.
        file: String,
    },
    /// A source cannot be read.
    #[error("cannot read {name}")]
    Read {
        /// Its name in the folder.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The compiler refused.
    #[error("{name} does not compile for {arch}:\n{source}")]
    Compile {
        /// The source.
        name: String,
        /// The architecture.
        arch: String,
        /// What it says: file, line, caret.
        #[source]
        source: NvrtcError,
    },
    /// The compiler cannot be used.
    #[error(transparent)]
    Nvrtc(#[from] NvrtcError),
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The log cannot be written.
    #[error("cannot write the log")]
    Log(#[from] io::Error),
}

/// What `kernels.json` holds.
#[derive(Debug, Serialize)]
struct Document {
    /// NVRTC's version.
    nvrtc: String,
    flags: Vec<String>,
    /// By file, without `.ptx` or `.cubin`.
    units: BTreeMap<String, Vec<Kernel>>,
}

#[derive(Debug, Serialize)]
struct Kernel {
    name: String,
    /// The lint's class: `exact`, `approximate`, `tensor core`, `nondeterministic`.
    class: &'static str,
    /// What shows it: the first instruction of each kind.
    because: Vec<String>,
    /// Registers a thread.
    registers: u32,
    /// Bytes of shared memory a block.
    shared_bytes: u32,
    /// Bytes a thread.
    spill_stores: u32,
    /// Bytes a thread.
    spill_loads: u32,
}

/// Compiles with the library in `library`, builtins first, NVRTC itself last; or with the one that the step brings.
///
/// # Errors
/// If a source has mistakes, or a file cannot be read or written.
pub fn run(
    args: &Args,
    library: &[PathBuf],
    outputs: &BTreeMap<String, PathBuf>,
    log: &mut dyn Write,
) -> Result<(), CudaError> {
    let out = place(outputs, "out")?;
    let nvrtc = match &args.nvrtc {
        Some(own) => {
            let found = search::find(&|_| None, Some(own.tree("nvrtc")?));
            let found = found.map_err(|_| CudaError::NotInside)?;
            Nvrtc::open(&found.library, &found.builtins)?
        }
        None => {
            let (nvrtc, builtins) = library.split_last().ok_or(CudaError::NoLibrary)?;
            Nvrtc::open(nvrtc, builtins)?
        }
    };
    let mut texts: BTreeMap<String, String> = match (&args.kernels, &args.sources) {
        (Some(_), None) => {
            SOURCES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        }
        (None, Some(sources)) => read(sources)?,
        _ => return Err(CudaError::NoSources),
    };
    let own: Vec<String> = texts.keys().filter(|name| name.ends_with(".cu")).cloned().collect();
    if own.is_empty() {
        return Err(CudaError::NoKernels);
    }
    for include in &args.include {
        for (name, text) in read(include)? {
            // What stands beside the sources comes before what stands in an include folder, as for every compiler.
            texts.entry(name).or_insert(text);
        }
    }
    let headers: Vec<(&str, &str)> =
        texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let fused = ["--fmad=false", "-fmad=false"];
    let exact = args.flags.iter().any(|flag| fused.contains(&flag.as_str()));
    let fusing = if exact { Fusing::AsWritten } else { Fusing::Allowed };
    let flags: Vec<&str> = args.flags.iter().map(String::as_str).collect();
    let (major, minor) = nvrtc.version();
    writeln!(log, "NVRTC {major}.{minor}, {} sources, {}", own.len(), args.arch.join(", "))?;
    folder(out)?;
    let mut units = BTreeMap::new();
    for arch in &args.arch {
        for name in &own {
            // Sources in folders become files beside each other.
            let stem = name.trim_end_matches(".cu").replace('/', ".");
            let stem = format!("{stem}.{arch}");
            if units.contains_key(&stem) {
                return Err(CudaError::SameName { name: name.clone(), file: stem });
            }
            let text = &texts[name];
            let unit = Unit { name, text, headers: &headers, arch, options: &flags };
            let compiled = nvrtc.compile(unit).map_err(|source| match source {
                NvrtcError::Architecture { .. } => CudaError::Nvrtc(source),
                source => CudaError::Compile { name: name.clone(), arch: arch.clone(), source },
            })?;
            write!(log, "{}", compiled.log)?;
            write(&out.join(format!("{stem}.ptx")), &compiled.ptx)?;
            write(&out.join(format!("{stem}.cubin")), &compiled.cubin)?;
            let kernels = kernels(&compiled, fusing);
            for kernel in &kernels {
                writeln!(
                    log,
                    "{stem} {}: {}, {} registers",
                    kernel.name, kernel.class, kernel.registers
                )?;
            }
            units.insert(stem, kernels);
        }
    }
    let document = Document { nvrtc: format!("{major}.{minor}"), flags: args.flags.clone(), units };
    Ok(write(&out.join("kernels.json"), json(&document))?)
}

fn kernels(compiled: &Compiled, fusing: Fusing) -> Vec<Kernel> {
    let verdicts = lint::verdicts(&compiled.ptx, fusing);
    let mut kernels: Vec<Kernel> = verdicts
        .into_iter()
        .map(|verdict| {
            let needs = compiled.resources.iter().find(|own| own.kernel == verdict.kernel);
            let needs = needs.cloned().unwrap_or_default();
            Kernel {
                class: verdict.class(),
                because: verdict.found.into_values().collect(),
                name: verdict.kernel,
                registers: needs.registers,
                shared_bytes: needs.shared,
                spill_stores: needs.spill_stores,
                spill_loads: needs.spill_loads,
            }
        })
        .collect();
    kernels.sort_by(|a, b| a.name.cmp(&b.name));
    kernels
}

/// The texts of a file or folder, by their names in it; a file alone is `kernels.cu`, since its own name is not known here.
fn read(input: &Input) -> Result<BTreeMap<String, String>, CudaError> {
    let mut texts = BTreeMap::new();
    if input.kind == "file" {
        texts.insert("kernels.cu".to_owned(), text(&input.path, "kernels.cu")?);
        return Ok(texts);
    }
    let mut folders = vec![(input.path.clone(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let fail = |source| CudaError::Read { name: prefix.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                folders.push((entry.path(), format!("{name}/")));
            } else {
                texts.insert(name.clone(), text(&entry.path(), &name)?);
            }
        }
    }
    Ok(texts)
}

fn text(path: &Path, name: &str) -> Result<String, CudaError> {
    std::fs::read_to_string(path)
        .map_err(|source| CudaError::Read { name: name.to_owned(), source })
}
