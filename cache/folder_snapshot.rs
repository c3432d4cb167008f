//! Copies of outside folders, as trees of the store.
//!
//! What is copied is checked against the digests that were found before, file by file and while it passes by, so that
//! the copy need not be read again. Unaware of why a folder is copied.

use std::cell::RefCell;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::digest::Digest;
use crate::fsio::{Fs, FsError};
use crate::look::OpenFolder;
use crate::object::Ingested;
use crate::scan::{FILE_MODE, OPEN_MODE};
use crate::source_folder::{SourceFile, SourceFolder};
use crate::store::Store;

/// Up to so many bytes a file passes through memory; larger ones are copied by the kernel, or share their blocks.
const SMALL: usize = 256 << 10;

thread_local! {
    static PIECE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A folder that cannot be copied into the store.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// It is not what it was when it was hashed.
    #[error("{} changed since it was hashed", .0.display())]
    Changed(PathBuf),
}

impl Store {
    /// Copies a folder that was hashed before into the store.
    ///
    /// # Errors
    /// If a file in it has other bytes by now, or the disk fails.
    pub fn snapshot_folder(
        &self,
        path: &Path,
        folder: &SourceFolder,
    ) -> Result<Ingested, SnapshotError> {
        let staged = self.staging.fresh(&self.fs, &self.layout)?;
        let copied = copy_folder(&self.fs, path, folder, &staged).and_then(|()| {
            self.fs.fix_times(&staged)?;
            Ok(self.place_tree(&staged, &folder.tree())?)
        });
        if copied.is_err() {
            self.fs.remove_all(&staged)?;
        }
        copied
    }
}

fn copy_folder(
    fs: &Fs,
    from: &Path,
    folder: &SourceFolder,
    to: &Path,
) -> Result<(), SnapshotError> {
    fs.create_dir(to)?;
    let source = OpenFolder::open(from).map_err(|error| gone(error, from))?;
    folder.files.par_iter().try_for_each(|file| copy_file(fs, &source, file, to))?;
    drop(source);
    for (name, target) in &folder.links {
        let link = to.join(&**name);
        fs.symlink(target, &link)?;
        fs.fix_times(&link)?;
    }
    folder.dirs.par_iter().try_for_each(|(name, dir)| {
        let to = to.join(&**name);
        copy_folder(fs, &from.join(&**name), dir, &to)?;
        fs.chmod(&to, OPEN_MODE)?;
        Ok(fs.fix_times(&to)?)
    })
}

fn copy_file(
    fs: &Fs,
    source: &OpenFolder,
    file: &SourceFile,
    to: &Path,
) -> Result<(), SnapshotError> {
    let from = || source.at(&file.name);
    let changed = || SnapshotError::Changed(from());
    let original = source.open_file(&file.name).map_err(|error| gone(error, &from()))?;
    let path = to.join(&*file.name);
    let size = file.identity.size;
    let failed = |error: io::Error| FsError::new("read", &from(), error);
    let copy = if size < SMALL as u64 {
        PIECE.with_borrow_mut(|piece| {
            piece.resize(SMALL, 0);
            let bytes = read_whole(&original, piece).map_err(failed)?;
            if bytes.len() as u64 != size || Digest::of(bytes) != file.digest {
                return Err(changed());
            }
            let copy = fs.create_file(&path, 0o600)?;
            fs.append(&path, &copy, bytes)?;
            Ok(copy)
        })?
    } else {
        let copy = fs.create_file(&path, 0o600)?;
        fs.copy_bytes(&original, &copy, &path)?;
        let as_long = copy.metadata().map_err(failed)?.len() == size;
        if !as_long || Digest::of_file(&copy, size).map_err(failed)? != (file.digest, size) {
            return Err(changed());
        }
        copy
    };
    let mode = if file.executable { OPEN_MODE } else { FILE_MODE };
    Ok(fs.finish(&path, &copy, mode)?)
}

/// All bytes of a file that has fewer than the piece; if it has grown, as many as the piece has.
fn read_whole<'p>(file: &std::fs::File, piece: &'p mut [u8]) -> io::Result<&'p [u8]> {
    let mut filled = 0;
    while filled < piece.len() {
        match file.read_at(&mut piece[filled..], filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(&piece[..filled])
}

/// What is not there any more has changed.
fn gone(error: FsError, path: &Path) -> SnapshotError {
    if error.is_absent() { SnapshotError::Changed(path.to_owned()) } else { error.into() }
}
