//! Acts, played by the client of a process; and by that of another one, which goes on where the
//! first one was stopped.

use std::sync::Mutex;

use s3layers::Algorithm::{self, Sha256, Sha512};
use s3layers::{Digest, Error, LayerService as _, LayerUpload, S3LayerService};
use s3layers_registry::RepositoryService as _;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};
use uuid::Uuid;

use super::acts::Act;
use super::acts::Step::{self, *};
use super::content::Content;
use super::deeds;
use crate::support::bytes::KIB;
use crate::support::cases::chain;
use crate::support::stores::{name, sweep};

/// What the client of a first process was told before that process ended.
#[derive(Debug, Default)]
pub struct Told {
    uuid: Option<Uuid>,
    /// Bytes that a close said are stored.
    stored: u64,
    /// It asked for the end, and has no answer perhaps.
    ending: bool,
}

/// Plays an act from its beginning. What the client is told is noted as it goes.
pub async fn play(service: &S3LayerService, act: &Act, told: &Mutex<Told>) -> Result<(), String> {
    let failed = |(step, error): (Step, Error)| format!("{step:?}: {}", chain(&error));
    try_play(service, act, told).await.map_err(failed)
}

/// The same; at what step it ended and by what error.
pub async fn try_play(
    service: &S3LayerService,
    act: &Act,
    told: &Mutex<Told>,
) -> Result<(), (Step, Error)> {
    let mut handles = Handles::default();
    for step in act.steps {
        let played = play_step(service, act, *step, &mut handles, told).await;
        played.map_err(|error| (*step, error))?;
    }
    service.wait_for_background().await;
    Ok(())
}

/// What the client of an act holds.
#[derive(Default)]
struct Handles {
    upload: Option<Box<dyn LayerUpload>>,
    twin: Option<Box<dyn LayerUpload>>,
}

