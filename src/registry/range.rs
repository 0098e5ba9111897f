//! Ranges: of a read (`Range`), of an upload (`Content-Range`), and conditions on the digest. Pure.

use std::ops::Range;

use crate::digest::Digest;

/// What of a blob is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Whole,
    /// The end is exclusive.
    Part(Range<u64>),
    /// There is no such part.
    Nothing,
}

/// What the value of `Range` asks of a blob of `size` bytes. What is not understood (another unit,
/// several parts, a malformed one) is as if it were not there, as RFC 9110 wants it; but for
/// a range that ends before it begins, which the suite of the OCI wants refused.
pub(super) fn wanted(range: Option<&str>, size: u64) -> Wanted {
    let Some((first, last)) = range
        .and_then(|range| range.trim().strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
    else {
        return Wanted::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        return match number(last) {
            None => Wanted::Whole,
            Some(0) => Wanted::Nothing,
            Some(_) if size == 0 => Wanted::Nothing,
            Some(suffix) => Wanted::Part(size.saturating_sub(suffix)..size),
        };
    }
    let end = match last {
        "" => Some(size),
        last => number(last).map(|last| last.saturating_add(1).min(size)),
    };
    match (number(first), end) {
        (Some(first), Some(end)) if first < end => Wanted::Part(first..end),
        (Some(_), Some(_)) => Wanted::Nothing,
        _ => Wanted::Whole,
    }
}

/// Decimal digits only: `parse` would take a sign as well.
pub(super) fn number(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// The value of `Content-Range` in an upload, `first-last`. The end is exclusive. Some clients
/// write it as HTTP does, `bytes first-last/size`.
pub(super) fn uploaded(text: &str) -> Option<Range<u64>> {
    let text = text.trim();
    let text = text.strip_prefix("bytes").unwrap_or(text);
    let text = text.trim_start_matches(['=', ' ']);
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let (first, last) = text.split_once('-')?;
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    let end = last.checked_add(1)?;
    (first < end).then_some(first..end)
}

/// The value of `Range` that tells how many bytes an upload has. There is no way to write none.
pub(super) fn received(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

/// The entity tag of content with this digest.
pub(super) fn entity_tag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// Whether `If-None-Match` names this content.
pub(super) fn is_known(if_none_match: Option<&str>, digest: &Digest) -> bool {
    let tag = entity_tag(digest);
    if_none_match.is_some_and(|tags| {
        tags.split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|have| have == "*" || have == tag)
    })
}

/// Whether `If-Range` lets a range be answered: it names this very content, or is not there.
pub(super) fn may_be_partial(if_range: Option<&str>, digest: &Digest) -> bool {
    if_range.is_none_or(|tag| tag.trim() == entity_tag(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_cases() {
        use Wanted::{Nothing, Part, Whole};
        for (range, want) in [
            ("bytes=0-99", Part(0..100)),
            ("bytes=0-0", Part(0..1)),
            ("bytes=50-", Part(50..100)),
            ("bytes=99-", Part(99..100)),
            ("bytes=90-200", Part(90..100)),
            ("bytes=-10", Part(90..100)),
            ("bytes=-200", Part(0..100)),
            ("bytes=0-18446744073709551615", Part(0..100)),
            ("bytes=100-", Nothing),
            ("bytes=100-200", Nothing),
            ("bytes=50-0", Nothing),
            ("bytes=-0", Nothing),
            ("bytes=", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=0-1,5-6", Whole),
            ("lines=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(wanted(Some(range), 100), want, "{range}");
        }
        assert_eq!(wanted(None, 100), Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0), Nothing);
        assert_eq!(wanted(Some("bytes=-5"), 0), Nothing);
    }

    #[test]
    fn uploaded_cases() {
        for (text, want) in [
            ("0-99", Some(0..100)),
            ("100-100", Some(100..101)),
            ("bytes 0-99/200", Some(0..100)),
            ("bytes=0-99", Some(0..100)),
            ("bytes 0-99/*", Some(0..100)),
            ("5-4", None),
            ("-4", None),
            ("4-", None),
            ("a-b", None),
            ("0-18446744073709551615", None),
            ("", None),
        ] {
            assert_eq!(uploaded(text), want, "{text}");
        }
    }

    #[test]
    fn conditions() {
        let digest: Digest = Digest::EMPTY_SHA256.parse().unwrap();
        let tag = entity_tag(&digest);
        for (condition, want) in [
            (tag.clone(), true),
            (format!("W/{tag}"), true),
            (format!("\"x\", {tag}"), true),
            ("*".into(), true),
            ("\"x\"".into(), false),
        ] {
            assert_eq!(is_known(Some(&condition), &digest), want, "{condition}");
        }
        assert!(!is_known(None, &digest));
        assert!(may_be_partial(None, &digest));
        assert!(may_be_partial(Some(&tag), &digest));
        // A weak tag never vouches for bytes, and a date is not what we gave.
        assert!(!may_be_partial(Some(&format!("W/{tag}")), &digest));
    }

    #[test]
    fn what_was_received_is_told_as_a_range() {
        for (offset, want) in [(0, "0-0"), (1, "0-0"), (100, "0-99")] {
            assert_eq!(received(offset), want);
        }
    }
}
