//! Runs a scenario in one process, and recovers it in a second process after the first one ended.

use std::sync::Mutex;
use std::time::Duration;

use s3layers::Algorithm::{self, Sha256, Sha512};
use s3layers::{Digest, Error, LayerService as _, LayerUpload, S3LayerService};
use s3layers_registry::RepositoryService as _;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, SeekFrom};
use uuid::Uuid;

use super::content::Content;
use super::registry_call;
use super::table::Scenario;
use super::table::Step::{self, *};
use crate::support::bytes::{KIB, ramp};
use crate::support::cases::chain;
use crate::support::stores::{PART, name, sweep};

/// The acknowledgements that a client received before its process ended.
#[derive(Debug, Default)]
pub struct ClientState {
    uuid: Option<Uuid>,
    /// The offset that the last close or takeover acknowledged.
    stored: u64,
    /// A finish, cancel or sweep was requested. Its answer may have been lost.
    ending: bool,
}

/// Runs a scenario from its beginning, and records in `state` what is acknowledged.
pub async fn run(
    service: &S3LayerService,
    scenario: &Scenario,
    state: &Mutex<ClientState>,
) -> Result<(), String> {
    let failed = |(step, error): (Step, Error)| format!("{step:?}: {}", chain(&error));
    try_run(service, scenario, state).await.map_err(failed)
}

/// As [`run`]. An error names the step that failed.
pub async fn try_run(
    service: &S3LayerService,
    scenario: &Scenario,
    state: &Mutex<ClientState>,
) -> Result<(), (Step, Error)> {
    let mut handles = Handles::default();
    for step in scenario.steps {
        let result = run_step(service, scenario, *step, &mut handles, state).await;
        result.map_err(|error| (*step, error))?;
    }
    service.wait_for_background().await;
    Ok(())
}

/// The open handles of the client.
#[derive(Default)]
struct Handles {
    upload: Option<Box<dyn LayerUpload>>,
    twin: Option<Box<dyn LayerUpload>>,
    /// Replaced by later ones.
    older: Vec<Box<dyn LayerUpload>>,
}

async fn run_step(
    service: &S3LayerService,
    scenario: &Scenario,
    step: Step,
    handles: &mut Handles,
    state: &Mutex<ClientState>,
) -> Result<(), Error> {
    let content = scenario.content();
    if matches!(step, Finish(_) | Cancel | Sweep) {
        state.lock().unwrap().ending = true;
    }
    let uuid = state.lock().unwrap().uuid;
    match (step, handles.upload.as_mut()) {
        (Begin(_), _) => {
            let begun = service
                .upload(&name(), scenario.declared().as_ref())
                .await?;
            state.lock().unwrap().uuid = Some(begun.uuid());
            handles.upload = Some(begun);
        }
        (Resume, _) => {
            handles.upload = None;
            let resumed = service.resume(&name(), None, uuid.unwrap()).await?;
            let stored = state.lock().unwrap().stored;
            assert_eq!(resumed.offset(), stored, "the offset of a closed upload");
            handles.upload = Some(resumed);
        }
        (Twin, _) => {
            let twin = service.resume(&name(), None, uuid.unwrap()).await?;
            handles.twin = Some(twin);
        }
        (ResumeAt, _) => {
            handles.upload = None;
            let stored = state.lock().unwrap().stored;
            let resumed = service.resume_at(&name(), uuid.unwrap(), stored).await?;
            assert_eq!(resumed.offset(), stored, "the acknowledged offset");
            handles.upload = Some(resumed);
        }
        (TakeOver, _) => {
            // A session that the older handle writes while the newer one is resumed would be a conflict.
            if let Some(mut older) = handles.upload.take() {
                older.flush().await.map_err(Error::from_io)?;
                handles.older.push(older);
            }
            settle().await;
            let resumed = service.resume(&name(), None, uuid.unwrap()).await?;
            let mut state = state.lock().unwrap();
            let (offset, stored) = (resumed.offset(), state.stored);
            assert!(offset >= stored, "{stored} were acknowledged, not {offset}");
            state.stored = offset;
            handles.upload = Some(resumed);
        }
        (WriteOlder, _) => {
            settle().await;
            for older in &mut handles.older {
                match write_late(older).await {
                    Err(Error::UploadUnknown { .. } | Error::UploadConflict { .. }) => {}
                    Err(error) => return Err(error),
                    Ok(()) => panic!("the late bytes of a replaced handle were acknowledged"),
                }
            }
        }
        (Write(to), Some(upload)) => write(upload, &content, to).await?,
        (Close, Some(upload)) => {
            upload.close().await?;
            state.lock().unwrap().stored = upload.offset();
        }
        (FinishWrong, Some(upload)) => {
            let wrong = Digest::of(Sha512, b"something else");
            match upload.finish(scenario.size, &wrong).await.map(drop) {
                Err(Error::InvalidChecksum { .. }) => {}
                Err(error) => return Err(error),
                Ok(()) => panic!("a wrong digest was published"),
            }
        }
        (Finish(algorithm), Some(upload)) => finish(upload, scenario, algorithm).await?,
        (FinishTwin, _) => {
            let twin = handles.twin.as_mut().unwrap();
            match finish(twin, scenario, Sha256).await {
                Err(Error::UploadUnknown { .. } | Error::UploadConflict { .. }) => {}
                other => return other,
            }
        }
        (Cancel, Some(upload)) => upload.cancel().await?,
        (Read, _) => read(service, scenario).await?,
        (Sweep, _) => sweep(service).await?,
        (Call(call), _) => registry_call::run(service, scenario, call).await?,
        (step, None) => panic!("{step:?} without an upload"),
    }
    Ok(())
}

