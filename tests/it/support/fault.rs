//! The wire between the SDK and a store: every request is numbered and logged, and goes wrong where
//! a test says so. Below the SDK, its checksums and all retries; over any HTTP client.
//!
//! ```text
//! wire.fault(On::nth(UploadPart, 3).lose_answer());           // done at S3, never heard here
//! wire.fault(On::every(PutObject).key_ends("/session").status(503));
//! let gate = wire.hold(On::nth(UploadPart, 1).before());      // a race without sleeping
//! wire.end(End::KilledAfter(7));                              // the process dies there
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, watch};

use super::refusals::{error_in_200, expired, refusal};

pub use self::Operation::*;

/// What a request asks of S3, told from its method, query and headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    AbortMultipartUpload,
    CompleteMultipartUpload,
    CopyObject,
    CreateMultipartUpload,
    DeleteObject,
    DeleteObjects,
    GetBucketLifecycleConfiguration,
    GetBucketVersioning,
    GetObject,
    HeadObject,
    ListMultipartUploads,
    ListObjectsV2,
    ListParts,
    PutObject,
    UploadPart,
    UploadPartCopy,
    /// None that this crate should ever send.
    Other,
}

impl Operation {
    fn of(request: &HttpRequest, has_key: bool) -> Self {
        let uri = request.uri();
        let query = uri.split_once('?').map_or("", |(_, query)| query);
        let asks = |name: &str| {
            let names = |pair: &str| pair.split('=').next() == Some(name);
            query.split('&').any(names)
        };
        let copies = request.headers().get("x-amz-copy-source").is_some();
        match (request.method(), has_key) {
            ("PUT", true) if asks("partNumber") && copies => UploadPartCopy,
            ("PUT", true) if asks("partNumber") => UploadPart,
            ("PUT", true) if copies => CopyObject,
            ("PUT", true) => PutObject,
            ("POST", true) if asks("uploads") => CreateMultipartUpload,
            ("POST", true) if asks("uploadId") => CompleteMultipartUpload,
            ("POST", false) if asks("delete") => DeleteObjects,
            ("GET", true) if asks("uploadId") => ListParts,
            ("GET", true) => GetObject,
            ("GET", false) if asks("lifecycle") => GetBucketLifecycleConfiguration,
            ("GET", false) if asks("versioning") => GetBucketVersioning,
            ("GET", false) if asks("uploads") => ListMultipartUploads,
            ("GET", false) if asks("list-type") => ListObjectsV2,
            ("HEAD", true) => HeadObject,
            ("DELETE", true) if asks("uploadId") => AbortMultipartUpload,
            ("DELETE", true) => DeleteObject,
            _ => Other,
        }
    }
}

/// A request as it went over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// From 1, in the order of sending.
    pub number: usize,
    pub operation: Operation,
    /// Empty for a request about the bucket.
    pub key: String,
    /// As the header says it.
    pub range: Option<String>,
    /// Bytes of its body.
    pub sent: u64,
    /// Bytes of the answer's body that were taken off the wire.
    pub received: u64,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            operation,
            key,
            ..
        } = self;
        write!(f, "request {number}, {operation:?} of {key:?}")
    }
}

/// Which requests.
#[derive(Clone, Debug, Default)]
pub struct On {
    number: Option<usize>,
    from: Option<usize>,
    operation: Option<Operation>,
    key_ends: Option<&'static str>,
    key_contains: Option<&'static str>,
    /// Of those that match otherwise, from 1.
    nth: Option<usize>,
}

impl On {
    /// The one with this number.
    pub fn request(number: usize) -> Self {
        On {
            number: Some(number),
            ..On::default()
        }
    }

    /// The one with this number, and all that follow.
    pub fn from(number: usize) -> Self {
        On {
            from: Some(number),
            ..On::default()
        }
    }

    pub fn every(operation: Operation) -> Self {
        On {
            operation: Some(operation),
            ..On::default()
        }
    }

