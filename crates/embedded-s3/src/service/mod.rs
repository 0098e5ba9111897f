//! The S3 operations, as s3s hands them over: what is asked, put into our words, and the answer,
//! put into S3's. The decisions are made elsewhere.

mod bucket;
mod convert;
mod copy;
mod delete;
mod host;
mod list;
mod object;
mod upload;

use std::sync::Arc;

use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{HttpError, HttpRequest, HttpResponse, dto};
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::engine::Engine;
use crate::gate;
use crate::quirks::Quirks;
use crate::refusal::Refusal;

/// The store as a client sees it.
#[derive(Clone, Debug)]
pub(super) struct Service {
    engine: Arc<Engine>,
    quirks: Quirks,
}

/// The service behind both entries: the socket and the connector inside the process.
#[derive(Clone, Debug)]
pub(super) struct Door(S3Service);

impl Door {
    /// The answer. An error is no answer: the connection ends.
    pub(super) async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        if let Err(refusal) = gate::check(&head) {
            return answer(refusal);
        }
        self.0.call(http::Request::from_parts(head, body)).await
    }
}

/// A refusal that S3's operations had no part in.
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
) -> Door {
    let mut builder = S3ServiceBuilder::new(Service { engine, quirks });
    builder.set_host(host::Hosts);
    builder.set_auth(OneKey {
        access_key: access_key.to_owned(),
        secret_key,
    });
    Door(builder.build())
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

/// Hands each operation to the function of its name.
macro_rules! operations {
    ($($name:ident: $input:ident -> $output:ident in $module:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Service {
            $(async fn $name(&self, request: S3Request<dto::$input>) -> S3Result<S3Response<dto::$output>> {
                Ok($module::$name(self, request).await?)
            })*
        }
    };
}

operations! {
    create_bucket: CreateBucketInput -> CreateBucketOutput in bucket;
    delete_bucket: DeleteBucketInput -> DeleteBucketOutput in bucket;
    get_bucket_location: GetBucketLocationInput -> GetBucketLocationOutput in bucket;
    head_bucket: HeadBucketInput -> HeadBucketOutput in bucket;
    list_buckets: ListBucketsInput -> ListBucketsOutput in bucket;
    put_object: PutObjectInput -> PutObjectOutput in object;
    get_object: GetObjectInput -> GetObjectOutput in object;
    head_object: HeadObjectInput -> HeadObjectOutput in object;
    delete_object: DeleteObjectInput -> DeleteObjectOutput in delete;
    delete_objects: DeleteObjectsInput -> DeleteObjectsOutput in delete;
    copy_object: CopyObjectInput -> CopyObjectOutput in copy;
    upload_part_copy: UploadPartCopyInput -> UploadPartCopyOutput in copy;
    create_multipart_upload: CreateMultipartUploadInput -> CreateMultipartUploadOutput in upload;
    upload_part: UploadPartInput -> UploadPartOutput in upload;
    complete_multipart_upload: CompleteMultipartUploadInput -> CompleteMultipartUploadOutput in upload;
    abort_multipart_upload: AbortMultipartUploadInput -> AbortMultipartUploadOutput in upload;
    list_parts: ListPartsInput -> ListPartsOutput in list;
    list_multipart_uploads: ListMultipartUploadsInput -> ListMultipartUploadsOutput in list;
    list_objects: ListObjectsInput -> ListObjectsOutput in list;
    list_objects_v2: ListObjectsV2Input -> ListObjectsV2Output in list;
}
