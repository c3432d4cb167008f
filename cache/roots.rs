//! Roots: what the collector keeps, by name and on disk.
//!
//! Pins, generations, each project's last builds: this module is unaware of which is which.
//!
//! When a root lets go of a realisation, the file of its record gets the time of that moment. So it
//! is known when something was last of use, without a note for each use: what is held never goes,
//! and its time does not matter until it is let go.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::digest::Digest;
use crate::fsio::{Fs, FsError, present};
use crate::layout::Layout;
use crate::object::Object;
use crate::store::Store;

const FORMAT: u32 = 2;
/// The first format, which had no tail, is read as well.
const FIRST_FORMAT: u32 = 1;
/// So many keys stand in a root's text, for people to read; more of them stand behind it, as bytes.
const KEYS_IN_TEXT: usize = 256;
/// How exactly it is known when a root was last of use.
const GRAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Something that is kept, and why.
#[derive(Debug, Clone, PartialEq, Deserialize)]
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
    /// The same, for what is much: it is neither text nor looked at when roots are only counted.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// When it was set to what it is, in seconds since 1970.
    pub at: i64,
}

impl Root {
    /// Whether both say the same, whenever they do.
    fn says_the_same_as(&self, other: &Self) -> bool {
        (&self.label, &self.keys, &self.objects, &self.data, &self.bytes)
            == (&other.label, &other.keys, &other.objects, &other.data, &other.bytes)
    }
}

/// A root's text.
#[derive(Serialize)]
struct Text<'r> {
    label: &'r str,
    keys: &'r [Digest],
    objects: &'r [Object],
    data: &'r serde_json::Value,
    at: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'t> {
    #[serde(rename = "format")]
    _format: u32,
    /// Of the root's text and of what follows the document. Whoever mends a root by hand leaves it out.
    check: Option<Digest>,
    /// How many keys follow the document.
    #[serde(default)]
    keys: usize,
    /// How many bytes of the owner's follow these.
    #[serde(default)]
    bytes: usize,
    #[serde(borrow)]
    root: &'t RawValue,
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
    /// The file is not as it was written. Nothing is collected while that is so.
    #[error(
        "the root file {} is damaged: its content has changed; mend it and take its `check` out, or \
         remove it", .0.display()
    )]
    Changed(PathBuf),
    /// The file is of another version of the program.
    #[error("the root file {} has the format {found}, and this program knows only {FORMAT}; use the version of the program that wrote it", path.display())]
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
        let there = read(&self.fs, &path).ok().flatten();
        if let Some(there) = &there
            && there.says_the_same_as(root)
        {
            return Ok(());
        }
        let text = encode(root);
        let _shared = self.gc_lock.shared()?;
        let staged = self.staging.fresh(&self.fs, &self.layout)?;
        self.fs.write_new(&staged, &text, true)?;
        self.fs.rename_into(&staged, &path)?;
        if let Some(folder) = path.parent() {
            self.fs.sync_folder(folder)?;
        }
        let stay: BTreeSet<&Digest> = root.keys.iter().collect();
        let before = there.iter().flat_map(|there| &there.keys);
        self.last_used(before.filter(|key| !stay.contains(key)), None);
        Ok(())
    }

    /// Notes that what a root holds is still of use, for when it lets go; about once a day that
    /// costs a write.
    ///
    /// # Errors
    /// If the name cannot be one.
    pub fn touch_root(&self, name: &str) -> Result<(), RootError> {
        let path = path_of(&self.layout, name)?;
        let age = |used: SystemTime| used.elapsed().unwrap_or_default();
        if self.last_touch(&path).is_some_and(|used| age(used) > GRAIN) {
            // Without it things go a little early when the store is to shrink.
            let _ = self.fs.set_mtime(&path, None);
        }
        Ok(())
    }

    /// Removes a root; says whether there was one. What it held was of use until now.
    ///
    /// # Errors
    /// If the name cannot be one, or the disk cannot be written to.
    pub fn remove_root(&self, name: &str) -> Result<bool, RootError> {
        self.remove_root_used(name, |_| None)
    }

    /// Removes a root that nobody has had a use for since it was last set or touched; says whether
    /// there was one.
    ///
    /// # Errors
    /// If the name cannot be one, or the disk cannot be written to.
    pub fn remove_idle_root(&self, name: &str) -> Result<bool, RootError> {
        self.remove_root_used(name, |path| self.last_touch(path))
    }

    fn remove_root_used(
        &self,
        name: &str,
        used: impl FnOnce(&Path) -> Option<SystemTime>,
    ) -> Result<bool, RootError> {
        let path = path_of(&self.layout, name)?;
        let there = read(&self.fs, &path).ok().flatten();
        let used = used(&path);
        let removed = present(self.fs.remove_file(&path))?.is_some();
        self.last_used(there.iter().flat_map(|there| &there.keys), used);
        Ok(removed)
    }

    /// Notes until when these were of use; until now, if no time is given.
    fn last_used<'k>(&self, keys: impl Iterator<Item = &'k Digest>, until: Option<SystemTime>) {
        for key in keys {
            let path = self.layout.realisation(key);
            // A later time may be known, from another root.
            let later =
                until.is_some_and(|until| self.last_touch(&path).is_some_and(|t| t > until));
            if !later {
                // A record that is gone has no time; one whose time cannot be set may go early.
                let _ = self.fs.set_mtime(&path, until);
            }
        }
    }

    fn last_touch(&self, path: &Path) -> Option<SystemTime> {
        self.fs.lstat(path).ok()?.modified().ok()
    }

    /// Moves a root that cannot be read out of the way, with a notice. What only it held may then be collected.
    ///
    /// # Errors
    /// If the name cannot be one, or the disk cannot be written to.
    pub fn set_root_aside(&self, name: &str, why: &str) -> Result<(), RootError> {
        Ok(self.set_aside(&path_of(&self.layout, name)?, why)?)
    }

    /// The root of this name.
    ///
    /// # Errors
    /// If the name cannot be one, or its file is damaged.
    pub fn root(&self, name: &str) -> Result<Option<Root>, RootError> {
        read(&self.fs, &path_of(&self.layout, name)?)
    }

    /// The digest of what stands in the file of a root, if there is one: whether it is as somebody saw it.
    ///
    /// # Errors
    /// If the name cannot be one, or its file cannot be read.
    pub fn root_digest(&self, name: &str) -> Result<Option<Digest>, RootError> {
        let bytes = present(self.fs.read(&path_of(&self.layout, name)?))?;
        Ok(bytes.map(|bytes| Digest::of(&bytes)))
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
    match present(fs.read(path))? {
        Some(bytes) => decode(path, &bytes).map(Some),
        None => Ok(None),
    }
}

