//! One row of the index as bytes: a head that proves itself, then whatever the row says.
//!
//! The head has its own checksum, so that a row which a place leads to is known to be the one that was
//! looked for before anything of it is believed. What it says is somebody else's frame, with a checksum of
//! its own. Unaware of how it is found.

use std::fs::File;
use std::io::{self, IoSliceMut};

/// Bytes of a head: the checksum of what follows, kind, length of the payload, key, identity.
const HEAD: usize = 72;
const IDENTITY: usize = 24;

/// The most bytes that a row can have: its length stands in 24 bits. What is longer is not kept.
pub(super) const MOST: usize = (1 << 24) - 1;

/// What sort of thing a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Record = 1,
    Stat = 2,
}

/// What a row is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) kind: Kind,
    pub(super) key: [u8; 32],
}

impl Name {
    /// A number that is as good as random, and the same on each machine.
    pub(super) fn hash(&self) -> u64 {
        let mut hash = self.kind as u64;
        for word in self.key.as_chunks::<8>().0 {
            // The finish of SplitMix64: each bit of what goes in reaches each bit of what comes out.
            hash = (hash ^ u64::from_le_bytes(*word)).wrapping_add(0x9E37_79B9_7F4A_7C15);
            hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            hash ^= hash >> 31;
        }
        hash
    }
}

/// A row, read or to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: Name,
    /// What tells the file that the row was made from.
    pub(super) identity: [u8; IDENTITY],
    pub(super) payload: Vec<u8>,
}

impl Row {
    /// How many bytes it takes.
    pub(super) fn len(&self) -> usize {
        HEAD + self.payload.len()
    }

    pub(super) fn write_to(&self, bytes: &mut Vec<u8>) {
        let mut head = [0; HEAD];
        head[8] = self.name.kind as u8;
        head[12..16].copy_from_slice(&(self.payload.len() as u32).to_le_bytes());
        head[16..48].copy_from_slice(&self.name.key);
        head[48..].copy_from_slice(&self.identity);
        let check = checksum(&head);
        head[..8].copy_from_slice(&check);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&self.payload);
    }

    /// Reads a row of so many bytes that stands there. `None` if none does.
    pub(super) fn read(file: &File, offset: u64, length: usize) -> io::Result<Option<Self>> {
        let Some(rest) = length.checked_sub(HEAD) else { return Ok(None) };
        let (mut head, mut payload) = ([0; HEAD], vec![0; rest]);
        let mut parts = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut payload)];
        let whole = rustix::io::preadv(file, &mut parts, offset)? == length;
        Ok(whole.then(|| Self::of(&head, payload)).flatten())
    }

    /// Reads a row that these bytes are, all of them.
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, payload) = bytes.split_first_chunk::<HEAD>()?;
        Self::of(head, payload.to_vec())
    }

    fn of(head: &[u8; HEAD], payload: Vec<u8>) -> Option<Self> {
        if head[..8] != checksum(head) {
            return None;
        }
        let kind = match head[8] {
            1 => Kind::Record,
            2 => Kind::Stat,
            _ => return None,
        };
        let length = u32::from_le_bytes(*head[12..].first_chunk()?);
        (length as usize == payload.len()).then_some(())?;
        Some(Self {
            name: Name { kind, key: *head[16..].first_chunk()? },
            identity: *head[48..].first_chunk()?,
            payload,
        })
    }
}

fn checksum(head: &[u8; HEAD]) -> [u8; 8] {
    let hash = blake3::hash(&head[8..]);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn row() -> Row {
        let name = Name { kind: Kind::Stat, key: [3; 32] };
        Row { name, identity: [4; IDENTITY], payload: b"what it says".to_vec() }
    }

    #[test]
    fn no_bytes_make_the_reader_break_its_word() {
        let mut sample = Vec::new();
        row().write_to(&mut sample);
        kiln_fuzzing::Fuzz::new("index row").samples([&sample[8..]]).bytes(|bytes| {
            // With a checksum that holds, whatever is in the head.
            let mut whole = [&[0; 8], bytes].concat();
            if let Some(head) = whole.first_chunk_mut::<HEAD>() {
                let check = checksum(head);
                head[..8].copy_from_slice(&check);
            }
            if let Some(row) = Row::of_bytes(&whole) {
                let mut again = Vec::new();
                row.write_to(&mut again);
                let fill = |bytes: &[u8]| [&bytes[8..9], &bytes[12..]].concat();
                assert_eq!(
                    fill(&again),
                    fill(&whole),
                    "a row has one encoding, but for three unused bytes"
                );
            }
        });
    }

    fn read(bytes: &[u8], length: usize) -> Option<Row> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before").unwrap();
        file.write_all(bytes).unwrap();
        Row::read(&file, 6, length).unwrap()
    }

    #[test]
    fn a_row_is_read_back_and_no_bit_of_its_head_can_change_unnoticed() {
        let mut bytes = Vec::new();
        row().write_to(&mut bytes);
        assert_eq!(bytes.len(), row().len());
        assert_eq!(read(&bytes, bytes.len()), Some(row()));
        assert_eq!(Row::of_bytes(&bytes), Some(row()));
        for bit in 0..HEAD * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bytes, bytes.len()), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes, length), None, "{length} bytes of it");
            assert_eq!(read(&bytes[..length], bytes.len()), None, "{length} bytes there");
        }
    }

    #[test]
    fn neighbouring_names_lie_far_apart() {
        let mut seen = std::collections::HashSet::new();
        for number in 0..4096u16 {
            let mut key = [0; 32];
            key[14..16].copy_from_slice(&number.to_be_bytes());
            for kind in [Kind::Record, Kind::Stat] {
                seen.insert(Name { kind, key }.hash() & 0xFFFF);
            }
        }
        // 8192 balls into 65536 bins hit 7702 different ones, give or take fifty.
        assert!((7400..8000).contains(&seen.len()), "{}", seen.len());
    }
}
