//! Realisations in the store: written once, read often.
//!
//! Each is one small file, which is the truth; the index only saves reading it. Unaware of what a
//! key is made of.

use std::path::Path;

use crate::codec;
use crate::digest::Digest;
use crate::fsio::{FsError, present};
use crate::holds::Held;
use crate::inventory::{self, Entry, Item};
use crate::layout::RecordName;
use crate::lock;
use crate::realisation::Realisation;
use crate::store::Store;

/// What happens if a key has a result already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precedence {
    /// The first result stays, unless the new one was made under stronger isolation, or what the
    /// first one made is gone.
    First,
    /// The new result is a further attempt and is used from now on.
    Again,
}

/// What became of a result that was to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub enum Recorded {
    /// The result that was there stays; this is it.
    Kept(Realisation),
    /// The new result, as it was recorded.
    Written(Realisation),
}

impl Recorded {
    /// The result that is in use from now on.
    #[must_use]
    pub fn realisation(&self) -> &Realisation {
        match self {
            Self::Kept(realisation) | Self::Written(realisation) => realisation,
        }
    }
}

const NO_FILE: &str = "the record is not a file";

impl Store {
    /// The result in use under a key. A record that is damaged is moved out of the way, counts as
    /// absent, and is told in a notice. Whether its outputs are there is another question:
    /// [`contains`](Self::contains).
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn realisation(&self, key: &Digest) -> Result<Option<Realisation>, FsError> {
        self.recorded(
            key,
            |frame| Realisation::decode(frame).ok().filter(|record| record.key == *key),
            |record| record,
        )
    }

