//! The two files of the index: rows, which are only ever appended to, and a table that says where each
//! name's row stands.
//!
//! Readers take no lock and believe nothing: the table leads to a row, the row proves that it is the one.
//! So a table that is damaged, torn, or older than its rows costs a look at the truth, never a wrong answer;
//! and since both are read, not mapped, nothing that happens to them can stop the process. Writers take one
//! lock of the kernel's, append first, and point to it afterwards. Unaware of what rows say.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::fsio::{Fs, FsError, present};
use crate::mark::fresh_name;

use super::IndexError;
use super::blocks::Blocks;
use super::row::{MOST, Name, Row};

const MAGIC: [u8; 4] = *b"KLNI";
const VERSION: u32 = 2;
/// Magic, version, number of the rows' file, number of slots; then the checksum of these.
const FIELDS: usize = 24;
const HEADER: usize = 64;
/// Hash of the name, then place: where its row begins, and in the lowest 24 bits how long it is.
const SLOT: usize = 16;
const EMPTY: u64 = 0;
/// Somebody was here: a search goes on.
const GONE: u64 = 1;
const FEWEST_SLOTS: usize = 512;
/// The largest table that is read; beyond it a length is not believed.
const MOST_SLOTS: usize = 1 << 28;
/// How many slots are read at once while looking, where they are not kept in memory.
const WINDOW: usize = 16;
/// So many bytes of slots are kept in memory.
const KEPT: usize = 2 << 20;
/// What is not referred to any more is given back when it is this much, and more than what is.
const SLACK: u64 = 4 << 20;
/// Rows are written in pieces of about this size.
const PIECE: usize = 4 << 20;
const PAGE: usize = 4096;

fn table_path(folder: &Path) -> PathBuf {
    folder.join("table")
}

fn rows_path(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("rows-{id:016x}"))
}

fn place(offset: u64, length: usize) -> u64 {
    offset << 24 | length as u64
}

/// Both files, open for reading, as they were at some time.
#[derive(Debug)]
pub(super) struct View {
    slots: Slots,
    rows: File,
    blocks: Blocks,
}

/// The slots of a table: in memory while there are few of them.
#[derive(Debug)]
enum Slots {
    Read(Vec<u8>),
    Left(File, usize),
}

impl Slots {
    fn of(table: File, count: usize, path: &Path) -> Result<Self, FsError> {
        if count * SLOT > KEPT {
            return Ok(Self::Left(table, count));
        }
        let mut slots = vec![0; count * SLOT];
        table
            .read_exact_at(&mut slots, HEADER as u64)
            .map_err(|error| FsError::new("read", path, error))?;
        Ok(Self::Read(slots))
    }

    fn count(&self) -> usize {
        match self {
            Self::Read(slots) => slots.len() / SLOT,
            Self::Left(_, count) => *count,
        }
    }

    /// Some slots from this one on; `window` is where they may be put.
    fn from<'s>(&'s self, at: usize, window: &'s mut [u8]) -> io::Result<&'s [u8]> {
        match self {
            Self::Read(slots) => Ok(&slots[at * SLOT..]),
            Self::Left(table, count) => {
                let length = window.len().min((count - at) * SLOT);
                let window = &mut window[..length];
                table.read_exact_at(window, slot_offset(at))?;
                Ok(window)
            }
        }
    }
}

impl View {
    /// Opens what is there; `None` if nothing is.
    pub(super) fn open(fs: &Fs, folder: &Path) -> Result<Option<Self>, IndexError> {
        // A writer may replace both between the two openings.
        for _ in 0..3 {
            let path = table_path(folder);
            let Some(table) = present(fs.open(&path))? else { return Ok(None) };
            let (id, slots) = header(&table, &path)?;
            if let Some(rows) = present(fs.open(&rows_path(folder, id)))? {
                return Ok(Some(Self {
                    slots: Slots::of(table, slots, &path)?,
                    rows,
                    blocks: Blocks::default(),
                }));
            }
        }
        Err(IndexError::Damaged(folder.to_owned()))
    }

