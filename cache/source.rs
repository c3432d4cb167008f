//! Files outside of the store: their digests, and snapshots of them. Unaware of folders.

use std::fs::File;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::clock::Moment;
use crate::digest::Digest;
use crate::fsio::FsError;
use crate::look::{FileIdentity, Look, OpenFolder, Sort};
use crate::object::{Kind, Object};
use crate::scan::{FILE_MODE, OPEN_MODE};
use crate::store::Store;

/// How often a file that changes while it is read is read again.
const TRIES: u32 = 3;
/// So many files are looked up together.
pub(crate) const TOGETHER: usize = 512;

/// Whether remembered digests count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// A remembered digest counts if the file looks untouched.
    Cached,
    /// Every byte is read again.
    Rehash,
}

/// A file and the digest of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileDigest {
    /// Digest of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub bytes: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// What it looked like before and after it was read.
    pub identity: FileIdentity,
}

impl FileDigest {
    /// Whether the file at `path`, links followed, is what it was.
    ///
    /// A hard link made or removed by somebody else changes the ctime and nothing else, so that a new ctime alone has
    /// the content decide.
    #[must_use]
    pub fn is_still(&self, path: &Path) -> bool {
        let look = || std::fs::metadata(path).ok().map(|metadata| Look::of(&metadata));
        let Some(now) = look().filter(|look| look.sort == Sort::File) else { return false };
        let Self { identity, executable, .. } = *self;
        if now.executable != executable {
            return false;
        }
        now.identity == identity
            || (FileIdentity { ctime_ns: identity.ctime_ns, ..now.identity } == identity
                && File::open(path)
                    .and_then(|file| Digest::of_file(&file, identity.size))
                    .is_ok_and(|read| read == (self.digest, identity.size))
                && look().is_some_and(|after| after.identity == now.identity))
    }
}

/// A source that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The disk.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// It is no regular file.
    #[error("{} is not a regular file", .0.display())]
    Kind(PathBuf),
    /// Somebody writes to it.
    #[error("{} changed each time it was read", .0.display())]
    Unsteady(PathBuf),
}

/// A time for each file system that files of one folder are on: taken before any of them is read.
struct Moments<'a> {
    store: &'a Store,
    folder: &'a Path,
    known: Option<(u64, Moment)>,
}

impl Moments<'_> {
    fn of(&mut self, look: &Look) -> Result<Moment, FsError> {
        let dev = look.identity.dev;
        match self.known {
            Some((known, moment)) if known == dev => Ok(moment),
            _ => {
                let Store { clocks, fs, layout, .. } = self.store;
                let moment = clocks.of(fs, layout, dev, self.folder)?;
                self.known = Some((dev, moment));
                Ok(moment)
            }
        }
    }
}

impl Store {
    /// The present time of the store's file system, in nanoseconds since 1970: what the times of
    /// files on it are to be compared with.
    ///
    /// # Errors
    /// If a file cannot be touched there.
    pub fn fs_now(&self) -> Result<i64, FsError> {
        self.clocks.of_store(&self.fs, &self.layout)
    }

    /// The digest of a file's bytes; links are followed. Remembered if the file looks untouched
    /// since it was last read and is old enough for that to be known.
    ///
    /// # Errors
    /// If it cannot be read, is no regular file, or keeps changing.
    pub fn digest_file(&self, path: &Path, trust: Trust) -> Result<FileDigest, SourceError> {
        let look = self.regular(path)?;
        if let Some(known) = self.remembered(&[look], trust)[0] {
            return Ok(known);
        }
        let mut moments = self.moments(path.parent().unwrap_or(path));
        let read = self.read_steadily(look, &mut moments, path, &|| self.regular(path), &|| {
            self.fs.open(path)
        })?;
        self.remember(&[read]);
        Ok(read.0)
    }

    /// The digests of files in one folder, by name, looked at and read on all cores. Links are not
    /// followed: a name that is not a regular file's has an error of its own.
    ///
    /// # Errors
    /// If the folder cannot be opened, or is a link.
    pub fn digest_files(
        &self,
        folder: &Path,
        names: &[&str],
        trust: Trust,
    ) -> Result<Vec<Result<FileDigest, SourceError>>, FsError> {
        let folder = OpenFolder::open(folder)?;
        let parts = names.par_chunks(TOGETHER).map(|names| self.digest_some(&folder, names, trust));
        Ok(parts.flatten_iter().collect())
    }

