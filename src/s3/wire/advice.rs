//! What would make a request succeed, where the answer or its lack says so.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::ConnectorError;
use rustls::CertificateError;

use crate::s3::wire::dispatch::{cause, causes, judge_proxy, speaks_no_http, speaks_no_tls};
use crate::s3::wire::https::{has_proxy, has_proxy_of_plain_http};
use crate::s3::wire::verdict::{Verdict, judge};
use crate::telemetry::Operation;

const TRY_TLS: &str = "if the store speaks TLS on this port, its URL begins with https://";

const NOT_S3: &str = "the answer is not one of S3: check whether the URL of the store, or HTTP_PROXY, names a web server";
const WRONG_SETTINGS: &str = "check --endpoint-url, --region, AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT, \
     and the same settings of the profile";

const WRONG_PROXY: &str = "the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names does not connect to the store: check its \
     address, which has to begin with http:// or https://, and the user and the password in it, or except the store in NO_PROXY";
const ABSENT_PROXY: &str = "if this was a connection to the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names, check its \
     address, or except the store in NO_PROXY";

/// The advice for one failed attempt.
pub(super) fn advice<E: ProvideErrorMetadata>(
    operation: Operation,
    error: &SdkError<E, HttpResponse>,
    verdict: Verdict,
) -> Option<String> {
    match error {
        SdkError::ServiceError(answer) => of_answer(operation, answer.raw(), answer.err().code()),
        SdkError::ResponseError(answer) => of_answer(operation, answer.raw(), None),
        SdkError::DispatchFailure(failure) => {
            let error = failure.as_connector_error()?;
            let advice = match judge_proxy(error) {
                Some(_) => Some(WRONG_PROXY),
                None if verdict == Verdict::WrongSettings => Some(WRONG_SETTINGS),
                None => of_silence(error).or_else(|| of_proxy(error)),
            };
            advice.map(str::to_owned)
        }
        SdkError::TimeoutError(_) if has_proxy() => Some(ABSENT_PROXY.to_owned()),
        _ => None,
    }
}

fn of_answer(operation: Operation, answer: &HttpResponse, code: Option<&str>) -> Option<String> {
    let status = answer.status().as_u16();
    if let Some(region) = region(answer, code) {
        return Some(format!(
            "the bucket is in the region {region}: name it with --region or AWS_REGION"
        ));
    }
    let text = match (status, code.unwrap_or_default()) {
        (_, "RequestTimeTooSkewed") => {
            "set the clock of this machine: the store's is more than 15 minutes away"
        }
        (_, "ExpiredToken" | "TokenRefreshRequired") => "the session token has expired: renew it",
        (_, "InvalidObjectState") => {
            "the object is archived: restore it, and remove the rule that archives what is below the root"
        }
        // HEAD has no body for a code.
        (300..400 | 401 | 403 | 404 | 405 | 407, "") if operation != Operation::HeadObject => {
            NOT_S3
        }
        (_, "" | "AccessDenied" | "AllAccessDisabled")
            if judge(operation, status, code) == Verdict::Permission =>
        {
            return Some(format!("needed: {}", permissions(operation)));
        }
        (_, "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "InvalidToken") => {
            "check the access key and the secret key"
        }
        // What answers plain HTTP on a port of TLS is no S3.
        (400, "") if answer.headers().get("x-amz-request-id").is_none() => TRY_TLS,
        _ if judge(operation, status, code) == Verdict::Unreadable => NOT_S3,
        _ => return None,
    };
    Some(text.to_owned())
}

/// The region that AWS names where a request went to another one.
fn region(answer: &HttpResponse, code: Option<&str>) -> Option<String> {
    let is_elsewhere = match (answer.status().as_u16(), code) {
        (301 | 307, _) | (400, None | Some("AuthorizationHeaderMalformed")) => true,
        (_, code) => code == Some("PermanentRedirect"),
    };
    if !is_elsewhere {
        return None;
    }
    if let Some(region) = answer.headers().get("x-amz-bucket-region") {
        return Some(region.to_owned());
    }
    let body = String::from_utf8_lossy(answer.body().bytes()?);
    let (_, rest) = body.split_once("<Region>")?;
    rest.split_once("</Region>")
        .map(|(region, _)| region.to_owned())
}

fn of_silence(error: &ConnectorError) -> Option<&'static str> {
    if let Some(error) = cause::<CredentialsError>(error) {
        return Some(match error {
            CredentialsError::CredentialsNotLoaded(_) => {
                "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile that has credentials by --profile or \
                 AWS_PROFILE"
            }
            _ => {
                "the source of the credentials failed; for others, set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
                 or name a profile that has credentials by --profile or AWS_PROFILE"
            }
        });
    }
    if cause::<hyper::Error>(error).is_some_and(speaks_no_http) {
        return Some(TRY_TLS);
    }
    match cause::<rustls::Error>(error)? {
        error if speaks_no_tls(error) => {
            Some("the store speaks no TLS on this port: its URL begins with http://")
        }
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => Some(
            "name the file of the authority's certificate in AWS_CA_BUNDLE or SSL_CERT_FILE, if you trust it",
        ),
        // Among others: it is of an authority, as `openssl req -x509` makes them.
        rustls::Error::InvalidCertificate(CertificateError::Other(_)) => Some(
            "if the certificate is self-signed, make it with basicConstraints=CA:FALSE, and name its file in AWS_CA_BUNDLE",
        ),
        _ => None,
    }
}

/// For a connection that could not be made, where it was one to a proxy.
fn of_proxy(error: &ConnectorError) -> Option<&'static str> {
    let is_of_proxy = causes(error).any(|error| match error.to_string().as_str() {
        "tunnel error: failed to create underlying connection" => true,
        "tcp connect error" | "dns error" => has_proxy_of_plain_http(),
        _ => false,
    });
    is_of_proxy.then_some(ABSENT_PROXY)
}

/// What a user of AWS needs to be allowed for an operation.
fn permissions(operation: Operation) -> &'static str {
    match operation {
        Operation::GetObject | Operation::HeadObject => {
            "s3:GetObject, s3:ListBucket, without which S3 does not say that a key is absent, and kms:Decrypt \
             if a key of KMS encrypts the bucket"
        }
        Operation::PutObject
        | Operation::CreateMultipartUpload
        | Operation::UploadPart
        | Operation::CompleteMultipartUpload => {
            "s3:PutObject, and kms:GenerateDataKey and kms:Decrypt if a key of KMS encrypts the bucket"
        }
        Operation::DeleteObject | Operation::DeleteObjects => "s3:DeleteObject",
        Operation::AbortMultipartUpload => "s3:AbortMultipartUpload",
        Operation::ListParts => "s3:ListMultipartUploadParts",
        Operation::ListMultipartUploads => "s3:ListBucketMultipartUploads",
        Operation::ListObjectsV2 => "s3:ListBucket",
        Operation::GetBucketLifecycleConfiguration => "s3:GetLifecycleConfiguration",
        Operation::GetBucketVersioning => "s3:GetBucketVersioning",
    }
}
