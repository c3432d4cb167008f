//! What sources stand for: recipe paths, folders, globs and deployment pointers become content.
//!
//! A source is hashed when a build starts. Its bytes go into the store only when a step is about to read them (a
//! *snapshot*), so that a build with nothing to do copies nothing. Large sources are not copied at all: the step
//! reads them in place, and they are looked at again when it is done. This module is unaware of
//! steps and keys.

mod listing;
mod local;
mod present_error;
#[cfg(test)]
mod tests;
mod together;
mod watch;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use kiln_cache::{FolderError, Object, SourceFolder, Store, Trust};

use self::{
    listing::{Listing, matcher, search},
    local::{Local, LocalFile, Shape, tree_object},
};
pub use self::{
    listing::{Problem, is_glob},
    present_error::PresentError,
    watch::Disturbance,
};
use crate::{
    diagnostic::{Diagnostic, chain},
    graph::{Absent, Origin, Source},
    place::extension,
};

/// Sources up to this many bytes are snapshotted into the store when a step reads them.
pub const SNAPSHOT_LIMIT: u64 = 256 << 20;

/// The same for how many files a source has: each takes an inode of the store and some time to make, however small it is.
pub const SNAPSHOT_FILES: u64 = 50_000;

/// The folder of links beside a recipe: never part of a source.
pub const RESULT_FOLDER: &str = "result";

/// What deployments point at now; owned here, answered by whoever keeps deployments.
pub trait Pointers: Sync {
    /// The release that `deployment` of `recipe` runs, if it runs any.
    ///
    /// # Errors
    /// A one-line reason, if the pointer cannot be read.
    fn current(&self, recipe: &str, deployment: &str) -> Result<Option<Object>, String>;
}

/// Where and how sources are read.
pub struct Reader<'a> {
    /// The store.
    pub store: &'a Store,
    /// The folder that the recipe stands in.
    pub root: &'a Path,
    /// The recipe's name, whose deployments are meant.
    pub recipe: &'a str,
    /// What deployments point at.
    pub pointers: &'a dyn Pointers,
    /// Whether the stat cache is believed.
    pub trust: Trust,
    /// See [`SNAPSHOT_LIMIT`].
    pub snapshot_limit: u64,
    /// See [`SNAPSHOT_FILES`].
    pub snapshot_files: u64,
}

/// A source, resolved to content.
#[derive(Debug)]
pub struct Resolved {
    /// What it is; `None` if it is absent and that was accepted.
    pub object: Option<Object>,
    /// The extension under which steps see it.
    pub extension: String,
    /// Its size.
    pub bytes: u64,
    local: Option<Local>,
}

