//! Devices of the host that one step may use, beyond those that every step has.
//!
//! Only what is listed is there: a step that is lent no device finds none. It is unaware of what a device is.

use std::path::PathBuf;

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
