//! The registry: deployments and their generations.
//!
//! A deployment is a named place that releases go to. Each state of it is a *generation*, numbered from 1; which
//! one runs is a pointer, and a rollback moves the pointer back. Files under `deployments/` in the store's home
//! are the truth (see [`Deployments`]); each generation is also a root of the store, so that the collector
//! keeps what runs and what one could go back to. What a generation is made of is told by a
//! [`DeploymentManifest`], an object of the store like any other.
//!
//! The crate is unaware of recipes, of gateways, of the clock, of the environment and of the terminal.

mod deployments;
mod disk;
mod document;
#[cfg(test)]
mod fuzz;
mod manifest;
mod name;
mod record;

pub use deployments::{
    Audit, Deployed, Deployments, NewGeneration, RegistryError, Switched, Unreadable, Unrooted,
};
pub use disk::DiskError;
pub use document::DocumentError;
pub use manifest::{DeploymentManifest, Lineage, LineageStep, LineageVerdict};
pub use name::NameError;
pub use record::{Generation, Switch, SwitchKind};
