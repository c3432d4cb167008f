//! From a canonical file or folder on the store's file system to its place in the store.
//!
//! One rename each. Unaware of collectors, sessions and records: who calls has made sure that
//! nothing is taken away meanwhile.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::clock::CLOCK;
use crate::digest::Digest;
use crate::directory;
use crate::fsio::{Fs, FsError, present};
use crate::layout::Layout;
use crate::mark::{self, Mark, fresh_name};
use crate::object::Object;
use crate::scan::{FILE_MODE, OPEN_MODE};
use crate::scratch::Scratch;
use crate::tree::Tree;

/// Marks of trees that are being placed: `p-HEX-` and something fresh.
const PREFIX: &str = "p-";

/// Where files stand before they are moved into place: one scratch folder for each open store,
/// made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Staging(Mutex<Option<Scratch>>);

impl Staging {
    /// A path that nobody else uses, for a file or a folder.
    pub(crate) fn fresh(&self, fs: &Fs, layout: &Layout) -> Result<PathBuf, FsError> {
        let mut scratch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = match &mut *scratch {
            Some(scratch) => scratch,
            empty => empty.insert(Scratch::create(fs, layout)?),
        };
        Ok(scratch.path().join(fresh_name()))
    }

    /// Writes a small file and moves it into place, over what may be there.
    pub(crate) fn write(
        &self,
        fs: &Fs,
        layout: &Layout,
        place: &Path,
        bytes: &[u8],
    ) -> Result<(), FsError> {
        let staged = self.fresh(fs, layout)?;
        fs.write_new(&staged, bytes, false)?;
        fs.chmod(&staged, FILE_MODE)?;
        fs.rename_into(&staged, place)
    }
}

/// Moves a canonical file into its place; if the same is there already, removes it instead.
pub(crate) fn place_file(
    fs: &Fs,
    layout: &Layout,
    staged: &Path,
    object: &Object,
    bytes: u64,
) -> Result<(), FsError> {
    let place = layout.object(object);
    let mode = if object.executable { OPEN_MODE } else { FILE_MODE };
    if let Some(there) = present(fs.lstat(&place))?
        && there.is_file()
        && there.len() == bytes
        && there.mode() & 0o7777 == mode
    {
        return fs.remove_all(staged);
    }
    fs.rename_into(staged, &place)
}

/// Moves a canonical folder, its top still writable, into its place; if the same is there
/// already, removes it instead.
pub(crate) fn place_tree(
    staging: &Staging,
    fs: &Fs,
    layout: &Layout,
    staged: &Path,
    digest: &Digest,
    tree: &Tree,
) -> Result<(), FsError> {
    let place = layout.object(&Object::tree(*digest));
    // The listing first: a tree that is there without one would have to be hashed again.
    let listing = layout.listing(digest);
    if present(fs.lstat(&listing))?.is_none() {
        staging.write(fs, layout, &listing, &directory::encode_whole(tree))?;
    }
    if present(fs.lstat(&place))?.is_some() {
        return fs.remove_all(staged);
    }
    // A folder has to be writable to be renamed. If this process is killed before the mode is
    // set, the mark says so to the next sweep.
    let mut mark = mark_open(fs, layout, digest)?;
    match fs.rename_into(staged, &place) {
        // Another process was faster.
        Err(error) if error.is_taken() => return fs.remove_all(staged),
        done => done?,
    }
    let sealed = seal(fs, &place);
    // It is there, and whole: the next sweep tries again.
    mark.set_stays(sealed.is_err());
    sealed
}

/// Marks a tree whose top is to be writable for a moment.
pub(crate) fn mark_open(fs: &Fs, layout: &Layout, digest: &Digest) -> Result<Mark, FsError> {
    Mark::create(fs, &layout.tmp(), &format!("{PREFIX}{digest}-"), "")
}

/// Sets mode and time of a tree's top.
fn seal(fs: &Fs, place: &Path) -> Result<(), FsError> {
    fs.chmod(place, OPEN_MODE)?;
    fs.fix_times(place)
}

/// The trees whose placing was cut off, each with its mark if its process is gone.
pub(crate) fn half_placed(fs: &Fs, layout: &Layout) -> Result<Vec<(Digest, PathBuf)>, FsError> {
    let mut found = Vec::new();
    for name in fs.list(&layout.tmp())? {
        let digest = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.get(..64));
        if let Some(digest) = digest.and_then(|hex| hex.parse().ok()) {
            found.push((digest, layout.tmp().join(name)));
        }
    }
    Ok(found)
}

/// Finishes what was cut off; what cannot be finished is told to `stays`, and keeps its mark.
pub(crate) fn sweep(
    fs: &Fs,
    layout: &Layout,
    stays: &mut dyn FnMut(FsError),
) -> Result<(), FsError> {
    for name in fs.list(&layout.tmp())? {
        if name.to_string_lossy().starts_with(CLOCK)
            && let Err(error) = fs.remove_all(&layout.tmp().join(name))
        {
            stays(error);
        }
    }
    for (digest, path) in half_placed(fs, layout)? {
        if let Err(error) = finish_if_dead(fs, layout, &digest, &path) {
            stays(error);
        }
    }
    Ok(())
}

fn finish_if_dead(fs: &Fs, layout: &Layout, digest: &Digest, mark: &Path) -> Result<(), FsError> {
    if let Some(_seized) = mark::seize(fs, mark)? {
        present(seal(fs, &layout.object(&Object::tree(*digest))))?;
        fs.remove_all(mark)?;
    }
    Ok(())
}
