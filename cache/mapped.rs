//! A file's bytes as memory, for one reading of it.
//!
//! Hashing a large file out of the page cache is a fifth faster without the copy that `read` makes. The price of a map
//! is that the kernel sends SIGBUS when somebody cuts the file short meanwhile, which ends a process that does not expect
//! it. So the signal is caught: what is gone reads as zeros from then on, and the reading counts for nothing. Signals
//! for other addresses go to whoever had the signal before.
//!
//! Unaware of what is done with the bytes.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

/// So many files can be mapped at once; further ones are read.
const SLOTS: usize = 64;
/// Values of a slot's `start` that are no address: nobody's, and being filled in or given back.
const FREE: usize = 0;
const BUSY: usize = 1;

/// Where a file is mapped, for the handler of the signal.
struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
    torn: AtomicBool,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot { start: AtomicUsize::new(FREE), end: AtomicUsize::new(0), torn: AtomicBool::new(false) }
}; SLOTS];

/// The signal's earlier action; there once the handler is installed.
static BEFORE: OnceLock<Option<libc::sigaction>> = OnceLock::new();
static PAGE: AtomicUsize = AtomicUsize::new(4096);

/// Shows the first `bytes` bytes of a file to `read`, and gives what that says; `None` if the file cannot be mapped, or
/// if some of it went away meanwhile.
pub(crate) fn with_bytes<T>(file: &File, bytes: u64, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let length =
        usize::try_from(bytes).ok().filter(|length| (1..=isize::MAX as usize).contains(length))?;
    BEFORE.get_or_init(install).as_ref()?;
    let map = Map::new(file, length)?;
    let value = read(map.bytes());
    (!map.slot.torn.load(Ordering::Acquire)).then_some(value)
}

struct Map {
    slot: &'static Slot,
    start: *mut c_void,
    length: usize,
}

impl Map {
    #[allow(unsafe_code)]
    fn new(file: &File, length: usize) -> Option<Self> {
        let slot = TABLE.iter().find(|slot| {
            let taken =
                slot.start.compare_exchange(FREE, BUSY, Ordering::AcqRel, Ordering::Relaxed);
            taken.is_ok()
        })?;
        // SAFETY: a new map, at an address of the kernel's choice, is in nobody's way.
        let mapped = unsafe {
            rustix::mm::mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, file, 0)
        };
        let Ok(start) = mapped else {
            slot.start.store(FREE, Ordering::Release);
            return None;
        };
        slot.torn.store(false, Ordering::Relaxed);
        slot.end.store(start as usize + length, Ordering::Relaxed);
        slot.start.store(start as usize, Ordering::Release);
        Some(Self { slot, start, length })
    }

    #[allow(unsafe_code)]
    fn bytes(&self) -> &[u8] {
        // SAFETY: the map is `length` bytes long, readable, and stays until `self` is dropped; a page that its file
        // loses is replaced by zeros before the access to it goes on. Others may write to the file meanwhile: the
        // bytes are only hashed, any value of each is fine, and who changed the file is seen in its times.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length) }
    }
}

impl Drop for Map {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        self.slot.start.store(BUSY, Ordering::Release);
        // SAFETY: nothing borrows the bytes any more. It cannot fail: the range is a whole map.
        let _ = unsafe { rustix::mm::munmap(self.start, self.length) };
        self.slot.start.store(FREE, Ordering::Release);
    }
}

/// Catches the signal from now on; gives the action that it had, or nothing if it cannot be caught.
#[allow(unsafe_code)]
fn install() -> Option<libc::sigaction> {
    PAGE.store(rustix::param::page_size(), Ordering::Relaxed);
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = lost;
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zero bytes are a valid `sigaction`, whose fields are then set as the call wants them; both pointers are to
    // values of this function. The handler touches atomics and makes system calls, nothing else.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        let set = libc::sigaction(libc::SIGBUS, &action, before.as_mut_ptr());
        (set == 0).then(|| before.assume_init())
    }
}

/// Handles SIGBUS.
#[allow(unsafe_code)]
extern "C" fn lost(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands over a valid description of the signal.
    let address = unsafe { (*info).si_addr() } as usize;
    for slot in &TABLE {
        let start = slot.start.load(Ordering::Acquire);
        let end = slot.end.load(Ordering::Relaxed);
        if start <= BUSY || !(start..end).contains(&address) {
            continue;
        }
        let page = address & !(PAGE.load(Ordering::Relaxed) - 1);
        let zeros = MapFlags::PRIVATE | MapFlags::FIXED;
        slot.torn.store(true, Ordering::Release);
        // SAFETY: the range is the rest of a map of this module, which is only read; its reader goes on with zeros, and
        // what it says is thrown away.
        let replaced = unsafe {
            rustix::mm::mmap_anonymous(page as *mut c_void, end - page, ProtFlags::READ, zeros)
        };
        if replaced.is_ok() {
            return;
        }
    }
    let Some(Some(before)) = BEFORE.get() else { return };
    let takes_info = before.sa_flags & libc::SA_SIGINFO != 0;
    if takes_info && before.sa_sigaction != libc::SIG_DFL && before.sa_sigaction != libc::SIG_IGN {
        // SAFETY: with this flag the field is a handler of this form, installed by whoever had the signal before.
        let handler = unsafe {
            std::mem::transmute::<usize, extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)>(
                before.sa_sigaction,
            )
        };
        handler(signal, info, context);
    } else {
        // SAFETY: puts back what was there; the access is tried again, and fails as it would have.
        unsafe { libc::sigaction(signal, before, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    const LENGTH: usize = 1 << 20;

    fn file() -> File {
        let file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut &file, &vec![7; LENGTH]).unwrap();
        file
    }

    fn sum(bytes: &[u8]) -> u64 {
        black_box(bytes).iter().map(|&byte| u64::from(byte)).sum()
    }

    #[test]
    fn the_bytes_of_a_file_are_shown() {
        assert_eq!(with_bytes(&file(), LENGTH as u64, sum), Some(7 * LENGTH as u64));
    }

    #[test]
    fn a_file_that_is_cut_short_while_it_is_read_gives_nothing_and_ends_nobody() {
        let file = file();
        let mut read = 0;
        let told = with_bytes(&file, LENGTH as u64, |bytes| {
            read = sum(&bytes[..4096]);
            file.set_len(4096).unwrap();
            sum(bytes)
        });
        assert_eq!((told, read), (None, 7 * 4096));
        // The slot is free again, and says nothing about the next one.
        assert_eq!(with_bytes(&file, 4096, sum), Some(7 * 4096));
    }

    #[test]
    fn more_files_than_there_are_slots_are_not_mapped_and_none_is_lost() {
        fn nested(file: &File, depth: usize) -> usize {
            let inner =
                with_bytes(file, 4096, |_| if depth == 0 { 0 } else { nested(file, depth - 1) });
            inner.map_or(0, |inner| inner + 1)
        }
        let file = file();
        for _ in 0..2 {
            let mapped = nested(&file, 2 * SLOTS);
            assert!((1..=SLOTS).contains(&mapped), "{mapped}");
        }
    }
}
