//! Copies of this executable that wait for plans, and the pool in which they wait.
//!
//! To start one takes longer than most of what it then does, so that one that can be used again is. It is unaware of
//! what is in a plan.

use std::{
    collections::HashSet,
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    device::Devices,
    feature::Feature,
    init::INIT_WORD,
    plan::{Base, Entry},
    spec::{Spec, View},
};

/// A starter that waits.
#[derive(Debug)]
pub(super) struct Starter {
    pub(super) child: Child,
    /// Takes plans, and means "go on" as long as it is open; brings reports, and ends when nobody is left to report.
    pub(super) line: UnixStream,
    kind: Kind,
    /// The bases that it has heard of.
    known: HashSet<u64>,
}

/// What all steps of a starter have in common, since it makes their surroundings once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) features: Vec<Feature>,
    pub(super) network: bool,
}

/// Starts one.
pub(super) fn start(kind: Kind) -> io::Result<Starter> {
    let (line, theirs) = UnixStream::pair()?;
    // The link leads to this very executable even if another has taken its path since.
    let child = Command::new("/proc/self/exe")
        .arg0("kiln")
        .arg(INIT_WORD)
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Starter { child, line, kind, known: HashSet::new() })
}

impl Starter {
    /// `base`, with its entries if this starter has not heard of them.
    pub(super) fn introduce(&mut self, base: &Base) -> Base {
        let entries = if self.known.insert(base.id) { base.entries.clone() } else { None };
        Base { id: base.id, entries }
    }

    /// Ends it and all that it has started. It goes by itself when its line is gone, and is not waited for longer than that
    /// takes.
    pub(super) fn end(self) -> io::Result<std::process::ExitStatus> {
        let Self { mut child, line, .. } = self;
        drop(line);
        child.wait()
    }
}

/// Starters that wait for their next step, and the bases that they may have heard of. Dropped, it ends them.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<Vec<Starter>>,
    bases: Mutex<Vec<KnownBase>>,
}

#[derive(Debug)]
struct KnownBase {
    view: View,
    devices: Devices,
    network: bool,
    base: Base,
}

impl KnownBase {
    fn serves(&self, spec: &Spec) -> bool {
        self.network == spec.network && self.devices == spec.devices && self.view == spec.view
    }
}

impl Pool {
    /// One that waits, or `None`.
    pub(super) fn take(&self, kind: &Kind) -> Option<Starter> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle.iter().position(|starter| starter.kind == *kind)?;
        Some(idle.swap_remove(found))
    }

    /// Keeps one that says that it waits.
    pub(super) fn put(&self, starter: Starter) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(starter);
    }

    /// The base of `spec`'s root, which `entries` lists if it has not been asked for before: what it holds of the host is looked
    /// up once.
    pub(super) fn base(&self, spec: &Spec, entries: impl FnOnce() -> Vec<Entry>) -> Base {
        let mut bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = bases.iter().find(|one| one.serves(spec)) {
            return known.base.clone();
        }
        let base = Base { id: bases.len() as u64, entries: Some(Arc::new(entries())) };
        bases.push(KnownBase {
            view: spec.view.clone(),
            devices: spec.devices.clone(),
            network: spec.network,
            base: base.clone(),
        });
        base
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        let (children, lines): (Vec<Child>, Vec<UnixStream>) =
            idle.into_iter().map(|starter| (starter.child, starter.line)).unzip();
        // All at once, so that they end side by side.
        drop(lines);
        for mut child in children {
            // One that cannot be waited for is gone.
            let _ = child.wait();
        }
    }
}
