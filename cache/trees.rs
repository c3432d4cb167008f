//! Trees that are in the store: their listings, their parts, and new ones made out of files that
//! are there already.
//!
//! A tree lies in the store as a folder, and beside it its listing (one message with the whole of
//! it), so that no file has to be hashed to know what a tree holds. A listing that is lost or
//! damaged is made again from the folder.

use std::path::Path;

use crate::digest::Digest;
use crate::directory::{self, DirectoryError, MAX_DEPTH, is_name};
use crate::fsio::{FsError, present};
use crate::holds::Held;
use crate::object::{Ingested, Kind, Object};
use crate::scan::{self, MAX_PATH, OPEN_MODE, ScanError, shortened};
use crate::store::Store;
use crate::tree::{Place, Tree, TreeDir, TreeFile};

/// A tree that cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The disk.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The object is not in the store.
    #[error("{0} is not in the store")]
    Absent(Object),
    /// The folder is not what its name says.
    #[error("tree:{digest} is damaged: {what}")]
    Damaged {
        /// The tree.
        digest: Digest,
        /// What is wrong.
        what: String,
    },
    /// The listing of a tree cannot be understood.
    #[error("the listing of tree:{digest} cannot be read")]
    Listing {
        /// The tree.
        digest: Digest,
        /// Why.
        #[source]
        source: DirectoryError,
    },
    /// A path that cannot stand in a tree.
    #[error("`{0}` is not a relative path of plain names")]
    Path(String),
    /// A path that would nest folders too deeply, or be too long.
    #[error("`{0}` would lie too deep in the tree, or its path would be too long")]
    TooDeep(String),
    /// Two entries of one name, or a file where another entry needs a folder.
    #[error("two entries of the tree want the place `{0}`")]
    Taken(String),
    /// A part of a tree cannot stand alone, because a link in it leads out of it.
    #[error("`{path}` is a link to `{target}`, outside of the part that was asked for")]
    Escapes {
        /// The link.
        path: String,
        /// Where it points.
        target: String,
    },
}

impl Store {
    /// What a stored tree holds, all folders included.
    ///
    /// # Errors
    /// If it is not in the store, or damaged.
    pub fn tree(&self, digest: &Digest) -> Result<Tree, TreeError> {
        let object = Object::tree(*digest);
        if !self.contains(&object) {
            return Err(TreeError::Absent(object));
        }
        let listing = self.layout.listing(digest);
        if let Some(bytes) = present(self.fs.read(&listing))? {
            match directory::decode_whole(&bytes, digest) {
                Ok(tree) => return Ok(tree),
                Err(error) => self.notice(&listing, format!("{error}; it was made again")),
            }
        }
        let tree = self.read_tree(digest)?;
        self.staging.write(&self.fs, &self.layout, &listing, &directory::encode_whole(&tree))?;
        Ok(tree)
    }

    /// Reads and hashes a tree's folder.
    fn read_tree(&self, digest: &Digest) -> Result<Tree, TreeError> {
        let damaged = |what| TreeError::Damaged { digest: *digest, what };
        let tree = match scan::read_folder(&self.fs, &self.path(&Object::tree(*digest))) {
            Ok(tree) => tree,
            Err(ScanError::Fs(error)) => return Err(error.into()),
            Err(ScanError::Refused(path, refusal)) => {
                return Err(damaged(format!("{path}: {refusal}")));
            }
        };
        let found = tree.digest();
        if found == *digest { Ok(tree) } else { Err(damaged(format!("its digest now is {found}"))) }
    }

