//! Rereads everything in the store and compares it with what it should be. Changes nothing.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use crate::digest::Digest;
use crate::directory;
use crate::fsio::{FsError, present};
use crate::inventory::{self, Entry, Item};
use crate::layout::RecordName;
use crate::object::{Kind, Object};
use crate::realisation::Realisation;
use crate::rehash;
use crate::roots::{self, RootError};
use crate::scan::{self, FILE_MODE, OPEN_MODE};
use crate::staging;
use crate::store::Store;

const REMAKE: &str =
    "remove it (`chmod -R u+w` first, then `rm -r`): the next build makes it again";

/// Something in the store that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Where.
    pub path: PathBuf,
    /// What is wrong, a fragment without a full stop.
    pub what: String,
    /// What to do about it.
    pub help: String,
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct VerifyReport {
    /// Files and trees that were reread.
    pub objects: u64,
    /// Records that were reread, earlier attempts included.
    pub realisations: u64,
    /// Bytes that were reread.
    pub bytes: u64,
    /// What is wrong, ordered by path.
    pub problems: Vec<Problem>,
}

fn problem(path: impl Into<PathBuf>, what: impl Into<String>, help: impl Into<String>) -> Problem {
    Problem { path: path.into(), what: what.into(), help: help.into() }
}

impl Store {
    /// Rereads and rehashes every object, checks modes, listings, records, roots and the index.
    /// An index that lags behind, and what killed processes left, are no problem. Others may
    /// build meanwhile; nothing is collected meanwhile.
    ///
    /// # Errors
    /// If the store's folders cannot be read at all. Whatever else is wrong is in the report.
    pub fn verify(&self) -> Result<VerifyReport, FsError> {
        let _shared = self.gc_lock.shared()?;
        let bytes = AtomicU64::new(0);
        // Records first: what they refer to was there before them.
        let records = inventory::records(&self.fs, &self.layout)?;
        let objects = inventory::objects(&self.fs, &self.layout)?;
        let checked = objects.par_iter().chain(records.par_iter());
        let mut problems: Vec<Problem> = checked
            .flat_map_iter(|item| match self.check(item, &bytes) {
                Ok(found) => found,
                // Gone since it was listed, or unreadable.
                Err(error) if error.is_absent() && error.path == item.path => Vec::new(),
                Err(error) => vec![problem(&item.path, causes(&error), REMAKE)],
            })
            .collect();
        problems.extend(self.check_roots());
        problems.extend(self.check_index());
        problems.sort();
        let is_object = |item: &&Item| matches!(item.entry, Entry::Object(_));
        let is_record = |item: &&Item| matches!(item.entry, Entry::Record(_));
        Ok(VerifyReport {
            objects: objects.iter().filter(is_object).count() as u64,
            realisations: records.iter().filter(is_record).count() as u64,
            bytes: bytes.into_inner(),
            problems,
        })
    }

    fn check(&self, item: &Item, bytes: &AtomicU64) -> Result<Vec<Problem>, FsError> {
        match item.entry {
            Entry::Object(object) => self.check_object(item, &object, bytes),
            Entry::Listing(digest) => self.check_listing(item, &digest),
            Entry::Record(name) => self.check_record(item, name, bytes),
            Entry::Stranger => Ok(vec![problem(
                &item.path,
                "it has no business in the store",
                "move it elsewhere, or remove it",
            )]),
        }
    }

    fn check_object(
        &self,
        item: &Item,
        object: &Object,
        bytes: &AtomicU64,
    ) -> Result<Vec<Problem>, FsError> {
        let mut found = Vec::new();
        if let Some(what) = rehash::content(&self.fs, &item.path, object)? {
            found.push(problem(&item.path, what, REMAKE));
        }
        bytes.fetch_add(crate::size::of(&self.fs, &item.path)?, Ordering::Relaxed);
        match object.kind {
            Kind::File => {
                let wanted = if object.executable { OPEN_MODE } else { FILE_MODE };
                let mode = self.fs.lstat(&item.path)?.mode() & 0o7777;
                if mode != wanted {
                    found.push(wrong_mode(item.path.clone(), mode, wanted));
                }
            }
            Kind::Tree => {
                for (rel, mode) in scan::wrong_modes(&self.fs, &item.path)? {
                    if rel.is_empty() && self.is_half_placed(&object.digest)? {
                        continue;
                    }
                    let path = if rel.is_empty() { item.path.clone() } else { item.path.join(rel) };
                    let wanted = if path.is_dir() { OPEN_MODE } else { FILE_MODE };
                    found.push(wrong_mode(path, mode, wanted));
                }
            }
        }
        Ok(found)
    }

