//! Leases: who uses which GPU, told between processes by locks on files.
//!
//! To take several locks at once without two kilns waiting for each other, a kiln takes its *turn* first. Whoever does
//! not get all that it needs keeps the turn and no GPU until enough are free, so that one that needs many is not passed
//! over for ever by those that need few.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Gpu, Machine};
use crate::sandbox::{DeviceNode, Devices};

/// Folders in which every user of a machine may make files, the first first.
const SHARED: [&str; 3] = ["/run/lock", "/dev/shm", "/tmp"];

/// The folder of leases, the same for every user of this machine.
pub(super) fn folder_of_this_machine() -> PathBuf {
    let open_to_all = |folder: &&&str| {
        let mode = fs::metadata(folder).map(|meta| meta.permissions().mode());
        mode.is_ok_and(|mode| mode & 0o1777 == 0o1777)
    };
    Path::new(SHARED.iter().find(open_to_all).unwrap_or(&"/tmp")).join("kiln-gpus")
}

/// Why leases cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} `{}`, by which kilns tell each other which GPUs are in use", path.display())]
pub struct LeaseError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The GPUs that a build may use.
#[derive(Debug)]
pub struct Pool {
    machine: Arc<Machine>,
    gpus: Vec<Gpu>,
    /// The lock on `turn`, while this process waits for GPUs that are in use.
    turn: Mutex<Option<File>>,
}

impl Pool {
    pub(super) fn of(machine: Arc<Machine>, gpus: Vec<Gpu>) -> Self {
        Self { machine, gpus, turn: Mutex::new(None) }
    }

    pub(super) fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// They, by id.
    pub fn gpus(&self) -> &[Gpu] {
        &self.gpus
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        u32::try_from(self.gpus.len()).unwrap_or(u32::MAX)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.gpus.is_empty()
    }

    /// How many files of the driver's libraries there are.
    pub fn driver_files(&self) -> usize {
        self.machine.libraries().files.len()
    }

    /// Leases `count` GPUs, or nothing if so many are not free now. Who asks again comes next; who does not has to
    /// [give way](Self::give_way).
    ///
    /// # Errors
    /// If the folder of leases cannot be used.
    pub fn lease(&self, count: u32) -> Result<Option<Lease>, LeaseError> {
        let folder = &self.machine.places.leases;
        make_shared(folder)?;
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if turn.is_none() {
            *turn = locked(&folder.join("turn"))?;
        }
        if turn.is_none() {
            return Ok(None);
        }
        let mut lease =
            Lease { machine: Arc::clone(&self.machine), gpus: Vec::new(), locks: Vec::new() };
        for gpu in &self.gpus {
            if lease.gpus.len() == count as usize {
                break;
            }
            if let Some(lock) = locked(&folder.join(format!("gpu-{}", gpu.id)))? {
                lease.gpus.push(gpu.clone());
                lease.locks.push(lock);
            }
        }
        if lease.gpus.len() < count as usize {
            return Ok(None);
        }
        *turn = None;
        Ok(Some(lease))
    }

    /// Waits no more: other kilns may have what is free.
    pub fn give_way(&self) {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Default for Pool {
    /// No GPU.
    fn default() -> Self {
        Self::of(Arc::default(), Vec::new())
    }
}

/// GPUs that nobody else uses, for as long as this lives.
#[derive(Debug)]
pub struct Lease {
    machine: Arc<Machine>,
    gpus: Vec<Gpu>,
    #[allow(dead_code, reason = "the locks end when they are dropped")]
    locks: Vec<File>,
}

/// Whether a step sees only the nodes that it was lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Only those.
    Leased,
    /// All of the machine.
    All,
}

impl Lease {
    /// Which.
    pub fn gpus(&self) -> &[Gpu] {
        &self.gpus
    }

    /// The nodes and libraries that a step needs to use them.
    pub fn devices(&self) -> Devices {
        let dev = Path::new("/dev");
        let own = self.gpus.iter().map(|gpu| DeviceNode {
            host: gpu.node.clone(),
            at: dev.join(format!("nvidia{}", gpu.id)),
        });
        let control = self.machine.control().into_iter();
        let control = control.map(|(host, name)| DeviceNode { host, at: dev.join(name) });
        Devices {
            nodes: own.chain(control).collect(),
            libraries: self.machine.libraries().files.clone(),
        }
    }

