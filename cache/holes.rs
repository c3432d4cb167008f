//! Files with holes: where in them there is data. Unaware of what it means.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::interrupt;

/// So much is copied between two looks at whether that is still wanted.
const PIECE: u64 = 64 << 20;

/// Bytes for which the file system keeps no blocks: holes, or what it has packed.
fn without_blocks(metadata: &Metadata) -> u64 {
    metadata.len().saturating_sub(metadata.blocks().saturating_mul(512))
}

/// Whether more than `limit` bytes of a file are holes.
pub(crate) fn exceed(path: &Path, metadata: &Metadata, limit: u64) -> bool {
    if without_blocks(metadata) <= limit {
        return false;
    }
    // What is packed has few blocks, too, but no holes. A file that cannot be asked is taken by its blocks.
    let count = || -> io::Result<bool> {
        let file = File::open(path)?;
        let (mut holes, mut at) = (0, 0);
        while let Some((from, to)) = next_data(&file, at)? {
            holes += from - at;
            if holes > limit {
                return Ok(true);
            }
            at = to;
        }
        Ok(holes + metadata.len().saturating_sub(at) > limit)
    };
    count().unwrap_or(true)
}

/// Copies all of an open file into an empty one, with its holes.
pub(crate) fn copy(mut from: &File, mut to: &File) -> io::Result<()> {
    let metadata = from.metadata()?;
    if without_blocks(&metadata) == 0 {
        return copy_range(from, to, u64::MAX).map(drop);
    }
    let mut at = 0;
    while let Some((start, end)) = next_data(from, at)? {
        from.seek(io::SeekFrom::Start(start))?;
        to.seek(io::SeekFrom::Start(start))?;
        let copied = copy_range(from, to, end - start)?;
        if copied < end - start {
            // Somebody has cut it short.
            return Ok(());
        }
        at = end;
    }
    to.set_len(metadata.len().max(at))
}

/// Copies so many bytes, or until the end, from where the files are read and written; how many there were.
fn copy_range(from: &File, mut to: &File, bytes: u64) -> io::Result<u64> {
    let mut total = 0;
    loop {
        interrupt::check()?;
        let part = PIECE.min(bytes - total);
        let copied = io::copy(&mut from.take(part), &mut to)?;
        total += copied;
        if copied < part || total == bytes {
            return Ok(total);
        }
    }
}

/// Where the next data at or after a place begins and ends.
fn next_data(file: &File, at: u64) -> io::Result<Option<(u64, u64)>> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(from) => Ok(Some((from, rustix::fs::seek(file, SeekFrom::Hole(from))?))),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// A hole of one MiB, some data, a hole of two.
    fn with_holes(path: &Path) -> File {
        let file = File::create_new(path).unwrap();
        file.write_all_at(b"data", MIB).unwrap();
        file.set_len(3 * MIB).unwrap();
        file
    }

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let home = tempfile::tempdir().unwrap();
        let from = with_holes(&home.path().join("from"));
        let to = File::create_new(home.path().join("to")).unwrap();
        copy(&from, &to).unwrap();
        let read = |name: &str| std::fs::read(home.path().join(name)).unwrap();
        assert_eq!(read("from"), read("to"));
        assert!(to.metadata().unwrap().blocks() <= from.metadata().unwrap().blocks() + 8);
    }

    #[test]
    fn holes_are_counted_and_blocks_that_are_merely_few_are_not() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        let metadata = with_holes(&path).metadata().unwrap();
        if without_blocks(&metadata) == 0 {
            eprintln!("skipped: this file system has no holes");
            return;
        }
        assert!(exceed(&path, &metadata, 2 * MIB));
        assert!(!exceed(&path, &metadata, 3 * MIB));
        std::fs::write(&path, vec![1; 3 * MIB as usize]).unwrap();
        // The old numbers now look like those of a file that was packed.
        assert!(!exceed(&path, &metadata, 2 * MIB));
    }
}
