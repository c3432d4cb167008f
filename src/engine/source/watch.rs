//! A source that steps read where it lies, watched from before a step begins until after its end.
//!
//! A step is believed only if nothing touched its source in between. A file that was changed and changed back, its times
//! as well, keeps its new ctime: nobody can set that. What was changed so shortly before the watch began that a further
//! change could have the same time is read again at the end, since the stat cache does not answer for it.
//!
//! Unaware of how a source was found, and of steps. A store through a memory mapping that was written to shortly before
//! the watch began shows in no time; nothing short of reading the file again would tell.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kiln_cache::{
    Digest, FileDigest, FileIdentity, FolderError, Object, SourceError, SourceFolder, Store, Trust,
};
use rayon::prelude::*;
use walkdir::WalkDir;

use super::present_error::PresentError;

/// What is watched.
pub(super) enum Watched<'a> {
    /// One file.
    File(&'a Path),
    /// A folder with all that is in it.
    Folder(&'a Path),
    /// Files; which ones there are is settled.
    Files(Vec<&'a Path>),
}

/// What became of a source while a step read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disturbance {
    /// It holds what it held, but somebody was at it: what the step saw is not known.
    Touched(PathBuf),
    /// It holds something else now, or is gone.
    Changed(PathBuf),
}

/// A source as it was when a step began.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Seen,
    /// The folders: in them something may come and go.
    folders: Vec<(PathBuf, FileIdentity)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Files(Vec<(PathBuf, FileDigest)>),
    Folder(PathBuf, Box<SourceFolder>),
}

impl Watch {
    /// Begins to watch what has to hold what is expected; if that was seen a moment ago (`fresh`), it is not looked at
    /// before the end.
    pub(super) fn begin(
        store: &Store,
        watched: &Watched<'_>,
        expected: &Expected<'_>,
        fresh: bool,
    ) -> Result<Self, PresentError> {
        if fresh && let Some(seen) = Seen::from(watched, expected) {
            let folders = match watched {
                Watched::Folder(path) => folders_of(path),
                Watched::File(_) | Watched::Files(_) => Vec::new(),
            };
            return Ok(Self { seen, folders });
        }
        let watch = Self::look(store, watched)?;
        match watch.seen.unlike(expected) {
            Some(path) => Err(PresentError::Changed(path)),
            None => Ok(watch),
        }
    }

    /// What happened since.
    pub(super) fn end(&self, store: &Store) -> Option<Disturbance> {
        let watched = match &self.seen {
            Seen::Files(files) => {
                Watched::Files(files.iter().map(|(path, _)| path.as_path()).collect())
            }
            Seen::Folder(path, _) => Watched::Folder(path),
        };
        let now = match Self::look(store, &watched) {
            Ok(now) => now,
            Err(PresentError::Changed(path)) => return Some(Disturbance::Changed(path)),
            Err(_) => return Some(Disturbance::Changed(self.first())),
        };
        if let Some(path) = now.seen.differs(&self.seen) {
            return Some(Disturbance::Changed(path));
        }
        if let Some(path) = now.seen.moved(&self.seen) {
            return Some(Disturbance::Touched(path));
        }
        let moved = self.folders.iter().zip(&now.folders).find(|(before, now)| before != now);
        moved.map(|((path, _), _)| Disturbance::Touched(path.clone()))
    }

    fn look(store: &Store, watched: &Watched<'_>) -> Result<Self, PresentError> {
        let file = |path: &Path| match store.digest_file(path, Trust::Cached) {
            Ok(digest) => Ok((path.to_owned(), digest)),
            Err(error) => Err(gone(error, path)),
        };
        let mut folders = Vec::new();
        let seen = match watched {
            Watched::File(path) => Seen::Files(vec![file(path)?]),
            Watched::Files(paths) => {
                let files = paths.par_iter().map(|path| file(path));
                Seen::Files(files.collect::<Result<_, _>>()?)
            }
            Watched::Folder(path) => {
                // First the folders: what comes into one later is then either listed or noticed.
                folders = folders_of(path);
                match store.digest_folder(path, Trust::Cached) {
                    Ok(found) => Seen::Folder(path.to_path_buf(), Box::new(found)),
                    Err(FolderError::Source(error)) => return Err(gone(error, path)),
                    Err(FolderError::Refused { path: inner, .. }) => {
                        return Err(PresentError::Changed(path.join(inner)));
                    }
                }
            }
        };
        Ok(Self { seen, folders })
    }

