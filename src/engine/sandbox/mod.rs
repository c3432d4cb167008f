//! Runs one step, kept apart from the machine.
//!
//! It is for everything between "this program, these inputs" and "it ended so": namespaces, a private root, the
//! filter of system calls, limits, and the certainty that nothing of the step is left when [`run`] returns. It is
//! unaware of recipes, of keys and of the store: a step is a program, some folders and some limits.
//!
//! The way of a step: the calling process starts a copy of its own executable (the *starter*, a process with one
//! thread, in which the calls that make namespaces are sound), which makes the namespaces and forks the *init*, the
//! first process inside. Init builds the private root, forks the step, and watches it. A pipe from the caller
//! reaches both; when it closes, for whatever reason, they end, and the kernel ends all that is inside with them.

mod cancel;
mod cgroup;
mod epoch;
mod feature;
mod filter;
mod init;
mod kernel;
mod landlock;
mod layout;
mod namespaces;
mod plan;
mod probe;
mod relay;
mod root;
mod run;
mod spec;
mod starter;
mod supervise;
mod tree;
mod trial;
mod view;
mod wire;

pub use cancel::Cancel;
pub use feature::{Capabilities, Capability, Feature, State};
pub use init::{INIT_WORD, init_main};
pub use kiln_cache::Isolation;
pub use layout::Layout;
pub use probe::probe;
pub use run::run;
pub use spec::{Bind, Exit, Limits, Ran, SandboxError, Spec, View, Wanted};
