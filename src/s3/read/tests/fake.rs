//! A store of one object behind the SDK's HTTP client: serves ranges, logs requests, and
//! fails by a script.

use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::Frame;

use uuid::Uuid;

use crate::s3::bucket::Store;
use crate::s3::bucket::looks::no_looks;
use crate::s3::budget::Budget;
use crate::s3::format::checksum::{Crc64, Sums, Tracker};
use crate::s3::format::keys::{Key, Keys};
use crate::s3::format::profile::StoreProfile;
use crate::s3::format::record::{Content, Segment, SegmentName, StoredLayer};
use crate::s3::wire::Api;

/// What a body comes in, in bytes, if nothing else is said.
const FRAME: usize = 64 * 1024;
/// The way to the store and back.
const LATENCY: Duration = Duration::from_millis(10);

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    Right,
    Status(u16, &'static str),
    /// The body breaks after so many bytes.
    Cut(u64),
    /// The body ends after so many bytes, as if that were all.
    End(u64),
    /// The body sends this many bytes and then stalls.
    Stall(u64),
    /// One bit at this position of the object is another one.
    Flip(u64),
    /// The object has only so many bytes.
    Short(u64),
    /// A byte more than was asked for.
    Over,
    /// Another version of the object, although the request had a condition.
    OtherEtag,
    /// Without a word about the range.
    Rangeless,
    /// As if no range had been asked for.
    Whole,
}

type Script = Box<dyn Fn(usize, &Range<u64>) -> Answer + Send + Sync>;

/// The object: a period of bytes, repeated.
pub(super) struct Fake {
    period: Bytes,
    pub(super) size: u64,
    script: Mutex<Script>,
    pub(super) log: Mutex<Vec<Range<u64>>>,
    /// Until the head of an answer comes.
    pub(super) latency: Mutex<Duration>,
    /// What a body comes in, in bytes.
    pub(super) frame: AtomicUsize,
    open: AtomicUsize,
    pub(super) most_open: AtomicUsize,
    /// Bytes that bodies have given.
    pub(super) served: AtomicUsize,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

/// Bytes that no shift leaves the same.
pub(super) fn noise(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..size.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.collect();
    bytes.truncate(size);
    bytes.into()
}

impl Fake {
    pub(super) fn new(period: Bytes, size: u64) -> Arc<Self> {
        Arc::new(Fake {
            period,
            size,
            script: Mutex::new(Box::new(|_, _| Answer::Right)),
            log: Mutex::default(),
            latency: Mutex::new(LATENCY),
            frame: AtomicUsize::new(FRAME),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
        })
    }

    /// How requests are answered from now on, by their number and range. The log is cleared.
    pub(super) fn script(&self, f: impl Fn(usize, &Range<u64>) -> Answer + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Box::new(f);
        self.log.lock().unwrap().clear();
    }

    pub(super) fn requests(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    fn frames(&self, range: Range<u64>) -> Vec<Bytes> {
        let mut frames = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let from = (at % self.period.len() as u64) as usize;
            let length = self
                .frame
                .load(SeqCst)
                .min(self.period.len() - from)
                .min((range.end - at) as usize);
            frames.push(self.period.slice(from..from + length));
            at += length as u64;
        }
        frames
    }

    fn answer(&self, request: &HttpRequest, open: Open) -> HttpResponse {
        if request.method() == "HEAD" {
            let mut answer = HttpResponse::new(200.try_into().unwrap(), SdkBody::empty());
            let headers = answer.headers_mut();
            headers.insert("content-length", self.size.to_string());
            headers.insert("etag", "\"etag\"");
            return answer;
        }
        let Some(asked) = request.headers().get("range") else {
            // The record: this object was published without one.
            return refusal(404, "NoSuchKey");
        };
        let (first, last) = asked[6..].split_once('-').unwrap();
        let mut range: Range<u64> = first.parse().unwrap()..last.parse::<u64>().unwrap() + 1;
        let nth = self.requests();
        self.log.lock().unwrap().push(range.clone());
        let answer = self.script.lock().unwrap()(nth, &range);
        let mut status = match answer {
            Answer::Status(status, code) => Some((status, code)),
            Answer::Short(size) if range.start >= size => Some((416, "InvalidRange")),
            _ => None,
        };
        let expected = request.headers().get("if-match");
        if expected.is_some_and(|etag| etag != "\"etag\"") {
            status = Some((412, "PreconditionFailed"));
        }
        if let Some((status, code)) = status {
            return refusal(status, code);
        }
        if let Answer::Short(size) = answer {
            range.end = range.end.min(size);
        }
        let told = format!("bytes {}-{}/{}", range.start, range.end - 1, self.size);
        let length = (range.end - range.start).to_string();
        let body = SdkBody::from_body_1_x(self.body(range, answer, open));
        let status = if answer == Answer::Whole { 200 } else { 206 };
        let mut response = HttpResponse::new(status.try_into().unwrap(), body);
        let headers = response.headers_mut();
        headers.insert("content-length", length);
        if !matches!(answer, Answer::Whole | Answer::Rangeless) {
            headers.insert("content-range", told);
        }
        let etag = match answer {
            Answer::OtherEtag => "\"other\"",
            _ => "\"etag\"",
        };
        headers.insert("etag", etag);
        response
    }

