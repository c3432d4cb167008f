//! Devices that run the kernels of `cu/`: memory, copies, launches.
//!
//! A device is a GPU, or in tests a CPU that plays one. This module is unaware of what kernels compute.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

/// Why a device could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// There is no driver for it.
    #[error(
        "there is no NVIDIA driver on this machine: none of {} can be opened\n\
         help: install NVIDIA's driver, after which `nvidia-smi` lists the GPUs,\n\
         \x20     or hand the GPUs on, where this is a container (`--gpus all`),\n\
         \x20     or compute on the CPU, which gives the same bits",
        looked.join(", ")
    )]
    NoDriver {
        /// The names under which it was looked for, as the loader takes them.
        looked: Vec<String>,
    },
    /// There is a driver, and no device that may be used.
    #[error(
        "no GPU can be used: {reason}\n\
         help: look whether `nvidia-smi` lists it,\n\
         \x20     or whether CUDA_VISIBLE_DEVICES hides it,\n\
         \x20     or compute on the CPU, which gives the same bits"
    )]
    NoDevice {
        /// What the driver says, or which was asked for.
        reason: String,
    },
    /// There is not enough memory on it.
    #[error(
        "the device has no room{}{}; help: smaller batches, or fewer rows or weights",
        if *bytes > 0 { format!(" for {bytes} more bytes") } else { String::new() },
        free.map(|free| format!(" ({free} are free)")).unwrap_or_default()
    )]
    OutOfMemory {
        /// What was asked for; 0 for what the driver wanted for itself.
        bytes: usize,
        /// What is free, if the device says so.
        free: Option<usize>,
    },
    /// No kernel of this name was loaded.
    #[error("no kernel is called `{name}`")]
    NoKernel {
        /// The name that was asked for.
        name: String,
    },
    /// Neither machine code nor PTX of the kernels fits it.
    #[error("the kernels do not run on this device, which is an {arch}: {reason}")]
    WrongArchitecture {
        /// The device's architecture, such as `sm_90`.
        arch: String,
        /// What the driver said.
        reason: String,
    },
    /// A kernel ran too long and was ended by the driver.
    #[error(
        "a kernel took longer than the driver allows (a GPU that also drives a display ends kernels after some seconds)"
    )]
    TimedOut,
    /// It stopped working: an illegal access, a hardware fault, or it was taken away.
    #[error("the device was lost: {0}")]
    Lost(String),
    /// Anything else.
    #[error("the device refused: {0}")]
    Refused(String),
}

/// One argument of a launch, as a kernel takes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// An address on the device, or another 64-bit word.
    Word(u64),
    /// A 32-bit word.
    Half(u32),
    /// A number.
    Float(f32),
}

/// One kernel, on so many blocks of so many threads.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch<'a> {
    /// The kernel's name.
    pub kernel: Cow<'a, str>,
    /// Blocks: x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block, in one row.
    pub threads: u32,
    /// In the kernel's order.
    pub args: Vec<Arg>,
}

/// Whoever has memory on a device and takes it back.
pub trait Owner: Send + Sync {
    /// Takes back what stands at `address`.
    fn free(&self, address: u64);
}

/// Memory on a device: 32-bit words. Dropped, it is given back.
pub struct Memory {
    address: u64,
    words: usize,
    owner: Arc<dyn Owner>,
}

impl Memory {
    /// Memory that `owner` will take back.
    pub fn new(address: u64, words: usize, owner: Arc<dyn Owner>) -> Memory {
        Memory { address, words, owner }
    }

    /// Its address, for a launch.
    #[must_use]
    pub fn arg(&self) -> Arg {
        Arg::Word(self.address)
    }

    /// Where it stands.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How many words it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words == 0
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.owner.free(self.address);
    }
}

/// Something that runs kernels, one after the other, in the order in which they are launched.
pub trait Device {
    /// How many blocks it works on at the same time, roughly: multiprocessors.
    fn multiprocessors(&self) -> u32;

    /// Room for `words` 32-bit words, zeros.
    ///
    /// # Errors
    /// If there is none.
    fn zeros(&self, words: usize) -> Result<Memory, DeviceError>;

