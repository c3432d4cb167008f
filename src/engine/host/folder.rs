//! The state of a folder: one digest over what the system says of everything below it, without reading a file.
//!
//! A build looks at whole installations this way, tens of thousands of files, before it does anything else. So files are
//! looked at by name from their open folder, and folders on all cores. It is unaware of what the folder is for.

use std::{
    ffi::{CStr, CString, OsStr},
    fs::File,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use rayon::prelude::*;
use rustix::fs::{AtFlags, Dir, FileType, Stat};

use super::feed;

/// What of a file's metadata counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What stays when a folder is copied with its times.
    Content,
    /// Also what tells that a file was replaced or changed behind its times.
    Identity,
}

/// So many files of one folder are looked at by one thread.
const TOGETHER: usize = 256;

/// A digest over the state of a folder and all below it. Byte code that Python keeps aside is left out: running a program
/// writes it. What cannot be read counts as absent.
pub(crate) fn folder_state(folder: &Path, detail: Detail) -> blake3::Hash {
    state(folder, detail).digest
}

/// What a folder and all below it look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    /// See [`folder_state`].
    pub(crate) digest: blake3::Hash,
    /// When something of it was last changed, in nanoseconds since 1970.
    pub(crate) changed_ns: i64,
}

/// The state of a folder, and its age.
pub(crate) fn state(folder: &Path, detail: Detail) -> State {
    let mut found = listed(folder, detail).unwrap_or_default();
    let below = found.folders.into_par_iter().map(|(name, mut part)| {
        let path = folder.join(OsStr::from_bytes(name.to_bytes()));
        let below = state(&path, detail);
        part.extend(below.digest.as_bytes());
        ((name, part), below.changed_ns)
    });
    let (parts, changed): (Vec<Part>, Vec<i64>) = below.unzip();
    found.files.extend(parts);
    found.files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let mut hasher = blake3::Hasher::new_derive_key("kiln folder state 1");
    for (_, part) in found.files {
        feed(&mut hasher, &part);
    }
    let changed_ns = changed.into_iter().fold(found.changed_ns, i64::max);
    State { digest: hasher.finalize(), changed_ns }
}

/// A name, and what stands for it in the digest.
type Part = (CString, Vec<u8>);

/// What is in a folder; the parts of the folders among it lack what is in them.
#[derive(Default)]
struct Listed {
    files: Vec<Part>,
    folders: Vec<Part>,
    changed_ns: i64,
}

fn listed(folder: &Path, detail: Detail) -> Option<Listed> {
    // Closed before the folders in it are opened, so that a wide and deep one needs few open files.
    let open = File::open(folder).ok()?;
    let names: Vec<CString> = Dir::read_from(&open)
        .ok()?
        .map_while(Result::ok)
        .map(|entry| entry.file_name().to_owned())
        .filter(|name| !matches!(name.to_bytes(), b"." | b".." | b"__pycache__"))
        .collect();
    let parts = names.par_chunks(TOGETHER).flat_map_iter(|names| {
        names.iter().filter_map(|name| {
            let stat = rustix::fs::statat(&open, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let part = part(&open, name, &stat, detail)?;
            Some((stat, (name.clone(), part)))
        })
    });
    let mut listed = Listed::default();
    for (stat, part) in parts.collect::<Vec<_>>() {
        listed.changed_ns = listed.changed_ns.max(changed_ns(&stat));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => listed.folders.push(part),
            _ => listed.files.push(part),
        }
    }
    Some(listed)
}

// The widths of the fields differ between platforms.
#[allow(clippy::unnecessary_cast)]
fn changed_ns(stat: &Stat) -> i64 {
    let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
    let content = ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64);
    content.max(ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64))
}

// The widths of the fields differ between platforms.
#[allow(clippy::unnecessary_cast)]
fn part(folder: &File, name: &CStr, stat: &Stat, detail: Detail) -> Option<Vec<u8>> {
    let mut part = Vec::with_capacity(name.to_bytes().len() + 64);
    part.extend(name.to_bytes());
    part.push(0);
    part.extend((stat.st_mode as u32).to_le_bytes());
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {}
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(folder, name, Vec::new()).ok()?;
            part.extend(target.to_bytes());
        }
        _ => {
            let content = [stat.st_size as i64, stat.st_mtime as i64, stat.st_mtime_nsec as i64];
            part.extend(content.into_iter().flat_map(i64::to_le_bytes));
            if detail == Detail::Identity {
                let identity =
                    [stat.st_ino as i64, stat.st_ctime as i64, stat.st_ctime_nsec as i64];
                part.extend(identity.into_iter().flat_map(i64::to_le_bytes));
            }
        }
    }
    Some(part)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    };

    use super::*;

    #[test]
    fn the_state_of_a_folder_sees_every_change_but_byte_code() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("lib/__pycache__")).unwrap();
        fs::write(at("lib/x"), "1").unwrap();
        std::os::unix::fs::symlink("x", at("lib/y")).unwrap();
        let state = || folder_state(folder.path(), Detail::Content);
        let first = state();
        fs::write(at("lib/__pycache__/x.pyc"), "code").unwrap();
        assert_eq!(state(), first);
        fs::write(at("lib/x"), "22").unwrap();
        let second = state();
        assert_ne!(second, first);
        fs::remove_file(at("lib/y")).unwrap();
        std::os::unix::fs::symlink("z", at("lib/y")).unwrap();
        assert_ne!(state(), second);
    }

    /// The same digest, one file after the other, as `std` tells of them.
    fn serial(folder: &Path, detail: Detail) -> blake3::Hash {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let mut hasher = blake3::Hasher::new_derive_key("kiln folder state 1");
        for name in names.iter().filter(|name| *name != "__pycache__") {
            let path = folder.join(name);
            let meta = fs::symlink_metadata(&path).unwrap();
            let mut part = [name.as_bytes(), b"\0"].concat();
            part.extend(meta.mode().to_le_bytes());
            if meta.is_dir() {
                part.extend(serial(&path, detail).as_bytes());
            } else if meta.is_symlink() {
                part.extend(fs::read_link(&path).unwrap().as_os_str().as_bytes());
            } else {
                let mut numbers = vec![meta.len() as i64, meta.mtime(), meta.mtime_nsec()];
                if detail == Detail::Identity {
                    numbers.extend([meta.ino() as i64, meta.ctime(), meta.ctime_nsec()]);
                }
                part.extend(numbers.into_iter().flat_map(i64::to_le_bytes));
            }
            feed(&mut hasher, &part);
        }
        hasher.finalize()
    }

    #[test]
    fn on_all_cores_the_state_is_what_it_is_on_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for number in 0..700 {
            fs::create_dir_all(at(&format!("{}/{}", number % 7, number % 13))).unwrap();
            fs::write(at(&format!("{}/{}/{number}", number % 7, number % 13)), "x").unwrap();
            fs::write(at(&format!("wide-{number}")), "x").unwrap();
        }
        fs::create_dir(at("empty")).unwrap();
        fs::write(at("a\u{e9}-"), "").unwrap();
        fs::write(at(OsStr::from_bytes(b"a\xff").to_string_lossy().as_ref()), "").unwrap();
        fs::set_permissions(at("wide-5"), fs::Permissions::from_mode(0o4755)).unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        for detail in [Detail::Content, Detail::Identity] {
            assert_eq!(folder_state(folder.path(), detail), serial(folder.path(), detail));
        }
        assert_eq!(
            folder_state(&at("absent"), Detail::Content),
            folder_state(&at("empty"), Detail::Content)
        );
    }
}
