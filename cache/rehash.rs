//! Whether an object's bytes are still those that its name promises.

use std::path::Path;

use crate::fsio::{Fs, FsError};
use crate::object::{Kind, Object};
use crate::scan::{self, ScanError};

/// Reads an object's content again. `None` if it is what it should be, else what is wrong.
pub(crate) fn content(fs: &Fs, path: &Path, object: &Object) -> Result<Option<String>, FsError> {
    let metadata = fs.lstat(path)?;
    match object.kind {
        Kind::File if !metadata.is_file() => Ok(Some("it is not a file".to_owned())),
        Kind::Tree if !metadata.is_dir() => Ok(Some("it is not a folder".to_owned())),
        Kind::File => {
            let (digest, _) = scan::hash(fs, path, metadata.len())?;
            let changed = digest != object.digest;
            Ok(changed.then(|| format!("its content has changed: its digest now is {digest}")))
        }
        Kind::Tree => match scan::read_folder(fs, path) {
            Ok(tree) => {
                let digest = tree.digest();
                let changed = digest != object.digest;
                Ok(changed.then(|| format!("its content has changed: its digest now is {digest}")))
            }
            Err(ScanError::Fs(error)) => Err(error),
            Err(ScanError::Refused(rel, refusal)) => Ok(Some(format!("{rel} in it: {refusal}"))),
        },
    }
}