async fn play_step(
    service: &S3LayerService,
    act: &Act,
    step: Step,
    handles: &mut Handles,
    told: &Mutex<Told>,
) -> Result<(), Error> {
    let content = act.content();
    if matches!(step, Finish(_) | Cancel | Sweep) {
        told.lock().unwrap().ending = true;
    }
    let uuid = told.lock().unwrap().uuid;
    match (step, handles.upload.as_mut()) {
        (Begin(_), _) => {
            let begun = service.upload(&name(), act.declared().as_ref()).await?;
            told.lock().unwrap().uuid = Some(begun.uuid());
            handles.upload = Some(begun);
        }
        (Resume, _) => {
            handles.upload = None;
            let resumed = service.resume(&name(), None, uuid.unwrap()).await?;
            let stored = told.lock().unwrap().stored;
            assert_eq!(resumed.offset(), stored, "the offset of a closed upload");
            handles.upload = Some(resumed);
        }
        (Twin, _) => {
            let twin = service.resume(&name(), None, uuid.unwrap()).await?;
            handles.twin = Some(twin);
        }
        (GoOn, _) => {
            handles.upload = None;
            let stored = told.lock().unwrap().stored;
            let resumed = service.resume_at(&name(), uuid.unwrap(), stored).await?;
            assert_eq!(resumed.offset(), stored, "the offset that was told");
            handles.upload = Some(resumed);
        }
        (Write(to), Some(upload)) => write(upload, &content, to).await?,
        (Close, Some(upload)) => {
            upload.close().await?;
            told.lock().unwrap().stored = upload.offset();
        }
        (FinishWrong, Some(upload)) => {
            let wrong = Digest::of(Sha512, b"something else");
            match upload.finish(act.size, &wrong).await.map(drop) {
                Err(Error::InvalidChecksum { .. }) => {}
                Err(error) => return Err(error),
                Ok(()) => panic!("a wrong digest was published"),
            }
        }
        (Finish(algorithm), Some(upload)) => finish(upload, act, algorithm).await?,
        (FinishTwin, _) => {
            let twin = handles.twin.as_mut().unwrap();
            match finish(twin, act, Sha256).await {
                Err(Error::UploadUnknown { .. } | Error::UploadConflict { .. }) => {}
                other => return other,
            }
        }
        (Cancel, Some(upload)) => upload.cancel().await?,
        (Read, _) => read(service, act).await?,
        (Sweep, _) => sweep(service).await?,
        (Do(deed), _) => deeds::play(service, act, deed).await?,
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

async fn finish(
    upload: &mut Box<dyn LayerUpload>,
    act: &Act,
    algorithm: Algorithm,
) -> Result<(), Error> {
    let content = act.content();
    let digest = match algorithm {
        Sha512 => content.sha512,
        _ => content.sha256.clone(),
    };
    let layer = upload.finish(act.size, &digest).await?;
    assert_eq!(
        *layer.digest(),
        content.sha256,
        "the digest of a finished layer"
    );
    assert_eq!(layer.size(), act.size, "the size of a finished layer");
    assert_eq!(layer.tar_sum(), content.tar_sum.as_ref());
    Ok(())
}

/// Reads the layer by each of its ids, whole and after a seek.
pub(super) async fn read(service: &S3LayerService, act: &Act) -> Result<(), Error> {
    let want = act.content().bytes;
    for id in act.ids() {
        let mut layer = service.fetch(&id).await?;
        let mut got = Vec::new();
        layer.read_to_end(&mut got).await.map_err(Error::from_io)?;
        assert!(got == want, "{id} has other bytes");
        let middle = act.size / 2;
        let mut some = [0; 1000];
        let seek = layer.seek(SeekFrom::Start(middle)).await;
        seek.map_err(Error::from_io)?;
        layer.read_exact(&mut some).await.map_err(Error::from_io)?;
        assert!(some == want[middle as usize..][..1000], "{id} after a seek");
    }
    Ok(())
}

/// Another process brings to its end what the first one left in the middle.
pub async fn go_on(service: &S3LayerService, act: &Act, told: &Told) -> Result<(), String> {
    let outcome = go_on_with(service, act, told).await;
    outcome.map_err(|error| format!("going on elsewhere: {}", chain(&error)))
}

async fn go_on_with(service: &S3LayerService, act: &Act, told: &Told) -> Result<(), Error> {
    let resumed = match told.uuid {
        None => None,
        Some(uuid) => match service.resume(&name(), None, uuid).await {
            Ok(upload) => Some(upload),
            // It was finished or cancelled: the reading below, or the leftovers, tell which.
            Err(Error::UploadUnknown { .. }) if told.ending => None,
            Err(error) => return Err(error),
        },
    };
    if let Some(upload) = &resumed {
        let offset = upload.offset();
        let stored = told.stored;
        assert!(
            offset >= stored,
            "{stored} bytes were stored, {offset} are left"
        );
    }
    let is_over = resumed.is_none() && told.ending;
    match act.algorithm() {
        Some(_) if is_over => {}
        Some(algorithm) => {
            let mut upload = match resumed {
                Some(upload) => upload,
                None => begin_again(service, act).await?,
            };
            write(&mut upload, &act.content(), act.size).await?;
            finish(&mut upload, act, algorithm).await?;
        }
        None => {
            if let Some(mut upload) = resumed {
                upload.cancel().await?;
            }
        }
    }
    for step in act.steps {
        if let Do(deed) = step {
            deeds::play(service, act, *deed).await?;
        }
    }
    service.wait_for_background().await;
    sweep(service).await
}

/// As a client does that was never told a UUID.
async fn begin_again(service: &S3LayerService, act: &Act) -> Result<Box<dyn LayerUpload>, Error> {
    match service.upload(&name(), act.declared().as_ref()).await {
        Err(Error::UploadInProgress { uuid, .. }) => service.resume(&name(), None, uuid).await,
        begun => begun,
    }
}
