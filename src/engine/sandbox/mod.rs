//! Runs one step, kept apart from the machine.
//!
//! It is for everything between "this program, these inputs" and "it ended so": namespaces, a private root, the
//! filter of system calls, limits, and the certainty that nothing of the step is left when [`run`] returns. It is
//! unaware of recipes, of keys and of the store: a step is a program, some folders and some limits.
//!
//! The way of a step: the calling process starts a copy of its own executable (the *starter*, a process with one
//! thread, in which the calls that make namespaces are sound), which makes what its steps share: user, network and host
//! name, and a root to copy from. For each step it forks an *init*, the first process of new process ids and shared memory.
//! Init copies the root, adds what is the step's own, forks the step, and watches it. A socket from the caller reaches
//! both; when it closes, for whatever reason, they end, and the kernel ends all that is inside with them. A starter whose
//! step is gone waits for the next one.

mod cancel;
mod census;
mod cgroup;
mod device;
mod epoch;
mod feature;
mod filter;
#[cfg(test)]
mod fuzz;
mod ground;
mod init;
mod kernel;
mod landlock;
mod layout;
mod line;
mod mounts;
mod namespaces;
mod network;
mod plan;
mod probe;
mod relay;
mod root;
mod run;
mod spec;
mod starter;
mod step;
mod supervise;
mod tree;
mod trial;
mod view;
mod wire;

pub use cancel::Cancel;
pub use device::{DeviceNode, Devices};
pub use feature::{Capabilities, Capability, Feature, State};
pub use filter::{adapt_to_container, without_calls};
pub use init::{INIT_WORD, init_main};
pub use kiln_cache::Isolation;
pub use layout::Layout;
pub use probe::probe;
pub use run::run;
pub use spec::{Bind, Exit, Limits, Ran, SandboxError, Spec, View, Wanted};
pub use starter::Pool;
