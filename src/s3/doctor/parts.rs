//! Multipart uploads: which parts are accepted and listed. One upload has a real size: 10 MiB.

use bytes::Bytes;

use super::check::{Bench, Check, NOT_THIS_STORE};
use super::reads_and_lists::range_is;
use super::topic::Severity;
use super::verdict::{Verdict, accepted, holds, no};
use crate::s3::config::MIB;
use crate::s3::wire::ApiError;

pub(super) const CHECKS: [Check; 5] = [
    Check {
        id: "complete",
        text: "a multipart upload can be completed",
        severity: Severity::Breaks,
        consequence: "no layer of more than one part can be stored",
        remedy: NOT_THIS_STORE,
        needs: "",
        run: |bench| Box::pin(completes(bench, "complete", false)),
    },
    Check {
        id: "parts_listed",
        text: "parts are listed at once",
        severity: Severity::Costs,
        consequence: "a resume may list the parts twice",
        remedy: "",
        needs: "complete",
        run: |bench| Box::pin(parts_listed(bench)),
    },
    Check {
        id: "uploads_listed",
        text: "an upload is listed by its key",
        severity: Severity::Costs,
        consequence: "a multipart upload whose answer was lost is not found, and is billed until a rule aborts it",
        remedy: "",
        needs: "complete",
        run: |bench| Box::pin(uploads_listed(bench)),
    },
    Check {
        id: "part_replaced",
        text: "a part that is sent again replaces the first",
        severity: Severity::Breaks,
        consequence: "an upload that was interrupted between a part and its record cannot be resumed",
        remedy: NOT_THIS_STORE,
        needs: "complete",
        run: |bench| Box::pin(part_replaced(bench)),
    },
    Check {
        id: "unequal_parts",
        text: "parts of unequal sizes are accepted",
        severity: Severity::Costs,
        consequence: "all parts of an upload get one size, so one of unknown size ends at 156 GiB",
        remedy: "",
        needs: "complete",
        run: |bench| Box::pin(unequal_parts(bench)),
    },
];

pub(super) const RIGHT: &[u8] = b"some bytes";
/// Of the same size.
pub(super) const OTHER: &[u8] = b"same size!";
/// How often an object is read before its bytes count as wrong: a bit may have flipped on the way.
const READS: u32 = 2;
/// The smallest part that is not the last, one that R2 does not accept after it, and the last.
const SIZES: [usize; 3] = [5 * MIB as usize, 5 * MIB as usize + 65_536, 1024];
/// How often a list of parts is read until it is as it should be.
const LOOKS: u32 = 3;

/// Whether an upload with nothing wrong ends with the right object.
pub(super) async fn completes(bench: &mut Bench, name: &str, checksummed: bool) -> Verdict {
    let upload = accepted(bench.begin(name, checksummed).await)?;
    let part = accepted(upload.part(1, RIGHT).await)?;
    match upload.complete(&[part]).await {
        // An earlier attempt whose answer was lost may have taken effect.
        Err(ApiError::NoSuchUpload(_)) => {}
        completed => drop(accepted(completed)?),
    }
    for _ in 0..READS {
        let object = bench.api.get_small(&upload.key).await?;
        if object.is_some_and(|object| object.bytes == RIGHT) {
            return Ok("completed".to_owned());
        }
    }
    no("accepted, but the object is absent or has other bytes")
}

async fn parts_listed(bench: &mut Bench) -> Verdict {
    let upload = bench.begin("listed", false).await?;
    let mut sent = Vec::new();
    for number in [3, 1, 2] {
        let part = upload.part(number, RIGHT).await?;
        sent.push((number, part.etag));
    }
    sent.sort_by_key(|(number, _)| *number);
    for look in 1..=LOOKS {
        let listed = upload.api.list_parts(&upload.key, &upload.id).await?;
        let listed = listed.unwrap_or_default().into_iter();
        if listed
            .map(|part| (part.number, part.etag))
            .eq(sent.iter().cloned())
        {
            return holds(look == 1, "3 of 3", format!("only at look {look}"));
        }
    }
    no(format!("not within {LOOKS} looks"))
}

async fn uploads_listed(bench: &mut Bench) -> Verdict {
    let upload = bench.begin("uploads", false).await?;
    let listed = bench.api.multiparts_at(&upload.key).await?;
    holds(listed.contains(&upload.id), "listed", "not listed")
}

async fn part_replaced(bench: &mut Bench) -> Verdict {
    let upload = bench.begin("replaced", false).await?;
    upload.part(1, OTHER).await?;
    let part = accepted(upload.part(1, RIGHT).await)?;
    accepted(upload.complete(&[part]).await)?;
    let found = bench.api.get_small(&upload.key).await?;
    holds(
        found.is_some_and(|found| found.bytes == RIGHT),
        "the second was completed",
        "the second was not completed",
    )
}

/// Three parts, the last one first; then a range across the boundary of two parts.
async fn unequal_parts(bench: &mut Bench) -> Verdict {
    let upload = bench.begin("parts", false).await?;
    let mut parts = Vec::new();
    for index in [2, 0, 1] {
        let bytes = pattern(SIZES[index], SIZES[..index].iter().sum());
        parts.push(accepted(upload.part(index as u32 + 1, bytes).await)?);
    }
    parts.sort_by_key(|part| part.number);
    match upload.complete(&parts).await {
        Err(ApiError::NoSuchUpload(_)) => {}
        completed => drop(accepted(completed)?),
    }
    let from = SIZES[0] - 500;
    range_is(bench, &upload.key, from as u64, &pattern(1000, from)).await?;
    Ok("5 MiB and 64 KiB after 5 MiB".to_owned())
}

/// The part of a pattern that begins at `from`. Its period divides no size of a part, so that a part
/// at another place is noticed.
fn pattern(size: usize, from: usize) -> Bytes {
    (from..from + size).map(|at| (at % 251) as u8).collect()
}