    /// The variables that tell a program which GPUs are its own, and how to be reproducible.
    ///
    /// CUDA counts the GPUs that it can open. A step that sees only its own is told the first so many, whichever they
    /// are on this machine. One that sees all is told their names, or their places in the order of addresses, since
    /// that is how CUDA is told to count.
    pub fn variables(&self, sight: Sight) -> Vec<(&'static str, String)> {
        let names: Vec<String> = match sight {
            Sight::Leased => (0..self.gpus.len()).map(|place| place.to_string()).collect(),
            Sight::All => {
                let uuids = self.gpus.iter().map(|gpu| gpu.identity.as_ref()?.uuid.clone());
                let places = self.gpus.iter().map(|gpu| match &gpu.identity {
                    Some(identity) => identity.place.to_string(),
                    None => gpu.id.to_string(),
                });
                uuids.collect::<Option<Vec<String>>>().unwrap_or_else(|| places.collect())
            }
        };
        let names = names.join(",");
        let mut all = vec![
            ("CUBLAS_WORKSPACE_CONFIG", ":4096:8".to_owned()),
            ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()),
            ("CUDA_VISIBLE_DEVICES", names.clone()),
            ("NVIDIA_VISIBLE_DEVICES", names),
        ];
        let folders = &self.machine.libraries().unknown_to_loader;
        if !folders.is_empty() {
            let folders: Vec<String> =
                folders.iter().map(|folder| folder.display().to_string()).collect();
            all.push(("LD_LIBRARY_PATH", folders.join(":")));
        }
        all
    }
}

/// The variables that keep a program from GPUs of which it was lent none, where it could see them.
pub fn none_visible() -> [(&'static str, String); 2] {
    [("CUDA_VISIBLE_DEVICES", String::new()), ("NVIDIA_VISIBLE_DEVICES", "void".to_owned())]
}

fn make_shared(folder: &Path) -> Result<(), LeaseError> {
    let fail = |action| {
        let path = folder.to_owned();
        move |source| LeaseError { action, path, source }
    };
    match fs::symlink_metadata(folder) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => return Err(fail("use")(io::ErrorKind::NotADirectory.into())),
        Err(_) => {}
    }
    match DirBuilder::new().mode(0o1777).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(fail("make")(error)),
    }
    // The process's mask would otherwise keep other users out.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o1777)).map_err(fail("open to all"))
}

