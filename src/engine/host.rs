//! Which host this is, as far as a step that sees its system folders can tell.
//!
//! The identity goes into the keys of such steps. It consists of facts that only an administrator changes: the
//! distribution, the C library, the installed packages, and what stands in `/usr/local` and `/opt`. It is unaware of
//! keys and of steps.

mod folder;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

pub(crate) use folder::{Detail, folder_state, state};

/// The facts that make a host what it is to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIdentity {
    /// `ID` of `/etc/os-release`: `debian`.
    pub distribution: String,
    /// `VERSION_ID` of `/etc/os-release`, or the rolling release's `BUILD_ID`: `12`.
    pub version: String,
    /// The processor's architecture: `x86_64`.
    pub architecture: String,
    /// The C library and its version: `glibc 2.36`.
    pub libc: String,
    /// BLAKE3, in hexadecimal, over the installed packages; `none` where no database of packages is known.
    pub packages_digest: String,
    /// BLAKE3, in hexadecimal, over what stands in `/usr/local`, `/opt` and `/etc/alternatives`: paths, kinds, sizes,
    /// modification times and targets of links.
    pub local_digest: String,
}

impl HostIdentity {
    /// The facts with their labels, in a fixed order.
    pub fn fields(&self) -> Vec<(String, String)> {
        [
            ("architecture", &self.architecture),
            ("distribution", &self.distribution),
            ("libc", &self.libc),
            ("local", &self.local_digest),
            ("packages", &self.packages_digest),
            ("version", &self.version),
        ]
        .map(|(label, fact)| (label.to_owned(), fact.clone()))
        .into()
    }

    /// One digest over all facts.
    pub fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_derive_key("kiln host identity 1");
        for (label, fact) in self.fields() {
            feed(&mut hasher, label.as_bytes());
            feed(&mut hasher, fact.as_bytes());
        }
        hasher.finalize()
    }
}

/// Adds one field, so that no two lists of fields look alike.
pub(crate) fn feed(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// This host's identity. What is slow to read is remembered in the folder `cache`, and read again when the files behind
/// it have changed.
pub fn identity(cache: Option<&Path>) -> HostIdentity {
    let release = release(&fs::read_to_string("/etc/os-release").unwrap_or_default());
    let fact = |name: &str| release.get(name).cloned().unwrap_or_else(|| "unknown".to_owned());
    let sources = [package_database(), c_library()];
    let stamps: Vec<_> = sources.iter().flatten().map(|path| Stamp::of(path)).collect();
    let remembered = cache.and_then(|cache| Remembered::load(cache, &stamps));
    let slow = remembered.unwrap_or_else(|| {
        let [packages, libc] = &sources;
        let slow = Remembered {
            stamps,
            packages: packages.as_deref().map_or_else(|| "none".into(), packages_digest),
            libc: libc.as_deref().map_or_else(|| "unknown".into(), libc_version),
        };
        if let Some(cache) = cache {
            slow.store(cache);
        }
        slow
    });
    HostIdentity {
        distribution: fact("ID"),
        version: release.get("VERSION_ID").cloned().unwrap_or_else(|| fact("BUILD_ID")),
        architecture: std::env::consts::ARCH.to_owned(),
        libc: slow.libc,
        packages_digest: slow.packages,
        local_digest: local_digest(),
    }
}

/// Names and values of an `os-release` file.
pub(crate) fn release(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
        .collect()
}

/// The database of installed packages, whichever kind there is.
fn package_database() -> Option<PathBuf> {
    [
        DPKG_STATUS,
        "/usr/lib/sysimage/rpm/rpmdb.sqlite",
        "/var/lib/rpm/rpmdb.sqlite",
        "/var/lib/rpm/Packages.db",
        "/var/lib/rpm/Packages",
        "/lib/apk/db/installed",
        "/var/lib/pacman/local",
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|path| path.exists())
}

/// Where Debian and its kin note the state of every package.
pub(crate) const DPKG_STATUS: &str = "/var/lib/dpkg/status";

fn packages_digest(database: &Path) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("kiln packages 1");
    if database == Path::new(DPKG_STATUS) {
        // The file also holds what the user asked for and notes about upgrades, which change nothing that runs.
        for line in installed(&fs::read_to_string(database).unwrap_or_default()) {
            feed(&mut hasher, line.as_bytes());
        }
    } else if database.is_dir() {
        // One folder a package, called by its name and version.
        for name in sorted_names(database).unwrap_or_default() {
            feed(&mut hasher, name.as_bytes());
        }
    } else {
        feed(&mut hasher, &fs::read(database).unwrap_or_default());
    }
    hasher.finalize().to_hex().to_string()
}