async fn write(upload: &mut Box<dyn LayerUpload>, content: &Content, to: u64) -> Result<(), Error> {
    const PIECE: u64 = 300 * KIB;
    while upload.offset() < to {
        let from = upload.offset();
        let end = to.min(from + PIECE);
        let piece = content.bytes.slice(from as usize..end as usize);
        upload.write_bytes(piece).await?;
    }
    Ok(())
}

/// Bytes that are not those of the layer there, so that a mix-up is noticed.
async fn write_late(older: &mut Box<dyn LayerUpload>) -> Result<(), Error> {
    older.write_bytes(ramp(99, PART)).await?;
    older.close().await
}

/// Waits until the requests in flight are answered, so that all runs have the same order of requests. The clock of
/// these suites is paused, and moves only when every task waits for it.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

async fn finish(
    upload: &mut Box<dyn LayerUpload>,
    scenario: &Scenario,
    algorithm: Algorithm,
) -> Result<(), Error> {
    let content = scenario.content();
    let digest = match algorithm {
        Sha512 => content.sha512,
        _ => content.sha256.clone(),
    };
    let layer = upload.finish(scenario.size, &digest).await?;
    assert_eq!(
        *layer.digest(),
        content.sha256,
        "the digest of a finished layer"
    );
    assert_eq!(layer.size(), scenario.size, "the size of a finished layer");
    assert_eq!(layer.tar_sum(), content.tar_sum.as_ref());
    Ok(())
}

/// Reads the layer by each of its ids, whole and after a seek.
pub(super) async fn read(service: &S3LayerService, scenario: &Scenario) -> Result<(), Error> {
    let want = scenario.content().bytes;
    for id in scenario.ids() {
        let mut layer = service.fetch(&id).await?;
        let mut got = Vec::new();
        layer.read_to_end(&mut got).await.map_err(Error::from_io)?;
        assert!(got == want, "{id} has other bytes");
        let middle = scenario.size / 2;
        let mut some = [0; 1000];
        let seek = layer.seek(SeekFrom::Start(middle)).await;
        seek.map_err(Error::from_io)?;
        layer.read_exact(&mut some).await.map_err(Error::from_io)?;
        assert!(some == want[middle as usize..][..1000], "{id} after a seek");
    }
    Ok(())
}

/// Completes the scenario in another process, after the first one ended.
pub async fn recover(
    service: &S3LayerService,
    scenario: &Scenario,
    state: &ClientState,
) -> Result<(), String> {
    let outcome = try_recover(service, scenario, state).await;
    outcome.map_err(|error| format!("recovery: {}", chain(&error)))
}

async fn try_recover(
    service: &S3LayerService,
    scenario: &Scenario,
    state: &ClientState,
) -> Result<(), Error> {
    let resumed = match state.uuid {
        None => None,
        Some(uuid) => match service.resume(&name(), None, uuid).await {
            Ok(upload) => Some(upload),
            // It was finished or cancelled. Reading the layer, or the leftovers, show which.
            Err(Error::UploadUnknown { .. }) if state.ending => None,
            Err(error) => return Err(error),
        },
    };
    if let Some(upload) = &resumed {
        let offset = upload.offset();
        let stored = state.stored;
        assert!(
            offset >= stored,
            "{stored} bytes were acknowledged, the upload has {offset}"
        );
    }
    let is_over = resumed.is_none() && state.ending;
    match scenario.algorithm() {
        Some(_) if is_over => {}
        Some(algorithm) => {
            let mut upload = match resumed {
                Some(upload) => upload,
                None => begin_again(service, scenario).await?,
            };
            write(&mut upload, &scenario.content(), scenario.size).await?;
            finish(&mut upload, scenario, algorithm).await?;
        }
        None => {
            if let Some(mut upload) = resumed {
                upload.cancel().await?;
            }
        }
    }
    for step in scenario.steps {
        if let Call(call) = step {
            registry_call::run(service, scenario, *call).await?;
        }
    }
    service.wait_for_background().await;
    sweep(service).await
}

/// As a client that never received a UUID.
async fn begin_again(
    service: &S3LayerService,
    scenario: &Scenario,
) -> Result<Box<dyn LayerUpload>, Error> {
    match service.upload(&name(), scenario.declared().as_ref()).await {
        Err(Error::UploadInProgress { uuid, .. }) => service.resume(&name(), None, uuid).await,
        begun => begun,
    }
}
