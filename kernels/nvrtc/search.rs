//! Where NVRTC is: the places where toolkits, wheels and distributions put it, in a fixed order.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The library.
    pub library: PathBuf,
    /// What it needs opened first.
    pub builtins: Vec<PathBuf>,
}

/// It was found nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "NVRTC, which compiles CUDA kernels, is not on this machine\nlooked in:\n{}\n\
     help: `pip install nvidia-cuda-nvrtc-cu12` in an active virtual environment (no GPU or driver is needed),\n\
     \x20     or install the CUDA toolkit and set CUDA_HOME,\n\
     \x20     or set KILN_NVRTC to the library or its folder",
    looked.iter().map(|place| format!("  {place}")).collect::<Vec<_>>().join("\n")
)]
pub struct NotFound {
    /// Every place, with what makes it one.
    pub looked: Vec<String>,
}

/// Looks for NVRTC: at `KILN_NVRTC`, in `toolchain` (what a step is given), at `CUDA_HOME`, in `/usr/local/cuda*`, in the
/// virtual environment that is active, and where the loader looks. `variable` gives the caller's variables.
///
/// # Errors
/// If it is nowhere; also if `KILN_NVRTC` or the toolchain names a place without it: who says where, means it.
pub fn find(
    variable: &dyn Fn(&str) -> Option<OsString>,
    toolchain: Option<&Path>,
) -> Result<Found, NotFound> {
    let mut looked = Vec::new();
    let mut all = |why: &str, folders: Vec<PathBuf>| -> Option<Found> {
        if folders.is_empty() {
            looked.push(format!("{why}: not there"));
        }
        for folder in folders {
            looked.push(format!("{why}: {}", folder.display()));
            if let Some(found) = inside(&folder) {
                return Some(found);
            }
        }
        None
    };
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    for (why, named) in
        [("KILN_NVRTC", set("KILN_NVRTC")), ("the step's toolchain", toolchain.map(Path::to_owned))]
    {
        if let Some(place) = named {
            let found = all(why, under(&place));
            return found.ok_or(NotFound { looked });
        }
    }
    let local = sorted(Path::new("/usr/local"), |name| name.starts_with("cuda"));
    let found = all("CUDA_HOME", set("CUDA_HOME").map(|home| under(&home)).unwrap_or_default())
        .or_else(|| {
            all("/usr/local/cuda*", local.iter().rev().flat_map(|home| under(home)).collect())
        })
        .or_else(|| {
            let environment = set("VIRTUAL_ENV").map(|place| wheels(&place)).unwrap_or_default();
            all("the active virtual environment", environment)
        })
        .or_else(|| {
            let path = variable("LD_LIBRARY_PATH").unwrap_or_default();
            let mut folders: Vec<PathBuf> =
                std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
            folders.extend(cached(Path::new("/etc/ld.so.cache")));
            all("the loader's folders", folders)
        });
    found.ok_or(NotFound { looked })
}

/// A library itself, or the folders under a toolkit or environment where it may be.
fn under(place: &Path) -> Vec<PathBuf> {
    let mut folders = vec![place.to_owned()];
    folders.extend(
        ["lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"]
            .map(|folder| place.join(folder)),
    );
    folders.extend(wheels(place));
    folders
}

/// Where wheels put it in a virtual environment, or in a folder that `pip install --target` filled.
fn wheels(environment: &Path) -> Vec<PathBuf> {
    let mut roots = vec![environment.to_owned()];
    for lib in ["lib", "lib64"] {
        for python in sorted(&environment.join(lib), |name| name.starts_with("python")) {
            roots.push(python.join("site-packages"));
        }
    }
    roots
        .iter()
        .flat_map(|root| {
            ["nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"].map(|folder| root.join(folder))
        })
        .filter(|folder| folder.is_dir())
        .collect()
}

/// The folders of NVRTC that the loader's cache names: its strings end with zero bytes.
fn cached(cache: &Path) -> Vec<PathBuf> {
    let bytes = fs::read(cache).unwrap_or_default();
    let mut folders: Vec<PathBuf> = bytes
        .split(|byte| *byte == 0)
        .filter_map(|part| std::str::from_utf8(part).ok())
        .filter_map(|text| text.find('/').map(|at| Path::new(&text[at..])))
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libnvrtc.so."))
        })
        .filter_map(|path| path.parent().map(Path::to_owned))
        .collect();
    folders.dedup();
    folders
}

