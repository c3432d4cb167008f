//! Reads a folder into a [`Tree`], hashing every file; on the way in it also makes the folder
//! canonical. Unaware of where the folder comes from and where it goes.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rayon::prelude::*;

use crate::digest::Digest;
use crate::directory::{MAX_DEPTH, MAX_ENTRIES};
use crate::fsio::{Fs, FsError};
use crate::holes;
use crate::mark::fresh_name;
use crate::tree::{Tree, TreeDir, TreeFile, TreeLink};

/// Mode of a file in the store.
pub(crate) const FILE_MODE: u32 = 0o444;
/// Mode of a program and of a folder in the store.
pub(crate) const OPEN_MODE: u32 = 0o555;

/// How many bytes a path inside a tree may have. Linux takes 4095 in all, and the store's home has
/// to stand before it; a fixed number, so that every machine refuses the same.
pub(crate) const MAX_PATH: usize = 3072;

/// How many bytes of a file may be holes. They take no room where the file was made, but they are hashed like any others,
/// and wherever the file is copied to by somebody who knows of no holes they are written.
const MAX_HOLES: u64 = 64 << 30;

/// Why something cannot be in the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A FIFO, socket or device.
    #[error("it is a {0}; an output consists of files, folders and links")]
    Special(&'static str),
    /// A name that is not UTF-8.
    #[error("its name is not UTF-8")]
    Name,
    /// A link whose target is not UTF-8.
    #[error("it is a link whose target is not UTF-8")]
    Target,
    /// A link that is absolute or leads out of the output.
    #[error("it is a link to `{0}`, which leaves the output")]
    Escapes(String),
    /// The output itself is a link.
    #[error("the output itself is a symbolic link")]
    Link,
    /// Folders nested too deeply.
    #[error("it lies more than {MAX_DEPTH} folders deep")]
    Depth,
    /// More files, folders and links than a tree may have.
    #[error("it holds more than {MAX_ENTRIES} files, folders and links")]
    Entries,
    /// A path that would be too long once it is in the store.
    #[error("its path in the output has more than {MAX_PATH} bytes")]
    Path,
    /// A file that consists of holes for the most part.
    #[error("it is {length} GiB long, and more than {most} GiB of that are holes", length = .0 >> 30, most = MAX_HOLES >> 30)]
    Holes(u64),
}

impl Refusal {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Special(_) => "remove it before the step ends, or write it outside the output",
            Self::Name => "rename it, so that it has the same name on every machine",
            Self::Target => "let the link point to a name that is UTF-8",
            Self::Escapes(_) => {
                "copy what it points to into the output, or make the link relative and inside"
            }
            Self::Link => "write a file or folder there, not a link to one",
            Self::Depth => "write the output with fewer nested folders",
            Self::Entries => "pack them into fewer, larger files, or into several outputs",
            Self::Path => "write the output with fewer nested folders, or with shorter names",
            Self::Holes(_) => {
                "write only what it consists of: holes count as bytes wherever it is hashed or copied"
            }
        }
    }
}

/// Refuses what lies too deep, or whose path inside the output is too long.
pub(crate) fn check_place(rel: &str, depth: usize) -> Result<(), ScanError> {
    let refusal = if rel.len() > MAX_PATH {
        Refusal::Path
    } else if depth > MAX_DEPTH {
        Refusal::Depth
    } else {
        return Ok(());
    };
    Err(ScanError::Refused(shortened(rel), refusal))
}

/// As much of a long path as a person can use.
pub(crate) fn shortened(rel: &str) -> String {
    const SHOWN: usize = 120;
    if rel.chars().count() <= SHOWN {
        return rel.to_owned();
    }
    rel.chars().take(SHOWN).chain(['…']).collect()
}

/// What can go wrong while a folder is read.
#[derive(Debug)]
pub(crate) enum ScanError {
    Fs(FsError),
    /// Path relative to the folder.
    Refused(String, Refusal),
}

impl From<FsError> for ScanError {
    fn from(error: FsError) -> Self {
        Self::Fs(error)
    }
}

/// Why a file can have no place in the store, whatever its bytes, if it cannot.
pub(crate) fn refusal(path: &Path, metadata: &Metadata) -> Option<Refusal> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return holes::exceed(path, metadata, MAX_HOLES).then_some(Refusal::Holes(metadata.len()));
    }
    let name = if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "device"
    } else {
        return None;
    };
    Some(Refusal::Special(name))
}

/// Makes one file canonical: its mode, its time, and nobody else's link to it. Gives its digest,
/// size and executable bit.
pub(crate) fn take_file(fs: &Fs, path: &Path) -> Result<(Digest, u64, bool), FsError> {
    let metadata = fs.lstat(path)?;
    let executable = metadata.mode() & 0o100 != 0;
    if metadata.mode() & 0o400 == 0 {
        fs.chmod(path, 0o600)?;
    }
    if metadata.nlink() > 1 {
        detach(fs, path)?;
    }
    fs.chmod(path, if executable { OPEN_MODE } else { FILE_MODE })?;
    let (digest, bytes) = hash(fs, path, metadata.len())?;
    fs.fix_times(path)?;
    Ok((digest, bytes, executable))
}

/// Puts a copy in the place of a file that has a second name: through that one it could be
/// written to later.
fn detach(fs: &Fs, path: &Path) -> Result<(), FsError> {
    let folder = path.parent().unwrap_or(path);
    let aside = folder.join(format!(".{}", fresh_name()));
    let copy = fs.create_file(&aside, 0o600)?;
    fs.copy_bytes(&fs.open(path)?, &copy, &aside)?;
    fs.rename(&aside, path)
}

