//! A request, as decoded from its HTTP message.

use std::fmt;

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;

use self::Operation::*;

/// The S3 operation of a request, from its method, query and headers.
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

impl Request {
    pub(super) fn of(request: &HttpRequest, number: usize) -> Self {
        let path = request
            .uri()
            .split_once('?')
            .map_or(request.uri(), |(path, _)| path);
        // `http://host/bucket/key`
        let key = path.splitn(5, '/').nth(4).unwrap_or_default();
        let header = |name| request.headers().get(name);
        let length = header("content-length").and_then(|length| length.parse().ok());
        Request {
            number,
            operation: Operation::of(request, !key.is_empty()),
            key: key.to_owned(),
            range: header("range").map(str::to_owned),
            sent: length.unwrap_or(0),
            received: 0,
        }
    }
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
