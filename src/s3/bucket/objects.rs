//! Objects of any kind: their list, and the hash of their bytes.

use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::s3::bucket::Store;
use crate::s3::wire::{ApiError, ListedObject};
use s3layers_tarsum::{Algorithm, Digest, Hasher};

/// All objects below a prefix.
///
/// # Cost
///
/// 1 request for a thousand.
pub(crate) async fn below(store: &Store, prefix: &str) -> Result<Vec<ListedObject>> {
    let (mut objects, mut from) = (Vec::new(), None);
    loop {
        let page = store.api.list(prefix, from).await?;
        objects.extend(page.objects);
        from = page.next;
        if from.is_none() {
            return Ok(objects);
        }
    }
}

/// The SHA-256 of an object of any size; `None` where it is gone.
///
/// # Cost
///
/// 1 request.
///
/// # Errors
///
/// Also where fewer bytes come than were listed.
pub(crate) async fn sha256(store: &Store, object: &ListedObject) -> Result<Option<Digest>> {
    let (key, size) = (&object.key, object.size);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    if size == 0 {
        return Ok(Some(hasher.digest()));
    }
    let mut body = match store.api.get_range_if(key, 0..size, None).await {
        Err(ApiError::NoSuchKey(_)) => return Ok(None),
        body => body?,
    };
    let mut received = 0;
    while let Some(frame) = body.next().await {
        let Ok(frame) = frame else {
            break;
        };
        received += frame.len() as u64;
        hasher.update(&frame);
    }
    if received == size {
        return Ok(Some(hasher.digest()));
    }
    let kind = StorageErrorKind::Unavailable;
    let why = format!("{received} of {size} bytes came");
    let error = StorageError::new("GetObject", key.as_str(), kind, why);
    Err(Error::from(error))
}
