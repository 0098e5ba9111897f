//! Compares the recorded parts with those that S3 lists. Pure.

use crate::s3::session::Part;
use crate::s3::wire::ListedPart;

/// Whether the recorded parts are still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// All of them, with the ETags that they have now.
    Present(Vec<Part>),
    /// This one is gone or has other bytes.
    Lost {
        /// Its number.
        number: u32,
        reason: &'static str,
    },
}

/// Compares recorded parts with the listed ones, which are sorted by number. `listed` is `None`
/// where S3 knows no such multipart upload.
pub(crate) fn compare(recorded: &[Part], listed: Option<&[ListedPart]>) -> Parts {
    let Some(listed) = listed else {
        let reason = "its multipart upload is gone";
        return match recorded {
            [] => Parts::Present(Vec::new()),
            _ => Parts::Lost { number: 1, reason },
        };
    };
    let mut parts = Vec::with_capacity(recorded.len());
    for (number, part) in (1..).zip(recorded) {
        let first = listed.partition_point(|listed| listed.number < number);
        let same_number = listed.iter().skip(first);
        let same_number = same_number.take_while(|listed| listed.number == number);
        // Which of several it completes is decided by the ETag.
        let mut confirmed = Err("the part is gone");
        for listed in same_number {
            confirmed = confirmed.or_else(|_| confirm(part, listed));
        }
        match confirmed {
            Ok(part) => parts.push(part),
            Err(reason) => return Parts::Lost { number, reason },
        }
    }
    Parts::Present(parts)
}

/// The part with the ETag that it has now, if its bytes are those recorded.
fn confirm(part: &Part, found: &ListedPart) -> Result<Part, &'static str> {
    if found.size != part.sum.len() {
        return Err("the part has another size");
    }
    if found.etag == part.etag {
        return Ok(part.clone());
    }
    // A repeated request of the same owner: within one multipart upload a part number has one
    // content, but under SSE-KMS an ETag of its own for each attempt.
    match &found.crc64 {
        Some(sum) if part.sum.is(sum) => Ok(Part {
            etag: found.etag.clone(),
            sum: part.sum,
        }),
        _ => Err("the part was overwritten"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::s3::format::checksum::Crc64;
    use crate::s3::wire::ETag;

    fn bytes_of(number: u32) -> Vec<u8> {
        vec![number as u8; 1000 + number as usize]
    }

    fn etag(text: &str) -> ETag {
        serde_json::from_value(text.into()).unwrap()
    }

    fn recorded(numbers: std::ops::RangeInclusive<u32>) -> Vec<Part> {
        let part = |n| Part {
            etag: etag(&format!("etag-{n}")),
            sum: Crc64::of(&bytes_of(n)),
        };
        numbers.map(part).collect()
    }

    fn listed(numbers: &[u32]) -> Vec<ListedPart> {
        let part = |&number: &u32| ListedPart {
            number,
            size: bytes_of(number).len() as u64,
            etag: etag(&format!("etag-{number}")),
            crc64: Some(Crc64::of(&bytes_of(number)).to_base64()),
        };
        numbers.iter().map(part).collect()
    }

    fn changed(change: impl Fn(&mut ListedPart)) -> Option<Vec<ListedPart>> {
        let mut parts = listed(&[1, 2, 3]);
        change(&mut parts[1]);
        Some(parts)
    }

    /// SeaweedFS lists a part that was replaced beside the one that replaced it.
    fn changed_twice() -> Option<Vec<ListedPart>> {
        let mut parts = listed(&[1, 2, 2, 3]);
        parts[1].etag = etag("replaced");
        parts[1].crc64 = None;
        Some(parts)
    }

    #[test]
    fn recorded_parts_are_compared_with_the_listing() {
        let three = recorded(1..=3);
        let same = || Parts::Present(recorded(1..=3));
        let repinned = || {
            let mut parts = recorded(1..=3);
            parts[1].etag = etag("another");
            Parts::Present(parts)
        };
        let lost = |number, reason| Parts::Lost { number, reason };
        #[rustfmt::skip]
        let cases = [
            ("as recorded", &three, Some(listed(&[1, 2, 3])), same()),
            ("a part that is not recorded", &three, Some(listed(&[1, 2, 3, 4])), same()),
            ("a recorded part is gone", &three, Some(listed(&[1, 3])), lost(2, "the part is gone")),
            ("the last part is gone", &three, Some(listed(&[1, 2])), lost(3, "the part is gone")),
            ("a replaced part is listed twice", &three, changed_twice(), same()),
            ("all parts are gone", &three, Some(listed(&[])), lost(1, "the part is gone")),
            ("the upload is gone", &three, None, lost(1, "its multipart upload is gone")),
            ("gone, but nothing was recorded", &Vec::new(), None, Parts::Present(Vec::new())),
            ("sent twice, encrypted again", &three, changed(|part| part.etag = etag("another")), repinned()),
            ("overwritten, same size", &three, changed(|part| {
                part.etag = etag("another");
                part.crc64 = Some(Crc64::of(b"zombie").to_base64());
            }), lost(2, "the part was overwritten")),
            ("another ETag, and no checksum listed", &three, changed(|part| {
                part.etag = etag("another");
                part.crc64 = None;
            }), lost(2, "the part was overwritten")),
            ("another size", &three, changed(|part| part.size += 1), lost(2, "the part has another size")),
            ("as recorded, and no checksum listed", &three, changed(|part| part.crc64 = None), same()),
        ];
        for (case, recorded, listed, want) in cases {
            assert_eq!(compare(recorded, listed.as_deref()), want, "{case}");
        }
    }
}
