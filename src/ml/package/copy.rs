//! Copying files and folders into a release, hashing on the way.
//!
//! Executable bits and relative links that stay inside their folder are kept; anything else that is
//! no plain file or folder is refused. Unaware of models.

use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use serde::Serialize;

/// Why something could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The copy cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A link leads out of its folder.
    #[error(
        "`{path}` is a link to {}, which leads out of the folder; help: copy what it points to", target.display()
    )]
    Link {
        /// The link, in the release.
        path: String,
        /// Where it points.
        target: PathBuf,
    },
    /// It is no file, folder or link.
    #[error("`{path}` is neither a file, a folder nor a link; help: leave it out")]
    Special {
        /// The thing, in the release.
        path: String,
    },
    /// Its name is not UTF-8.
    #[error("{} has a name that is not UTF-8; help: rename it", path.display())]
    Name {
        /// The thing.
        path: PathBuf,
    },
}

/// A file of the release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) blake3: String,
    pub(super) executable: bool,
}

/// A link of the release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Link {
    path: String,
    target: String,
}

/// What has been copied so far.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub(super) files: Vec<File>,
    pub(super) links: Vec<Link>,
}

impl Copied {
    /// Copies a folder to `path` below `release`.
    pub(super) fn tree(
        &mut self,
        source: &Path,
        release: &Path,
        path: &str,
    ) -> Result<(), CopyError> {
        self.folder(source, release, path, 0)
    }

    fn folder(
        &mut self,
        source: &Path,
        release: &Path,
        path: &str,
        depth: usize,
    ) -> Result<(), CopyError> {
        let unreadable = |error| CopyError::Read { path: source.to_owned(), source: error };
        let place = release.join(path);
        std::fs::create_dir(&place)
            .map_err(|source| CopyError::Write { path: place.clone(), source })?;
        for entry in std::fs::read_dir(source).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let from = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                return Err(CopyError::Name { path: from });
            };
            let to = format!("{path}/{name}");
            let unreadable = |source| CopyError::Read { path: from.clone(), source };
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_dir() {
                self.folder(&from, release, &to, depth + 1)?;
            } else if kind.is_symlink() {
                let target = std::fs::read_link(&from).map_err(unreadable)?;
                self.link(target, release, to, depth)?;
            } else if kind.is_file() {
                let mode = entry.metadata().map_err(unreadable)?.permissions().mode();
                self.file(&from, release, &to, mode & 0o111 != 0)?;
            } else {
                return Err(CopyError::Special { path: to });
            }
        }
        Ok(())
    }

    /// Copies a file to `path` below `release`.
    pub(super) fn file(
        &mut self,
        source: &Path,
        release: &Path,
        path: &str,
        executable: bool,
    ) -> Result<(), CopyError> {
        const BUFFER: usize = 1 << 16;
        let unreadable = |error| CopyError::Read { path: source.to_owned(), source: error };
        let place = release.join(path);
        let unwritable = |source| CopyError::Write { path: place.clone(), source };
        let mut from = std::fs::File::open(source).map_err(unreadable)?;
        let mode = if executable { 0o755 } else { 0o644 };
        let mut to = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&place)
            .map_err(unwritable)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; BUFFER];
        let mut bytes = 0;
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(error)),
            };
            hasher.update(&buffer[..count]);
            to.write_all(&buffer[..count]).map_err(unwritable)?;
            bytes += count as u64;
        }
        let blake3 = hasher.finalize().to_hex().to_string();
        self.files.push(File { path: path.to_owned(), bytes, blake3, executable });
        Ok(())
    }

    /// Makes a link again whose folder lies `depth` below the copied one.
    fn link(
        &mut self,
        target: PathBuf,
        release: &Path,
        path: String,
        depth: usize,
    ) -> Result<(), CopyError> {
        if !stays_inside(&target, depth) {
            return Err(CopyError::Link { path, target });
        }
        let Some(text) = target.to_str().map(str::to_owned) else {
            return Err(CopyError::Name { path: target });
        };
        let place = release.join(&path);
        std::os::unix::fs::symlink(&target, &place)
            .map_err(|source| CopyError::Write { path: place, source })?;
        self.links.push(Link { path, target: text });
        Ok(())
    }

    /// Puts all into the order of their paths, whatever order the folders were read in.
    pub(super) fn sort(&mut self) {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.links.sort_by(|a, b| a.path.cmp(&b.path));
    }
}

/// Whether a link's target cannot lead out, however the other links of the folder stand: it climbs
/// at most `depth` levels, and only before it descends, since `x/..` with `x` a link may be anywhere.
fn stays_inside(target: &Path, depth: usize) -> bool {
    let mut climbed = 0;
    let mut descended = false;
    for component in target.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if descended => return false,
            Component::ParentDir => climbed += 1,
            Component::Normal(_) => descended = true,
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    climbed <= depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_stays_inside_only_if_no_reading_leads_out() {
        for (target, depth, inside) in [
            ("a", 0, true),
            ("./a/b", 0, true),
            ("..", 1, true),
            ("../../a", 2, true),
            ("..", 0, false),
            ("../../a", 1, false),
            ("/etc/passwd", 9, false),
            ("a/..", 5, false),
        ] {
            assert_eq!(stays_inside(Path::new(target), depth), inside, "{target} at {depth}");
        }
    }

    #[test]
    fn bytes_bits_and_links_are_kept_and_listed_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::create_dir_all(source.join("b")).unwrap();
        std::fs::write(source.join("b/run"), "x").unwrap();
        std::fs::write(source.join("a"), "").unwrap();
        let executable = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(source.join("b/run"), executable).unwrap();
        std::os::unix::fs::symlink("../a", source.join("b/link")).unwrap();
        let mut copied = Copied::default();
        copied.tree(&source, folder.path(), "copy").unwrap();
        copied.sort();
        let listed: Vec<(&str, u64, bool)> = copied
            .files
            .iter()
            .map(|file| (file.path.as_str(), file.bytes, file.executable))
            .collect();
        assert_eq!(listed, [("copy/a", 0, false), ("copy/b/run", 1, true)]);
        assert_eq!(copied.files[1].blake3, blake3::hash(b"x").to_hex().to_string());
        let copy = folder.path().join("copy");
        assert_eq!(std::fs::read_link(copy.join("b/link")).unwrap(), Path::new("../a"));
        let mode = copy.join("b/run").metadata().unwrap().permissions().mode();
        assert!(mode & 0o111 != 0);
        assert_eq!(copied.links[0].path, "copy/b/link");
    }

    #[test]
    fn a_link_out_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::create_dir(&source).unwrap();
        std::os::unix::fs::symlink("../secret", source.join("link")).unwrap();
        let error = Copied::default().tree(&source, folder.path(), "copy").unwrap_err();
        assert!(matches!(error, CopyError::Link { .. }), "{error}");
    }
}
