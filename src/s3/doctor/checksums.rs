//! What the store verifies at UploadPart and Complete. A refusal proves something only if the right request is accepted.

use bytes::Bytes;

use super::check::{Bench, Check};
use super::parts::{OTHER, RIGHT, completes};
use super::topic::{Answer, Severity};
use super::verdict::{Failure, Verdict, accepted, refused};
use crate::s3::format::checksum::Crc64;
use crate::s3::wire::{CompletePart, Payload};

pub(super) const CHECKS: [Check; 5] = [
    Check {
        id: "object_checksum",
        text: "an object with a wrong checksum: refused",
        severity: Severity::Note,
        consequence: "a small layer is protected in transit by the hash in its signature alone",
        remedy: "",
        needs: "",
        run: |bench| Box::pin(object_checksum(bench)),
    },
    Check {
        id: "part_checksum",
        text: "a part with a wrong checksum: refused",
        severity: Severity::Note,
        consequence: "a part is protected in transit by the hash in its signature alone",
        remedy: "",
        needs: "complete",
        run: |bench| Box::pin(part_checksum(bench)),
    },
    Check {
        id: "whole_checksum",
        text: "Complete with a wrong checksum: refused",
        severity: Severity::Note,
        consequence: "the whole is verified by the ETags of its parts, or by reading it",
        remedy: "",
        needs: "part_checksum",
        run: |bench| Box::pin(whole_checksum(bench)),
    },
    Check {
        id: "part_etag",
        text: "Complete with an old ETag of a part: refused",
        severity: Severity::Note,
        consequence: "a late part of another process is found by the checksum of the whole, or by reading it",
        remedy: "",
        needs: "complete",
        run: |bench| Box::pin(part_etag(bench)),
    },
    Check {
        id: "partial_complete",
        text: "Complete can leave out a part",
        severity: Severity::Note,
        consequence: "the object of an interrupted upload can have more bytes than its layer",
        remedy: "",
        needs: "complete",
        run: |bench| Box::pin(partial_complete(bench)),
    },
];

async fn object_checksum(bench: &mut Bench) -> Verdict {
    let key = bench.key("checksum");
    let payload = Payload::of(&[Bytes::from_static(RIGHT)]);
    let right = Some(Crc64::of(RIGHT));
    accepted(bench.api.put(&key, &payload, right, None).await)?;
    let wrong = Some(Crc64::of(OTHER));
    refused(bench.api.put(&key, &payload, wrong, None).await)
}

/// The right part and the right Complete are accepted, and a wrong part is not.
async fn part_checksum(bench: &mut Bench) -> Verdict {
    let completed = completes(bench, "checksummed", true).await;
    completed.map_err(|failure| match failure {
        Failure::No(answer) => Failure::No(format!("CRC64NVME is not known ({answer})")),
        other => other,
    })?;
    let upload = bench.begin("part-checksum", true).await?;
    refused(upload.part_as(1, RIGHT, Crc64::of(OTHER)).await)
}

async fn whole_checksum(bench: &mut Bench) -> Verdict {
    let upload = bench.begin("whole-checksum", true).await?;
    let part = upload.part(1, RIGHT).await?;
    refused(upload.complete_as(&[part], Crc64::of(OTHER)).await)
}

async fn part_etag(bench: &mut Bench) -> Verdict {
    let upload = bench.begin("part-etag", is_checksummed(bench)).await?;
    let old = upload.part(1, RIGHT).await?;
    let current = upload.part(1, OTHER).await?;
    let stale = CompletePart {
        etag: old.etag,
        ..current
    };
    refused(upload.complete(&[stale]).await)
}

async fn partial_complete(bench: &mut Bench) -> Verdict {
    let upload = bench.begin("partial", is_checksummed(bench)).await?;
    let part = upload.part(1, RIGHT).await?;
    upload.part(2, OTHER).await?;
    accepted(upload.complete(&[part]).await)?;
    Ok("completed without it".to_owned())
}

/// Whether uploads to this store will have checksums.
fn is_checksummed(bench: &Bench) -> bool {
    ["part_checksum", "whole_checksum"]
        .iter()
        .all(|id| bench.answer(id) == Some(Answer::Yes))
}