    /// The `nth` from now on, from 1, of those that match.
    pub fn nth(operation: Operation, nth: usize) -> Self {
        On {
            nth: Some(nth),
            ..On::every(operation)
        }
    }

    pub fn key_ends(mut self, end: &'static str) -> Self {
        self.key_ends = Some(end);
        self
    }

    pub fn key_contains(mut self, part: &'static str) -> Self {
        self.key_contains = Some(part);
        self
    }

    /// It does not reach the store, which seems to answer with this status.
    pub fn status(self, status: u16) -> Rule {
        self.with(Fault::Status(status))
    }

    /// It takes effect, and the connection breaks.
    pub fn lose_answer(self) -> Rule {
        self.with(Fault::LoseAnswer)
    }

    /// It takes effect, and something in between answers 500.
    pub fn garble_answer(self) -> Rule {
        self.with(Fault::GarbleAnswer)
    }

    /// The connection breaks in the middle of the request's body.
    pub fn half_body(self) -> Rule {
        self.with(Fault::HalfBody)
    }

    /// The connection breaks after so many bytes of the answer's body.
    pub fn cut_answer(self, after: Place) -> Rule {
        self.with(Fault::CutAnswer { after, told: true })
    }

    /// The answer's body ends after so many bytes as if that were all.
    pub fn shorten_answer(self, after: Place) -> Rule {
        self.with(Fault::CutAnswer { after, told: false })
    }

    /// A bit of this byte of the answer's body is another.
    pub fn flip_bit(self, at: Place) -> Rule {
        self.with(Fault::FlipBit(at))
    }

    /// It does not reach the store, and is never answered.
    pub fn hang(self) -> Rule {
        self.with(Fault::Hang)
    }

    pub fn with(self, fault: Fault) -> Rule {
        Rule {
            on: self,
            fault,
            seen: 0,
        }
    }

    fn matches(&self, request: &Request) -> bool {
        self.number.is_none_or(|number| number == request.number)
            && self.from.is_none_or(|from| from <= request.number)
            && self.operation.is_none_or(|op| op == request.operation)
            && self.key_ends.is_none_or(|end| request.key.ends_with(end))
            && self
                .key_contains
                .is_none_or(|part| request.key.contains(part))
    }
}

/// A place in a body.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Byte(u64),
    Middle,
}

impl Place {
    fn of(self, length: u64) -> u64 {
        match self {
            Place::Byte(byte) => byte,
            Place::Middle => length / 2,
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Status(u16),
    /// The connection is refused, so nothing was sent.
    Refuse,
    /// 400: the credential has expired, says the store.
    Expire,
    LoseAnswer,
    GarbleAnswer,
    /// It takes effect, and is never answered.
    Silence,
    /// The store carries it out twice; the second answer is heard.
    Duplicate,
    /// The connection breaks, and the store carries it out [later](STRAYED), when everybody has
    /// gone on.
    Stray,
    /// The answer comes after that of a later request, or, where there is none, [late](LATE).
    Late,
    /// 200, with an error for a body; whether the store has carried it out.
    ErrorIn200 {
        done: bool,
    },
    HalfBody,
    CutAnswer {
        after: Place,
        told: bool,
    },
    FlipBit(Place),
    Hang,
}

/// How long an answer is late, at most: not yet too late.
pub const LATE: Duration = Duration::from_secs(20);

/// How long a request is on its way that strayed. Longer than any life of the tests.
pub const STRAYED: Duration = Duration::from_secs(600);

/// A fault, and the requests that it strikes.
#[derive(Debug)]
pub struct Rule {
    on: On,
    fault: Fault,
    seen: usize,
}

impl Rule {
    fn strikes(&mut self, request: &Request) -> bool {
        let matches = self.on.matches(request);
        self.seen += usize::from(matches);
        matches && self.on.nth.is_none_or(|nth| nth == self.seen)
    }
}

/// Holds requests until the test lets them go.
#[derive(Clone, Debug)]
pub struct Gate {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    /// Waits until so many more requests stand here.
    pub async fn reached_by(&self, requests: u32) {
        self.arrived.acquire_many(requests).await.unwrap().forget();
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.open.close();
    }

    async fn pass(&self) {
        self.arrived.add_permits(1);
        if let Ok(pass) = self.open.acquire().await {
            pass.forget();
        }
    }
}

/// How the process that uses the wire ends, at the request of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It dies: that request and all later ones are never sent, and nothing is heard any more.
    KilledBefore(usize),
    /// The same, but the store carries this one out.
    KilledAfter(usize),
    /// It lives, but is cut off from the store: that request and all later ones fail.
    CutOffBefore(usize),
}

/// See the top of this file. A clone is the same wire.
#[derive(Clone, Debug)]
pub struct Wire {
    inner: SharedHttpClient,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    turn: Mutex<Turn>,
    dead: watch::Sender<bool>,
    /// The highest number of a request whose answer was heard.
    heard: watch::Sender<usize>,
}

/// What one request after the other sees and changes.
#[derive(Debug, Default)]
struct Turn {
    log: Vec<Request>,
    rules: Vec<Rule>,
    gates: Vec<(Rule, Gate)>,
    end: Option<End>,
    /// Now, and at most.
    in_flight: BTreeMap<Operation, (usize, usize)>,
}

impl State {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap()
    }
}

