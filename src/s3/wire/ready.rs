//! The one request that is not repeated.

use super::{Api, ApiError, ApiResult, Request, SMALL_TIMEOUT, witness};
use crate::error::StorageError;
use crate::s3::format::keys::Key;
use crate::s3::wire::error::Attempt;
use crate::telemetry::Operation;

impl Api {
    /// Whether the store answers for this object, which need not exist: one attempt, so that a
    /// failure is reported at once.
    pub(crate) async fn answers(&self, key: &Key) -> ApiResult<()> {
        let (operation, key) = (Operation::GetObject, key.as_str());
        let mut request = Request::sent(&self.telemetry, operation, key, 1, 0);
        let sent = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .customize()
            .config_override(Self::settings(SMALL_TIMEOUT))
            .send();
        let (answer, seen) = witness::seen(sent).await;
        let Err(error) = answer else {
            request.ended(seen.status, "Ok");
            return Ok(());
        };
        let failed = Attempt::of(operation, error, seen.was_sent);
        request.ended(seen.status, format!("{:?}", failed.verdict));
        let kind = failed.verdict.kind();
        let error = StorageError::new(operation.as_str(), key, kind, failed.source);
        match ApiError::new(failed.verdict, error.answered(failed.answer)) {
            ApiError::NoSuchKey(_) => Ok(()),
            error => Err(error),
        }
    }
}
