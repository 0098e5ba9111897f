//! Uploads: begun by POST, fed by PATCH, ended by PUT or DELETE; how far they are by GET.
//!
//! The location of an upload carries its offset (`?at=`): what this process left there it takes up
//! without asking the storage, and a body that belongs elsewhere is refused (416) before it is
//! taken. So a PATCH that is repeated because its answer was lost does not append twice.
//!
//! The PUT that ends an upload may be sent several times, one after the other or at once, to one
//! process or several. Its digest says what it means, so each of them is answered 201 once the layer
//! is published: one that is refused because another request owns or ended the upload finishes the
//! upload as it stands now, or finds it gone and the layer linked.

use std::sync::Arc;

use http::{HeaderName, Method, StatusCode};
use uuid::Uuid;

use self::place::{Place, created};
use super::auth::Access;
use super::error::{Code, Refusal};
use super::location::Base;
use super::query::Query;
use super::route::{parse_name, parsed};
use super::{Answer, Call, Head, Shared, bare, with};
use s3layers::{Digest, LayerId, RepositoryName};

mod place;

const CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// `POST /v2/<name>/blobs/uploads/`
pub(super) async fn begin(shared: &Arc<Shared>, call: Call, name: RepositoryName) -> Answer {
    match parse_begin(&call.head) {
        Ok(BeginRequest::Mount(digest, from)) => {
            let id = LayerId::from(digest.clone());
            let may_mount = match &from {
                Some(from) => call.head.grant.may(&Access::Pull(from.clone())),
                None => shared.options.automatic_mount,
            };
            if may_mount && shared.service.mount(&name, &id, from.as_ref()).await? {
                let base = Base::of(&call.head.parts, &shared.options);
                return Ok(created(&base, &name, &digest));
            }
            open(shared, &call.head, name).await
        }
        Ok(BeginRequest::Whole(digest)) => whole(shared, call, name, digest).await,
        Ok(BeginRequest::Session) => open(shared, &call.head, name).await,
        Err(refusal) => call.body.refuse(refusal),
    }
}

/// The repository that a layer is to be mounted from.
pub(super) fn mount_source(query: &Query) -> Option<RepositoryName> {
    query.get("mount")?;
    query.get("from")?.parse().ok()
}

enum BeginRequest {
    Mount(Digest, Option<RepositoryName>),
    Whole(Digest),
    Session,
}

fn parse_begin(head: &Head) -> Result<BeginRequest, Refusal> {
    if let Some(digest) = head.query.only("mount")? {
        let from = head.query.only("from")?.filter(|from| !from.is_empty());
        let from = from.map(parse_name).transpose()?;
        return Ok(BeginRequest::Mount(parsed(digest)?, from));
    }
    let Some(digest) = head.query.only("digest")? else {
        return Ok(BeginRequest::Session);
    };
    let digest = parsed(digest)?;
    // Some clients name the digest here and send the bytes later.
    let has_content = !head.has_no_body() || digest == Digest::of(digest.algorithm(), b"");
    Ok(if has_content {
        BeginRequest::Whole(digest)
    } else {
        BeginRequest::Session
    })
}

/// 202: an upload that waits for its bytes.
async fn open(shared: &Arc<Shared>, head: &Head, name: RepositoryName) -> Answer {
    let mut upload = shared.service.upload(&name, None).await?;
    upload.close().await?;
    let state = head.grant.upload_state(&name, upload.uuid());
    let mut place = Place::of(shared, head, name, upload.uuid());
    place.state = state;
    let response = place.at(StatusCode::ACCEPTED, upload.offset());
    Ok(match shared.options.chunk_min_length {
        0 => response,
        length => with(response, CHUNK_MIN_LENGTH, &length.to_string()),
    })
}

/// A layer in one request. No client knows the upload, so a failure removes it.
async fn whole(shared: &Arc<Shared>, call: Call, name: RepositoryName, digest: Digest) -> Answer {
    let upload = shared.service.upload(&name, None).await?;
    let place = Place::of(shared, &call.head, name, upload.uuid());
    let work = async move {
        let mut receiving = place.receiving(upload, call);
        let refusal = match receiving.run(&place.shared).await {
            Ok(None) => match place.conclude(&mut receiving.upload, &digest).await {
                Ok(response) => return Ok(response),
                Err(error) => error.into(),
            },
            Ok(Some(stopped)) => stopped,
            Err(error) => error.into(),
        };
        if receiving.upload.cancel().await.is_err() {
            // A handle that failed is closed; a new one is not. A sweep removes what is left if this
            // fails too.
            if let Ok(mut upload) = place.resume().await {
                let _ = upload.cancel().await;
            }
        }
        Err(refusal)
    };
    shared.outliving(work).await
}

/// `/v2/<name>/blobs/uploads/<uuid>`
pub(super) async fn of_upload(
    shared: &Arc<Shared>,
    call: Call,
    name: RepositoryName,
    uuid: Uuid,
) -> Answer {
    let place = Place::of(shared, &call.head, name, uuid);
    match call.head.parts.method {
        Method::PATCH => append(place, call).await,
        Method::PUT => finish(place, call).await,
        Method::DELETE => cancel(place, call).await,
        _ => status(place, call).await,
    }
}

async fn append(place: Place, mut call: Call) -> Answer {
    let shared = Arc::clone(&place.shared);
    let (upload, chunk) = match place.take_up(&mut call).await {
        Ok(found) => found,
        Err(refusal) => return call.body.refuse(refusal),
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

/// With `?digest=<digest>`.
async fn finish(place: Place, mut call: Call) -> Answer {
    let shared = Arc::clone(&place.shared);
    let digest = match claimed(&call.head) {
        Ok(digest) => digest,
        Err(refusal) => return call.body.refuse(refusal),
    };
    let end = place::end(&call.head);
    let (upload, chunk) = match place.take_up(&mut call).await {
        Ok(found) => found,
        Err(refusal) => {
            call.body.discard();
            let work = async move { place.finish_as_it_is(&digest, end, refusal).await };
            return shared.outliving(work).await;
        }
    };
    let work = async move {
        let brings_bytes = !call.head.has_no_body();
        let mut receiving = place.receiving(upload, call);
        if brings_bytes && let Err(refusal) = place.fill(&mut receiving, chunk).await {
            return place.finish_as_it_is(&digest, end, refusal).await;
        }
        let error = match place.conclude(&mut receiving.upload, &digest).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        // The bytes may be right and the digest wrong, so they are kept.
        let _ = receiving.upload.close().await;
        Err(place.out_of_step(error).await)
    };
    shared.outliving(work).await
}

fn claimed(head: &Head) -> Result<Digest, Refusal> {
    let missing = || Refusal::new(Code::DigestInvalid, "the query has no digest=<digest>");
    parsed(head.query.only("digest")?.ok_or_else(missing)?)
}

async fn status(place: Place, mut call: Call) -> Answer {
    place.sync(false, &mut call.permit).await;
    let upload = place.resume().await?;
    Ok(place.at(StatusCode::NO_CONTENT, upload.offset()))
}

async fn cancel(place: Place, mut call: Call) -> Answer {
    place.sync(true, &mut call.permit).await;
    let mut upload = place.resume().await?;
    let work = async move {
        upload.cancel().await?;
        Ok(bare(StatusCode::NO_CONTENT))
    };
    place.shared.outliving(work).await
}
