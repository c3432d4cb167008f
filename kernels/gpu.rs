//! A GPU of NVIDIA's, through its driver: which one, memory, copies, launches, programs as CUDA graphs, times.
//!
//! Nothing here needs a GPU to be compiled, and without a driver everything is an error that says so. The driver is
//! called by one thread at a time. Unaware of what kernels compute and of who compiled them ([`image`]).

mod driver;
pub mod image;
pub mod nvml;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::Arc;

use cudarc::driver::{result, sys};

use self::driver::{call, refusal};
use self::image::{Arch, Image};
use crate::device::{Arg, Device, DeviceError, Launch, Memory, Owner, Program};

/// A launch that takes part in a graph is a node; a graph holds about so many.
const NODES: usize = 512;

/// How many GPUs this process may use: those that `CUDA_VISIBLE_DEVICES` leaves.
///
/// # Errors
/// If there is no driver, or it sees no GPU.
pub fn count() -> Result<u32, DeviceError> {
    driver::start()?;
    let count = call("count the GPUs", result::device::get_count)?;
    match u32::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(DeviceError::NoDevice { reason: "the driver lists none".to_owned() }),
    }
}

/// The driver's view of one GPU, and the queue that everything goes through.
struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
}

// SAFETY: a context and a stream are the driver's handles, which any thread may use once it has made the context its
// current one; each use below does.
#[allow(unsafe_code)]
unsafe impl Send for Context {}
// SAFETY: as above; the driver locks by itself.
#[allow(unsafe_code)]
unsafe impl Sync for Context {}

impl Context {
    /// Makes this thread speak of this GPU.
    #[allow(unsafe_code)]
    fn enter(&self) -> Result<(), DeviceError> {
        // SAFETY: the context was retained when this was made and is released when it is dropped.
        call("choose the GPU", || unsafe { result::ctx::set_current(self.context) })
    }

    #[allow(unsafe_code)]
    fn wait(&self) -> Result<(), DeviceError> {
        // SAFETY: the stream is destroyed only when this is dropped.
        call("wait for the GPU", || unsafe { result::stream::synchronize(self.stream) })
    }
}

impl Owner for Context {
    #[allow(unsafe_code)]
    fn free(&self, address: u64) {
        if address != 0 && self.enter().is_ok() {
            // SAFETY: the address came from `zeros`, and its memory is dropped once. Freeing waits for kernels that run.
            // A failure says that the GPU is lost, which the next call tells.
            let _ = call("free memory", || unsafe { result::free_sync(address) });
        }
    }
}

impl Drop for Context {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        if self.enter().is_ok() {
            // SAFETY: memories and modules hold this, so that none is left; the handles are not used after this.
            let _ = call("close the stream", || unsafe { result::stream::destroy(self.stream) });
            // SAFETY: as above.
            let _ = call("leave the GPU", || unsafe { result::primary_ctx::release(self.device) });
        }
    }
}

/// A module of kernels in the driver.
struct Module {
    module: sys::CUmodule,
    context: Arc<Context>,
}

impl Drop for Module {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: the module is alive, and functions of it are used by the `Gpu` alone that holds it.
            let _ = call("unload kernels", || unsafe { result::module::unload(self.module) });
        }
    }
}

/// One GPU.
pub struct Gpu {
    context: Arc<Context>,
    name: String,
    arch: Arch,
    multiprocessors: u32,
    modules: Vec<Module>,
    functions: RefCell<HashMap<String, sys::CUfunction>>,
}