    /// The row of this name, if there is one that is sound.
    pub(super) fn find(&self, name: &Name) -> io::Result<Option<Row>> {
        let (hash, count) = (name.hash(), self.slots.count());
        let mut at = hash as usize & (count - 1);
        let mut looked = 0;
        while looked < count {
            let mut window = [0; WINDOW * SLOT];
            let slots = self.slots.from(at, &mut window)?.as_chunks::<SLOT>().0;
            for slot in slots {
                let (of, place) = read_slot(slot);
                if place == EMPTY {
                    return Ok(None);
                }
                if of == hash
                    && place != GONE
                    && let Some(row) = self.row(place)?
                    && row.name == *name
                {
                    return Ok(Some(row));
                }
            }
            looked += slots.len();
            at = (at + slots.len()) & (count - 1);
        }
        Ok(None)
    }

    /// The row at a place, if one is there.
    fn row(&self, place: u64) -> io::Result<Option<Row>> {
        let (offset, length) = (place >> 24, place as usize & MOST);
        match self.blocks.bytes(&self.rows, offset, length, Row::of_bytes)? {
            Some(row) => Ok(row),
            None => row_at(&self.rows, place),
        }
    }
}

/// Every row that the table of this folder leads to; how many of its places lead to none.
pub(super) fn every_row(fs: &Fs, folder: &Path) -> Result<(Vec<Row>, usize), IndexError> {
    let lock = folder.join("lock");
    // Without a lock's file there was never a writer.
    let Some(held) = present(fs.open(&lock))? else { return Ok((Vec::new(), 0)) };
    held.lock_shared().map_err(|error| FsError::new("lock", &lock, error))?;
    let Some(table) = Table::load(fs, folder)? else { return Ok((Vec::new(), 0)) };
    let path = rows_path(folder, table.id);
    let rows = fs.open(&path)?;
    let (mut found, mut damaged) = (Vec::new(), 0);
    for (hash, place) in table.live() {
        let row = row_at(&rows, place).map_err(|error| FsError::new("read", &path, error))?;
        match row.filter(|row| row.name.hash() == hash) {
            Some(row) => found.push(row),
            None => damaged += 1,
        }
    }
    Ok((found, damaged))
}

fn row_at(rows: &File, place: u64) -> io::Result<Option<Row>> {
    Row::read(rows, place >> 24, place as usize & MOST)
}

fn slot_offset(at: usize) -> u64 {
    (HEADER + at * SLOT) as u64
}

fn read_slot(slot: &[u8; SLOT]) -> (u64, u64) {
    let words = slot.as_chunks::<8>().0;
    (u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]))
}

/// The number of the rows' file and the number of slots.
fn header(table: &File, path: &Path) -> Result<(u64, usize), IndexError> {
    let damaged = || IndexError::Damaged(path.to_owned());
    let mut head = [0; HEADER];
    match table.read_exact_at(&mut head, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged()),
        read => read.map_err(|error| FsError::new("read", path, error))?,
    }
    let (fields, check) = head.split_at(FIELDS);
    if check[..32] != *blake3::hash(fields).as_bytes() {
        return Err(damaged());
    }
    let words = fields.as_chunks::<8>().0;
    if words[0][..4] != MAGIC || words[0][4..] != VERSION.to_le_bytes() {
        return Err(damaged());
    }
    let slots = usize::try_from(u64::from_le_bytes(words[2])).map_err(|_| damaged())?;
    let length = table.metadata().map_err(|error| FsError::new("look at", path, error))?.len();
    let whole = slots.is_power_of_two()
        && (FEWEST_SLOTS..=MOST_SLOTS).contains(&slots)
        && length == slot_offset(slots);
    if whole { Ok((u64::from_le_bytes(words[1]), slots)) } else { Err(damaged()) }
}

/// A table in memory, as a writer works on it.
struct Table {
    id: u64,
    slots: Vec<u8>,
    /// Slots that are not empty.
    used: usize,
    /// Pages of `slots` that differ from the file.
    changed: BTreeSet<usize>,
    /// Whether there is no file of this size yet.
    is_new: bool,
}

impl Table {
    fn new(slots: usize) -> Self {
        // Never the number of rows that were there before.
        let id = blake3::hash(fresh_name().as_bytes());
        let id = u64::from_le_bytes(*id.as_bytes().first_chunk().expect("a hash has 32 bytes"));
        Self::empty(id, slots)
    }