/// A root's file.
pub(crate) fn encode(root: &Root) -> Vec<u8> {
    let (in_text, behind): (&[Digest], &[Digest]) =
        if root.keys.len() <= KEYS_IN_TEXT { (&root.keys, &[]) } else { (&[], &root.keys) };
    let Root { label, objects, data, bytes, at, .. } = root;
    let text = Text { label, keys: in_text, objects, data, at: *at };
    let text = serde_json::to_string_pretty(&text)
        .expect("a root serialises: its only map has text for keys");
    let mut tail: Vec<u8> = behind.iter().flat_map(|key| *key.as_bytes()).collect();
    tail.extend_from_slice(bytes);
    let (check, keys, bytes) = (check(&text, &tail), behind.len(), bytes.len());
    let head = format!(
        "{{\n\"format\": {FORMAT},\n\"check\": \"{check}\",\n\"keys\": {keys},\n\"bytes\": {bytes},\n\"root\": {text}\n}}\n"
    );
    let mut file = head.into_bytes();
    file.extend_from_slice(&tail);
    file
}

fn check(text: &str, tail: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(text.as_bytes()).update(tail);
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

/// The root whose file has these bytes; `path` is for messages.
pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Root, RootError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let damaged = |source| RootError::Damaged { path: path.to_owned(), source };
    let changed = || RootError::Changed(path.to_owned());
    // The version first: another one may have other fields.
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Version>();
    let Version { format } = documents.next().ok_or_else(changed)?.map_err(damaged)?;
    if format != FORMAT && format != FIRST_FORMAT {
        return Err(RootError::Format { path: path.to_owned(), found: format });
    }
    let (head, tail) = bytes.split_at(documents.byte_offset());
    let document: Document<'_> = serde_json::from_slice(head).map_err(damaged)?;
    let tail = tail.strip_prefix(b"\n").unwrap_or(tail);
    let length = document.keys.checked_mul(size_of::<Digest>());
    let Some((keys, rest)) = length.and_then(|length| tail.split_at_checked(length)) else {
        return Err(changed());
    };
    let text = document.root.get();
    if rest.len() != document.bytes
        || document.check.is_some_and(|expected| expected != check(text, tail))
    {
        return Err(changed());
    }
    let mut root: Root = serde_json::from_str(text).map_err(damaged)?;
    let (keys, _) = keys.as_chunks::<{ size_of::<Digest>() }>();
    root.keys.extend(keys.iter().map(|key| Digest::from_bytes(*key)));
    root.bytes = rest.to_vec();
    Ok(root)
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
