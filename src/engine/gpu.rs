//! GPUs of this machine: which there are, and leases of them by id.
//!
//! A GPU's id is the number of its device node, `/dev/nvidiaN`. A lease is a lock of the kernel's on a file in a folder
//! that all kilns of a machine share, whoever runs them: two of them never use one GPU at once, and a killed one leaves
//! nothing locked. This module is unaware of steps and of how a sandbox shows them a device.

mod driver;
mod lease;
mod machine;

use std::{path::PathBuf, sync::Arc};

pub use self::{
    lease::{Lease, LeaseError, Pool, Sight, none_visible},
    machine::{Gpu, Machine},
};

/// Where a machine's GPUs are described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The folder of device nodes: `/dev`.
    pub nodes: PathBuf,
    /// What the driver says of each GPU, a folder by PCI address: `/proc/driver/nvidia/gpus`.
    pub identities: PathBuf,
    /// The loader's cache: `/etc/ld.so.cache`.
    pub loader_cache: PathBuf,
    /// Folders of the driver's libraries that need not be in the loader's cache.
    pub libraries: Vec<PathBuf>,
    /// The folder of leases.
    pub leases: PathBuf,
}

impl Places {
    /// Those of this machine.
    pub fn of_this_machine() -> Self {
        Self {
            nodes: "/dev".into(),
            identities: "/proc/driver/nvidia/gpus".into(),
            loader_cache: "/etc/ld.so.cache".into(),
            libraries: driver::FOLDERS.map(PathBuf::from).to_vec(),
            leases: lease::folder_of_this_machine(),
        }
    }

    /// All in one folder, for tests on machines without a GPU: nodes `nvidiaN`, `gpus`, `lib` and `leases` in it.
    pub fn within(folder: PathBuf) -> Self {
        Self {
            identities: folder.join("gpus"),
            loader_cache: folder.join("ld.so.cache"),
            libraries: vec![folder.join("lib")],
            leases: folder.join("leases"),
            nodes: folder,
        }
    }
}

impl Pool {
    /// All GPUs of a machine.
    pub fn open(places: Places) -> Self {
        let machine = Arc::new(Machine::look(places));
        let all = machine.gpus.clone();
        Self::of(machine, all)
    }

    /// Only the GPUs with these ids; the first id that is not there, if one is not.
    ///
    /// # Errors
    /// The first id that is not there.
    pub fn only(&self, ids: &[u32]) -> Result<Self, u32> {
        let find = |&id: &u32| self.gpus().iter().find(|gpu| gpu.id == id).cloned().ok_or(id);
        let mut chosen = ids.iter().map(find).collect::<Result<Vec<Gpu>, u32>>()?;
        chosen.sort_unstable_by_key(|gpu| gpu.id);
        chosen.dedup();
        Ok(Self::of(Arc::clone(self.machine()), chosen))
    }

    /// Only so many GPUs, those with the lowest ids.
    pub fn at_most(&self, count: usize) -> Self {
        let chosen = self.gpus().iter().take(count).cloned().collect();
        Self::of(Arc::clone(self.machine()), chosen)
    }
}