/// Digest and size of a file's bytes.
pub(crate) fn hash(fs: &Fs, path: &Path, expected: u64) -> Result<(Digest, u64), FsError> {
    let file = fs.open(path)?;
    Digest::of_file(&file, expected).map_err(|error| FsError::new("read", path, error))
}

/// Makes a folder canonical and reads it: every file and folder below gets its mode and time, but
/// the top stays writable, since a folder that is not cannot be renamed.
pub(crate) fn take_folder(fs: &Fs, top: &Path) -> Result<Tree, ScanError> {
    let tree = Walk { fs, take: true }.folder(top, "", 0).map_err(|error| too_long(error, top))?;
    if tree.entry_count() > MAX_ENTRIES {
        return Err(ScanError::Refused(String::new(), Refusal::Entries));
    }
    match tree.escaping_link() {
        Some((path, target)) => Err(ScanError::Refused(path, Refusal::Escapes(target.to_owned()))),
        None => Ok(tree),
    }
}

/// Where the folder stands its paths may be too long although the store would take them.
pub(crate) fn too_long(error: ScanError, top: &Path) -> ScanError {
    match error {
        ScanError::Fs(error) if error.is_too_long() => {
            let rel = error.path.strip_prefix(top).unwrap_or(&error.path);
            ScanError::Refused(shortened(&rel.to_string_lossy()), Refusal::Path)
        }
        error => error,
    }
}

/// Reads a folder as it is.
pub(crate) fn read_folder(fs: &Fs, top: &Path) -> Result<Tree, ScanError> {
    Walk { fs, take: false }.folder(top, "", 0)
}

/// Every file and folder in a stored tree whose mode is not what it must be, relative to the top.
pub(crate) fn wrong_modes(fs: &Fs, top: &Path) -> Result<Vec<(String, u32)>, FsError> {
    let mut found = Vec::new();
    let mut todo = vec![String::new()];
    while let Some(rel) = todo.pop() {
        let path = if rel.is_empty() { top.to_owned() } else { top.join(&rel) };
        let metadata = fs.lstat(&path)?;
        let mode = metadata.mode() & 0o7777;
        if metadata.is_symlink() {
            continue;
        }
        if metadata.is_dir() {
            for name in fs.list(&path)? {
                let name = name.to_string_lossy();
                todo.push(if rel.is_empty() { name.into() } else { format!("{rel}/{name}") });
            }
        }
        if !(mode == OPEN_MODE || mode == FILE_MODE && metadata.is_file()) {
            found.push((rel, mode));
        }
    }
    found.sort();
    Ok(found)
}

struct Walk<'f> {
    fs: &'f Fs,
    take: bool,
}

enum Entry {
    File(TreeFile),
    Dir(TreeDir),
    Link(TreeLink),
}

impl Walk<'_> {
    fn folder(&self, path: &Path, rel: &str, depth: usize) -> Result<Tree, ScanError> {
        check_place(rel, depth)?;
        if self.take {
            self.fs.chmod(path, 0o700)?;
        }
        let names = self.fs.list(path)?;
        let entries = names.par_iter().map(|name| self.entry(path, rel, name, depth));
        let mut tree = Tree::default();
        // One by one, so that of several refusals the first by name is told, however they raced.
        for entry in entries.collect::<Vec<_>>() {
            match entry? {
                Entry::File(file) => tree.files.push(file),
                Entry::Dir(dir) => tree.dirs.push(dir),
                Entry::Link(link) => tree.symlinks.push(link),
            }
        }
        if self.take {
            if depth > 0 {
                self.fs.chmod(path, OPEN_MODE)?;
            }
            self.fs.fix_times(path)?;
        }
        Ok(tree)
    }

    fn entry(
        &self,
        folder: &Path,
        rel: &str,
        name: &OsStr,
        depth: usize,
    ) -> Result<Entry, ScanError> {
        let path = folder.join(name);
        let join = |name: &str| match rel {
            "" => name.to_owned(),
            _ => format!("{rel}/{name}"),
        };
        let Some(name) = name.to_str() else {
            return Err(ScanError::Refused(join(&name.to_string_lossy()), Refusal::Name));
        };
        let rel = join(name);
        check_place(&rel, depth)?;
        let metadata = self.fs.lstat(&path)?;
        let name = name.to_owned();
        if let Some(refusal) = refusal(&path, &metadata) {
            return Err(ScanError::Refused(rel, refusal));
        }
        if metadata.is_symlink() {
            let target = self.fs.read_link(&path)?.into_os_string().into_string();
            let target = target.map_err(|_| ScanError::Refused(rel, Refusal::Target))?;
            if self.take {
                self.fs.fix_times(&path)?;
            }
            return Ok(Entry::Link(TreeLink { name, target }));
        }
        if metadata.is_dir() {
            let tree = self.folder(&path, &rel, depth + 1)?;
            return Ok(Entry::Dir(TreeDir::new(name, tree)));
        }
        let (digest, bytes, executable) = if self.take {
            take_file(self.fs, &path)?
        } else {
            let (digest, bytes) = hash(self.fs, &path, metadata.len())?;
            (digest, bytes, metadata.mode() & 0o100 != 0)
        };
        Ok(Entry::File(TreeFile { name, digest, bytes, executable }))
    }
}