impl Wire {
    pub fn over(inner: SharedHttpClient) -> Self {
        Wire {
            inner,
            state: Arc::default(),
        }
    }

    /// For the SDK.
    pub fn http_client(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }

    pub fn fault(&self, rule: Rule) {
        self.state.turn().rules.push(rule);
    }

    /// No faults any more.
    pub fn mend(&self) {
        self.state.turn().rules.clear();
    }

    /// The requests stand at the gate before they reach the store.
    pub fn hold(&self, on: On) -> Gate {
        let gate = Gate {
            arrived: Arc::new(Semaphore::new(0)),
            open: Arc::new(Semaphore::new(0)),
        };
        let rule = on.with(Fault::Hang);
        self.state.turn().gates.push((rule, gate.clone()));
        gate
    }

    pub fn end(&self, end: End) {
        self.state.turn().end = Some(end);
    }

    /// Waits until the process is dead, which a test then has to see to.
    pub async fn died(&self) {
        let mut dead = self.state.dead.subscribe();
        dead.wait_for(|dead| *dead).await.unwrap();
    }

    pub fn log(&self) -> Vec<Request> {
        self.state.turn().log.clone()
    }

    pub fn count(&self, operation: Operation) -> usize {
        let log = self.log();
        log.iter().filter(|one| one.operation == operation).count()
    }

    /// How many requests of an operation were under way at the same time, at most. One is under way
    /// until the last byte of its answer was taken.
    pub fn most_in_flight(&self, operation: Operation) -> usize {
        let turn = self.state.turn();
        turn.in_flight.get(&operation).map_or(0, |(_, most)| *most)
    }

    /// Forgets the log.
    pub fn reset(&self) {
        let mut turn = self.state.turn();
        turn.log.clear();
        turn.in_flight
            .values_mut()
            .for_each(|(now, most)| *most = *now);
    }
}

impl HttpClient for Wire {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector {
            inner: self.inner.http_connector(settings, components),
            state: Arc::clone(&self.state),
        })
    }
}

#[derive(Debug)]
struct Connector {
    inner: SharedHttpConnector,
    state: Arc<State>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let under_way = UnderWay::begin(&self.state, &request);
        let inner = self.inner.clone();
        HttpConnectorFuture::new(under_way.carry_out(inner, request))
    }
}

/// One request, from being sent to the last byte of its answer.
struct UnderWay {
    state: Arc<State>,
    operation: Operation,
    number: usize,
    fault: Option<Fault>,
    gate: Option<Gate>,
    end: Option<End>,
}

