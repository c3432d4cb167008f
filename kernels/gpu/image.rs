//! Compiled kernels, and which of them run on which GPU.
//!
//! Machine code runs on GPUs of its own generation whose revision is not older; PTX is compiled by the driver for any that is
//! not older. What was compiled for one architecture alone (`sm_90a`) runs on that one, and its PTX too.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// An architecture: `sm_90`, `sm_90a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arch {
    major: u32,
    minor: u32,
    suffix: Option<char>,
}

impl Arch {
    /// Of the driver's numbers.
    pub(super) fn of(major: i32, minor: i32) -> Arch {
        let number = |number: i32| u32::try_from(number).unwrap_or(0);
        Arch { major: number(major), minor: number(minor), suffix: None }
    }

    /// Multiply-adds that a multiprocessor does in a cycle, in binary32; unknown generations count as the last known.
    #[must_use]
    pub fn lanes(self) -> u32 {
        if (self.major, self.minor) == (8, 0) || self.major < 8 { 64 } else { 128 }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}{}", self.major, self.minor)?;
        self.suffix.map_or(Ok(()), |suffix| write!(f, "{suffix}"))
    }
}

/// A text that is no architecture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no architecture such as sm_90")]
pub struct NoArch(String);

impl FromStr for Arch {
    type Err = NoArch;

    fn from_str(text: &str) -> Result<Arch, NoArch> {
        let wrong = || NoArch(text.to_owned());
        let rest = text.strip_prefix("sm_").ok_or_else(wrong)?;
        let digits = rest.trim_end_matches(['a', 'f']);
        let suffix = match &rest[digits.len()..] {
            "" => None,
            "a" => Some('a'),
            "f" => Some('f'),
            _ => return Err(wrong()),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u32 = digits.parse().map_err(|_| wrong())?;
        Ok(Arch { major: number / 10, minor: number % 10, suffix })
    }
}

/// What kind of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code<'a> {
    /// Machine code.
    Cubin(&'a [u8]),
    /// What the driver compiles.
    Ptx(&'a str),
}

/// Kernels that were compiled for an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// What for.
    pub arch: Arch,
    /// To what.
    pub code: Code<'a>,
}

impl Image<'_> {
    fn fits(&self, gpu: Arch) -> bool {
        let same = (self.arch.major, self.arch.minor) == (gpu.major, gpu.minor);
        match (self.arch.suffix, self.code) {
            (Some('a'), _) => same,
            (Some(_), _) | (None, Code::Cubin(_)) => {
                self.arch.major == gpu.major && self.arch.minor <= gpu.minor
            }
            (None, Code::Ptx(_)) => (self.arch.major, self.arch.minor) <= (gpu.major, gpu.minor),
        }
    }

    /// What the driver is given. It is told no length, so what is shorter than it says of itself is an error.
    pub(super) fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        match self.code {
            Code::Ptx(text) if text.contains('\0') => Err("the PTX holds a zero byte".to_owned()),
            Code::Ptx(text) => Ok(text.bytes().chain([0]).collect::<Vec<u8>>().into()),
            Code::Cubin(bytes) if is_whole(bytes) => Ok(bytes.into()),
            Code::Cubin(_) => {
                Err("the machine code is damaged: it is no whole ELF file".to_owned())
            }
        }
    }
}

/// Whether an ELF file of 64 bits is as long as its headers say.
fn is_whole(bytes: &[u8]) -> bool {
    let number = |at: usize, len: usize| {
        let field = bytes.get(at..at + len)?;
        Some(field.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let table = |at: usize, entry: usize| {
        let (first, size) = (number(at, 8)?, number(entry, 2)?.checked_mul(number(entry + 2, 2)?)?);
        Some(first.checked_add(size)? <= bytes.len() as u64)
    };
    let sections = || -> Option<bool> {
        let (first, size, count) = (number(0x28, 8)?, number(0x3a, 2)?, number(0x3c, 2)?);
        for index in 0..count {
            let header = usize::try_from(first + index * size).ok()?;
            // A section of type 8 takes no room in the file.
            let there = number(header + 4, 4)? == 8
                || number(header + 0x18, 8)?.checked_add(number(header + 0x20, 8)?)?
                    <= bytes.len() as u64;
            if !there {
                return Some(false);
            }
        }
        Some(true)
    };
    bytes.starts_with(b"\x7fELF\x02")
        && table(0x20, 0x36) == Some(true)
        && table(0x28, 0x3a) == Some(true)
        && sections() == Some(true)
}

/// Those that run on `gpu`, best first: machine code, then PTX, of both the newest.
pub(super) fn fitting<'a>(images: &'a [Image<'a>], gpu: Arch) -> Vec<&'a Image<'a>> {
    let mut all: Vec<&Image<'_>> = images.iter().filter(|own| own.fits(gpu)).collect();
    all.sort_by_key(|own| (matches!(own.code, Code::Ptx(_)), std::cmp::Reverse(own.arch)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_code_of_the_generation_comes_first_then_the_newest_ptx() {
        let of = |arch: &str, ptx: bool| Image {
            arch: arch.parse().unwrap(),
            code: if ptx { Code::Ptx("") } else { Code::Cubin(b"") },
        };
        let images = [
            of("sm_80", true),
            of("sm_80", false),
            of("sm_86", false),
            of("sm_90", true),
            of("sm_90", false),
            of("sm_90a", false),
            of("sm_100", true),
        ];
        let chosen = |major, minor| -> Vec<String> {
            fitting(&images, Arch::of(major, minor))
                .iter()
                .map(|own| {
                    format!(
                        "{}{}",
                        own.arch,
                        if matches!(own.code, Code::Ptx(_)) { " ptx" } else { "" }
                    )
                })
                .collect()
        };
        assert_eq!(chosen(9, 0), ["sm_90a", "sm_90", "sm_90 ptx", "sm_80 ptx"]);
        assert_eq!(chosen(8, 9), ["sm_86", "sm_80", "sm_80 ptx"]);
        assert_eq!(chosen(12, 0), ["sm_100 ptx", "sm_90 ptx", "sm_80 ptx"]);
        assert!(chosen(7, 5).is_empty());
    }

    #[test]
    fn architectures_are_read_and_written() {
        for text in ["sm_80", "sm_90a", "sm_100", "sm_121", "sm_100f"] {
            assert_eq!(text.parse::<Arch>().unwrap().to_string(), text);
        }
        for text in ["", "sm_", "90", "sm_9x", "sm_90b", "compute_90", "sm_90aa", "sm_99999999999"]
        {
            assert!(text.parse::<Arch>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_cubin_that_was_cut_off_never_reaches_the_driver() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let image =
            |bytes| Image { arch: Arch::of(9, 0), code: Code::Cubin(bytes) }.bytes().is_ok();
        assert!(image(&whole));
        for len in [0, 3, 16, 63, whole.len() / 2, whole.len() - 1] {
            assert!(!image(&whole[..len]), "{len}");
        }
        let ptx = Image { arch: Arch::of(9, 0), code: Code::Ptx(".version 8.0") };
        assert_eq!(ptx.bytes().unwrap().last(), Some(&0));
    }
}
