//! The index: what can be told from the truth on disk, kept so that it is found in microseconds.
//!
//! Holds records (checked against their file's identity before they are used) and the stat cache.
//! Rows wait in memory until [`commit`](Index::commit), so that no step waits for one. Everything in it is
//! derived: a row that is missing or damaged costs a read of the truth, and an index that is lost, damaged
//! or of another version is replaced by an empty one. Unaware of what records and rows mean.

mod blocks;
mod row;
mod table;

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::digest::Digest;
use crate::fsio::{Fs, FsError, mtime_ns, present};
use crate::mark::fresh_name;

use self::row::{Kind, Name, Row};
use self::table::View;

/// Folder of this version's rows; another version's are left alone.
const VERSION: &str = "v2";
const IDENTITY: usize = 24;

/// Rows of a source's stat cache: device and inode, big-endian.
pub(crate) type StatKey = [u8; 16];

/// An index that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error(transparent)]
    Fs(#[from] FsError),
    #[error("the index in {} is damaged", .0.display())]
    Damaged(PathBuf),
}

/// An open index.
#[derive(Debug)]
pub(crate) struct Index {
    fs: Fs,
    folder: PathBuf,
    /// What was in the files when they were last looked at; `None` if there were none.
    view: RwLock<Option<Arc<View>>>,
    pending: Mutex<Pending>,
}

/// Rows that wait, with the order in which they came: who reads them again is likely to ask in the same.
type Pending = HashMap<Name, (usize, Option<Row>)>;

impl Index {
    /// Opens the index in this folder; files are made when there is something to write. A damaged one
    /// goes to the trash.
    ///
    /// Gives what was wrong with the one that was there.
    pub(crate) fn open(
        fs: &Fs,
        folder: &Path,
        trash: &Path,
    ) -> Result<(Self, Option<IndexError>), IndexError> {
        match Self::open_present(fs, folder) {
            Err(error @ IndexError::Damaged(_)) => {
                abandon(fs, folder, trash)?;
                Ok((Self::open_present(fs, folder)?, Some(error)))
            }
            opened => Ok((opened?, None)),
        }
    }

    /// Opens the index in this folder as it is.
    pub(crate) fn open_present(fs: &Fs, folder: &Path) -> Result<Self, IndexError> {
        let folder = folder.join(VERSION);
        let view = View::open(fs, &folder)?.map(Arc::new);
        let (view, pending) = (RwLock::new(view), Mutex::default());
        Ok(Self { fs: fs.clone(), folder, view, pending })
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &Name) -> Result<Option<Row>, IndexError> {
        if let Some((_, row)) = self.pending().get(name) {
            return Ok(row.clone());
        }
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(view) = view else { return Ok(None) };
        Ok(view.find(name).map_err(|error| FsError::new("read", &self.folder, error))?)
    }

    /// The frame of the record under this key, if it is that of the file with this identity.
    pub(crate) fn record(
        &self,
        key: &Digest,
        file: &Metadata,
    ) -> Result<Option<Vec<u8>>, IndexError> {
        let row = self.find(&record_name(key))?;
        Ok(row.filter(|row| row.identity == identity(file)).map(|row| row.payload))
    }

    /// Remembers the frame that stands in the file with this identity.
    pub(crate) fn put_record(&self, key: &Digest, file: &Metadata, frame: &[u8]) {
        self.put(record_name(key), identity(file), frame.to_vec());
    }

    /// Forgets a record.
    pub(crate) fn forget_record(&self, key: &Digest) {
        self.wait(record_name(key), None);
    }