    /// Makes what lies at a path inside a stored tree an object of its own; its files are linked,
    /// not copied, where the file system allows. `None` if nothing is there.
    ///
    /// # Errors
    /// If the tree is not in the store or damaged, or a link in the part leads out of it.
    pub fn subobject(&self, tree: &Digest, rel: &str) -> Result<Option<Ingested>, TreeError> {
        if rel.len() > MAX_PATH {
            return Err(TreeError::TooDeep(shortened(rel)));
        }
        let whole = self.tree(tree)?;
        match whole.resolve(rel) {
            Place::Nothing | Place::Outside => Ok(None),
            Place::Dir(part) => {
                if let Some((path, target)) = part.escaping_link() {
                    return Err(TreeError::Escapes { path, target: target.to_owned() });
                }
                let folder = self.path(&Object::tree(*tree)).join(rel);
                self.assemble(part, &|path, _| folder.join(path)).map(Some)
            }
            Place::File(file) => {
                let object =
                    Object { kind: Kind::File, digest: file.digest, executable: file.executable };
                self.hold([Held::Object(object)])?;
                if !self.contains(&object) {
                    let staged = self.staging.fresh(&self.fs, &self.layout)?;
                    self.link(&self.path(&Object::tree(*tree)).join(rel), &staged, file)?;
                    self.place_file(&staged, object, file.bytes)?;
                }
                Ok(Some(Ingested { object, bytes: file.bytes, files: 1 }))
            }
        }
    }

    /// Makes a tree out of objects that are in the store, each at its relative path; files are
    /// linked, not copied, where the file system allows.
    ///
    /// # Errors
    /// If an object is not in the store, a path is not a relative one of plain names, or two
    /// entries want one place.
    pub fn compose_tree(&self, entries: Vec<(String, Object)>) -> Result<Ingested, TreeError> {
        self.hold(entries.iter().map(|(_, object)| Held::Object(*object)))?;
        let trees: Vec<_> = entries.iter().filter(|(_, o)| o.kind == Kind::Tree).collect();
        let mut top = Tree::default();
        for (path, object) in &entries {
            // Before anything walks down there.
            check_place(path, 0, 0)?;
            if trees.iter().any(|(tree, _)| below(tree, path).is_some()) {
                return Err(TreeError::Taken(path.clone()));
            }
            if !path.split('/').all(is_name) {
                return Err(TreeError::Path(path.clone()));
            }
            let entry = match object.kind {
                Kind::Tree => {
                    let tree = self.tree(&object.digest)?;
                    let (depth, longest) = extent(&tree);
                    check_place(path, depth + 1, longest)?;
                    Entry::Dir(tree)
                }
                Kind::File => {
                    let metadata = present(self.fs.lstat(&self.path(object)))?;
                    Entry::File(*object, metadata.ok_or(TreeError::Absent(*object))?.len())
                }
            };
            insert(&mut top, path, entry).ok_or_else(|| TreeError::Taken(path.clone()))?;
        }
        // Only now do all folders have all their entries.
        let tree = sealed(top);
        self.assemble(&tree, &|path, file| {
            let inside = trees
                .iter()
                .find_map(|(prefix, object)| Some(self.path(object).join(below(prefix, path)?)));
            let (digest, executable) = (file.digest, file.executable);
            inside.unwrap_or_else(|| self.path(&Object { kind: Kind::File, digest, executable }))
        })
    }

    /// Puts a tree into the store, unless it is there, linking each file from where `source` says
    /// that its like is.
    fn assemble(
        &self,
        tree: &Tree,
        source: &dyn Fn(&str, &TreeFile) -> std::path::PathBuf,
    ) -> Result<Ingested, TreeError> {
        let object = Object::tree(tree.digest());
        self.hold([Held::Object(object)])?;
        if self.contains(&object) {
            return Ok(Ingested { object, bytes: tree.bytes(), files: tree.file_count() });
        }
        let staged = self.staging.fresh(&self.fs, &self.layout)?;
        let made =
            self.lay_out(tree, &staged, "", source).and_then(|()| self.place_tree(&staged, tree));
        if made.is_err() {
            self.fs.remove_all(&staged)?;
        }
        Ok(made?)
    }

    fn lay_out(
        &self,
        tree: &Tree,
        folder: &Path,
        prefix: &str,
        source: &dyn Fn(&str, &TreeFile) -> std::path::PathBuf,
    ) -> Result<(), FsError> {
        self.fs.create_dir(folder)?;
        for file in &tree.files {
            let from = source(&format!("{prefix}{}", file.name), file);
            self.link(&from, &folder.join(&file.name), file)?;
        }
        for link in &tree.symlinks {
            self.fs.symlink(&link.target, &folder.join(&link.name))?;
            self.fs.fix_times(&folder.join(&link.name))?;
        }
        for dir in &tree.dirs {
            let path = folder.join(&dir.name);
            self.lay_out(&dir.tree, &path, &format!("{prefix}{}/", dir.name), source)?;
            self.fs.chmod(&path, OPEN_MODE)?;
        }
        self.fs.fix_times(folder)
    }

