//! Devices of the host that one step may use, beyond those that every step has.
//!
//! Only what is listed is there: a step that is lent no device finds none. It is unaware of what a device is.

use std::path::PathBuf;

use super::plan::{Entry, Grant};

/// What a step is lent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    /// Device nodes.
    pub nodes: Vec<DeviceNode>,
    /// Files and links of the host that programs need to use them, each at its own place.
    pub libraries: Vec<PathBuf>,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// On the host.
    pub host: PathBuf,
    /// Where the step finds it.
    pub at: PathBuf,
}

impl Devices {
    /// The nodes, as entries of a private root.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.nodes.iter().map(|node| Entry::Node { host: node.host.clone(), at: node.at.clone() })
    }

    /// All of it, for a step without a private root.
    pub(super) fn grants(&self) -> impl Iterator<Item = Grant> + '_ {
        let nodes = self.nodes.iter().map(|node| Grant { path: node.host.clone(), write: true });
        nodes.chain(self.libraries.iter().map(|path| Grant { path: path.clone(), write: false }))
    }
}