impl Reader<'_> {
    /// What `source` stands for now.
    ///
    /// # Errors
    /// A diagnostic at the source's definition: it is missing, leaves the recipe, or cannot be read.
    pub fn resolve(&self, source: &Source) -> Result<Resolved, Diagnostic> {
        match &source.origin {
            Origin::Path(path) => self.resolve_path(source, path),
            Origin::Glob(pattern) => self.resolve_glob(source, pattern),
            Origin::Deployment { deployment, output, absent } => {
                self.resolve_pointer(source, deployment, output, *absent)
            }
        }
    }

    /// What is wrong with the path or pattern of `source`, if anything is; its content is not read.
    pub fn look(&self, source: &Source) -> Option<Diagnostic> {
        let found = match &source.origin {
            Origin::Path(path) => self.inside(path).map(drop),
            Origin::Glob(pattern) => self.matches(pattern),
            Origin::Deployment { .. } => Ok(()),
        };
        found.err().map(|problem| problem.at(source))
    }

    /// The same for what a step's `files` names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn look_for_files(&self, pattern: &str) -> Result<(), Problem> {
        if is_glob(pattern) { self.matches(pattern) } else { self.inside(pattern).map(drop) }
    }

    fn matches(&self, pattern: &str) -> Result<(), Problem> {
        match self.glob(pattern)?.files.is_empty() {
            true => Err(Problem::nothing_matches(pattern)),
            false => Ok(()),
        }
    }

    /// The files that `pattern` (a path, a folder or a glob, relative to the recipe) names, by recipe-relative path.
    ///
    /// # Errors
    /// A one-line reason, fit to stand under a caret, and advice.
    pub fn files(&self, pattern: &str) -> Result<BTreeMap<String, (PathBuf, Object)>, Problem> {
        let files = if is_glob(pattern) {
            self.listed(self.glob(pattern)?)?
        } else {
            let path = self.inside(pattern)?;
            if path.is_dir() {
                let folder = self.folder(&path)?;
                let links = folder.links().iter().map(|name| format!("{pattern}/{name}")).collect();
                let links = self.followed(Listing { links, files: Vec::new() })?;
                let mut files = self.listed(links)?;
                files.extend(folder.files().into_iter().map(|(name, digest)| {
                    (format!("{pattern}/{name}"), LocalFile { path: path.join(name), digest })
                }));
                files
            } else {
                vec![(pattern.to_owned(), self.hash(path)?)]
            }
        };
        let named = |(name, file): (String, LocalFile)| {
            let object = file.object();
            (name, (file.path, object))
        };
        Ok(files.into_iter().map(named).collect())
    }

    fn resolve_path(&self, source: &Source, path: &str) -> Result<Resolved, Diagnostic> {
        let report = |problem: Problem| problem.at(source);
        let full = self.inside(path).map_err(report)?;
        let name = path.rsplit('/').next().unwrap_or(path);
        let shape = if full.is_dir() {
            let found = self.folder(&full).map_err(report)?;
            Shape::Folder { path: full, found }
        } else {
            Shape::File(self.hash(full).map_err(report)?)
        };
        let extension = extension(name);
        Ok(self.local(shape, extension))
    }

    fn resolve_glob(&self, source: &Source, pattern: &str) -> Result<Resolved, Diagnostic> {
        let report = |problem: Problem| problem.at(source);
        let listing = self.glob(pattern).map_err(report)?;
        if listing.files.is_empty() {
            return Err(Problem::nothing_matches(pattern).at(source));
        }
        let files = self.listed(listing).map_err(report)?;
        Ok(self.local(Shape::Files(files), String::new()))
    }

    fn local(&self, shape: Shape, extension: String) -> Resolved {
        let (object, bytes) = match &shape {
            Shape::File(file) => (file.object(), file.digest.bytes),
            Shape::Folder { found, .. } => (found.object(), found.bytes()),
            Shape::Files(files) => tree_object(files),
        };
        let count = match &shape {
            Shape::File(_) => 1,
            Shape::Folder { found, .. } => found.file_count(),
            Shape::Files(files) => files.len() as u64,
        };
        let in_place = bytes > self.snapshot_limit || count > self.snapshot_files;
        let local = Local::new(shape, in_place);
        Resolved { object: Some(object), extension, bytes, local: Some(local) }
    }

    fn resolve_pointer(
        &self,
        source: &Source,
        deployment: &str,
        output: &str,
        absent: Absent,
    ) -> Result<Resolved, Diagnostic> {
        let fail = |label: String| {
            Diagnostic::new(format!("source `{}` cannot be resolved", source.name))
                .at(source.at.clone(), label)
        };
        let release = self
            .pointers
            .current(self.recipe, deployment)
            .map_err(|reason| fail(reason).help("`kiln generations` lists what was deployed"))?;
        let Some(release) = release else {
            return match absent {
                Absent::Accept => {
                    Ok(Resolved { object: None, extension: String::new(), bytes: 0, local: None })
                }
                Absent::Error => Err(fail(format!("deployment `{deployment}` runs nothing yet"))
                    .help("add `absent = \"accept\"` for the first build")),
            };
        };
        let name = output.rsplit('/').next().unwrap_or(output);
        if output.is_empty() {
            return Ok(Resolved {
                object: Some(release),
                extension: String::new(),
                bytes: 0,
                local: None,
            });
        }
        let part = self.store.subobject(&release.digest, output).map_err(|error| {
            fail(format!("the release that `{deployment}` runs cannot be read: {}", chain(&error)))
                .help("`kiln store verify` tells what is damaged; deploy another release, or roll back")
        })?;
        match part {
            Some(part) => Ok(Resolved {
                object: Some(part.object),
                extension: extension(name),
                bytes: part.bytes,
                local: None,
            }),
            None => Err(fail(format!("the release that `{deployment}` runs has no `{output}`"))
                .help("`kiln show` with the release's digest lists what it holds")),
        }
    }

    /// The full path of a recipe-relative one, which must exist, and be inside the recipe once links are followed.
    fn inside(&self, path: &str) -> Result<PathBuf, Problem> {
        let full = self.root.join(path);
        let real = match full.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.missing(path, &full));
            }
            Err(error) => return Err(Problem::unreadable(path, &error)),
        };
        let root = self.root.canonicalize().map_err(|error| Problem::unreadable(".", &error))?;
        if real.starts_with(&root) {
            return Ok(real);
        }
        Err(Problem {
            message: format!("`{path}` leaves the recipe's folder"),
            label: "a link leads out of the folder that the recipe stands in".into(),
            help:
                "copy or move it into the recipe's folder, so that a clone of the recipe has it too"
                    .into(),
        })
    }

    fn missing(&self, path: &str, full: &Path) -> Problem {
        if full.symlink_metadata().is_ok() {
            return Problem {
                message: format!("`{path}` is a link that leads nowhere"),
                label: "what it points at does not exist".into(),
                help: "restore what it points at, or replace the link by the file".into(),
            };
        }
        let near = full.parent().and_then(|parent| {
            let wanted = full.file_name()?.to_str()?;
            let names: Vec<String> = fs::read_dir(parent)
                .ok()?
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .collect();
            crate::diagnostic::nearest(wanted, names.iter().map(String::as_str)).map(str::to_owned)
        });
        Problem {
            message: format!("`{path}` does not exist"),
            label: "no such file or folder beside the recipe".into(),
            help: match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "paths are relative to the folder that the recipe stands in".into(),
            },
        }
    }

    fn hash(&self, path: PathBuf) -> Result<LocalFile, Problem> {
        let shown = path.strip_prefix(self.root).unwrap_or(&path).display().to_string();
        let kind =
            fs::metadata(&path).map_err(|error| Problem::unreadable(&shown, &error))?.file_type();
        if !kind.is_file() {
            return Err(Problem {
                message: format!("`{shown}` is neither a file nor a folder"),
                label: "a device, a pipe or a socket has no content to hash".into(),
                help: "name a regular file".into(),
            });
        }
        match self.store.digest_file(&path, self.trust) {
            Ok(digest) => Ok(LocalFile { path, digest }),
            Err(error) => Err(Problem {
                message: format!("`{shown}` cannot be read"),
                label: chain(&error),
                help: "check its permissions, and that nothing is writing to it".into(),
            }),
        }
    }

    /// A folder that is content, with all that is in it.
    fn folder(&self, path: &Path) -> Result<SourceFolder, Problem> {
        self.store.digest_folder(path, self.trust).map_err(|error| match error {
            FolderError::Refused { path, refusal } => Problem::refused(&path, &refusal),
            FolderError::Source(error) => {
                let shown = path.strip_prefix(self.root).unwrap_or(path).display();
                Problem {
                    message: format!("the folder `{shown}` cannot be read"),
                    label: chain(&error),
                    help: "check its permissions, and that nothing is writing to it".into(),
                }
            }
        })
    }

    fn glob(&self, pattern: &str) -> Result<Listing, Problem> {
        let matcher = matcher(pattern)?;
        let fixed: PathBuf = Path::new(pattern)
            .components()
            .take_while(|part| !is_glob(&part.as_os_str().to_string_lossy()))
            .collect();
        let base = self.root.join(&fixed);
        if !base.is_dir() {
            return Ok(Listing::default());
        }
        let base = self.inside(&fixed.to_string_lossy())?;
        let result = self.root.canonicalize().map(|root| root.join(RESULT_FOLDER)).ok();
        let store = self.store.home().canonicalize().ok();
        let hidden_wanted = pattern.split('/').any(|part| part.starts_with('.'));
        let enter = |path: &Path| {
            let hidden =
                path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            // A store inside of the recipe would make each build's outputs the next one's input.
            (hidden_wanted || !hidden)
                && Some(path) != result.as_deref()
                && Some(path) != store.as_deref()
        };
        let mut listing = search(&base, &enter)?.prefixed(&fixed.to_string_lossy());
        listing.files.retain(|(name, _)| matcher.is_match(name));
        listing.links.retain(|name| matcher.is_match(name));
        self.followed(listing)
    }

    /// The listing with each link replaced by the file that it leads to, which has to be inside the recipe.
    fn followed(&self, mut listing: Listing) -> Result<Listing, Problem> {
        for name in std::mem::take(&mut listing.links) {
            let path = self.inside(&name)?;
            if path.is_dir() {
                return Err(Problem {
                    message: format!("`{name}` is a link to a folder"),
                    label: "what is named file by file cannot hold a whole folder in one name"
                        .into(),
                    help: "name that folder itself, or replace the link by its content".into(),
                });
            }
            listing.files.push((name, path));
        }
        listing.files.sort();
        Ok(listing)
    }
}