impl Gpu {
    /// The GPU at place `ordinal` among those that this process may use, without kernels.
    ///
    /// # Errors
    /// If there is no driver or no such GPU, or it is taken or broken.
    #[allow(unsafe_code)]
    pub fn open(ordinal: u32) -> Result<Gpu, DeviceError> {
        use sys::CUdevice_attribute as Attribute;
        let count = count()?;
        if ordinal >= count {
            let reason =
                format!("number {ordinal} was asked for, counted from 0, and there are {count}");
            return Err(DeviceError::NoDevice { reason });
        }
        let device = call("find the GPU", || result::device::get(ordinal as i32))?;
        let name = call("ask for the GPU's name", || result::device::get_name(device))?;
        // SAFETY: the device is one that the driver has just named.
        let ask = |what| {
            call("ask what the GPU can", || unsafe { result::device::get_attribute(device, what) })
        };
        let major = ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let multiprocessors = ask(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        // SAFETY: as above; `Context` releases it.
        let context = call("use the GPU", || unsafe { result::primary_ctx::retain(device) })?;
        // SAFETY: the context has just been retained.
        let made =
            call("use the GPU", || unsafe { result::ctx::set_current(context) }).and_then(|()| {
                call("open a stream", || {
                    result::stream::create(result::stream::StreamKind::NonBlocking)
                })
            });
        let stream = made.inspect_err(|_| {
            // SAFETY: nothing uses the context that was retained above.
            let _ = call("leave the GPU", || unsafe { result::primary_ctx::release(device) });
        })?;
        Ok(Gpu {
            context: Arc::new(Context { device, context, stream }),
            name,
            arch: Arch::of(major, minor),
            multiprocessors: u32::try_from(multiprocessors).unwrap_or(1).max(1),
            modules: Vec::new(),
            functions: RefCell::default(),
        })
    }

    /// What its maker calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What kernels have to be compiled for.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The newest CUDA that the driver knows: major, minor.
    ///
    /// # Errors
    /// If the driver fails.
    #[allow(unsafe_code)]
    pub fn driver(&self) -> Result<(i32, i32), DeviceError> {
        let mut version = 0;
        // SAFETY: the pointer is of a living integer.
        call("ask for the driver's version", || unsafe {
            sys::cuDriverGetVersion(&raw mut version).result()
        })?;
        Ok((version / 1000, version % 1000 / 10))
    }

    /// Bytes of memory: free, and all.
    ///
    /// # Errors
    /// If the driver fails.
    pub fn memory(&self) -> Result<(usize, usize), DeviceError> {
        self.context.enter()?;
        call("ask for the free memory", result::mem_get_info)
    }

    /// What the machine's management library tells of this GPU now.
    ///
    /// # Errors
    /// If there is no such library, or it does not know the GPU.
    pub fn figures(&self) -> Result<nvml::Figures, DeviceError> {
        nvml::figures(&self.place()?)
    }

    /// The GPU's address on the bus, as the management library takes it.
    #[allow(unsafe_code)]
    fn place(&self) -> Result<String, DeviceError> {
        let mut text = [0u8; 32];
        call("ask where the GPU is", || {
            // SAFETY: there is room for as many bytes as is said; the driver ends them with a zero.
            unsafe {
                sys::cuDeviceGetPCIBusId(text.as_mut_ptr().cast(), 31, self.context.device).result()
            }
        })?;
        Ok(text.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect())
    }

    /// Loads kernels: of `images`, which all are the same source, machine code of the architecture that fits best, or else
    /// the newest PTX that the driver can compile for it.
    ///
    /// # Errors
    /// If none fits ([`DeviceError::WrongArchitecture`]), or the device fails.
    #[allow(unsafe_code)]
    pub fn load(&mut self, images: &[Image<'_>]) -> Result<(), DeviceError> {
        self.context.enter()?;
        let wrong = |reason| DeviceError::WrongArchitecture { arch: self.arch.to_string(), reason };
        let mut told = "there is neither machine code nor PTX for it".to_owned();
        for image in image::fitting(images, self.arch) {
            let bytes = match image.bytes() {
                Ok(bytes) => bytes,
                Err(reason) => {
                    told = reason;
                    continue;
                }
            };
            // SAFETY: `bytes` checked that a cubin is as long as it says, and ended PTX with a zero.
            let loaded = call("load kernels", || unsafe {
                result::module::load_data(bytes.as_ptr().cast())
            });
            match loaded {
                Ok(module) => {
                    self.modules.push(Module { module, context: Arc::clone(&self.context) });
                    return Ok(());
                }
                Err(DeviceError::WrongArchitecture { reason, .. }) => told = reason,
                Err(error) => return Err(error),
            }
        }
        Err(wrong(told))
    }

    #[allow(unsafe_code)]
    fn function(&self, name: &str) -> Result<sys::CUfunction, DeviceError> {
        if let Some(function) = self.functions.borrow().get(name) {
            return Ok(*function);
        }
        let no_kernel = || DeviceError::NoKernel { name: name.to_owned() };
        let text = CString::new(name).map_err(|_| no_kernel())?;
        for module in &self.modules {
            // SAFETY: the module is alive; the function is used only while this holds the module.
            let found = driver::guarded("find a kernel", || unsafe {
                result::module::get_function(module.module, text.clone())
            })?;
            match found {
                Ok(function) => {
                    // A driver may load a kernel only when it is used; to ask for its size has it loaded now, which a
                    // capture would not allow.
                    let size = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_NUM_REGS;
                    // SAFETY: the function is of a module that is alive.
                    call("load a kernel", || unsafe {
                        result::function::get_function_attribute(function, size)
                    })?;
                    self.functions.borrow_mut().insert(name.to_owned(), function);
                    return Ok(function);
                }
                Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NOT_FOUND => {}
                Err(error) => return Err(refusal("find a kernel", error.0)),
            }
        }
        Err(no_kernel())
    }

    /// How long `work` keeps the GPU busy, in milliseconds: from the first launch to the end of the last.
    ///
    /// # Errors
    /// If `work` fails, or the device does.
    #[allow(unsafe_code)]
    pub fn time(&self, work: impl FnOnce() -> Result<(), DeviceError>) -> Result<f32, DeviceError> {
        self.context.enter()?;
        let (begin, end) = (Event::new(&self.context)?, Event::new(&self.context)?);
        begin.record()?;
        work()?;
        end.record()?;
        self.context.wait()?;
        // SAFETY: both events are alive, and both were recorded.
        call("read times", || unsafe { result::event::elapsed(begin.event, end.event) })
    }

    /// A graph of `launches`, `times` over.
    fn graph(&self, launches: &[Launch<'_>], times: usize) -> Result<Graph<'_>, DeviceError> {
        // What is launched for the first time may have to be loaded, which a capture does not allow.
        launches.iter().try_for_each(|own| self.function(&own.kernel).map(drop))?;
        let graph = self.capture(|| {
            (0..times).try_for_each(|_| launches.iter().try_for_each(|own| self.launch(own)))
        })?;
        let flags = sys::CUgraphInstantiate_flags(0);
        #[allow(unsafe_code)]
        // SAFETY: the graph is alive.
        let made = call("make a graph", || unsafe { result::graph::instantiate(graph, flags) });
        #[allow(unsafe_code)]
        // SAFETY: what was instantiated does not need the graph, which nobody uses any more.
        let _ = call("drop a graph", || unsafe { result::graph::destroy(graph) });
        Ok(Graph { executable: made?, gpu: self })
    }

    /// What `work` launches, as a graph in place of being run.
    #[allow(unsafe_code)]
    fn capture(
        &self,
        work: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<sys::CUgraph, DeviceError> {
        self.context.enter()?;
        let stream = self.context.stream;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive and, this being the only thread that uses it, not captured yet.
        call("begin a graph", || unsafe { result::stream::begin_capture(stream, mode) })?;
        let worked = work();
        // SAFETY: the capture was begun above. It has to end also when `work` failed.
        let ended = call("end a graph", || unsafe { result::stream::end_capture(stream) });
        match (worked, ended) {
            (Ok(()), Ok(graph)) if graph.is_null() => {
                Err(DeviceError::Refused("the driver gave no graph".to_owned()))
            }
            (Ok(()), ended) => ended,
            (Err(error), ended) => {
                if let Ok(graph) = ended {
                    // SAFETY: nobody has seen the graph.
                    let _ = call("drop a graph", || unsafe { result::graph::destroy(graph) });
                }
                Err(error)
            }
        }
    }
}

/// A moment in the stream.
struct Event<'a> {
    event: sys::CUevent,
    context: &'a Context,
}

impl Event<'_> {
    fn new(context: &Context) -> Result<Event<'_>, DeviceError> {
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
        Ok(Event { event: call("make an event", || result::event::create(flags))?, context })
    }

    #[allow(unsafe_code)]
    fn record(&self) -> Result<(), DeviceError> {
        // SAFETY: event and stream are alive, and of the same context.
        call("note a time", || unsafe { result::event::record(self.event, self.context.stream) })
    }
}

impl Drop for Event<'_> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the event is alive, and nobody uses it after this.
        let _ = call("drop an event", || unsafe { result::event::destroy(self.event) });
    }
}

