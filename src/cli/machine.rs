//! What this machine has to give to steps.

use std::num::NonZeroUsize;

use kiln_engine::schedule::Capacity;

/// All of it, or `jobs` processors.
pub fn capacity(jobs: Option<NonZeroUsize>) -> Capacity {
    let cpus = jobs.or_else(|| std::thread::available_parallelism().ok());
    Capacity {
        cpus: cpus.map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        memory: memory(),
        gpus: 0,
    }
}

/// Bytes of memory of this machine.
fn memory() -> u64 {
    let pages = rustix::system::sysinfo();
    (pages.totalram as u64).saturating_mul(u64::from(pages.mem_unit.max(1)))
}
