//! A source on the local disk: how its bytes come before a step, and whether they stayed as they were.
//!
//! Unaware of recipes, and of how a source was found.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use kiln_cache::{
    Digest, FileDigest, FileIdentity, FsError, Ingest, IngestError, Object, Scratch,
    SourceError as HashError, Store, TreeError, Trust,
};
use rayon::prelude::*;

use super::listing::walk;

/// A source on the local disk.
#[derive(Debug)]
pub(super) struct Local {
    shape: Shape,
    in_place: bool,
    /// Laid out when a step first reads a large glob.
    farm: Mutex<Option<Farm>>,
}

/// Links to the files of a large glob, so that a step sees these and no others.
#[derive(Debug)]
struct Farm {
    /// Removed with it.
    _scratch: Scratch,
    folder: PathBuf,
    /// What the files are since they were linked: a hard link changes a file's ctime.
    identities: Vec<FileIdentity>,
}

/// A file, or files by their paths.
#[derive(Debug)]
pub(super) enum Shape {
    File(LocalFile),
    Tree {
        /// The folder, if the source is one; a glob has none.
        folder: Option<PathBuf>,
        files: Vec<(String, LocalFile)>,
        links: Vec<(String, String)>,
    },
}

/// A file, and what it was when it was hashed.
#[derive(Debug)]
pub(super) struct LocalFile {
    pub(super) path: PathBuf,
    pub(super) digest: FileDigest,
}

/// Bytes of a source that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PresentError {
    /// It is not what it was when the build started.
    #[error("`{}` changed while the build was running; nothing that read it was recorded", .0.display())]
    Changed(PathBuf),
    /// It cannot be read.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The store cannot take it.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The store cannot make the tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] FsError),
    /// A file cannot be linked or copied for the step.
    #[error("failed to lay out `{}`", path.display())]
    Farm {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It points nowhere.
    #[error("the source is absent")]
    Absent,
}

impl Local {
    pub(super) fn new(shape: Shape, in_place: bool) -> Self {
        Self { shape, in_place, farm: Mutex::default() }
    }

    /// Whether steps read it where it lies.
    pub(super) fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// Whether the place where steps read it is there after the build.
    pub(super) fn is_lasting(&self) -> bool {
        !self.in_place || !matches!(self.shape, Shape::Tree { folder: None, .. })
    }

    /// Where a step can read it; `object` is what it was found to be.
    pub(super) fn present(&self, store: &Store, object: Object) -> Result<PathBuf, PresentError> {
        // What is read where it lies has to be what was hashed when the step begins, not only when it ends.
        if self.in_place
            && let Some(path) = self.changed()
        {
            return Err(PresentError::Changed(path));
        }
        match &self.shape {
            Shape::File(file) if self.in_place => Ok(file.path.clone()),
            Shape::Tree { folder: Some(folder), .. } if self.in_place => Ok(folder.clone()),
            Shape::Tree { files, .. } if self.in_place => self.farm(store, files),
            _ if store.contains(&object) => Ok(store.path(&object)),
            Shape::File(file) => {
                let (now, _) = store.snapshot_file(&file.path, Trust::Rehash)?;
                same(object, now, &file.path)?;
                Ok(store.path(&object))
            }
            Shape::Tree { files, links, .. } => {
                let scratch = store.scratch_dir()?;
                let folder = lay_out(&scratch, files, links, Lay::Copies)?;
                let now = store.ingest(&folder, Ingest::Move)?.object;
                let first = files.first().map_or_else(PathBuf::new, |(_, file)| file.path.clone());
                same(object, now, &self.changed().unwrap_or(first))?;
                Ok(store.path(&object))
            }
        }
    }

    /// The first file that is not what it was when it was hashed, or the folder if it lists other files.
    pub(super) fn changed(&self) -> Option<PathBuf> {
        let farm = self.farm.lock().unwrap_or_else(PoisonError::into_inner);
        let known = farm.as_ref().map(|farm| farm.identities.as_slice());
        let moved = |(number, file): (usize, &LocalFile)| {
            let expected = known.map_or(file.digest.identity, |identities| identities[number]);
            (!file.is_still(expected)).then(|| file.path.clone())
        };
        match &self.shape {
            Shape::File(file) => moved((0, file)),
            Shape::Tree { folder, files, links } => files
                .par_iter()
                .map(|(_, file)| file)
                .enumerate()
                .find_map_first(moved)
                .or_else(|| relisted(folder.as_deref()?, files, links)),
        }
    }

