//! What sources stand for: recipe paths, folders, globs and deployment pointers become content.
//!
//! A source is hashed when a build starts. Its bytes go into the store only when a step is about to read them (a
//! *snapshot*), so that a build with nothing to do copies nothing. Large sources are not copied at all: the step
//! reads them in place, and they are looked at again when it is done. This module is unaware of
//! steps and keys.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Component, Path, PathBuf},
    sync::OnceLock,
};

use globset::{GlobBuilder, GlobMatcher};
use kiln_cache::{
    Digest, FileDigest, FileIdentity, FsError, Ingest, IngestError, Object, Scratch,
    SourceError as HashError, Store, TreeError, Trust,
};
use rayon::prelude::*;
use walkdir::WalkDir;

use crate::{
    diagnostic::Diagnostic,
    graph::{Absent, Origin, Source},
    place::extension,
};

/// Sources up to this many bytes are snapshotted into the store when a step reads them.
pub const SNAPSHOT_LIMIT: u64 = 256 << 20;

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

/// A source on the local disk.
#[derive(Debug)]
struct Local {
    shape: Shape,
    in_place: bool,
    /// Laid out when a step first reads a large glob.
    farm: OnceLock<Farm>,
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

#[derive(Debug)]
enum Shape {
    File(LocalFile),
    Tree {
        /// The folder, if the source is one; a glob has none.
        folder: Option<PathBuf>,
        files: Vec<(String, LocalFile)>,
        links: Vec<(String, String)>,
    },
}

#[derive(Debug)]
struct LocalFile {
    path: PathBuf,
    digest: FileDigest,
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

    /// The files that `pattern` (a path, a folder or a glob, relative to the recipe) names, by recipe-relative path.
    ///
    /// # Errors
    /// A one-line reason, fit to stand under a caret, and advice.
    pub fn files(&self, pattern: &str) -> Result<BTreeMap<String, (PathBuf, Object)>, Problem> {
        let tree = if is_glob(pattern) {
            self.listed(self.glob(pattern)?)?
        } else {
            let path = self.inside(pattern)?;
            if path.is_dir() {
                let listing = walk(&path, None)?.prefixed(pattern);
                self.listed(listing)?
            } else {
                let file = self.hash(path)?;
                return Ok(BTreeMap::from([(
                    pattern.to_owned(),
                    (file.path.clone(), file.object()),
                )]));
            }
        };
        let Shape::Tree { files, .. } = tree else { return Ok(BTreeMap::new()) };
        Ok(files
            .into_iter()
            .map(|(name, file)| (name, (file.path.clone(), file.object())))
            .collect())
    }

    fn resolve_path(&self, source: &Source, path: &str) -> Result<Resolved, Diagnostic> {
        let report = |problem: Problem| problem.at(source, path);
        let full = self.inside(path).map_err(report)?;
        let name = path.rsplit('/').next().unwrap_or(path);
        let shape = if full.is_dir() {
            self.listed(walk(&full, None).map_err(report)?).map_err(report)?
        } else {
            Shape::File(self.hash(full).map_err(report)?)
        };
        let extension = extension(name);
        Ok(self.local(shape, extension))
    }

    fn resolve_glob(&self, source: &Source, pattern: &str) -> Result<Resolved, Diagnostic> {
        let report = |problem: Problem| problem.at(source, pattern);
        let listing = self.glob(pattern).map_err(report)?;
        if listing.files.is_empty() {
            return Err(Problem {
                message: format!("no file matches `{pattern}`"),
                label: "nothing matches this pattern".into(),
                help: "`*` stays within a folder, `**` does not; hidden files match only a pattern that names the dot"
                    .into(),
            }
            .at(source, pattern));
        }
        let shape = self.listed(listing).map_err(report)?;
        Ok(self.local(shape, String::new()))
    }