    /// The [checksum](Realisation::checksum) of the result in use under a key, without reading what it says where
    /// the index has it.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn record_checksum(&self, key: &Digest) -> Result<Option<Digest>, FsError> {
        self.recorded(
            key,
            |frame| codec::checksum(frame).map(Digest::from_bytes),
            |record| record.checksum(),
        )
    }

    /// What the frame in the index gives, if it is that of the record's file; otherwise what the record itself gives.
    fn recorded<T>(
        &self,
        key: &Digest,
        of_frame: impl FnOnce(&[u8]) -> Option<T>,
        of_record: impl FnOnce(Realisation) -> T,
    ) -> Result<Option<T>, FsError> {
        let path = self.layout.realisation(key);
        let Some(metadata) = present(self.fs.lstat(&path))? else { return Ok(None) };
        if !self.is_settled(&metadata) {
            return Ok(None);
        }
        if let Some(index) = &self.index
            && let Ok(Some(frame)) = index.record(key, &metadata)
            && let Some(found) = of_frame(&frame)
        {
            return Ok(Some(found));
        }
        Ok(self.read_record(key)?.map(of_record))
    }

    /// Reads the truth, and tells it to the index.
    fn read_record(&self, key: &Digest) -> Result<Option<Realisation>, FsError> {
        let path = self.layout.realisation(key);
        let Some(file) = present(self.fs.open(&path))? else { return Ok(None) };
        let metadata = file.metadata().map_err(|error| FsError::new("look at", &path, error))?;
        let mut frame = Vec::new();
        let wrong = if metadata.is_file() {
            std::io::Read::read_to_end(&mut &file, &mut frame)
                .map_err(|error| FsError::new("read", &path, error))?;
            match Realisation::decode_under(&frame, key) {
                Ok(realisation) => {
                    if let Some(index) = &self.index {
                        index.put_record(key, &metadata, &frame);
                    }
                    return Ok(Some(realisation));
                }
                Err(wrong) => wrong,
            }
        } else {
            NO_FILE.to_owned()
        };
        self.set_aside(&path, &wrong)?;
        // Whatever damaged this one may have damaged those beside it, which nobody else reads.
        self.earlier(key)?;
        Ok(None)
    }

    /// Moves every record out of the way that cannot be read, with a notice; gives the keys that
    /// have no result any more. To be called under the exclusive lock.
    pub(crate) fn set_damaged_records_aside(&self) -> Result<Vec<Digest>, FsError> {
        let mut lost = Vec::new();
        for Item { path, entry } in inventory::records(&self.fs, &self.layout)? {
            let Entry::Record(RecordName::Current(key) | RecordName::Earlier(key, _)) = entry
            else {
                continue;
            };
            // Most are sound, which is seen without a lock; on a full disk none could be had.
            if !matches!(self.read_as(&path, &key)?, Some(Err(_))) {
                continue;
            }
            if self.set_aside_if_damaged(&path, &key)?
                && let Entry::Record(RecordName::Current(_)) = entry
            {
                lost.push(key);
            }
        }
        Ok(lost)
    }

    /// Moves a record out of the way if it cannot be read; says whether it did.
    pub(crate) fn set_aside_if_damaged(&self, path: &Path, key: &Digest) -> Result<bool, FsError> {
        // No writer may put a sound one there between the look and the move.
        let _writers = lock::records(&self.fs, &self.layout, key)?;
        let Some(Err(wrong)) = self.read_as(path, key)? else { return Ok(false) };
        self.set_aside(path, &wrong)?;
        if let Some(index) = &self.index
            && *path == self.layout.realisation(key)
        {
            index.forget_record(key);
        }
        Ok(true)
    }

    /// Records a result. Sets its `attempt`, `boot` and `group`. Its outputs, log and references
    /// must be in the store already, but for aliases.
    ///
    /// # Errors
    /// If the disk cannot be read or written to; then nothing has been recorded.
    pub fn record(
        &self,
        mut realisation: Realisation,
        precedence: Precedence,
    ) -> Result<Recorded, FsError> {
        let key = realisation.key;
        self.hold([Held::Key(key)])?;
        let _writers = lock::records(&self.fs, &self.layout, &key)?;
        let there = self.read_record(&key)?;
        if let Some(there) = &there {
            let replaces = precedence == Precedence::Again
                || realisation.isolation > there.isolation
                || !self.delivers(there);
            if !replaces {
                return Ok(Recorded::Kept(there.clone()));
            }
        }
        realisation.group = self.unflushed.will_write(&self.fs, &self.layout)?;
        realisation.boot = self.unflushed.boot().to_owned();
        realisation.attempt = self.last_attempt(&key, there.as_ref())? + 1;
        let path = self.layout.realisation(&key);
        if let Some(there) = &there {
            let earlier = self.layout.attempt(&key, there.attempt);
            match self.fs.hard_link(&path, &earlier) {
                // A process that was killed right here before had come this far.
                Err(error) if error.is_taken() => {}
                linked => linked?,
            }
        }
        let frame = realisation.encode();
        self.staging.write(&self.fs, &self.layout, &path, &frame)?;
        if let Some(index) = &self.index {
            index.put_record(&key, &self.fs.lstat(&path)?, &frame);
        }
        self.unbury(&realisation);
        Ok(Recorded::Written(realisation))
    }

    /// Whether what a record made is there.
    fn delivers(&self, realisation: &Realisation) -> bool {
        let own = realisation.outputs.iter().filter(|output| output.alias.is_none());
        own.into_iter().all(|output| self.contains(&output.object))
    }

    fn last_attempt(&self, key: &Digest, there: Option<&Realisation>) -> Result<u32, FsError> {
        let earlier = self.earlier_attempts(key)?;
        Ok(earlier.into_iter().chain(there.map(|there| there.attempt)).max().unwrap_or(0))
    }

    fn earlier_attempts(&self, key: &Digest) -> Result<Vec<u32>, FsError> {
        let path = self.layout.realisation(key);
        let (Some(folder), hex) = (path.parent(), key.to_string()) else { return Ok(Vec::new()) };
        let names = present(self.fs.list(folder))?.unwrap_or_default();
        let number = |name: &std::ffi::OsString| {
            name.to_str()?.strip_prefix(&hex)?.strip_prefix('.')?.parse().ok()
        };
        let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The results under a key that gave way to others.
    fn earlier(&self, key: &Digest) -> Result<Vec<Realisation>, FsError> {
        let mut found = Vec::new();
        for number in self.earlier_attempts(key)? {
            let path = self.layout.attempt(key, number);
            match self.read_as(&path, key)? {
                Some(Ok(realisation)) => found.push(realisation),
                Some(Err(wrong)) => self.set_aside(&path, &wrong)?,
                None => {}
            }
        }
        Ok(found)
    }

    /// The results under a key that can be read, the one in use last; changes nothing.
    pub(crate) fn sound_attempts(&self, key: &Digest) -> Result<Vec<Realisation>, FsError> {
        let earlier = self.earlier_attempts(key)?;
        let earlier = earlier.into_iter().map(|number| self.layout.attempt(key, number));
        let paths: Vec<_> = earlier.chain([self.layout.realisation(key)]).collect();
        let mut found = Vec::new();
        for path in paths {
            if let Some(Ok(realisation)) = self.read_as(&path, key)? {
                found.push(realisation);
            }
        }
        Ok(found)
    }

    /// Reads a record, or says what is wrong with it. `None` if there is none.
    fn read_as(
        &self,
        path: &Path,
        key: &Digest,
    ) -> Result<Option<Result<Realisation, String>>, FsError> {
        let Some(metadata) = present(self.fs.lstat(path))? else { return Ok(None) };
        if !metadata.is_file() {
            return Ok(Some(Err(NO_FILE.to_owned())));
        }
        Ok(present(self.fs.read(path))?.map(|frame| Realisation::decode_under(&frame, key)))
    }

    /// Every result that was recorded under a key, the first one first; the last one is in use.
    /// Those that are damaged are moved out of the way, and told in a notice.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn attempts(&self, key: &Digest) -> Result<Vec<Realisation>, FsError> {
        let current = self.realisation(key)?;
        let mut found = self.earlier(key)?;
        if let Some(current) = &current {
            found.retain(|earlier| earlier.attempt != current.attempt);
        }
        found.extend(current);
        found.sort_by_key(|realisation| realisation.attempt);
        Ok(found)
    }

    /// The result in use under every key, ordered by key. Damaged ones are moved out of the way.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn all_realisations(&self) -> Result<Vec<Realisation>, FsError> {
        let mut found = Vec::new();
        for Item { entry, .. } in inventory::records(&self.fs, &self.layout)? {
            if let Entry::Record(RecordName::Current(key)) = entry {
                found.extend(self.realisation(&key)?);
            }
        }
        Ok(found)
    }
}
