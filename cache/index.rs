//! The index: what can be told from the truth on disk, kept so that it is found in microseconds.
//!
//! Holds records (checked against their file's identity before they are used) and the stat cache.
//! Rows wait in memory until [`commit`](Index::commit), so that a row never reaches the disk in a
//! torn state and no step waits for one. Everything in it is derived: a row that is missing costs
//! a read of the truth, and an index that is lost, damaged or of another version is replaced by an
//! empty one. Unaware of what records and rows mean.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, WithoutTls};

use crate::digest::Digest;
use crate::fsio::{Fs, FsError, mtime_ns, present};
use crate::mark::fresh_name;

/// Folder of this version's rows; another version's are left alone.
const VERSION: &str = "v1";
/// Address space for the map; the file grows as needed.
const MAP_BYTES: [usize; 2] = [16 << 30, 256 << 20];
const MAX_READERS: u32 = 1024;
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
    #[error("failed to use the index in {}", path.display())]
    Database { path: PathBuf, source: heed::Error },
}

type Table = Database<'static, Bytes, Bytes>;

impl IndexError {
    /// Whether the index is of no use to anybody, rather than out of reach for this process.
    fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Database { source: heed::Error::Mdb(error), .. } => matches!(
                error,
                heed::MdbError::Corrupted
                    | heed::MdbError::Invalid
                    | heed::MdbError::PageNotFound
                    | heed::MdbError::VersionMismatch
                    | heed::MdbError::Incompatible
            ),
            _ => false,
        }
    }
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    env: Env<WithoutTls>,
    records: Table,
    stats: Table,
}

/// An open index.
#[derive(Debug)]
pub(crate) struct Index {
    shared: Arc<Shared>,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    records: HashMap<Digest, Option<Vec<u8>>>,
    stats: HashMap<StatKey, Vec<u8>>,
}

/// LMDB allows one environment for each file in a process, so that stores share it.
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<Shared>>>> = LazyLock::new(Mutex::default);

impl Index {
    /// Opens the index in this folder, or makes an empty one. A damaged one goes to the trash.
    ///
    /// Gives what was wrong with the one that was there.
    pub(crate) fn open(
        fs: &Fs,
        folder: &Path,
        trash: &Path,
    ) -> Result<(Self, Option<IndexError>), IndexError> {
        let mut opened = Self::open_present(fs, folder);
        for _ in 0..50 {
            // Another store of this process is about to close it.
            let Err(IndexError::Database { source: heed::Error::EnvAlreadyOpened, .. }) = opened
            else {
                break;
            };
            std::thread::sleep(Duration::from_millis(2));
            opened = Self::open_present(fs, folder);
        }
        match opened {
            Ok(index) => Ok((index, None)),
            Err(error) if !error.is_damage() => Err(error),
            Err(error) => {
                abandon(fs, folder, trash)?;
                Ok((Self::open_present(fs, folder)?, Some(error)))
            }
        }
    }

    fn open_present(fs: &Fs, folder: &Path) -> Result<Self, IndexError> {
        let path = folder.join(VERSION);
        fs.create_dirs(&path)?;
        let real = path.canonicalize().map_err(|error| FsError::new("look at", &path, error))?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = open.get(&real).and_then(Weak::upgrade)
            && present(fs.lstat(&path.join("data.mdb")))?.is_some()
        {
            return Ok(Self { shared, pending: Mutex::default() });
        }
        if !plausible(fs, &path.join("data.mdb"))? {
            return Err(IndexError::Damaged(path));
        }
        let shared = Arc::new(environment(real.clone())?);
        open.retain(|_, other| other.strong_count() > 0);
        open.insert(real, Arc::downgrade(&shared));
        Ok(Self { shared, pending: Mutex::default() })
    }

