//! Taking files and folders into the store.
//!
//! What is taken is first made canonical where it stands (or a copy of it is), then moved into
//! place. Unaware of what made it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::digest::Digest;
use crate::fsio::{Fs, FsError};
use crate::holds::Held;
use crate::object::{Ingested, Object};
use crate::scan::{self, Refusal, ScanError};
use crate::staging;
use crate::store::Store;
use crate::tree::Tree;

/// What becomes of the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingest {
    /// It becomes the object: renamed, nothing is copied. It must be the caller's alone.
    Move,
    /// It stays as it is.
    Copy,
    /// A copy of it becomes the object, and it is removed: somebody else may have it open.
    Afresh,
}

/// Something that cannot be taken into the store.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// It cannot be read, or the store cannot be written to.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// It has something in it that no object can have.
    #[error("{}: {refusal}", if path.is_empty() { "the output" } else { path })]
    Refused {
        /// Path relative to what was to be taken, cut short if it is very long; empty if it is
        /// that itself.
        path: String,
        /// What is wrong with it; [`Refusal::help`] says what to do.
        refusal: Refusal,
    },
}

impl From<ScanError> for IngestError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Fs(error) => Self::Fs(error),
            ScanError::Refused(path, refusal) => Self::Refused { path, refusal },
        }
    }
}

fn refused(refusal: Refusal) -> IngestError {
    IngestError::Refused { path: String::new(), refusal }
}

impl Store {
    /// Takes a file or a folder into the store.
    ///
    /// Its modes become 0444 and, for programs and folders, 0555; its times become one second
    /// after 1970; extended attributes are ignored. A file that has another name outside is
    /// copied, so that nobody can write to the store through it.
    ///
    /// # Errors
    /// If something in it is neither file nor folder nor a link that stays inside, has a name that
    /// is not UTF-8, or lies too deep or at too long a path; or if the disk fails. After an error with [`Ingest::Move`] the original
    /// is still there, perhaps with other modes.
    pub fn ingest(&self, path: &Path, how: Ingest) -> Result<Ingested, IngestError> {
        let metadata = self.fs.lstat(path)?;
        if metadata.is_symlink() {
            return Err(refused(Refusal::Link));
        }
        if let Some(refusal) = scan::refusal(path, &metadata) {
            return Err(refused(refusal));
        }
        let home = self.fs.lstat(&self.layout.tmp())?;
        if how == Ingest::Move && metadata.dev() == home.dev() {
            return self.take(path, &metadata);
        }
        let staged = self.staging.fresh(&self.fs, &self.layout)?;
        let copy = Copying { fs: &self.fs, original_stays: how == Ingest::Copy };
        let taken = copy
            .copy(path, &metadata, &staged, "", 0)
            .map_err(|error| IngestError::from(scan::too_long(error, path)))
            .and_then(|()| self.take(&staged, &metadata));
        match (&taken, how) {
            (Err(_), _) => self.fs.remove_all(&staged)?,
            (Ok(_), Ingest::Move | Ingest::Afresh) => self.fs.remove_all(path)?,
            (Ok(_), Ingest::Copy) => {}
        }
        taken
    }

    /// Makes canonical what is on the store's file system, and moves it into place.
    fn take(&self, path: &Path, metadata: &Metadata) -> Result<Ingested, IngestError> {
        if metadata.is_dir() {
            let tree = scan::take_folder(&self.fs, path)?;
            return Ok(self.place_tree(path, &tree)?);
        }
        let (digest, bytes, executable) = scan::take_file(&self.fs, path)?;
        let object = if executable { Object::program(digest) } else { Object::file(digest) };
        Ok(self.place_file(path, object, bytes)?)
    }

    /// Stores some bytes as a plain file.
    ///
    /// # Errors
    /// If the disk cannot be written to.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Object, FsError> {
        let staged = self.staging.fresh(&self.fs, &self.layout)?;
        self.fs.write_new(&staged, bytes, false)?;
        self.fs.chmod(&staged, scan::FILE_MODE)?;
        self.fs.fix_times(&staged)?;
        let object = Object::file(Digest::of(bytes));
        Ok(self.place_file(&staged, object, bytes.len() as u64)?.object)
    }

    /// Moves a canonical file into place. Held before it is there, so that no collector can come
    /// between.
    pub(crate) fn place_file(
        &self,
        staged: &Path,
        object: Object,
        bytes: u64,
    ) -> Result<Ingested, FsError> {
        self.hold([Held::Object(object)])?;
        self.unflushed.will_write(&self.fs, &self.layout)?;
        let _shared = self.gc_lock.shared()?;
        staging::place_file(&self.fs, &self.layout, staged, &object, bytes)?;
        Ok(Ingested { object, bytes, files: 1 })
    }

    /// Moves a folder that is canonical but for its top's mode into place.
    pub(crate) fn place_tree(&self, staged: &Path, tree: &Tree) -> Result<Ingested, FsError> {
        let digest = tree.digest();
        let object = Object::tree(digest);
        self.hold([Held::Object(object)])?;
        self.unflushed.will_write(&self.fs, &self.layout)?;
        let _shared = self.gc_lock.shared()?;
        staging::place_tree(&self.staging, &self.fs, &self.layout, staged, &digest, tree)?;
        Ok(Ingested { object, bytes: tree.bytes(), files: tree.file_count() })
    }
}

/// How copies are made.
struct Copying<'f> {
    fs: &'f Fs,
    /// Nothing of it may be changed, not even for being read.
    original_stays: bool,
}

impl Copying<'_> {
    /// Copies a file, folder or link; refuses what can have no place in the store before opening it.
    fn copy(
        &self,
        from: &Path,
        metadata: &Metadata,
        to: &Path,
        rel: &str,
        depth: usize,
    ) -> Result<(), ScanError> {
        let fs = self.fs;
        // Folders are what is nested; what lies in the deepest one is no deeper.
        scan::check_place(rel, if metadata.is_dir() { depth } else { depth.saturating_sub(1) })?;
        if let Some(refusal) = scan::refusal(from, metadata) {
            return Err(ScanError::Refused(rel.to_owned(), refusal));
        }
        if metadata.is_symlink() {
            let target = fs.read_link(from)?.into_os_string().into_string();
            let target = target.map_err(|_| ScanError::Refused(rel.to_owned(), Refusal::Target))?;
            return Ok(fs.symlink(&target, to)?);
        }
        let needed = if metadata.is_dir() { 0o700 } else { 0o400 };
        if !self.original_stays && metadata.mode() & needed != needed {
            fs.chmod(from, needed | metadata.mode() & 0o777)?;
        }
        if metadata.is_file() {
            let copy = fs.create_file(to, 0o600)?;
            fs.copy_bytes(&fs.open(from)?, &copy, to)?;
            return Ok(fs.chmod(to, 0o600 | metadata.mode() & 0o100)?);
        }
        fs.create_dir(to)?;
        for name in fs.list(from)? {
            let shown = name.to_string_lossy();
            let rel = if rel.is_empty() { shown.into_owned() } else { format!("{rel}/{shown}") };
            let path = from.join(&name);
            self.copy(&path, &fs.lstat(&path)?, &to.join(&name), &rel, depth + 1)?;
        }
        Ok(())
    }
}
