//! Ends the reading and copying of content, in all of this process: what takes minutes must not outlive a Ctrl-C by more
//! than a moment.
//!
//! It is for the whole process because the signal is. Nothing that is short is ended, so that what was finished can
//! still be written down. Unaware of signals.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on reading and copying content fails in this process, at the latest after the next few megabytes.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Fails if the process was interrupted.
pub(crate) fn check() -> io::Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        // Not the kind `Interrupted`, which means "try again".
        return Err(io::Error::other("interrupted"));
    }
    Ok(())
}
