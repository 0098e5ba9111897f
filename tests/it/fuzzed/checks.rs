//! Properties that hold for all bytes, as functions that panic otherwise: for the targets of
//! `fuzz/`, and for `mod.rs`, which calls them within `cargo test`.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use bytes::Bytes;
use embedded_s3::EmbeddedStore;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use s3layers::{
    Algorithm, Digest, Error, LayerId, LayerService as _, LayerServiceExt as _, MemoryLayerService,
    RepositoryName, S3Config, S3LayerService, StoreProfile, Tag, TarSum, client_over,
};
use s3layers_registry::{Manifest, Options, Registry, RepositoryService, router};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

/// One thread, and a clock that jumps over every wait.
fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap()
}

fn name() -> RepositoryName {
    "library/demo".parse().unwrap()
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

/// The names of repositories and tags: what is taken is written as it was read, and leads nowhere
/// else when it is a part of a key.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<RepositoryName>() {
        Ok(name) => {
            assert_eq!(name.to_string(), text);
            assert!(text.len() <= 255);
            let is_plain = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric());
            assert!(text.split('/').all(is_plain), "{text:?}");
        }
        Err(error) => short(&error, text),
    }
    match text.parse::<Tag>() {
        Ok(tag) => {
            assert_eq!(tag.to_string(), text);
            assert!(text.len() <= 128 && !text.starts_with('.') && !text.contains('/'));
        }
        Err(error) => short(&error, text),
    }
}

/// Digests, TarSums and ids: what is taken is read back from how it is written, which is short
/// and plain.
pub fn ids(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<Digest>() {
        Ok(digest) => {
            assert_eq!(digest.to_string(), text);
            assert!(digest.hex().len() >= 64);
        }
        Err(error) => short(&error, text),
    }
    match text.parse::<TarSum>() {
        Ok(sum) => assert_eq!(sum.to_string().parse::<TarSum>().as_ref(), Ok(&sum)),
        Err(error) => short(&error, text),
    }
    match text.parse::<LayerId>() {
        Ok(id) => {
            let written = id.to_string();
            assert_eq!(written.parse::<LayerId>().as_ref(), Ok(&id));
            let is_plain = |c: char| c.is_ascii_graphic() && c != '/';
            assert!(written.chars().all(is_plain), "{written:?}");
        }
        Err(error) => short(&error, text),
    }
}

/// What is said of a text grows with the text, and no faster than each byte can be escaped.
fn short(error: &dyn std::error::Error, text: &str) {
    let said = error.to_string().len();
    assert!(said <= 1000 + 10 * text.len(), "{said} of {}", text.len());
}

/// The layer that a registry or a store of these checks has.
pub fn layer() -> Bytes {
    (0..20_000_u32).map(|n| (n * 7 % 251) as u8).collect()
}

/// An answer, whole, and never a failure of the server's.
async fn answered(registry: &Registry, request: Request<Full<Bytes>>) -> (u16, HeaderMap, Bytes) {
    let request_line = format!("{} {}", request.method(), request.uri());
    let response = registry.handle(request).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole answer").to_bytes();
    let status = head.status.as_u16();
    assert!(status < 500, "{request_line}: {status}: {body:?}");
    assert!(body.len() < 1 << 20, "{request_line}: {} bytes", body.len());
    (status, head.headers, body)
}

/// An empty body, and these headers.
fn request(method: &str, uri: &str, headers: &[(&str, &[u8])]) -> Option<Request<Full<Bytes>>> {
    request_with(method, uri, headers, Bytes::new())
}

fn request_with(
    method: &str,
    uri: &str,
    headers: &[(&str, &[u8])],
    body: Bytes,
) -> Option<Request<Full<Bytes>>> {
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::new(body)).ok()
}

/// `Location` without scheme and host.
fn location(headers: &HeaderMap) -> Option<String> {
    let location = headers.get("location")?.to_str().ok()?;
    Some(location[location.find("/v2/")?..].to_owned())
}

/// The bytes that a `Content-Range` names.
fn part(range: &str) -> RangeInclusive<usize> {
    let range = range.strip_prefix("bytes ").unwrap();
    let range = range.strip_suffix("/20000").unwrap();
    let (first, last) = range.split_once('-').unwrap();
    first.parse().unwrap()..=last.parse().unwrap()
}

