//! A case at work: its subject, its bytes, and the steps that most cases share.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use uuid::Uuid;

use super::bytes::{Random, assert_same, ramp};
use super::subject::Subject;
use s3layers::{
    Algorithm, Digest, Error, Layer, LayerId, LayerService, LayerUpload, RepositoryName, Result,
    TarSum,
};

/// So few bytes that a store may keep them beside what it knows of the layer. A finish of them that
/// is refused may leave the layer behind, since its bytes were verified.
pub(super) const TINY: u64 = 100;

/// A few bytes: no store has a reason to send them on their own.
pub(super) const FEW: u64 = 20_000;

/// How long a service may need to forget an upload that was finished.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(20);

/// One case at work. Content, and everything random, follows from its name.
pub(super) struct Case {
    pub(super) here: Arc<dyn LayerService>,
    pub(super) elsewhere: Arc<dyn LayerService>,
    pub(super) part_size: u64,
    /// The repository that a case uses, where it needs one only.
    pub(super) name: RepositoryName,
    pub(super) other_name: RepositoryName,
    seed: u64,
}

impl Case {
    pub(super) fn new(title: &'static str, subject: Subject) -> Self {
        Case {
            here: subject.here,
            elsewhere: subject.elsewhere,
            part_size: subject.part_size,
            name: "conformance/one".parse().unwrap(),
            other_name: "conformance/two".parse().unwrap(),
            seed: seed_of(title),
        }
    }

    /// `len` bytes of this case's content.
    pub(super) fn bytes(&self, len: u64) -> Bytes {
        self.other_bytes(0, len)
    }

    /// `len` bytes of another content of this case: the `nth`.
    pub(super) fn other_bytes(&self, nth: u64, len: u64) -> Bytes {
        ramp(self.seed.wrapping_add(nth * 0x1_0001) & 0xff_ffff, len)
    }

    pub(super) fn random(&self) -> Random {
        Random::new(self.seed)
    }

    /// Offsets where an upload may be cut: none, a few bytes, and around one and several parts.
    pub(super) fn points(&self) -> [u64; 7] {
        let part = self.part_size;
        [0, TINY, FEW, part - 1, part, part + 1, 2 * part + FEW + 1]
    }

    /// Begins an upload that declares nothing.
    pub(super) async fn begin(&self) -> Box<dyn LayerUpload> {
        self.here.upload(&self.name, None).await.unwrap()
    }

    /// Begins an upload that declares nothing, and writes `bytes`.
    pub(super) async fn begin_with(&self, bytes: &Bytes) -> Box<dyn LayerUpload> {
        let mut upload = self.begin().await;
        upload.write_bytes(bytes.clone()).await.unwrap();
        upload
    }

    /// Begins an upload that declares this id.
    pub(super) async fn claim(&self, id: &LayerId) -> Box<dyn LayerUpload> {
        self.here.upload(&self.name, Some(id)).await.unwrap()
    }

    /// Begins an upload that declares this id, and writes `bytes`.
    pub(super) async fn claim_with(&self, id: &LayerId, bytes: &Bytes) -> Box<dyn LayerUpload> {
        let mut upload = self.claim(id).await;
        upload.write_bytes(bytes.clone()).await.unwrap();
        upload
    }

    /// Finishes an upload of `bytes`, and panics unless they are stored.
    pub(super) async fn finish_stored(&self, upload: &mut Box<dyn LayerUpload>, bytes: &Bytes) {
        finish(upload, bytes).await;
        self.assert_stored(bytes).await;
    }

    /// Panics unless an upload that declares this id is refused in every repository, here and elsewhere.
    pub(super) async fn assert_exists(&self, id: &LayerId) {
        for service in [&self.here, &self.elsewhere] {
            for name in [&self.name, &self.other_name] {
                let upload = service.upload(name, Some(id)).await;
                refused!(upload, Error::LayerExists { id: stored } if stored == *id);
            }
        }
    }

    /// Begins an upload and closes it with `bytes` in it.
    pub(super) async fn begin_closed(&self, bytes: &Bytes) -> Uuid {
        let mut upload = self.begin_with(bytes).await;
        upload.close().await.unwrap();
        upload.uuid()
    }

    pub(super) async fn resume_here(&self, uuid: Uuid) -> Box<dyn LayerUpload> {
        self.here.resume(&self.name, None, uuid).await.unwrap()
    }

    pub(super) async fn resume_elsewhere(&self, uuid: Uuid) -> Box<dyn LayerUpload> {
        self.elsewhere.resume(&self.name, None, uuid).await.unwrap()
    }

    /// Uploads `bytes` and publishes them.
    pub(super) async fn publish(&self, bytes: &Bytes) -> Box<dyn Layer> {
        finish(&mut self.begin_with(bytes).await, bytes).await
    }

    /// Panics unless `bytes` are a layer, here and elsewhere.
    pub(super) async fn assert_stored(&self, bytes: &Bytes) {
        let id = sha256(bytes).into();
        assert!(self.here.exists(&id).await.unwrap(), "{id} should exist");
        let mut layer = self.elsewhere.fetch(&id).await.unwrap();
        assert_layer(&mut layer, bytes).await;
    }

    /// Panics unless no layer has this id, here and elsewhere.
    pub(super) async fn assert_absent(&self, id: impl Into<LayerId>) {
        let id = id.into();
        for service in [&self.here, &self.elsewhere] {
            assert!(!service.exists(&id).await.unwrap(), "{id} should not exist");
            let fetched = service.fetch(&id).await;
            refused!(fetched, Error::LayerUnknown { id: stored } if stored == id);
        }
    }

