//! Objects of any kind: their list, and the hash of their bytes.

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::clock;
use crate::error::{Result, StorageError, StorageErrorKind};
use crate::s3::bucket::Store;
use crate::s3::format::keys::Key;
use crate::s3::wire::{ApiError, ApiResult, ListedObject, RangeBody, pause};
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

/// The bytes of an object that is never overwritten, in order and from where a body broke off too. Nothing
/// verifies them.
pub(crate) struct ObjectBytes<'a> {
    store: &'a Store,
    key: &'a Key,
    size: u64,
    position: u64,
    body: Option<RangeBody>,
    /// When the last bytes came.
    begun: Instant,
    /// Bodies that broke since.
    broken: u32,
}

impl<'a> ObjectBytes<'a> {
    /// `size`: in bytes.
    pub(crate) fn of(store: &'a Store, key: &'a Key, size: u64) -> Self {
        ObjectBytes {
            store,
            key,
            size,
            position: 0,
            body: None,
            begun: Instant::now(),
            broken: 0,
        }
    }

    /// Whether all bytes came.
    pub(crate) fn is_whole(&self) -> bool {
        self.position >= self.size
    }

    /// The next bytes; `None` after the last.
    ///
    /// # Cost
    ///
    /// 1 request for all bytes, and 1 more each time that a body breaks off.
    ///
    /// # Errors
    ///
    /// `NoSuchKey` where the object is gone.
    pub(crate) async fn next(&mut self) -> ApiResult<Option<Bytes>> {
        while !self.is_whole() {
            let api = &self.store.api;
            let body = match &mut self.body {
                Some(body) => body,
                None => {
                    let range = self.position..self.size;
                    self.body
                        .insert(api.get_range(self.key, range, None).await?)
                }
            };
            let cause = match body.next().await {
                Some(Ok(frame)) => {
                    self.position += frame.len() as u64;
                    (self.begun, self.broken) = (Instant::now(), 0);
                    return Ok(Some(frame));
                }
                Some(Err(cause)) => cause,
                None => "the body ended early".into(),
            };
            self.body = None;
            self.broken += 1;
            let elapsed = self.begun.elapsed();
            let Some(pause) = pause(self.broken, elapsed, false, clock::jitter()) else {
                let kind = StorageErrorKind::Unavailable;
                let error = StorageError::new("GetObject", self.key.as_str(), kind, cause);
                return Err(ApiError::Other(error.after(self.broken, elapsed)));
            };
            sleep(pause).await;
        }
        Ok(None)
    }
}

/// The SHA-256 of an object of so many bytes; `None` where it is gone.
///
/// # Cost
///
/// 1 request.
pub(crate) async fn sha256(store: &Store, key: &Key, size: u64) -> Result<Option<Digest>> {
    let mut bytes = ObjectBytes::of(store, key, size);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    loop {
        match bytes.next().await {
            Ok(Some(frame)) => hasher.update(&frame),
            Ok(None) => return Ok(Some(hasher.digest())),
            Err(ApiError::NoSuchKey(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
