//! Where a kernel runs: which instruction set it is compiled for, and on how many threads.
//!
//! Work is cut between threads by output rows, never inside a chain, so neither choice can reach a
//! result. This module is unaware of what the kernels compute.

use std::sync::Mutex;

use crate::arithmetic::{Arithmetic, Emulated, Fused, WideFused};

/// How many threads a kernel may use; 0 counts as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(pub usize);

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// What every CPU of this architecture has.
    Baseline,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512F.
    Avx512,
}

impl Isa {
    /// All of them, the plainest first.
    pub const ALL: [Isa; 3] = [Isa::Baseline, Isa::Avx2, Isa::Avx512];

    /// Whether this CPU has it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Baseline => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Isa::Avx2.is_available() && is_x86_feature_detected!("avx512f"),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => false,
        }
    }
}

/// A CPU to run kernels on. The same call gives the same bits on every `Cpu`.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    threads: usize,
    /// Available on this CPU: the constructors look.
    isa: Isa,
}

/// One piece of work, compiled once for each instruction set.
pub(crate) trait Kernel {
    /// Carries it out. Implementations are `#[inline(always)]`, so that they are compiled inside the
    /// function that has the instruction set switched on.
    fn run<A: Arithmetic>(self);
}

/// Multiply-adds below which a further thread costs more than it brings (a spawn takes some 20 µs).
const WORK_PER_THREAD: usize = 1 << 20;

impl Cpu {
    /// This CPU, with the widest instruction set that it has.
    pub fn new(threads: Threads) -> Cpu {
        let isa = Isa::ALL.into_iter().rev().find(|isa| isa.is_available());
        Cpu { threads: threads.0.max(1), isa: isa.unwrap_or(Isa::Baseline) }
    }

    /// This CPU, held to one instruction set; `None` if it has not got it.
    pub fn with_isa(threads: Threads, isa: Isa) -> Option<Cpu> {
        isa.is_available().then_some(Cpu { threads: threads.0.max(1), isa })
    }

    /// The instruction set that kernels are run with.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Runs `kernel` on the calling thread.
    #[allow(unsafe_code)]
    pub(crate) fn run<K: Kernel>(&self, kernel: K) {
        match self.isa {
            Isa::Baseline => baseline(kernel),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `Cpu` holds an instruction set only after `is_available` has said that this
            // CPU has all the features that the called function enables.
            Isa::Avx2 => unsafe { avx2(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx512 => unsafe { avx512(kernel) },
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => baseline(kernel),
        }
    }

    /// How many threads a kernel may use.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Carries out every task, on all threads; the answers come in the tasks' order.
    pub(crate) fn each<T: Send, R: Send>(
        &self,
        tasks: Vec<T>,
        body: impl Fn(T) -> R + Sync,
    ) -> Vec<R> {
        let threads = self.threads.min(tasks.len());
        if threads <= 1 {
            return tasks.into_iter().map(body).collect();
        }
        let count = tasks.len();
        let queue = Mutex::new(tasks.into_iter().enumerate());
        let work = || {
            let mut done = Vec::new();
            loop {
                let next = queue.lock().expect("no task panics while the queue is held").next();
                let Some((index, task)) = next else { return done };
                done.push((index, body(task)));
            }
        };
        let mut answers: Vec<Option<R>> = (0..count).map(|_| None).collect();
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut put = |done: Vec<(usize, R)>| {
                done.into_iter().for_each(|(index, answer)| answers[index] = Some(answer));
            };
            put(work());
            for other in others {
                match other.join() {
                    Ok(done) => put(done),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        answers.into_iter().map(|answer| answer.expect("every task was carried out")).collect()
    }

    /// How many rows each thread gets, if `rows` rows cost `work` multiply-adds each. A multiple of
    /// `quantum`.
    pub(crate) fn rows_per_thread(&self, rows: usize, work: usize, quantum: usize) -> usize {
        let worth = rows.saturating_mul(work) / WORK_PER_THREAD + 1;
        let threads = self.threads.min(worth);
        rows.div_ceil(threads).next_multiple_of(quantum).max(1)
    }

    /// Calls `body(first_row, rows)` for consecutive parts of `out`, `part` rows of `width` each, on
    /// a thread of its own for each part but the first.
    pub(crate) fn over_rows<F>(&self, out: &mut [f32], width: usize, part: usize, body: F)
    where
        F: Fn(usize, &mut [f32]) + Sync,
    {
        if width == 0 || out.is_empty() {
            return;
        }
        let mut parts = out.chunks_mut(part * width).enumerate();
        let Some((_, mine)) = parts.next() else { return };
        std::thread::scope(|scope| {
            for (index, rows) in parts {
                let body = &body;
                scope.spawn(move || body(index * part, rows));
            }
            body(0, mine);
        });
    }
}

#[cfg(not(target_arch = "aarch64"))]
fn baseline<K: Kernel>(kernel: K) {
    kernel.run::<Emulated>();
}

/// Every aarch64 CPU has a fused multiply-add.
#[cfg(target_arch = "aarch64")]
fn baseline<K: Kernel>(kernel: K) {
    kernel.run::<Fused>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) {
    kernel.run::<Fused>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f")]
fn avx512<K: Kernel>(kernel: K) {
    kernel.run::<WideFused>();
}
