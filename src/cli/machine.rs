//! What this machine has to give to steps.

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc};

use kiln_engine::{
    gpu::{Places, Pool},
    graph::Graph,
    schedule::Capacity,
};

use super::failure::Failure;

/// A folder that stands for a machine with GPUs, for tests on machines without.
const GPU_FOLDER: &str = "KILN_GPU_FOLDER";

/// What a build may use.
pub struct Machine {
    /// How much there is.
    pub capacity: Capacity,
    /// The GPUs that it counts.
    pub gpus: Arc<Pool>,
}

/// Which GPUs a build may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuChoice {
    /// So many, those with the lowest ids.
    Count(usize),
    /// Those with these ids.
    Ids(Vec<u32>),
}

impl Machine {
    /// All of this machine that the user lets a build use. GPUs are looked for only if a step of `graph` asks for one or
    /// the user speaks of them.
    pub fn look(
        graph: &Graph,
        jobs: Option<NonZeroUsize>,
        gpus: Option<&GpuChoice>,
    ) -> Result<Self, Failure> {
        let needs_gpus = graph.steps.iter().any(|step| step.resources.gpus > 0);
        let gpus = if needs_gpus || gpus.is_some() { choose(gpus)? } else { Pool::default() };
        let cpus = jobs.or_else(|| std::thread::available_parallelism().ok());
        let capacity = Capacity {
            cpus: cpus.map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
            memory: memory(),
            gpus: gpus.len(),
        };
        Ok(Self { capacity, gpus: Arc::new(gpus) })
    }
}

/// All GPUs of this machine.
pub fn gpus() -> Pool {
    let folder = std::env::var_os(GPU_FOLDER).filter(|folder| !folder.is_empty());
    Pool::open(match folder {
        Some(folder) => Places::within(PathBuf::from(folder)),
        None => Places::of_this_machine(),
    })
}

fn choose(choice: Option<&GpuChoice>) -> Result<Pool, Failure> {
    let all = gpus();
    let ids: Vec<String> = all.gpus().iter().map(|gpu| gpu.id.to_string()).collect();
    let help = match ids.as_slice() {
        [] => "this machine has none: there is no /dev/nvidia0".to_owned(),
        ids => format!("its GPUs: {}", ids.join(", ")),
    };
    match choice {
        None => Ok(all),
        Some(&GpuChoice::Count(count)) if count > ids.len() => {
            Err(Failure::usage(format!("there are no {count} GPUs here"), help))
        }
        Some(&GpuChoice::Count(count)) => Ok(all.at_most(count)),
        Some(GpuChoice::Ids(chosen)) => all
            .only(chosen)
            .map_err(|id| Failure::usage(format!("there is no GPU {id} here"), help)),
    }
}

/// What `--gpus` takes: `2`, or ids as in `0,3` and `3,`.
pub fn parse_gpus(text: &str) -> Result<GpuChoice, String> {
    let wrong =
        || "expected a number of GPUs, or ids such as `0,2` (a single one as `2,`)".to_owned();
    if !text.contains(',') {
        return text.trim().parse().map(GpuChoice::Count).map_err(|_| wrong());
    }
    let ids = text.split(',').map(str::trim).filter(|id| !id.is_empty());
    let ids = ids.map(str::parse).collect::<Result<Vec<u32>, _>>().map_err(|_| wrong())?;
    if ids.is_empty() { Err(wrong()) } else { Ok(GpuChoice::Ids(ids)) }
}

/// Bytes of memory of this machine.
fn memory() -> u64 {
    let pages = rustix::system::sysinfo();
    (pages.totalram as u64).saturating_mul(u64::from(pages.mem_unit.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_how_many_and_a_list_is_which() {
        assert_eq!(parse_gpus("2"), Ok(GpuChoice::Count(2)));
        assert_eq!(parse_gpus("0"), Ok(GpuChoice::Count(0)));
        assert_eq!(parse_gpus("0,3"), Ok(GpuChoice::Ids(vec![0, 3])));
        assert_eq!(parse_gpus("3,"), Ok(GpuChoice::Ids(vec![3])));
        for wrong in ["", ",", "a", "-1", "0,x"] {
            assert!(parse_gpus(wrong).is_err(), "{wrong}");
        }
    }
}