    fn empty(id: u64, slots: usize) -> Self {
        let slots = vec![0; slots * SLOT];
        Self { id, slots, used: 0, changed: BTreeSet::new(), is_new: true }
    }

    /// The table in this folder; `None` if there is none.
    fn load(fs: &Fs, folder: &Path) -> Result<Option<Self>, IndexError> {
        let path = table_path(folder);
        let Some(file) = present(fs.open(&path))? else { return Ok(None) };
        let (id, count) = header(&file, &path)?;
        if present(fs.lstat(&rows_path(folder, id)))?.is_none() {
            return Err(IndexError::Damaged(folder.to_owned()));
        }
        let mut slots = vec![0; count * SLOT];
        file.read_exact_at(&mut slots, HEADER as u64)
            .map_err(|error| FsError::new("read", &path, error))?;
        let mut table = Self { id, slots, used: 0, changed: BTreeSet::new(), is_new: false };
        table.used = table.all().filter(|(_, place)| *place != EMPTY).count();
        Ok(Some(table))
    }

    fn count(&self) -> usize {
        self.slots.len() / SLOT
    }

    fn all(&self) -> impl Iterator<Item = (u64, u64)> {
        self.slots.as_chunks::<SLOT>().0.iter().map(read_slot)
    }

    /// Hash and place of everything that is there.
    fn live(&self) -> impl Iterator<Item = (u64, u64)> {
        self.all().filter(|(_, place)| *place != EMPTY && *place != GONE)
    }

    /// Sets the place of a name, or forgets it. Two names of one hash share a slot: the later one has it.
    fn set(&mut self, hash: u64, place: Option<u64>) {
        let mask = self.count() - 1;
        let mut at = hash as usize & mask;
        for _ in 0..self.count() {
            let slot = &self.slots.as_chunks::<SLOT>().0[at];
            let (of, there) = read_slot(slot);
            if there == EMPTY || of == hash {
                match (there, place) {
                    (EMPTY, None) => return,
                    (EMPTY, Some(_)) => self.used += 1,
                    _ => {}
                }
                let slot = &mut self.slots.as_chunks_mut::<SLOT>().0[at];
                slot[..8].copy_from_slice(&hash.to_le_bytes());
                slot[8..].copy_from_slice(&place.unwrap_or(GONE).to_le_bytes());
                self.changed.insert(at * SLOT / PAGE);
                return;
            }
            at = (at + 1) & mask;
        }
    }

    /// Makes room for so many more names.
    fn grow(self, more: usize) -> Self {
        if (self.used + more) * 2 <= self.count() {
            return self;
        }
        let live = self.live().count() + more;
        let mut grown = Self::empty(self.id, (live * 3).next_power_of_two().max(FEWEST_SLOTS));
        self.live().for_each(|(hash, place)| grown.set(hash, Some(place)));
        grown
    }

    /// Brings it to its file: whole and in one move if it is new, or else what has changed.
    fn save(&mut self, fs: &Fs, folder: &Path) -> Result<(), FsError> {
        let path = table_path(folder);
        if self.is_new {
            let mut bytes = Vec::with_capacity(HEADER + self.slots.len());
            bytes.extend_from_slice(&MAGIC);
            bytes.extend_from_slice(&VERSION.to_le_bytes());
            bytes.extend_from_slice(&self.id.to_le_bytes());
            bytes.extend_from_slice(&(self.count() as u64).to_le_bytes());
            let check = blake3::hash(&bytes);
            bytes.extend_from_slice(check.as_bytes());
            bytes.resize(HEADER, 0);
            bytes.extend_from_slice(&self.slots);
            let aside = folder.join("table.new");
            fs.remove_all(&aside)?;
            fs.write_new(&aside, &bytes, false)?;
            return fs.rename(&aside, &path);
        }
        let open = OpenOptions::new().write(true).open(&path);
        let file = open.map_err(|error| FsError::new("open", &path, error))?;
        for &page in &self.changed {
            let bytes = &self.slots[page * PAGE..self.slots.len().min((page + 1) * PAGE)];
            let at = (HEADER + page * PAGE) as u64;
            fs.act("write to", &path, || file.write_all_at(bytes, at))?;
        }
        Ok(())
    }
}