impl Resolved {
    /// Whether it is read where it lies, and has to be looked at again afterwards.
    pub fn is_in_place(&self) -> bool {
        self.local.as_ref().is_some_and(Local::is_in_place)
    }

    /// Makes its bytes available, and tells at which host path a step can read them.
    ///
    /// # Errors
    /// If it is not what it was when it was hashed, or the store cannot take it.
    pub fn present(&self, store: &Store) -> Result<PathBuf, PresentError> {
        let object = self.object.ok_or(PresentError::Absent)?;
        match &self.local {
            Some(local) => local.present(store, object),
            None => Ok(store.path(&object)),
        }
    }

    /// Where its bytes lie when the build is over. A large glob has no such place: its files are laid out for the
    /// steps that read them.
    pub(crate) fn lasting(&self, store: &Store) -> Option<PathBuf> {
        let lasts = self.local.as_ref().is_none_or(Local::is_lasting);
        lasts.then(|| self.present(store).ok()).flatten()
    }

    /// Copies what a step would read where it lies into the store, so that it stays.
    ///
    /// # Errors
    /// If it is not what it was when it was hashed, or the store cannot take it.
    pub fn capture(&self, store: &Store) -> Result<(), PresentError> {
        let object = self.object.ok_or(PresentError::Absent)?;
        self.local.as_ref().map_or(Ok(()), |local| local.copied(store, object).map(drop))
    }

    /// Makes its bytes available as [`present`](Self::present) does, and begins to watch what is read where it lies;
    /// `undisturbed` unless a reading of it was disturbed before.
    ///
    /// # Errors
    /// If it is not what it was when it was hashed, or the store cannot take it.
    pub fn begin(&self, store: &Store, undisturbed: bool) -> Result<Reading, PresentError> {
        let object = self.object.ok_or(PresentError::Absent)?;
        let (path, watch) = match &self.local {
            Some(local) => local.begin(store, object, undisturbed)?,
            None => (store.path(&object), None),
        };
        Ok(Reading { path, watch })
    }

    /// The file that is no longer what it was when it was hashed, if there is one. Always none for snapshots.
    pub fn changed(&self) -> Option<PathBuf> {
        self.local.as_ref().filter(|local| local.is_in_place()).and_then(Local::changed)
    }
}

/// A source that a step reads.
#[derive(Debug)]
pub struct Reading {
    /// Where it can be read.
    pub path: PathBuf,
    watch: Option<watch::Watch>,
}

impl Reading {
    /// What happened to it since the reading began. Always nothing for what is in the store.
    pub fn disturbance(&self, store: &Store) -> Option<Disturbance> {
        self.watch.as_ref()?.end(store)
    }
}
