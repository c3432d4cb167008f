//! Carries what a step writes into its log.
//!
//! A step that held the log itself could read the log's path, which names the caller's folders and a number drawn by
//! chance, and could fill the disk. It is unaware of steps: it knows a pipe and a file.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, PipeReader, Read, Write},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What a pipe can hold at most unless an administrator allows more.
const PIPE: usize = 1 << 20;

/// How much is carried at a time.
const LOAD: usize = 1 << 16;

/// How many bytes of a log's beginning are kept, and of its end: what a step says first and last is what people look
/// for, and a step that never stops talking must fill neither the disk nor the memory.
const HEAD: usize = 15 << 20;
const TAIL: usize = 1 << 20;

/// A pipe and the log that takes what comes through it.
#[derive(Debug)]
pub(super) struct Relay {
    from: PipeReader,
    ends: Ends<File>,
    buffer: Vec<u8>,
    written: io::Result<()>,
    ended: bool,
}

impl Relay {
    pub(super) fn new(from: PipeReader, log: File) -> Self {
        Self {
            from,
            ends: Ends::new(log, HEAD, TAIL),
            buffer: Vec::new(),
            written: Ok(()),
            ended: false,
        }
    }

    /// The pipe, to be waited for; `None` when nothing more can come.
    pub(super) fn source(&self) -> Option<&PipeReader> {
        (!self.ended).then_some(&self.from)
    }

    /// Carries what is there, once it is known that something is; how much it was.
    pub(super) fn carry(&mut self) -> usize {
        self.buffer.resize(LOAD, 0);
        match self.from.read(&mut self.buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => {
                // A full disk must not block the step for ever, so the rest is taken from the pipe all the same.
                if self.written.is_ok() {
                    self.written = self.ends.take(&self.buffer[..count]);
                }
                return count;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                self.ended = true;
                if self.written.is_ok() {
                    self.written = Err(error);
                }
            }
        }
        0
    }

    /// Carries what is still in the pipe when the step is gone, and ends. A writer that lives on is not waited for.
    ///
    /// # Errors
    /// If some of it could not be written.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let mut left = PIPE;
        while !self.ended && left > 0 && self.has_something() {
            left = left.saturating_sub(self.carry());
        }
        self.written.and_then(|()| self.ends.finish())
    }

    fn has_something(&self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            let mut watched = [PollFd::new(&self.from, PollFlags::IN)];
            match poll(&mut watched, Some(&at_once)) {
                Ok(_) => return !watched[0].revents().is_empty(),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

/// Both ends of what is written, with a line in between that says what is missing.
#[derive(Debug)]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn start(log: File) -> (Relay, io::PipeWriter) {
        let (from, to) = io::pipe().unwrap();
        (Relay::new(from, log), to)
    }

    #[test]
    fn all_that_was_written_arrives_and_a_writer_that_lives_on_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (mut relay, mut to) = start(File::create(&path).unwrap());
        let text = "0123456789\n".repeat(5_000);
        to.write_all(text.as_bytes()).unwrap();
        assert!(relay.source().is_some());
        relay.carry();
        to.write_all(text.as_bytes()).unwrap();
        relay.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text.repeat(2));
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
        let (mut relay, mut to) = start(full);
        for _ in 0..32 {
            to.write_all(&[b'x'; 1 << 15]).unwrap();
            relay.carry();
        }
        drop(to);
        assert_eq!(relay.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
