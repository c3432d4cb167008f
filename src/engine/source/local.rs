//! A source on the local disk: how its bytes come before a step, and whether they stayed as they were.
//!
//! Unaware of recipes, and of how a source was found.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kiln_cache::{
    Digest, FileDigest, FileIdentity, Ingest, Object, Scratch, SourceFolder, Store, Trust,
};
use rayon::prelude::*;

use super::{
    present_error::PresentError,
    watch::{Expected, Watch, Watched},
};

/// For so long what was looked at counts as seen.
const MOMENT: Duration = Duration::from_millis(500);

/// A source on the local disk.
#[derive(Debug)]
pub(super) struct Local {
    shape: Shape,
    in_place: bool,
    /// Laid out when a step first reads a large glob.
    farm: Mutex<Option<Farm>>,
    /// Held while it is copied into the store.
    copying: Mutex<()>,
    /// When it was last seen to be what it was.
    looked: Mutex<Instant>,
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

/// A file, a folder, or files by their paths.
#[derive(Debug)]
pub(super) enum Shape {
    File(LocalFile),
    Folder { path: PathBuf, found: SourceFolder },
    Files(Vec<(String, LocalFile)>),
}

/// A file, and what it was when it was hashed.
#[derive(Debug)]
pub(super) struct LocalFile {
    pub(super) path: PathBuf,
    pub(super) digest: FileDigest,
}

impl Local {
    pub(super) fn new(shape: Shape, in_place: bool) -> Self {
        Self {
            shape,
            in_place,
            farm: Mutex::default(),
            copying: Mutex::default(),
            looked: Mutex::new(Instant::now()),
        }
    }

    /// Whether steps read it where it lies.
    pub(super) fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// Whether the place where steps read it is there after the build.
    pub(super) fn is_lasting(&self) -> bool {
        !self.in_place || !matches!(self.shape, Shape::Files(_))
    }

    /// Where a step can read it; `object` is what it was found to be.
    pub(super) fn present(&self, store: &Store, object: Object) -> Result<PathBuf, PresentError> {
        if !self.in_place {
            return self.copied(store, object);
        }
        // A step that reads something else than what was hashed is found out when it ends; looked at before, it need
        // not run in vain. What was hashed or looked at a moment ago is not looked at again for that.
        if self.looked().elapsed() > MOMENT
            && let Some(path) = self.changed()
        {
            return Err(PresentError::Changed(path));
        }
        self.place(store)
    }

    /// Where a step can read it, and a watch over it if that is where it lies. What was disturbed before is looked at first.
    pub(super) fn begin(
        &self,
        store: &Store,
        object: Object,
        undisturbed: bool,
    ) -> Result<(PathBuf, Option<Watch>), PresentError> {
        if !self.in_place {
            return Ok((self.copied(store, object)?, None));
        }
        // Laid out first, since a link to a file is a change of it.
        let place = self.place(store)?;
        // What was hashed or looked at a moment ago is not looked at again before the step: what happened to it since
        // then is found out when the step ends.
        let began = Instant::now();
        let fresh = undisturbed && self.looked().elapsed() <= MOMENT;
        let watch = match &self.shape {
            Shape::File(LocalFile { path, digest }) => {
                let expected = Expected::Files(vec![digest]);
                Watch::begin(store, &Watched::File(path), &expected, fresh)
            }
            Shape::Folder { path, found } => {
                Watch::begin(store, &Watched::Folder(path), &Expected::Folder(found), fresh)
            }
            Shape::Files(files) => {
                let paths = files.iter().map(|(_, file)| file.path.as_path()).collect();
                let digests = files.iter().map(|(_, file)| &file.digest).collect();
                Watch::begin(store, &Watched::Files(paths), &Expected::Files(digests), false)
            }
        };
        let watch = watch?;
        if !fresh {
            *self.looked() = began;
        }
        Ok((place, Some(watch)))
    }

