//! The line from a starter, its init and its step to the caller. Unaware of what the reports are about.

use std::{io, os::unix::net::UnixStream};

use super::{plan::Report, root::Failure};

/// The line to the caller.
pub(super) struct Line {
    pub(super) socket: UnixStream,
}

impl Line {
    pub(super) fn say(&self, report: &Report) -> io::Result<()> {
        report.encode().send(&self.socket)
    }

    pub(super) fn complain(&self, failure: Failure) -> io::Result<()> {
        let Failure { action, source } = failure;
        let errno = source.raw_os_error().unwrap_or(libc::EIO);
        self.say(&Report::Failed { action, errno })
    }
}