/// A graph that can be run.
struct Graph<'a> {
    executable: sys::CUgraphExec,
    gpu: &'a Gpu,
}

impl Graph<'_> {
    #[allow(unsafe_code)]
    fn run(&self) -> Result<(), DeviceError> {
        self.gpu.context.enter()?;
        // SAFETY: the graph is alive, and so are its kernels, which the GPU holds.
        call("run a graph", || unsafe {
            result::graph::launch(self.executable, self.gpu.context.stream)
        })
    }
}

impl Drop for Graph<'_> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        if self.gpu.context.enter().is_ok() {
            // A graph must not be destroyed while it runs.
            let _ = self.gpu.context.wait();
            // SAFETY: the graph is alive, and nobody uses it after this.
            let _ =
                call("drop a graph", || unsafe { result::graph::exec_destroy(self.executable) });
        }
    }
}

/// A program as two graphs: one run, and many.
struct Graphs<'a> {
    one: Graph<'a>,
    many: Graph<'a>,
    /// Runs in `many`.
    length: u32,
}

impl Program for Graphs<'_> {
    fn run(&self, times: u32) -> Result<(), DeviceError> {
        (0..times / self.length).try_for_each(|_| self.many.run())?;
        (0..times % self.length).try_for_each(|_| self.one.run())
    }
}

