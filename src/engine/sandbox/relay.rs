//! Carries what a step writes into its log.
//!
//! A step that held the log itself could read the log's path, which names the caller's folders and a number drawn by
//! chance. It is unaware of steps: it knows a pipe, a file, and when to stop.

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter, Read, Write},
    thread::{self, JoinHandle},
};

use rustix::event::{PollFd, PollFlags, poll};

/// What a pipe can hold at most unless an administrator allows more.
const PIPE: usize = 1 << 20;

/// A thread that carries.
#[derive(Debug)]
pub(super) struct Relay {
    thread: JoinHandle<io::Result<()>>,
    /// Closed, it says that nobody writes any more.
    stop: PipeWriter,
}

/// Begins to carry to `log` what is written into the pipe that comes back.
pub(super) fn start(log: File) -> io::Result<(Relay, PipeWriter)> {
    let (from, to) = io::pipe()?;
    let (stopped, stop) = io::pipe()?;
    let thread =
        thread::Builder::new().name("step log".into()).spawn(move || carry(from, log, &stopped))?;
    Ok((Relay { thread, stop }, to))
}

impl Relay {
    /// Carries what is still in the pipe, and ends. A writer that lives on is not waited for.
    ///
    /// # Errors
    /// If some of it could not be written.
    pub(super) fn finish(self) -> io::Result<()> {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the log's thread panicked")))
    }
}

fn carry(mut from: PipeReader, mut log: File, stopped: &PipeReader) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut written = Ok(());
    let mut left = PIPE;
    loop {
        let (readable, stopped) = wait(&from, stopped)?;
        if !readable || left == 0 {
            return written;
        }
        let count = match from.read(&mut buffer) {
            Ok(0) => return written,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return written.and(Err(error)),
        };
        // A full disk must not block the step for ever, so the rest is taken from the pipe all the same.
        if written.is_ok() {
            written = log.write_all(&buffer[..count]);
        }
        if stopped {
            left = left.saturating_sub(count);
        }
    }
}

/// Waits for something to read or for the end; whether there is something to read, and whether the end has come.
fn wait(from: &PipeReader, stopped: &PipeReader) -> io::Result<(bool, bool)> {
    let mut watched = [PollFd::new(from, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
    loop {
        match poll(&mut watched, None) {
            Ok(_) => {
                return Ok((!watched[0].revents().is_empty(), !watched[1].revents().is_empty()));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_was_written_arrives_and_a_writer_that_lives_on_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (relay, mut to) = start(File::create(&path).unwrap()).unwrap();
        let text = "0123456789\n".repeat(50_000);
        to.write_all(text.as_bytes()).unwrap();
        relay.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert_eq!(to.write_all(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_log_that_takes_nothing_blocks_no_writer_and_is_told_of() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (relay, mut to) = start(full).unwrap();
        to.write_all(&vec![b'x'; 1 << 20]).unwrap();
        drop(to);
        assert_eq!(relay.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