/// Sets rows, or forgets those of names without one.
pub(super) fn write<'r>(
    fs: &Fs,
    folder: &Path,
    count: usize,
    news: impl Iterator<Item = (Name, Option<&'r Row>)>,
) -> Result<(), IndexError> {
    fs.create_dirs(folder)?;
    let lock = folder.join("lock");
    let held = fs.open_lock(&lock)?;
    held.lock().map_err(|error| FsError::new("lock", &lock, error))?;
    let table = match Table::load(fs, folder) {
        Ok(Some(table)) => compacted(fs, folder, table)?,
        Ok(None) | Err(IndexError::Damaged(_)) => Table::new(FEWEST_SLOTS),
        Err(error) => return Err(error),
    };
    let mut table = table.grow(count);
    let mut rows = Rows::open(fs, folder, table.id)?;
    let mut places = Vec::with_capacity(count);
    for (name, row) in news {
        let place = match row {
            Some(row) if row.len() <= MOST => Some(rows.append(row)?),
            _ => None,
        };
        places.push((name.hash(), place));
    }
    rows.finish()?;
    // Only what is there is pointed to.
    places.into_iter().for_each(|(hash, place)| table.set(hash, place));
    table.save(fs, folder)?;
    remove_others(fs, folder, table.id);
    Ok(())
}

/// Copies the rows that are referred to, if most are not.
fn compacted(fs: &Fs, folder: &Path, table: Table) -> Result<Table, IndexError> {
    let path = rows_path(folder, table.id);
    let length = fs.lstat(&path)?.len();
    let live: u64 = table.live().map(|(_, place)| place & MOST as u64).sum();
    if length <= live.saturating_mul(2).saturating_add(SLACK) {
        return Ok(table);
    }
    let from = fs.open(&path)?;
    let mut next = Table::new(table.count());
    let mut rows = Rows::open(fs, folder, next.id)?;
    for (hash, place) in table.live() {
        let row = row_at(&from, place).map_err(|error| FsError::new("read", &path, error))?;
        if let Some(row) = row.filter(|row| row.name.hash() == hash) {
            let place = rows.append(&row)?;
            next.set(hash, Some(place));
        }
    }
    rows.finish()?;
    Ok(next)
}

/// Removes rows that no table refers to. Whoever reads them has them open; what stays is in nobody's way.
fn remove_others(fs: &Fs, folder: &Path, id: u64) {
    let own = rows_path(folder, id);
    for name in fs.list(folder).unwrap_or_default() {
        let path = folder.join(&name);
        if name.to_string_lossy().starts_with("rows-") && path != own {
            drop(fs.remove_file(&path));
        }
    }
}

/// The rows' file, open for appending.
struct Rows<'f> {
    fs: &'f Fs,
    path: PathBuf,
    file: File,
    end: u64,
    waiting: Vec<u8>,
}

impl<'f> Rows<'f> {
    fn open(fs: &'f Fs, folder: &Path, id: u64) -> Result<Self, FsError> {
        let path = rows_path(folder, id);
        let file = match OpenOptions::new().write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs.create_file(&path, 0o600)?
            }
            opened => opened.map_err(|error| FsError::new("open", &path, error))?,
        };
        let end = file.metadata().map_err(|error| FsError::new("look at", &path, error))?.len();
        Ok(Self { fs, path, file, end, waiting: Vec::new() })
    }

    /// Gives its place.
    fn append(&mut self, row: &Row) -> Result<u64, FsError> {
        let place = place(self.end + self.waiting.len() as u64, row.len());
        row.write_to(&mut self.waiting);
        if self.waiting.len() >= PIECE {
            self.finish()?;
        }
        Ok(place)
    }

    fn finish(&mut self) -> Result<(), FsError> {
        let (file, at, bytes) = (&self.file, self.end, std::mem::take(&mut self.waiting));
        if bytes.is_empty() {
            return Ok(());
        }
        self.fs.act("write to", &self.path, || file.write_all_at(&bytes, at))?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}
