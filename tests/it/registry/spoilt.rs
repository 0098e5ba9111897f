//! A client pushes an image of 12 MiB as docker does, and pulls it; each request that the registry
//! makes of its store goes wrong in turn. The client sees no error, and gets the bytes back.
//!
//! Each request is struck by every third of the faults, or with `S3LAYERS_FAULTS=full` by all.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use s3layers_registry::{Options, Registry, router};

use crate::support::bytes::{MIB, ramp, sha256};
use crate::support::fault_client::{
    CreateMultipartUpload, Fault, GetObject, HeadObject, ListMultipartUploads, ListObjectsV2,
    ListParts, On, Position, Request as Asked, Then,
};
use crate::support::{bucket, cases, stores};

const FAULTS: [Fault; 7] = [
    Fault::Status(500),
    Fault::Status(503),
    Fault::LoseAnswer,
    Fault::GarbleAnswer,
    Fault::HalfBody,
    Fault::CutAnswer {
        after: Position::Middle,
        then: Then::Breaks,
    },
    Fault::Duplicate,
];

/// Whether the fault differs from others at this request.
fn applies(fault: Fault, asked: &Asked) -> bool {
    let reads = matches!(
        asked.operation,
        GetObject | HeadObject | ListObjectsV2 | ListParts | ListMultipartUploads
    );
    match fault {
        Fault::LoseAnswer | Fault::GarbleAnswer => !reads,
        Fault::HalfBody => asked.sent > 0,
        Fault::CutAnswer { .. } => asked.received > 0,
        // See "What is known not to hold".
        Fault::Duplicate => !reads && asked.operation != CreateMultipartUpload,
        _ => true,
    }
}

/// A client that gives up at the first answer it did not want.
struct Client<'a>(&'a Registry);

impl Client<'_> {
    /// `Location`, and the body.
    async fn ask(
        &self,
        method: &str,
        uri: &str,
        body: Bytes,
        expected: u16,
    ) -> Result<(String, Bytes), String> {
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let request = Request::builder().method(method).uri(uri);
        let request = request.header("content-type", media_type);
        self.send(request.body(Full::new(body)).unwrap(), expected)
            .await
    }

    /// The body is sent in chunks, without a length.
    async fn patch(&self, uri: &str, body: &Bytes) -> Result<String, String> {
        let pieces = body.chunks(100_000).map(|piece| body.slice_ref(piece));
        let frames: Vec<_> = pieces
            .map(|piece| Ok::<_, String>(Frame::data(piece)))
            .collect();
        let body = StreamBody::new(stream::iter(frames));
        let request = Request::builder().method("PATCH").uri(uri);
        let sent = self.send(request.body(body).unwrap(), 202).await?;
        Ok(sent.0)
    }

    async fn send<B>(&self, request: Request<B>, expected: u16) -> Result<(String, Bytes), String>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<s3layers_registry::BodyError>,
    {
        let asked = format!("{} {}", request.method(), request.uri());
        let (head, body) = self.0.handle(request).await.into_parts();
        let body = body.collect().await;
        let body = body
            .map_err(|error| format!("{asked}: {error}"))?
            .to_bytes();
        if head.status.as_u16() != expected {
            return Err(format!("{asked}: {}: {body:?}", head.status));
        }
        let location = head.headers.get("location").map(|at| at.to_str().unwrap());
        let path = location.map(|at| at[at.find("/v2/").unwrap()..].to_owned());
        Ok((path.unwrap_or_default(), body))
    }

    async fn blob(&self, bytes: &Bytes) -> Result<(), String> {
        let digest = sha256(bytes);
        let blob = format!("/v2/library/demo/blobs/{digest}");
        self.ask("HEAD", &blob, Bytes::new(), 404).await?;
        let uploads = "/v2/library/demo/blobs/uploads/";
        let (at, _) = self.ask("POST", uploads, Bytes::new(), 202).await?;
        let at = self.patch(&at, bytes).await?;
        let end = format!("{at}&digest={digest}");
        self.ask("PUT", &end, Bytes::new(), 201).await?;
        self.ask("HEAD", &blob, Bytes::new(), 200).await?;
        Ok(())
    }

    async fn push(&self, layer: &Bytes) -> Result<(), String> {
        let config = Bytes::from_static(b"{}");
        let (of_layer, of_config) = (sha256(layer), sha256(&config));
        self.blob(layer).await?;
        self.blob(&config).await?;
        let size = layer.len();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{of_config}","size":2}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{of_layer}","size":{size}}}]}}"#
        );
        let tag = "/v2/library/demo/manifests/latest";
        let manifest = Bytes::from(manifest);
        self.ask("PUT", tag, manifest.clone(), 201).await?;
        // What was done a moment ago is answered from memory.
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        let (_, got) = self.ask("GET", tag, Bytes::new(), 200).await?;
        let blob = format!("/v2/library/demo/blobs/{of_layer}");
        let (_, back) = self.ask("GET", &blob, Bytes::new(), 200).await?;
        if got == manifest && back == *layer {
            Ok(())
        } else {
            Err("other bytes came back".to_owned())
        }
    }
}

fn play(layer: &Bytes, fault: Option<(&Asked, Fault)>) -> Result<Vec<Asked>, String> {
    cases::runtime().block_on(async {
        let (store, wire) = stores::with_wire().await;
        if let Some((asked, fault)) = fault {
            wire.fault(On::request(asked.number).with(fault));
        }
        let service = stores::connect(&store, &wire).await;
        let registry = router(Arc::new(service), Options::default());
        Client(&registry).push(layer).await?;
        registry.settled().await;
        let log = wire.log();
        let client = stores::sdk_client(&store);
        let left = bucket::keys(&client).await;
        let over = |key: &&String| key.starts_with("uploads/") || key.contains("_claims");
        let left = left.iter().filter(over).cloned();
        let left: Vec<_> = left.chain(bucket::multiparts(&client).await).collect();
        if left.is_empty() {
            Ok(log)
        } else {
            Err(format!("left over: {left:?}"))
        }
    })
}

#[test]
fn no_fault_at_any_request_to_the_store_reaches_the_client_of_a_push() {
    let layer = ramp(3, 12 * MIB);
    let mut cases = Vec::new();
    for asked in play(&layer, None).unwrap() {
        for (place, fault) in FAULTS.into_iter().enumerate() {
            let is_tried = cases::is_full() || (asked.number + place).is_multiple_of(3);
            if is_tried && applies(fault, &asked) {
                cases.push((asked.clone(), fault));
            }
        }
    }
    cases::all(
        "spoilt pushes",
        &cases,
        |(asked, fault)| format!("{fault:?} at {asked}"),
        |(asked, fault)| play(&layer, Some((asked, *fault))).map(drop),
    );
}
