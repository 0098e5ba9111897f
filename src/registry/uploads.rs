//! Uploads: begun by POST, fed by PATCH, ended by PUT or DELETE; how far they are by GET.
//!
//! The location of an upload carries its offset (`?at=`): what this process left there it takes up
//! without asking the storage, and a body that belongs elsewhere is refused (416) before it is
//! taken. So a PATCH that is repeated because its answer was lost does not append twice. A PUT that
//! is repeated because its 201 was lost finds the upload gone and the layer linked: 201 again.

use std::ops::Range;
use std::sync::Arc;

use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderName, Response, StatusCode};
use uuid::Uuid;

use super::body::ResponseBody;
use super::error::{Code, Refusal};
use super::location::Base;
use super::receive::Receiving;
use super::route::{parse_name, parsed};
use super::{Answer, CONTENT_DIGEST, Call, Head, Shared, bare, range, with};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::id::LayerId;
use crate::name::RepositoryName;
use crate::service::LayerUpload;

const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");
const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// An upload, and how the client knows it.
#[derive(Clone)]
struct Place {
    shared: Arc<Shared>,
    base: Base,
    name: RepositoryName,
    uuid: Uuid,
}

/// `POST /v2/<name>/blobs/uploads/`
pub(super) async fn begin(shared: &Arc<Shared>, mut call: Call, name: RepositoryName) -> Answer {
    let base = Base::of(&call.head.parts, &shared.options);
    match asked_for(&call.head) {
        Ok(Asked::Mount(digest, from)) => {
            let id = LayerId::from(digest.clone());
            if shared.service.mount(&name, &id, from.as_ref()).await? {
                return Ok(created(&base, &name, &digest));
            }
            open(shared, base, name).await
        }
        Ok(Asked::Whole(digest)) => whole(shared, call, base, name, digest).await,
        Ok(Asked::Session) => open(shared, base, name).await,
        Err(refusal) => {
            call.body.discard().await;
            Err(refusal)
        }
    }
}

enum Asked {
    Mount(Digest, Option<RepositoryName>),
    Whole(Digest),
    Session,
}

fn asked_for(head: &Head) -> Result<Asked, Refusal> {
    if let Some(digest) = head.query.get("mount") {
        let from = head.query.get("from").filter(|from| !from.is_empty());
        let from = from.map(parse_name).transpose()?;
        return Ok(Asked::Mount(parsed(digest)?, from));
    }
    let Some(digest) = head.query.get("digest") else {
        return Ok(Asked::Session);
    };
    let digest = parsed(digest)?;
    // Some clients name the digest here and send the bytes later.
    let has_content = !head.has_no_body() || digest == Digest::of(digest.algorithm(), b"");
    Ok(match has_content {
        true => Asked::Whole(digest),
        false => Asked::Session,
    })
}

/// 202: an upload that waits for its bytes.
async fn open(shared: &Arc<Shared>, base: Base, name: RepositoryName) -> Answer {
    let mut upload = shared.service.upload(&name, None).await?;
    upload.close().await?;
    let place = Place {
        shared: shared.clone(),
        base,
        uuid: upload.uuid(),
        name,
    };
    let response = place.at(StatusCode::ACCEPTED, upload.offset());
    Ok(match shared.options.chunk_min_length {
        0 => response,
        length => with(response, CHUNK_MIN_LENGTH, &length.to_string()),
    })
}

/// A layer in one request. Nobody knows the upload, so it goes where the layer cannot be made of it.
async fn whole(
    shared: &Arc<Shared>,
    call: Call,
    base: Base,
    name: RepositoryName,
    digest: Digest,
) -> Answer {
    let upload = shared.service.upload(&name, None).await?;
    let place = Place {
        shared: shared.clone(),
        base,
        uuid: upload.uuid(),
        name,
    };
    let work = async move {
        let mut receiving = place.receiving(upload, call);
        let refusal = match receiving.run(&place.shared).await {
            Ok(None) => match place.conclude(&mut receiving.upload, &digest).await {
                Ok(response) => return Ok(response),
                Err(error) => error.into(),
            },
            Ok(Some(stopped)) => stopped.into(),
            Err(error) => error.into(),
        };
        // A sweep removes what is left if this fails.
        let _ = receiving.upload.cancel().await;
        Err(refusal)
    };
    shared.outliving(work).await
}

/// `PATCH /v2/<name>/blobs/uploads/<uuid>`
pub(super) async fn append(
    shared: &Arc<Shared>,
    mut call: Call,
    name: RepositoryName,
    uuid: Uuid,
) -> Answer {
    let place = Place::of(shared, &call.head, name, uuid);
    let (upload, chunk) = match place.take_up(&mut call).await {
        Ok(found) => found,
        Err(refusal) => {
            call.body.discard().await;
            return Err(refusal);
        }
    };
    let work = async move {
        let mut receiving = place.receiving(upload, call);
        place.fill(&mut receiving, chunk).await?;
        match receiving.upload.close().await {
            Ok(()) => Ok(place.at(StatusCode::ACCEPTED, receiving.upload.offset())),
            Err(error) => Err(place.out_of_step(error).await),
        }
    };
    shared.outliving(work).await
}

