//! Ends a test that hangs on one input, after printing the input.

use std::process::abort;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// However loaded the machine, one small input does not take that long.
const LONGEST: Duration = Duration::from_secs(60);

/// When the check began that runs, and with which input.
type Current = Arc<Mutex<Option<(Instant, Vec<u8>)>>>;

/// A thread that looks at the clock.
pub(crate) struct Watch {
    current: Current,
    /// Dropped with the watch, which ends the thread.
    _end: Sender<()>,
}

impl Watch {
    pub(crate) fn start(name: &'static str) -> Self {
        let current = Current::default();
        let (end, ended) = mpsc::channel();
        let seen = Arc::clone(&current);
        thread::spawn(move || {
            while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                let current = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((since, input)) = &*current
                    && since.elapsed() > LONGEST
                {
                    eprintln!("{name}: no end after {LONGEST:?}: {}", input.escape_ascii());
                    abort();
                }
            }
        });
        Self { current, _end: end }
    }

    pub(crate) fn enter(&self, input: &[u8]) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), input.to_vec()));
    }

    pub(crate) fn leave(&self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
