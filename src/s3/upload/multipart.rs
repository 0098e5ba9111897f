//! The multipart upload that an upload's parts go to: begun at the first full part, named by the
//! session before the first part goes out.

use super::session::Session;
use super::stored::Stored;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::s3::api::UploadId;
use crate::s3::keys::Key;

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
        let (upload_id, has_others) = match found.pop() {
            Some(upload_id) => (upload_id, !found.is_empty()),
            None => {
                let checksummed = self.store.profile.crc64nvme;
                let created = self.store.api.create_multipart(&key, checksummed).await?;
                (created.id, created.repeated || named.is_some())
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
        if has_others {
            self.store.api.abort_others(&key, &upload_id).await?;
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
