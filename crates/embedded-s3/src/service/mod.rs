//! The S3 operations: converts the input types of s3s to ours, and our results to its output types. Other
//! modules decide.

mod bucket;
mod convert;
mod copy;
mod delete;
mod list;
mod object;
mod upload;

use std::sync::Arc;

use s3s::auth::{S3Auth, SecretKey};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{HttpError, HttpRequest, HttpResponse, dto};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::engine::Engine;
use crate::gate;
use crate::quirks::Quirks;
use crate::refusal::Refusal;

/// The `Server` header.
pub(super) const SERVER: &str = "s3layers";

/// The store as a client sees it.
#[derive(Clone, Debug)]
pub(super) struct Service {
    engine: Arc<Engine>,
    quirks: Quirks,
}

/// The service behind both entries: the socket and the connector inside the process.
#[derive(Clone, Debug)]
pub(super) struct HttpService(S3Service);

impl HttpService {
    /// The answer. After an error the connection is closed.
    pub(super) async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        if let Err(refusal) = gate::check(&head) {
            return answer(refusal);
        }
        self.0.call(http::Request::from_parts(head, body)).await
    }
}

/// The answer to a request that is refused before its operation.
pub(super) fn answer(refusal: Refusal) -> Result<HttpResponse, HttpError> {
    let answer = S3Error::from(refusal).to_http_response();
    answer.map_err(|error| HttpError::new(error.into()))
}

/// Over this engine.
pub(super) fn build(
    engine: Arc<Engine>,
    quirks: Quirks,
    access_key: &str,
    secret_key: SecretKey,
) -> HttpService {
    let mut builder = S3ServiceBuilder::new(Service { engine, quirks });
    builder.set_host(Hosts);
    builder.set_auth(OneKey {
        access_key: access_key.to_owned(),
        secret_key,
    });
    HttpService(builder.build())
}

/// The one pair of keys.
struct OneKey {
    access_key: String,
    secret_key: SecretKey,
}

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            return Ok(self.secret_key.clone());
        }
        Err(S3Error::with_message(
            S3ErrorCode::InvalidAccessKeyId,
            "The access key does not exist in this store.",
        ))
    }
}

/// Domains below which the first labels are a bucket.
struct Hosts;

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        Ok(match bucket_in(host) {
            Some(bucket) => VirtualHost::new(host).with_bucket(bucket),
            None => VirtualHost::new(host),
        })
    }
}

/// `BUCKET.s3.REGION.amazonaws.com`, and `BUCKET.localhost`, which every machine resolves to itself.
fn bucket_in(host: &str) -> Option<&str> {
    let name = host.split_once(':').map_or(host, |(name, _port)| name);
    let bucket = match name.rsplit_once(".s3.") {
        Some((bucket, domain)) => Some(bucket).filter(|_| domain.ends_with("amazonaws.com")),
        None => name.strip_suffix(".localhost"),
    };
    bucket.filter(|bucket| !bucket.is_empty())
}

/// Passes each operation to the function of its name: its input, or the whole request.
macro_rules! operations {
    ($($name:ident($argument:ident): $input:ident -> $output:ident in $module:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Service {
            $(async fn $name(&self, request: S3Request<dto::$input>) -> S3Result<S3Response<dto::$output>> {
                let output = $module::$name(self, operations!($argument of request)).await?;
                Ok(S3Response::new(output))
            })*
        }
    };
    (input of $request:ident) => { $request.input };
    (request of $request:ident) => { $request };
}

operations! {
    create_bucket(input): CreateBucketInput -> CreateBucketOutput in bucket;
    delete_bucket(input): DeleteBucketInput -> DeleteBucketOutput in bucket;
    get_bucket_location(input): GetBucketLocationInput -> GetBucketLocationOutput in bucket;
    get_bucket_versioning(input): GetBucketVersioningInput -> GetBucketVersioningOutput in bucket;
    head_bucket(input): HeadBucketInput -> HeadBucketOutput in bucket;
    list_buckets(input): ListBucketsInput -> ListBucketsOutput in bucket;
    put_object(request): PutObjectInput -> PutObjectOutput in object;
    get_object(input): GetObjectInput -> GetObjectOutput in object;
    head_object(input): HeadObjectInput -> HeadObjectOutput in object;
    delete_object(input): DeleteObjectInput -> DeleteObjectOutput in delete;
    delete_objects(request): DeleteObjectsInput -> DeleteObjectsOutput in delete;
    copy_object(input): CopyObjectInput -> CopyObjectOutput in copy;
    upload_part_copy(input): UploadPartCopyInput -> UploadPartCopyOutput in copy;
    create_multipart_upload(input): CreateMultipartUploadInput -> CreateMultipartUploadOutput in upload;
    upload_part(request): UploadPartInput -> UploadPartOutput in upload;
    complete_multipart_upload(input): CompleteMultipartUploadInput -> CompleteMultipartUploadOutput in upload;
    abort_multipart_upload(input): AbortMultipartUploadInput -> AbortMultipartUploadOutput in upload;
    list_parts(input): ListPartsInput -> ListPartsOutput in list;
    list_multipart_uploads(input): ListMultipartUploadsInput -> ListMultipartUploadsOutput in list;
    list_objects(input): ListObjectsInput -> ListObjectsOutput in list;
    list_objects_v2(input): ListObjectsV2Input -> ListObjectsV2Output in list;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_in_hosts() {
        for (host, want) in [
            ("layers.s3.eu-west-1.amazonaws.com", Some("layers")),
            ("a.b.s3.us-east-1.amazonaws.com:443", Some("a.b")),
            ("layers.s3.amazonaws.com", Some("layers")),
            ("layers.localhost:9000", Some("layers")),
            ("s3.eu-west-1.amazonaws.com", None),
            ("layers.s3.example.com", None),
            ("localhost:9000", None),
            ("127.0.0.1:9000", None),
            ("[::1]:9000", None),
            ("embedded", None),
        ] {
            assert_eq!(bucket_in(host), want, "{host}");
        }
    }
}