    fn failed(&self, source: heed::Error) -> IndexError {
        IndexError::Database { path: self.shared.path.clone(), source }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The frame of the record under this key, if it is that of the file with this identity.
    pub(crate) fn record(
        &self,
        key: &Digest,
        file: &Metadata,
    ) -> Result<Option<Vec<u8>>, IndexError> {
        let current = |row: &[u8]| {
            let (head, frame) = row.split_at_checked(IDENTITY)?;
            (head == identity(file)).then(|| frame.to_vec())
        };
        if let Some(row) = self.pending().records.get(key) {
            return Ok(row.as_deref().and_then(current));
        }
        let txn = self.shared.env.read_txn().map_err(|error| self.failed(error))?;
        let row = self.shared.records.get(&txn, key.as_bytes());
        Ok(row.map_err(|error| self.failed(error))?.and_then(current))
    }

    /// Remembers the frame that stands in the file with this identity.
    pub(crate) fn put_record(&self, key: &Digest, file: &Metadata, frame: &[u8]) {
        let row = [&identity(file)[..], frame].concat();
        self.pending().records.insert(*key, Some(row));
    }

    /// Forgets a record.
    pub(crate) fn forget_record(&self, key: &Digest) {
        self.pending().records.insert(*key, None);
    }

    /// A row of the stat cache.
    pub(crate) fn stat(&self, key: &StatKey) -> Result<Option<Vec<u8>>, IndexError> {
        if let Some(row) = self.pending().stats.get(key) {
            return Ok(Some(row.clone()));
        }
        let txn = self.shared.env.read_txn().map_err(|error| self.failed(error))?;
        let row = self.shared.stats.get(&txn, key).map_err(|error| self.failed(error))?;
        Ok(row.map(<[u8]>::to_vec))
    }

    /// Sets a row of the stat cache.
    pub(crate) fn put_stat(&self, key: StatKey, row: Vec<u8>) {
        self.pending().stats.insert(key, row);
    }

    /// Writes the rows that wait, in one transaction.
    pub(crate) fn commit(&self) -> Result<(), IndexError> {
        // Taken out first: no lock is held while the disk is waited for. A reader that misses
        // a row in the meantime reads the truth.
        let Pending { records, stats } = std::mem::take(&mut *self.pending());
        if records.is_empty() && stats.is_empty() {
            return Ok(());
        }
        let write = || -> Result<(), heed::Error> {
            let mut txn = self.shared.env.write_txn()?;
            for (key, row) in &records {
                match row {
                    Some(row) => self.shared.records.put(&mut txn, key.as_bytes(), row)?,
                    None => drop(self.shared.records.delete(&mut txn, key.as_bytes())?),
                }
            }
            for (key, row) in &stats {
                self.shared.stats.put(&mut txn, key, row)?;
            }
            txn.commit()
        };
        write().map_err(|error| self.failed(error))
    }

    /// Every stored record with its identity, for `verify`.
    pub(crate) fn records(&self) -> Result<Vec<(Digest, IndexedRecord)>, IndexError> {
        let txn = self.shared.env.read_txn().map_err(|error| self.failed(error))?;
        let rows = self.shared.records.iter(&txn).map_err(|error| self.failed(error))?;
        let mut found = Vec::new();
        for row in rows {
            let (key, row) = row.map_err(|error| self.failed(error))?;
            let damaged = || IndexError::Damaged(self.shared.path.clone());
            let key: [u8; 32] = key.try_into().map_err(|_| damaged())?;
            let (identity, frame) = row.split_at_checked(IDENTITY).ok_or_else(damaged)?;
            let record = IndexedRecord { identity: identity.to_vec(), frame: frame.to_vec() };
            found.push((Digest::from_bytes(key), record));
        }
        Ok(found)
    }
}

/// A record's row as it stands in the index.
#[derive(Debug)]
pub(crate) struct IndexedRecord {
    identity: Vec<u8>,
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

#[allow(unsafe_code)]
fn open_map(
    options: &EnvOpenOptions<WithoutTls>,
    path: &Path,
) -> Result<Env<WithoutTls>, heed::Error> {
    // SAFETY: the map is sound as long as nobody changes the file but LMDB, under its own lock.
    // The folder is for the user alone, nothing in this crate opens its files otherwise than to
    // read their heads, an index that is replaced is renamed and never cut short, and `plausible`
    // has refused files that are shorter than what their head promises.
    unsafe { options.open(path) }
}

fn environment(path: PathBuf) -> Result<Shared, IndexError> {
    let failed = |source| IndexError::Database { path: path.clone(), source };
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.max_dbs(2).max_readers(MAX_READERS);
    let mut opened = open_map(options.map_size(MAP_BYTES[0]), &path);
    if opened.is_err() {
        // Where address space is limited a small map still does.
        opened = open_map(options.map_size(MAP_BYTES[1]), &path);
    }
    let env = opened.map_err(failed)?;
    env.clear_stale_readers().map_err(failed)?;
    let (records, stats) = tables(&env).map_err(failed)?;
    Ok(Shared { path, env, records, stats })
}

/// Both tables, made if they are not there.
fn tables(env: &Env<WithoutTls>) -> Result<(Table, Table), heed::Error> {
    let opened = env
        .open_databases_and_commit(env.read_txn()?, |open, txn| -> Result<_, heed::Error> {
            let records = open.open_database(txn, Some("records"))?;
            let stats = open.open_database(txn, Some("stats"))?;
            Ok(CommitOrAbort::<_, Infallible>::Commit((records, stats)))
        })?
        .commit();
    if let Some((Some(records), Some(stats))) = opened {
        return Ok((records, stats));
    }
    let made = env
        .create_databases_and_commit(env.write_txn()?, |create, txn| -> Result<_, heed::Error> {
            let records = create.create_database(txn, Some("records"))?;
            let stats = create.create_database(txn, Some("stats"))?;
            Ok(CommitOrAbort::<_, Infallible>::Commit((records, stats)))
        })?
        .commit();
    Ok(made.expect("the closure above never aborts"))
}

/// Whether a file can be mapped without danger: both of its heads are LMDB's, and it is as long
/// as the newer one says. No file at all is fine.
fn plausible(fs: &Fs, path: &Path) -> Result<bool, FsError> {
    const HEAD: usize = 160;
    let Some(metadata) = present(fs.lstat(path))? else { return Ok(true) };
    // An environment that was killed while it was created is empty; LMDB starts it anew.
    if metadata.len() == 0 {
        return Ok(true);
    }
    let mut file = fs.open(path)?;
    let mut newest = (0, 0);
    let mut page = 4096;
    for at in [0, 1] {
        use std::io::{Read, Seek, SeekFrom};
        let mut head = [0u8; HEAD];
        let read = file.seek(SeekFrom::Start(at * page)).and_then(|_| file.read_exact(&mut head));
        if read.is_err() {
            return Ok(false);
        }
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        if word(16) as u32 != 0xBEEF_C0DE {
            return Ok(false);
        }
        page = u64::from(word(40) as u32);
        if !(512..=65536).contains(&page) {
            return Ok(false);
        }
        let (last, transaction) = (word(136), word(144));
        newest = newest.max((transaction, last));
    }
    let pages = newest.1.saturating_add(1);
    Ok(pages.saturating_mul(page) <= metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_damaged_index_is_replaced_by_an_empty_one() {
        for damage in [
            (|bytes: &mut Vec<u8>| bytes.fill(0x5a)) as fn(&mut Vec<u8>),
            |bytes| bytes.truncate(3 * 4096),
            |bytes| bytes.truncate(100),
        ] {
            let (_home, folder, trash) = folders();
            filled(&folder, &trash);
            let data = folder.join("v1/data.mdb");
            let mut bytes = std::fs::read(&data).unwrap();
            damage(&mut bytes);
            std::fs::write(&data, bytes).unwrap();
            let (index, wrong) = Index::open(&Fs::default(), &folder, &trash).unwrap();
            assert!(matches!(wrong, Some(IndexError::Damaged(_))), "{wrong:?}");
            assert!(index.stat(&[0; 16]).unwrap().is_none());
            index.put_stat([1; 16], vec![1]);
            index.commit().unwrap();
        }
    }

    #[test]
    fn two_stores_of_one_process_share_an_index() {
        let (_home, folder, trash) = folders();
        let (one, _) = Index::open(&Fs::default(), &folder, &trash).unwrap();
        let (two, _) = Index::open(&Fs::default(), &folder, &trash).unwrap();
        one.put_stat([1; 16], vec![1]);
        one.commit().unwrap();
        assert_eq!(two.stat(&[1; 16]).unwrap(), Some(vec![1]));
    }
}
