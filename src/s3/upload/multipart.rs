//! The multipart upload that an upload's parts go to: begun at the first full part, named by the
//! session before the first part goes out.

use tokio::time::Instant;

use super::session::Session;
use super::stored::Stored;
use super::writer::Writer;
use crate::clock;
use crate::error::{Error, Result, StorageError, StorageErrorKind};
use crate::s3::api::{UploadId, pause};
use crate::s3::keys::Key;
use crate::s3::store::Store;

/// Ends a multipart upload that an owner may still be sending to. S3 may keep a part that is on its
/// way at that moment, and says to look ([AbortMultipartUpload]).
///
/// [AbortMultipartUpload]: https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
pub(super) async fn end(store: &Store, key: &Key, upload_id: &UploadId) -> Result<()> {
    let begun = Instant::now();
    let mut looks = 0;
    loop {
        store.api.abort_multipart(key, upload_id).await?;
        let parts = store.api.list_parts(key, upload_id).await?;
        if parts.is_none_or(|parts| parts.is_empty()) {
            return Ok(());
        }
        looks += 1;
        let Some(pause) = pause(looks, begun.elapsed(), false, clock::jitter()) else {
            let (operation, why) = ("AbortMultipartUpload", "it has parts all the same");
            let kind = StorageErrorKind::Unavailable;
            return Err(StorageError::new(operation, key.as_str(), kind, why).into());
        };
        tokio::time::sleep(pause).await;
    }
}

impl Writer {
    /// S3's id of the multipart upload, which the session has before the first part goes out.
    pub(super) async fn multipart(&mut self) -> Result<UploadId> {
        // One that is the first for certain writes the session below, before the first part.
        if !self.pristine || self.stored.session.upload_id.is_some() {
            self.prove().await?;
        }
        let named = self.stored.session.upload_id.clone();
        if let Some(upload_id) = &named
            && (self.began_multipart || !self.stored.session.parts.is_empty())
        {
            return Ok(upload_id.clone());
        }
        let key = self.store.keys.data(self.stored.uuid);
        let mut found = match (&named, self.pristine) {
            // Nothing of it is recorded, and its owner may still be sending: a part of it that
            // arrives late would replace one of ours. It is ended instead.
            (Some(_), _) | (None, true) => Vec::new(),
            // An earlier owner may have died between creating one and saying so.
            (None, false) => self.store.api.multiparts_at(&key).await?,
        };
        // Listed before the session is written: what is there afterwards may be of an owner that
        // has come since.
        let (upload_id, others) = match found.pop() {
            Some(upload_id) => (upload_id, found),
            None => {
                let checksummed = self.store.profile.crc64nvme;
                let created = self.store.api.create_multipart(&key, checksummed).await?;
                let mut others = Vec::new();
                if created.repeated || named.is_some() {
                    // Where this fails, the next attempt has to look.
                    self.pristine = false;
                    others = self.store.api.multiparts_at(&key).await?;
                    others.retain(|other| *other != created.id);
                }
                (created.id, others)
            }
        };
        let next = Session {
            upload_id: Some(upload_id.clone()),
            ..self.stored.session.clone()
        };
        if let Err(error) = self.record(next).await {
            self.abandon(&key, &upload_id, &error).await;
            return Err(error);
        }
        self.began_multipart = true;
        // The session names one, so nobody will go on with another.
        for other in others {
            end(&self.store, &key, &other).await?;
        }
        Ok(upload_id)
    }

    /// A multipart upload that could not be recorded is ended, where it is certain that no other
    /// owner will find it: sweeping looks at sessions only.
    async fn abandon(&self, key: &Key, upload_id: &UploadId, error: &Error) {
        let is_unused = match error {
            Error::UploadUnknown { .. } => true,
            Error::UploadConflict { .. } => {
                let now = Stored::load(&self.store, self.stored.uuid).await;
                now.is_ok_and(|now| now.is_none_or(|now| now.session.leaves_alone(upload_id)))
            }
            _ => false,
        };
        if is_unused && let Err(error) = self.store.api.abort_multipart(key, upload_id).await {
            let error = Error::from(error);
            tracing::warn!(%key, %error, "a multipart upload is left over");
        }
    }
}
