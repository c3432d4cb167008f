//! Carries what a step writes into its log.
//!
//! A step that held the log itself could read the log's path, which names the caller's folders and a number drawn by
//! chance, and could fill the disk. It is unaware of steps: it knows a pipe, a file, and when to stop.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, PipeReader, PipeWriter, Read, Write},
    thread::{self, JoinHandle},
};

use rustix::event::{PollFd, PollFlags, poll};

/// What a pipe can hold at most unless an administrator allows more.
const PIPE: usize = 1 << 20;

/// How many bytes of a log's beginning are kept, and of its end: what a step says first and last is what people look
/// for, and a step that never stops talking must fill neither the disk nor the memory.
const HEAD: usize = 15 << 20;
const TAIL: usize = 1 << 20;

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

fn carry(mut from: PipeReader, log: File, stopped: &PipeReader) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut ends = Ends::new(log, HEAD, TAIL);
    let mut written = Ok(());
    let mut left = PIPE;
    loop {
        let (readable, stopped) = wait(&from, stopped)?;
        if !readable || left == 0 {
            break;
        }
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return written.and(Err(error)),
        };
        // A full disk must not block the step for ever, so the rest is taken from the pipe all the same.
        if written.is_ok() {
            written = ends.take(&buffer[..count]);
        }
        if stopped {
            left = left.saturating_sub(count);
        }
    }
    written.and_then(|()| ends.finish())
}

/// Both ends of what is written, with a line in between that says what is missing.
struct Ends<W> {
    to: W,
    head_left: usize,
    tail: VecDeque<u8>,
    tail_length: usize,
    lost: u64,
}

impl<W: Write> Ends<W> {
    fn new(to: W, head: usize, tail: usize) -> Self {
        Self { to, head_left: head, tail: VecDeque::new(), tail_length: tail, lost: 0 }
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_left));
        self.head_left -= head.len();
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(self.tail_length);
        self.tail.drain(..surplus);
        self.lost += surplus as u64;
        self.to.write_all(head)
    }

    fn finish(mut self) -> io::Result<()> {
        let tail = self.tail.make_contiguous();
        if self.lost == 0 {
            return self.to.write_all(tail);
        }
        // From the next line on, unless that is far away.
        let line = tail.iter().take(1 << 16).position(|&byte| byte == b'\n');
        let from = line.map_or(0, |at| at + 1);
        let lost = self.lost + from as u64;
        write!(
            self.to,
            "\n[kiln left out {lost} bytes here: a log keeps its first {HEAD_MIB} MiB and its last {TAIL_MIB} MiB]\n"
        )?;
        self.to.write_all(&tail[from..])
    }
}

const HEAD_MIB: usize = HEAD >> 20;
const TAIL_MIB: usize = TAIL >> 20;

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
    fn of_an_endless_log_both_ends_are_kept_and_a_line_says_what_is_not() {
        let line = |number: usize| format!("line {number:010}\n");
        let all: String = (0..1000).map(line).collect();
        for piece in [1, 7, 100, all.len()] {
            let mut kept = Vec::new();
            let mut ends = Ends::new(&mut kept, 160, 100);
            all.as_bytes().chunks(piece).for_each(|piece| ends.take(piece).unwrap());
            assert!(ends.tail.len() <= 100);
            ends.finish().unwrap();
            let text = String::from_utf8(kept).unwrap();
            assert!(text.starts_with(&all[..160]), "{text}");
            let end: String = (994..1000).map(line).collect();
            assert!(text.ends_with(&format!("MiB]\n{end}")), "{text}");
            let lost = all.len() - 160 - end.len();
            assert!(text.contains(&format!("left out {lost} bytes")), "{text}");
        }
        let mut whole = Vec::new();
        let mut ends = Ends::new(&mut whole, 160, all.len() - 160);
        ends.take(all.as_bytes()).unwrap();
        ends.finish().unwrap();
        assert_eq!(whole, all.as_bytes());
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
