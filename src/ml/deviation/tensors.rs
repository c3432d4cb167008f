//! Safetensors: a header of names, types and shapes, then the numbers, compared a piece at a time.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use serde::Deserialize;
use serde_json::Value;

use super::{DeviationError, Found, Source, Stop};

/// The format's own limit for its header.
const LONGEST_HEADER: u64 = 100_000_000;

/// How much of a tensor is looked at at once; a multiple of every element's size.
const PIECE: usize = 1 << 20;

pub(super) fn compare(before: &Path, after: &Path, found: &mut Found) -> Result<(), Stop> {
    let mut old = Tensors::open(Source(before))?;
    let mut new = Tensors::open(Source(after))?;
    if old.metadata != new.metadata {
        return Err(Stop::Unlike("`__metadata__` differs".to_owned()));
    }
    if let Some(name) = old.tensors.keys().find(|name| !new.tensors.contains_key(*name)) {
        return Err(Stop::Unlike(format!("tensor `{name}` is gone")));
    }
    if let Some(name) = new.tensors.keys().find(|name| !old.tensors.contains_key(*name)) {
        return Err(Stop::Unlike(format!("tensor `{name}` is new")));
    }
    // All that can be told by the headers before anything is read.
    for (name, one) in &old.tensors {
        let other = &new.tensors[name];
        if one.dtype != other.dtype || one.shape != other.shape {
            return Err(Stop::Unlike(format!(
                "tensor `{name}` was {} {:?}, and is {} {:?}",
                one.dtype, one.shape, other.dtype, other.shape
            )));
        }
    }
    let names: Vec<String> = old.tensors.keys().cloned().collect();
    for name in names {
        tensor(&name, &mut old, &mut new, found)?;
    }
    Ok(())
}

fn tensor(
    name: &str,
    old: &mut Tensors<'_>,
    new: &mut Tensors<'_>,
    found: &mut Found,
) -> Result<(), Stop> {
    let info = old.tensors[name].clone();
    let length = old.seek(name)?;
    if new.seek(name)? != length {
        return Err(Stop::Unlike(format!("tensor `{name}` has another length")));
    }
    let element = element(&info.dtype);
    let (mut one, mut other) = (vec![0; PIECE], vec![0; PIECE]);
    let mut done = 0;
    while done < length {
        let piece = usize::try_from(length - done).map_or(PIECE, |left| left.min(PIECE));
        let (one, other) = (&mut one[..piece], &mut other[..piece]);
        old.read(one)?;
        new.read(other)?;
        if one != other {
            let Some((size, decode)) = element else {
                return Err(Stop::Unlike(format!(
                    "tensor `{name}` of {}: another value at byte {}",
                    info.dtype,
                    done + first_difference(one, other) as u64
                )));
            };
            let pairs = one.chunks_exact(size).zip(other.chunks_exact(size)).enumerate();
            for (number, (one, other)) in pairs.filter(|(_, (one, other))| one != other) {
                let index = done / size as u64 + number as u64;
                found.pair(decode(one), decode(other), || {
                    format!("{name}{:?}", indices(index, &info.shape))
                });
            }
        }
        done += piece as u64;
    }
    Ok(())
}

fn first_difference(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).position(|(one, other)| one != other).unwrap_or(0)
}

/// The place in each dimension of element number `index`.
fn indices(mut index: u64, shape: &[u64]) -> Vec<u64> {
    let mut all: Vec<u64> = shape
        .iter()
        .rev()
        .map(|&size| {
            let own = index % size.max(1);
            index /= size.max(1);
            own
        })
        .collect();
    all.reverse();
    all
}

type Decode = fn(&[u8]) -> f64;

/// The size of an element and how to read one, for numbers that are not whole. Others have to be equal.
fn element(dtype: &str) -> Option<(usize, Decode)> {
    fn bits16(bytes: &[u8]) -> u16 {
        u16::from_le_bytes([bytes[0], bytes[1]])
    }
    match dtype {
        "F16" => Some((2, |bytes| half(bits16(bytes)))),
        "BF16" => Some((2, |bytes| f64::from(f32::from_bits(u32::from(bits16(bytes)) << 16)))),
        "F32" => Some((4, |bytes| {
            f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        })),
        "F64" => Some((8, |bytes| {
            let mut own = [0; 8];
            own.copy_from_slice(bytes);
            f64::from_le_bytes(own)
        })),
        _ => None,
    }
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = ((bits >> 10) & 0x1f, f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1.0 + fraction / 1024.0) * 2f64.powi(i32::from(exponent) - 15),
    };
    sign * magnitude
}

#[derive(Clone, Debug, Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

struct Tensors<'a> {
    source: Source<'a>,
    file: File,
    /// Where the numbers begin.
    begin: u64,
    metadata: Option<Value>,
    tensors: BTreeMap<String, Info>,
}

impl<'a> Tensors<'a> {
    fn open(source: Source<'a>) -> Result<Self, DeviationError> {
        let mut file = File::open(source.0).map_err(|error| source.unread(error))?;
        let length = file.metadata().map_err(|error| source.unread(error))?.len();
        let mut size = [0; 8];
        if length < 8 {
            return Err(source.wrong("it is too short for a header"));
        }
        file.read_exact(&mut size).map_err(|error| source.unread(error))?;
        let size = u64::from_le_bytes(size);
        if size > LONGEST_HEADER || size > length - 8 {
            return Err(source.wrong(format!("its header cannot have {size} bytes")));
        }
        let mut header = vec![0; size as usize];
        file.read_exact(&mut header).map_err(|error| source.unread(error))?;
        let header: BTreeMap<String, Value> = serde_json::from_slice(&header)
            .map_err(|error| source.wrong(format!("its header: {error}")))?;
        let (begin, mut metadata, mut tensors) = (8 + size, None, BTreeMap::new());
        for (name, value) in header {
            if name == "__metadata__" {
                metadata = Some(value);
                continue;
            }
            let info: Info = serde_json::from_value(value)
                .map_err(|error| source.wrong(format!("tensor `{name}`: {error}")))?;
            let (start, end) = info.data_offsets;
            if start > end || end > length - begin {
                return Err(source.wrong(format!("tensor `{name}` lies outside of the file")));
            }
            if let Some((element, _)) = element(&info.dtype) {
                let count = info.shape.iter().try_fold(1u64, |all, &own| all.checked_mul(own));
                if count.and_then(|count| count.checked_mul(element as u64)) != Some(end - start) {
                    return Err(
                        source.wrong(format!("tensor `{name}` has not the size of its shape"))
                    );
                }
            }
            tensors.insert(name, info);
        }
        Ok(Self { source, file, begin, metadata, tensors })
    }

    /// Goes to the beginning of a tensor; its length in bytes.
    fn seek(&mut self, name: &str) -> Result<u64, Stop> {
        let (start, end) = self.tensors[name].data_offsets;
        let sought = self.file.seek(SeekFrom::Start(self.begin + start));
        sought.map_err(|error| self.source.unread(error))?;
        Ok(end - start)
    }

    fn read(&mut self, piece: &mut [u8]) -> Result<(), Stop> {
        Ok(self.file.read_exact(piece).map_err(|error| self.source.unread(error))?)
    }
}
