//! What this machine allows, asked once for each process.
//!
//! The starter tries (see [`super::trial`]); this is the asking side, and what people can do about the answer.

use std::{
    io,
    sync::{Mutex, OnceLock},
};

use super::{
    cgroup,
    feature::{Capabilities, Capability, Feature, State},
    plan::Report,
    starter::{self, Kind},
    wire::{Writer, receive},
};

/// What this machine allows. The first call in a process takes some milliseconds, later ones nothing.
pub fn probe() -> &'static Capabilities {
    static ANSWER: OnceLock<Capabilities> = OnceLock::new();
    static ASKING: Mutex<()> = Mutex::new(());
    if let Some(known) = ANSWER.get() {
        return known;
    }
    // One question at a time; whoever waited finds the answer.
    let _asking = ASKING.lock();
    ANSWER.get_or_init(|| ask().unwrap_or_else(|error| nothing(&error)))
}

fn nothing(error: &io::Error) -> Capabilities {
    let features = Feature::ALL.map(|feature| Capability {
        feature,
        state: State::Missing {
            why: format!("it could not be tried: {error}"),
            help: "look at whether kiln can start its own executable".into(),
        },
    });
    Capabilities { features: features.into() }
}

fn ask() -> io::Result<Capabilities> {
    let starter = starter::start(Kind { features: Vec::new(), network: false })?;
    let mut answers = Vec::new();
    let talk = (|| {
        Writer::default().send(&starter.line)?;
        while let Some(frame) = receive(&starter.line)? {
            if let Report::Probed { feature, result } = Report::decode(&frame)? {
                answers.push((feature, result));
            }
        }
        io::Result::Ok(())
    })();
    starter.end()?;
    talk?;
    answers.push((Feature::Cgroup, cgroup::available()));
    let features = Feature::ALL.map(|feature| {
        let answer = answers.iter().find(|(of, _)| *of == feature);
        let state = match answer {
            Some((_, Ok(remark))) => State::Works(remark.clone()),
            Some((_, Err(why))) => State::Missing { why: why.clone(), help: help(feature) },
            None => State::Missing { why: "there was no answer".into(), help: help(feature) },
        };
        Capability { feature, state }
    });
    Ok(Capabilities { features: features.into() })
}

fn help(feature: Feature) -> String {
    let text = match feature {
        Feature::UserNamespace
        | Feature::MountNamespace
        | Feature::PidNamespace
        | Feature::NetNamespace
        | Feature::IpcNamespace
        | Feature::UtsNamespace => {
            let switches = [
                (
                    "/proc/sys/kernel/unprivileged_userns_clone",
                    "0",
                    "kernel.unprivileged_userns_clone=1",
                ),
                (
                    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                    "1",
                    "kernel.apparmor_restrict_unprivileged_userns=0",
                ),
                ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
            ];
            let off = switches.iter().find(|(path, off, _)| {
                std::fs::read_to_string(path).is_ok_and(|value| value.trim() == *off)
            });
            match off {
                Some((_, _, setting)) => return format!("as root: sysctl -w {setting}"),
                None => {
                    "in a container: allow user namespaces (podman does by default; docker with \
                     --security-opt seccomp=unconfined --security-opt apparmor=unconfined)"
                }
            }
        }
        Feature::Procfs => {
            "in a container: leave /proc unmasked (--security-opt unmask=/proc/* with podman, \
             --security-opt systempaths=unconfined with docker)"
        }
        Feature::MountSetattr => "use Linux 5.12 or newer",
        Feature::DetachedMounts => "use Linux 6.15 or newer",
        Feature::Seccomp => "use a kernel with CONFIG_SECCOMP_FILTER",
        Feature::Landlock => {
            "use Linux 5.13 or newer, with `landlock` in its list of security modules"
        }
        Feature::Cgroup => {
            "run kiln where systemd delegates the memory controller: systemd-run --user --scope -p \
             Delegate=yes kiln …"
        }
    };
    text.to_owned()
}