    fn first(&self) -> PathBuf {
        match &self.seen {
            Seen::Files(files) => files.first().map_or_else(PathBuf::new, |(path, _)| path.clone()),
            Seen::Folder(path, _) => path.clone(),
        }
    }
}

/// What a source has to hold.
pub(super) enum Expected<'a> {
    /// Files, in the order of the watched ones.
    Files(Vec<&'a FileDigest>),
    /// A folder.
    Folder(&'a SourceFolder),
}

impl Seen {
    fn from(watched: &Watched<'_>, expected: &Expected<'_>) -> Option<Self> {
        match (watched, expected) {
            (Watched::File(path), Expected::Files(files)) => {
                let digest = **files.first()?;
                Some(Self::Files(vec![(path.to_path_buf(), digest)]))
            }
            (Watched::Folder(path), Expected::Folder(found)) => {
                Some(Self::Folder(path.to_path_buf(), Box::new((*found).clone())))
            }
            _ => None,
        }
    }

    /// Where it holds something else than it has to.
    fn unlike(&self, expected: &Expected<'_>) -> Option<PathBuf> {
        match (self, expected) {
            (Self::Files(now), Expected::Files(expected)) => now
                .iter()
                .zip(expected)
                .find(|((_, now), expected)| content(now) != content(expected))
                .map(|((path, _), _)| path.clone()),
            (Self::Folder(path, now), Expected::Folder(expected)) => different(path, now, expected),
            (Self::Files(_), Expected::Folder(_)) | (Self::Folder(..), Expected::Files(_)) => None,
        }
    }

    /// Where it holds something else than before.
    fn differs(&self, before: &Self) -> Option<PathBuf> {
        match before {
            Self::Files(files) => {
                self.unlike(&Expected::Files(files.iter().map(|(_, digest)| digest).collect()))
            }
            Self::Folder(_, found) => self.unlike(&Expected::Folder(found)),
        }
    }

    /// A file that somebody has been at.
    fn moved(&self, before: &Self) -> Option<PathBuf> {
        match (self, before) {
            (Self::Files(now), Self::Files(before)) => {
                let both = now.iter().zip(before);
                both.into_iter().find(|(now, before)| now != before).map(|(now, _)| now.0.clone())
            }
            (Self::Folder(path, now), Self::Folder(_, before)) if now != before => {
                let files = now.files().into_iter().zip(before.files());
                let moved = files.into_iter().find(|(now, before)| now != before);
                Some(moved.map_or_else(|| path.clone(), |((name, _), _)| path.join(name)))
            }
            _ => None,
        }
    }
}

fn content(file: &FileDigest) -> (Digest, bool) {
    (file.digest, file.executable)
}

/// Where a folder differs from what it has to hold, as exactly as can be told.
fn different(path: &Path, now: &SourceFolder, expected: &SourceFolder) -> Option<PathBuf> {
    let object: fn(&SourceFolder) -> Object = SourceFolder::object;
    if object(now) == object(expected) {
        return None;
    }
    let by_name = |folder: &SourceFolder| -> std::collections::BTreeMap<String, (Digest, bool)> {
        folder.files().into_iter().map(|(name, file)| (name, content(&file))).collect()
    };
    let (now, expected) = (by_name(now), by_name(expected));
    let names = now.keys().chain(expected.keys());
    let mut differing = names.filter(|name| now.get(*name) != expected.get(*name));
    Some(differing.next().map_or_else(|| path.to_owned(), |name| path.join(name)))
}

/// What cannot be read any more has changed.
fn gone(error: SourceError, path: &Path) -> PresentError {
    match error {
        SourceError::Fs(error) if error.is_absent() => PresentError::Changed(error.path),
        SourceError::Kind(path) => PresentError::Changed(path),
        SourceError::Unsteady(_) => PresentError::Changed(path.to_owned()),
        error => error.into(),
    }
}

fn folders_of(top: &Path) -> Vec<(PathBuf, FileIdentity)> {
    let entries = WalkDir::new(top).sort_by_file_name().into_iter().flatten();
    entries
        .filter(|entry| entry.file_type().is_dir())
        .filter_map(|entry| {
            let identity = FileIdentity::of(&fs::metadata(entry.path()).ok()?);
            Some((entry.into_path(), identity))
        })
        .collect()
}
