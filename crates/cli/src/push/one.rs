//! The push of one input: its checks, and the begin of its upload.

use std::sync::atomic::Ordering;

use super::file_sums::{FileSums, declared_digest, summer};
use super::item::{Item, What};
use super::task::PushTask;
use crate::failure::Failure;
use crate::input::{self, Input};
use crate::output::grouped;
use crate::stop::Stop;
use s3layers::RepositoryService as _;
use s3layers::{Digest, Error, LayerId, LayerService as _, LayerUpload, TarSum};

/// Uploads an input. Returns the digest.
pub(super) async fn push_one(
    item: &Item<'_>,
    input: Input,
    mut stop: Stop,
) -> Result<Digest, Failure> {
    // A resumed upload keeps the part sizes it began with.
    if item.options.resume.is_none() {
        check_size(item, &input, item.service.max_layer_size())?;
    }
    let begin = async {
        let mut known = FileSums::of(item, &input).await?;
        let begun = begin(item, &known).await;
        if let (Ok(upload), None) = (&begun, &known.digest) {
            known.digest = declared_digest(item, &input, &**upload).await?;
        }
        Ok::<_, Failure>((begun, known))
    };
    let begun = stop.unless_requested(begin).await;
    let (begun, known) = begun.ok_or_else(|| item.not_begun())??;
    let upload = match begun {
        Ok(upload) => upload,
        Err(Error::LayerExists { id }) => return exists(item, &id, input.size).await,
        Err(error) => return Err(refused(item, error)),
    };
    check_size(item, &input, upload.max_size())?;
    let needs_tar_sum = item.options.tarsum && known.tar_sum.is_none();
    let summer = needs_tar_sum.then(summer).transpose()?;
    let mut running = PushTask::new(item, upload, &stop, known.digest, input.size.is_some());
    running.started()?;
    match running.feed(input, summer, &mut stop).await {
        Ok(layer) => running.stored(&*layer).await,
        Err(cause) => Err(running.interrupted(cause).await),
    }
}

/// Begins or resumes the upload. [`Error::LayerExists`] if there is nothing to send.
async fn begin(item: &Item<'_>, known: &FileSums) -> Result<Box<dyn LayerUpload>, Error> {
    let (name, id) = (&item.options.name, item.options.id.as_ref());
    if let Some(uuid) = item.options.resume {
        let tar_sum = known.tar_sum.clone().map(LayerId::from);
        let resumed = item
            .service
            .resume(name, id.or(tar_sum.as_ref()), uuid)
            .await;
        return match (resumed, &known.digest) {
            // The TarSum leads to other bytes, so the upload was declared by its digest.
            (Err(Error::UploadUnknown { .. }), Some(digest))
                if id.is_none() && tar_sum.is_some() =>
            {
                let id = LayerId::from(digest.clone());
                item.service.resume(name, Some(&id), uuid).await
            }
            (resumed, _) => resumed,
        };
    }
    if id.is_some() {
        return item.service.upload(name, id).await;
    }
    let Some(digest) = &known.digest else {
        return item.service.upload(name, None).await;
    };
    if let Some(tar_sum) = &known.tar_sum {
        return begin_archive(item, digest, tar_sum).await;
    }
    let id = LayerId::from(digest.clone());
    match item.service.stat(&id).await {
        Ok(found) if found.damage.is_none() => Err(Error::LayerExists { id }),
        // An upload repairs a damaged layer.
        Ok(_) | Err(Error::LayerUnknown { .. } | Error::Damaged { .. }) => {
            item.service.upload(name, None).await
        }
        Err(error) => Err(error),
    }
}

/// Begins the upload of an archive, declared by its TarSum. If that refers to other bytes already,
/// the file is uploaded by its digest.
async fn begin_archive(
    item: &Item<'_>,
    digest: &Digest,
    tar_sum: &TarSum,
) -> Result<Box<dyn LayerUpload>, Error> {
    let (name, id) = (&item.options.name, LayerId::from(tar_sum.clone()));
    match item.service.upload(name, Some(&id)).await {
        Err(Error::LayerExists { id }) if item.service.fetch(&id).await?.digest() != digest => {
            item.note(format_args!(
                "{id} refers to an archive with other bytes already; this one gets its digest only"
            ));
            let id = LayerId::from(digest.clone());
            item.service.upload(name, Some(&id)).await
        }
        begun => begun,
    }
}

/// Refuses a file that is too large before it is hashed or sent.
fn check_size(item: &Item<'_>, input: &Input, limit: u64) -> Result<(), Failure> {
    let Some(size) = input.size.filter(|size| *size > limit) else {
        return Ok(());
    };
    let too_large = Failure::new(format!(
        "{} has {} bytes, and an upload to this store can have at most {}",
        input::name(item.file),
        grouped(size),
        grouped(limit)
    ));
    if size > item.service.profile().max_object_size {
        return Err(too_large);
    }
    Err(too_large.hint("begin an upload with a larger --part-size or --memory-budget"))
}

/// Links a stored layer to the repository.
async fn exists(item: &Item<'_>, id: &LayerId, size: Option<u64>) -> Result<Digest, Failure> {
    let found = item.service.stat(id).await?;
    if let Some(damage) = found.damage {
        let lost = Failure::new(format!("{id} is stored, but damaged: {damage}"));
        return Err(lost.hint("push it without --id or --tarsum to store it again"));
    }
    if !item.service.mount(&item.options.name, id, None).await? {
        let gone = Failure::new(format!("{id} was removed just now"));
        return Err(gone.hint(format!("push it again: {}", item.again(None, true))));
    }
    item.position.store(size.unwrap_or(0), Ordering::Relaxed);
    item.note("already stored; nothing was sent");
    let size = found.info.size;
    item.event(What::Exists { id, size })?;
    // A digest by another algorithm is printed as given.
    Ok(id.as_digest().unwrap_or(&found.info.digest).clone())
}

fn refused(item: &Item<'_>, error: Error) -> Failure {
    let (hint, again) = match &error {
        Error::UploadInProgress { uuid, .. } => {
            let resume = item.again(Some(*uuid), true);
            (Some(format!("to resume: {resume}")), None)
        }
        Error::UploadUnknown { .. } => (
            Some(format!(
                "it was finished, cancelled or swept, or belongs to another repository than {} or to another \
                 --id; `s3layers uploads` lists uploads",
                item.options.name
            )),
            (!input::is_stdin(item.file)).then(|| {
                let again = item.again(None, true);
                format!("to push it again, which sends nothing if it is stored: {again}")
            }),
        ),
        _ => (None, None),
    };
    Failure::from(error).hints(hint).hints(again)
}
