//! What the SDK keeps to itself: whether a request was sent and to which host, what the head of its answer says, and
//! whether the document of the answer is whole.

use std::cell::RefCell;
use std::future::Future;
use std::time::SystemTime;

use aws_sdk_s3::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextRef,
    BeforeTransmitInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

tokio::task_local! {
    /// Of the request that this task is sending.
    static SEEN: RefCell<Seen>;
}

/// How far a request came, and what came back.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Whether it could be built and signed.
    pub(super) was_sent: bool,
    /// The host that it was sent to.
    pub(super) host: Option<String>,
    /// Of the answer, if one came.
    pub(super) status: Option<u16>,
    /// The store's own clock, if the answer has it.
    pub(super) date: Option<SystemTime>,
    /// As the `Server` header says it, or a header that only one store has.
    pub(super) server: Option<String>,
}

/// Sees what comes back.
#[derive(Debug)]
pub(super) struct Witness;

impl Intercept for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let uri = context.request().uri().parse::<http::Uri>();
        let host = uri.ok().and_then(|uri| uri.host().map(str::to_owned));
        note(|seen| {
            *seen = Seen {
                was_sent: true,
                host,
                ..Seen::default()
            }
        });
        Ok(())
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response();
        let headers = answer.headers();
        let date = headers
            .get("date")
            .and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        // LocalStack's `Server` names the library that it is served by.
        let server = match headers.get("x-localstack") {
            Some(_) => Some("LocalStack"),
            None => headers.get("server"),
        };
        note(|seen| {
            seen.status = Some(answer.status().as_u16());
            seen.date = date.and_then(|date| SystemTime::try_from(date).ok());
            seen.server = server.map(str::to_owned);
        });
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

fn note(change: impl FnOnce(&mut Seen)) {
    // Ignored outside of `seen`.
    let _ = SEEN.try_with(|seen| change(&mut seen.borrow_mut()));
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
        (result, SEEN.with(RefCell::take))
    };
    SEEN.scope(RefCell::default(), seen).await
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