/// `PUT /v2/<name>/blobs/uploads/<uuid>?digest=<digest>`
pub(super) async fn finish(
    shared: &Arc<Shared>,
    mut call: Call,
    name: RepositoryName,
    uuid: Uuid,
) -> Answer {
    let place = Place::of(shared, &call.head, name, uuid);
    let found = async {
        let digest =
            call.head.query.get("digest").ok_or_else(|| {
                Refusal::new(Code::DigestInvalid, "the query has no digest=<digest>")
            })?;
        let digest = parsed(digest)?;
        match place.take_up(&mut call).await {
            Ok((upload, chunk)) => Ok((digest, Some((upload, chunk)))),
            Err(refusal) if refusal.code() == Code::BlobUploadUnknown => {
                match place.is_linked(&digest).await? {
                    true => Ok((digest, None)),
                    false => Err(refusal),
                }
            }
            Err(refusal) => Err(refusal),
        }
    };
    let (digest, upload, chunk) = match found.await {
        Ok((digest, Some((upload, chunk)))) => (digest, upload, chunk),
        Ok((digest, None)) => {
            call.body.discard().await;
            return Ok(created(&place.base, &place.name, &digest));
        }
        Err(refusal) => {
            call.body.discard().await;
            return Err(refusal);
        }
    };
    let work = async move {
        let brings_bytes = !call.head.has_no_body();
        let mut receiving = place.receiving(upload, call);
        if brings_bytes {
            place.fill(&mut receiving, chunk).await?;
        }
        let mut error = match place.conclude(&mut receiving.upload, &digest).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        // What this process knew of the upload was old. No byte depends on it, and the digest
        // decides, so it is finished as it is now.
        if !brings_bytes && matches!(error, Error::UploadConflict { .. }) {
            let again = place.shared.service.resume(&place.name, None, place.uuid);
            receiving.upload = again.await?;
            error = match place.conclude(&mut receiving.upload, &digest).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
        }
        // The bytes may be right and the digest wrong, so they are kept.
        let _ = receiving.upload.close().await;
        Err(place.out_of_step(error).await)
    };
    shared.outliving(work).await
}

/// `GET /v2/<name>/blobs/uploads/<uuid>`
pub(super) async fn status(
    shared: &Arc<Shared>,
    mut call: Call,
    name: &RepositoryName,
    uuid: Uuid,
) -> Answer {
    let place = Place::of(shared, &call.head, name.clone(), uuid);
    shared.writers.settle(uuid, false, &mut call.slot).await;
    let upload = shared.service.resume(name, None, uuid).await?;
    Ok(place.at(StatusCode::NO_CONTENT, upload.offset()))
}

/// `DELETE /v2/<name>/blobs/uploads/<uuid>`
pub(super) async fn cancel(
    shared: &Arc<Shared>,
    mut call: Call,
    name: &RepositoryName,
    uuid: Uuid,
) -> Answer {
    shared.writers.settle(uuid, true, &mut call.slot).await;
    let mut upload = shared.service.resume(name, None, uuid).await?;
    let work = async move {
        upload.cancel().await?;
        Ok(bare(StatusCode::NO_CONTENT))
    };
    shared.outliving(work).await
}

impl Place {
    fn of(shared: &Arc<Shared>, head: &Head, name: RepositoryName, uuid: Uuid) -> Self {
        Place {
            shared: shared.clone(),
            base: Base::of(&head.parts, &shared.options),
            name,
            uuid,
        }
    }

    fn receiving(&self, upload: Box<dyn LayerUpload>, call: Call) -> Receiving {
        Receiving {
            upload,
            body: call.body,
            slot: call.slot,
            writing: self.shared.writers.begin(self.uuid),
        }
    }

    /// The upload where the client thinks it is, and the chunk that its body is said to be.
    async fn take_up(
        &self,
        call: &mut Call,
    ) -> Result<(Box<dyn LayerUpload>, Option<Range<u64>>), Refusal> {
        let Call { head, slot, .. } = call;
        let chunk = chunk(head)?;
        let at = head.query.get("at").and_then(|at| at.parse().ok());
        let at = chunk.as_ref().map(|chunk| chunk.start).or(at);
        self.shared.writers.settle(self.uuid, true, slot).await;
        let service = &self.shared.service;
        let upload = match at {
            Some(at) => service.resume_at(&self.name, self.uuid, at).await?,
            None => service.resume(&self.name, None, self.uuid).await?,
        };
        match at {
            Some(at) if at != upload.offset() && !head.has_no_body() => {
                Err(self.elsewhere(upload.offset()))
            }
            _ => Ok((upload, chunk)),
        }
    }