    fn place(&self, store: &Store) -> Result<PathBuf, PresentError> {
        match &self.shape {
            Shape::File(file) => Ok(file.path.clone()),
            Shape::Folder { path, .. } => Ok(path.clone()),
            Shape::Files(files) => self.farm(store, files),
        }
    }

    /// Where it is in the store; copied if it is not there yet.
    pub(super) fn copied(&self, store: &Store, object: Object) -> Result<PathBuf, PresentError> {
        // Steps that begin together need one copy.
        let _alone = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        if store.contains(&object) {
            return Ok(store.path(&object));
        }
        match &self.shape {
            Shape::File(file) => {
                let (now, _) = store.snapshot_file(&file.path, Trust::Rehash)?;
                same(object, now, &file.path)?;
            }
            Shape::Folder { path, found } => drop(store.snapshot_folder(path, found)?),
            Shape::Files(files) => {
                let scratch = store.scratch_dir()?;
                let folder = lay_out(&scratch, files, Lay::Copies)?;
                let now = store.ingest(&folder, Ingest::Move)?.object;
                let first = files.first().map_or_else(PathBuf::new, |(_, file)| file.path.clone());
                same(object, now, &self.changed().unwrap_or(first))?;
            }
        }
        Ok(store.path(&object))
    }

    /// The first file that is not what it was when it was hashed, or the folder if it lists other files.
    pub(super) fn changed(&self) -> Option<PathBuf> {
        let began = Instant::now();
        let changed = self.first_changed();
        if changed.is_none() {
            *self.looked() = began;
        }
        changed
    }

    fn looked(&self) -> MutexGuard<'_, Instant> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first_changed(&self) -> Option<PathBuf> {
        let moved =
            |file: &LocalFile| (!file.digest.is_still(&file.path)).then(|| file.path.clone());
        match &self.shape {
            Shape::File(file) => moved(file),
            Shape::Folder { path, found } => found.changed_at(path),
            Shape::Files(files) => {
                let farm = self.farm.lock().unwrap_or_else(PoisonError::into_inner);
                match farm.as_ref() {
                    None => files.par_iter().find_map_first(|(_, file)| moved(file)),
                    Some(farm) => {
                        let files = files.par_iter().zip(&farm.identities);
                        files.find_map_first(|((_, file), &identity)| {
                            let digest = FileDigest { identity, ..file.digest };
                            (!digest.is_still(&file.path)).then(|| file.path.clone())
                        })
                    }
                }
            }
        }
    }

    fn farm(&self, store: &Store, files: &[(String, LocalFile)]) -> Result<PathBuf, PresentError> {
        // Held while the farm is laid out: a second one would change the files' ctimes under the first.
        let mut farm = self.farm.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(farm) = farm.as_ref() {
            return Ok(farm.folder.clone());
        }
        let scratch = store.scratch_dir()?;
        let folder = lay_out(&scratch, files, Lay::Links)?;
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

impl LocalFile {
    pub(super) fn object(&self) -> Object {
        let FileDigest { digest, executable, .. } = self.digest;
        if executable { Object::program(digest) } else { Object::file(digest) }
    }
}

/// The tree that files make, and how many bytes it holds.
pub(super) fn tree_object(files: &[(String, LocalFile)]) -> (Object, u64) {
    let leaves = files.iter().map(|(name, file)| {
        let FileDigest { digest, bytes, executable, .. } = file.digest;
        (name.as_str(), kiln_cache::Leaf::File { digest, bytes, executable })
    });
    let tree = kiln_cache::Tree::from_leaves(leaves);
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
    lay: Lay,
) -> Result<PathBuf, PresentError> {
    let folder = scratch.path().join("tree");
    let fail =
        |path: &Path, source: io::Error| PresentError::Farm { path: path.to_owned(), source };
    fs::create_dir(&folder).map_err(|error| fail(&folder, error))?;
    let folders: std::collections::BTreeSet<&Path> =
        files.iter().filter_map(|(name, _)| Path::new(name).parent()).collect();
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
    Ok(folder)
}
