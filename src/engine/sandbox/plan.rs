//! What the caller tells the starter to do, and what it hears back.
//!
//! A [`Plan`] is complete: whoever carries it out looks nothing up and decides nothing. It is unaware of why.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    feature::Feature,
    spec::Exit,
    wire::{Reader, Writer},
};

/// One thing in a private root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// An empty folder.
    Folder(PathBuf),
    /// A small file of our own.
    File(PathBuf, Vec<u8>),
    /// A symbolic link: where it stands, what it says.
    Link(PathBuf, PathBuf),
    /// Something of the host, read-only with all that is mounted below it.
    Read { host: PathBuf, at: PathBuf },
    /// A folder of the step's own.
    Write { host: PathBuf, at: PathBuf },
    /// A device node that every step has.
    Device(PathBuf),
    /// A device node that this step is lent.
    Node { host: PathBuf, at: PathBuf },
    /// A file system in memory, of so many bytes.
    Memory(PathBuf, Option<u64>),
    /// The step's `/proc`.
    Proc,
}

/// A list of entries that a starter hears of once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Base {
    /// Its number, which the caller gives out.
    pub(super) id: u64,
    /// The entries, if this is the first that the starter hears of them.
    pub(super) entries: Option<Arc<Vec<Entry>>>,
}

/// A path that a step without a private root may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) path: PathBuf,
    pub(super) write: bool,
}

/// A step, ready to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) argv: Vec<OsString>,
    pub(super) env: Vec<(OsString, OsString)>,
    /// The program, if `argv[0]` does not say it.
    pub(super) program: Option<PathBuf>,
    /// The working folder, as the step sees it.
    pub(super) work: PathBuf,
    /// The features to use.
    pub(super) features: Vec<Feature>,
    pub(super) network: bool,
    pub(super) memory: Option<u64>,
    pub(super) timeout: Option<Duration>,
    /// How many processes and threads it may have.
    pub(super) processes: u64,
    /// The file in which to enrol in a control group.
    pub(super) cgroup: Option<PathBuf>,
    /// Where a private root is put together that is not copied from another: an empty folder of the host.
    pub(super) root: PathBuf,
    /// What its root has in common with those of other steps.
    pub(super) base: Base,
    /// What its root has besides: mounts, in folders that the base brings or on places of their own below `/build`.
    pub(super) entries: Vec<Entry>,
    pub(super) grants: Vec<Grant>,
}

impl Plan {
    pub(super) fn uses(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }

    pub(super) fn encode(&self) -> Writer {
        let mut to = Writer::default();
        to.number(self.argv.len() as u64);
        for one in &self.argv {
            to.text(one);
        }
        to.number(self.env.len() as u64);
        for (name, value) in &self.env {
            to.text(name).text(value);
        }
        option_path(&mut to, self.program.as_deref());
        to.path(&self.work);
        to.number(self.features.len() as u64);
        for feature in &self.features {
            to.number(*feature as u64);
        }
        to.flag(self.network).option(self.memory);
        to.option(self.timeout.map(|limit| u64::try_from(limit.as_micros()).unwrap_or(u64::MAX)));
        to.number(self.processes);
        option_path(&mut to, self.cgroup.as_deref());
        to.path(&self.root);
        to.number(self.base.id).flag(self.base.entries.is_some());
        if let Some(entries) = &self.base.entries {
            write_entries(&mut to, entries);
        }
        write_entries(&mut to, &self.entries);
        to.number(self.grants.len() as u64);
        for grant in &self.grants {
            to.path(&grant.path).flag(grant.write);
        }
        to
    }

    pub(super) fn decode(bytes: &[u8]) -> io::Result<Self> {
        let mut from = Reader::new(bytes);
        let from = &mut from;
        let plan = Self {
            argv: list(from, Reader::text)?,
            env: list(from, |from| Ok((from.text()?, from.text()?)))?,
            program: read_option_path(from)?,
            work: from.path()?,
            features: list(from, |from| {
                let code = from.count()?;
                Feature::ALL.get(code).copied().ok_or_else(|| unknown("feature"))
            })?,
            network: from.flag()?,
            memory: from.option()?,
            timeout: from.option()?.map(Duration::from_micros),
            processes: from.number()?,
            cgroup: read_option_path(from)?,
            root: from.path()?,
            base: Base {
                id: from.number()?,
                entries: match from.flag()? {
                    true => Some(Arc::new(list(from, read_entry)?)),
                    false => None,
                },
            },
            entries: list(from, read_entry)?,
            grants: list(from, |from| Ok(Grant { path: from.path()?, write: from.flag()? }))?,
        };
        from.end()?;
        Ok(plan)
    }
}