    fn local(&self, shape: Shape, extension: String) -> Resolved {
        let (object, bytes) = match &shape {
            Shape::File(file) => (file.object(), file.digest.bytes),
            Shape::Tree { files, links, .. } => tree_object(files, links),
        };
        let in_place = bytes > self.snapshot_limit;
        let local = Local { shape, in_place, farm: OnceLock::new() };
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
                    .help(format!("deploy a release first: kiln deploy {deployment}"))
                    .help(
                        "or say `absent = \"accept\"` if a first build has nothing to compare with",
                    )),
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

    fn listed(&self, listing: Listing) -> Result<Shape, Problem> {
        let files = listing
            .files
            .into_par_iter()
            .map(|(name, path)| Ok((name, self.hash(path)?)))
            .collect::<Result<Vec<_>, Problem>>()?;
        Ok(Shape::Tree { folder: listing.folder, files, links: listing.links })
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
        let mut listing = walk(&base, result.as_deref())?.prefixed(&fixed.to_string_lossy());
        let hidden_wanted = pattern.split('/').any(|part| part.starts_with('.'));
        let wanted = |name: &str| {
            matcher.is_match(name)
                && (hidden_wanted || !name.split('/').any(|part| part.starts_with('.')))
        };
        listing.files.retain(|(name, _)| wanted(name));
        // A pattern names files; a link among them would point at what the pattern may have left out.
        listing.links.clear();
        listing.folder = None;
        Ok(listing)
    }
}

impl Resolved {
    /// Whether it is read where it lies, and has to be looked at again afterwards.
    pub fn is_in_place(&self) -> bool {
        self.local.as_ref().is_some_and(|local| local.in_place)
    }

    /// Makes its bytes available, and tells at which host path a step can read them.
    ///
    /// # Errors
    /// If it is not what it was when it was hashed, or the store cannot take it.
    pub fn present(&self, store: &Store) -> Result<PathBuf, PresentError> {
        let object = self.object.ok_or(PresentError::Absent)?;
        let Some(local) = &self.local else { return Ok(store.path(&object)) };
        match &local.shape {
            Shape::File(file) if local.in_place => Ok(file.path.clone()),
            Shape::Tree { folder: Some(folder), .. } if local.in_place => Ok(folder.clone()),
            Shape::Tree { files, .. } if local.in_place => local.farm(store, files),
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
                same(object, now, &local.changed().unwrap_or(first))?;
                Ok(store.path(&object))
            }
        }
    }

    /// The file that is no longer what it was when it was hashed, if there is one. Always none for snapshots.
    pub fn changed(&self) -> Option<PathBuf> {
        self.local.as_ref().filter(|local| local.in_place).and_then(Local::changed)
    }
}

impl Local {
    fn changed(&self) -> Option<PathBuf> {
        let known = self.farm.get().map(|farm| farm.identities.as_slice());
        let moved = |(number, file): (usize, &LocalFile)| {
            let expected = known.map_or(file.digest.identity, |identities| identities[number]);
            (identity(&file.path) != Some(expected)).then(|| file.path.clone())
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
        if let Some(farm) = self.farm.get() {
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
        let farm = Farm { _scratch: scratch, folder, identities };
        Ok(self.farm.get_or_init(|| farm).folder.clone())
    }
}

/// The folder, if it no longer lists what it listed.
fn relisted(
    folder: &Path,
    files: &[(String, LocalFile)],
    links: &[(String, String)],
) -> Option<PathBuf> {
    let now = walk(folder, None).ok();
    let equal = now.is_some_and(|now| {
        now.files.iter().map(|(name, _)| name).eq(files.iter().map(|(name, _)| name))
            && now.links == links
    });
    (!equal).then(|| folder.to_owned())
}

impl LocalFile {
    fn object(&self) -> Object {
        let FileDigest { digest, executable, .. } = self.digest;
        if executable { Object::program(digest) } else { Object::file(digest) }
    }
}

/// Whether a recipe means a pattern by this text.
pub fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// Why a path or pattern of a recipe names no content.
#[derive(Debug)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// Why.
    pub label: String,
    /// How to go on.
    pub help: String,
}

impl Problem {
    fn unreadable(path: &str, error: &io::Error) -> Self {
        Self {
            message: format!("`{path}` cannot be read"),
            label: error.to_string(),
            help: "check its permissions".into(),
        }
    }