impl UnderWay {
    fn begin(state: &Arc<State>, request: &HttpRequest) -> Self {
        let path = request
            .uri()
            .split_once('?')
            .map_or(request.uri(), |(path, _)| path);
        // `http://host/bucket/key`
        let key = path.splitn(5, '/').nth(4).unwrap_or_default();
        let operation = Operation::of(request, !key.is_empty());
        let header = |name| request.headers().get(name);
        let length = header("content-length").and_then(|length| length.parse().ok());
        let mut turn = state.turn();
        let number = turn.log.last().map_or(0, |last| last.number) + 1;
        let logged = Request {
            number,
            operation,
            key: key.to_owned(),
            range: header("range").map(str::to_owned),
            sent: length.unwrap_or(0),
            received: 0,
        };
        let (now, most) = turn.in_flight.entry(operation).or_default();
        *now += 1;
        *most = (*most).max(*now);
        // Every rule has to see the request, for the sake of its count.
        let mut fault = None;
        for rule in &mut turn.rules {
            if rule.strikes(&logged) {
                fault = Some(rule.fault);
            }
        }
        let mut gate = None;
        for (rule, held) in &mut turn.gates {
            if rule.strikes(&logged) {
                gate = Some(held.clone());
            }
        }
        let end = turn.end;
        turn.log.push(logged);
        drop(turn);
        UnderWay {
            state: Arc::clone(state),
            operation,
            number,
            fault,
            gate,
            end,
        }
    }

    async fn carry_out(
        self,
        inner: SharedHttpConnector,
        mut request: HttpRequest,
    ) -> Result<HttpResponse, ConnectorError> {
        if let Some(gate) = &self.gate {
            gate.pass().await;
        }
        match self.end {
            Some(End::KilledBefore(number)) if self.number >= number => self.die().await,
            Some(End::KilledAfter(number)) if self.number > number => self.die().await,
            Some(End::CutOffBefore(number)) if self.number >= number => return Err(broken()),
            _ => {}
        }
        match self.fault {
            Some(Fault::Status(status)) => return Ok(refusal(status)),
            Some(Fault::Expire) => return Ok(expired()),
            Some(Fault::Refuse) => return Err(refused()),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::HalfBody) => {
                let body = request.take_body();
                let half = body.content_length().unwrap_or(0) / 2;
                *request.body_mut() = SdkBody::from_body_1_x(HalfBody { body, left: half });
            }
            Some(Fault::Stray) => {
                let strayed = twice(&mut request).await;
                tokio::spawn(async move {
                    tokio::time::sleep(STRAYED).await;
                    // Whatever is answered, nobody is there to hear it.
                    let _ = inner.call(strayed).await;
                });
                return Err(broken());
            }
            Some(Fault::Duplicate) => {
                let first = twice(&mut request).await;
                inner.call(first).await?;
            }
            Some(Fault::ErrorIn200 { done }) => {
                let sent = twice(&mut request).await;
                if done {
                    inner.call(request).await?;
                }
                return Ok(error_in_200(self.operation, sent.body().bytes()));
            }
            _ => {}
        }
        let answer = inner.call(request).await;
        if matches!(self.end, Some(End::KilledAfter(number)) if number == self.number) {
            self.die().await;
        }
        if *self.state.dead.borrow() {
            std::future::pending::<()>().await;
        }
        match self.fault {
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Late) => self.be_late().await,
            _ => {}
        }
        let heard = |most: &mut usize| *most = (*most).max(self.number);
        self.state.heard.send_modify(heard);
        match self.fault {
            Some(Fault::LoseAnswer | Fault::HalfBody) => Err(broken()),
            Some(Fault::GarbleAnswer) => Ok(refusal(500)),
            _ => Ok(self.answer(answer?)),
        }
    }

    async fn be_late(&self) {
        let mut heard = self.state.heard.subscribe();
        let overtaken = heard.wait_for(|heard| *heard > self.number);
        let _ = tokio::time::timeout(LATE, overtaken).await;
    }

    async fn die(&self) {
        self.state.dead.send_replace(true);
        std::future::pending().await
    }

    fn answer(self, answer: HttpResponse) -> HttpResponse {
        let fault = self.fault;
        answer.map_body(|body| {
            let length = body.content_length().unwrap_or(0);
            let (cut, flip) = match fault {
                Some(Fault::CutAnswer { after, told }) => (Some((after.of(length), told)), None),
                Some(Fault::FlipBit(at)) => (None, Some(at.of(length))),
                _ => (None, None),
            };
            SdkBody::from_body_1_x(Answer {
                body,
                taken: 0,
                cut,
                flip,
                under_way: self,
            })
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some((now, _)) = self.state.turn().in_flight.get_mut(&self.operation) {
            *now -= 1;
        }
    }
}

fn broken() -> ConnectorError {
    ConnectorError::io("the connection was broken by the test".into())
}

fn refused() -> ConnectorError {
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    ConnectorError::io(refused.into())
}

/// The same request once more. Both have their body in memory then.
async fn twice(request: &mut HttpRequest) -> HttpRequest {
    let body = request.take_body().collect().await.unwrap().to_bytes();
    *request.body_mut() = SdkBody::from(body);
    request.try_clone().unwrap()
}

trait MapBody {
    fn map_body(self, change: impl FnOnce(SdkBody) -> SdkBody) -> Self;
}

impl MapBody for HttpResponse {
    fn map_body(mut self, change: impl FnOnce(SdkBody) -> SdkBody) -> Self {
        let body = self.take_body();
        *self.body_mut() = change(body);
        self
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The first half of a body, and then an error.
struct HalfBody {
    body: SdkBody,
    left: u64,
}

impl Body for HalfBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            return Poll::Ready(Some(Err("half of it was sent".into())));
        }
        let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(polled.map(|frame| {
            frame.map(|frame| match frame.into_data() {
                Ok(mut bytes) => {
                    bytes.truncate(usize::try_from(self.left).unwrap());
                    self.left -= bytes.len() as u64;
                    Frame::data(bytes)
                }
                Err(other) => other,
            })
        }))
    }
}

