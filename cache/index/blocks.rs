//! Pieces of a file that only grows, kept in memory for a while: neighbours are often asked for together,
//! and a call of the system for each would cost more than all else that is done with a row.
//!
//! A piece is kept from the second time on that it is asked for, so that who jumps about does not read
//! more than it needs. Unaware of what is in the file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

const BLOCK: usize = 64 << 10;
/// 4 MiB together.
const BLOCKS: usize = 64;

/// The pieces that are kept; a piece has one place only, by its number.
#[derive(Debug)]
pub(super) struct Blocks(Box<[Mutex<Piece>]>);

#[derive(Debug, Default)]
enum Piece {
    #[default]
    None,
    /// It was asked for once.
    Seen(u64),
    Kept(u64, Arc<[u8]>),
}

impl Default for Blocks {
    fn default() -> Self {
        Self((0..BLOCKS).map(|_| Mutex::default()).collect())
    }
}

impl Blocks {
    /// Calls `with` with the bytes that stand there, if they are all in a piece that is kept, or is to be
    /// kept from now on.
    pub(super) fn bytes<T>(
        &self,
        file: &File,
        offset: u64,
        length: usize,
        with: impl FnOnce(&[u8]) -> T,
    ) -> io::Result<Option<T>> {
        let (number, begin) = (offset / BLOCK as u64, offset as usize % BLOCK);
        if begin + length > BLOCK {
            return Ok(None);
        }
        let piece = &self.0[number as usize % BLOCKS];
        let mut piece = piece.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = match &*piece {
            // The file has grown since it was read.
            Piece::Kept(of, bytes) if *of == number && bytes.len() < begin + length => None,
            Piece::Kept(of, bytes) if *of == number => Some(Arc::clone(bytes)),
            Piece::Seen(of) if *of == number => None,
            _ => {
                *piece = Piece::Seen(number);
                return Ok(None);
            }
        };
        let bytes = match kept {
            Some(bytes) => bytes,
            None => {
                let bytes: Arc<[u8]> = read(file, number * BLOCK as u64)?.into();
                *piece = Piece::Kept(number, Arc::clone(&bytes));
                bytes
            }
        };
        drop(piece);
        Ok(bytes.get(begin..begin + length).map(with))
    }
}

/// A piece, shorter at the end of the file.
fn read(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; BLOCK];
    let mut filled = 0;
    while filled < BLOCK {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_what_stands_in_the_file_also_after_it_grew() {
        let file = tempfile::tempfile().unwrap();
        let (blocks, mut whole) = (Blocks::default(), Vec::new());
        let mut given = 0;
        for round in 0..40u8 {
            let more = vec![round; 10_007];
            file.write_all_at(&more, whole.len() as u64).unwrap();
            whole.extend_from_slice(&more);
            for _ in 0..3 {
                for at in (0..whole.len() - 100).step_by(997) {
                    let found = blocks.bytes(&file, at as u64, 100, <[u8]>::to_vec).unwrap();
                    if let Some(found) = found {
                        assert_eq!(found, whole[at..at + 100], "{round}, {at}");
                        given += 1;
                    }
                }
            }
        }
        assert!(given > 10_000, "{given}");
        assert_eq!(blocks.bytes(&file, 1 << 40, 10, <[u8]>::len).unwrap(), None);
        assert_eq!(blocks.bytes(&file, 1 << 40, 10, <[u8]>::len).unwrap(), None);
    }
}