    /// The digests of some files in a folder: looked up together, read one by one.
    pub(crate) fn digest_some(
        &self,
        folder: &OpenFolder,
        names: &[impl AsRef<str>],
        trust: Trust,
    ) -> Vec<Result<FileDigest, SourceError>> {
        let looks: Vec<_> = names.iter().map(|name| regular_in(folder, name.as_ref())).collect();
        let good: Vec<Look> = looks.iter().flatten().copied().collect();
        let mut known = self.remembered(&good, trust).into_iter();
        let mut moments = self.moments(folder.path());
        let mut news = Vec::new();
        let found = names.iter().zip(looks).map(|(name, look)| {
            let look = look?;
            if let Some(known) = known.next().flatten() {
                return Ok(known);
            }
            let name = name.as_ref();
            let again = || regular_in(folder, name);
            let read = self.read_steadily(look, &mut moments, &folder.at(name), &again, &|| {
                folder.open_file(name)
            })?;
            news.push(read);
            Ok(read.0)
        });
        let found = found.collect();
        self.remember(&news);
        found
    }

    fn moments<'a>(&'a self, folder: &'a Path) -> Moments<'a> {
        Moments { store: self, folder, known: None }
    }

    /// Reads a file until it looks the same before and after.
    fn read_steadily(
        &self,
        mut before: Look,
        moments: &mut Moments<'_>,
        path: &Path,
        look: &dyn Fn() -> Result<Look, SourceError>,
        open: &dyn Fn() -> Result<File, FsError>,
    ) -> Result<(FileDigest, Moment), SourceError> {
        for _ in 0..TRIES {
            let moment = moments.of(&before)?;
            let file = open()?;
            let read = Digest::of_file(&file, before.identity.size);
            let (digest, bytes) = read.map_err(|error| FsError::new("read", path, error))?;
            if let Some(found) = steady(&before, &look_at(&file, path)?, digest, bytes) {
                return Ok((found, moment));
            }
            before = look()?;
        }
        Err(SourceError::Unsteady(path.to_owned()))
    }

    /// Copies a file into the store (by reflink where the file system has them) and gives the
    /// object and its size. The digest is that of the bytes that were copied, whatever happens to
    /// the file meanwhile.
    ///
    /// # Errors
    /// If it cannot be read, is no regular file, or keeps changing.
    pub fn snapshot_file(&self, path: &Path, trust: Trust) -> Result<(Object, u64), SourceError> {
        let look = self.regular(path)?;
        if let Some(known) = self.remembered(&[look], trust)[0] {
            let object = object_of(&known);
            self.hold([crate::holds::Held::Object(object)])?;
            if self.contains(&object) {
                return Ok((object, known.bytes));
            }
        }
        for _ in 0..TRIES {
            if let Some(taken) = self.try_snapshot(path)? {
                return Ok(taken);
            }
        }
        Err(SourceError::Unsteady(path.to_owned()))
    }

    fn try_snapshot(&self, path: &Path) -> Result<Option<(Object, u64)>, SourceError> {
        let file = self.fs.open(path)?;
        let before = look_at(&file, path)?;
        let moment = self.moments(path.parent().unwrap_or(path)).of(&before)?;
        let staged = self.staging.fresh(&self.fs, &self.layout)?;
        let copy = self.fs.create_file(&staged, 0o600)?;
        self.fs.copy_bytes(&file, &copy, &staged)?;
        let hashed = Digest::of_file(&copy, before.identity.size);
        let (digest, bytes) = hashed.map_err(|error| FsError::new("read", &staged, error))?;
        let Some(found) = steady(&before, &look_at(&file, path)?, digest, bytes) else {
            self.fs.remove_file(&staged)?;
            return Ok(None);
        };
        let object = object_of(&found);
        self.fs.chmod(&staged, if found.executable { OPEN_MODE } else { FILE_MODE })?;
        self.fs.fix_times(&staged)?;
        self.place_file(&staged, object, bytes)?;
        self.remember(&[(found, moment)]);
        Ok(Some((object, bytes)))
    }

    fn regular(&self, path: &Path) -> Result<Look, SourceError> {
        let metadata = self.fs.stat(path)?;
        if metadata.is_file() {
            Ok(Look::of(&metadata))
        } else {
            Err(SourceError::Kind(path.to_owned()))
        }
    }
}

fn regular_in(folder: &OpenFolder, name: &str) -> Result<Look, SourceError> {
    let look = folder.look(name)?;
    if look.sort == Sort::File { Ok(look) } else { Err(SourceError::Kind(folder.at(name))) }
}

fn look_at(file: &File, path: &Path) -> Result<Look, FsError> {
    let metadata = file.metadata().map_err(|error| FsError::new("look at", path, error))?;
    Ok(Look::of(&metadata))
}

fn object_of(found: &FileDigest) -> Object {
    Object { kind: Kind::File, digest: found.digest, executable: found.executable }
}

/// What was read, if nobody wrote meanwhile.
fn steady(before: &Look, after: &Look, digest: Digest, bytes: u64) -> Option<FileDigest> {
    let identity = after.identity;
    let still = before.identity == identity && bytes == identity.size;
    still.then_some(FileDigest { digest, bytes, executable: after.executable, identity })
}