    fn body(&self, range: Range<u64>, answer: Answer, open: Open) -> Body {
        let (length, end) = match answer {
            Answer::Cut(length) => (length, End::Error),
            Answer::End(length) => (length, End::Quiet),
            Answer::Stall(length) => (length, End::Never),
            _ => (u64::MAX, End::Quiet),
        };
        let stop = range.end.min(range.start.saturating_add(length));
        let mut frames = self.frames(range.start..stop);
        if answer == Answer::Over {
            frames.push(Bytes::from_static(b"!"));
        }
        if let Answer::Flip(position) = answer
            && range.contains(&position)
        {
            let offset = (position - range.start) as usize;
            let mut at = 0;
            for frame in &mut frames {
                if (at..at + frame.len()).contains(&offset) {
                    let mut bytes = frame.to_vec();
                    bytes[offset - at] ^= 1;
                    *frame = bytes.into();
                }
                at += frame.len();
            }
        }
        frames.reverse();
        Body { frames, end, open }
    }
}

#[derive(Clone, Copy)]
enum End {
    Quiet,
    Error,
    Never,
}

/// A request that was not answered to its end.
struct Open(Arc<Fake>);

impl Open {
    fn begin(fake: &Arc<Fake>) -> Self {
        let open = fake.open.fetch_add(1, SeqCst) + 1;
        fake.most_open.fetch_max(open, SeqCst);
        Open(Arc::clone(fake))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

struct Body {
    open: Open,
    frames: Vec<Bytes>,
    end: End,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match (self.frames.pop(), self.end) {
            (Some(bytes), _) => {
                self.open.0.served.fetch_add(bytes.len(), SeqCst);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            (None, End::Quiet) => Poll::Ready(None),
            (None, End::Error) => {
                Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
            }
            (None, End::Never) => Poll::Pending,
        }
    }
}

#[derive(Debug)]
struct Connector(Arc<Fake>);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let open = Open::begin(&self.0);
        HttpConnectorFuture::new(async move {
            let latency = *open.0.latency.lock().unwrap();
            tokio::time::sleep(latency).await;
            let fake = Arc::clone(&open.0);
            Ok(fake.answer(&request, open))
        })
    }
}

/// A store whose object this is.
pub(super) fn store(fake: &Arc<Fake>, memory_budget: u64) -> Arc<Store> {
    let connector = SharedHttpConnector::new(Connector(Arc::clone(fake)));
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .endpoint_url("http://store.test")
        .force_path_style(true)
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .build();
    Arc::new(Store {
        api: Api::new(
            aws_sdk_s3::Client::from_conf(config),
            "bucket".to_owned(),
            None,
        ),
        keys: Keys::new(""),
        profile: StoreProfile::AWS,
        budget: Budget::new(memory_budget),
        memory_budget,
        part_size: 16 << 20,
        parallelism: 8,
        presign_lifetime: Duration::from_secs(900),
        looks: no_looks(),
        names: Default::default(),
        commits: Default::default(),
        background: Default::default(),
    })
}

/// The key of the object.
pub(super) fn key() -> Key {
    Keys::new("").segment(Uuid::nil(), &SegmentName::Multipart(0))
}

pub(super) fn etag(text: &str) -> crate::s3::wire::ETag {
    serde_json::from_value(text.into()).unwrap()
}

/// The layer of the object, with its checksums.
pub(super) fn layer(fake: &Fake) -> StoredLayer {
    let mut tracker = Tracker::resume(Sums::default(), Crc64::default());
    for frame in fake.frames(0..fake.size) {
        tracker.update(&frame);
    }
    let end = tracker.snapshot();
    let sums = tracker.sums_at(end);
    let segment = Segment {
        name: SegmentName::Multipart(0),
        etag: etag("etag"),
        sum: sums.whole,
        object_size: None,
    };
    StoredLayer {
        digest: format!("sha256:{}", "0".repeat(64)).parse().unwrap(),
        size: fake.size,
        upload: Uuid::nil(),
        content: Content::Segments(vec![segment]),
        blocks: sums.into_blocks(),
        aliases: Vec::new(),
        repository: "library/test".parse().unwrap(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn refusal(status: u16, code: &str) -> HttpResponse {
    let body = format!("<Error><Code>{code}</Code></Error>");
    HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))
}
