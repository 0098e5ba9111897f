//! The one request that is not repeated.

use super::{Api, ApiError, ApiResult, Call, SMALL_TIMEOUT};
use crate::s3::format::keys::Key;
use crate::telemetry::Operation;

impl Api {
    /// Whether the store answers for this object, which need not exist: one attempt, so that a
    /// failure is reported at once.
    pub(crate) async fn answers(&self, key: &Key) -> ApiResult<()> {
        let call = Call::of(Operation::GetObject, key.as_str());
        let sent = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .customize()
            .config_override(Self::settings(SMALL_TIMEOUT))
            .send();
        let Err(failed) = self.attempt(call, 1, sent).await else {
            return Ok(());
        };
        let error = call.failed(failed.verdict.kind(), failed.source);
        match ApiError::new(failed.verdict, error.answered(failed.answer)) {
            ApiError::NoSuchKey(_) => Ok(()),
            error => Err(error),
        }
    }
}
