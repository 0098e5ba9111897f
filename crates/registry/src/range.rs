//! Ranges: of a read (`Range`), of an upload (`Content-Range`), and conditions on the digest. Pure.

use std::ops::Range;

use s3layers::Digest;

/// The most parts of one answer: what podman asks for at most. Each costs a request to the storage.
pub(super) const PARTS: usize = 1024;

/// What of a blob is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestedBytes {
    Whole,
    /// In order, with bytes between them; none is empty. The ends are exclusive.
    Parts(Vec<Range<u64>>),
    /// None of the ranges has a byte of the blob.
    Nothing,
    /// More than [`PARTS`] parts.
    TooMany,
}

/// What the value of `Range` asks of a blob of `size` bytes. Ranges that overlap or touch are one.
/// A value that is malformed or has another unit is ignored, as RFC 9110 permits; but a range that
/// ends before it begins has no bytes, as the suite of the OCI requires. Every range of an empty
/// blob is ignored, as in Go's file server: clients that limit what they read send one always.
pub(super) fn requested(range: Option<&str>, size: u64) -> RequestedBytes {
    let specs = range
        .and_then(|range| range.trim().split_once('='))
        .filter(|(unit, _)| unit.eq_ignore_ascii_case("bytes"))
        .and_then(|(_, specs)| parts(specs, size));
    let Some(mut parts) = specs.filter(|_| size > 0) else {
        return RequestedBytes::Whole;
    };
    parts.sort_unstable_by_key(|part| part.start);
    parts.dedup_by(|next, part| {
        let is_one = next.start <= part.end;
        if is_one {
            part.end = part.end.max(next.end);
        }
        is_one
    });
    match parts.len() {
        0 => RequestedBytes::Nothing,
        1..=PARTS => RequestedBytes::Parts(parts),
        _ => RequestedBytes::TooMany,
    }
}

/// The ranges that have bytes of the blob; `None` where one is malformed, or there is none.
fn parts(specs: &str, size: u64) -> Option<Vec<Range<u64>>> {
    let specs = specs.split(',').map(str::trim).filter(|s| !s.is_empty());
    let mut parts = specs
        .map(|spec| part(spec, size))
        .collect::<Option<Vec<_>>>()
        .filter(|parts| !parts.is_empty())?;
    parts.retain(|part| !part.is_empty());
    Some(parts)
}

/// One range, empty where it has no byte of the blob; `None` where it is malformed.
fn part(spec: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    let (first, last) = (first.trim_end(), last.trim_start());
    if first.is_empty() {
        return Some(size.saturating_sub(position(last)?)..size);
    }
    let first = position(first)?;
    let end = if last.is_empty() {
        size
    } else {
        position(last)?.saturating_add(1).min(size)
    };
    Some(first..end)
}

/// As [`number`]; `u64::MAX` where it does not fit.
pub(super) fn position(text: &str) -> Option<u64> {
    is_number(text).then(|| text.parse().unwrap_or(u64::MAX))
}

/// Decimal digits only: `parse` would take a sign as well.
pub(super) fn number(text: &str) -> Option<u64> {
    is_number(text).then(|| text.parse().ok())?
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
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

/// The value of `Range` for the number of bytes of an upload. It cannot express none.
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
    fn ranges_of_a_request() {
        use RequestedBytes::{Nothing, Parts, Whole};
        let one = |part: Range<u64>| Parts(vec![part]);
        for (range, want) in [
            ("bytes=0-99", one(0..100)),
            ("bytes=0-0", one(0..1)),
            ("bytes=50-", one(50..100)),
            ("bytes=99-", one(99..100)),
            ("bytes=90-200", one(90..100)),
            ("bytes=-10", one(90..100)),
            ("bytes=-200", one(0..100)),
            ("bytes=0-18446744073709551615", one(0..100)),
            ("bytes=0-99999999999999999999", one(0..100)),
            ("bytes=-99999999999999999999", one(0..100)),
            ("bytes=99999999999999999999-", Nothing),
            ("Bytes=0-1", one(0..2)),
            ("bytes=100-", Nothing),
            ("bytes=100-200", Nothing),
            ("bytes=50-0", Nothing),
            ("bytes=-0", Nothing),
            ("bytes=0-1,5-6", Parts(vec![0..2, 5..7])),
            ("bytes= 0-1 , , 5-6,", Parts(vec![0..2, 5..7])),
            ("bytes=5-6,0-1,-1", Parts(vec![0..2, 5..7, 99..100])),
            ("bytes=0-5,3-8", one(0..9)),
            ("bytes=0-4,5-9", one(0..10)),
            ("bytes=0-90,5-9,20-", one(0..100)),
            ("bytes=0-1,200-300,9-5", one(0..2)),
            ("bytes=100-,200-300,-0", Nothing),
            ("bytes=0-1,a-b", Whole),
            ("bytes=", Whole),
            ("bytes=,", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=1", Whole),
            ("lines=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(requested(Some(range), 100), want, "{range}");
        }
        assert_eq!(requested(None, 100), Whole);
        for range in ["bytes=0-", "bytes=-5", "bytes=-0", "bytes=7-9,1-2"] {
            assert_eq!(requested(Some(range), 0), Whole, "{range} of nothing");
        }
    }

    #[test]
    fn the_number_of_parts_is_bounded_after_they_are_merged() {
        let ranges = |count: usize, step: usize| {
            let ranges: Vec<_> = (0..count).map(|at| format!("{0}-{0}", at * step)).collect();
            requested(Some(&format!("bytes={}", ranges.join(","))), 1 << 20)
        };
        assert!(matches!(ranges(PARTS, 2), RequestedBytes::Parts(parts) if parts.len() == PARTS));
        assert_eq!(ranges(PARTS + 1, 2), RequestedBytes::TooMany);
        assert!(matches!(ranges(PARTS + 1, 1), RequestedBytes::Parts(parts) if parts.len() == 1));
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
    fn received_bytes_as_a_range() {
        for (offset, want) in [(0, "0-0"), (1, "0-0"), (100, "0-99")] {
            assert_eq!(received(offset), want);
        }
    }
}
