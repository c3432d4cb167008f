//! Whether this process may write to a store, or only read it.
//!
//! A store belongs to one user: whoever made it. Others may be let in to read, and so may containers that see it
//! through a mount which cannot be written to; both are served what is there. Found out before
//! anything is written, so that nothing is half done. Unaware of what is read.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Access;
use rustix::io::Errno;

use crate::layout::Layout;

/// Why a store can only be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOnly {
    /// Its file system, as this process sees it, cannot be written to.
    Mounted,
    /// Another user made it.
    Foreign {
        /// Whose it is.
        owner: u32,
        /// Who this is.
        user: u32,
    },
    /// This user may not write there.
    Denied(PathBuf),
}

impl fmt::Display for ReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted => write!(f, "it is mounted read-only"),
            Self::Foreign { owner, user } => {
                write!(f, "it belongs to the user with the id {owner}, and this is {user}")
            }
            Self::Denied(path) => write!(f, "this user may not write to {}", path.display()),
        }
    }
}

/// What the door to the disk refuses to change, and why.
#[derive(Debug)]
pub(crate) struct Closed {
    home: PathBuf,
    why: ReadOnly,
}

impl Closed {
    pub(crate) fn new(home: &Path, why: ReadOnly) -> Arc<Self> {
        Arc::new(Self { home: home.to_owned(), why })
    }

    /// Why something at this path cannot be changed; `None` if it can.
    pub(crate) fn refusal(&self, path: &Path) -> Option<std::io::Error> {
        path.starts_with(&self.home).then(|| {
            let what =
                format!("the store in {} can only be read: {}", self.home.display(), self.why);
            std::io::Error::new(std::io::ErrorKind::ReadOnlyFilesystem, what)
        })
    }

    pub(crate) fn why(&self) -> &ReadOnly {
        &self.why
    }
}

/// Why the store that is there can only be read; `None` if it can be written to, or if there is none yet.
pub(crate) fn look(layout: &Layout) -> Option<ReadOnly> {
    let owner = std::fs::metadata(layout.format()).ok()?.uid();
    // Who made the store, not whose folder it is in: a volume's top often belongs to somebody else.
    let user = rustix::process::geteuid().as_raw();
    if user != 0 && user != owner {
        return Some(ReadOnly::Foreign { owner, user });
    }
    let folders = layout.folders().into_iter().chain([layout.tmp(), layout.gc_lock()]);
    folders.into_iter().find_map(|path| match rustix::fs::access(&path, Access::WRITE_OK) {
        Err(Errno::ROFS) => Some(ReadOnly::Mounted),
        Err(Errno::ACCESS | Errno::PERM) => Some(ReadOnly::Denied(path)),
        // What is missing is made where that is possible, and tells why where it is not.
        _ => None,
    })
}
