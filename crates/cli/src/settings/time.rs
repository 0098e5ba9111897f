//! Durations as values of settings.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde_json::{Value, json};

use super::table::Shape;
use super::value::Kind;

/// A hundred years: a clock that counts further may overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A text with units.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    let whole = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(whole).ok()
}

impl Kind for Duration {
    const EXPECTED: &str = "a time such as 15m, 30s or 1h 30m, or a number of seconds";
    const SHAPES: &[Shape] = &[Shape::Text, Shape::Integer];

    fn parse(text: &str) -> Option<Self> {
        let time = match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => duration(text)?,
        };
        (time <= LONGEST).then_some(time)
    }

    fn show(&self) -> Option<String> {
        let whole = SignedDuration::try_from(*self).ok()?;
        Some(format!("{whole:#}"))
    }

    fn json(&self) -> Value {
        // In seconds.
        match self.subsec_nanos() {
            0 => json!(self.as_secs()),
            _ => json!(self.as_secs_f64()),
        }
    }
}

/// A time limit, which is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeout(pub(crate) Duration);

impl Kind for Timeout {
    const EXPECTED: &str = "a time above 0 such as 15m, 30s or 1h 30m, or a number of seconds";
    const SHAPES: &[Shape] = Duration::SHAPES;

    fn parse(text: &str) -> Option<Self> {
        let time = Duration::parse(text)?;
        (!time.is_zero()).then_some(Timeout(time))
    }

    fn show(&self) -> Option<String> {
        self.0.show()
    }

    fn json(&self) -> Value {
        self.0.json()
    }
}

/// An interval; `None` means never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) Option<Duration>);

impl Kind for Interval {
    const EXPECTED: &str = "a time such as 1h or 30m, a number of seconds, or off (also 0)";
    const SHAPES: &[Shape] = Duration::SHAPES;

    fn parse(text: &str) -> Option<Self> {
        if text == "off" {
            return Some(Interval(None));
        }
        let time = Duration::parse(text)?;
        Some(Interval(Some(time).filter(|time| !time.is_zero())))
    }

    fn show(&self) -> Option<String> {
        self.0
            .map_or_else(|| Some("off".to_owned()), |time| time.show())
    }

    fn json(&self) -> Value {
        self.0.map_or(json!(0), |time| time.json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits_and_intervals() {
        let minute = Duration::from_secs(60);
        for (text, limit, interval) in [
            ("1m", Some(Timeout(minute)), Some(Interval(Some(minute)))),
            ("60", Some(Timeout(minute)), Some(Interval(Some(minute)))),
            ("0", None, Some(Interval(None))),
            ("0s", None, Some(Interval(None))),
            ("off", None, Some(Interval(None))),
            ("-1m", None, None),
            ("18446744073709551615", None, None),
            ("200y", None, None),
            ("", None, None),
        ] {
            assert_eq!(Timeout::parse(text), limit, "{text:?}");
            assert_eq!(Interval::parse(text), interval, "{text:?}");
        }
    }

    #[test]
    fn shown_time_is_parsed_again() {
        for seconds in [0, 1, 90, 3600, 7 * 24 * 3600] {
            let time = Duration::from_secs(seconds);
            let shown = time.show().unwrap_or_default();
            assert_eq!(Duration::parse(&shown), Some(time), "{shown}");
        }
    }
}