/// Name, version and architecture of each installed package, sorted.
fn installed(status: &str) -> Vec<String> {
    let mut all: Vec<String> = status
        .split("\n\n")
        .filter(|stanza| stanza.lines().any(|line| line == "Status: install ok installed"))
        .map(|stanza| {
            let field = |name: &str| {
                let mut lines = stanza.lines();
                lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or("")
            };
            format!("{} {} {}", field("Package"), field("Version"), field("Architecture"))
        })
        .collect();
    all.sort_unstable();
    all
}

fn c_library() -> Option<PathBuf> {
    let arch = std::env::consts::ARCH;
    [
        format!("/lib/{arch}-linux-gnu/libc.so.6"),
        "/lib64/libc.so.6".to_owned(),
        "/usr/lib/libc.so.6".to_owned(),
        format!("/lib/ld-musl-{arch}.so.1"),
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|path| path.exists())
}

/// The version that the library's own banner tells; without one, the digest of the library.
fn libc_version(library: &Path) -> String {
    const BANNER: &[u8] = b"GNU C Library";
    const VERSION: &[u8] = b"release version ";
    let bytes = fs::read(library).unwrap_or_default();
    let find = |from: usize, what: &[u8]| {
        bytes[from..].windows(what.len()).position(|window| window == what).map(|at| from + at)
    };
    let version = find(0, BANNER).and_then(|banner| find(banner, VERSION)).and_then(|at| {
        let rest = &bytes[at + VERSION.len()..];
        let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
        Some(str::from_utf8(&rest[..end]).ok()?.trim_end_matches('.').to_owned())
    });
    version.map_or_else(
        || format!("musl {}", blake3::hash(&bytes).to_hex()),
        |version| format!("glibc {version}"),
    )
}

fn local_digest() -> String {
    let mut hasher = blake3::Hasher::new_derive_key("kiln local software 1");
    for folder in ["/usr/local", "/opt", "/etc/alternatives"] {
        hasher.update(folder_state(Path::new(folder), Detail::Content).as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

pub(crate) fn sorted_names(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// A file's identity at the moment it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    path: PathBuf,
    numbers: [i64; 5],
}

impl Stamp {
    /// The present one; a file that is not there has one too.
    pub(crate) fn of(path: &Path) -> Self {
        let numbers = fs::metadata(path).map_or([0; 5], |meta| {
            let nanos =
                |seconds: i64, nanos: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos);
            [
                meta.dev() as i64,
                meta.ino() as i64,
                meta.len() as i64,
                nanos(meta.mtime(), meta.mtime_nsec()),
                nanos(meta.ctime(), meta.ctime_nsec()),
            ]
        });
        Self { path: path.to_owned(), numbers }
    }

    /// Its path, if it is not any more as it was.
    pub(crate) fn moved(&self) -> Option<&Path> {
        (Self::of(&self.path) != *self).then_some(&self.path)
    }

    /// Whether the file has rested long enough that a later change shows in its times.
    pub(crate) fn is_settled(&self) -> bool {
        is_settled(self.numbers[3].max(self.numbers[4]))
    }
}

/// Whether what was last changed at this time, in nanoseconds since 1970, has rested long enough that a later change
/// shows in its times.
pub(crate) fn is_settled(changed_ns: i64) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let margin = Duration::from_secs(2);
    i128::from(changed_ns) + (margin.as_nanos() as i128) < now.as_nanos() as i128
}

/// What takes milliseconds to find out, and what it was found out from.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    stamps: Vec<Stamp>,
    packages: String,
    libc: String,
}

