//! Where a step finds its things.
//!
//! With a private root the paths are the same on every machine, so that they cannot leak into results.
//! Without one they are the scratch folder's own. It is unaware of how the folders get there.

use std::path::{Path, PathBuf};

use super::{feature::Capabilities, spec::Wanted};

/// The folders of a step, as the step itself sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    private: bool,
    base: PathBuf,
}

impl Layout {
    /// The paths of a step that will run with `wanted` isolation in `scratch`, on a machine with
    /// `capabilities` (less what the step's `deny` lists).
    pub fn new(wanted: Wanted, capabilities: &Capabilities, scratch: &Path) -> Self {
        match wanted {
            Wanted::Full if capabilities.private_root() => {
                Self { private: true, base: PathBuf::from("/build") }
            }
            Wanted::Full | Wanted::Off => Self { private: false, base: scratch.to_owned() },
        }
    }

    /// Whether the step has a root of its own. If not, the paths here are the host's.
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// The working folder.
    pub fn work(&self) -> PathBuf {
        self.base.join("work")
    }

    /// The folder of inputs.
    pub fn inputs(&self) -> PathBuf {
        self.base.join("in")
    }

    /// The input at `place`.
    pub fn input(&self, place: &str) -> PathBuf {
        self.inputs().join(place)
    }

    /// The folder of outputs.
    pub fn outputs(&self) -> PathBuf {
        self.base.join("out")
    }

    /// Where the output whose file is called `name` is to be written.
    pub fn output(&self, name: &str) -> PathBuf {
        self.outputs().join(name)
    }

    /// The request of a builder that kiln brings.
    pub fn request(&self) -> PathBuf {
        self.base.join("request.json")
    }

    /// The home folder: empty, and the step's own.
    pub fn home(&self) -> PathBuf {
        self.base.join("home")
    }

    /// The folder for temporary files.
    pub fn tmp(&self) -> PathBuf {
        if self.private { PathBuf::from("/tmp") } else { self.base.join("tmp") }
    }

    /// The folder of links to the step's tools.
    pub fn bin(&self) -> PathBuf {
        self.base.join("bin")
    }

    /// Where a library of the machine's is seen: with a private root, beside the step's own folders, since where it lies may
    /// be hidden there.
    pub fn library(&self, host: &Path) -> PathBuf {
        match host.file_name() {
            Some(name) if self.private => self.base.join("lib").join(name),
            _ => host.to_owned(),
        }
    }

    /// The root of everything above.
    pub fn base(&self) -> &Path {
        &self.base
    }
}
