//! The driver's libraries: they belong to the machine's kernel module, so that no step can bring its own.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// How the names of the driver's libraries begin.
const NAMES: [&str; 5] =
    ["libcuda.so", "libcudadebugger.so", "libnvidia-", "libnvcuvid.so", "libnvoptix.so"];

/// Where drivers put them without telling the loader: containers of clusters, NixOS, Windows' subsystem.
pub(super) const FOLDERS: [&str; 4] = [
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/run/opengl-driver/lib",
    "/usr/lib/wsl/lib",
];

/// Where the driver's libraries lie.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Libraries {
    /// Each library and each link to one, by path.
    pub(super) files: Vec<PathBuf>,
    /// Folders of them that the loader does not know.
    pub(super) unknown_to_loader: Vec<PathBuf>,
}

impl Libraries {
    /// Looks where the loader's cache says, and in `folders`.
    pub(super) fn find(loader_cache: &Path, folders: &[PathBuf]) -> Self {
        let cache = fs::read(loader_cache).unwrap_or_default();
        let known: BTreeSet<PathBuf> =
            cached(&cache).filter_map(|path| path.parent().map(Path::to_owned)).collect();
        let mut found = Self::default();
        for folder in folders.iter().filter(|folder| !known.contains(*folder)) {
            let files = libraries_in(folder);
            if !files.is_empty() {
                found.unknown_to_loader.push(folder.clone());
                found.files.extend(files);
            }
        }
        // The cache names what programs ask for, `libcuda.so.1`: a link to what lies beside it.
        found.files.extend(known.iter().flat_map(|folder| libraries_in(folder)));
        found.files.sort_unstable();
        found.files.dedup();
        found
    }
}

fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| is_driver(path) && path.exists()).collect()
}

fn is_driver(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    NAMES.iter().any(|begin| name.starts_with(begin.as_bytes()))
        && name.windows(3).any(|part| part == b".so")
}

/// The driver's libraries in the loader's cache. Its strings end with a NUL each, and paths begin with a slash; what
/// stands before them are numbers.
fn cached(cache: &[u8]) -> impl Iterator<Item = PathBuf> + '_ {
    cache.split(|&byte| byte == 0).filter_map(|text| {
        let start = text.iter().position(|&byte| byte == b'/')?;
        let path = PathBuf::from(OsStr::from_bytes(&text[start..]));
        is_driver(&path).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn libraries_are_found_where_the_loader_knows_them_and_where_it_does_not() {
        let root = tempfile::tempdir().unwrap();
        let (known, unknown) = (root.path().join("known"), root.path().join("unknown"));
        for folder in [&known, &unknown] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(known.join("libcuda.so.1.2"), "").unwrap();
        symlink("libcuda.so.1.2", known.join("libcuda.so.1")).unwrap();
        symlink("gone", known.join("libnvidia-gone.so")).unwrap();
        fs::write(known.join("libc.so.6"), "").unwrap();
        fs::write(unknown.join("libnvidia-ml.so.1"), "").unwrap();
        fs::write(unknown.join("libnvidia.txt"), "").unwrap();
        let mut cache = b"glibc-ld.so.cache1.1\x02\0\0\0\x07".to_vec();
        cache.extend(known.join("libc.so.6").as_os_str().as_bytes());
        cache.extend(b"\0libcuda.so.1\0");
        cache.extend(known.join("libcuda.so.1").as_os_str().as_bytes());
        cache.push(0);
        let at = root.path().join("ld.so.cache");
        fs::write(&at, cache).unwrap();
        let found = Libraries::find(&at, &[unknown.clone(), root.path().join("absent")]);
        assert_eq!(
            found.files,
            [
                known.join("libcuda.so.1"),
                known.join("libcuda.so.1.2"),
                unknown.join("libnvidia-ml.so.1")
            ]
        );
        assert_eq!(found.unknown_to_loader, [unknown]);
        assert_eq!(Libraries::find(Path::new("/no/such"), &[]), Libraries::default());
    }
}
