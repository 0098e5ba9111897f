//! Sizes, counts and times as people read them, and times as programs do.

use std::time::{Duration, SystemTime};

use indicatif::{HumanBytes, HumanCount, HumanDuration};
use jiff::Timestamp;

/// `1.40 MiB`
pub(super) fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// `67,108,864`
pub(super) fn grouped(number: u64) -> String {
    HumanCount(number).to_string()
}

/// `1 layer`, `2,000 layers`, `2 repositories`
pub(super) fn counted(number: u64, one: &str) -> String {
    match (number, one.strip_suffix('y')) {
        (1, _) => format!("1 {one}"),
        (_, Some(stem)) => format!("{} {stem}ies", grouped(number)),
        (_, None) => format!("{} {one}s", grouped(number)),
    }
}

/// `3h`
pub(super) fn age(age: Duration) -> String {
    format!("{:#}", HumanDuration(age))
}

/// `3h ago`. A time in the future comes from another clock, and is shown as now.
pub(super) fn ago(then: SystemTime, now: SystemTime) -> String {
    match now.duration_since(then) {
        Ok(passed) if passed.as_secs() > 0 => format!("{} ago", age(passed)),
        _ => "now".to_owned(),
    }
}

/// In the form of RFC 3339.
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        for (number, one, want) in [
            (0, "layer", "0 layers"),
            (1, "layer", "1 layer"),
            (2000, "layer", "2,000 layers"),
            (1, "repository", "1 repository"),
            (2, "repository", "2 repositories"),
        ] {
            assert_eq!(counted(number, one), want);
        }
    }

    #[test]
    fn time_since_an_event() {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (now, want) in [
            (0, "now"),
            (1000, "now"),
            (1090, "2m ago"),
            (11_800, "3h ago"),
        ] {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
            assert_eq!(ago(then, now), want);
        }
    }
}