/// Each part has the bytes that it names, and they are in order.
fn check_parts(content_type: &str, body: &[u8], layer: &Bytes) {
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=");
    let delimiter = format!("--{}", boundary.unwrap());
    let (mut rest, mut before) = (body, None);
    loop {
        rest = rest.strip_prefix(delimiter.as_bytes()).unwrap();
        if rest == b"--\r\n" {
            return;
        }
        let (head, after) = cut(rest, b"\r\n\r\n");
        let (_, range) = std::str::from_utf8(head)
            .unwrap()
            .rsplit_once(": ")
            .unwrap();
        let part = part(range);
        assert!(before < Some(*part.start()), "{part:?}");
        before = Some(*part.end());
        let (bytes, after) = after.unwrap().split_at(part.clone().count());
        assert_eq!(bytes, &layer[part]);
        rest = after.strip_prefix(b"\r\n").unwrap();
    }
}

/// The values of `Range` and `Content-Range`, a line each: what is answered are the bytes that the
/// answer names, and an upload has the bytes that were acknowledged.
pub fn ranges(bytes: &[u8]) {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let [range, content_range, condition] = [(); 3].map(|()| lines.next().unwrap_or_default());
    let service = MemoryLayerService::new();
    let layer = layer();
    let digest = sha256(&layer);
    runtime().block_on(async {
        service.push(&name(), &mut &layer[..]).await.unwrap();
        let registry = router(Arc::new(service), Options::default());
        let blob = format!("/v2/library/demo/blobs/{digest}");
        let headers = [("range", range), ("if-range", condition)];
        let given = 1 + usize::from(!condition.is_empty());
        if let Some(request) = request("GET", &blob, &headers[..given]) {
            let (status, headers, body) = answered(&registry, request).await;
            match status {
                200 => assert_eq!(body, layer),
                206 => match headers.get("content-range") {
                    Some(range) => {
                        assert_eq!(body, layer.slice(part(range.to_str().unwrap())));
                    }
                    None => {
                        let content_type = headers["content-type"].to_str().unwrap();
                        check_parts(content_type, &body, &layer);
                    }
                },
                400 | 416 => {}
                status => panic!("{status}"),
            }
        }
        let begin = request("POST", "/v2/library/demo/blobs/uploads/", &[]).unwrap();
        let at = location(&answered(&registry, begin).await.1).unwrap();
        let headers = [("content-range", content_range)];
        let body = Bytes::from_static(b"ten bytes.");
        let Some(patch) = request_with("PATCH", &at, &headers, body) else {
            return;
        };
        let taken = match answered(&registry, patch).await.0 {
            202 => "0-9",
            400 | 416 => "0-0",
            status => panic!("{status}"),
        };
        let ask = request("GET", &at, &[]).unwrap();
        let (status, headers, _) = answered(&registry, ask).await;
        assert_eq!(
            (status, headers["range"].as_bytes()),
            (204, taken.as_bytes())
        );
    });
}

/// Requests as text, one after the other: no failure of the server, and the layer stays as it is.
/// `{layer}` and `{location}` stand for what there is.
pub fn requests(bytes: &[u8]) {
    let service = MemoryLayerService::new();
    runtime().block_on(run_requests(Arc::new(service), bytes));
}

/// Plays the requests to a registry over this service.
pub async fn run_requests(service: Arc<dyn RepositoryService>, bytes: &[u8]) {
    const MOST: usize = 12;
    let layer = layer();
    let digest = sha256(&layer);
    let mut upload = service.upload(&name(), None).await.unwrap();
    upload.write_bytes(layer.clone()).await.unwrap();
    upload.finish(20_000, &digest).await.unwrap();
    let registry = router(service, Options::default());
    let mut at = String::new();
    let mut rest = bytes;
    for _ in 0..MOST {
        let (one, more) = cut(rest, b"\n---\n");
        if let Some(request) = parsed(one, &digest, &at) {
            let (_, headers, _) = answered(&registry, request).await;
            at = location(&headers).unwrap_or(at);
        }
        match more {
            Some(more) => rest = more,
            None => break,
        }
    }
    let blob = format!("/v2/library/demo/blobs/{digest}");
    let get = request("GET", &blob, &[]).unwrap();
    match answered(&registry, get).await {
        (200, _, body) => assert_eq!(body, layer),
        (404, ..) => {}
        (status, ..) => panic!("{status}"),
    }
    registry.settled().await;
}