/// The arguments of a launch as the driver takes them: a place of 8 bytes each, of which a kernel reads as many as its
/// parameter has, lowest first.
fn places(args: &[Arg]) -> Vec<[u8; 8]> {
    let place = |arg: &Arg| match *arg {
        Arg::Word(word) => word,
        Arg::Half(half) => u64::from(half),
        Arg::Float(float) => u64::from(float.to_bits()),
    };
    args.iter().map(|arg| place(arg).to_le_bytes()).collect()
}

/// Refuses what no GPU takes: too many blocks or threads.
fn check(launch: &Launch<'_>) -> Result<(), DeviceError> {
    let [x, y, z] = launch.grid;
    if x > i32::MAX as u32 || y > 65_535 || z > 65_535 || !(1..=1024).contains(&launch.threads) {
        let Launch { kernel, threads, .. } = launch;
        let refusal =
            format!("`{kernel}` on {x} × {y} × {z} blocks of {threads} threads is beyond any GPU");
        return Err(DeviceError::Refused(refusal));
    }
    Ok(())
}

impl Device for Gpu {
    fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    #[allow(unsafe_code)]
    fn zeros(&self, words: usize) -> Result<Memory, DeviceError> {
        let owner = Arc::<Context>::clone(&self.context);
        if words == 0 {
            return Ok(Memory::new(0, 0, owner));
        }
        let no_room = |free| DeviceError::OutOfMemory { bytes: words.saturating_mul(4), free };
        let bytes = words.checked_mul(4).ok_or_else(|| no_room(None))?;
        self.context.enter()?;
        // SAFETY: what is allocated is filled below before anything reads it.
        let address = call("make room", || unsafe { result::malloc_sync(bytes) }).map_err(
            |error| match error {
                DeviceError::OutOfMemory { .. } => {
                    no_room(self.memory().ok().map(|(free, _)| free))
                }
                error => error,
            },
        )?;
        let memory = Memory::new(address, words, owner);
        // SAFETY: that many bytes were allocated at the address.
        call("clear memory", || unsafe {
            result::memset_d8_async(address, 0, bytes, self.context.stream)
        })?;
        Ok(memory)
    }

