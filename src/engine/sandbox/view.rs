//! What a step sees of the host, as a list of entries for its root, or of paths that it may touch.
//!
//! Pure planning over what stands on the host: nothing is mounted or made here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    feature::{Capabilities, Feature},
    layout::Layout,
    namespaces::INSIDE_ID,
    plan::{Entry, Grant},
    spec::{Spec, View},
};

/// The folders of programs, libraries and their data. On most systems some are links into `/usr`.
const SYSTEM: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/libexec", "/opt"];

/// What of them holds shared libraries.
const LIBRARIES: [&str; 8] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
];

/// What of `/etc` programs cannot do without. Not the whole: root's steps would read root's secrets.
const SETTINGS: [&str; 16] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/pki/ca-trust/extracted",
    "/etc/crypto-policies",
    "/etc/fonts",
    "/etc/mime.types",
    "/etc/protocols",
    "/etc/services",
    "/etc/R",
    "/etc/magic",
];

const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// By how many bytes a step's processes can pass its memory limit between two looks at them, and some.
const SLACK: u64 = 512 << 20;

/// Where a builder that kiln brings stands.
pub(super) const BUILTIN: &str = "/build/kiln";

/// Where programs are looked for when the whole host is seen.
pub(super) const HOST_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the private roots of all steps with this view, these devices and this network have in common.
pub(super) fn common(spec: &Spec, layout: &Layout) -> Vec<Entry> {
    let mut all = Vec::new();
    match &spec.view {
        View::Host => {
            all.extend(
                SYSTEM.iter().chain(&SETTINGS).filter_map(|path| as_it_stands(path.as_ref())),
            );
        }
        View::Tools(tools) => {
            // The links that make `/bin` and `/usr/bin` one have to be there, whatever they lead to.
            all.extend(
                SYSTEM
                    .iter()
                    .filter_map(|path| as_it_stands(path.as_ref()))
                    .filter(|entry| matches!(entry, Entry::Link(..))),
            );
            all.extend(tools.binds.iter().filter_map(|path| as_it_stands(path)));
            all.push(Entry::Folder(layout.bin()));
            for (name, program) in &tools.programs {
                all.push(Entry::Link(layout.bin().join(name), program.clone()));
            }
        }
        View::Builtin { exe, libraries: own } => {
            all.extend(
                own.iter().map(|path| Entry::Read { host: path.clone(), at: layout.library(path) }),
            );
            let libraries = LIBRARIES.iter().chain(&["/etc/ld.so.cache"]);
            all.extend(libraries.filter_map(|path| as_it_stands(path.as_ref())));
            all.push(Entry::Read { host: exe.clone(), at: BUILTIN.into() });
        }
    }
    all.extend(spec.devices.libraries.iter().filter_map(|path| as_it_stands(path)));
    let mut all = without_nested(all);
    all.extend(own_settings(spec.network));
    all.extend(DEVICES.map(|path| Entry::Device(path.into())));
    all.extend(
        spec.devices
            .nodes
            .iter()
            .map(|node| Entry::Node { host: node.host.clone(), at: node.at.clone() }),
    );
    for (at, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        all.push(Entry::Link(at.into(), target.into()));
    }
    // What has its mounts in the next list.
    all.extend(["/dev/shm", "/proc"].map(|path| Entry::Folder(path.into())));
    all.extend(
        [layout.inputs(), layout.work(), layout.outputs(), layout.home(), layout.tmp()]
            .map(Entry::Folder),
    );
    all
}

/// What the private root of `spec` has besides, all of it mounts.
pub(super) fn own(spec: &Spec, layout: &Layout) -> Vec<Entry> {
    // Beyond the limit, so that it is the watch over memory that ends the step, and says why.
    let shared = spec.limits.memory.map(|limit| limit.saturating_add(SLACK));
    let mut all = vec![Entry::Memory("/dev/shm".into(), shared), Entry::Proc];
    for (name, at) in [
        ("work", layout.work()),
        ("out", layout.outputs()),
        ("home", layout.home()),
        ("tmp", layout.tmp()),
    ] {
        all.push(Entry::Write { host: spec.scratch.join(name), at });
    }
    let request = spec.scratch.join("request.json");
    if request.exists() {
        all.push(Entry::Read { host: request, at: layout.request() });
    }
    for input in &spec.inputs {
        all.push(Entry::Read { host: input.host.clone(), at: layout.input(&input.place) });
    }
    all
}

/// Users, groups and names of the step's own.
fn own_settings(network: bool) -> Vec<Entry> {
    let id = INSIDE_ID;
    let file = |path: &str, text: String| Entry::File(path.into(), text.into_bytes());
    let mut all = vec![
        file(
            "/etc/passwd",
            format!(
                "root:x:0:0:root:/:/bin/sh\nkiln:x:{id}:{id}:kiln:/build/home:/bin/sh\n\
                 nobody:x:65534:65534:nobody:/:/bin/false\n"
            ),
        ),
        file("/etc/group", format!("root:x:0:\nkiln:x:{id}:\nnogroup:x:65534:\n")),
        file("/etc/hostname", "kiln\n".into()),
        file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".into()),
    ];
    if network {
        for path in ["/etc/resolv.conf", "/etc/hosts"] {
            // Often a link into `/run`, which the step does not see.
            if let Ok(host) = fs::canonicalize(path) {
                all.push(Entry::Read { host, at: path.into() });
            }
        }
    } else {
        all.push(file("/etc/hosts", "127.0.0.1 localhost kiln\n::1 localhost kiln\n".into()));
    }
    all
}

