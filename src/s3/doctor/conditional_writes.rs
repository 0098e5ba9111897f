//! Conditional writes: one at a time, then several at once.

use bytes::Bytes;
use futures_util::future::join_all;

use super::check::{Bench, Check};
use super::topic::Severity;
use super::verdict::{Failure, Verdict, is_answer, no};
use crate::s3::format::keys::Key;
use crate::s3::wire::{ApiError, Condition, ConditionForm, ETag, Payload, Put};

const REMEDY: &str = "use a store with conditional writes (Amazon S3, MinIO, R2), update this one, or declare a single \
                      writer if there is one";

pub(super) const CHECKS: [Check; 7] = [
    Check {
        id: "create",
        text: "create an absent object: accepted",
        severity: Severity::Breaks,
        consequence: "no record and no session can be written",
        remedy: REMEDY,
        needs: "",
        run: |bench| Box::pin(create(bench)),
    },
    Check {
        id: "create_conflict",
        text: "create an existing object: refused",
        severity: Severity::Breaks,
        consequence: "two uploads of one layer overwrite each other's record",
        remedy: REMEDY,
        needs: "create",
        run: |bench| Box::pin(create_conflict(bench)),
    },
    Check {
        id: "replace",
        text: "replace by the current ETag: accepted",
        severity: Severity::Breaks,
        consequence: "no upload can continue",
        remedy: REMEDY,
        needs: "create_conflict",
        run: |bench| Box::pin(replace(bench)),
    },
    Check {
        id: "replace_conflict",
        text: "replace by an old ETag: refused",
        severity: Severity::Breaks,
        consequence: "two owners of an upload overwrite each other's bytes unnoticed",
        remedy: REMEDY,
        needs: "replace",
        run: |bench| Box::pin(replace_conflict(bench)),
    },
    Check {
        id: "replace_absent",
        text: "replace an absent object: refused",
        severity: Severity::Breaks,
        consequence: "a cancelled upload reappears with its next write",
        remedy: REMEDY,
        needs: "replace_conflict",
        run: |bench| Box::pin(replace_absent(bench)),
    },
    Check {
        id: "create_race",
        text: "concurrent creates: exactly one succeeds",
        severity: Severity::Breaks,
        consequence: "two writers can both succeed and mix their data",
        remedy: REMEDY,
        needs: "replace_absent",
        run: |bench| Box::pin(race(bench, "create-race", false)),
    },
    Check {
        id: "replace_race",
        text: "concurrent replaces: exactly one succeeds",
        severity: Severity::Breaks,
        consequence: "two writers can both succeed and mix their data",
        remedy: REMEDY,
        needs: "create_race",
        run: |bench| Box::pin(race(bench, "replace-race", true)),
    },
];

/// Writes text that is written nowhere else. `Ok` if it is stored, the answer if it was refused.
async fn write(
    bench: &Bench,
    key: &Key,
    text: &'static str,
    condition: Condition<'_>,
) -> Result<Result<ETag, String>, Failure> {
    let payload = Payload::of(&[Bytes::from_static(text.as_bytes())]);
    let refusal = match bench.api.put(key, &payload, None, Some(condition)).await {
        Ok(etag) => return Ok(Ok(etag)),
        Err(error) if is_answer(&error) => error,
        Err(error) => return Err(error.into()),
    };
    if !matches!(refusal, ApiError::NotImplemented(_)) {
        // An earlier attempt whose answer was lost may have taken effect.
        let found = bench.api.get_small(key).await?;
        if let Some(found) = found.filter(|found| found.bytes == text.as_bytes()) {
            return Ok(Ok(found.etag));
        }
    }
    let answer = refusal.storage().answer().unwrap_or("refused");
    Ok(Err(answer.to_owned()))
}

fn is_written(written: Result<ETag, String>) -> Verdict {
    written.map(|_| "written".to_owned()).map_err(Failure::No)
}

fn is_refused(written: Result<ETag, String>) -> Verdict {
    match written {
        Ok(_) => no("written"),
        Err(answer) => Ok(answer),
    }
}

async fn create(bench: &mut Bench) -> Verdict {
    let key = bench.key("create");
    is_written(write(bench, &key, "created", Condition::Absent).await?)
}

async fn create_conflict(bench: &mut Bench) -> Verdict {
    let key = bench.key("create-conflict");
    bench.put(&key, b"the first").await?;
    is_refused(write(bench, &key, "the second", Condition::Absent).await?)
}

/// Ceph RGW accepts an ETag without quotes only; later checks use the form that was accepted.
async fn replace(bench: &mut Bench) -> Verdict {
    let key = bench.key("replace");
    let etag = bench.put(&key, b"the first").await?;
    let condition = Condition::Matches(&etag);
    let quoted = write(bench, &key, "quoted", condition).await?;
    if quoted.is_err() {
        let with_quotes = bench.api.clone();
        bench.api = bench.api.with_conditions(ConditionForm::Bare);
        if let Ok(etag) = write(bench, &key, "bare", condition).await? {
            return is_written(Ok(etag));
        }
        bench.api = with_quotes;
    }
    is_written(quoted)
}

async fn replace_conflict(bench: &mut Bench) -> Verdict {
    let key = bench.key("replace-conflict");
    let old = bench.put(&key, b"the first").await?;
    bench.put(&key, b"the second").await?;
    is_refused(write(bench, &key, "the third", Condition::Matches(&old)).await?)
}

/// Older MinIO accepts it.
async fn replace_absent(bench: &mut Bench) -> Verdict {
    let (key, absent) = (bench.key("present"), bench.key("absent"));
    let etag = bench.put(&key, b"present").await?;
    is_refused(write(bench, &absent, "absent", Condition::Matches(&etag)).await?)
}

/// Several rounds, because a store that confuses writers does not do it every time.
async fn race(bench: &mut Bench, name: &str, replaces: bool) -> Verdict {
    let (rounds, writers) = bench.races;
    for round in 0..rounds {
        let key = bench.key(&format!("{name}-{round}"));
        let etag = if replaces {
            Some(bench.put(&key, b"the first").await?)
        } else {
            None
        };
        let condition = etag.as_ref().map_or(Condition::Absent, Condition::Matches);
        let writes = (0..writers).map(|writer| {
            let bytes = Bytes::from(format!("writer {writer} of round {round}"));
            bench.api.put_if(&key, bytes, condition)
        });
        let mut winners = 0;
        for put in join_all(writes).await {
            winners += usize::from(matches!(put?, Put::Written(_)));
        }
        if winners != 1 {
            let race = round + 1;
            return no(format!("{winners} of {writers} succeeded in race {race}"));
        }
    }
    Ok(format!("1 of {writers} succeeded, {rounds} times"))
}
