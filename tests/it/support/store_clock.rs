//! A store in which time can pass: what was written before is older then, in every answer: headers and
//! listings. The store's clock itself stays, since the SDK would sign by it. All writers have to
//! reach the store through it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_smithy_runtime_api::client::http::{
    HttpConnector as _, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;

use super::interceptor::{self, Handle};

/// See the top of this file. A clone is the same clock.
#[derive(Clone, Debug, Default)]
pub struct StoreClock(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// How much time has passed, in seconds.
    passed: i64,
    /// The same when each path was written last.
    written: HashMap<String, i64>,
}

impl StoreClock {
    /// A client of the store, by this clock.
    pub fn http_client(&self, inner: SharedHttpClient) -> SharedHttpClient {
        interceptor::client(inner, self.clone())
    }

    pub fn advance(&self, time: Duration) {
        self.0.lock().unwrap().passed += i64::try_from(time.as_secs()).unwrap();
    }

    fn passed(&self) -> i64 {
        self.0.lock().unwrap().passed
    }

    /// How much time has passed since this path was written, in seconds.
    fn since_written(&self, path: &str) -> i64 {
        let state = self.0.lock().unwrap();
        state.passed - state.written.get(path).copied().unwrap_or_default()
    }

    async fn answered(
        &self,
        path: &str,
        mut answer: HttpResponse,
    ) -> Result<HttpResponse, ConnectorError> {
        if let Some(time) = answer.headers().get("last-modified") {
            let earlier = earlier(time, self.since_written(path), DateTimeFormat::HttpDate);
            answer.headers_mut().insert("last-modified", earlier);
        }
        let kind = answer.headers().get("content-type");
        if !kind.is_some_and(|kind| kind.contains("xml")) {
            return Ok(answer);
        }
        let body = ByteStream::new(answer.take_body()).collect().await;
        let body = body.map_err(|error| ConnectorError::io(error.into()))?;
        let text = self.listed(path, &String::from_utf8(body.to_vec()).unwrap());
        let length = text.len().to_string();
        answer.headers_mut().insert("content-length", length);
        *answer.body_mut() = SdkBody::from(text);
        Ok(answer)
    }

    fn listed(&self, bucket: &str, text: &str) -> String {
        let mut pieces = text.split("<Contents>");
        let mut listed = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let key = between(piece, "<Key>", "</Key>");
            let time = between(piece, "<LastModified>", "</LastModified>");
            let path = format!("{}/{key}", bucket.trim_end_matches('/'));
            let since = self.since_written(&path);
            let earlier = earlier(time, since, DateTimeFormat::DateTime);
            listed += "<Contents>";
            listed += &piece.replacen(time, &earlier, 1);
        }
        listed
    }
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap();
    rest.split_once(to).unwrap().0
}

fn earlier(time: &str, seconds: i64, format: DateTimeFormat) -> String {
    let time = DateTime::from_str(time, format).unwrap();
    let earlier = DateTime::from_secs_and_nanos(time.secs() - seconds, time.subsec_nanos());
    earlier.fmt(format).unwrap()
}

impl Handle for StoreClock {
    fn handle(&self, store: SharedHttpConnector, request: HttpRequest) -> HttpConnectorFuture {
        let clock = self.clone();
        let uri: http::Uri = request.uri().parse().unwrap();
        // Listings have escaped keys nowhere: ours need no escapes.
        let path = uri.path().replace("%3D", "=").replace("%40", "@");
        let writes = matches!(request.method(), "PUT" | "POST");
        HttpConnectorFuture::new(async move {
            let passed = clock.passed();
            let answer = store.call(request).await?;
            if writes && answer.status().is_success() {
                let mut state = clock.0.lock().unwrap();
                state.written.insert(path.clone(), passed);
            }
            clock.answered(&path, answer).await
        })
    }
}