    /// Whether a process is placing the tree right now, or was killed while it did.
    fn is_half_placed(&self, digest: &Digest) -> Result<bool, FsError> {
        let found = staging::half_placed(&self.fs, &self.layout)?;
        Ok(found.iter().any(|(placed, _)| placed == digest))
    }

    fn check_listing(&self, item: &Item, digest: &Digest) -> Result<Vec<Problem>, FsError> {
        let help = "remove it: it is made again when it is needed";
        let decoded = directory::decode_whole(&self.fs.read(&item.path)?, digest);
        Ok(decoded
            .err()
            .map(|error| problem(&item.path, error.to_string(), help))
            .into_iter()
            .collect())
    }

    fn check_record(
        &self,
        item: &Item,
        name: RecordName,
        bytes: &AtomicU64,
    ) -> Result<Vec<Problem>, FsError> {
        let metadata = self.fs.lstat(&item.path)?;
        let frame = if metadata.is_file() { self.fs.read(&item.path)? } else { Vec::new() };
        bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
        let help = match name {
            RecordName::Current(_) => {
                "the next build that needs it runs the step again, or `kiln gc` removes it"
            }
            RecordName::Earlier(..) => "nothing is lost but history: `kiln gc` removes it",
        };
        let realisation = match Realisation::decode(&frame) {
            Ok(realisation) => realisation,
            Err(error) => return Ok(vec![problem(&item.path, error.to_string(), help)]),
        };
        let (key, current) = match name {
            RecordName::Current(key) => (key, true),
            RecordName::Earlier(key, _) => (key, false),
        };
        if realisation.key != key {
            let what = format!("it is the record of another key, {}", realisation.key);
            return Ok(vec![problem(&item.path, what, help)]);
        }
        if !current {
            return Ok(Vec::new());
        }
        let outputs = realisation.outputs.iter().filter(|output| output.alias.is_none());
        let missing = outputs.filter(|output| !self.contains(&output.object)).map(|output| {
            let what = format!("its output `{}` ({}) is missing", output.name, output.object);
            problem(&item.path, what, "build again: what is lost is made again")
        });
        Ok(missing.collect())
    }

    fn check_roots(&self) -> Option<Problem> {
        let error = roots::all(&self.fs, &self.layout).err()?;
        let path = match &error {
            RootError::Damaged { path, .. }
            | RootError::Format { path, .. }
            | RootError::Changed(path) => path.clone(),
            RootError::Fs(error) => error.path.clone(),
            RootError::Name(_) => self.layout.roots(),
        };
        let help = "nothing is collected while a root cannot be read: mend or remove it";
        Some(problem(path, causes(&error), help))
    }

    /// Rows that were made from the files that are there must say what these say. Others lag
    /// behind and are never used.
    fn check_index(&self) -> Vec<Problem> {
        let help = "remove the folder while nothing builds: the index is made again";
        let Some(index) = &self.index else { return Vec::new() };
        let (rows, damaged) = match index.records() {
            Ok(found) => found,
            Err(error) => return vec![problem(self.layout.index(), causes(&error), help)],
        };
        let differs = |key: &Digest, row: &crate::index::IndexedRecord| -> Result<bool, FsError> {
            let path = self.layout.realisation(key);
            let Some(metadata) = present(self.fs.lstat(&path))? else { return Ok(false) };
            Ok(row.is_of(&metadata) && self.fs.read(&path)? != row.frame)
        };
        let disagrees = rows.iter().filter(|(key, row)| differs(key, row).unwrap_or(true));
        let whats = disagrees
            .map(|(key, _)| format!("the index does not agree with the record of {key}"))
            .chain((damaged > 0).then(|| format!("{damaged} of its rows are damaged")));
        whats.map(|what| problem(self.layout.index(), what, help)).collect()
    }
}

fn wrong_mode(path: PathBuf, mode: u32, wanted: u32) -> Problem {
    let help = format!("chmod {wanted:o} {}", path.display());
    problem(path, format!("its mode is {mode:04o} and must be {wanted:04o}"), help)
}

/// An error with its causes, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
