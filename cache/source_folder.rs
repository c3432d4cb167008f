//! A folder outside of the store: what lies in it, the digests of its files, and whether it still is what it was.
//!
//! Folders are listed, looked at, looked up and hashed in one walk on all cores, each file by its name from its open
//! folder. Its digest is that of the tree which the store would make of it, empty folders included. Unaware of why a
//! folder is read.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::digest::Digest;
use crate::directory::{ListingDigest, MAX_DEPTH};
use crate::look::{FileIdentity, OpenFolder, Sort};
use crate::object::Object;
use crate::scan::{self, MAX_PATH, Refusal, ScanError};
use crate::source::{FileDigest, SourceError, TOGETHER, Trust};
use crate::store::Store;
use crate::tree::{Tree, TreeDir, TreeFile, TreeLink};

/// So many files of one folder are hashed before what is known of them is packed away.
const BATCH: usize = 1 << 15;

/// A folder that cannot be hashed.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Something in it cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Something in it has no place in a tree.
    #[error("{path}: {refusal}")]
    Refused {
        /// Path relative to the folder.
        path: String,
        /// What is wrong with it.
        refusal: Refusal,
    },
}

impl From<crate::fsio::FsError> for FolderError {
    fn from(error: crate::fsio::FsError) -> Self {
        Self::Source(error.into())
    }
}

impl From<ScanError> for FolderError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Fs(error) => error.into(),
            ScanError::Refused(path, refusal) => Self::Refused { path, refusal },
        }
    }
}

/// A folder and all below it, as it was when it was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFolder {
    pub(crate) files: Vec<SourceFile>,
    pub(crate) dirs: Vec<(Box<str>, SourceFolder)>,
    pub(crate) links: Vec<(Box<str>, Box<str>)>,
    digest: Digest,
    listing_bytes: u64,
    bytes: u64,
    count: u64,
}

/// A file in it; there may be millions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceFile {
    pub(crate) name: Box<str>,
    pub(crate) digest: Digest,
    pub(crate) executable: bool,
    pub(crate) identity: FileIdentity,
}

impl SourceFile {
    fn new(name: Box<str>, found: &FileDigest) -> Self {
        let FileDigest { digest, executable, identity, .. } = *found;
        Self { name, digest, executable, identity }
    }

    pub(crate) fn found(&self) -> FileDigest {
        let &Self { digest, executable, identity, .. } = self;
        FileDigest { digest, bytes: identity.size, executable, identity }
    }
}

impl SourceFolder {
    fn new(
        files: Vec<SourceFile>,
        dirs: Vec<(Box<str>, Self)>,
        links: Vec<(Box<str>, Box<str>)>,
    ) -> Self {
        let mut listing = ListingDigest::default();
        for file in &files {
            listing.file(&file.name, &file.digest, file.identity.size, file.executable);
        }
        for (name, dir) in &dirs {
            listing.dir(name, &dir.digest, dir.listing_bytes);
        }
        for (name, target) in &links {
            listing.link(name, target);
        }
        let (digest, listing_bytes) = listing.finish();
        let own: u64 = files.iter().map(|file| file.identity.size).sum();
        Self {
            bytes: own + dirs.iter().map(|(_, dir)| dir.bytes).sum::<u64>(),
            count: files.len() as u64 + dirs.iter().map(|(_, dir)| dir.count).sum::<u64>(),
            files,
            dirs,
            links,
            digest,
            listing_bytes,
        }
    }

    /// The tree that the store would make of it.
    #[must_use]
    pub fn object(&self) -> Object {
        Object::tree(self.digest)
    }

    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many files there are.
    #[must_use]
    pub fn file_count(&self) -> u64 {
        self.count
    }

    /// Every file, by its path relative to the folder.
    #[must_use]
    pub fn files(&self) -> Vec<(String, FileDigest)> {
        let mut found = Vec::new();
        self.each("", &mut |prefix, folder| {
            let files = folder.files.iter();
            found.extend(files.map(|file| (format!("{prefix}{}", file.name), file.found())));
        });
        found
    }

    /// Every link, by its path relative to the folder.
    #[must_use]
    pub fn links(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.each("", &mut |prefix, folder| {
            found.extend(folder.links.iter().map(|(name, _)| format!("{prefix}{name}")));
        });
        found
    }

    fn each<'a>(&'a self, prefix: &str, visit: &mut dyn FnMut(&str, &'a Self)) {
        visit(prefix, self);
        for (name, dir) in &self.dirs {
            dir.each(&format!("{prefix}{name}/"), visit);
        }
    }

    fn has_links(&self) -> bool {
        !self.links.is_empty() || self.dirs.iter().any(|(_, dir)| dir.has_links())
    }

    /// Its listing.
    #[must_use]
    pub fn tree(&self) -> Tree {
        let file = |file: &SourceFile| TreeFile {
            name: file.name.to_string(),
            digest: file.digest,
            bytes: file.identity.size,
            executable: file.executable,
        };
        let dir = |(name, dir): &(Box<str>, Self)| TreeDir {
            name: name.to_string(),
            digest: dir.digest,
            listing_bytes: dir.listing_bytes,
            tree: dir.tree(),
        };
        let link = |(name, target): &(Box<str>, Box<str>)| TreeLink {
            name: name.to_string(),
            target: target.to_string(),
        };
        Tree {
            files: self.files.iter().map(file).collect(),
            dirs: self.dirs.iter().map(dir).collect(),
            symlinks: self.links.iter().map(link).collect(),
        }
    }

