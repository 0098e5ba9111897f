//! The value of `--range`.

use std::ops::Range;
use std::str::FromStr;

/// A range of bytes in the syntax of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteRange {
    /// From the first to the last, or to the end.
    From(u64, Option<u64>),
    /// The last bytes, this many.
    Last(u64),
}

/// The error of a text that is no range.
#[derive(Debug, thiserror::Error)]
#[error("expected A-B with A not above B, A- or -N with N above 0, in bytes")]
pub(super) struct InvalidRange;

impl FromStr for ByteRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let number = |text: &str| {
            // `parse` accepts a sign.
            let is_number = text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse::<u64>().ok().filter(|_| is_number);
            number.ok_or(InvalidRange)
        };
        match text.split_once('-').ok_or(InvalidRange)? {
            ("", last) => match number(last)? {
                0 => Err(InvalidRange),
                last => Ok(ByteRange::Last(last)),
            },
            (first, "") => Ok(ByteRange::From(number(first)?, None)),
            (first, last) => match (number(first)?, number(last)?) {
                (first, last) if first <= last => Ok(ByteRange::From(first, Some(last))),
                _ => Err(InvalidRange),
            },
        }
    }
}

impl ByteRange {
    /// The part of the range within `size` bytes; `None` if it is empty.
    pub(super) fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            ByteRange::From(first, last) => {
                first..last.map_or(size, |last| last.saturating_add(1).min(size))
            }
            ByteRange::Last(count) => size.saturating_sub(count)..size,
        };
        (!range.is_empty()).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        for (text, size, want) in [
            ("0-0", 10, Some(0..1)),
            ("0-9", 10, Some(0..10)),
            ("3-5", 10, Some(3..6)),
            ("3-99", 10, Some(3..10)),
            ("3-18446744073709551615", 10, Some(3..10)),
            ("3-", 10, Some(3..10)),
            ("-3", 10, Some(7..10)),
            ("-30", 10, Some(0..10)),
            ("10-", 10, None),
            ("10-11", 10, None),
            ("-1", 0, None),
            ("0-", 0, None),
        ] {
            let range = text.parse::<ByteRange>().map(|range| range.within(size));
            assert_eq!(range.ok(), Some(want), "{text} of {size}");
        }
    }

    #[test]
    fn invalid_ranges() {
        for text in [
            "",
            "-",
            "-0",
            "5-3",
            "a-b",
            "+1-2",
            "1",
            "1-2-3",
            "--1",
            " 1-2",
            "1-2,4-5",
            "99999999999999999999-",
        ] {
            assert!(text.parse::<ByteRange>().is_err(), "{text:?}");
        }
    }
}
