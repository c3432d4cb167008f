//! Sizes and times as people type them on a command line: `20G`, `500MiB`, `30d`, `1w12h`.
//!
//! Text in, number out, or a sentence that says what is wrong and what would be right.

use std::time::Duration;

const SIZES: [(&str, u64); 17] = [
    ("", 1),
    ("B", 1),
    ("K", 1 << 10),
    ("KiB", 1 << 10),
    ("kB", 1000),
    ("KB", 1000),
    ("M", 1 << 20),
    ("MiB", 1 << 20),
    ("MB", 1000 * 1000),
    ("G", 1 << 30),
    ("GiB", 1 << 30),
    ("GB", 1000 * 1000 * 1000),
    ("T", 1 << 40),
    ("TiB", 1 << 40),
    ("TB", 1000 * 1000 * 1000 * 1000),
    ("P", 1 << 50),
    ("PiB", 1 << 50),
];

const TIMES: [(&str, u64); 5] =
    [("w", 7 * 86_400), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// Bytes. One letter stands for the binary unit, as in `du`.
///
/// # Errors
/// If the text is no size.
pub fn size(text: &str) -> Result<u64, String> {
    const ADVICE: &str = "say it like 20G, 500MiB or 1.5TB";
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim_start());
    if number.is_empty() {
        return Err(format!("a size begins with a number; {ADVICE}"));
    }
    let Some(&(_, scale)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("`{unit}` is not a unit of size; {ADVICE}"));
    };
    let too_much = || format!("more than 64 bits can count; {ADVICE}");
    if !number.contains('.') {
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
        return bytes.ok_or_else(too_much);
    }
    let number: f64 =
        number.parse().map_err(|_| format!("`{number}` is not a number; {ADVICE}"))?;
    let bytes = (number * scale as f64).round();
    if bytes >= u64::MAX as f64 { Err(too_much()) } else { Ok(bytes as u64) }
}

/// A length of time; units from large to small, each at most once.
///
/// # Errors
/// If the text is no length of time.
pub fn duration(text: &str) -> Result<Duration, String> {
    const ADVICE: &str = "say it like 30d, 2w or 12h; w, d, h, m and s are the units";
    let mut seconds: u64 = 0;
    let mut units = TIMES.as_slice();
    let mut rest = text;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        if number.is_empty() {
            return Err(format!("a number was expected before `{rest}`; {ADVICE}"));
        }
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let Some(at) = units.iter().position(|(name, _)| *name == unit) else {
            return Err(match TIMES.iter().any(|(name, _)| *name == unit) {
                true => format!("units go from large to small, each once; {ADVICE}"),
                false if unit.is_empty() => format!("`{number}` has no unit; {ADVICE}"),
                false => format!("`{unit}` is not a unit of time; {ADVICE}"),
            });
        };
        seconds = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(units[at].1))
            .and_then(|more| seconds.checked_add(more))
            .ok_or_else(|| format!("more than 64 bits can count; {ADVICE}"))?;
        units = &units[at + 1..];
        rest = tail;
        if rest.is_empty() {
            return Ok(Duration::from_secs(seconds));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_binary_and_decimal_units() {
        assert_eq!(size("20G"), Ok(20 << 30));
        assert_eq!(size("500MiB"), Ok(500 << 20));
        assert_eq!(size("500 MB"), Ok(500_000_000));
        assert_eq!(size("1.5K"), Ok(1536));
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("12B"), Ok(12));
        for wrong in
            ["", "G", "-1G", "20X", "1..5G", "20 apples", "20g", "99999999999T", "1e9", "٣G"]
        {
            let error = size(wrong).unwrap_err();
            assert!(error.contains("20G"), "{wrong}: {error}");
        }
    }

    #[test]
    fn times_go_from_large_units_to_small() {
        let day = 86_400;
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * day)));
        assert_eq!(duration("2w"), Ok(Duration::from_secs(14 * day)));
        assert_eq!(duration("12h"), Ok(Duration::from_secs(day / 2)));
        assert_eq!(duration("1w2d3h4m5s"), Ok(Duration::from_secs(9 * day + 3 * 3600 + 245)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "30", "d", "-1d", "1.5d", "30 d", "1h1d", "1d1d", "3y", "99999999999999w"]
        {
            let error = duration(wrong).unwrap_err();
            assert!(error.contains("30d"), "{wrong}: {error}");
        }
    }
}
