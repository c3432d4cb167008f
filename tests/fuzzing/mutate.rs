//! Inputs: random bytes, or samples with random changes.

use arbtest::arbitrary::{Result, Unstructured};

/// Numbers at which arithmetic and lengths go wrong.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
];

/// Samples do not grow beyond this.
const MAX_BYTES: usize = 1 << 16;

/// One input.
pub(crate) fn input(
    u: &mut Unstructured<'_>,
    samples: &[Vec<u8>],
    words: &[Vec<u8>],
) -> Result<Vec<u8>> {
    if samples.is_empty() || u.ratio(1u8, 16u8)? {
        if words.is_empty() || u.arbitrary()? {
            return u.arbitrary();
        }
        let count = u.int_in_range(0..=80)?;
        let words: Vec<&[u8]> =
            (0..count).map(|_| u.choose(words).map(Vec::as_slice)).collect::<Result<_>>()?;
        return Ok(words.concat());
    }
    let mut input = u.choose(samples)?.clone();
    for _ in 0..u.int_in_range(1..=6)? {
        change(u, &mut input, samples, words)?;
    }
    input.truncate(MAX_BYTES);
    Ok(input)
}

fn change(
    u: &mut Unstructured<'_>,
    input: &mut Vec<u8>,
    samples: &[Vec<u8>],
    words: &[Vec<u8>],
) -> Result<()> {
    let at = u.int_in_range(0..=input.len())?;
    // Mostly short stretches, now and then any.
    let longest = if u.ratio(1u8, 8u8)? { input.len() - at } else { 8.min(input.len() - at) };
    let end = at + u.int_in_range(0..=longest)?;
    match u.int_in_range(0..=8u8)? {
        0 => drop(input.splice(at..end, [])),
        1 => input.truncate(at),
        2 => {
            let copy = input[at..end].to_vec();
            let times = u.int_in_range(1..=20usize)?;
            input.splice(at..at, copy.repeat(times));
        }
        3 if at < input.len() => input[at] ^= 1 << u.int_in_range(0..=7u8)?,
        4 => {
            let number = *u.choose(&NUMBERS)?;
            let bytes = if u.arbitrary()? { number.to_le_bytes() } else { number.to_be_bytes() };
            let width = *u.choose(&[1usize, 2, 4, 8])?;
            let end = (at + width).min(input.len());
            input.splice(at..end, bytes.into_iter().take(width));
        }
        5 => {
            let other = u.choose(samples)?;
            let from = u.int_in_range(0..=other.len())?;
            let to = u.int_in_range(from..=other.len())?;
            input.splice(at..end, other[from..to].iter().copied());
        }
        6 => {
            let number = u.choose(&NUMBERS)?.to_string();
            input.splice(at..end, number.into_bytes());
        }
        7 | 8 if !words.is_empty() => {
            let word = u.choose(words)?.iter().copied();
            let end = if u.arbitrary()? { at } else { end };
            input.splice(at..end, word);
        }
        _ => {
            let byte: u8 = u.arbitrary()?;
            input.splice(at..end, [byte]);
        }
    }
    Ok(())
}
