//! Frames for binary data of our own: the only module that names `bincode`.
//!
//! A frame is magic (4 bytes), version (u32), length (u64), payload, BLAKE3 of all that precedes
//! it; integers are little-endian. Unaware of what a payload means. Meant for data that this
//! machine wrote for itself; what travels between machines has formats of its own.
//!
//! A type that goes into a frame has no maps without order, no `usize`, no recursion, no elements
//! of size zero, no untagged or flattened parts.

use bincode::config::{self, Configuration, Fixint, Limit, LittleEndian};
use bincode::error::DecodeError;
use bincode::serde::decode_from_slice;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Greatest payload: hostile lengths are refused before anything is allocated for them.
pub const MAX_PAYLOAD: usize = 256 << 20;
const HEAD: usize = 16;
const TAIL: usize = 32;

/// A frame that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The first bytes are not those of the wanted kind of frame.
    #[error("it begins with {found:02x?}, not with {wanted:02x?}")]
    Magic {
        /// The magic of the wanted kind.
        wanted: [u8; 4],
        /// What stands there.
        found: Vec<u8>,
    },
    /// Written by another version of the program.
    #[error("its format has version {found}, this program reads version {wanted}")]
    Version {
        /// The version that is read here.
        wanted: u32,
        /// The version that stands there.
        found: u32,
    },
    /// Cut short, or with more bytes than it says.
    #[error("it has {found} bytes where its head promises {wanted}")]
    Length {
        /// Bytes by the head.
        wanted: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// The bytes are not those that were written.
    #[error("its checksum does not match: some of its bytes have changed")]
    Checksum,
    /// The payload is no value of the wanted type.
    #[error("its payload cannot be read")]
    Payload(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The payload has bytes after its value.
    #[error("{0} bytes follow its payload's value")]
    Trailing(u64),
}

fn configuration<const LIMIT: usize>() -> Configuration<LittleEndian, Fixint, Limit<LIMIT>> {
    config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<LIMIT>()
}

/// The value at the front of a payload, and how many bytes it took.
///
/// The library allocates for a length that it reads as far as its limit goes, however few bytes follow. Its limit is
/// fixed when it is compiled, so there are a few of them: none is more than 16 times what is there, beyond the first.
fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<(T, usize), DecodeError> {
    match payload.len() {
        0..=0xfff => decode_from_slice(payload, configuration::<0x1000>()),
        0x1000..=0xffff => decode_from_slice(payload, configuration::<0x1_0000>()),
        0x1_0000..=0xf_ffff => decode_from_slice(payload, configuration::<0x10_0000>()),
        0x10_0000..=0xff_ffff => decode_from_slice(payload, configuration::<0x100_0000>()),
        _ => decode_from_slice(payload, configuration::<MAX_PAYLOAD>()),
    }
}

/// Puts a value into a frame.
#[must_use]
pub fn encode<T: Serialize>(magic: [u8; 4], version: u32, value: &T) -> Vec<u8> {
    let payload = bincode::serde::encode_to_vec(value, configuration::<MAX_PAYLOAD>())
        .expect("a framed type serialises without fail: it has no maps and no lengths unknown");
    let mut frame = Vec::with_capacity(HEAD + payload.len() + TAIL);
    frame.extend_from_slice(&magic);
    frame.extend_from_slice(&version.to_le_bytes());
    frame.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    frame.extend_from_slice(&payload);
    let sum = blake3::hash(&frame);
    frame.extend_from_slice(sum.as_bytes());
    frame
}

/// The checksum at the end of a frame: it names what the frame says.
pub(crate) fn checksum(frame: &[u8]) -> Option<[u8; 32]> {
    frame.last_chunk::<TAIL>().copied()
}

/// Takes a value out of a frame; checks magic, version, length and checksum, in this order, before
/// the payload is looked at, and then that all of it was consumed.
///
/// # Errors
/// One for each of these checks.
pub fn decode<T: DeserializeOwned>(
    magic: [u8; 4],
    version: u32,
    frame: &[u8],
) -> Result<T, FrameError> {
    if frame.get(..4) != Some(&magic[..]) {
        let found = frame.iter().take(4).copied().collect();
        return Err(FrameError::Magic { wanted: magic, found });
    }
    let short = FrameError::Length { wanted: (HEAD + TAIL) as u64, found: frame.len() as u64 };
    let Some((head, _)) = frame.split_first_chunk::<HEAD>() else { return Err(short) };
    let found = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    if found != version {
        return Err(FrameError::Version { wanted: version, found });
    }
    let Some((body, sum)) = frame.split_last_chunk::<TAIL>() else { return Err(short) };
    let length = u64::from_le_bytes(head[8..].try_into().expect("eight bytes of sixteen remain"));
    let payload = body.get(HEAD..).filter(|payload| payload.len() as u64 == length);
    let Some(payload) = payload else {
        let wanted = length.saturating_add((HEAD + TAIL) as u64);
        return Err(FrameError::Length { wanted, found: frame.len() as u64 });
    };
    if blake3::hash(body).as_bytes() != sum {
        return Err(FrameError::Checksum);
    }
    let (value, consumed) = read(payload).map_err(|error| FrameError::Payload(Box::new(error)))?;
    match payload.len() - consumed {
        0 => Ok(value),
        rest => Err(FrameError::Trailing(rest as u64)),
    }
}

/// A frame whose checksum holds, whatever is in it.
#[cfg(any(test, fuzzing))]
pub(crate) fn sealed(magic: [u8; 4], version: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = magic.to_vec();
    frame.extend_from_slice(&version.to_le_bytes());
    frame.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    frame.extend_from_slice(payload);
    let sum = blake3::hash(&frame);
    frame.extend_from_slice(sum.as_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAGIC: [u8; 4] = *b"TEST";

    fn sealed(payload: &[u8]) -> Vec<u8> {
        super::sealed(MAGIC, 1, payload)
    }

    #[test]
    fn golden_bytes() {
        let payload = b"\x07\0\0\0\x02\0\0\0\0\0\0\0hi\x01\x01";
        let value = (7u32, "hi".to_owned(), Some(true));
        assert_eq!(encode(MAGIC, 1, &value), sealed(payload));
        assert_eq!(
            decode::<(u32, String, Option<bool>)>(MAGIC, 1, &sealed(payload)).unwrap(),
            value
        );
    }

    #[test]
    fn each_check_has_its_error() {
        let frame = encode(MAGIC, 1, &7u32);
        let read = |frame: &[u8]| decode::<u32>(MAGIC, 1, frame).unwrap_err();
        assert!(matches!(decode::<u32>(*b"ELSE", 1, &frame), Err(FrameError::Magic { .. })));
        assert!(matches!(
            decode::<u32>(MAGIC, 2, &frame),
            Err(FrameError::Version { found: 1, .. })
        ));
        assert!(matches!(read(&frame[..20]), FrameError::Length { .. }));
        assert!(matches!(read(&frame[..frame.len() - 1]), FrameError::Length { .. }));
        assert!(matches!(read(&sealed(b"\x07\0")), FrameError::Payload(_)));
        assert!(matches!(read(&sealed(b"\x07\0\0\0\0")), FrameError::Trailing(1)));
        let mut changed = frame.clone();
        changed[17] ^= 1;
        assert!(matches!(read(&changed), FrameError::Checksum));
    }

    #[test]
    fn a_payload_of_every_size_comes_back() {
        for bits in 0..25 {
            for size in [(1usize << bits) - 1, 1 << bits, (1 << bits) + 1] {
                let value = (size as u64, "x".repeat(size), vec![7u16; size % 1000]);
                assert!(
                    decode::<(u64, String, Vec<u16>)>(MAGIC, 1, &encode(MAGIC, 1, &value)).unwrap()
                        == value
                );
            }
        }
    }

    #[test]
    fn a_hostile_length_allocates_nothing() {
        let error = decode::<Vec<u8>>(MAGIC, 1, &sealed(&u64::MAX.to_le_bytes())).unwrap_err();
        assert!(matches!(error, FrameError::Payload(_)));
    }

    proptest! {
        #[test]
        fn no_payload_makes_the_reader_panic(payload in prop::collection::vec(any::<u8>(), 0..100)) {
            let read = decode::<(u32, String, Option<Vec<u64>>)>(MAGIC, 1, &sealed(&payload));
            if let Ok(value) = read {
                prop_assert_eq!(encode(MAGIC, 1, &value), sealed(&payload));
            }
        }
    }
}
