//! The name of content: a BLAKE3 digest.
//!
//! A file's digest is what `b3sum` prints for it. This module is unaware of what the bytes mean
//! and of where they are kept.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::interrupt;
use crate::mapped;

/// From this many bytes on, a file is hashed on all cores.
const PARALLEL_FROM: u64 = 1 << 20;
/// Bytes that are read at once from a large file.
const LARGE_PIECE: usize = 4 << 20;
/// Bytes that are read at once from a small file.
const SMALL_PIECE: usize = 128 << 10;
/// So much of a mapped file is hashed between two looks at whether that is still wanted.
const WINDOW: usize = 128 << 20;
/// In so many places a large file is asked whether it is in memory.
const PROBES: u64 = 16;

thread_local! {
    /// Where small files are read to: fresh memory for each of them would cost more than its hash.
    static PIECE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// 32 bytes of BLAKE3, written as 64 lower-case hexadecimal digits.
///
/// In JSON and other formats for people a digest is its hexadecimal text; in binary formats it is
/// its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest (64 lower-case hexadecimal digits)")]
pub struct DigestError(pub String);

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest that these 32 bytes are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digits, as ASCII.
    pub(crate) fn hex(&self) -> [u8; 64] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }

    /// The first twelve hexadecimal digits: enough for a person to tell digests apart.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }

    /// Reads an open file from its beginning; gives the digest and the number of bytes that were read.
    ///
    /// A large file of `expected` bytes that is in memory is hashed where it lies there, on all cores; a file that
    /// somebody truncates meanwhile gives a short count and not a dead process. What has to come from the disk is
    /// read in order, which is what disks are good at.
    pub(crate) fn of_file(file: &File, expected: u64) -> io::Result<(Self, u64)> {
        if expected < PARALLEL_FROM {
            return PIECE.with_borrow_mut(|piece| {
                piece.resize(SMALL_PIECE, 0);
                Self::read_from(file, expected, piece, |hasher, bytes| hasher.update(bytes))
            });
        }
        if is_in_memory(file, expected) {
            let hash = |bytes: &[u8]| {
                let mut hasher = blake3::Hasher::new();
                for part in bytes.chunks(WINDOW) {
                    interrupt::check()?;
                    hasher.update_rayon(part);
                }
                Ok::<_, io::Error>(hasher.finalize())
            };
            if let Some(hash) = mapped::with_bytes(file, expected, hash) {
                return Ok((Self(*hash?.as_bytes()), expected));
            }
        }
        let mut piece = vec![0; LARGE_PIECE];
        Self::read_from(file, expected, &mut piece, |hasher, bytes| hasher.update_rayon(bytes))
    }

    fn read_from(
        file: &File,
        expected: u64,
        piece: &mut [u8],
        update: impl for<'h> Fn(&'h mut blake3::Hasher, &[u8]) -> &'h mut blake3::Hasher,
    ) -> io::Result<(Self, u64)> {
        let mut hasher = blake3::Hasher::new();
        let mut total = 0u64;
        loop {
            interrupt::check()?;
            let read = fill(file, expected, piece, total)?;
            total += read as u64;
            update(&mut hasher, &piece[..read]);
            if read < piece.len() || total == expected {
                return Ok((Self(*hasher.finalize().as_bytes()), total));
            }
        }
    }
}

/// Whether a file of `bytes` bytes seems to be in memory, as far as a few places in it tell.
fn is_in_memory(file: &File, bytes: u64) -> bool {
    let mut byte = [0];
    (0..PROBES).all(|nth| {
        let at = (bytes - 1) / PROBES * nth;
        let read = rustix::io::preadv2(
            file,
            &mut [io::IoSliceMut::new(&mut byte)],
            at,
            rustix::io::ReadWriteFlags::NOWAIT,
        );
        // A file system that cannot say is believed to have it.
        !matches!(read, Err(rustix::io::Errno::AGAIN) | Ok(0))
    })
}

/// Reads from a place on until the piece is full, the file ends, or as much was read as is expected: whether more
/// has come meanwhile is seen in what the file looks like afterwards.
fn fill(file: &File, expected: u64, piece: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match file.read_at(&mut piece[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => {
                filled += read;
                if at + filled as u64 == expected {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.hex()).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let refused = || DigestError(text.chars().take(80).collect());
        if text.len() != 64 {
            return Err(refused());
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let high = nibble(pair[0]).ok_or_else(refused)?;
            let low = nibble(pair[1]).ok_or_else(refused)?;
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    const ABC: &str = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";

    #[test]
    fn a_digest_is_what_b3sum_prints() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        assert_eq!(Digest::of(b"abc").short(), "6437b3ac3846");
    }

    #[test]
    fn text_and_json_round_trip() {
        let digest: Digest = ABC.parse().unwrap();
        assert_eq!(digest, Digest::of(b"abc"));
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("\"{ABC}\""));
        assert_eq!(serde_json::from_str::<Digest>(&format!("\"{ABC}\"")).unwrap(), digest);
    }

    #[test]
    fn anything_but_64_lower_case_digits_is_refused() {
        for text in ["", "abc", &ABC.to_uppercase(), &ABC[1..], &format!("{ABC}0"), &"é".repeat(32)]
        {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }

    #[test]
    fn large_and_small_files_hash_like_their_bytes() {
        for size in [0, 1, SMALL_PIECE, SMALL_PIECE + 1, LARGE_PIECE, LARGE_PIECE + 12_345] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, &bytes).unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            let hashed = Digest::of_file(&file, size as u64).unwrap();
            assert_eq!(hashed, (Digest::of(&bytes), size as u64));
        }
    }
}
