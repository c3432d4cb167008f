//! A flag that one thread trips and others notice, also while they wait for a process.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::event::{EventfdFlags, eventfd};

/// Tells running steps to stop. Clones are the same flag; once tripped, it stays so.
#[derive(Clone, Debug)]
pub struct Cancel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tripped: AtomicBool,
    /// Becomes readable when the flag is tripped, and is never read, so that every waiter wakes.
    wakeup: OwnedFd,
}

impl Cancel {
    /// A flag that nobody has tripped.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { shared: Arc::new(Shared { tripped: AtomicBool::new(false), wakeup }) })
    }

    /// Stops everything that runs under this flag, now and later.
    pub fn trip(&self) {
        if !self.shared.tripped.swap(true, Ordering::SeqCst) {
            // The counter starts at zero and is written once, so the write can neither block nor fail.
            let _ = rustix::io::write(&self.shared.wakeup, &1u64.to_ne_bytes());
        }
    }

    /// Whether it was tripped.
    pub fn is_tripped(&self) -> bool {
        self.shared.tripped.load(Ordering::SeqCst)
    }

    /// Readable from the moment the flag is tripped.
    pub(super) fn wakeup(&self) -> BorrowedFd<'_> {
        self.shared.wakeup.as_fd()
    }
}
