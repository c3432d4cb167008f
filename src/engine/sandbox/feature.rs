//! The parts of a kernel that the sandbox is made of, and what this machine has of them.
//!
//! Data only; asking the kernel is [`super::probe`]'s business.

use kiln_cache::Isolation;

/// One part of a kernel that the sandbox uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// Another user id inside than outside, and no power over the host's.
    UserNamespace,
    /// A private root, in which only what was declared exists.
    MountNamespace,
    /// Own process ids: other processes are invisible, and none outlives the step.
    PidNamespace,
    /// Own network, without a way out.
    NetNamespace,
    /// Own shared memory and message queues.
    IpcNamespace,
    /// Own host name.
    UtsNamespace,
    /// A fresh `/proc` that shows the step's processes only.
    Procfs,
    /// Trees of mounts that are copied and made read-only in one call each (`mount_setattr`, Linux 5.12).
    MountSetattr,
    /// Mounts in trees of mounts that no namespace holds (Linux 6.15).
    DetachedMounts,
    /// The filter of system calls.
    Seccomp,
    /// Rules about paths that an unprivileged process puts on itself.
    Landlock,
    /// A control group of the step's own, which counts and limits its memory exactly.
    Cgroup,
}

impl Feature {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 12] = [
        Self::UserNamespace,
        Self::MountNamespace,
        Self::PidNamespace,
        Self::NetNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::Procfs,
        Self::MountSetattr,
        Self::DetachedMounts,
        Self::Seccomp,
        Self::Landlock,
        Self::Cgroup,
    ];

    /// Its name, as people look for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::UserNamespace => "user namespace",
            Self::MountNamespace => "mount namespace",
            Self::PidNamespace => "pid namespace",
            Self::NetNamespace => "network namespace",
            Self::IpcNamespace => "ipc namespace",
            Self::UtsNamespace => "uts namespace",
            Self::Procfs => "fresh /proc",
            Self::MountSetattr => "mount_setattr",
            Self::DetachedMounts => "detached mounts",
            Self::Seccomp => "seccomp",
            Self::Landlock => "Landlock",
            Self::Cgroup => "cgroup delegation",
        }
    }

    /// What a step can do, or what is less exact, where it is missing.
    pub fn loss(self) -> &'static str {
        match self {
            Self::UserNamespace => "steps run under the caller's own user id",
            Self::MountNamespace => "steps see the host's paths; Landlock alone guards them",
            Self::PidNamespace => {
                "steps see other processes, and are hunted down one by one at their end"
            }
            Self::NetNamespace => "a filter of system calls alone keeps steps from the network",
            Self::IpcNamespace => {
                "steps share System V shared memory and message queues with the host"
            }
            Self::UtsNamespace => "steps see the host's name",
            Self::Procfs => "steps see the host's /proc, read-only",
            Self::MountSetattr => {
                "each step's root is made anew, mount by mount: it takes a millisecond longer"
            }
            Self::DetachedMounts => {
                "a step's root is put together in a namespace: it takes a moment longer"
            }
            Self::Seccomp => "steps may use every system call",
            Self::Landlock => {
                "nothing guards the host's files where mount namespaces are missing too"
            }
            Self::Cgroup => "memory is watched by sampling instead of counted by the kernel",
        }
    }

    /// Whether [`Isolation::Full`] stands on it. The others are second layers or merely more exact.
    pub fn is_needed_for_full(self) -> bool {
        !matches!(self, Self::MountSetattr | Self::DetachedMounts | Self::Landlock | Self::Cgroup)
    }
}

/// Whether a feature is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It was tried, and works; a remark such as a version.
    Works(String),
    /// It was tried, and does not.
    Missing {
        /// What the kernel said.
        why: String,
        /// What to do about it.
        help: String,
    },
}

/// A feature and its state on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Which.
    pub feature: Feature,
    /// Whether it is there.
    pub state: State,
}

/// What this machine allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// One for each of [`Feature::ALL`], in that order.
    pub features: Vec<Capability>,
}

impl Capabilities {
    /// Whether `feature` works here.
    pub fn works(&self, feature: Feature) -> bool {
        self.features
            .iter()
            .any(|one| one.feature == feature && matches!(one.state, State::Works(_)))
    }

    /// What steps lose here, of what full isolation stands on.
    pub fn missing(&self) -> impl Iterator<Item = &Capability> {
        self.features.iter().filter(|one| {
            one.feature.is_needed_for_full() && matches!(one.state, State::Missing { .. })
        })
    }

    /// The same machine without `denied`.
    pub fn without(&self, denied: &[Feature]) -> Self {
        let mut features = self.features.clone();
        for one in &mut features {
            if denied.contains(&one.feature) {
                one.state = State::Missing { why: "denied on request".into(), help: String::new() };
            }
        }
        Self { features }
    }

    /// Whether steps get a root of their own, so that paths look the same on every machine.
    pub fn private_root(&self) -> bool {
        self.works(Feature::MountNamespace)
    }

    /// The degree of isolation that steps get here.
    pub fn isolation(&self) -> Isolation {
        if self.missing().next().is_none() {
            Isolation::Full
        } else if self.private_root() || self.works(Feature::Landlock) {
            Isolation::Partial
        } else {
            Isolation::Off
        }
    }
}
