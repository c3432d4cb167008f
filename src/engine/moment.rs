//! Points in time, as people read them.

use jiff::{Timestamp, tz::TimeZone};

/// Milliseconds since 1970 as date and time of the machine's time zone: `2026-05-03 14:22:07`.
pub fn local(milliseconds: i64) -> String {
    in_zone(milliseconds, TimeZone::system())
}

fn in_zone(milliseconds: i64, zone: TimeZone) -> String {
    match Timestamp::from_millisecond(milliseconds) {
        Ok(time) => time.to_zoned_datetime(zone).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => "at an unknown time".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_to_the_second() {
        assert_eq!(in_zone(1_000, TimeZone::UTC), "1970-01-01 00:00:01");
        assert_eq!(in_zone(i64::MAX, TimeZone::UTC), "at an unknown time");
    }
}