fn cut<'a>(bytes: &'a [u8], mark: &[u8]) -> (&'a [u8], Option<&'a [u8]>) {
    match bytes.windows(mark.len()).position(|here| here == mark) {
        Some(at) => (&bytes[..at], Some(&bytes[at + mark.len()..])),
        None => (bytes, None),
    }
}

/// `METHOD PATH`, a header a line, an empty line, the body. `None` where no server would have
/// read it as a request.
fn parsed(bytes: &[u8], layer: &Digest, at: &str) -> Option<Request<Full<Bytes>>> {
    let (head, body) = cut(bytes, b"\n\n");
    let head = String::from_utf8_lossy(head);
    let head = head
        .replace("{layer}", &layer.to_string())
        .replace("{location}", at);
    let mut lines = head.lines();
    let (method, uri) = lines.next()?.split_once(' ')?;
    let headers: Vec<(&str, &[u8])> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name, value.as_bytes()))
        .collect();
    let body = match std::str::from_utf8(body.unwrap_or_default()) {
        Ok(text) => text.replace("{layer}", &layer.to_string()).into(),
        Err(_) => Bytes::copy_from_slice(body.unwrap_or_default()),
    };
    request_with(method, uri, &headers, body)
}

/// The documents that can be another.
const DOCUMENTS: [&str; 5] = ["session", "record", "link", "manifest", "tag"];

/// Members whose values only one store knows.
const MEMBERS: [&str; 5] = ["upload", "uuid", "name", "etag", "nonce"];

/// A store with a layer, a manifest and a tag, and an upload under way.
struct Stage {
    // Its client lives as long as it does.
    _store: EmbeddedStore,
    client: Client,
    /// Another process than the one that wrote all this: it remembers nothing.
    service: S3LayerService,
    layer: Bytes,
    manifest: Manifest,
    tag: Tag,
    uuid: Uuid,
}

impl Stage {
    async fn new() -> Self {
        let store = EmbeddedStore::in_memory();
        store.create_bucket("layers").await.unwrap();
        let keys = (store.access_key(), store.secret_key());
        let client = client_over(store.http_client(), "http://embedded", keys.0, keys.1);
        let config = S3Config::new("layers").profile(StoreProfile::AWS);
        let connect = || S3LayerService::connect(client.clone(), config.clone());
        let service = connect().await.unwrap();
        let layer = layer();
        service.push(&name(), &mut &layer[..]).await.unwrap();
        let manifest = manifest();
        service.put_manifest(&name(), &manifest).await.unwrap();
        let tag: Tag = "latest".parse().unwrap();
        let tagged = service.put_tag(&name(), &tag, &manifest.digest).await;
        tagged.unwrap();
        let mut upload = service.upload(&name(), None).await.unwrap();
        upload.write_bytes(layer.slice(..100)).await.unwrap();
        upload.close().await.unwrap();
        let uuid = upload.uuid();
        Stage {
            _store: store,
            service: connect().await.unwrap(),
            client,
            layer,
            manifest,
            tag,
            uuid,
        }
    }

    /// Where a document is.
    fn key(&self, what: &str) -> Option<String> {
        let layer = sha256(&self.layer);
        let (layer, manifest) = (layer.hex(), self.manifest.digest.hex());
        let root = "repositories/library/demo";
        Some(match what {
            "session" => format!("uploads/{}/session", self.uuid),
            "record" => format!("layers/sha256/{}/{layer}", &layer[..2]),
            "link" => format!("{root}/_layers/sha256/{layer}"),
            "manifest" => format!("{root}/_manifests/sha256/{manifest}"),
            "tag" => format!("{root}/_tags/{}", self.tag),
            _ => return None,
        })
    }

