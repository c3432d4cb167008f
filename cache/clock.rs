//! The present time by a file system's own clock: what the times of the files on it are to be compared with.
//!
//! Each file system is asked through a file of its own: in the store's a file of the store, in others one without a
//! name. Where no file can be made, the kernel's clock stands in, from which local file systems take their
//! times. Unaware of what is remembered about files.

use std::collections::{HashMap, hash_map::Entry};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};

use crate::fsio::{Fs, FsError};
use crate::layout::Layout;
use crate::look::FileIdentity;
use crate::mark::fresh_name;

/// Names of files whose time is asked for; nobody needs the names.
pub(crate) const CLOCK: &str = "clock-";

/// Clocks of local file systems tick at least every 10 ms.
const LOCAL_NS: i64 = 20_000_000;
/// A time without a fraction is from a file system that counts in seconds, or in two.
const COARSE_NS: i64 = 2_500_000_000;
/// The clock of another machine may be off by this much.
const REMOTE_NS: i64 = 120_000_000_000;
/// `f_type` of file systems whose clock is that of another machine: NFS, SMB, CIFS, SMB2, 9P, Ceph, FUSE.
const REMOTE_TYPES: [u32; 7] =
    [0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42, 0x0102_1997, 0x00C3_6400, 0x6573_5546];

/// A time that a file system gave, and how far the times on it may be off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Nanoseconds since 1970.
    pub(crate) taken_ns: i64,
    remote: bool,
}

impl Moment {
    /// How far the times of this file may lie behind the time at which it was changed.
    pub(crate) fn margin_ns(&self, identity: &FileIdentity) -> i64 {
        let whole = |ns: i64| ns % 1_000_000_000 == 0;
        if self.remote {
            REMOTE_NS
        } else if whole(self.taken_ns) || whole(identity.ctime_ns) {
            COARSE_NS
        } else {
            LOCAL_NS
        }
    }
}

/// The clocks of the file systems that were asked, by device.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    store: Mutex<Option<(PathBuf, File)>>,
    asked: Mutex<HashMap<u64, Clock>>,
}

/// The clock of one file system.
#[derive(Debug)]
struct Clock {
    hand: Hand,
    remote: bool,
}

/// How a clock is read.
#[derive(Debug)]
enum Hand {
    /// It is the store's file system.
    Store,
    /// By a file without a name, which is there as long as it is open.
    File(File),
    /// Nothing can be written there: the kernel's clock.
    Kernel,
}

impl Clocks {
    /// The present time of the store's file system, in nanoseconds since 1970.
    pub(crate) fn of_store(&self, fs: &Fs, layout: &Layout) -> Result<i64, FsError> {
        self.with_store(fs, layout, |path, file| fs.touch(path, file))
    }

    fn with_store<T>(
        &self,
        fs: &Fs,
        layout: &Layout,
        ask: impl FnOnce(&Path, &File) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        let mut clock = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let (path, file) = match &mut *clock {
            Some(clock) => clock,
            empty => {
                let path = layout.tmp().join(format!("{CLOCK}{}", fresh_name()));
                let file = fs.create_file(&path, 0o600)?;
                // The open file is all that is needed. What stays is swept.
                drop(fs.remove_all(&path));
                empty.insert((path, file))
            }
        };
        ask(path, file)
    }

    /// The present time of the file system `dev`, which something in `folder` is on.
    ///
    /// # Errors
    /// If the clock that is asked cannot be touched.
    pub(crate) fn of(
        &self,
        fs: &Fs,
        layout: &Layout,
        dev: u64,
        folder: &Path,
    ) -> Result<Moment, FsError> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = match asked.entry(dev) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let of = |metadata: std::fs::Metadata| metadata.dev();
                let store = self.with_store(fs, layout, |_, file| Ok(file.metadata().ok().map(of)));
                let store = store.ok().flatten();
                new.insert(Clock::on(dev, store, folder))
            }
        };
        let taken_ns = match &clock.hand {
            Hand::Store => self.of_store(fs, layout).unwrap_or_else(|_| kernel_ns()),
            Hand::File(file) => fs.touch(folder, file)?,
            Hand::Kernel => kernel_ns(),
        };
        Ok(Moment { taken_ns, remote: clock.remote })
    }
}

impl Clock {
    fn on(dev: u64, store: Option<u64>, folder: &Path) -> Self {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        // What is in a folder may be mounted there from elsewhere.
        let here = |file: &File| file.metadata().is_ok_and(|metadata| metadata.dev() == dev);
        let file = || {
            let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR).ok()?;
            Some(File::from(file)).filter(here)
        };
        let hand = match store == Some(dev) {
            true => Hand::Store,
            false => file().map_or(Hand::Kernel, Hand::File),
        };
        Self { hand, remote: is_remote(folder) }
    }
}

fn is_remote(path: &Path) -> bool {
    // The field's width differs between platforms; the types have 32 bits on all of them.
    rustix::fs::statfs(path).is_ok_and(|fs| REMOTE_TYPES.contains(&(fs.f_type as u32)))
}

/// The clock from which local file systems take their times, with the same coarse tick.
fn kernel_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(ctime_ns: i64) -> FileIdentity {
        FileIdentity { dev: 1, ino: 1, size: 1, mtime_ns: 0, ctime_ns }
    }

    #[test]
    fn the_margin_is_as_wide_as_the_clock_is_coarse() {
        let local = Moment { taken_ns: 5_000_000_123, remote: false };
        assert_eq!(local.margin_ns(&identity(1_500_000_000)), LOCAL_NS);
        assert_eq!(local.margin_ns(&identity(1_000_000_000)), COARSE_NS);
        let seconds = Moment { taken_ns: 5_000_000_000, remote: false };
        assert_eq!(seconds.margin_ns(&identity(1_500_000_000)), COARSE_NS);
        let remote = Moment { taken_ns: 5_000_000_123, remote: true };
        assert_eq!(remote.margin_ns(&identity(1_500_000_000)), REMOTE_NS);
    }

    #[test]
    fn what_is_written_later_is_not_older_than_the_moment_on_any_file_system() {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::new(home.path());
        std::fs::create_dir_all(layout.tmp()).unwrap();
        let clocks = Clocks::default();
        for place in [home.path(), Path::new("/dev/shm")] {
            let Ok(folder) = tempfile::tempdir_in(place) else {
                eprintln!("skipped: nothing can be written to {}", place.display());
                continue;
            };
            let dev = std::fs::metadata(folder.path()).unwrap().dev();
            let moment = clocks.of(&Fs::default(), &layout, dev, folder.path()).unwrap();
            std::fs::write(folder.path().join("a"), "1").unwrap();
            let written = FileIdentity::of(&std::fs::metadata(folder.path().join("a")).unwrap());
            assert!(!written.settled_before(moment.taken_ns, moment.margin_ns(&written)));
            assert!(written.mtime_ns - moment.taken_ns < 10_000_000_000, "the same clock");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "it has no name");
        }
    }

    #[test]
    fn where_nothing_can_be_written_the_kernel_tells_the_time() {
        let dev = std::fs::metadata("/proc").unwrap().dev();
        let clock = Clock::on(dev, None, Path::new("/proc"));
        assert!(matches!(clock.hand, Hand::Kernel));
    }
}