    fn at(self, source: &Source, _path: &str) -> Diagnostic {
        Diagnostic::new(format!("source `{}`: {}", source.name, self.message))
            .at(source.at.clone(), self.label)
            .help(self.help)
    }
}

#[derive(Debug, Default)]
struct Listing {
    folder: Option<PathBuf>,
    files: Vec<(String, PathBuf)>,
    links: Vec<(String, String)>,
}

impl Listing {
    fn prefixed(mut self, prefix: &str) -> Self {
        if !prefix.is_empty() {
            self.files.iter_mut().for_each(|(name, _)| *name = format!("{prefix}/{name}"));
            self.links.iter_mut().for_each(|(name, _)| *name = format!("{prefix}/{name}"));
        }
        self
    }
}

/// All files and links below `folder`, sorted, by their path from it; without the folder `excluded`.
fn walk(folder: &Path, excluded: Option<&Path>) -> Result<Listing, Problem> {
    let mut listing = Listing { folder: Some(folder.to_owned()), ..Listing::default() };
    let entries = WalkDir::new(folder)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| Some(entry.path()) != excluded);
    for entry in entries {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(folder).display().to_string();
            Problem {
                message: format!("`{path}` cannot be read"),
                label: error.to_string(),
                help: "check its permissions".into(),
            }
        })?;
        let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let Some(name) = relative.to_str() else {
            return Err(Problem {
                message: format!("`{}` has a name that is not UTF-8", relative.display()),
                label: "such a name cannot be written down in the same way on every machine".into(),
                help: "rename it".into(),
            });
        };
        let kind = entry.file_type();
        if kind.is_symlink() {
            let target = link_target(entry.path(), folder, name)?;
            listing.links.push((name.to_owned(), target));
        } else if kind.is_file() {
            listing.files.push((name.to_owned(), entry.path().to_owned()));
        } else if !kind.is_dir() {
            return Err(Problem {
                message: format!("`{name}` is neither a file nor a folder"),
                label: "a device, a pipe or a socket has no content to hash".into(),
                help: "remove it, or name the files that are meant".into(),
            });
        }
    }
    Ok(listing)
}

/// Where a link in a folder points, if that is inside the folder.
fn link_target(link: &Path, folder: &Path, name: &str) -> Result<String, Problem> {
    let leaves = |label: &str| Problem {
        message: format!("the link `{name}` leaves its folder"),
        label: label.to_owned(),
        help: "replace it by what it points at".into(),
    };
    let target = fs::read_link(link).map_err(|error| Problem::unreadable(name, &error))?;
    let text = target.to_str().ok_or_else(|| leaves("its target is not UTF-8"))?;
    let mut depth = link.parent().map_or(0, |parent| {
        parent.strip_prefix(folder).map_or(0, |inner| inner.components().count())
    });
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return Err(leaves("only relative links that stay inside the folder are content")),
        }
    }
    Ok(text.to_owned())
}

fn matcher(pattern: &str) -> Result<GlobMatcher, Problem> {
    let glob =
        GlobBuilder::new(pattern).literal_separator(true).build().map_err(|error| Problem {
            message: format!("`{pattern}` is not a pattern"),
            label: error.kind().to_string(),
            help: "patterns are made of `*`, `**`, `?`, `[abc]` and `{one,two}`".into(),
        })?;
    Ok(glob.compile_matcher())
}

fn tree_object(files: &[(String, LocalFile)], links: &[(String, String)]) -> (Object, u64) {
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

fn identity(path: &Path) -> Option<FileIdentity> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(path).ok()?;
    Some(FileIdentity {
        dev: meta.dev(),
        ino: meta.ino(),
        size: meta.size(),
        mtime_ns: meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
        ctime_ns: meta.ctime() * 1_000_000_000 + meta.ctime_nsec(),
    })
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
