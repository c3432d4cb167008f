//! Many sources at once: paths are grouped by the folder that they lie in, and each folder's files are looked at and
//! looked up together, on all cores.
//!
//! Only what is plainly a file is dealt with here. Links, folders and whatever is wrong with a path take the way of a
//! single source, which knows what to say about them.

use std::{
    collections::HashMap,
    fs::File,
    path::{Component, Path, PathBuf},
};

use rayon::prelude::*;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{
    Reader, Resolved,
    listing::{Listing, Problem},
    local::{LocalFile, Shape},
};
use crate::{
    diagnostic::Diagnostic,
    graph::{Origin, Source},
    place::extension,
};

impl Reader<'_> {
    /// What each of `sources` stands for now, as [`Reader::resolve`] tells it.
    pub fn resolve_all(&self, sources: &[&Source]) -> Vec<Result<Resolved, Diagnostic>> {
        let paths: Vec<Option<&str>> = sources
            .iter()
            .map(|source| match &source.origin {
                Origin::Path(path) => Some(path.as_str()),
                Origin::Glob(_) | Origin::Deployment { .. } => None,
            })
            .collect();
        let found = self.plain_files(&paths);
        let both = sources.par_iter().zip(paths).zip(found);
        both.map(|((source, path), file)| match (path, file) {
            (Some(path), Some(file)) => {
                let name = path.rsplit('/').next().unwrap_or(path);
                Ok(self.local(Shape::File(file), extension(name)))
            }
            _ => self.resolve(source),
        })
        .collect()
    }

    /// The files of a listing, hashed.
    pub(super) fn listed(&self, listing: Listing) -> Result<Vec<(String, LocalFile)>, Problem> {
        let names: Vec<Option<&str>> =
            listing.files.iter().map(|(name, _)| Some(name.as_str())).collect();
        let found = self.plain_files(&names);
        let both = listing.files.into_par_iter().zip(found);
        both.map(|((name, path), file)| match file {
            Some(file) => Ok((name, file)),
            None => Ok((name, self.hash(path)?)),
        })
        .collect()
    }

    /// The files at recipe-relative paths, as far as they are regular files in folders inside of the recipe.
    fn plain_files(&self, paths: &[Option<&str>]) -> Vec<Option<LocalFile>> {
        let mut found: Vec<Option<LocalFile>> = paths.iter().map(|_| None).collect();
        let Some(root) = Root::open(self.root) else { return found };
        let mut folders: HashMap<&str, Vec<(usize, &str)>> = HashMap::new();
        for (nth, path) in paths.iter().enumerate() {
            let Some(path) = path else { continue };
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            if !matches!(name, "" | "." | "..") {
                folders.entry(folder).or_default().push((nth, name));
            }
        }
        let folders: Vec<_> = folders.into_iter().collect();
        let read = folders.into_par_iter().flat_map_iter(|(folder, files)| {
            let read = root.folder(folder).and_then(|folder| {
                let names: Vec<&str> = files.iter().map(|(_, name)| *name).collect();
                let digests = self.store.digest_files(&folder, &names, self.trust).ok()?;
                let files = files.into_iter().zip(digests).filter_map(|((nth, name), digest)| {
                    let file = LocalFile { path: folder.join(name), digest: digest.ok()? };
                    Some((nth, file))
                });
                Some(files.collect::<Vec<_>>())
            });
            read.unwrap_or_default()
        });
        for (nth, file) in read.collect::<Vec<_>>() {
            found[nth] = Some(file);
        }
        found
    }
}

/// The recipe's folder, open.
struct Root {
    path: PathBuf,
    file: File,
}

impl Root {
    fn open(path: &Path) -> Option<Self> {
        let path = path.canonicalize().ok()?;
        Some(Self { file: File::open(&path).ok()?, path })
    }

    /// The real path of a folder inside, if it is one.
    fn folder(&self, relative: &str) -> Option<PathBuf> {
        if relative.is_empty() {
            return Some(self.path.clone());
        }
        let full = self.path.join(relative);
        let plain =
            Path::new(relative).components().all(|part| matches!(part, Component::Normal(_)));
        // One call where there are no links on the way; a kernel that lacks it answers no.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        if plain && rustix::fs::openat2(&self.file, relative, flags, Mode::empty(), within).is_ok()
        {
            return Some(full);
        }
        full.canonicalize().ok().filter(|real| real.starts_with(&self.path))
    }
}
