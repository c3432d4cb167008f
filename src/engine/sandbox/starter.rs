//! Starts a copy of this executable that waits for a plan.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use super::init::INIT_WORD;

/// A starter that waits.
#[derive(Debug)]
pub(super) struct Starter {
    pub(super) child: Child,
    /// Takes the plan, and then means "go on" as long as it is open.
    pub(super) line: io::PipeWriter,
    /// Ends when nothing of the step is left.
    pub(super) reports: io::PipeReader,
}

/// Starts one. What its step writes goes to `log`.
pub(super) fn start(log: Stdio) -> io::Result<Starter> {
    let (life, line) = io::pipe()?;
    let (reports, to_us) = io::pipe()?;
    // The link leads to this very executable even if another has taken its path since.
    let child = Command::new("/proc/self/exe")
        .arg0("kiln")
        .arg(INIT_WORD)
        .env_clear()
        .current_dir("/")
        .stdin(life)
        .stdout(to_us)
        .stderr(log)
        .spawn()?;
    Ok(Starter { child, line, reports })
}
