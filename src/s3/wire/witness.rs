//! What the SDK keeps to itself: whether a request was sent, the status of its answer, for the log, and
//! whether its document is whole.

use std::cell::Cell;
use std::future::Future;

use aws_sdk_s3::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextRef,
    BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

tokio::task_local! {
    /// Of the request that this task is sending.
    static SEEN: Cell<Seen>;
}

/// How far a request came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Whether it could be built and signed.
    pub(super) was_sent: bool,
    /// Of the answer, if one came.
    pub(super) status: Option<u16>,
}

/// Sees what comes back.
#[derive(Debug)]
pub(super) struct Witness;

impl Intercept for Witness {
    fn name(&self) -> &'static str {
        "status"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        note(None);
        Ok(())
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        note(Some(context.response().status().as_u16()));
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response();
        // A stream is not read yet.
        let document = answer.body().bytes().unwrap_or_default();
        if answer.status().is_success() && !is_whole(document) {
            return Err("the document breaks off".into());
        }
        Ok(())
    }
}

fn note(status: Option<u16>) {
    // Ignored outside of `seen`.
    let _ = SEEN.try_with(|seen| {
        seen.set(Seen {
            was_sent: true,
            status,
        })
    });
}

/// The SDK reads an XML document that breaks off as if it were whole: a listing would lack keys.
fn is_whole(document: &[u8]) -> bool {
    let document = String::from_utf8_lossy(document);
    let document = document.trim();
    if !document.starts_with('<') {
        return true;
    }
    let tags = document.split('<');
    let mut tags = tags.filter(|tag| tag.starts_with(|first: char| first.is_ascii_alphabetic()));
    let Some(root) = tags.next() else {
        return false;
    };
    let name = root.split(|end: char| end.is_whitespace() || "/>".contains(end));
    let name = name.take(1).collect::<String>();
    let is_empty = root.ends_with("/>") && tags.next().is_none();
    is_empty || document.ends_with(&format!("</{name}>"))
}

/// What a request with the [`Witness`] comes to, and how far it came.
pub(super) async fn seen<T>(sending: impl Future<Output = T>) -> (T, Seen) {
    let seen = async {
        let result = sending.await;
        (result, SEEN.with(Cell::get))
    };
    SEEN.scope(Cell::default(), seen).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_documents() {
        for (document, want) in [
            ("", true),
            ("not XML", true),
            ("<A><B/></A>", true),
            (
                " \n<?xml version=\"1.0\"?>\n<A xmlns=\"b\"><B>1</B></A>\n",
                true,
            ),
            ("<A xmlns=\"b\"/>", true),
            ("<?xml version=\"1.0\"?>", false),
            ("<A><B>1</B>", false),
            ("<A><B/>", false),
            ("<A><B>1</B></", false),
            ("<A", false),
        ] {
            assert_eq!(is_whole(document.as_bytes()), want, "{document}");
        }
    }
}
