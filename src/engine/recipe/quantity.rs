//! Amounts with units: memory, time, shares.
//!
//! Text in, number out, or a sentence that says what is wrong with it.

use std::time::Duration;

const MEMORY: [(&str, u64); 11] = [
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1000 * 1000),
    ("GB", 1000 * 1000 * 1000),
    ("TB", 1000 * 1000 * 1000 * 1000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("", 1),
];

/// Less than this starts no program: a plain number was probably meant in another unit.
const LEAST_MEMORY: u64 = 1 << 20;

/// Bytes: `"512MiB"`, `"1.5GB"`.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim_start());
    let Some(&(_, scale)) = MEMORY.iter().find(|&&(name, _)| name == unit) else {
        return Err(format!("`{unit}` is not a unit of memory"));
    };
    if number.is_empty() {
        return Err(format!("`{text}` has no number"));
    }
    let bytes = if number.contains('.') {
        let number: f64 = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
        let bytes = (number * scale as f64).round();
        if bytes >= u64::MAX as f64 { None } else { Some(bytes as u64) }
    } else {
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale))
    };
    at_least_a_mebibyte(bytes.ok_or_else(|| format!("`{text}` is more than 64 bits can count"))?)
}

/// Bytes, given as a plain number.
pub(super) fn memory_bytes(bytes: i64) -> Result<u64, String> {
    at_least_a_mebibyte(u64::try_from(bytes).map_err(|_| format!("{bytes} is negative"))?)
}

fn at_least_a_mebibyte(bytes: u64) -> Result<u64, String> {
    if bytes < LEAST_MEMORY {
        return Err(format!("{bytes} bytes are too few for any program: at least 1MiB"));
    }
    Ok(bytes)
}

const TIME: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// A time: `"90s"`, `"1h30m"`; units from large to small, each at most once.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let mut rest = text;
    let mut units = TIME.as_slice();
    let mut seconds: u64 = 0;
    if rest.is_empty() {
        return Err("it is empty".to_owned());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() {
            return Err(format!("a number was expected before `{rest}`"));
        }
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        if unit.is_empty() {
            return Err(format!("`{number}` has no unit"));
        }
        if !TIME.iter().any(|&(name, _)| name == unit) {
            return Err(format!("`{unit}` is not a unit of time"));
        }
        let Some(position) = units.iter().position(|&(name, _)| name == unit) else {
            return Err("units go from large to small, each once".to_owned());
        };
        seconds = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(units[position].1))
            .and_then(|more| seconds.checked_add(more))
            .ok_or_else(|| format!("`{text}` is more than 64 bits can count"))?;
        units = &units[position + 1..];
        rest = tail;
    }
    nonzero(seconds)
}

/// A time, given as plain seconds.
pub(super) fn time_seconds(seconds: i64) -> Result<Duration, String> {
    nonzero(u64::try_from(seconds).map_err(|_| format!("{seconds} is negative"))?)
}

fn nonzero(seconds: u64) -> Result<Duration, String> {
    match seconds {
        0 => Err("no step is done in 0 seconds".to_owned()),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

/// The canonical text of a share: `"2%"` for `2 %` and `2.0%`.
pub(super) fn share(text: &str) -> Option<String> {
    let number: f64 = text.strip_suffix('%')?.trim_end().parse().ok()?;
    (number.is_finite() && number >= 0.0).then(|| format!("{}%", number.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_takes_binary_and_decimal_units_and_plain_bytes() {
        assert_eq!(memory("512MiB"), Ok(512 << 20));
        assert_eq!(memory("2 GB"), Ok(2_000_000_000));
        assert_eq!(memory("1.5GiB"), Ok(3 << 29));
        assert_eq!(memory_bytes(1 << 20), Ok(1 << 20));
        for wrong in ["", "GiB", "12", "5 apples", "99999999999TiB", "1..5GiB", "-1GiB", "1K"] {
            assert!(memory(wrong).is_err(), "{wrong}");
        }
        assert!(memory_bytes(-1).is_err());
    }

    #[test]
    fn times_go_from_large_units_to_small() {
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(time("1d2h3m4s"), Ok(Duration::from_secs(93_784)));
        for wrong in
            ["", "0s", "90", "s", "1m1h", "1m2m", "3 weeks", "1.5h", "99999999999999999999s"]
        {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn equal_shares_have_one_text() {
        for same in ["2%", "2 %", "2.0%", "2.%", "+2%"] {
            assert_eq!(share(same).as_deref(), Some("2%"), "{same}");
        }
        assert_eq!(share("0.5%").as_deref(), Some("0.5%"));
        for wrong in ["2", "%", "-1%", "nan%", "inf%", "two%"] {
            assert_eq!(share(wrong), None, "{wrong}");
        }
    }
}