/// A lock on the file at `path`; nothing if somebody else has it.
fn locked(path: &Path) -> Result<Option<File>, LeaseError> {
    let fail = |action| {
        let path = path.to_owned();
        move |source| LeaseError { action, path, source }
    };
    let file = opened(path).map_err(fail("open"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(fail("lock")(error)),
    }
}

/// Reading is enough to lock. A file of somebody else's may not be opened for creation in a folder that all can write to,
/// and nobody is to be led elsewhere by a link.
fn opened(path: &Path) -> io::Result<File> {
    let no_link = libc::O_NOFOLLOW;
    loop {
        match File::options().read(true).custom_flags(no_link).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let made = File::options()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .custom_flags(no_link)
            .open(path);
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::gpu::Places;

    struct Fixture(tempfile::TempDir);

    impl Fixture {
        fn new(gpus: usize) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for gpu in 0..gpus {
                symlink("/dev/null", folder.path().join(format!("nvidia{gpu}"))).unwrap();
            }
            Self(folder)
        }

        /// What another process would have.
        fn pool(&self) -> Pool {
            Pool::open(Places::within(self.0.path().to_owned()))
        }
    }

    fn ids(lease: &Lease) -> Vec<u32> {
        lease.gpus().iter().map(|gpu| gpu.id).collect()
    }

    #[test]
    fn no_gpu_is_leased_twice_and_what_is_given_back_can_be_leased_again() {
        let fixture = Fixture::new(3);
        let (one, other) = (fixture.pool(), fixture.pool());
        let first = one.lease(2).unwrap().unwrap();
        assert_eq!(ids(&first), [0, 1]);
        let second = other.lease(1).unwrap().unwrap();
        assert_eq!(ids(&second), [2]);
        assert!(other.lease(1).unwrap().is_none() && one.lease(1).unwrap().is_none());
        drop(first);
        assert_eq!(ids(&other.lease(1).unwrap().unwrap()), [0]);
    }

    #[test]
    fn who_waits_for_many_is_not_passed_over_by_who_needs_few() {
        let fixture = Fixture::new(2);
        let (many, few) = (fixture.pool(), fixture.pool());
        let held = few.lease(1).unwrap().unwrap();
        assert!(many.lease(2).unwrap().is_none());
        assert!(few.lease(1).unwrap().is_none(), "one is free, but it is not its turn");
        drop(held);
        let all = many.lease(2).unwrap().unwrap();
        assert_eq!(ids(&all), [0, 1]);
        drop(all);
        assert!(few.lease(1).unwrap().is_some());
    }

    #[test]
    fn who_waits_no_more_lets_others_by() {
        let fixture = Fixture::new(2);
        let (many, few) = (fixture.pool(), fixture.pool());
        let _held = few.lease(1).unwrap().unwrap();
        assert!(many.lease(2).unwrap().is_none());
        many.give_way();
        assert!(few.lease(1).unwrap().is_some());
    }

    #[test]
    fn a_pool_holds_what_was_chosen() {
        let fixture = Fixture::new(4);
        let pool = fixture.pool();
        let chosen = pool.only(&[3, 1, 3]).unwrap();
        assert_eq!(chosen.len(), 2);
        assert_eq!(ids(&chosen.lease(2).unwrap().unwrap()), [1, 3]);
        assert_eq!(pool.only(&[1, 7]).unwrap_err(), 7);
        assert_eq!((pool.at_most(2).len(), pool.at_most(9).len()), (2, 4));
        assert!(pool.at_most(0).is_empty());
    }

    #[test]
    fn threads_that_lease_at_once_never_share_a_gpu() {
        let fixture = Fixture::new(3);
        let used: Vec<std::sync::atomic::AtomicU32> = (0..3).map(|_| 0.into()).collect();
        std::thread::scope(|scope| {
            for needs in [1, 2, 3, 1, 2] {
                let (fixture, used) = (&fixture, &used);
                scope.spawn(move || {
                    let pool = fixture.pool();
                    for _ in 0..20 {
                        let lease = loop {
                            match pool.lease(needs).unwrap() {
                                Some(lease) => break lease,
                                None => std::thread::yield_now(),
                            }
                        };
                        for id in ids(&lease) {
                            let before =
                                used[id as usize].fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                            assert_eq!(before, 0, "GPU {id} is in use");
                        }
                        for id in ids(&lease) {
                            used[id as usize].fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn a_link_in_place_of_a_lease_is_not_followed() {
        let fixture = Fixture::new(1);
        let leases = fixture.0.path().join("leases");
        fs::create_dir(&leases).unwrap();
        let elsewhere = fixture.0.path().join("elsewhere");
        symlink(&elsewhere, leases.join("turn")).unwrap();
        let error = fixture.pool().lease(1).unwrap_err();
        assert!(error.to_string().contains("turn"), "{error}");
        assert!(!elsewhere.exists());
    }

    #[test]
    fn a_step_that_sees_only_its_own_counts_from_zero_and_one_that_sees_all_is_told_which() {
        let fixture = Fixture::new(3);
        let gpus = fixture.0.path().join("gpus");
        for (address, minor) in [("0000:01:00.0", 2), ("0000:02:00.0", 1), ("0000:03:00.0", 0)] {
            fs::create_dir_all(gpus.join(address)).unwrap();
            let text = format!("GPU UUID: \t GPU-{minor}\nDevice Minor: \t {minor}\n");
            fs::write(gpus.join(address).join("information"), text).unwrap();
        }
        let visible = |sight| {
            let pool = fixture.pool().only(&[1, 2]).unwrap();
            let lease = pool.lease(2).unwrap().unwrap();
            let variables = lease.variables(sight).into_iter();
            variables.collect::<std::collections::BTreeMap<_, _>>()["CUDA_VISIBLE_DEVICES"].clone()
        };
        assert_eq!(visible(Sight::Leased), "0,1");
        assert_eq!(visible(Sight::All), "GPU-1,GPU-2");
        let hidden = gpus.join("0000:02:00.0/information");
        fs::write(hidden, "GPU UUID: \t GPU-????\nDevice Minor: \t 1\n").unwrap();
        assert_eq!(visible(Sight::All), "1,0", "in the order of their addresses, from 0");
    }
}