    async fn get(&self, key: &str) -> String {
        let get = self.client.get_object().bucket("layers").key(key);
        let body = get.send().await.unwrap().body.collect().await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    async fn put(&self, key: &str, bytes: Bytes) {
        let put = self.client.put_object().bucket("layers").key(key);
        put.body(bytes.into()).send().await.unwrap();
    }

    /// Does all that reads a document.
    async fn look(&self) {
        let (service, layer, manifest) = (&self.service, &self.layer, &self.manifest);
        let id = LayerId::from(sha256(layer));
        for fetched in [service.fetch(&id).await, service.layer(&name(), &id).await] {
            let Ok(mut fetched) = fetched else { continue };
            let mut got = Vec::new();
            let read = tokio::io::AsyncReadExt::read_to_end(&mut fetched, &mut got).await;
            assert!(layer.starts_with(&got), "wrong bytes");
            assert!(read.is_err() || got == *layer, "an early end");
        }
        let _ = service.tag(&name(), &self.tag).await;
        if let Ok(Some(found)) = service.manifest(&name(), &manifest.digest).await {
            assert_eq!(found.bytes, manifest.bytes);
        }
        if let Ok(mut upload) = service.resume(&name(), None, self.uuid).await {
            let offset = upload.offset().min(20_000) as usize;
            let _ = upload.write_bytes(layer.slice(offset..)).await;
            match upload.finish(20_000, &sha256(layer)).await {
                Ok(finished) => assert_eq!(finished.size(), 20_000),
                Err(error) => drop::<Error>(error),
            }
        }
        let _ = service.mount(&"a/b".parse().unwrap(), &id, None).await;
        let _ = crate::support::stores::swept(service, Duration::ZERO, false).await;
        let _ = service.delete_manifest(&name(), &manifest.digest).await;
        let _ = service.unlink(&name(), &id).await;
    }
}

/// A stored document that is another: the first line says which. Nothing panics on it,
/// and no wrong byte is handed out. Its seal is put right, or nothing behind it would be reached.
pub fn documents(bytes: &[u8]) {
    let (what, document) = cut(bytes, b"\n");
    runtime().block_on(async {
        let stage = Stage::new().await;
        let Some(key) = std::str::from_utf8(what)
            .ok()
            .and_then(|what| stage.key(what))
        else {
            return;
        };
        let there = stage.get(&key).await;
        let document = filled(document.unwrap_or_default(), &there);
        stage.put(&key, document).await;
        stage.look().await;
    });
}

/// The documents as they are, in the form that [`documents`] takes.
pub fn seeds_of_documents() -> Vec<Vec<u8>> {
    runtime().block_on(async {
        let stage = Stage::new().await;
        let mut seeds = Vec::new();
        for what in DOCUMENTS {
            let mut text = stage.get(&stage.key(what).unwrap()).await;
            for member in MEMBERS {
                if let Some(value) = value_of(&text, member) {
                    text = text.replace(&value, &format!("{{{member}}}"));
                }
            }
            seeds.push(format!("{what}\n{text}").into_bytes());
        }
        seeds
    })
}

fn manifest() -> Manifest {
    let bytes = Bytes::from_static(b"{\"a\":\"manifest\"}");
    Manifest {
        digest: sha256(&bytes),
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        bytes,
        subject: None,
        artifact_type: None,
        annotations: [("key".to_owned(), "value".to_owned())].into(),
    }
}

/// A member of a document that is a text.
fn value_of(document: &str, member: &str) -> Option<String> {
    let (_, rest) = document.split_once(&format!("\"{member}\":\""))?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// The document with what only this store knows, as `{member}`, taken from the one that is there;
/// and with a seal that is right.
fn filled(document: &[u8], there: &str) -> Bytes {
    let Ok(text) = std::str::from_utf8(document) else {
        return Bytes::copy_from_slice(document);
    };
    let mut text = text.to_owned();
    for member in MEMBERS {
        if let Some(value) = value_of(there, member) {
            text = text.replace(&format!("{{{member}}}"), &value);
        }
    }
    if let Some((body, _)) = text.split_once(",\"seal\"") {
        let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, body.as_bytes());
        text = format!("{body},\"seal\":\"crc64nvme:{sum:016x}\"}}");
    }
    text.into()
}