    /// Copies `words` to the beginning of `to`.
    ///
    /// # Errors
    /// If the device fails.
    fn write(&self, to: &Memory, words: &[u32]) -> Result<(), DeviceError>;

    /// Copies the beginning of `from` to `words`, after everything that was launched before is done.
    ///
    /// # Errors
    /// If the device fails, or a kernel did.
    fn read(&self, from: &Memory, words: &mut [u32]) -> Result<(), DeviceError>;

    /// Runs a kernel.
    ///
    /// # Errors
    /// If there is no such kernel, or the device fails.
    fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError>;

    /// These launches as one program, to be run many times. What changes from run to run, they read from memory.
    ///
    /// # Errors
    /// If there is no such kernel, or the device fails.
    fn program<'a>(
        &'a self,
        launches: Vec<Launch<'static>>,
    ) -> Result<Box<dyn Program + 'a>, DeviceError> {
        Ok(Box::new(OneByOne { device: self, launches }))
    }

    /// `values` in memory of their own.
    ///
    /// # Errors
    /// If there is no room, or the device fails.
    fn upload(&self, values: &[f32]) -> Result<Memory, DeviceError> {
        self.upload_words(&bits(values))
    }

    /// The same for words.
    ///
    /// # Errors
    /// If there is no room, or the device fails.
    fn upload_words(&self, words: &[u32]) -> Result<Memory, DeviceError> {
        let memory = self.zeros(words.len())?;
        self.write(&memory, words)?;
        Ok(memory)
    }

    /// Everything in `memory`, as numbers.
    ///
    /// # Errors
    /// If the device fails, or a kernel did.
    fn download(&self, memory: &Memory) -> Result<Vec<f32>, DeviceError> {
        let mut words = vec![0; memory.len()];
        self.read(memory, &mut words)?;
        Ok(words.into_iter().map(f32::from_bits).collect())
    }
}

/// The bits of numbers.
#[must_use]
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Launches that are run again and again. The memories that they name have to outlive it.
pub trait Program {
    /// Runs all of them, in order, so many times.
    ///
    /// # Errors
    /// If the device fails.
    fn run(&self, times: u32) -> Result<(), DeviceError>;
}

/// A program of a device that has no better way.
struct OneByOne<'a, D: ?Sized> {
    device: &'a D,
    launches: Vec<Launch<'static>>,
}

impl<D: Device + ?Sized> Program for OneByOne<'_, D> {
    fn run(&self, times: u32) -> Result<(), DeviceError> {
        (0..times)
            .try_for_each(|_| self.launches.iter().try_for_each(|own| self.device.launch(own)))
    }
}

/// Notes launches in place of running them: the steps of a [`Program`].
pub struct Recorder<'a> {
    device: &'a dyn Device,
    launches: RefCell<Vec<Launch<'static>>>,
}

impl<'a> Recorder<'a> {
    /// For launches on `device`.
    pub fn new(device: &'a dyn Device) -> Recorder<'a> {
        Recorder { device, launches: RefCell::default() }
    }

    /// What was launched.
    pub fn launches(self) -> Vec<Launch<'static>> {
        self.launches.into_inner()
    }
}

impl Device for Recorder<'_> {
    fn multiprocessors(&self) -> u32 {
        self.device.multiprocessors()
    }

    fn zeros(&self, words: usize) -> Result<Memory, DeviceError> {
        self.device.zeros(words)
    }

    fn write(&self, _: &Memory, _: &[u32]) -> Result<(), DeviceError> {
        Err(DeviceError::Refused("a program holds launches only, no copies".to_owned()))
    }

    fn read(&self, _: &Memory, _: &mut [u32]) -> Result<(), DeviceError> {
        Err(DeviceError::Refused("a program holds launches only, no copies".to_owned()))
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        let Launch { kernel, grid, threads, args } = launch.clone();
        let kernel = Cow::Owned(kernel.into_owned());
        self.launches.borrow_mut().push(Launch { kernel, grid, threads, args });
        Ok(())
    }
}
