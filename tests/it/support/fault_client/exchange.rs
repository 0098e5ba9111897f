//! One request on its way over the wire, and what happens to it there.

use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt as _;

use super::bodies::{Answer, HalfBody};
use super::refusals::{error_in_200, expired, refusal};
use super::request::{Operation, Request};
use super::rules::{Fault, LATE, STRAYED, Then};
use super::{End, Gate, State};

/// One request, from being sent to the last byte of its answer.
pub(super) struct Exchange {
    state: Arc<State>,
    operation: Operation,
    number: usize,
    fault: Option<Fault>,
    gate: Option<Gate>,
    end: Option<End>,
}

impl Exchange {
    pub(super) fn begin(state: &Arc<State>, request: &HttpRequest) -> Self {
        let mut turn = state.turn();
        let number = turn.log.last().map_or(0, |last| last.number) + 1;
        let logged = Request::of(request, number);
        let operation = logged.operation;
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
        Exchange {
            state: Arc::clone(state),
            operation,
            number,
            fault,
            gate,
            end,
        }
    }

    pub(super) async fn carry_out(
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
                    // The process is dead, so no answer is delivered.
                    let _ = inner.call(strayed).await;
                });
                return Err(broken());
            }
            Some(Fault::Duplicate | Fault::LateDuplicate) => {
                let first = twice(&mut request).await;
                inner.call(first).await?;
                if matches!(self.fault, Some(Fault::LateDuplicate)) {
                    tokio::time::sleep(LATE).await;
                }
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

    /// So many bytes of the answer's body were taken off the wire by now.
    pub(super) fn log_received(&self, bytes: u64) {
        let mut turn = self.state.turn();
        if let Some(logged) = turn.log.iter_mut().find(|one| one.number == self.number) {
            logged.received = bytes;
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

    fn answer(self, mut answer: HttpResponse) -> HttpResponse {
        let fault = self.fault;
        if let Some(Fault::Header(name, value)) = fault {
            answer.headers_mut().insert(name, value);
        }
        if let Some(Fault::CutAnswer {
            then: Then::Ends, ..
        }) = fault
            && self.operation != Operation::GetObject
        {
            // As of a proxy that ends an XML document by closing the connection.
            answer.headers_mut().remove("content-length");
        }
        answer.map_body(|body| {
            let length = body.content_length().unwrap_or(0);
            let (cut, flip) = match fault {
                Some(Fault::CutAnswer { after, then }) => (Some((after.of(length), then)), None),
                Some(Fault::FlipBit(at)) => (None, Some(at.of(length))),
                _ => (None, None),
            };
            SdkBody::from_body_1_x(Answer {
                body,
                taken: 0,
                cut,
                flip,
                exchange: self,
            })
        })
    }
}

impl Drop for Exchange {
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
