//! The status of an answer, for the log: the SDK keeps it to itself where a request succeeds.

use std::cell::Cell;
use std::future::Future;

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

tokio::task_local! {
    /// Of the request that this task is sending.
    static STATUS: Cell<Option<u16>>;
}

/// Sees what comes back.
#[derive(Debug)]
pub(super) struct Witness;

impl Intercept for Witness {
    fn name(&self) -> &'static str {
        "status"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let status = context.response().status().as_u16();
        // Ignored outside of `seen`.
        let _ = STATUS.try_with(|seen| seen.set(Some(status)));
        Ok(())
    }
}

/// What a request with the [`Witness`] comes to, and the status of its answer, if one came.
pub(super) async fn seen<T>(sending: impl Future<Output = T>) -> (T, Option<u16>) {
    let seen = async {
        let result = sending.await;
        (result, STATUS.with(Cell::get))
    };
    STATUS.scope(Cell::new(None), seen).await
}