    /// What in the folder at `path` is not what it was when this was read: a file, or a folder with other names in it.
    #[must_use]
    pub fn changed_at(&self, path: &Path) -> Option<PathBuf> {
        let Ok(folder) = OpenFolder::open(path) else { return Some(path.to_owned()) };
        if !lists(&folder, self) {
            return Some(path.to_owned());
        }
        let moved = |file: &SourceFile| {
            let look = folder.look(&file.name).ok();
            let same = look.is_some_and(|look| {
                look.sort == Sort::File
                    && look.identity == file.identity
                    && look.executable == file.executable
            });
            let still = same || file.found().is_still(&folder.at(&file.name));
            (!still).then(|| folder.at(&file.name))
        };
        let parts = self.files.par_chunks(TOGETHER);
        let file = parts.find_map_first(|files| files.iter().find_map(moved));
        drop(folder);
        file.or_else(|| {
            let dirs = self.dirs.par_iter();
            dirs.find_map_first(|(name, dir)| dir.changed_at(&path.join(&**name)))
        })
    }
}

impl Store {
    /// Reads a folder outside of the store: all that is in it, and the digest of each file, remembered or read. The
    /// path must not end in a link.
    ///
    /// # Errors
    /// If something in it cannot be read, keeps changing, or has no place in a tree; of several, the first that is met by
    /// a walk which goes through files, then links, then folders, each by name.
    pub fn digest_folder(&self, path: &Path, trust: Trust) -> Result<SourceFolder, FolderError> {
        let folder = Walk { store: self, trust }.folder(path, "", 0)?;
        if folder.has_links()
            && let Some((path, target)) = folder.tree().escaping_link()
        {
            let refusal = Refusal::Escapes(target.to_owned());
            return Err(FolderError::Refused { path, refusal });
        }
        Ok(folder)
    }
}

/// Whether a folder has the same names for the same kinds of things, and the same links.
fn lists(folder: &OpenFolder, before: &SourceFolder) -> bool {
    let Ok(Ok(entries)) = folder.entries() else { return false };
    let names =
        |sort: Sort| entries.iter().filter(move |entry| entry.1 == sort).map(|(name, _)| name);
    let known = before.files.len() + before.dirs.len() + before.links.len();
    entries.len() == known
        && names(Sort::File).eq(before.files.iter().map(|file| &file.name))
        && names(Sort::Folder).eq(before.dirs.iter().map(|(name, _)| name))
        && names(Sort::Link).eq(before.links.iter().map(|(name, _)| name))
        && before.links.iter().all(|(name, target)| {
            folder.read_link(name).is_ok_and(|now| now.as_deref() == Some(target))
        })
}

struct Walk<'a> {
    store: &'a Store,
    trust: Trust,
}

impl Walk<'_> {
    fn folder(&self, path: &Path, rel: &str, depth: usize) -> Result<SourceFolder, FolderError> {
        scan::check_place(rel, depth)?;
        // Closed before the folders in it are opened, so that a wide and deep tree needs few open files.
        let (files, links, dirs) = self.listed(&OpenFolder::open(path)?, rel, depth)?;
        let below = dirs.into_par_iter().map(|name| {
            let rel = join(rel, &name);
            let dir = self.folder(&path.join(&*name), &rel, depth + 1)?;
            Ok((name, dir))
        });
        let below: Vec<Result<_, FolderError>> = below.collect();
        // One by one, so that of several problems the first by name is told, however they raced.
        let dirs = below.into_iter().collect::<Result<_, _>>()?;
        Ok(SourceFolder::new(files, dirs, links))
    }

    #[allow(clippy::type_complexity, reason = "three lists of what is in a folder, by kind")]
    fn listed(
        &self,
        folder: &OpenFolder,
        rel: &str,
        depth: usize,
    ) -> Result<(Vec<SourceFile>, Vec<(Box<str>, Box<str>)>, Vec<Box<str>>), FolderError> {
        let refused = |name: &str, refusal| FolderError::Refused { path: join(rel, name), refusal };
        let entries = folder.entries()?.map_err(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            refused(&name, Refusal::Name)
        })?;
        let (mut names, mut links, mut dirs) = (Vec::new(), Vec::new(), Vec::new());
        for (name, sort) in entries {
            if rel.len() + 1 + name.len() > MAX_PATH || depth > MAX_DEPTH {
                scan::check_place(&join(rel, &name), depth)?;
            }
            match sort {
                Sort::File => names.push(name),
                Sort::Folder => dirs.push(name),
                Sort::Link => {
                    let target = folder.read_link(&name)?;
                    let target = target.ok_or_else(|| refused(&name, Refusal::Target))?;
                    links.push((name, target.into()));
                }
                Sort::Special(kind) => return Err(refused(&name, Refusal::Special(kind))),
            }
        }
        Ok((self.files(folder, names)?, links, dirs))
    }

    fn files(
        &self,
        folder: &OpenFolder,
        names: Vec<Box<str>>,
    ) -> Result<Vec<SourceFile>, FolderError> {
        let mut files = Vec::with_capacity(names.len());
        let mut names = names.into_iter();
        loop {
            let batch: Vec<Box<str>> = names.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return Ok(files);
            }
            let parts = batch.par_chunks(TOGETHER);
            let found: Vec<Vec<_>> =
                parts.map(|names| self.store.digest_some(folder, names, self.trust)).collect();
            for (name, found) in batch.into_iter().zip(found.into_iter().flatten()) {
                files.push(SourceFile::new(name, &found?));
            }
        }
    }
}

fn join(rel: &str, name: &str) -> String {
    if rel.is_empty() { name.to_owned() } else { format!("{rel}/{name}") }
}
