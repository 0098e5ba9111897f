//! A client of the SDK, from the environment: credentials, region and endpoint as every AWS tool
//! finds them, and the settings that were measured to be fast.

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Credentials, RequestChecksumCalculation, SharedHttpClient};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

/// What the environment does not say, or is to be overruled in. Everything is optional.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ClientOptions {
    /// The URL of the store. Without it: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, the profile,
    /// and at last AWS itself.
    pub endpoint_url: Option<String>,
    /// The region. Without it: `AWS_REGION`, the profile, IMDS; where none of them knows,
    /// `us-east-1`.
    pub region: Option<String>,
    /// The name of a profile in the shared configuration files. Without it: `AWS_PROFILE`.
    pub profile: Option<String>,
}

/// Builds a client of the SDK from the environment: static keys, profiles, SSO, web identity,
/// ECS and IMDS credentials.
///
/// Buckets are addressed in the path where the endpoint is not AWS's own, since most other
/// stores have no name server that knows a bucket.
///
/// # Cost
///
/// No request to S3. Finding the region may ask IMDS.
pub async fn client_from_env(options: ClientOptions) -> Client {
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(https_client());
    if let Some(profile) = options.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = options.region {
        loader = loader.region(Region::new(region));
    }
    if let Some(endpoint) = options.endpoint_url {
        loader = loader.endpoint_url(endpoint);
    }
    let shared = loader.load().await;
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    if shared.region().is_none() {
        config = config.region(Region::from_static("us-east-1"));
    }
    let endpoint_named =
        shared.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
    Client::from_conf(config.force_path_style(endpoint_named).build())
}

/// Builds a client that reaches a store through this HTTP client, with these keys, whatever the
/// environment says: for a store inside the process, whose connector comes from
/// `EmbeddedStore::http_client`.
///
/// # Cost
///
/// No request.
pub fn client_over(
    http_client: SharedHttpClient,
    endpoint_url: impl Into<String>,
    access_key: impl Into<String>,
    secret_key: impl Into<String>,
) -> Client {
    let credentials = Credentials::new(access_key, secret_key, None, None, "s3layers");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(endpoint_url)
        .force_path_style(true)
        .credentials_provider(credentials)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .http_client(http_client)
        .build();
    Client::from_conf(config)
}

fn https_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}
