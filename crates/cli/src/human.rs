//! Sizes and times as people read them, and as programs do. Pure.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// `1.4 MiB`, to a tenth; `512 B`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In tenths of a unit, rounded: what rounds up to the next unit is told in that.
    let mut unit = 0;
    let tenths = |unit: usize| {
        let unit = 1_u128 << (10 * (unit + 1));
        (u128::from(bytes) * 10 + unit / 2) / unit
    };
    while unit + 1 < UNITS.len() && tenths(unit) >= 10_240 {
        unit += 1;
    }
    let tenths = tenths(unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// `3 h`: the largest unit of which there are two or more, rounded down.
pub(super) fn age(age: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    let seconds = age.as_secs();
    let units = [(YEAR, "y"), (DAY, "d"), (HOUR, "h"), (MINUTE, "min")];
    let unit = units.into_iter().find(|(unit, _)| seconds >= 2 * unit);
    let (unit, name) = unit.unwrap_or((1, "s"));
    format!("{} {name}", seconds / unit)
}

/// `3 h ago`. What is still to come has a clock of its own, and is told as now.
pub(super) fn ago(then: SystemTime, now: SystemTime) -> String {
    match now.duration_since(then) {
        Ok(passed) if passed.as_secs() > 0 => format!("{} ago", age(passed)),
        _ => "now".to_owned(),
    }
}

/// As RFC 3339 has it.
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        const KIB: u64 = 1024;
        for (bytes, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (KIB, "1.0 KiB"),
            (KIB + 51, "1.0 KiB"),
            (KIB + 52, "1.1 KiB"),
            (1_468_006, "1.4 MiB"),
            (KIB * KIB - 52, "1023.9 KiB"),
            (KIB * KIB - 51, "1.0 MiB"),
            (100 * KIB * KIB * KIB, "100.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), want, "{bytes}");
        }
    }

    #[test]
    fn ages() {
        const HOUR: u64 = 3600;
        for (seconds, want) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (2 * HOUR - 1, "119 min"),
            (3 * HOUR + 1, "3 h"),
            (47 * HOUR, "47 h"),
            (48 * HOUR, "2 d"),
            (729 * 24 * HOUR, "729 d"),
            (731 * 24 * HOUR, "2 y"),
        ] {
            let told = age(Duration::from_secs(seconds));
            assert_eq!(told, want, "{seconds}");
        }
    }

    #[test]
    fn how_long_ago() {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (now, want) in [(0, "now"), (1000, "now"), (1090, "90 s ago")] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
            assert_eq!(ago(then, now), want);
        }
    }
}
