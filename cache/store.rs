//! A store that is open: its home, its door to the disk, its locks and its index.
//!
//! What can be done with it stands in the modules beside this one, one concern each. Unaware of
//! recipes, of networks, of who uses it, and of the environment: the home is handed in.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::access::{self, Closed, ReadOnly};
use crate::boot::{self, Unflushed};
use crate::clock::Clocks;
use crate::digest::Digest;
use crate::fault::FaultPlan;
use crate::fsio::{Fs, FsError, ctime_ns, present};
use crate::holds::{self, Holds};
use crate::index::Index;
use crate::layout::{FORMAT, Layout};
use crate::lock::{self, ActionLock, GcLock, LockError};
use crate::notice::Notice;
use crate::object::Object;
use crate::recover;
use crate::scratch::{self, Scratch};
use crate::staging;
use crate::tombstone::{Cause, Shards};
use crate::trash;

/// A store that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its folders or files cannot be used.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// It was written in a format that this program does not know.
    #[error(
        "the store in {} has the format `{found}`, and this program knows only `{}`; use the \
         version of the program that made it, or another home",
        home.display(), FORMAT.trim()
    )]
    Format {
        /// The store's home.
        home: PathBuf,
        /// What its `format` file says.
        found: String,
    },
}

/// How a store is opened.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// Faults to inject, for tests.
    pub faults: Option<FaultPlan>,
    /// Which boot of the machine this is, for tests of what happens after another one; by default
    /// the kernel says.
    pub boot: Option<String>,
}

/// A content-addressed store for files and trees, and for the records of what made them.
///
/// May be used from any number of threads and processes at once. What it does on its own account
/// it does not print: see [`take_notices`](Self::take_notices).
#[derive(Debug)]
pub struct Store {
    pub(crate) fs: Fs,
    pub(crate) layout: Layout,
    pub(crate) index: Option<Index>,
    pub(crate) gc_lock: GcLock,
    pub(crate) holds: Holds,
    pub(crate) unflushed: Unflushed,
    pub(crate) staging: staging::Staging,
    pub(crate) clocks: Clocks,
    pub(crate) tombstones_read: Shards,
    notices: Mutex<Vec<Notice>>,
    /// In a store that can only be read: what changed at or after this time may be torn.
    doubted_since_ns: Option<i64>,
}

impl Store {
    /// Opens the store in `home`, creating what is missing, for the user alone.
    ///
    /// # Errors
    /// If its folders cannot be made, or it has an unknown format. An index that cannot be used
    /// is no error: the store works without.
    pub fn open(home: &Path) -> Result<Self, OpenError> {
        Self::open_with(home, StoreOptions::default())
    }

