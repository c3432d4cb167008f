//! Roots: what the collector keeps, by name and on disk.
//!
//! Pins, generations, each project's last builds: this module is unaware of which is which.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::fsio::{Fs, FsError, present};
use crate::layout::Layout;
use crate::object::Object;
use crate::store::Store;

const FORMAT: u32 = 1;

/// Something that is kept, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// For a person: "last build of tumour in ~/work".
    pub label: String,
    /// Action keys whose realisations are kept, with outputs, log and references.
    #[serde(default)]
    pub keys: Vec<Digest>,
    /// Objects that are kept.
    #[serde(default)]
    pub objects: Vec<Object>,
    /// Whatever its owner wants to remember; opaque to the store.
    #[serde(default)]
    pub data: serde_json::Value,
    /// When it was set to what it is, in seconds since 1970.
    pub at: i64,
}

#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    root: Root,
}

/// A root that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The disk.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A name that cannot be one.
    #[error(
        "`{0}` cannot name a root: it consists of letters, digits and `._-`, in parts separated \
         by `/`, none of which begins with a dot"
    )]
    Name(String),
    /// The file is damaged. Nothing is collected while that is so.
    #[error("the root file {} is damaged: mend or remove it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The file is of another version of the program.
    #[error("the root file {} has the format {found}, and this program knows only {FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
}

impl Store {
    /// Sets a root, on disk when this returns. One that says the same already is left as it is,
    /// with its time.
    ///
    /// # Errors
    /// If the name cannot be one, or the disk cannot be written to.
    pub fn set_root(&self, name: &str, root: &Root) -> Result<(), RootError> {
        let path = path_of(&self.layout, name)?;
        if let Ok(Some(there)) = read(&self.fs, &path)
            && (Root { at: root.at, ..there }) == *root
        {
            return Ok(());
        }
        let document = Document { format: FORMAT, root: root.clone() };
        let mut text = serde_json::to_vec_pretty(&document)
            .expect("a root serialises: its only map has text for keys");
        text.push(b'\n');
        let _shared = self.gc_lock.shared()?;
        let staged = self.staging.fresh(&self.fs, &self.layout)?;
        self.fs.write_new(&staged, &text, true)?;
        self.fs.rename_into(&staged, &path)?;
        if let Some(folder) = path.parent() {
            self.fs.sync_folder(folder)?;
        }
        Ok(())
    }

    /// Removes a root; says whether there was one.
    ///
    /// # Errors
    /// If the name cannot be one, or the disk cannot be written to.
    pub fn remove_root(&self, name: &str) -> Result<bool, RootError> {
        let path = path_of(&self.layout, name)?;
        Ok(present(self.fs.remove_file(&path))?.is_some())
    }

    /// The root of this name.
    ///
    /// # Errors
    /// If the name cannot be one, or its file is damaged.
    pub fn root(&self, name: &str) -> Result<Option<Root>, RootError> {
        read(&self.fs, &path_of(&self.layout, name)?)
    }

    /// All roots, by name.
    ///
    /// # Errors
    /// If one of them cannot be read: who collects has to know them all.
    pub fn roots(&self) -> Result<Vec<(String, Root)>, RootError> {
        all(&self.fs, &self.layout)
    }
}

/// All roots, by name.
pub(crate) fn all(fs: &Fs, layout: &Layout) -> Result<Vec<(String, Root)>, RootError> {
    let mut found = Vec::new();
    let mut todo = vec![String::new()];
    while let Some(folder) = todo.pop() {
        for name in fs.list(&layout.roots().join(&folder))? {
            let Some(name) = name.to_str() else { continue };
            let name = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let path = layout.roots().join(&name);
            if path.is_dir() {
                todo.push(name);
            } else if let Some(root) = read(fs, &path)? {
                found.push((name, root));
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

fn read(fs: &Fs, path: &Path) -> Result<Option<Root>, RootError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let Some(bytes) = present(fs.read(path))? else { return Ok(None) };
    let damaged = |source| RootError::Damaged { path: path.to_owned(), source };
    // The version first: another one may have other fields.
    let Version { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if format != FORMAT {
        return Err(RootError::Format { path: path.to_owned(), found: format });
    }
    let document: Document = serde_json::from_slice(&bytes).map_err(damaged)?;
    Ok(Some(document.root))
}

fn path_of(layout: &Layout, name: &str) -> Result<PathBuf, RootError> {
    let part = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(plain)
    };
    if name.split('/').all(part) {
        Ok(layout.roots().join(name))
    } else {
        Err(RootError::Name(name.to_owned()))
    }
}