    fn farm(&self, store: &Store, files: &[(String, LocalFile)]) -> Result<PathBuf, PresentError> {
        // Held while the farm is laid out: a second one would change the files' ctimes under the first.
        let mut farm = self.farm.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(farm) = farm.as_ref() {
            return Ok(farm.folder.clone());
        }
        let scratch = store.scratch_dir()?;
        let folder = lay_out(&scratch, files, &[], Lay::Links)?;
        let identities = files
            .par_iter()
            .map(|(_, file)| {
                let now = store.digest_file(&file.path, Trust::Cached)?;
                same(file.object(), Object { digest: now.digest, ..file.object() }, &file.path)?;
                Ok(now.identity)
            })
            .collect::<Result<Vec<_>, PresentError>>()?;
        Ok(farm.insert(Farm { _scratch: scratch, folder, identities }).folder.clone())
    }
}

/// The folder, if it no longer lists what it listed.
fn relisted(
    folder: &Path,
    files: &[(String, LocalFile)],
    links: &[(String, String)],
) -> Option<PathBuf> {
    let now = walk(folder).ok();
    let equal = now.is_some_and(|now| {
        now.files.iter().map(|(name, _)| name).eq(files.iter().map(|(name, _)| name))
            && now.links == links
    });
    (!equal).then(|| folder.to_owned())
}

impl LocalFile {
    /// Whether it is what it was when it was looked at and had the identity `expected`.
    ///
    /// A hard link made or removed by somebody else changes the ctime and nothing else, so that a new ctime alone
    /// has the content decide.
    fn is_still(&self, expected: FileIdentity) -> bool {
        let Ok(metadata) = fs::metadata(&self.path) else { return false };
        let now = FileIdentity::of(&metadata);
        let executable = metadata.permissions().mode() & 0o100 != 0;
        now == expected
            || (FileIdentity { ctime_ns: expected.ctime_ns, ..now } == expected
                && executable == self.digest.executable
                && rehashed(&self.path).is_ok_and(|digest| digest == self.digest.digest))
    }

    pub(super) fn object(&self) -> Object {
        let FileDigest { digest, executable, .. } = self.digest;
        if executable { Object::program(digest) } else { Object::file(digest) }
    }
}

/// The tree that files and links make, and how many bytes it holds.
pub(super) fn tree_object(
    files: &[(String, LocalFile)],
    links: &[(String, String)],
) -> (Object, u64) {
    let leaves = files.iter().map(|(name, file)| {
        let leaf = kiln_cache::Leaf::File {
            digest: file.digest.digest,
            bytes: file.digest.bytes,
            executable: file.digest.executable,
        };
        (name.as_str(), leaf)
    });
    let links = links
        .iter()
        .map(|(name, target)| (name.as_str(), kiln_cache::Leaf::Link { target: target.clone() }));
    let tree = kiln_cache::Tree::from_leaves(leaves.chain(links));
    (Object::tree(tree.digest()), tree.bytes())
}

fn same(expected: Object, found: Object, path: &Path) -> Result<(), PresentError> {
    let equal: fn(Object) -> (kiln_cache::Kind, Digest) = |object| (object.kind, object.digest);
    if equal(expected) == equal(found) {
        Ok(())
    } else {
        Err(PresentError::Changed(path.to_owned()))
    }
}

/// How a folder's files are laid out for a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lay {
    /// Reflinks where the file system has them, copies elsewhere: what the step sees cannot change any more.
    Copies,
    /// Reflinks, else hard links, else copies: no bytes are moved; changes are noticed afterwards.
    Links,
}

fn lay_out(
    scratch: &Scratch,
    files: &[(String, LocalFile)],
    links: &[(String, String)],
    lay: Lay,
) -> Result<PathBuf, PresentError> {
    let folder = scratch.path().join("tree");
    let fail =
        |path: &Path, source: io::Error| PresentError::Farm { path: path.to_owned(), source };
    fs::create_dir(&folder).map_err(|error| fail(&folder, error))?;
    let folders: std::collections::BTreeSet<&Path> = files
        .iter()
        .map(|(name, _)| name)
        .chain(links.iter().map(|(name, _)| name))
        .filter_map(|name| Path::new(name).parent())
        .collect();
    for inner in folders {
        let path = folder.join(inner);
        fs::create_dir_all(&path).map_err(|error| fail(&path, error))?;
    }
    files.par_iter().try_for_each(|(name, file)| {
        let to = folder.join(name);
        let done = match lay {
            Lay::Copies => reflink_copy::reflink_or_copy(&file.path, &to).map(drop),
            Lay::Links => reflink_copy::reflink(&file.path, &to)
                .or_else(|_| fs::hard_link(&file.path, &to))
                .or_else(|_| fs::copy(&file.path, &to).map(drop)),
        };
        done.map_err(|error| fail(&file.path, error))
    })?;
    for (name, target) in links {
        let path = folder.join(name);
        std::os::unix::fs::symlink(target, &path).map_err(|error| fail(&path, error))?;
    }
    Ok(folder)
}

/// The digest of a file as it is now, whatever is remembered of it.
fn rehashed(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path)?)?;
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
}