fn write_entries(to: &mut Writer, entries: &[Entry]) {
    to.number(entries.len() as u64);
    for entry in entries {
        match entry {
            Entry::Folder(at) => to.number(0).path(at),
            Entry::File(at, bytes) => to.number(1).path(at).bytes(bytes),
            Entry::Link(at, target) => to.number(2).path(at).path(target),
            Entry::Read { host, at } => to.number(3).path(host).path(at),
            Entry::Write { host, at } => to.number(4).path(host).path(at),
            Entry::Device(path) => to.number(5).path(path),
            Entry::Memory(at, bytes) => to.number(6).path(at).option(*bytes),
            Entry::Proc => to.number(7),
            Entry::Node { host, at } => to.number(8).path(host).path(at),
        };
    }
}

fn read_entry(from: &mut Reader<'_>) -> io::Result<Entry> {
    Ok(match from.number()? {
        0 => Entry::Folder(from.path()?),
        1 => Entry::File(from.path()?, from.bytes()?.to_vec()),
        2 => Entry::Link(from.path()?, from.path()?),
        3 => Entry::Read { host: from.path()?, at: from.path()? },
        4 => Entry::Write { host: from.path()?, at: from.path()? },
        5 => Entry::Device(from.path()?),
        6 => Entry::Memory(from.path()?, from.option()?),
        7 => Entry::Proc,
        8 => Entry::Node { host: from.path()?, at: from.path()? },
        _ => return Err(unknown("entry")),
    })
}

fn unknown(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unknown {what}"))
}

fn option_path(to: &mut Writer, path: Option<&Path>) {
    to.flag(path.is_some()).path(path.unwrap_or(Path::new("")));
}

fn read_option_path(from: &mut Reader<'_>) -> io::Result<Option<PathBuf>> {
    let some = from.flag()?;
    let path = from.path()?;
    if !some && !path.as_os_str().is_empty() {
        return Err(unknown("path"));
    }
    Ok(some.then_some(path))
}

fn list<'a, T>(
    from: &mut Reader<'a>,
    one: impl Fn(&mut Reader<'a>) -> io::Result<T>,
) -> io::Result<Vec<T>> {
    (0..from.count()?).map(|_| one(from)).collect()
}

fn errno(from: &mut Reader<'_>) -> io::Result<i32> {
    i32::try_from(from.number()?).map_err(|_| unknown("error"))
}

/// What the starter says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The step did not begin: what was attempted, and the error's number.
    Failed { action: String, errno: i32 },
    /// The program is not there.
    NoProgram { program: String, path: String },
    /// The step ended so; the most memory that its processes held together, where that was watched.
    Ended { exit: Exit, watched: u64 },
    /// All of the step is gone; what it took, and whether the starter waits for another.
    Gone { cpu: Duration, largest: u64, wall: Duration, waits: bool },
    /// A feature works here, with a remark, or the reason why not.
    Probed { feature: Feature, result: Result<String, String> },
    /// The program is about to begin: until then nothing of the step has run.
    Begins,
}

impl Report {
    pub(super) fn encode(&self) -> Writer {
        let mut to = Writer::default();
        match self {
            Self::Failed { action, errno } => {
                to.number(0).bytes(action.as_bytes()).number(errno.unsigned_abs().into());
            }
            Self::NoProgram { program, path } => {
                to.number(1).bytes(program.as_bytes()).bytes(path.as_bytes());
            }
            Self::Ended { exit, watched } => {
                let (kind, value) = match *exit {
                    Exit::Code(code) => (0, code as u32 as u64),
                    Exit::Signal(signal) => (1, signal as u32 as u64),
                    Exit::TimedOut(limit) => {
                        (2, u64::try_from(limit.as_micros()).unwrap_or(u64::MAX))
                    }
                    Exit::OutOfMemory { limit } => (3, limit),
                    Exit::Cancelled => (4, 0),
                    Exit::TooManyProcesses { limit } => (5, limit),
                    Exit::Stopped => (6, 0),
                };
                to.number(2).number(kind).number(value).number(*watched);
            }
            Self::Gone { cpu, largest, wall, waits } => {
                let micros = |time: &Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                to.number(3).number(micros(cpu)).number(*largest).number(micros(wall)).flag(*waits);
            }
            Self::Probed { feature, result } => {
                let (works, text) = match result {
                    Ok(text) => (true, text),
                    Err(text) => (false, text),
                };
                to.number(4).number(*feature as u64).flag(works).bytes(text.as_bytes());
            }
            Self::Begins => {
                to.number(5);
            }
        }
        to
    }