    /// Takes the body in. If not all of it comes, the upload is closed, and the client told where
    /// it is.
    async fn fill(
        &self,
        receiving: &mut Receiving,
        chunk: Option<Range<u64>>,
    ) -> Result<(), Refusal> {
        let refusal = match receiving.run(&self.shared).await {
            Ok(None) => {
                let came = receiving.body.received();
                let Some(said) = chunk.map(|chunk| chunk.end - chunk.start) else {
                    return Ok(());
                };
                if said == came {
                    return Ok(());
                }
                wrong_size(said, came)
            }
            Ok(Some(stopped)) => stopped.into(),
            Err(error) => {
                // What came before the error is worth keeping; this one was told already.
                let _ = receiving.upload.close().await;
                return Err(self.out_of_step(error).await);
            }
        };
        match receiving.upload.close().await {
            Ok(()) => Err(self.placed(refusal, receiving.upload.offset())),
            Err(error) => Err(self.out_of_step(error).await),
        }
    }

    /// Publishes what the upload has. An upload that another request finished meanwhile is as good.
    async fn conclude(
        &self,
        upload: &mut Box<dyn LayerUpload>,
        digest: &Digest,
    ) -> Result<Response<ResponseBody>> {
        let size = upload.offset();
        match upload.finish(size, digest).await {
            Err(error @ Error::UploadUnknown { .. }) => match self.is_linked(digest).await? {
                true => {}
                false => return Err(error),
            },
            finished => {
                finished?;
            }
        }
        Ok(created(&self.base, &self.name, digest))
    }

    async fn is_linked(&self, digest: &Digest) -> Result<bool> {
        let id = LayerId::from(digest.clone());
        match self.shared.service.layer(&self.name, &id).await {
            Ok(_) => Ok(true),
            Err(Error::LayerUnknown { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// An answer that says how far the upload is.
    fn at(&self, status: StatusCode, offset: u64) -> Response<ResponseBody> {
        let response = bare(status);
        let location = self.base.upload(&self.name, self.uuid, offset);
        let response = with(response, LOCATION, &location);
        let response = with(response, RANGE, &range::received(offset));
        with(response, UPLOAD_UUID, &self.uuid.to_string())
    }

    /// The same for a refusal.
    fn placed(&self, refusal: Refusal, offset: u64) -> Refusal {
        refusal
            .with(LOCATION, &self.base.upload(&self.name, self.uuid, offset))
            .with(RANGE, &range::received(offset))
            .with(UPLOAD_UUID, &self.uuid.to_string())
    }

    /// 416: the body belongs elsewhere.
    fn elsewhere(&self, offset: u64) -> Refusal {
        let refusal = Refusal::new(
            Code::BlobUploadInvalid,
            format_args!("the next byte of the upload is number {offset}"),
        );
        let refusal = refusal.with_status(StatusCode::RANGE_NOT_SATISFIABLE);
        self.placed(refusal, offset)
    }

    /// What an error of the upload means to the client. Where another writer was faster, what
    /// helps is where the upload is now.
    async fn out_of_step(&self, error: Error) -> Refusal {
        if !matches!(error, Error::UploadConflict { .. }) {
            return error.into();
        }
        match self
            .shared
            .service
            .resume(&self.name, None, self.uuid)
            .await
        {
            Ok(upload) => self.elsewhere(upload.offset()),
            Err(_) => error.into(),
        }
    }
}

/// What `Content-Range` says of the body, held against its size.
fn chunk(head: &Head) -> Result<Option<Range<u64>>, Refusal> {
    let Some(text) = head.header(CONTENT_RANGE) else {
        return Ok(None);
    };
    // Some clients say so of an empty body.
    if head.has_no_body() {
        return Ok(None);
    }
    let chunk = range::uploaded(text).ok_or_else(|| {
        let message = format!("{text:?} is not a range; wanted <first byte>-<last byte>");
        Refusal::new(Code::BlobUploadInvalid, message)
    })?;
    let said = chunk.end - chunk.start;
    match head.size {
        Some(declared) if declared != said => Err(wrong_size(said, declared)),
        _ => Ok(Some(chunk)),
    }
}

fn wrong_size(said: u64, came: u64) -> Refusal {
    Refusal::new(
        Code::SizeInvalid,
        format_args!("Content-Range names {said} bytes, and the body has {came}"),
    )
}

/// 201: the layer is here.
fn created(base: &Base, name: &RepositoryName, digest: &Digest) -> Response<ResponseBody> {
    let response = bare(StatusCode::CREATED);
    let response = with(response, LOCATION, &base.blob(name, digest));
    with(response, CONTENT_DIGEST, &digest.to_string())
}