    /// Gives a file that is in the store a second name in it; where the file system does not
    /// allow that (too many names, say), a copy.
    fn link(&self, from: &Path, to: &Path, file: &TreeFile) -> Result<(), FsError> {
        match self.fs.hard_link(from, to) {
            Err(error) if error.is_absent() || error.is_taken() => Err(error),
            Err(_) => {
                let copy = self.fs.create_file(to, 0o600)?;
                self.fs.copy_bytes(&self.fs.open(from)?, &copy, to)?;
                self.fs.chmod(to, if file.executable { OPEN_MODE } else { scan::FILE_MODE })?;
                self.fs.fix_times(to)
            }
            Ok(()) => Ok(()),
        }
    }
}

/// Refuses a path whose entry would not be taken in as a part of an output either; the entry nests so
/// many folders, itself included, and so long is the longest path in it.
fn check_place(path: &str, folders: usize, longest: usize) -> Result<(), TreeError> {
    let above = path.bytes().filter(|&byte| byte == b'/').count();
    let length = path.len() + if longest > 0 { 1 + longest } else { 0 };
    if above + folders > MAX_DEPTH || length > MAX_PATH {
        return Err(TreeError::TooDeep(shortened(path)));
    }
    Ok(())
}

/// How many folders are nested in a tree, and how long the longest path in it is. Stored trees are not nested without end.
fn extent(tree: &Tree) -> (usize, usize) {
    let files = tree.files.iter().map(|file| file.name.len());
    let links = tree.symlinks.iter().map(|link| link.name.len());
    let longest = files.chain(links).max().unwrap_or(0);
    tree.dirs.iter().fold((0, longest), |(depth, longest), dir| {
        let (below, rest) = extent(&dir.tree);
        let path = dir.name.len() + if rest > 0 { 1 + rest } else { 0 };
        (depth.max(below + 1), longest.max(path))
    })
}

/// The rest of a path that lies below a folder.
fn below<'p>(folder: &str, path: &'p str) -> Option<&'p str> {
    path.strip_prefix(folder)?.strip_prefix('/')
}

enum Entry {
    File(Object, u64),
    Dir(Tree),
}

/// Puts an entry into a tree whose folders' digests are not known yet; `None` if the place is
/// taken.
fn insert(tree: &mut Tree, path: &str, entry: Entry) -> Option<()> {
    let (name, rest) = match path.split_once('/') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    if tree.files.binary_search_by(|file| file.name.as_str().cmp(name)).is_ok() {
        return None;
    }
    let at = tree.dirs.binary_search_by(|dir| dir.name.as_str().cmp(name));
    match (rest, at, entry) {
        (Some(rest), Ok(at), entry) => insert(&mut tree.dirs[at].tree, rest, entry),
        (Some(rest), Err(at), entry) => {
            tree.dirs.insert(at, TreeDir::new(name.to_owned(), Tree::default()));
            insert(&mut tree.dirs[at].tree, rest, entry)
        }
        (None, Ok(_), _) => None,
        (None, Err(at), Entry::Dir(inner)) => {
            tree.dirs.insert(at, TreeDir::new(name.to_owned(), inner));
            Some(())
        }
        (None, Err(_), Entry::File(object, bytes)) => {
            let at = tree.files.binary_search_by(|file| file.name.as_str().cmp(name)).err()?;
            let (digest, executable) = (object.digest, object.executable);
            tree.files.insert(at, TreeFile { name: name.to_owned(), digest, bytes, executable });
            Some(())
        }
    }
}

/// The same tree with the digests of its folders worked out.
fn sealed(tree: Tree) -> Tree {
    let dirs = tree.dirs.into_iter().map(|dir| TreeDir::new(dir.name, sealed(dir.tree)));
    Tree { dirs: dirs.collect(), ..tree }
}