    /// The rows of the stat cache under these keys, each with its place in the order of the keys.
    pub(crate) fn stats(
        &self,
        keys: impl Iterator<Item = StatKey>,
        mut found: impl FnMut(usize, &[u8]),
    ) -> Result<(), IndexError> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner).clone();
        let names: Vec<Name> = keys.map(|key| stat_name(&key)).collect();
        let waiting: Vec<Option<Vec<u8>>> = {
            let pending = self.pending();
            let row =
                |name| pending.get(name).and_then(|(_, row)| Some(row.as_ref()?.payload.clone()));
            names.iter().map(row).collect()
        };
        for (place, (name, waiting)) in names.iter().zip(waiting).enumerate() {
            if let Some(row) = waiting {
                found(place, &row);
            } else if let Some(view) = &view {
                let row =
                    view.find(name).map_err(|error| FsError::new("read", &self.folder, error))?;
                if let Some(row) = row {
                    found(place, &row.payload);
                }
            }
        }
        Ok(())
    }

    /// Sets rows of the stat cache; tells how many rows wait to be written.
    pub(crate) fn put_stats(&self, rows: impl Iterator<Item = (StatKey, Vec<u8>)>) -> usize {
        // Made before the lock is taken.
        let named = rows.map(|(key, payload)| {
            let name = stat_name(&key);
            (name, Row { name, identity: [0; IDENTITY], payload })
        });
        let rows: Vec<_> = named.collect();
        let mut pending = self.pending();
        for (name, row) in rows {
            let number = pending.len();
            pending.insert(name, (number, Some(row)));
        }
        pending.len()
    }

    fn put(&self, name: Name, identity: [u8; IDENTITY], payload: Vec<u8>) {
        self.wait(name, Some(Row { name, identity, payload }));
    }

    fn wait(&self, name: Name, row: Option<Row>) {
        let mut pending = self.pending();
        let number = pending.len();
        pending.insert(name, (number, row));
    }

    /// Writes the rows that wait.
    pub(crate) fn commit(&self) -> Result<(), IndexError> {
        // Taken out first: no lock is held while the disk is waited for. A reader that misses
        // a row in the meantime reads the truth.
        let news = std::mem::take(&mut *self.pending());
        if news.is_empty() {
            return Ok(());
        }
        let mut rows: Vec<_> = news.iter().collect();
        rows.sort_unstable_by_key(|(name, (number, _))| (*number, **name));
        let rows = rows.into_iter().map(|(name, (_, row))| (*name, row.as_ref()));
        table::write(&self.fs, &self.folder, news.len(), rows)?;
        let view = View::open(&self.fs, &self.folder)?.map(Arc::new);
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
        Ok(())
    }

    /// Every stored record with its identity, and how many rows are damaged, for `verify`.
    pub(crate) fn records(&self) -> Result<(Vec<(Digest, IndexedRecord)>, usize), IndexError> {
        let (rows, damaged) = table::every_row(&self.fs, &self.folder)?;
        let records = rows.into_iter().filter(|row| row.name.kind == Kind::Record);
        let records = records.map(|row| {
            let record = IndexedRecord { identity: row.identity, frame: row.payload };
            (Digest::from_bytes(row.name.key), record)
        });
        Ok((records.collect(), damaged))
    }
}

fn record_name(key: &Digest) -> Name {
    Name { kind: Kind::Record, key: *key.as_bytes() }
}

fn stat_name(stat: &StatKey) -> Name {
    let mut key = [0; 32];
    key[..16].copy_from_slice(stat);
    Name { kind: Kind::Stat, key }
}

/// A record's row as it stands in the index.
#[derive(Debug)]
pub(crate) struct IndexedRecord {
    identity: [u8; IDENTITY],
    /// The frame that stood in the record's file.
    pub(crate) frame: Vec<u8>,
}

impl IndexedRecord {
    /// Whether the row was made from this very file.
    pub(crate) fn is_of(&self, file: &Metadata) -> bool {
        self.identity == identity(file)
    }
}

/// Takes an index out of use.
pub(crate) fn abandon(fs: &Fs, folder: &Path, trash: &Path) -> Result<(), FsError> {
    let path = folder.join(VERSION);
    present(fs.rename(&path, &trash.join(format!("index-{}", fresh_name())))).map(drop)
}