/// A path of the host at its own place: a link as a link, everything else read-only; nothing if it is not there.
fn as_it_stands(path: &Path) -> Option<Entry> {
    let kind = fs::symlink_metadata(path).ok()?.file_type();
    Some(if kind.is_symlink() {
        Entry::Link(path.to_owned(), fs::read_link(path).ok()?)
    } else {
        Entry::Read { host: path.to_owned(), at: path.to_owned() }
    })
}

fn stands_at(entry: &Entry) -> &Path {
    match entry {
        Entry::Folder(at) | Entry::File(at, _) | Entry::Link(at, _) | Entry::Memory(at, _) => at,
        Entry::Read { at, .. } | Entry::Write { at, .. } | Entry::Node { at, .. } => at,
        Entry::Device(at) => at,
        Entry::Proc => Path::new("/proc"),
    }
}

/// Drops what a folder above already brings, and what is there twice. The order of the rest is by path.
fn without_nested(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| stands_at(a).cmp(stands_at(b)));
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut above: Option<PathBuf> = None;
    for entry in entries {
        let at = stands_at(&entry);
        if above.as_deref().is_some_and(|above| at.starts_with(above)) {
            continue;
        }
        // A folder of our own brings nothing; what stands in it has to be made.
        if !matches!(entry, Entry::Folder(_)) {
            above = Some(at.to_owned());
        }
        kept.push(entry);
    }
    kept
}

/// The paths that a step without a private root may touch.
pub(super) fn grants(spec: &Spec) -> Vec<Grant> {
    let read = |path: &Path| Grant { path: path.to_owned(), write: false };
    let mut all = vec![Grant { path: spec.scratch.clone(), write: true }];
    match &spec.view {
        View::Host => all.extend(SYSTEM.iter().chain(&SETTINGS).map(|path| read(path.as_ref()))),
        View::Tools(tools) => {
            all.extend(tools.binds.iter().map(|path| read(path)));
            all.extend(tools.programs.iter().map(|(_, path)| read(path)));
        }
        View::Builtin { exe, libraries } => {
            all.extend(libraries.iter().map(|path| read(path)));
            all.extend(LIBRARIES.iter().map(|path| read(path.as_ref())));
            all.push(read(exe));
        }
    }
    for path in ["/etc/ld.so.cache", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/proc"] {
        all.push(read(path.as_ref()));
    }
    if spec.network {
        all.extend(["/etc/resolv.conf", "/etc/hosts"].map(|path| read(path.as_ref())));
    }
    all.extend(DEVICES.map(|path| Grant { path: path.into(), write: true }));
    let nodes = spec.devices.nodes.iter();
    all.extend(nodes.map(|node| Grant { path: node.host.clone(), write: true }));
    all.extend(spec.devices.libraries.iter().map(|path| read(path)));
    all.extend(spec.inputs.iter().map(|input| read(&input.host)));
    all
}

/// Whether roots are copied from one that is made once, or made anew for each step.
pub(super) fn copies_roots(features: &[Feature]) -> bool {
    [Feature::MountNamespace, Feature::PidNamespace, Feature::Procfs, Feature::MountSetattr]
        .iter()
        .all(|feature| features.contains(feature))
}

/// The features that a step uses, of those that are there.
pub(super) fn features(capabilities: &Capabilities) -> Vec<Feature> {
    Feature::ALL
        .into_iter()
        .filter(|&feature| capabilities.works(feature))
        // A `/proc` of one's own needs process ids of one's own to show.
        .filter(|&feature| {
            feature != Feature::Procfs
                || (capabilities.works(Feature::PidNamespace) && capabilities.private_root())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_folder_brings_is_not_bound_again() {
        let read = |path: &str| Entry::Read { host: path.into(), at: path.into() };
        let all = vec![
            read("/opt/a/b"),
            read("/opt/a"),
            Entry::Link("/opt/a/c".into(), "b".into()),
            read("/opt/ab"),
            read("/opt/ab"),
            Entry::Folder("/build".into()),
            Entry::Link("/build/x".into(), "y".into()),
        ];
        let kept = [
            Entry::Folder("/build".into()),
            Entry::Link("/build/x".into(), "y".into()),
            read("/opt/a"),
            read("/opt/ab"),
        ];
        assert_eq!(without_nested(all), kept);
    }

    #[test]
    fn a_link_of_the_host_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("bin");
        std::os::unix::fs::symlink("usr/bin", &link).unwrap();
        assert_eq!(as_it_stands(&link), Some(Entry::Link(link.clone(), "usr/bin".into())));
        assert_eq!(as_it_stands(&folder.path().join("absent")), None);
    }
}
