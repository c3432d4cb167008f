//! What a step printed: kept as an object, and the last lines of it for a message.
//!
//! A step that is tried several times has one log, in which each attempt stands under a line of its own.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use kiln_cache::{FsError, Ingest, Object, Scratch, Store};

/// How many lines of a failed step's log are shown.
const TAIL_LINES: usize = 20;

/// How much of a log's end is looked at for them, in bytes.
const TAIL_BYTES: u64 = 16 << 10;

/// The logs of the attempts at a step, put together.
pub(super) struct Logs<'a> {
    store: &'a Store,
    /// There once an attempt has failed and another one follows.
    together: Option<Together>,
}

struct Together {
    /// Holds the folder until the log is taken out of it.
    _scratch: Scratch,
    path: PathBuf,
}

impl<'a> Logs<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, together: None }
    }

    /// Puts the log of an attempt aside that another one follows.
    pub(super) fn put_aside(&mut self, log: &Path, heading: &str) -> Result<(), FsError> {
        if self.together.is_none() {
            let scratch = self.store.scratch_dir()?;
            let path = scratch.path().join("log");
            self.together = Some(Together { _scratch: scratch, path });
        }
        self.append(log, heading);
        Ok(())
    }

    /// Keeps all that was printed; `log` is the last attempt's, `heading` what stands above it if it is not the first.
    pub(super) fn keep(&self, log: &Path, heading: &str) -> Option<Object> {
        self.append(log, heading);
        let all = self.together.as_ref().map_or(log, |together| &together.path);
        // A log that cannot be kept is no reason to throw the result away.
        self.store.ingest(all, Ingest::Move).ok().map(|kept| kept.object)
    }

    fn append(&self, log: &Path, heading: &str) {
        let Some(together) = &self.together else { return };
        // As above: what is printed matters less than what is made.
        drop(append(&together.path, log, heading));
    }
}

fn append(to: &Path, log: &Path, heading: &str) -> io::Result<()> {
    let mut to = File::options().create(true).append(true).open(to)?;
    writeln!(to, "--- kiln: {heading} ---")?;
    let mut from = match File::open(log) {
        // It did not come to printing anything.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let copied = io::copy(&mut from, &mut to)?;
    if copied > 0 {
        let mut last = [0];
        from.seek(io::SeekFrom::End(-1))?;
        from.read_exact(&mut last)?;
        if last != *b"\n" {
            to.write_all(b"\n")?;
        }
    }
    Ok(())
}

/// What a program that still runs printed last: the end of its log that is not blank, up to a line's end or to where a
/// progress bar goes back to the line's beginning. `None` while there is nothing.
pub fn latest(log: &Path) -> Option<String> {
    let lines = tail(log).ok()?;
    let mut parts = lines.iter().rev().flat_map(|line| line.rsplit('\r'));
    parts.find(|part| !part.trim().is_empty()).map(|part| part.trim_end().to_owned())
}

/// The last lines of a log; bytes that are no UTF-8 are replaced.
pub(super) fn tail(log: &Path) -> io::Result<Vec<String>> {
    let mut file = fs::File::open(log)?;
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(TAIL_BYTES);
    file.seek(io::SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if skipped > 0 && lines.len() > 1 {
        lines.remove(0);
    }
    let surplus = lines.len().saturating_sub(TAIL_LINES);
    Ok(lines.split_off(surplus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_is_the_last_line_or_the_last_state_of_a_progress_bar() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let after = |text: &str| {
            fs::write(&log, text).unwrap();
            latest(&log)
        };
        assert_eq!(latest(&log), None);
        assert_eq!(after(""), None);
        assert_eq!(after("\n \n"), None);
        assert_eq!(after("epoch 1\nepoch 2\n\n").as_deref(), Some("epoch 2"));
        assert_eq!(after("epoch 1\n 10 %\r 20 %\r").as_deref(), Some(" 20 %"));
        let long = format!("{}\nepoch 9", "x".repeat(1 << 20));
        assert_eq!(after(&long).as_deref(), Some("epoch 9"));
    }
}
