//! What GPUs there are, and what the driver calls them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::{Places, driver};

/// Nodes that every use of a GPU needs, where they are.
const CONTROL: [&str; 4] = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"];

/// The folder of nodes by which parts of a GPU are reached.
const CAPABILITIES: &str = "nvidia-caps";

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// The number of its node: `/dev/nvidiaN`.
    pub id: u32,
    /// Its node on the host.
    pub node: PathBuf,
    /// What the driver says of it, where it says anything.
    pub identity: Option<Identity>,
}

/// What the driver says of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its place among all GPUs of the machine in the order of their addresses. The order of ids can be another one.
    pub place: usize,
    /// `GPU-` and 32 digits.
    pub uuid: Option<String>,
}

/// A machine's GPUs.
#[derive(Debug, Default)]
pub struct Machine {
    pub(super) places: Places,
    /// By id.
    pub(super) gpus: Vec<Gpu>,
    libraries: OnceLock<driver::Libraries>,
}

impl Machine {
    /// Looks what there is.
    pub(super) fn look(places: Places) -> Self {
        let mut identities = identities(&places.identities);
        let mut gpus: Vec<Gpu> = names(&places.nodes)
            .filter_map(|name| {
                let id = number(name.strip_prefix("nvidia")?)?;
                let node = places.nodes.join(&name);
                is_device(&node).then(|| Gpu { identity: identities.remove(&id), id, node })
            })
            .collect();
        gpus.sort_unstable_by_key(|gpu| gpu.id);
        Self { places, gpus, libraries: OnceLock::new() }
    }

    /// The nodes beside the GPUs' own, as (on the host, below `/dev`).
    pub(super) fn control(&self) -> Vec<(PathBuf, PathBuf)> {
        let folder = &self.places.nodes;
        let inner = folder.join(CAPABILITIES);
        let caps = names(&inner).map(|name| Path::new(CAPABILITIES).join(name));
        let mut caps: Vec<PathBuf> = caps.collect();
        caps.sort_unstable();
        let all = CONTROL.iter().map(PathBuf::from).chain(caps);
        all.map(|name| (folder.join(&name), name)).filter(|(node, _)| is_device(node)).collect()
    }

    /// The driver's libraries, looked for once.
    pub(super) fn libraries(&self) -> &driver::Libraries {
        self.libraries.get_or_init(|| {
            driver::Libraries::find(&self.places.loader_cache, &self.places.libraries)
        })
    }
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Only digits, and as they are written: `01` names nothing.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn is_device(node: &Path) -> bool {
    fs::metadata(node).is_ok_and(|metadata| metadata.file_type().is_char_device())
}

/// What `/proc/driver/nvidia/gpus` says, by the number of the device node.
fn identities(folder: &Path) -> BTreeMap<u32, Identity> {
    let mut addresses: Vec<String> = names(folder).collect();
    addresses.sort_unstable();
    let mut found = BTreeMap::new();
    for (place, address) in addresses.iter().enumerate() {
        let Ok(text) = fs::read_to_string(folder.join(address).join("information")) else {
            continue;
        };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        let Some(id) = field("Device Minor").and_then(|minor| minor.parse().ok()) else { continue };
        // An unprivileged process is told question marks.
        let uuid = field("GPU UUID").filter(|uuid| uuid.starts_with("GPU-") && !uuid.contains('?'));
        found.insert(id, Identity { place, uuid });
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nodes_are_gpus_by_their_number_and_the_driver_says_in_which_order_it_counts_them() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["nvidia10", "nvidia0", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia01"] {
            symlink("/dev/null", folder.path().join(name)).unwrap();
        }
        fs::create_dir(folder.path().join("nvidia-caps")).unwrap();
        symlink("/dev/null", folder.path().join("nvidia-caps/nvidia-cap1")).unwrap();
        fs::write(folder.path().join("nvidia3"), "no device").unwrap();
        for (address, minor, uuid) in
            [("0000:01:00.0", 2, "GPU-aa"), ("0000:c1:00.0", 0, "GPU-????????")]
        {
            let gpu = folder.path().join("gpus").join(address);
            fs::create_dir_all(&gpu).unwrap();
            let text = format!(
                "Model: \t\t A\nIRQ:   \t\t 1\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
            );
            fs::write(gpu.join("information"), text).unwrap();
        }
        let machine = Machine::look(Places::within(folder.path().to_owned()));
        let of = |gpu: usize| {
            let gpu = &machine.gpus[gpu];
            (gpu.id, gpu.identity.as_ref().map(|own| (own.place, own.uuid.as_deref())))
        };
        assert_eq!(machine.gpus.len(), 3);
        assert_eq!(
            [of(0), of(1), of(2)],
            [(0, Some((1, None))), (2, Some((0, Some("GPU-aa")))), (10, None)]
        );
        let control = machine.control();
        let control: Vec<&Path> = control.iter().map(|(_, name)| name.as_path()).collect();
        let all = ["nvidiactl", "nvidia-uvm", "nvidia-caps/nvidia-cap1"];
        assert_eq!(control, all.map(Path::new));
    }

    #[test]
    fn a_machine_without_nodes_has_no_gpu() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::look(Places::within(folder.path().join("absent")));
        assert!(machine.gpus.is_empty() && machine.control().is_empty());
    }
}