/// The newest NVRTC in a folder, or the one that `place` is.
fn inside(place: &Path) -> Option<Found> {
    let (library, folder) = if place.is_file() {
        (place.to_owned(), place.parent()?.to_owned())
    } else {
        let library = |major: u32| {
            let exact = place.join(format!("libnvrtc.so.{major}"));
            let named =
                || sorted(place, |name| name.starts_with(&format!("libnvrtc.so.{major}."))).pop();
            if exact.is_file() { Some(exact) } else { named() }
        };
        (library(13).or_else(|| library(12))?, place.to_owned())
    };
    // A link's target stands in the folder of the builtins.
    let library = library.canonicalize().ok()?;
    let beside = library.parent().map_or(folder, Path::to_owned);
    let mut builtins: Vec<PathBuf> = sorted(&beside, |name| {
        name.starts_with("libnvrtc-builtins.so.") && !name.contains(".alt.")
    });
    builtins = builtins.into_iter().filter_map(|path| path.canonicalize().ok()).collect();
    builtins.sort();
    builtins.dedup();
    Some(Found { library, builtins })
}

fn sorted(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(&wanted))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    fn look(variables: &[(&str, &Path)], toolchain: Option<&Path>) -> Result<Found, NotFound> {
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(own, _)| *own == name)
                .map(|(_, value)| value.as_os_str().to_owned())
        };
        find(&variable, toolchain)
    }

    #[test]
    fn the_first_place_that_is_named_counts_and_the_builtins_come_along() {
        let toolkit = place(&[
            "lib64/libnvrtc.so.12",
            "lib64/libnvrtc-builtins.so.12.9",
            "lib64/libnvrtc-builtins.alt.so.12.9",
        ]);
        let wheel = place(&["lib/python3.11/site-packages/nvidia/cu13/lib/libnvrtc.so.13"]);
        let own = place(&["libnvrtc.so.13", "libnvrtc.so.12"]);
        let (toolkit, wheel, own) = (toolkit.path(), wheel.path(), own.path());
        let found = look(&[("CUDA_HOME", toolkit), ("VIRTUAL_ENV", wheel)], None).unwrap();
        assert!(found.library.ends_with("lib64/libnvrtc.so.12"));
        assert!(
            found.builtins.len() == 1 && found.builtins[0].ends_with("libnvrtc-builtins.so.12.9")
        );
        let found = look(&[("VIRTUAL_ENV", wheel)], Some(toolkit)).unwrap();
        assert!(found.library.ends_with("libnvrtc.so.12"));
        let variables = [("KILN_NVRTC", own), ("CUDA_HOME", toolkit)];
        let found = look(&variables, Some(toolkit)).unwrap();
        assert!(
            found.library.ends_with("libnvrtc.so.13")
                && found.library.starts_with(own.canonicalize().unwrap())
        );
        let file = own.join("libnvrtc.so.12");
        assert!(look(&[("KILN_NVRTC", &file)], None).unwrap().library.ends_with("libnvrtc.so.12"));
    }

    #[test]
    fn a_named_place_without_it_is_an_error_that_lists_where_it_looked_and_three_ways_on() {
        let empty = place(&[]);
        let said = look(&[("KILN_NVRTC", empty.path())], None).unwrap_err().to_string();
        assert!(
            said.contains(&format!("KILN_NVRTC: {}", empty.path().join("lib64").display())),
            "{said}"
        );
        assert!(!said.contains("CUDA_HOME:"), "{said}");
        for way in ["pip install nvidia-cuda-nvrtc-cu12", "set CUDA_HOME", "set KILN_NVRTC"] {
            assert!(said.contains(way), "{said}");
        }
    }

    #[test]
    fn the_loaders_cache_tells_folders() {
        let root = place(&[]);
        let cache = root.path().join("cache");
        fs::write(&cache, b"glibc-ld.so.cache1.1\0libc.so.6\0/lib/libc.so.6\0libnvrtc.so.12\0/opt/x/libnvrtc.so.12\0").unwrap();
        assert_eq!(cached(&cache), [Path::new("/opt/x")]);
        assert!(cached(Path::new("/nowhere")).is_empty());
    }
}