/// Inode, size and time of a record's file. A record is never changed in place, so that these
/// say which of the records under one key it is.
fn identity(file: &Metadata) -> [u8; IDENTITY] {
    let mut bytes = [0; IDENTITY];
    bytes[..8].copy_from_slice(&file.ino().to_le_bytes());
    bytes[8..16].copy_from_slice(&file.len().to_le_bytes());
    bytes[16..].copy_from_slice(&mtime_ns(file).to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Index {
        fn stat(&self, key: &StatKey) -> Result<Option<Vec<u8>>, IndexError> {
            let mut found = None;
            self.stats([*key].into_iter(), |_, row| found = Some(row.to_vec()))?;
            Ok(found)
        }

        fn put_stat(&self, key: StatKey, row: Vec<u8>) {
            self.put_stats([(key, row)].into_iter());
        }
    }

    fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let (folder, trash) = (home.path().join("index"), home.path().join("trash"));
        Fs::default().create_dirs(&folder).unwrap();
        Fs::default().create_dirs(&trash).unwrap();
        (home, folder, trash)
    }

    fn filled(folder: &Path, trash: &Path) {
        let (index, wrong) = Index::open(&Fs::default(), folder, trash).unwrap();
        assert!(wrong.is_none());
        for number in 0..2000u32 {
            let mut key = [0; 16];
            key[..4].copy_from_slice(&number.to_be_bytes());
            index.put_stat(key, vec![7; 100]);
        }
        assert!(index.stat(&[0; 16]).unwrap().is_some());
        index.commit().unwrap();
        assert_eq!(index.stat(&[0; 16]).unwrap().unwrap(), vec![7; 100]);
    }

    #[test]
    fn rows_outlive_their_process_once_committed() {
        let (_home, folder, trash) = folders();
        filled(&folder, &trash);
        let (index, wrong) = Index::open(&Fs::default(), &folder, &trash).unwrap();
        assert!(wrong.is_none());
        assert_eq!(index.stat(&[0; 16]).unwrap().unwrap(), vec![7; 100]);
    }

    #[test]
    fn a_table_that_is_damaged_is_replaced_by_an_empty_one() {
        for damage in [
            (|bytes: &mut Vec<u8>| bytes.fill(0x5a)) as fn(&mut Vec<u8>),
            |bytes| bytes.truncate(3 * 4096),
            |bytes| bytes.truncate(20),
            |bytes| bytes.clear(),
            |bytes| bytes[4] = 3,
        ] {
            let (_home, folder, trash) = folders();
            filled(&folder, &trash);
            let table = folder.join("v2/table");
            let mut bytes = std::fs::read(&table).unwrap();
            damage(&mut bytes);
            std::fs::write(&table, bytes).unwrap();
            let (index, wrong) = Index::open(&Fs::default(), &folder, &trash).unwrap();
            assert!(matches!(wrong, Some(IndexError::Damaged(_))), "{wrong:?}");
            assert!(index.stat(&[0; 16]).unwrap().is_none());
            index.put_stat([1; 16], vec![1]);
            index.commit().unwrap();
            assert_eq!(index.stat(&[1; 16]).unwrap(), Some(vec![1]));
        }
    }

    #[test]
    fn rows_that_are_lost_are_an_index_that_is_lost() {
        let (_home, folder, trash) = folders();
        filled(&folder, &trash);
        let rows = std::fs::read_dir(folder.join("v2")).unwrap().map(|entry| entry.unwrap().path());
        let rows = rows.into_iter().find(|path| path.to_string_lossy().contains("rows-")).unwrap();
        std::fs::write(&rows, b"short").unwrap();
        let (index, wrong) = Index::open(&Fs::default(), &folder, &trash).unwrap();
        assert!(wrong.is_none(), "the table is sound; each row proves itself");
        assert!(index.stat(&[0; 16]).unwrap().is_none());
        drop(index);
        std::fs::remove_file(&rows).unwrap();
        let (_, wrong) = Index::open(&Fs::default(), &folder, &trash).unwrap();
        assert!(matches!(wrong, Some(IndexError::Damaged(_))), "{wrong:?}");
    }

    /// What a row says is proved by its own frame, so that here only its name is looked at.
    #[test]
    fn a_flipped_bit_anywhere_never_leads_to_another_row() {
        let (_home, folder, trash) = folders();
        let (index, _) = Index::open(&Fs::default(), &folder, &trash).unwrap();
        for number in 0..20u8 {
            index.put_stat([number; 16], vec![number; 40]);
        }
        index.commit().unwrap();
        let files: Vec<PathBuf> = std::fs::read_dir(folder.join("v2"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.ends_with("lock"))
            .collect();
        assert_eq!(files.len(), 2);
        let mut lost = 0;
        for path in files {
            let sound = std::fs::read(&path).unwrap();
            for at in 0..sound.len() {
                // Most of the table is empty.
                if sound[at] == 0 && at % 61 != 0 {
                    continue;
                }
                let mut bytes = sound.clone();
                bytes[at] ^= 1 << (at % 8);
                std::fs::write(&path, &bytes).unwrap();
                let Ok(index) = Index::open_present(&Fs::default(), &folder) else { continue };
                for number in 0..20u8 {
                    match index.stat(&[number; 16]).unwrap() {
                        Some(row) => {
                            let other = row.iter().filter(|byte| **byte != number).count();
                            assert!(row.len() == 40 && other <= 1, "{number}: {row:?}");
                        }
                        None => lost += 1,
                    }
                }
                drop(index.records().unwrap());
            }
            std::fs::write(&path, &sound).unwrap();
        }
        assert!(lost > 300, "only {lost} rows were hit");
    }

    #[test]
    fn two_stores_see_each_others_rows_and_neither_loses_any() {
        let (_home, folder, trash) = folders();
        let open = || Index::open(&Fs::default(), &folder, &trash).unwrap().0;
        std::thread::scope(|scope| {
            for writer in 0..4u8 {
                scope.spawn(move || {
                    let index = open();
                    for number in 0..40u8 {
                        for row in 0..20u8 {
                            let mut key = [writer; 16];
                            (key[0], key[1]) = (number, row);
                            index.put_stat(key, vec![writer; 10]);
                        }
                        index.commit().unwrap();
                    }
                });
            }
        });
        let index = open();
        for (writer, number, row) in
            (0..4u8).flat_map(|w| (0..40u8).flat_map(move |n| (0..20u8).map(move |r| (w, n, r))))
        {
            let mut key = [writer; 16];
            (key[0], key[1]) = (number, row);
            assert_eq!(index.stat(&key).unwrap(), Some(vec![writer; 10]), "{key:?}");
        }
        assert_eq!(index.records().unwrap().1, 0);
    }

    #[test]
    fn what_was_replaced_or_forgotten_is_given_back_in_time() {
        let (_home, folder, trash) = folders();
        let (index, _) = Index::open(&Fs::default(), &folder, &trash).unwrap();
        let metadata = std::fs::metadata(&folder).unwrap();
        for round in 0..40u8 {
            for number in 0..20u8 {
                index.put_record(&Digest::of(&[number]), &metadata, &vec![round; 20_000]);
            }
            index.forget_record(&Digest::of(&[19]));
            index.commit().unwrap();
        }
        let sizes = std::fs::read_dir(folder.join("v2")).unwrap();
        let bytes: u64 = sizes.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes < 6 << 20, "{bytes} bytes for 400,000 of rows");
        for number in 0..19u8 {
            let row = index.record(&Digest::of(&[number]), &metadata).unwrap();
            assert_eq!(row, Some(vec![39; 20_000]));
        }
        assert_eq!(index.record(&Digest::of(&[19]), &metadata).unwrap(), None);
    }
}
