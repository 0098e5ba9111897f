//! Where an upload goes on: the offset, rebuilt from the list of parts that S3 holds.
//!
//! The list says what S3 holds; the session adds what does not fill a part, and the hash state.

use crate::s3::api::ListedPart;
use crate::s3::upload::session::{Part, Session};

/// What [`plan_resume`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// At the recorded offset.
    At {
        /// The recorded parts, with the ETags that S3 holds now.
        parts: Vec<Part>,
        /// Parts after them that S3 holds as well: a crash came between a part and its record.
        /// One that turns out to have the checksum of the bytes to be sent need not be sent.
        spare: Vec<ListedPart>,
    },
    /// This recorded part is gone or holds other bytes.
    Lost {
        /// Its number.
        part: u32,
        /// How that is known.
        reason: &'static str,
    },
}

/// Compares the session with the parts that S3 lists, which are sorted by number. `listed` is
/// `None` where S3 knows no such multipart upload.
pub(crate) fn plan_resume(session: &Session, listed: Option<&[ListedPart]>) -> Resume {
    let recorded = session.parts.len();
    let Some(listed) = listed else {
        return match recorded {
            // It was begun and is gone, with nothing in it that was recorded.
            0 => Resume::At {
                parts: Vec::new(),
                spare: Vec::new(),
            },
            _ => Resume::Lost {
                part: 1,
                reason: "its multipart upload is gone",
            },
        };
    };
    let mut parts = Vec::with_capacity(recorded);
    for (number, part) in (1..).zip(&session.parts) {
        let found = listed.binary_search_by_key(&number, |listed| listed.number);
        let Ok(found) = found.map(|index| &listed[index]) else {
            return Resume::Lost {
                part: number,
                reason: "the part is gone",
            };
        };
        match confirm(part, found) {
            Ok(part) => parts.push(part),
            Err(reason) => {
                return Resume::Lost {
                    part: number,
                    reason,
                };
            }
        }
    }
    let spare = listed
        .iter()
        .filter(|part| part.number as usize > recorded)
        .cloned()
        .collect();
    Resume::At { parts, spare }
}

/// A part as it stands now, if its bytes are those recorded.
fn confirm(part: &Part, found: &ListedPart) -> Result<Part, &'static str> {
    if found.size != part.sum.len() {
        return Err("the part has another size");
    }
    if found.etag == part.etag {
        return Ok(part.clone());
    }
    // Sent twice, by a repeated request or by another owner that had the same bytes.
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
    use crate::digest::{Algorithm, Hasher};
    use crate::s3::api::ETag;
    use crate::s3::checksum::{Crc64, Sums};
    use crate::s3::upload::plan::part_size::Schedule;
    use crate::s3::upload::session::{Inline, Phase};

    fn bytes_of(number: u32) -> Vec<u8> {
        vec![number as u8; 1000 + number as usize]
    }

    fn etag(text: &str) -> ETag {
        serde_json::from_value(text.into()).unwrap()
    }
    fn recorded(parts: u32) -> Session {
        let parts: Vec<Part> = (1..=parts)
            .map(|n| Part {
                etag: etag(&format!("etag-{n}")),
                sum: Crc64::of(&bytes_of(n)),
            })
            .collect();
        Session {
            version: 1,
            nonce: "nonce".into(),
            phase: Phase::Open,
            name: "library/demo".parse().unwrap(),
            declared: None,
            begun_at: jiff::Timestamp::UNIX_EPOCH,
            schedule: Schedule::new(1000, 8000, false),
            upload_id: None,
            offset: parts.iter().map(|part| part.sum.len()).sum(),
            parts,
            settled: true,
            doubted: false,
            tails: Vec::new(),
            inline: Inline::default(),
            hashers: vec![Hasher::new(Algorithm::Sha256).save()],
            sums: Sums::default(),
            part_sum: Crc64::default(),
        }
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

    fn at(session: &Session, spare: &[u32]) -> Resume {
        Resume::At {
            parts: session.parts.clone(),
            spare: listed(spare),
        }
    }

    fn changed(change: impl Fn(&mut ListedPart)) -> Option<Vec<ListedPart>> {
        let mut parts = listed(&[1, 2, 3]);
        change(&mut parts[1]);
        Some(parts)
    }

    #[test]
    fn resume_cases() {
        let three = recorded(3);
        let mut repinned = three.clone();
        repinned.parts[1].etag = etag("another");
        let lost = |part, reason| Resume::Lost { part, reason };
        for (case, session, listed, want) in [
            (
                "parts as recorded",
                &three,
                Some(listed(&[1, 2, 3])),
                at(&three, &[]),
            ),
            (
                "crash between part and record",
                &three,
                Some(listed(&[1, 2, 3, 4])),
                at(&three, &[4]),
            ),
            (
                "a hole after the record",
                &three,
                Some(listed(&[1, 2, 3, 5, 6])),
                at(&three, &[5, 6]),
            ),
            (
                "a recorded part is gone",
                &three,
                Some(listed(&[1, 3])),
                lost(2, "the part is gone"),
            ),
            (
                "the last part is gone",
                &three,
                Some(listed(&[1, 2])),
                lost(3, "the part is gone"),
            ),
            (
                "all parts are gone",
                &three,
                Some(listed(&[])),
                lost(1, "the part is gone"),
            ),
            (
                "the upload is gone",
                &three,
                None,
                lost(1, "its multipart upload is gone"),
            ),
            (
                "gone, but nothing was recorded",
                &recorded(0),
                None,
                at(&recorded(0), &[]),
            ),
            (
                "sent twice with the same bytes",
                &three,
                changed(|part| part.etag = etag("another")),
                at(&repinned, &[]),
            ),
            (
                "overwritten, same size",
                &three,
                changed(|part| {
                    part.etag = etag("another");
                    part.crc64 = Some(Crc64::of(b"zombie").to_base64());
                }),
                lost(2, "the part was overwritten"),
            ),
            (
                "overwritten, and the store tells no checksum",
                &three,
                changed(|part| {
                    part.etag = etag("another");
                    part.crc64 = None;
                }),
                lost(2, "the part was overwritten"),
            ),
            (
                "overwritten with another size",
                &three,
                changed(|part| part.size += 1),
                lost(2, "the part has another size"),
            ),
            (
                "as recorded, and the store tells no checksum",
                &three,
                changed(|part| part.crc64 = None),
                at(&three, &[]),
            ),
        ] {
            assert_eq!(plan_resume(session, listed.as_deref()), want, "{case}");
        }
    }
}