    pub(super) fn decode(bytes: &[u8]) -> io::Result<Self> {
        let mut from = Reader::new(bytes);
        let text = |from: &mut Reader<'_>| {
            from.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        let report = match from.number()? {
            0 => Self::Failed { action: text(&mut from)?, errno: errno(&mut from)? },
            1 => Self::NoProgram { program: text(&mut from)?, path: text(&mut from)? },
            2 => {
                let (kind, value) = (from.number()?, from.number()?);
                let exit = match kind {
                    0 => Exit::Code(value as u32 as i32),
                    1 => Exit::Signal(value as u32 as i32),
                    2 => Exit::TimedOut(Duration::from_micros(value)),
                    3 => Exit::OutOfMemory { limit: value },
                    4 => Exit::Cancelled,
                    5 => Exit::TooManyProcesses { limit: value },
                    6 => Exit::Stopped,
                    _ => return Err(unknown("end")),
                };
                Self::Ended { exit, watched: from.number()? }
            }
            3 => Self::Gone {
                cpu: Duration::from_micros(from.number()?),
                largest: from.number()?,
                wall: Duration::from_micros(from.number()?),
                waits: from.flag()?,
            },
            4 => {
                let code = from.count()?;
                let feature = Feature::ALL.get(code).copied().ok_or_else(|| unknown("feature"))?;
                let works = from.flag()?;
                let text = text(&mut from)?;
                Self::Probed { feature, result: if works { Ok(text) } else { Err(text) } }
            }
            5 => Self::Begins,
            _ => return Err(unknown("report")),
        };
        from.end()?;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(writer: &Writer) -> Vec<u8> {
        let mut sent = Vec::new();
        writer.send(&mut sent).unwrap();
        sent.split_off(8)
    }

    #[test]
    fn a_plan_survives_the_way_to_the_starter() {
        let plan = Plan {
            argv: vec!["sh".into(), "-c".into()],
            env: vec![("A".into(), "b c".into())],
            program: Some("/build/kiln".into()),
            work: "/build/work".into(),
            features: Feature::ALL.to_vec(),
            network: true,
            memory: Some(1 << 30),
            timeout: Some(Duration::from_millis(1500)),
            processes: 4096,
            cgroup: None,
            root: "/s/root".into(),
            base: Base {
                id: 7,
                entries: Some(Arc::new(vec![Entry::Folder("/z".into()), Entry::Proc])),
            },
            entries: vec![
                Entry::Folder("/a".into()),
                Entry::File("/b".into(), b"x".to_vec()),
                Entry::Link("/c".into(), "d".into()),
                Entry::Read { host: "/e".into(), at: "/f".into() },
                Entry::Write { host: "/g".into(), at: "/h".into() },
                Entry::Device("/dev/null".into()),
                Entry::Node { host: "/dev/a".into(), at: "/dev/b".into() },
                Entry::Memory("/dev/shm".into(), Some(3)),
                Entry::Proc,
            ],
            grants: vec![Grant { path: "/usr".into(), write: false }],
        };
        let bytes = frame(&plan.encode());
        assert_eq!(Plan::decode(&bytes).unwrap(), plan);
        for end in 0..bytes.len() {
            assert!(Plan::decode(&bytes[..end]).is_err(), "cut off at {end}");
        }
    }

    #[test]
    fn reports_survive_the_way_back() {
        let reports = [
            Report::Failed { action: "bind /x".into(), errno: 13 },
            Report::NoProgram { program: "x".into(), path: "/bin".into() },
            Report::Ended { exit: Exit::Code(-1), watched: 7 },
            Report::Ended { exit: Exit::Signal(9), watched: 0 },
            Report::Ended { exit: Exit::TimedOut(Duration::from_millis(3)), watched: 0 },
            Report::Ended { exit: Exit::OutOfMemory { limit: 5 }, watched: 9 },
            Report::Ended { exit: Exit::Cancelled, watched: 0 },
            Report::Ended { exit: Exit::TooManyProcesses { limit: 8 }, watched: 0 },
            Report::Ended { exit: Exit::Stopped, watched: 0 },
            Report::Gone {
                cpu: Duration::from_micros(3),
                largest: 4,
                wall: Duration::from_micros(5),
                waits: true,
            },
            Report::Probed { feature: Feature::Landlock, result: Err("no".into()) },
            Report::Begins,
        ];
        for report in reports {
            assert_eq!(Report::decode(&frame(&report.encode())).unwrap(), report);
        }
    }
}