    #[allow(unsafe_code)]
    fn write(&self, to: &Memory, words: &[u32]) -> Result<(), DeviceError> {
        assert!(words.len() <= to.len(), "{} words into {}", words.len(), to.len());
        if words.is_empty() {
            return Ok(());
        }
        self.context.enter()?;
        let stream = self.context.stream;
        // SAFETY: the memory has room for the words, which live until the copy is waited for.
        call("copy to the GPU", || unsafe {
            result::memcpy_htod_async(to.address(), words, stream)
        })?;
        self.context.wait()
    }

    #[allow(unsafe_code)]
    fn read(&self, from: &Memory, words: &mut [u32]) -> Result<(), DeviceError> {
        assert!(words.len() <= from.len(), "{} words from {}", words.len(), from.len());
        self.context.enter()?;
        if !words.is_empty() {
            let stream = self.context.stream;
            // SAFETY: the memory has as many words, and there is room for them until the copy is waited for.
            call("copy from the GPU", || unsafe {
                result::memcpy_dtoh_async(words, from.address(), stream)
            })?;
        }
        self.context.wait()
    }

    #[allow(unsafe_code)]
    fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        check(launch)?;
        let function = self.function(&launch.kernel)?;
        if launch.grid.contains(&0) {
            return Ok(());
        }
        self.context.enter()?;
        let mut places = places(&launch.args);
        let mut pointers: Vec<*mut c_void> =
            places.iter_mut().map(|place| ptr::from_mut(place).cast()).collect();
        let [x, y, z] = launch.grid;
        // SAFETY: the launchers call each kernel with the arguments that it takes, each in a place of its own that is at
        // least as long; the driver copies them before it returns. Memories outlive what is launched: freeing waits.
        call("run a kernel", || unsafe {
            let (blocks, threads) = ((x, y, z), (launch.threads, 1, 1));
            result::launch_kernel(function, blocks, threads, 0, self.context.stream, &mut pointers)
        })
    }

    fn program<'a>(
        &'a self,
        launches: Vec<Launch<'static>>,
    ) -> Result<Box<dyn Program + 'a>, DeviceError> {
        let length = (NODES / launches.len().max(1)).max(1);
        let (one, many) = (self.graph(&launches, 1)?, self.graph(&launches, length)?);
        Ok(Box::new(Graphs { one, many, length: length as u32 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_everything_is_an_error_that_says_what_was_looked_for_and_how_to_go_on() {
        match Gpu::open(0) {
            Err(error @ DeviceError::NoDriver { .. }) => {
                let told = error.to_string();
                assert!(told.contains("libcuda.so") && told.matches("\n").count() == 3, "{told}");
                assert!(count().is_err());
            }
            Err(error) => println!("skipped: there is a driver here, which says: {error}"),
            Ok(gpu) => println!("skipped: there is a GPU here, {}", gpu.name()),
        }
    }

    #[test]
    fn arguments_stand_at_the_bottom_of_their_places() {
        let args = [Arg::Word(0x0102_0304_0506_0708), Arg::Half(0x0a0b_0c0d), Arg::Float(-0.0)];
        let want = [
            [8, 7, 6, 5, 4, 3, 2, 1],
            [0x0d, 0x0c, 0x0b, 0x0a, 0, 0, 0, 0],
            [0, 0, 0, 0x80, 0, 0, 0, 0],
        ];
        assert_eq!(places(&args), want);
    }

    #[test]
    fn a_launch_beyond_any_gpu_is_refused_before_the_driver_sees_it() {
        let launch = |grid, threads| Launch { kernel: "k".into(), grid, threads, args: vec![] };
        assert!(check(&launch([2_147_483_647, 65_535, 65_535], 1024)).is_ok());
        for (grid, threads) in [
            ([2_147_483_648, 1, 1], 1),
            ([1, 65_536, 1], 1),
            ([1, 1, 65_536], 1),
            ([1; 3], 0),
            ([1; 3], 1025),
        ] {
            let told = check(&launch(grid, threads)).unwrap_err().to_string();
            assert!(told.contains("`k` on") && told.contains("beyond any GPU"), "{told}");
        }
    }
}
