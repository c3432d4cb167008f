//! After a power failure: what had not been flushed is rehashed before anything is served.

use crate::boot;
use crate::fsio::{Fs, FsError, ctime_ns};
use crate::inventory::{self, Entry};
use crate::layout::Layout;
use crate::notice::Notice;
use crate::realisation::Realisation;
use crate::trash;
use crate::{lock, rehash};

/// If an earlier boot ended before all was flushed, looks at everything that may be torn and
/// moves what is out of the way.
pub(crate) fn after_boot(
    fs: &Fs,
    layout: &Layout,
    boot: &str,
    notices: &mut Vec<Notice>,
) -> Result<(), FsError> {
    if boot::doubt(fs, layout, boot)?.is_none() {
        return Ok(());
    }
    // Of several processes one does it, the others wait and then find it done.
    let _exclusive = lock::gc_exclusive(fs, layout)?;
    let Some(doubt) = boot::doubt(fs, layout, boot)? else { return Ok(()) };
    for item in inventory::all(fs, layout)? {
        if ctime_ns(&fs.lstat(&item.path)?) < doubt.since_ns {
            continue;
        }
        let sound = match item.entry {
            Entry::Object(object) => rehash::content(fs, &item.path, &object)?.is_none(),
            // A listing is checked against its tree's digest whenever it is read.
            Entry::Listing(_) | Entry::Stranger => true,
            Entry::Record(_) => Realisation::decode(&fs.read(&item.path)?).is_ok(),
        };
        if !sound {
            trash::set_aside(fs, layout, &item.path)?;
            let what = "it had not reached the disk when the machine went down; it was removed \
                        and will be made again";
            notices.push(Notice { path: item.path, what: what.to_owned() });
        }
    }
    doubt.settle(fs)
}
