//! A store whose answers are worded otherwise: what S3 leaves open, or what another store does.

use std::fmt;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpConnector as _, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;

use super::interceptor::{self, Handle};

/// What becomes of an answer: its headers, and its text where it is XML.
pub trait Reword: Send + Sync + 'static {
    /// The new value of a header.
    fn header(&self, _name: &str, value: &str) -> String {
        value.to_owned()
    }

    /// The new text. `request` is the method and the path with its query.
    fn text(&self, _request: &str, text: String) -> String {
        text
    }
}

/// The store behind `inner`, in other words.
pub fn reword(inner: SharedHttpClient, how: impl Reword) -> SharedHttpClient {
    interceptor::client(inner, How(Arc::new(how)))
}

#[derive(Clone)]
struct How(Arc<dyn Reword>);

impl fmt::Debug for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("How")
    }
}

impl Handle for How {
    fn handle(&self, store: SharedHttpConnector, request: HttpRequest) -> HttpConnectorFuture {
        let asked = format!("{} {}", request.method(), request.uri());
        let how = self.clone();
        HttpConnectorFuture::new(async move {
            let answer = store.call(request).await?;
            how.reworded(&asked, answer).await
        })
    }
}

impl How {
    async fn reworded(
        &self,
        asked: &str,
        mut answer: HttpResponse,
    ) -> Result<HttpResponse, ConnectorError> {
        let headers: Vec<(String, String)> = answer
            .headers()
            .iter()
            .map(|(name, value)| (name.to_owned(), self.0.header(name, value)))
            .collect();
        for (name, value) in headers {
            answer.headers_mut().insert(name, value);
        }
        let is_xml = answer
            .headers()
            .get("content-type")
            .is_some_and(|kind| kind.contains("xml"));
        if is_xml {
            let body = ByteStream::new(answer.take_body()).collect().await;
            let body = body.map_err(|error| ConnectorError::io(error.into()))?;
            let text = String::from_utf8(body.to_vec());
            let text = text.map_err(|error| ConnectorError::io(error.into()))?;
            let text = self.0.text(asked, text);
            let length = text.len().to_string();
            answer.headers_mut().insert("content-length", length);
            *answer.body_mut() = SdkBody::from(text);
        }
        Ok(answer)
    }
}
