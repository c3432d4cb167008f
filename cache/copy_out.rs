//! Writable copies of what is in the store.

use std::path::Path;

use crate::fsio::{Fs, FsError};
use crate::object::Object;
use crate::store::Store;

impl Store {
    /// Copies an object out, writable, by reflink where the file system has them; gives the bytes
    /// of its files. Never overwrites: `dest` must not be there. A link into the store is made by
    /// its users, not by this.
    ///
    /// # Errors
    /// If the object is not in the store, `dest` is there, or the disk fails; what was made until
    /// then is removed.
    pub fn copy_out(&self, object: &Object, dest: &Path) -> Result<u64, FsError> {
        let from = self.path(object);
        let copied = copy(&self.fs, &from, dest);
        if let Err(error) = &copied
            && !(error.is_taken() && error.path == dest)
        {
            self.fs.remove_all(dest)?;
        }
        copied
    }
}

fn copy(fs: &Fs, from: &Path, to: &Path) -> Result<u64, FsError> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs.lstat(from)?;
    if metadata.is_symlink() {
        let target = fs.read_link(from)?;
        let target = target.to_str().ok_or_else(|| {
            FsError::new(
                "read the link",
                from,
                std::io::Error::from(std::io::ErrorKind::InvalidData),
            )
        })?;
        return fs.symlink(target, to).map(|()| 0);
    }
    if metadata.is_file() {
        // Subject to the umask, as for any file that the user makes.
        let mode = if metadata.mode() & 0o100 == 0 { 0o666 } else { 0o777 };
        let copy = fs.create_file(to, mode)?;
        fs.copy_bytes(&fs.open(from)?, &copy, to)?;
        return Ok(metadata.len());
    }
    fs.create_open_dir(to)?;
    let names = fs.list(from)?;
    names.iter().map(|name| copy(fs, &from.join(name), &to.join(name))).sum()
}
