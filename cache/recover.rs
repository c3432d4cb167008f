//! After a power failure: what had not been flushed is rehashed before anything is served.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::boot;
use crate::directory;
use crate::fsio::{Fs, FsError, ctime_ns, present};
use crate::index;
use crate::inventory::{self, Entry};
use crate::item::Item;
use crate::layout::{Layout, RecordName};
use crate::notice::Notice;
use crate::object::{Kind, Object};
use crate::realisation::Realisation;
use crate::scan::{self, FILE_MODE, OPEN_MODE};
use crate::trash;
use crate::{lock, rehash};

/// If an earlier boot ended before all was flushed, looks at everything that may be torn and
/// moves what is out of the way; gives what that was.
///
/// The index goes as a whole: it is derived, and a source that had not reached the disk either may
/// look as it did when it was hashed, and hold something else.
pub(crate) fn after_boot(
    fs: &Fs,
    layout: &Layout,
    boot: &str,
    notices: &mut Vec<Notice>,
) -> Result<Vec<Item>, FsError> {
    if boot::doubt(fs, layout, boot)?.is_none() {
        return Ok(Vec::new());
    }
    // Of several processes one does it, the others wait and then find it done.
    let _exclusive = lock::gc_exclusive(fs, layout)?;
    let Some(doubt) = boot::doubt(fs, layout, boot)? else { return Ok(Vec::new()) };
    index::abandon(fs, &layout.index(), &layout.trash())?;
    let mut lost = Vec::new();
    for inventory::Item { path, entry } in inventory::all(fs, layout)? {
        let Some(metadata) = present(fs.lstat(&path))? else { continue };
        if ctime_ns(&metadata) < doubt.since_ns {
            continue;
        }
        // What cannot even be read is no better than what reads as something else.
        let sound = match entry {
            Entry::Object(object) => is_whole(fs, &path, &object).unwrap_or(false),
            // Whoever reads it would notice too, and make it again.
            Entry::Listing(digest) => {
                fs.read(&path).is_ok_and(|bytes| directory::decode_whole(&bytes, &digest).is_ok())
            }
            Entry::Stranger => true,
            Entry::Record(RecordName::Current(key) | RecordName::Earlier(key, _)) => {
                fs.read(&path).is_ok_and(|frame| Realisation::decode_under(&frame, &key).is_ok())
            }
        };
        if !sound {
            trash::set_aside(fs, layout, &path)?;
            let what = "it had not reached the disk when the machine went down; it was removed \
                        and will be made again";
            notices.push(Notice { path, what: what.to_owned() });
            match entry {
                Entry::Object(object) => lost.push(Item::Object(object)),
                Entry::Record(RecordName::Current(key)) => lost.push(Item::Realisation(key)),
                Entry::Listing(_) | Entry::Record(_) | Entry::Stranger => {}
            }
        }
    }
    doubt.settle(fs)?;
    Ok(lost)
}

/// Whether an object's content is what its name says. Modes that did not reach the disk are set
/// again.
fn is_whole(fs: &Fs, path: &Path, object: &Object) -> Result<bool, FsError> {
    if rehash::content(fs, path, object)?.is_some() {
        return Ok(false);
    }
    let wrong = match object.kind {
        Kind::Tree => scan::wrong_modes(fs, path)?,
        Kind::File => {
            let mode = fs.lstat(path)?.mode() & 0o7777;
            let wanted = if object.executable { OPEN_MODE } else { FILE_MODE };
            if mode == wanted { Vec::new() } else { vec![(String::new(), mode)] }
        }
    };
    for (rel, mode) in wrong {
        let path = if rel.is_empty() { path.to_owned() } else { path.join(rel) };
        let open = match object.kind {
            Kind::File => object.executable,
            Kind::Tree => mode & 0o100 != 0 || fs.lstat(&path)?.is_dir(),
        };
        fs.chmod(&path, if open { OPEN_MODE } else { FILE_MODE })?;
    }
    Ok(true)
}