/// The body of an answer, counted, and cut or changed on its way.
struct Answer {
    body: SdkBody,
    taken: u64,
    /// After so many bytes; whether that is told as an error.
    cut: Option<(u64, bool)>,
    flip: Option<u64>,
    under_way: UnderWay,
}

impl Answer {
    fn spoil(&mut self, bytes: Bytes) -> Bytes {
        let mut bytes = bytes;
        if let Some((cut, _)) = self.cut {
            bytes.truncate(usize::try_from(cut - self.taken).unwrap());
        }
        let range = self.taken..self.taken + bytes.len() as u64;
        if let Some(at) = self.flip.filter(|at| range.contains(at)) {
            let mut changed = bytes.to_vec();
            changed[usize::try_from(at - range.start).unwrap()] ^= 0x10;
            bytes = changed.into();
        }
        self.taken = range.end;
        let mut turn = self.under_way.state.turn();
        let number = self.under_way.number;
        if let Some(logged) = turn.log.iter_mut().find(|one| one.number == number) {
            logged.received = range.end;
        }
        bytes
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some((cut, told)) = self.cut
            && self.taken >= cut
        {
            let error: BoxError = "the connection was broken by the test".into();
            return Poll::Ready(told.then_some(Err(error)));
        }
        let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(polled.map(|frame| {
            frame.map(|frame| match frame.into_data() {
                Ok(bytes) => Frame::data(self.spoil(bytes)),
                Err(other) => other,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.cut.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.cut {
            Some(_) => SizeHint::default(),
            None => Body::size_hint(&self.body),
        }
    }
}