const REMEMBERED: &str = "host-1.json";

impl Remembered {
    fn load(cache: &Path, stamps: &[Stamp]) -> Option<Self> {
        let found: Self = serde_json::from_slice(&fs::read(cache.join(REMEMBERED)).ok()?).ok()?;
        (found.stamps == stamps).then_some(found)
    }

    fn store(&self, cache: &Path) {
        if self.stamps.iter().all(Stamp::is_settled) {
            remember(cache, REMEMBERED, self);
        }
    }
}

/// Keeps `value` in the folder `cache`. What cannot be kept is found out again next time, so failure is no error.
pub(crate) fn remember(cache: &Path, name: &str, value: &impl Serialize) {
    if let Ok(bytes) = serde_json::to_vec(value) {
        keep(&cache.join(name), &bytes);
    }
}

/// Keeps derived data in a file, whole or not at all. What cannot be kept is found out again next time, so failure is
/// no error.
pub(crate) fn keep(path: &Path, bytes: &[u8]) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let Some(folder) = path.parent() else { return };
    // The time keeps two processes apart whose numbers are the same, in containers for instance.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let aside =
        path.with_extension(format!("{}-{}-{number}.aside", std::process::id(), now.as_nanos()));
    let done = fs::create_dir_all(folder)
        .and_then(|()| fs::write(&aside, bytes))
        .and_then(|()| fs::rename(&aside, path));
    if done.is_err() {
        let _ = fs::remove_file(&aside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_stable_and_the_same_from_the_cache() {
        let cache = tempfile::tempdir().unwrap();
        let first = identity(Some(cache.path()));
        assert_eq!(identity(Some(cache.path())), first);
        assert_eq!(identity(None), first);
        assert_eq!(identity(None).digest(), first.digest());
        assert_eq!(first.architecture, std::env::consts::ARCH);
        assert!(first.fields().iter().all(|(_, fact)| !fact.is_empty()));
    }

    #[test]
    fn every_fact_is_in_the_digest() {
        let host = identity(None);
        for index in 0..host.fields().len() {
            let mut other = host.clone();
            let facts = [
                &mut other.architecture,
                &mut other.distribution,
                &mut other.libc,
                &mut other.local_digest,
                &mut other.packages_digest,
                &mut other.version,
            ];
            facts.into_iter().nth(index).unwrap().push('x');
            assert_ne!(other.digest(), host.digest());
        }
    }

    #[test]
    fn a_cache_that_lies_about_its_sources_is_not_believed() {
        let cache = tempfile::tempdir().unwrap();
        let stamps = vec![Stamp::of(Path::new("/etc/passwd"))];
        let lie = Remembered { stamps: stamps.clone(), packages: "p".into(), libc: "l".into() };
        remember(cache.path(), REMEMBERED, &lie);
        assert_eq!(Remembered::load(cache.path(), &stamps), Some(lie));
        assert_eq!(Remembered::load(cache.path(), &[Stamp::of(Path::new("/etc/group"))]), None);
    }

    #[test]
    fn only_installed_packages_count_and_their_order_does_not() {
        let a = "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1";
        let b = "Package: b\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1";
        let c = "Package: c\nConffiles:\n /etc/c 12\nStatus: install ok installed\nVersion: 2";
        assert_eq!(installed(&format!("{c}\n\n{b}\n\n{a}\n")), ["a 1 all", "c 2 "]);
    }

    #[test]
    fn a_release_file_is_read_without_its_quotes() {
        let facts = release("ID=debian\nVERSION_ID=\"12\"\n# x\n");
        assert_eq!((facts["ID"].as_str(), facts["VERSION_ID"].as_str()), ("debian", "12"));
    }
}
