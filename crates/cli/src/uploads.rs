//! `uploads`: lists unfinished uploads.

use std::time::SystemTime;

use clap::Args;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::failure::Failure;
use super::store_url::Absent;
use super::sweep::OLD;
use super::table::{Cell, Column, HELP, Table, number, text};
use super::{Context, format};
use s3layers::{Error, LayerId, RepositoryName, UploadEntry, UploadPhase, clock};

/// List unfinished uploads
///
/// STORED counts bytes that a resume does not send again. AGE is the time since the upload was begun,
/// IDLE the time since its last write, by the store's clock. DECLARED is the id that the layer must
/// have, if one was given. PHASE is `open` (accepts bytes), `committing` (is being published),
/// `rejected` (its bytes do not have the declared id), `cancelled` (is being removed), `orphaned`
/// (has objects but no session) or `unreadable` (NOTE has the error).
///
/// In a pipe, AGE and IDLE are the times of the begin and of the last write.
///
/// `push --resume UUID` resumes an upload, `cancel UUID` removes it, and `sweep` removes old ones.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(super) struct Uploads {}

const COLUMNS: [Column; 8] = [
    text("UUID"),
    text("REPOSITORY"),
    text("PHASE"),
    number("STORED"),
    number("AGE"),
    number("IDLE"),
    text("DECLARED"),
    text("NOTE"),
];

/// One upload. Fields of its session are null if that is absent or unreadable.
#[derive(Serialize)]
#[serde(tag = "event", rename = "upload")]
struct UploadEvent<'a> {
    uuid: Uuid,
    repository: Option<&'a RepositoryName>,
    declared: Option<&'a LayerId>,
    phase: &'static str,
    /// Bytes that are stored.
    offset: Option<u64>,
    begun_at: Option<Timestamp>,
    written_at: Timestamp,
    /// Since the last write, by the store's clock.
    age_seconds: u64,
    /// Why it could not be read.
    error: Option<&'a str>,
}

impl Uploads {
    pub(super) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let service = context.connect(Absent::Refuse).await?;
        let mut table = Table::new(context.output, &COLUMNS);
        let (mut all, mut old, mut unreadable) = (0_u64, 0_u64, 0_u64);
        let mut uploads = service.uploads();
        while let Some(upload) = uploads.next().await {
            let upload = table.entry(upload)?;
            let error = upload.state.as_ref().err().map(reason);
            context.output.event(&event(&upload, error.as_deref()))?;
            table.row(row(&upload, error.as_deref(), clock::now()))?;
            all += 1;
            old += u64::from(upload.age >= OLD);
            unreadable += u64::from(error.is_some());
        }
        table.end()?;
        if all == 0 {
            context.output.note("there is no upload in progress");
        }
        if old > 0 {
            let sweep = context.command_line(&["sweep", "--dry-run"]);
            context.output.note(format_args!(
                "{old} of {all} had nothing written for {}; what a sweep would do: {sweep}",
                format::age(OLD)
            ));
        }
        match unreadable {
            0 => Ok(()),
            _ => Err(Failure::new(format!(
                "{unreadable} of {all} uploads could not be read"
            ))),
        }
    }
}

/// An error and its causes on one line.
pub(super) fn reason(error: &Error) -> String {
    Failure::of(error).lines.join(": ")
}

/// The phase of an upload, as far as it could be read.
fn phase(upload: &UploadEntry) -> &'static str {
    match &upload.state {
        Err(_) => "unreadable",
        Ok(None) => "orphaned",
        Ok(Some(state)) => match state.phase {
            UploadPhase::Open => "open",
            UploadPhase::Committing => "committing",
            UploadPhase::Rejected => "rejected",
            UploadPhase::Cancelled => "cancelled",
        },
    }
}

fn event<'a>(upload: &'a UploadEntry, error: Option<&'a str>) -> UploadEvent<'a> {
    let state = upload.state.as_ref().ok().and_then(Option::as_ref);
    UploadEvent {
        uuid: upload.uuid,
        repository: state.map(|state| &state.name),
        declared: state.and_then(|state| state.declared.as_ref()),
        phase: phase(upload),
        offset: state.map(|state| state.offset),
        begun_at: state.map(|state| format::timestamp(state.begun_at)),
        written_at: format::timestamp(upload.written_at),
        age_seconds: upload.age.as_secs(),
        error,
    }
}

fn row(upload: &UploadEntry, error: Option<&str>, now: SystemTime) -> Vec<Cell> {
    let state = upload.state.as_ref().ok().and_then(Option::as_ref);
    let age = |then: SystemTime| now.duration_since(then).unwrap_or_default();
    let declared = state.and_then(|state| state.declared.as_ref());
    vec![
        Cell::text(upload.uuid),
        state.map_or_else(Cell::none, |state| Cell::text(state.name.as_str())),
        Cell::text(phase(upload)),
        state.map_or_else(Cell::none, |state| Cell::size(state.offset)),
        state.map_or_else(Cell::none, |state| {
            Cell::age(state.begun_at, age(state.begun_at))
        }),
        Cell::age(upload.written_at, upload.age),
        declared.map_or_else(Cell::none, Cell::id),
        Cell::text(error.unwrap_or_default()),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use s3layers::UploadState;

    #[test]
    fn rows_of_uploads() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let state = |phase| UploadState {
            name: "x".parse().unwrap(),
            declared: None,
            phase,
            offset: 1536,
            begun_at: at(1000),
        };
        let unknown = || Error::UploadUnknown { uuid: Uuid::nil() };
        let none = ["-"; 4];
        for (state, want, note) in [
            (
                Ok(Some(state(UploadPhase::Open))),
                ["x", "open", "1.50 KiB", "50m"],
                "",
            ),
            (
                Ok(Some(state(UploadPhase::Rejected))),
                ["x", "rejected", "1.50 KiB", "50m"],
                "",
            ),
            (Ok(None), [none[0], "orphaned", none[2], none[3]], ""),
            (
                Err(unknown()),
                [none[0], "unreadable", none[2], none[3]],
                "is unknown",
            ),
        ] {
            let upload = UploadEntry {
                uuid: Uuid::nil(),
                age: Duration::from_secs(3 * 3600),
                written_at: at(2000),
                state,
            };
            let error = upload.state.as_ref().err().map(reason);
            let cells = row(&upload, error.as_deref(), at(4000));
            assert_eq!(cells.len(), COLUMNS.len());
            let texts: Vec<_> = cells.iter().map(|cell| &*cell.text).collect();
            assert_eq!(texts[1..5], want);
            assert_eq!(texts[5], "3h", "by the store's clock");
            assert!(texts[7].contains(note), "{texts:?}");
            assert_eq!(cells[5].raw, "1970-01-01T00:33:20Z");
        }
    }
}
