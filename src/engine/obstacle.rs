//! What stands in the way of using the store, and how to go on.
//!
//! Unaware of what was being done.

use std::{error::Error, io::ErrorKind, path::Path};

use kiln_cache::Store;

use crate::diagnostic::chain;

/// Less free space than this is as good as none.
const LITTLE: u64 = 256 << 10;

/// Room for fewer files than this is as good as none.
const FEW: u64 = 64;

/// How to go on after an error that the disk of the store in `home` gave; `None` if it says nothing of the disk.
pub fn advice(home: &Path, error: &(dyn Error + 'static)) -> Option<String> {
    advice_on(home, kind(error)?)
}

/// How to go on after an error of this kind that the disk of the store in `home` gave.
pub fn advice_on(home: &Path, kind: ErrorKind) -> Option<String> {
    let home = home.display();
    match kind {
        ErrorKind::StorageFull => Some(full(&home)),
        ErrorKind::QuotaExceeded => Some(format!(
            "your share of the disk that the store in {home} is on is used up: kiln gc gives back what nothing \
             holds any more"
        )),
        ErrorKind::ReadOnlyFilesystem => {
            Some("name a store that can be written to: --home DIR, or KILN_HOME=DIR".to_owned())
        }
        ErrorKind::PermissionDenied => Some(format!(
            "the store in {home} has to belong to the user who runs kiln, with all that is in it: give it to them \
             (chown -R), or name another place: --home DIR, or KILN_HOME=DIR"
        )),
        _ => None,
    }
}

fn full(home: &impl std::fmt::Display) -> String {
    format!(
        "the disk that the store in {home} is on is full: kiln gc gives back what nothing holds any more; or make room \
         otherwise, or name another place: --home DIR, or KILN_HOME=DIR"
    )
}

/// How to go on after something failed for whatever reason, if the disk of the store is full now.
pub fn advice_if_full(store: &Store) -> Option<String> {
    let found = rustix::fs::statvfs(store.home()).ok()?;
    let space = found.f_bavail.saturating_mul(found.f_frsize);
    // File systems without a table of files have none of them, free or not.
    let files = if found.f_files == 0 { FEW } else { found.f_favail };
    (space < LITTLE || files < FEW).then(|| full(&store.home().display()))
}

/// How to go on after an error that some disk gave, if it says that there was no room.
pub fn advice_on_room(store: &Store, error: &(dyn Error + 'static)) -> Option<String> {
    let kind = kind(error)?;
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        .then(|| advice_on(store.home(), kind))
        .flatten()
}

/// How to go on after a step said that it found no room, though there is some: it may have asked for more than there is,
/// or somebody has made room since.
pub fn advice_if_filled(store: &Store) -> String {
    format!(
        "a disk that the step wrote to was full: its files lie on that of the store in {}, where kiln gc gives back what \
         nothing holds any more; /dev/shm lies in memory",
        store.home().display()
    )
}

/// What the system said, wherever in the chain of causes it stands.
pub fn kind(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        if let Some(error) = error.downcast_ref::<rustix::io::Errno>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}

/// Why a step cannot run here, and how to go on, if the store can only be read.
pub fn cannot_record(store: &Store) -> Option<(String, String)> {
    let error = store.permit_change().err()?;
    let reason = format!("it has to run, and its result could not be kept: {}", chain(&error));
    let help = advice(store.home(), &error).unwrap_or_default();
    Some((reason, help))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed")]
    struct Above(#[source] io::Error);

    #[test]
    fn the_disk_is_heard_however_deep_in_the_chain_it_speaks() {
        let home = Path::new("/the/store");
        let of = |kind| advice(home, &Above(io::Error::from(kind)));
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            let advice = of(kind).unwrap();
            assert!(advice.contains("/the/store") && advice.contains("kiln gc"), "{advice}");
        }
        assert!(of(ErrorKind::PermissionDenied).unwrap().contains("--home"));
        assert!(of(ErrorKind::ReadOnlyFilesystem).unwrap().contains("KILN_HOME"));
        assert_eq!(of(ErrorKind::NotFound), None);
    }
}