    /// Panics unless the upload is unknown, here and elsewhere. A finished one may be removed a
    /// moment after the finish was answered.
    pub(super) async fn assert_unknown(&self, uuid: Uuid) {
        for service in [&self.here, &self.elsewhere] {
            let begun = Instant::now();
            let resumed = loop {
                let resumed = service.resume(&self.name, None, uuid).await;
                if resumed.is_err() || begun.elapsed() > FORGOTTEN_WITHIN {
                    break resumed;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            refused!(resumed, Error::UploadUnknown { uuid: stored } if stored == uuid);
        }
    }
}

/// What makes the content of a case its own.
pub(super) fn seed_of(title: &str) -> u64 {
    // FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>
    let hash = title.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash >> 40
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

pub(super) fn sha512(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha512, bytes)
}

/// A TarSum that no case's bytes have, with the given label before the plus sign.
pub(super) fn tar_sum(label: &str) -> TarSum {
    let hex = "0123456789abcdef".repeat(4);
    format!("{label}+sha256:{hex}").parse().unwrap()
}

/// Finishes an upload of `bytes`, as it should be finished.
pub(super) async fn finish(upload: &mut Box<dyn LayerUpload>, bytes: &Bytes) -> Box<dyn Layer> {
    let finished = try_finish(upload, bytes).await;
    finished.unwrap_or_else(|error| panic!("finish of {} bytes: {error:?}", bytes.len()))
}

pub(super) async fn try_finish(
    upload: &mut Box<dyn LayerUpload>,
    bytes: &Bytes,
) -> Result<Box<dyn Layer>> {
    upload.finish(bytes.len() as u64, &sha256(bytes)).await
}

/// The bytes from the position on; too many, rather than all, of a reader without an end.
pub(super) async fn read_rest(layer: &mut Box<dyn Layer>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let limit = layer.size() + 1;
    layer.take(limit).read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// The bytes of the layer's stream; too many, rather than all, of one without an end.
pub(super) async fn stream_rest(layer: Box<dyn Layer>) -> Vec<u8> {
    let limit = usize::try_from(layer.size()).unwrap();
    collect(layer.into_stream(), limit).await
}

/// The bytes of the stream; if there are more than `limit`, some of those.
pub(super) async fn collect(
    mut stream: BoxStream<'static, Result<Bytes>>,
    limit: usize,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = stream.try_next().await.unwrap() {
        bytes.extend_from_slice(&piece);
        if bytes.len() > limit {
            break;
        }
    }
    bytes
}

/// Panics unless the layer, which was not read from yet, has these bytes and their properties.
pub(super) async fn assert_layer(layer: &mut Box<dyn Layer>, bytes: &Bytes) {
    assert_eq!(layer.size(), bytes.len() as u64, "the size of the layer");
    assert_eq!(*layer.digest(), sha256(bytes), "the digest of the layer");
    assert_same(&read_rest(layer).await, bytes, "the layer");
}

/// Panics unless every use of the handle is [`UploadClosed`](Error::UploadClosed).
pub(super) async fn assert_closed(upload: &mut Box<dyn LayerUpload>) {
    let closed = upload.uuid();
    let wrote = upload.write_bytes(Bytes::from_static(b"more")).await;
    refused!(wrote, Error::UploadClosed { uuid } if uuid == closed);
    let wrote = upload.write_all(b"more").await.unwrap_err();
    assert_eq!(wrote.kind(), ErrorKind::BrokenPipe);
    refused!(Err::<(), _>(Error::from_io(wrote)), Error::UploadClosed { uuid } if uuid == closed);
    let finished = upload.finish(upload.offset(), &sha256(b"")).await;
    refused!(finished, Error::UploadClosed { uuid } if uuid == closed);
    refused!(upload.close().await, Error::UploadClosed { uuid } if uuid == closed);
    refused!(upload.cancel().await, Error::UploadClosed { uuid } if uuid == closed);
}

/// Writes the bytes of `bytes` from the handle's offset on.
pub(super) async fn write_rest(upload: &mut Box<dyn LayerUpload>, bytes: &Bytes) -> Result<()> {
    let offset = usize::try_from(upload.offset()).unwrap();
    upload.write_bytes(bytes.slice(offset..)).await
}

/// Writes and closes; the first error.
pub(super) async fn write_and_close(upload: &mut Box<dyn LayerUpload>, bytes: Bytes) -> Result<()> {
    upload.write_bytes(bytes).await?;
    upload.close().await
}

/// Panics if the upload acknowledges anything to a handle that another one replaced. It gets the
/// conflict at its next write, or at the latest when it requests an acknowledgement.
pub(super) async fn assert_replaced(upload: &mut Box<dyn LayerUpload>) {
    assert_conflict(write_and_close(upload, Bytes::from_static(b"too late")).await);
}

/// Panics unless it was refused as [`UploadConflict`](Error::UploadConflict).
#[track_caller]
pub(super) fn assert_conflict<T>(outcome: Result<T>) {
    refused!(outcome, Error::UploadConflict { .. });
}

/// Panics unless it was refused because others finished or cancelled the upload, or are about to.
#[track_caller]
pub(super) fn assert_over<T>(outcome: Result<T>) {
    refused!(
        outcome,
        Error::UploadUnknown { .. } | Error::UploadConflict { .. }
    );
}

/// Panics unless `$result` is an error of this pattern.
macro_rules! refused {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => (),
            Err(other) => panic!("refused with {other:?} instead of {}", stringify!($pattern)),
            Ok(_) => panic!("accepted instead of refused with {}", stringify!($pattern)),
        }
    };
}
pub(super) use refused;