    /// Like [`open`](Self::open), with options.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_with(home: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let fs = Fs::new(options.faults);
        let home = std::path::absolute(home).map_err(|e| FsError::new("look at", home, e))?;
        let layout = Layout::new(&home);
        if let Some(why) = access::look(&layout) {
            return Self::open_to_read(fs.closed(Closed::new(&home, why)), layout);
        }
        fs.create_dirs(&home)?;
        fs.create_dirs(&layout.tmp())?;
        check_format(&fs, &layout)?;
        for folder in layout.folders() {
            fs.create_dirs(&folder)?;
        }
        let mut notices = Vec::new();
        let boot = options.boot.unwrap_or_else(|| boot::current(&fs));
        let lost = recover::after_boot(&fs, &layout, &boot, &mut notices)?;
        let index = match Index::open(&fs, &layout.index(), &layout.trash()) {
            Ok((index, wrong)) => {
                notices.extend(wrong.map(|error| Notice {
                    path: layout.index(),
                    what: format!("the index was replaced by an empty one: {error}"),
                }));
                Some(index)
            }
            Err(error) => {
                let what = format!("working without an index: {error}");
                notices.push(Notice { path: layout.index(), what });
                None
            }
        };
        let store = Self {
            gc_lock: GcLock::open(&fs, &layout)?,
            holds: Holds::default(),
            unflushed: Unflushed::new(boot),
            staging: staging::Staging::default(),
            clocks: Clocks::default(),
            tombstones_read: Shards::default(),
            notices: Mutex::new(notices),
            doubted_since_ns: None,
            fs,
            layout,
            index,
        };
        store.bury(lost.into_iter().map(|item| (item, Cause::Torn)));
        Ok(store)
    }

    /// Opens a store that can only be read: what is there is served, and nothing is changed.
    fn open_to_read(fs: Fs, layout: Layout) -> Result<Self, OpenError> {
        check_format(&fs, &layout)?;
        let boot = boot::current(&fs);
        // What may be torn cannot be moved away here, so that all of it counts as absent.
        let doubt = present(boot::doubt(&fs, &layout, &boot))?.flatten();
        let mut notices = Vec::new();
        let index = match Index::open_present(&fs, &layout.index()) {
            // It may tell of a source what was not so any more when the machine went down.
            Ok(_) if doubt.is_some() => None,
            Ok(index) => Some(index),
            Err(error) => {
                let what = format!("working without an index: {error}");
                notices.push(Notice { path: layout.index(), what });
                None
            }
        };
        Ok(Self {
            gc_lock: GcLock::open(&fs, &layout)?,
            holds: Holds::default(),
            unflushed: Unflushed::new(boot),
            staging: staging::Staging::default(),
            clocks: Clocks::default(),
            notices: Mutex::new(notices),
            tombstones_read: Shards::default(),
            doubted_since_ns: doubt.map(|doubt| doubt.since_ns),
            fs,
            layout,
            index,
        })
    }

    /// Why this store can only be read, if that is so. Then what is in it is served, and whatever would change
    /// it fails before anything was changed.
    #[must_use]
    pub fn read_only(&self) -> Option<&ReadOnly> {
        self.fs.read_only()
    }

    /// Fails if the store can only be read.
    ///
    /// # Errors
    /// That is what it tells.
    pub fn permit_change(&self) -> Result<(), FsError> {
        self.fs.permit("write to", self.home())
    }

    /// Whether something in the store is known to have reached the disk, or to have been looked at since.
    pub(crate) fn is_settled(&self, metadata: &Metadata) -> bool {
        self.doubted_since_ns.is_none_or(|since| ctime_ns(metadata) < since)
    }

    /// The folder that the store lives in, absolute.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.layout.home()
    }

    /// What was found and dealt with since the last call.
    #[must_use]
    pub fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn notice(&self, path: &Path, what: impl Into<String>) {
        let notice = Notice { path: path.to_owned(), what: what.into() };
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
    }

    /// A fresh, empty folder on the store's file system.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn scratch_dir(&self) -> Result<Scratch, FsError> {
        Scratch::create(&self.fs, &self.layout)
    }

    /// Removes what killed processes left behind: scratch folders, temporary roots, half-placed
    /// trees, trash. What cannot be removed is in nobody's way: it is told in a notice.
    pub fn sweep(&self) {
        if self.read_only().is_some() {
            return;
        }
        let (fs, layout) = (&self.fs, &self.layout);
        let stays = &mut |error: FsError| self.stays(&error);
        let swept = [
            scratch::sweep(fs, layout, stays),
            holds::sweep(fs, layout),
            staging::sweep(fs, layout, stays),
            trash::empty(fs, layout, stays),
        ];
        swept.into_iter().filter_map(Result::err).for_each(stays);
    }

    /// Deletes what is in the trash, as far as that is possible.
    pub(crate) fn empty_trash(&self) {
        let stays = &mut |error: FsError| self.stays(&error);
        if let Err(error) = trash::empty(&self.fs, &self.layout, stays) {
            stays(error);
        }
    }

    fn stays(&self, error: &FsError) {
        let what = format!("something left behind could not be removed: {}", error.told());
        self.notice(self.home(), what);
    }

    /// Whether the object is there. One look at a name; the content is not read.
    #[must_use]
    pub fn contains(&self, object: &Object) -> bool {
        self.fs.lstat(&self.path(object)).is_ok_and(|metadata| self.is_settled(&metadata))
    }

    /// Where the object is, or would be.
    #[must_use]
    pub fn path(&self, object: &Object) -> PathBuf {
        self.layout.object(object)
    }

    /// Waits until no other process realises this action, then keeps others off it.
    ///
    /// # Errors
    /// If the lock's file cannot be used, or `cancelled` says so (asked every few milliseconds).
    pub fn lock_action(
        &self,
        key: &Digest,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<ActionLock, LockError> {
        lock::action(&self.fs, &self.layout, key, cancelled)
    }

    /// Keeps others off this action, unless one of them is at it.
    ///
    /// # Errors
    /// If the lock's file cannot be used.
    pub fn try_lock_action(&self, key: &Digest) -> Result<Option<ActionLock>, LockError> {
        Ok(lock::try_action(&self.fs, &self.layout, key)?)
    }

    /// Brings to disk what was placed and recorded since the last call. To be called about once a
    /// second while something is built, and at the end; costs nothing if nothing was written.
    ///
    /// # Errors
    /// If the disk cannot be written to.
    pub fn flush(&self) -> Result<(), FsError> {
        // The rows first, so that they come to disk with what they tell of.
        self.commit_index();
        self.unflushed.flush(&self.fs, &self.layout)
    }

    /// Writes the index's waiting rows. They are derived, so that a failure is only told.
    pub(crate) fn commit_index(&self) {
        if self.read_only().is_some() {
            return;
        }
        if let Some(Err(error)) = self.index.as_ref().map(Index::commit) {
            self.notice(&self.layout.index(), format!("the index was not updated: {error}"));
        }
    }

    /// Moves something damaged out of the way, if anything here can be moved.
    pub(crate) fn set_aside(&self, path: &Path, why: &str) -> Result<(), FsError> {
        if self.read_only().is_some() {
            self.notice(path, why);
            return Ok(());
        }
        trash::set_aside(&self.fs, &self.layout, path)?;
        self.notice(path, format!("{why}; it was moved out of the way"));
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.commit_index();
    }
}

fn check_format(fs: &Fs, layout: &Layout) -> Result<(), OpenError> {
    let refused = |found: &str| OpenError::Format {
        home: layout.home().to_owned(),
        found: found.trim().chars().take(80).collect(),
    };
    // Looked at first: whoever makes the folders has written the format, so that a store which another process
    // makes between the two looks is not taken for one without a format.
    let used = layout.files().exists();
    match present(fs.read(&layout.format()))? {
        Some(found) if found == FORMAT.as_bytes() => Ok(()),
        Some(found) => Err(refused(&String::from_utf8_lossy(&found))),
        None if used => Err(refused("none")),
        None => {
            let scratch = Scratch::create(fs, layout)?;
            let aside = scratch.path().join("format");
            fs.write_new(&aside, FORMAT.as_bytes(), true)?;
            fs.rename(&aside, &layout.format())?;
            // Without its format a store that is in use would be refused.
            Ok(fs.sync_folder(layout.home())?)
        }
    }
}
