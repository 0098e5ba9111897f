//! The store's own clock and name, read off the headers of an answer, and the host that was asked.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint;

use crate::locks::lock;

/// Catches the `Date` of one answer, and who gave it.
#[derive(Clone, Debug, Default)]
pub(super) struct CatchDate(Arc<Mutex<Caught>>);

#[derive(Clone, Debug, Default)]
pub(super) struct Caught {
    pub(super) date: Option<SystemTime>,
    /// As the `Server` header says it, or a header that only one store has.
    pub(super) server: Option<String>,
    /// The host that the request was sent to.
    pub(super) host: Option<String>,
}

impl CatchDate {
    pub(super) fn caught(&self) -> Caught {
        lock(&self.0).clone()
    }
}

#[dyn_dispatch_hint]
impl Intercept for CatchDate {
    fn name(&self) -> &'static str {
        "CatchDate"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let uri: http::Uri = context.request().uri().parse()?;
        lock(&self.0).host = uri.host().map(str::to_owned);
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response().headers();
        let date = headers
            .get("date")
            .and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok())
            .and_then(|date| SystemTime::try_from(date).ok());
        // LocalStack's `Server` names the library that it is served by.
        let server = match headers.get("x-localstack") {
            Some(_) => Some("LocalStack"),
            None => headers.get("server"),
        };
        let mut caught = lock(&self.0);
        caught.date = date;
        caught.server = server.map(str::to_owned);
        Ok(())
    }
}
