//! The store's own clock, read off the `Date` header of an answer.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;

/// Catches the `Date` of one answer.
#[derive(Clone, Debug, Default)]
pub(super) struct CatchDate(Arc<Mutex<Option<SystemTime>>>);

impl CatchDate {
    pub(super) fn caught(&self) -> Option<SystemTime> {
        *self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[dyn_dispatch_hint]
impl Intercept for CatchDate {
    fn name(&self) -> &'static str {
        "CatchDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context
            .response()
            .headers()
            .get("date")
            .and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok())
            .and_then(|date| SystemTime::try_from(date).ok());
        *self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = date;
        Ok(())
    }
}
